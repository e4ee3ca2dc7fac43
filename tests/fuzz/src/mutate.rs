//! Changes of whole events of a story: repeated, taken out, moved, replaced by one from elsewhere.

use crate::story::{EVENT, HEAD};

/// Changes an event of the story in the first `size` bytes of `data`, at most to `max_size`; the new size.
///
/// `None` where bytes are to be changed instead, which is what half of all seeds say.
pub fn story(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let events = size.checked_sub(HEAD)? / EVENT;
    let [how, from, to, what] = seed.wrapping_mul(0x9e37_79b9).to_be_bytes();
    let bits = seed.wrapping_mul(0x85eb_ca6b);
    if how & 1 == 0 || events == 0 {
        return None;
    }
    let at = |event: usize| HEAD + event * EVENT;
    let (from, to) = (usize::from(from) % events, usize::from(to) % events);
    let has_room = at(events + 1) <= max_size.min(data.len());
    match (how >> 1) % 6 {
        // Repeated elsewhere.
        0 | 1 if has_room => {
            let mut event = [0; EVENT];
            event.copy_from_slice(&data[at(from)..at(from + 1)]);
            data.copy_within(at(to)..at(events), at(to + 1));
            data[at(to)..at(to + 1)].copy_from_slice(&event);
            Some(at(events + 1))
        }
        // Taken out.
        2 if events > 1 => {
            data.copy_within(at(from + 1)..at(events), at(from));
            Some(at(events - 1))
        }
        // Put in the place of another.
        3 => {
            data.copy_within(at(from)..at(from + 1), at(to));
            Some(at(events))
        }
        // Another kind of event, with the same particulars.
        4 => {
            data[at(from)] = what;
            Some(at(events))
        }
        // One particular of one event.
        _ => {
            let [field, value, ..] = bits.to_be_bytes();
            data[at(from) + usize::from(field) % EVENT] = value;
            Some(at(events))
        }
    }
}

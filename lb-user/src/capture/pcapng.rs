//! The few blocks of a pcapng file that a capture needs (draft-ietf-opsawg-pcapng).

use super::pairing::{Packet, Way};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;

/// The beginning: one section with one interface, whose times are in nanoseconds.
pub(super) fn beginning(interface: &str, snap: u32) -> Vec<u8> {
    let mut section = Vec::new();
    section.extend(0x1a2b_3c4d_u32.to_ne_bytes());
    section.extend(1_u16.to_ne_bytes());
    section.extend(0_u16.to_ne_bytes());
    // A length that is not told.
    section.extend(u64::MAX.to_ne_bytes());
    let mut of = Vec::new();
    of.extend(ETHERNET.to_ne_bytes());
    of.extend(0_u16.to_ne_bytes());
    of.extend(snap.to_ne_bytes());
    option(&mut of, 2, interface.as_bytes());
    option(&mut of, 9, &[9]);
    option(&mut of, 0, &[]);
    [block(SECTION, &section), block(INTERFACE, &of)].concat()
}

/// A packet with its direction and what became of it.
pub(super) fn packet(packet: &Packet) -> Vec<u8> {
    let mut body = Vec::new();
    let (high, low) = ((packet.at >> 32) as u32, packet.at as u32);
    for word in [0, high, low, packet.bytes.len() as u32, packet.length] {
        body.extend(word.to_ne_bytes());
    }
    padded(&mut body, &packet.bytes);
    option(&mut body, 1, packet.verdict.as_bytes());
    let direction: u32 = if packet.way == Way::In { 1 } else { 2 };
    option(&mut body, 2, &direction.to_ne_bytes());
    option(&mut body, 0, &[]);
    block(PACKET, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_ne_bytes();
    [&kind.to_ne_bytes(), &length[..], body, &length].concat()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    padded(body, value);
}

/// With zeros up to whole words.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_length_at_both_ends() {
        let of = Packet { at: 0x1_0000_0002, way: Way::Out, verdict: "forwarded", length: 60, bytes: vec![7; 5] };
        let beginning = beginning("eth0", 2048);
        let all = [beginning.clone(), packet(&of)].concat();
        let mut rest = &all[..];
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(*rest[at..].first_chunk().unwrap());
            let length = word(4) as usize;
            assert_eq!((length % 4, word(length - 4) as usize), (0, length));
            kinds.push(word(0));
            rest = &rest[length..];
        }
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET]);
        let words: Vec<u32> =
            all[beginning.len()..].chunks(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect();
        assert_eq!(words[2..7], [0, 1, 2, 5, 60]);
    }
}

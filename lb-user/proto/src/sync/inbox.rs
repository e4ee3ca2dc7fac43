//! What a peer says: chunks, put in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::codec::{Receipt, Refusal};

/// The longest that a chunk waits for its receipt.
pub const RECEIPT_AFTER: Duration = Duration::from_millis(4);
/// So many chunks get one at once.
const RECEIPT_EACH: u32 = 8;
/// Chunks ahead of a missing one that are kept, which a receipt can name.
const AHEAD: u64 = 128;

/// What has arrived from a peer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    received: u64,
    early: BTreeMap<u64, Vec<u8>>,
    unconfirmed: u32,
    receipt_due: Option<Instant>,
}

impl Inbox {
    /// Takes a chunk in; what can be read now is handed to `each` in order.
    pub(super) fn on_chunk(
        &mut self, chunk: u64, items: &[u8], now: Instant, mut each: impl FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.unconfirmed += 1;
        let is_next = chunk == self.received.saturating_add(1);
        let due = if is_next && self.unconfirmed < RECEIPT_EACH { now + RECEIPT_AFTER } else { now };
        self.receipt_due = Some(self.receipt_due.map_or(due, |before| before.min(due)));
        if chunk <= self.received {
            return Ok(());
        }
        if chunk - self.received > AHEAD {
            return Err(Refusal::Ahead);
        }
        if !is_next {
            self.early.entry(chunk).or_insert_with(|| items.to_vec());
            return Ok(());
        }
        self.received = chunk;
        let mut outcome = each(items);
        while let Some(items) = self.early.remove(&(self.received + 1)) {
            self.received += 1;
            outcome = outcome.and(each(&items));
        }
        outcome
    }

    /// All chunks up to this one have been read.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// When a receipt is to be sent, if it is not sent for other reasons before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.receipt_due
    }

    /// What has arrived. Taken to be sent.
    pub(super) fn receipt(&mut self, asks: bool) -> Receipt {
        (self.unconfirmed, self.receipt_due) = (0, None);
        let bits = self.early.keys().map(|chunk| chunk - self.received - 1).filter(|place| *place < 128);
        Receipt { asks, received: self.received, beyond: bits.fold(0, |bits, place| bits | 1 << place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    fn chunks_come_in_order_and_once() {
        let (now, mut inbox, mut read) = (Instant::now(), Inbox::default(), Vec::new());
        let mut arrive = |inbox: &mut Inbox, chunk: u64| {
            inbox.on_chunk(chunk, &[chunk as u8], now, |items| {
                read.push(items[0]);
                Ok(())
            })
        };
        for chunk in [1, 1, 3, 4, 3] {
            arrive(&mut inbox, chunk).unwrap();
        }
        assert_eq!(inbox.deadline(), Some(now), "a gap is told at once");
        assert_eq!(inbox.receipt(true), Receipt { asks: true, received: 1, beyond: 0b110 });
        assert_eq!(inbox.deadline(), None);
        arrive(&mut inbox, 2).unwrap();
        assert_eq!(inbox.deadline(), Some(now + RECEIPT_AFTER));
        assert_eq!(arrive(&mut inbox, 4 + AHEAD + 1), Err(Refusal::Ahead));
        assert_eq!(arrive(&mut inbox, u64::MAX), Err(Refusal::Ahead));
        assert_eq!(inbox.receipt(false), Receipt { asks: false, received: 4, beyond: 0 });
        assert_eq!(read, [1, 2, 3, 4]);
    }
}

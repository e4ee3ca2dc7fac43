//! What is said to a peer: a sequence of chunks, each sent until it has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::codec::{Item, ROOM, Receipt};

/// The longest that a change waits for others to share its datagram; one that comes after as long a pause goes at once.
pub const FLUSH_AFTER: Duration = Duration::from_millis(5);
/// Chunks under way at once: the largest burst, about 90 kB.
pub const WINDOW: usize = 64;
/// Chunks that wait for room in the window, about 1.4 MB; when more come, the whole table is sent instead.
pub const QUEUE: usize = 1024;
/// A chunk that was not confirmed is sent again after this time, then after twice as long, up to [`SLOWEST_REPEAT`].
pub const REPEAT_AFTER: Duration = Duration::from_millis(60);
/// The longest time between two of the same chunk.
pub const SLOWEST_REPEAT: Duration = Duration::from_secs(1);
/// A chunk is lost when so many datagrams after it have arrived (RFC 9002 section 6.1.1).
const REORDERED: u64 = 3;
/// The fewest under way after losses.
const NARROWEST: usize = 4;

/// A chunk and what is known of its way.
#[derive(Debug)]
struct Sent {
    items: Vec<u8>,
    /// When the first of its changes happened; none for parts of a table.
    since: Option<Instant>,
    /// Number of the datagram that carried it last.
    datagram: u64,
    at: Instant,
    times: u32,
    is_lost: bool,
}

#[derive(Debug)]
struct Waiting {
    items: Vec<u8>,
    since: Option<Instant>,
}

/// Chunks on their way to a peer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Number of the chunk that was sent last for the first time.
    sent: u64,
    under_way: BTreeMap<u64, Sent>,
    waiting: VecDeque<Waiting>,
    /// The chunk that still grows, and since when.
    growing: Vec<u8>,
    growing_since: Option<Instant>,
    /// When a chunk was sent for the first time, last.
    sent_at: Option<Instant>,
    /// Fewer may be under way after losses; 0: none were.
    narrowed: usize,
    /// When it was narrowed: what was sent before does not narrow it again.
    narrowed_at: Option<Instant>,
}

/// More was said than can wait: what waited is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Outbox {
    /// Says something; returns the number of the chunk that will carry it.
    pub(super) fn push(&mut self, item: &Item, now: Instant) -> Result<u64, Overflow> {
        let before = self.growing.len();
        item.emit(&mut self.growing);
        if self.growing.len() > ROOM {
            let last = self.growing.split_off(before);
            self.close()?;
            self.growing = last;
        }
        self.growing_since.get_or_insert(now);
        Ok(self.newest())
    }

    /// Adds a part of a table, which is a chunk of its own.
    pub(super) fn push_part(&mut self, items: Vec<u8>) {
        // What was said before comes before.
        if self.close().is_ok() && !items.is_empty() {
            self.waiting.push_back(Waiting { items, since: None });
        }
    }

    /// The number of the newest chunk, of whatever state.
    pub(super) fn newest(&self) -> u64 {
        self.sent + self.waiting.len() as u64 + u64::from(!self.growing.is_empty())
    }

    /// Whether another part of a table finds room at once.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.under_way.len() < self.width()
    }

    /// Changes and parts that have not arrived, in chunks.
    pub(super) fn backlog(&self) -> usize {
        self.under_way.len() + self.waiting.len() + usize::from(!self.growing.is_empty())
    }

    fn width(&self) -> usize {
        if self.narrowed == 0 { WINDOW } else { self.narrowed }
    }

    fn close(&mut self) -> Result<(), Overflow> {
        if self.growing.is_empty() {
            return Ok(());
        }
        if self.waiting.len() >= QUEUE {
            // None of these was sent, so their numbers are free.
            self.waiting.clear();
            self.growing.clear();
            self.growing_since = None;
            return Err(Overflow);
        }
        let items = std::mem::take(&mut self.growing);
        self.waiting.push_back(Waiting { items, since: self.growing_since.take() });
        Ok(())
    }

    /// The next chunk to send in datagram `datagram`, if one is due.
    pub(super) fn next(&mut self, datagram: u64, now: Instant) -> Option<(u64, &[u8])> {
        let due = |sent: &Sent| sent.is_lost || now >= sent.at + repeat_after(sent.times);
        let lost = self.under_way.iter().find(|(_, sent)| due(sent)).map(|(chunk, _)| *chunk);
        if let Some(chunk) = lost {
            let width = self.width();
            let sent = self.under_way.get_mut(&chunk)?;
            if !sent.is_lost && self.narrowed_at.is_none_or(|at| sent.at >= at) {
                self.narrowed = (width / 2).max(NARROWEST);
                self.narrowed_at = Some(now);
            }
            (sent.datagram, sent.at, sent.is_lost) = (datagram, now, false);
            sent.times = sent.times.saturating_add(1);
            return Some((chunk, &sent.items));
        }
        if self.flush_at().is_some_and(|at| now >= at) && self.waiting.is_empty() {
            // Nothing waits, so there is room.
            let _ = self.close();
        }
        if self.under_way.len() >= self.width() {
            return None;
        }
        let Waiting { items, since } = self.waiting.pop_front()?;
        self.sent += 1;
        self.sent_at = Some(now);
        let sent = Sent { items, since, datagram, at: now, times: 1, is_lost: false };
        let sent = self.under_way.entry(self.sent).insert_entry(sent).into_mut();
        Some((self.sent, &sent.items))
    }

    /// Takes in what has arrived; `lag` is called with the time that each chunk of changes took.
    pub(super) fn on_receipt(&mut self, receipt: &Receipt, now: Instant, mut lag: impl FnMut(Duration)) {
        let has = |chunk: u64| {
            let beyond = chunk.saturating_sub(receipt.received + 1);
            chunk <= receipt.received || (beyond < 128 && receipt.beyond >> beyond & 1 == 1)
        };
        if receipt.received > self.sent {
            return;
        }
        let mut newest = None;
        self.under_way.retain(|chunk, sent| {
            let arrived = has(*chunk);
            if arrived {
                newest = newest.max(Some(sent.datagram));
                if let Some(since) = sent.since {
                    lag(now.saturating_duration_since(since));
                }
            }
            !arrived
        });
        if newest.is_some() && self.narrowed > 0 {
            self.narrowed = if self.narrowed + 1 >= WINDOW { 0 } else { self.narrowed + 1 };
        }
        for sent in self.under_way.values_mut() {
            sent.is_lost |= newest.is_some_and(|newest| newest >= sent.datagram + REORDERED);
        }
    }

    /// When [`Self::next`] has something that it does not have now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let lost = |sent: &Sent| if sent.is_lost { sent.at } else { sent.at + repeat_after(sent.times) };
        let repeat = self.under_way.values().map(lost).min();
        let has_room = self.under_way.len() < self.width();
        let flush = self.flush_at().filter(|_| has_room && self.waiting.is_empty());
        [repeat, flush].into_iter().flatten().min()
    }

    /// When the chunk that grows has waited for long enough.
    fn flush_at(&self) -> Option<Instant> {
        let since = self.growing_since?;
        Some(self.sent_at.map_or(since, |sent| since.max(sent + FLUSH_AFTER)))
    }
}

fn repeat_after(times: u32) -> Duration {
    (REPEAT_AFTER * (1 << times.saturating_sub(1).min(5))).min(SLOWEST_REPEAT)
}

#[cfg(test)]
mod tests;

//! Numbers that make an authenticated advert count once: each sender's only ever grow, over restarts and whatever its wall clock
//! does.
//!
//! A number is a time in nanoseconds that is never taken back: of the wall clock at the start, of the monotonic clock from
//! then on. What was used before (kept in a file) and what others have used (heard in adverts that are authentic) push
//! it forwards. So all nodes of a virtual router have one logical clock: a node that lost its file and whose wall clock was set
//! back is too low for those who remember it, until it hears one of them; then it is not.
//!
//! A receiver remembers the highest number of each sender, in the same file, and takes none that is not higher. Of a sender it
//! does not remember it takes what is no more than a minute behind its own clock. A living sender that is further behind
//! than that is told by this node's own adverts, once, and catches up; a recording cannot.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Senders remembered: all routers of a segment. Only who has the key can make others forgotten.
const MOST: usize = 32;
/// How far an unknown sender may be behind our own clock.
const BEHIND: u64 = 60_000_000_000;
/// No wall clock says more; beyond, numbers would end.
const LAST: u64 = u64::MAX / 2;
/// How far ahead of what is used a number is kept, so that it need not be written for each.
const AHEAD: u64 = 60_000_000_000;
/// When to keep the next: before the last is used up.
const MARGIN: u64 = 30_000_000_000;
/// How often the numbers of others are kept. As much can be played back to a node that was killed.
const REFRESH: Duration = Duration::from_secs(5);

/// What outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Higher than every number sent.
    pub sent: u64,
    /// The highest number of each sender.
    pub heard: Vec<(IpAddr, u64)>,
}

/// Why an authentic advert does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayFault {
    /// Its sender has used this number or a higher one before.
    #[error("its number was used before")]
    Replayed,
    /// Its sender is not remembered, and the number is an old one.
    #[error("its number is old, and its sender not known")]
    Stale,
}

/// The numbers sent and heard by one virtual router of this node.
#[derive(Debug)]
pub struct Sequences {
    base: u64,
    began: Instant,
    /// The highest number known.
    highest: u64,
    heard: Vec<(IpAddr, u64)>,
    /// As last kept, and when.
    kept: u64,
    kept_at: Option<Instant>,
    news: bool,
}

impl Sequences {
    /// Goes on from what was kept; `wall` is the time of day in nanoseconds since 1970, a hint.
    #[must_use]
    pub fn new(kept: Kept, wall: u64, now: Instant) -> Self {
        let mut heard = kept.heard;
        heard.truncate(MOST);
        Self {
            base: wall.min(LAST),
            began: now,
            highest: kept.sent.min(LAST),
            heard,
            kept: 0,
            kept_at: None,
            news: true,
        }
    }

    /// The number of the next advert.
    #[must_use]
    pub fn next(&mut self, now: Instant) -> u64 {
        self.highest = self.clock(now).max(self.highest.saturating_add(1));
        self.highest
    }

    /// Takes in the number of an authentic advert.
    ///
    /// # Errors
    /// The advert is none of now.
    pub fn accept(&mut self, src: IpAddr, number: u64, now: Instant) -> Result<(), ReplayFault> {
        let own = self.clock(now).max(self.highest);
        match self.heard.iter_mut().find(|(sender, _)| *sender == src) {
            Some((_, highest)) if number <= *highest || number > LAST => return Err(ReplayFault::Replayed),
            Some((_, highest)) => *highest = number,
            None if number > LAST || number.saturating_add(BEHIND) <= own => {
                return Err(ReplayFault::Stale);
            }
            None => {
                if self.heard.len() >= MOST
                    && let Some((lowest, _)) = self.heard.iter().enumerate().min_by_key(|(_, (_, number))| *number)
                {
                    self.heard.swap_remove(lowest);
                }
                self.heard.push((src, number));
            }
        }
        self.highest = self.highest.max(number);
        self.news = true;
        Ok(())
    }

    /// What is to be kept now, if something is.
    #[must_use]
    pub fn to_keep(&mut self, now: Instant) -> Option<Kept> {
        let due = self.kept_at.is_none_or(|at| now.saturating_duration_since(at) >= REFRESH);
        let used_up = self.clock(now).max(self.highest).saturating_add(MARGIN) >= self.kept;
        if !(used_up || self.news && due) {
            return None;
        }
        Some(self.keep(now))
    }

    /// What is to be kept at the end.
    #[must_use]
    pub fn keep(&mut self, now: Instant) -> Kept {
        self.kept = self.clock(now).max(self.highest).saturating_add(AHEAD);
        self.kept_at = Some(now);
        self.news = false;
        Kept { sent: self.kept, heard: self.heard.clone() }
    }

    fn clock(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.began).as_nanos();
        self.base.saturating_add(u64::try_from(elapsed).unwrap_or(LAST)).min(LAST)
    }
}

#[cfg(test)]
mod tests;

//! What is counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Refusal;

/// Upper bounds of the buckets of [`Lag`], in milliseconds; the last bucket has none.
pub const LAG_BOUNDS: [u64; 11] = [2, 5, 7, 10, 15, 20, 50, 100, 250, 500, 2000];

/// How long changes take from the moment they happen until the peer has confirmed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Datagrams of changes by their time: up to each of [`LAG_BOUNDS`], and beyond.
    pub buckets: [u64; LAG_BOUNDS.len() + 1],
    /// All together.
    pub sum: Duration,
    /// The last one.
    pub last: Duration,
}

impl Lag {
    pub(super) fn note(&mut self, lag: Duration) {
        let bucket = LAG_BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < lag);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.sum = self.sum.saturating_add(lag);
        self.last = lag;
    }
}

/// What went to and came from a peer since it was configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub sessions: u64,
    pub datagrams_in: u64,
    pub datagrams_out: u64,
    /// UDP payload.
    pub bytes_in: u64,
    /// UDP payload.
    pub bytes_out: u64,
    pub flows_in: u64,
    pub flows_out: u64,
    pub ends_in: u64,
    pub ends_out: u64,
    pub tables_in: u64,
    pub tables_out: u64,
    /// Times that more happened than could be told one by one.
    pub resyncs: u64,
    pub lag: Lag,
    /// Datagrams that were not believed.
    pub refused: BTreeMap<Refusal, u64>,
}

/// A peer as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// It answers, and is told what happens.
    pub is_up: bool,
    /// Since when it is so.
    pub since: Instant,
    /// When it was last heard.
    pub heard: Option<Instant>,
    /// Datagrams that it has not confirmed yet.
    pub backlog: usize,
    /// What was counted.
    pub counts: Counts,
}

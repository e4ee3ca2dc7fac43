//! The sign of life of the control loop: the loop beats, the health probe asks how long ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When the control loop last came round. Clones share the beat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    base: Instant,
    beat_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A heart that beats now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { base: now, beat_ms: Arc::new(AtomicU64::new(0)) }
    }

    /// The control loop is alive at `now`.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.base).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.beat_ms.fetch_max(since, Ordering::Relaxed);
    }

    /// Time since the last beat, to the millisecond.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.base)
            .saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn age_counts_from_the_newest_beat() {
        let start = clock::now();
        let heart = Heartbeat::new(start);
        assert_eq!(heart.age(start), Duration::ZERO);
        assert_eq!(heart.age(start + Duration::from_secs(3)), Duration::from_secs(3));

        heart.clone().beat(start + Duration::from_secs(5));
        heart.beat(start + Duration::from_secs(4));
        assert_eq!(heart.age(start + Duration::from_secs(7)), Duration::from_secs(2));
        assert_eq!(heart.age(start), Duration::ZERO);
    }
}

//! When the next check of one backend is due.
//!
//! The first check is due at once: nobody waits for news at the start. The second falls between half an interval and
//! a whole one later, by the seed, so that neither the backends of one node nor two nodes stay in step; from then on
//! checks start exactly one interval apart, on a grid that never drifts. Grid points missed during a pause are
//! skipped, and there is no faster pace for a backend in trouble: `interval` means what it says.

use std::time::{Duration, Instant};

/// The times of one backend's checks.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval: Duration,
    /// Due time of the next check.
    due: Instant,
    /// Before the first check: distance of the grid from it.
    phase: Option<Duration>,
}

impl Schedule {
    /// Checks every `interval` from the start of one to the start of the next, limited to 1 ms..=1 day. `seed` is
    /// any well-spread number, such as a random one or a hash.
    #[must_use]
    pub fn new(interval: Duration, seed: u64, now: Instant) -> Self {
        let interval = interval.clamp(SHORTEST, LONGEST);
        let half = nanos(interval) / 2;
        let phase = Duration::from_nanos(half + seed % (half + 1));
        Self { interval, due: now, phase: Some(phase) }
    }

    /// When the next check is to start.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// A check starts at `now`: the next one is due at the first grid point at least half an interval away, so that
    /// a check that started late is not followed by one right behind it.
    pub fn on_start(&mut self, now: Instant) {
        self.due = match self.phase.take() {
            Some(phase) => now + phase,
            None => {
                let interval = nanos(self.interval);
                let late = nanos(now.saturating_duration_since(self.due)) % interval;
                let to_next = interval - late;
                let skip = if to_next * 2 < interval { interval } else { 0 };
                // An early start counts as one on time: it must not pull the grid forward.
                now.max(self.due) + Duration::from_nanos(to_next + skip)
            }
        };
    }
}

/// Saturates at 584 years.
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;

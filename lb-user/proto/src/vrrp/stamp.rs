//! When a packet reached this host, told by the kernel's stamp on it.

use std::time::{Duration, Instant, SystemTime};

/// By how much the wall clock may run faster or slower than the monotonic one between two looks and yet not have been set.
const SLEW: Duration = Duration::from_millis(5);

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the clock that only ever goes forwards, evenly.
    pub monotonic: Instant,
    /// By the clock that the kernel stamps packets with, and that anybody may set.
    pub wall: SystemTime,
}

/// When a packet reached this host that the kernel stamped `stamp` and that is read `now`. The queue was last seen empty at
/// `emptied`, so it came later than that. If the wall clock was set between the two the stamp says nothing, and the packet
/// counts as if it had come just now.
#[must_use]
pub fn reached(stamp: SystemTime, now: Moment, emptied: Moment) -> Instant {
    let elapsed = now.monotonic.saturating_duration_since(emptied.monotonic);
    let was_set = match now.wall.duration_since(emptied.wall) {
        Ok(by_wall) => by_wall.abs_diff(elapsed) > SLEW,
        Err(_) => true,
    };
    if was_set {
        return now.monotonic;
    }
    let age = now.wall.duration_since(stamp).unwrap_or_default().min(elapsed);
    now.monotonic.checked_sub(age).unwrap_or(now.monotonic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an origin; only differences matter")]
    fn a_stamp_is_believed_within_what_can_be() {
        let emptied =
            Moment { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(9_999_999) };
        let second = Duration::from_secs(1);
        let later = |by| Moment { monotonic: emptied.monotonic + by, wall: emptied.wall + by };
        let now = later(second);
        let hour = second * 3600;
        for (stamp, age) in [
            (now.wall, Duration::ZERO),
            (now.wall - second / 4, second / 4),
            (emptied.wall, second),
            (now.wall - hour, second),
            (now.wall + hour, Duration::ZERO),
            (SystemTime::UNIX_EPOCH, second),
        ] {
            assert_eq!(reached(stamp, now, emptied), now.monotonic - age);
        }
        for set in [now.wall + hour, now.wall - hour, now.wall + SLEW * 2, now.wall - SLEW * 2] {
            let now = Moment { wall: set, ..now };
            assert_eq!(reached(emptied.wall, now, emptied), now.monotonic, "the clock was set meanwhile");
        }
        assert_eq!(reached(now.wall, emptied, now), emptied.monotonic, "nothing is heard before it comes");
    }
}

//! The one place that reads the clock; everything else is told the time.

use std::time::{Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// The monotonic time, for deadlines and durations.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, for what people read.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since the Unix epoch; 0 before it.
pub fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The time of day of a moment of the monotonic clock, past or to come, in seconds since the Unix epoch.
pub fn unix_of(moment: Instant) -> f64 {
    let now = now();
    let (since, until) = (now.saturating_duration_since(moment), moment.saturating_duration_since(now));
    unix(wall()) - since.as_secs_f64() + until.as_secs_f64()
}

/// What to add to nanoseconds of the kernel's monotonic clock for nanoseconds since the Unix epoch, now.
pub fn monotonic_epoch() -> u64 {
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    let wall = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.saturating_sub(monotonic).as_nanos()).unwrap_or_default()
}

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine sleeps; the datapath's leases end by it.
pub fn boot_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid for writing.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    if read < 0 {
        return u64::MAX;
    }
    time.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.unsigned_abs())
}

/// A moment of the monotonic clock as [`boot_nanoseconds`]; never later than it.
pub fn boot_nanoseconds_of(moment: Instant) -> u64 {
    // In this order: whatever comes between the two makes it earlier.
    let boot = boot_nanoseconds();
    let now = now();
    let nanoseconds = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (until, since) = (moment.saturating_duration_since(now), now.saturating_duration_since(moment));
    boot.saturating_add(nanoseconds(until)).saturating_sub(nanoseconds(since))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_never_made_later() {
        for ahead in [0, 1, 250, 60_000] {
            let ahead = Duration::from_millis(ahead);
            let moment = now() + ahead;
            let (boot, after) = (boot_nanoseconds_of(moment), boot_nanoseconds());
            assert!(boot <= after + ahead.as_nanos() as u64, "later by {}", boot - after);
            assert!(boot + 10_000_000_000 > after + ahead.as_nanos() as u64, "much earlier");
        }
        let past = now().checked_sub(Duration::from_millis(5));
        assert!(past.is_none_or(|past| boot_nanoseconds_of(past) < boot_nanoseconds()));
    }
}

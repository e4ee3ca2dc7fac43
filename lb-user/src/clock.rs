//! The one place that reads the clock; everything else is told the time.

use std::time::{Duration, Instant, SystemTime};

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

/// One of the kernel's clocks. It cannot refuse those that it has, which [`now`] depends on too.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
fn kernel(clock: ClockId) -> Option<Duration> {
    clock_gettime(clock).ok().map(Duration::from)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of the kernel's monotonic clock, as the datapath writes them into sources and events.
pub fn monotonic_nanoseconds() -> u64 {
    kernel(ClockId::CLOCK_MONOTONIC).map(nanoseconds).unwrap_or_default()
}

/// Seconds of the same clock as of the last tick, as the datapath writes them into flows: never ahead of it.
pub fn monotonic_seconds() -> u32 {
    let coarse = kernel(ClockId::CLOCK_MONOTONIC_COARSE);
    coarse.and_then(|time| u32::try_from(time.as_secs()).ok()).unwrap_or_default()
}

/// What to add to nanoseconds of the kernel's monotonic clock for nanoseconds since the Unix epoch, now.
pub fn monotonic_epoch() -> u64 {
    let wall = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    nanoseconds(wall).saturating_sub(monotonic_nanoseconds())
}

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine sleeps; the datapath's leases end by it.
pub fn boot_nanoseconds() -> u64 {
    // A lease whose end cannot be told is over.
    kernel(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, nanoseconds)
}

/// A moment of the monotonic clock as [`boot_nanoseconds`]; never later than it.
pub fn boot_nanoseconds_of(moment: Instant) -> u64 {
    // In this order: whatever comes between the two makes it earlier.
    let boot = boot_nanoseconds();
    let now = now();
    let (until, since) = (moment.saturating_duration_since(now), now.saturating_duration_since(moment));
    boot.saturating_add(nanoseconds(until)).saturating_sub(nanoseconds(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_clocks_agree() {
        let (before, seconds, after) = (monotonic_nanoseconds(), monotonic_seconds(), monotonic_nanoseconds());
        assert!(0 < before && before <= after);
        // The coarse one is a tick behind, which may be in the second before.
        assert!((before / 1_000_000_000 - 1..=after / 1_000_000_000).contains(&u64::from(seconds)));
        let wall = monotonic_epoch() + monotonic_nanoseconds();
        assert!((Duration::from_nanos(wall).as_secs_f64() - unix(super::wall())).abs() < 60.0);
    }

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

//! The one place that reads the clock; everything else is told the time.

use std::time::{Instant, SystemTime};

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

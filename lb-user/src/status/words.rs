//! Numbers of a status in the words people read; shared by the command and the page.

use super::LeavingStatus;

/// How long ago `then` was, e.g. `2h 5m ago`. Both in seconds since the Unix epoch.
pub(crate) fn ago(now: f64, then: f64) -> String {
    format!("{} ago", since(now, then))
}

/// Time from `then` to `now` in its two largest units, e.g. `2h 5m`; never negative.
pub(crate) fn since(now: f64, then: f64) -> String {
    span((now - then).max(0.0))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates, and NaN gives 0"
)]
fn span(seconds: f64) -> String {
    let s = seconds as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// A moment, in seconds since the Unix epoch, as RFC 3339 has it, in UTC: `2025-11-22T19:33:20.250Z`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates, and NaN gives 0"
)]
pub(crate) fn instant(seconds: f64) -> String {
    let millis = (seconds.clamp(0.0, 253_402_300_799.0) * 1000.0).round() as u64;
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    // Days from a year that begins in March, so that the leap day is its last one.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = of_years + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1000)
}

/// `part` of `whole` in per cent, e.g. `33%`; `-` of nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = (u128::from(part) * 100 + u128::from(whole) / 2) / u128::from(whole);
    format!("{percent}%")
}

/// A size of memory, e.g. `36.0 MiB`; nothing where it is not known.
#[allow(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(crate) fn bytes(bytes: u64) -> Option<String> {
    (bytes > 0).then(|| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)))
}

/// What becomes of a backend that was removed from the configuration.
pub(crate) fn removed(b: &LeavingStatus, now: f64) -> String {
    format!("removed from the configuration; connections are reset in {}", since(b.drain_deadline, now))
}

/// The duration of a health check, e.g. `4.2ms`; `-` before the first.
pub(crate) fn check(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 1.0 => format!("{:.1}ms", s * 1000.0),
        Some(s) => format!("{s:.2}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, words) in [
            (0.0, "0s"),
            (59.9, "59s"),
            (60.0, "1m 0s"),
            (3_599.0, "59m 59s"),
            (7_500.0, "2h 5m"),
            (86_400.0, "1d 0h"),
            (1_000_000.0, "11d 13h"),
            (-5.0, "0s"),
            (f64::NAN, "0s"),
            (f64::INFINITY, "213503982334601d 7h"),
        ] {
            assert_eq!(since(seconds, 0.0), words);
        }
        assert_eq!(ago(100.0, 88.0), "12s ago");
    }

    #[test]
    fn instants() {
        for (seconds, words) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (951_782_400.0, "2000-02-29T00:00:00.000Z"),
            (1_763_840_000.25, "2025-11-22T19:33:20.250Z"),
            (4_107_542_399.999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
            (f64::INFINITY, "9999-12-31T23:59:59.000Z"),
            (f64::NAN, "1970-01-01T00:00:00.000Z"),
            (-1.0, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(instant(seconds), words);
        }
    }

    #[test]
    fn shares() {
        assert_eq!(share(0, 0), "-");
        assert_eq!(share(1, 3), "33%");
        assert_eq!(share(2, 3), "67%");
        assert_eq!(share(u64::MAX, u64::MAX), "100%");
    }

    #[test]
    fn checks() {
        assert_eq!(check(None), "-");
        assert_eq!(check(Some(0.00421)), "4.2ms");
        assert_eq!(check(Some(1.5)), "1.50s");
    }
}

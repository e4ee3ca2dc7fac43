//! Times as haproxy.cfg writes them.

use std::time::Duration;

/// A whole number with a unit of us, ms, s, m, h or d; without one, milliseconds.
pub(in crate::import) fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let count: u64 = digits.parse().ok()?;
    let micros = match unit {
        "us" => 1,
        "" | "ms" => 1000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    count.checked_mul(micros).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let read = [("2000", 2000), ("5s", 5000), ("10m", 600_000), ("1h", 3_600_000), ("1d", 86_400_000), ("3ms", 3)];
        for (text, millis) in read {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("1500us"), Some(Duration::from_micros(1500)));
        for text in ["", "s", "1.5s", "-1", "1 s", "1w", "99999999999999999999", "18446744073709551615d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}

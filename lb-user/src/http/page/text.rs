//! What goes into the page: text that means itself, states, numbers.

use std::fmt::{self, Display, Write};

/// Text that means itself, in content and in quoted attributes alike.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// How good a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Middling,
    Bad,
    Quiet,
}

impl Mood {
    /// Of a state of a backend, a virtual router or a peer.
    pub(super) fn of(state: &str) -> Self {
        match state {
            "up" | "active" => Self::Good,
            "down" | "fault" => Self::Bad,
            "backup" => Self::Quiet,
            _ => Self::Middling,
        }
    }

    /// The class that colours it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Middling => "mid",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }
}

/// A state; the word says what the colour says.
pub(super) struct State<'a>(pub(super) &'a str);

impl Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"s {}\">{}</span>", Mood::of(self.0).class(), Text(self.0))
    }
}

/// A whole number with a comma for each thousand.
pub(super) struct Number(pub(super) u64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// So many a second; a dash where nothing is known.
pub(super) struct Each(pub(super) Option<f64>);

impl Display for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(UNKNOWN),
            Some(rate) if rate < 0.05 => f.write_str("0"),
            Some(rate) if rate < 10.0 => write!(f, "{rate:.1}"),
            Some(rate) => write!(f, "{}", Number(whole(rate))),
        }
    }
}

/// So many bytes a second, in powers of a thousand.
pub(super) struct Bytes(pub(super) Option<f64>);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mut rate) = self.0 else {
            return f.write_str(UNKNOWN);
        };
        let mut units = ["B", "kB", "MB", "GB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        for next in units {
            if rate < 999.5 {
                break;
            }
            (rate, unit) = (rate / 1000.0, next);
        }
        if unit == "B" || rate >= 99.95 {
            write!(f, "{} {unit}", Number(whole(rate)))
        } else {
            write!(f, "{rate:.1} {unit}")
        }
    }
}

/// A short time in seconds, with its unit.
pub(super) struct Short(pub(super) f64);

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s < 0.000_999_5 => write!(f, "{:.0} µs", s * 1e6),
            s if s < 0.009_995 => write!(f, "{:.1} ms", s * 1e3),
            s if s < 0.999_5 => write!(f, "{:.0} ms", s * 1e3),
            s => write!(f, "{s:.1} s"),
        }
    }
}

/// In place of what is not known.
pub(super) const UNKNOWN: &str = "–";

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from float saturates, and NaN gives 0"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_words() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Number(number).to_string(), text);
        }
        for (rate, text) in [(None, "–"), (Some(0.01), "0"), (Some(0.2), "0.2"), (Some(1_234.4), "1,234")] {
            assert_eq!(Each(rate).to_string(), text);
        }
        let bytes = [
            (None, "–"),
            (Some(0.0), "0 B"),
            (Some(999.4), "999 B"),
            (Some(999.6), "1.0 kB"),
            (Some(123_456.0), "123 kB"),
            (Some(9_999_999.0), "10.0 MB"),
            (Some(1e13), "10,000 GB"),
            (Some(f64::NAN), "NaN GB"),
        ];
        for (rate, text) in bytes {
            assert_eq!(Bytes(rate).to_string(), text);
        }
        let times = [(0.0, "0 µs"), (0.000_42, "420 µs"), (0.004_2, "4.2 ms"), (0.25, "250 ms"), (2.0, "2.0 s")];
        for (seconds, text) in times {
            assert_eq!(Short(seconds).to_string(), text);
        }
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(Text("<a href='x'>\"&\"</a>").to_string(), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
        assert_eq!(State("<up>").to_string(), "<span class=\"s mid\">&lt;up&gt;</span>");
    }
}

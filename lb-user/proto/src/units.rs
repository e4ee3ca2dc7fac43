//! Quantities of VRRP with their unit and range in the type.

use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

/// An advertisement interval in centiseconds, 1..=4095: the 12-bit field of RFC 9568 section 5.2.7 without zero,
/// which would mean "send without pause".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Centis(u16);

impl Centis {
    /// 10 ms.
    pub const MIN: Self = Self(1);
    /// One second.
    pub const SECOND: Self = Self(100);
    /// 40.95 s, the largest value the wire can carry.
    pub const MAX: Self = Self(0x0fff);

    /// `None` outside 1..=4095.
    #[must_use]
    pub const fn new(centiseconds: u16) -> Option<Self> {
        if centiseconds == 0 || centiseconds > Self::MAX.0 {
            return None;
        }
        Some(Self(centiseconds))
    }

    /// The nearest value in range.
    #[must_use]
    pub const fn saturating(centiseconds: u16) -> Self {
        match Self::new(centiseconds) {
            Some(value) => value,
            None if centiseconds == 0 => Self::MIN,
            None => Self::MAX,
        }
    }

    /// Rounded up to a whole centisecond, so that nothing is sent faster than asked, then clamped to the range.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Self {
        let centiseconds = duration.as_millis().div_ceil(10);
        Self::saturating(u16::try_from(centiseconds).unwrap_or(u16::MAX))
    }

    /// Centiseconds.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The same time as a [`Duration`], exact.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

impl From<Centis> for Duration {
    fn from(interval: Centis) -> Self {
        interval.duration()
    }
}

impl fmt::Display for Centis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.duration())
    }
}

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 alone, whole seconds.
    V2,
    /// RFC 9568, and RFC 5798 before it.
    V3,
}

/// Virtual router identifier, 1..=255 (RFC 9568 section 5.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for zero.
    #[must_use]
    pub const fn new(vrid: u8) -> Option<Self> {
        match NonZeroU8::new(vrid) {
            Some(vrid) => Some(Self(vrid)),
            None => None,
        }
    }

    /// 1..=255.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl From<NonZeroU8> for Vrid {
    fn from(vrid: NonZeroU8) -> Self {
        Self(vrid)
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A priority a router can be configured with, 1..=255 (RFC 9568 section 6.1). Zero exists on the wire alone:
/// [`WirePriority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The least eager router.
    pub const MIN: Self = Self(1);
    /// The most eager router that does not own the address.
    pub const MAX: Self = Self(254);
    /// The owner of the addresses: claims them at once and yields to nobody else.
    pub const OWNER: Self = Self(255);
    /// What the specification gives a router that was told nothing.
    pub const DEFAULT: Self = Self(100);

    /// `None` for zero.
    #[must_use]
    pub const fn new(priority: u8) -> Option<Self> {
        if priority < Self::MIN.0 {
            return None;
        }
        Some(Self(priority))
    }

    /// 1..=255.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A priority as an advert carries it, 0..=255 (RFC 9568 section 5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WirePriority(u8);

impl WirePriority {
    /// The sender gives the address up now.
    pub const RELEASE: Self = Self(0);
    /// The sender owns the address by configuration of its interface.
    pub const OWNER: Self = Self(255);

    /// Every value is legal.
    #[must_use]
    pub const fn new(priority: u8) -> Self {
        Self(priority)
    }

    /// 0..=255.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<Priority> for WirePriority {
    fn from(priority: Priority) -> Self {
        Self(priority.0)
    }
}

impl fmt::Display for WirePriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centis_keep_to_the_wire_range() {
        assert_eq!(Centis::new(0), None);
        assert_eq!(Centis::new(1), Some(Centis::MIN));
        assert_eq!(Centis::new(4095), Some(Centis::MAX));
        assert_eq!(Centis::new(4096), None);
        assert_eq!(Centis::saturating(0), Centis::MIN);
        assert_eq!(Centis::saturating(77).get(), 77);
        assert_eq!(Centis::saturating(u16::MAX), Centis::MAX);
    }

    #[test]
    fn centis_round_up_and_saturate() {
        for (duration, centiseconds) in [
            (Duration::ZERO, 1),
            (Duration::from_millis(10), 1),
            (Duration::from_millis(11), 2),
            (Duration::from_millis(100), 10),
            (Duration::from_secs(1), 100),
            (Duration::from_millis(40_950), 4095),
            (Duration::from_millis(40_951), 4095),
            (Duration::MAX, 4095),
        ] {
            assert_eq!(Centis::from_duration(duration).get(), centiseconds, "{duration:?}");
        }
    }

    #[test]
    fn centis_and_durations_agree() {
        for n in 1..=4095 {
            let centis = Centis::new(n).unwrap();
            assert_eq!(Centis::from_duration(centis.duration()), centis);
            assert_eq!(Duration::from(centis), Duration::from_millis(u64::from(n) * 10));
        }
        assert_eq!(Centis::saturating(10).to_string(), "100ms");
    }

    #[test]
    fn identifiers_and_priorities_keep_to_their_range() {
        assert_eq!(Vrid::new(0), None);
        assert_eq!(Vrid::new(255).unwrap().get(), 255);
        assert_eq!(Priority::new(0), None);
        assert_eq!(Priority::new(255), Some(Priority::OWNER));
        assert_eq!(Priority::new(1), Some(Priority::MIN));
        assert_eq!(Priority::new(254), Some(Priority::MAX));
        assert!(WirePriority::from(Priority::MAX) < WirePriority::OWNER);
        assert!(WirePriority::RELEASE < WirePriority::from(Priority::MIN));
    }
}

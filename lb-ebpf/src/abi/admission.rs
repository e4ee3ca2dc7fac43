//! Who may open connections to a service, and how many.

use crate::net::{Be32, Be128};

/// Prefixes of all services' allow lists together.
pub const MAX_ALLOWED: u32 = 16_384;
/// The same twice: a list is written beside the one in use.
pub const ALLOWED_ENTRIES: u32 = 2 * MAX_ALLOWED;
/// Sources whose new connections are remembered, of all services together; the oldest are pushed out.
pub const MAX_LIMITED_SOURCES: u32 = 65_536;
/// Sources that have as many connections as they may, of all services together; more than these are let in.
pub const MAX_FULL_SOURCES: u32 = 16_384;
/// Bits of a key of the allow lists before the address: the number of the list.
pub const LIST_BITS: u32 = 32;

/// Whose connections one list allows, in a trie keyed by it: its first [`LIST_BITS`], and those of the prefix, count.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Allowed {
    /// Number of the list, from 1.
    pub list: u32,
    /// Address; what is behind the prefix is zero.
    pub address: Be128,
}

/// How many connections the addresses of one prefix may open, and have.
///
/// The former is a token bucket, kept as the moment at which it would be full again (GCRA, ITU-T I.371 annex A): one word
/// for each source. The latter is counted by the agent, which says who is full, and until when it vouches for that.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceLimit {
    /// Nanoseconds for which a new connection counts; 0: any number may be opened.
    pub interval: u64,
    /// Nanoseconds that connections may be ahead of their time: all but one of a burst.
    pub tolerance: u64,
    /// What of an address tells sources apart.
    pub mask: Be128,
    /// Established connections that a source may have; 0: any number.
    pub connections: u32,
    /// Zero.
    pub pad: u32,
}

impl SourceLimit {
    /// The word of a source after one more connection at `now`; `None`: it has to wait. `filled` is the word before.
    #[inline(always)]
    #[must_use]
    pub const fn admit(&self, filled: u64, now: u64) -> Option<u64> {
        // What lies further ahead than any burst reaches is of an earlier, slower limit.
        let ahead = filled.saturating_sub(now);
        if ahead > self.tolerance && ahead <= self.tolerance.saturating_add(self.interval) {
            return None;
        }
        let base = if ahead > self.tolerance { 0 } else { ahead };
        Some(now.saturating_add(base).saturating_add(self.interval))
    }
}

/// A source of connections to a service.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Source {
    /// Number of the service.
    pub service: u32,
    /// Address, masked.
    pub address: Be128,
}

impl Source {
    /// The source that an address belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn of(service: u32, address: Be128, limit: &SourceLimit) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (address.raw(), limit.mask.raw());
        Self { service, address: Be128::from_raw([a & e, b & f, c & g, d & h]) }
    }
}

/// The mask of the first `bits` bits of an address; an IPv4 address is the last 32.
#[must_use]
pub fn mask(bits: u8) -> Be128 {
    let whole = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or_default();
    Be128::from_wire(whole.to_be_bytes())
}

const _: () = {
    assert!(size_of::<Allowed>() == 20);
    assert!(size_of::<SourceLimit>() == 40);
    assert!(size_of::<Source>() == 20);
    assert!(align_of::<Be32>() == align_of::<Be128>());
};

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of `tries` at these moments are admitted.
    fn admitted(limit: &SourceLimit, moments: impl IntoIterator<Item = u64>) -> usize {
        let mut filled = 0;
        let mut count = 0;
        for now in moments {
            if let Some(next) = limit.admit(filled, now) {
                (filled, count) = (next, count + 1);
            }
        }
        count
    }

    fn limit(per_second: u64, burst: u64) -> SourceLimit {
        let interval = SECOND / per_second;
        SourceLimit { interval, tolerance: interval * (burst - 1), ..SourceLimit::default() }
    }

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let ten = limit(10, 25);
        assert_eq!(admitted(&ten, [SECOND; 100]), 25);
        // 1,000 tries a second for 20 s.
        let moments = (0..20_000).map(|at| SECOND + at * SECOND / 1000);
        assert_eq!(admitted(&ten, moments), 25 + 199);
        assert_eq!(admitted(&limit(1, 1), [SECOND, SECOND, 2 * SECOND - 1, 2 * SECOND, 2 * SECOND]), 2);
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused() {
        let limit = limit(10, 1);
        assert_eq!(admitted(&limit, (1..1000).map(|at| at * SECOND / 10)), 999);
    }

    #[test]
    fn a_faster_limit_forgets_what_a_slower_one_has_written() {
        let (slow, fast) = (limit(1, 3600), limit(1000, 1));
        let mut filled = 0;
        while let Some(next) = slow.admit(filled, SECOND) {
            filled = next;
        }
        assert_eq!(filled, 3601 * SECOND);
        let next = fast.admit(filled, SECOND).unwrap();
        assert_eq!(fast.admit(next, SECOND), None);
    }

    #[test]
    fn masks_count_from_the_first_bit() {
        assert_eq!(mask(0).wire(), [0; 16]);
        assert_eq!(mask(128).wire(), [0xff; 16]);
        let net =
            Source::of(1, Be32::from_wire([10, 1, 2, 3]).into(), &SourceLimit { mask: mask(96 + 20), ..limit(1, 1) });
        assert_eq!(net.address, Be32::from_wire([10, 1, 0, 0]).into());
    }
}

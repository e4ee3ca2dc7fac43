//! The intervals of RFC 9568 section 6.1, in exact durations.

use std::time::Duration;

use crate::units::{Centis, Priority};

/// The longest and the shortest interval learned from a peer, as a multiple and a fraction of our own. One forged
/// advert can then stretch the time without a router by this factor at most.
pub(super) const LEARNED_RANGE: u16 = 4;

/// `Skew_Time`: `(256 - priority) * interval / 256`, so that the most eager router speaks first. Not rounded to
/// centiseconds: at 100 ms neighbouring priorities are 0.39 ms apart.
#[must_use]
pub fn skew_time(priority: Priority, interval: Centis) -> Duration {
    interval.duration() * (256 - u32::from(priority.get())) / 256
}

/// `Active_Down_Interval`: silence after which the Active router is presumed dead, `3 * interval + skew`.
#[must_use]
pub fn active_down_interval(priority: Priority, interval: Centis) -> Duration {
    interval.duration() * 3 + skew_time(priority, interval)
}

/// How long an advert gives its sender the right to answer for the addresses: half an interval and the skew less than
/// any Backup that heard it waits.
pub(super) fn lease(interval: Centis) -> Duration {
    interval.duration() * 5 / 2
}

/// How long somebody is waited for who took the addresses away by one advert that anybody could have sent: longer than its
/// lease, and less than three intervals.
pub(super) fn doubted(interval: Centis) -> Duration {
    interval.duration() * 11 / 4
}

/// The longest a living router is silent, with what the network adds.
pub(super) fn living_silence(interval: Centis) -> Duration {
    interval.duration() * 3 / 2
}

/// `Active_Adver_Interval`: what a peer advertises, kept within a factor of four of our own.
pub(super) fn learned_interval(own: Centis, advertised: Centis) -> Centis {
    let least = Centis::saturating(own.get().div_ceil(LEARNED_RANGE));
    let most = Centis::saturating(own.get().saturating_mul(LEARNED_RANGE));
    advertised.clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn centis(n: u16) -> Centis {
        Centis::new(n).unwrap()
    }

    fn priority(n: u8) -> Priority {
        Priority::new(n).unwrap()
    }

    #[test]
    fn skew_is_exact() {
        for (p, interval, nanos) in [
            (100, 100, 609_375_000),
            (254, 100, 7_812_500),
            (1, 100, 996_093_750),
            (254, 1, 78_125),
            (200, 10, 21_875_000),
            (1, 4095, 40_790_039_062),
        ] {
            assert_eq!(skew_time(priority(p), centis(interval)), Duration::from_nanos(nanos));
        }
    }

    #[test]
    fn a_higher_priority_always_speaks_first() {
        for interval in [1, 10, 4095] {
            for p in 1..254 {
                let (lower, higher) = (priority(p), priority(p + 1));
                assert!(active_down_interval(higher, centis(interval)) < active_down_interval(lower, centis(interval)));
            }
        }
        assert_eq!(active_down_interval(priority(100), centis(100)), Duration::from_micros(3_609_375));
    }

    #[test]
    fn a_lease_ends_half_an_interval_before_anybody_takes_over() {
        for interval in [1, 10, 100, 4095] {
            let margin = active_down_interval(priority(254), centis(interval)) - lease(centis(interval));
            assert!(margin > centis(interval).duration() / 2, "{interval}");
        }
    }

    #[test]
    fn a_doubted_claim_is_waited_for_until_its_lease_is_over() {
        for interval in [1, 10, 100, 4095].map(centis) {
            assert!(doubted(interval) > lease(interval) && doubted(interval) < interval.duration() * 3);
        }
    }

    #[test]
    fn learning_is_bounded_both_ways() {
        for (own, advertised, learned) in [
            (100, 100, 100),
            (100, 4095, 400),
            (100, 1, 25),
            (100, 400, 400),
            (10, 1, 3),
            (1, 1, 1),
            (1, 4095, 4),
            (4095, 1, 1024),
            (4095, 4095, 4095),
        ] {
            assert_eq!(learned_interval(centis(own), centis(advertised)), centis(learned));
        }
    }
}

//! What a router that claims the addresses is believed about its interval.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Instance;
use crate::units::{Centis, Version};
use crate::vrrp::timers::{LEARNED_RANGE, learned_interval};

/// Routers of one segment that are remembered. Who has more of them, or forges more, is believed less.
const MOST: usize = 8;
/// Times between adverts that have to be seen before an interval other than ours is believed: one forged packet, or two with a
/// pause between them, prove nothing.
const PROOFS: u8 = 3;

/// A router that claimed the addresses, in whatever state that found us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acquaintance {
    src: IpAddr,
    /// When it last did.
    last: Instant,
    /// The least and the greatest time between two of its claims in a row.
    least: Duration,
    greatest: Duration,
    /// How often that time was longer than our own interval, and how often shorter.
    longer: u8,
    shorter: u8,
}

impl Acquaintance {
    fn first(src: IpAddr, heard: Instant) -> Self {
        Self { src, last: heard, least: Duration::MAX, greatest: Duration::ZERO, longer: 0, shorter: 0 }
    }

    fn again(self, heard: Instant, own: Duration) -> Self {
        let gap = heard.saturating_duration_since(self.last);
        Self {
            last: heard.max(self.last),
            least: self.least.min(gap),
            greatest: self.greatest.max(gap),
            longer: self.longer.saturating_add(u8::from(gap > own)),
            shorter: self.shorter.saturating_add(u8::from(gap < own)),
            ..self
        }
    }

    /// The range of intervals that it is believed.
    fn range(self, own: Centis) -> std::ops::RangeInclusive<Centis> {
        let least = if self.shorter >= PROOFS { own.min(Centis::from_duration(self.least)) } else { own };
        let most = if self.longer >= PROOFS { own.max(Centis::from_duration(self.greatest)) } else { own };
        least..=most
    }
}

impl Instance {
    /// The interval to expect of `src`, which says that it advertises this often. Without authentication anybody may say
    /// anything: an interval other than ours is believed as far as adverts have been seen to be that far apart.
    pub(super) fn learn(&mut self, src: IpAddr, advertised: Centis, heard: Instant) -> Centis {
        let own = self.cfg.advert_interval;
        // Those of version 2 have one interval for all (RFC 3768 section 7.1).
        if self.cfg.version == Version::V2 {
            return own;
        }
        let learned = learned_interval(own, advertised);
        if self.cfg.authenticated {
            return learned;
        }
        let longest = own.duration() * u32::from(LEARNED_RANGE) + own.duration() / 2;
        self.known.retain(|known| heard.saturating_duration_since(known.last) <= longest);
        let acquaintance = match self.known.iter().position(|known| known.src == src) {
            Some(at) => self.known.swap_remove(at).again(heard, own.duration()),
            None => Acquaintance::first(src, heard),
        };
        if self.known.len() >= MOST
            && let Some((oldest, _)) = self.known.iter().enumerate().min_by_key(|(_, known)| known.last)
        {
            self.known.swap_remove(oldest);
        }
        self.known.push(acquaintance);
        let range = acquaintance.range(own);
        learned.clamp(*range.start(), *range.end())
    }
}

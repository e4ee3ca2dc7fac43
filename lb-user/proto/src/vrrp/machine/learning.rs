//! What a router that claims the addresses is believed about its interval.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Instance;
use crate::units::{Centis, Version};
use crate::vrrp::timers::{LEARNED_RANGE, learned_interval};

/// Routers of one segment that are remembered. Who has more of them, or forges more, is believed less.
const MOST: usize = 8;

/// A router that claimed the addresses, in whatever state that found us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acquaintance {
    src: IpAddr,
    /// When it last did.
    last: Instant,
    /// The least and the greatest time between two of its claims in a row.
    gaps: Option<(Duration, Duration)>,
}

impl Acquaintance {
    fn again(self, heard: Instant) -> Self {
        let gap = heard.saturating_duration_since(self.last);
        let (least, greatest) = self.gaps.unwrap_or((gap, gap));
        Self { last: heard.max(self.last), gaps: Some((least.min(gap), greatest.max(gap))), ..self }
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
            Some(at) => self.known.swap_remove(at).again(heard),
            None => Acquaintance { src, last: heard, gaps: None },
        };
        if self.known.len() >= MOST
            && let Some((oldest, _)) = self.known.iter().enumerate().min_by_key(|(_, known)| known.last)
        {
            self.known.swap_remove(oldest);
        }
        self.known.push(acquaintance);
        match acquaintance.gaps {
            None => own,
            Some((least, greatest)) => {
                learned.clamp(own.min(Centis::from_duration(least)), own.max(Centis::from_duration(greatest)))
            }
        }
    }
}

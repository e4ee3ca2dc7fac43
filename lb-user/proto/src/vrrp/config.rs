//! What a virtual router is told once: its parameters, RFC 9568 section 6.1.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::family::Family;
use crate::units::{Centis, Priority, Version, Vrid};
use crate::wire::vrrp::Addresses;

use super::timers::{active_down_interval, skew_time};

/// The least and the longest wait for another router to take over in a planned hand-over: a peer that is busy may need the
/// first, and whoever stops a node should not wait for more than the second.
const HANDOVER: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(4);

/// Parameters of a virtual router on one interface. Every value of every field is usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which virtual router.
    pub vrid: Vrid,
    /// Which version of the protocol it speaks; decides on timers alone here.
    pub version: Version,
    /// How much this node wants it.
    pub priority: Priority,
    /// How often this node advertises when Active.
    pub advert_interval: Centis,
    /// Whether this node takes the addresses from a living router of lower priority.
    pub preempt: bool,
    /// How long such a router is left in peace first, from its first advert heard; with `preempt` only.
    pub preempt_delay: Duration,
    /// Source of our adverts, and what decides between equal priorities. `None`, or of another family than the virtual
    /// addresses: the interface has no address, which is a fault of its own.
    pub primary: Option<IpAddr>,
    /// The virtual addresses. Their family is that of the virtual router: two may share a VRID, one for each.
    pub addresses: Addresses,
    /// Who is sent our adverts and whose adverts count. Empty: everybody, by multicast.
    pub peers: Arc<[IpAddr]>,
    /// Whether only adverts of authenticated routers are handed in, whose word is taken at once.
    pub authenticated: bool,
}

impl Config {
    /// The family of the virtual router.
    #[must_use]
    pub fn family(&self) -> Family {
        self.addresses.family()
    }

    /// `Skew_Time` of this router beside one that advertises so often. That of version 2 is a share of a second (RFC 3768
    /// section 6.1).
    #[must_use]
    pub fn skew(&self, interval: Centis) -> Duration {
        match self.version {
            Version::V3 => skew_time(self.priority, interval),
            Version::V2 => skew_time(self.priority, Centis::SECOND),
        }
    }

    /// `Active_Down_Interval` of this router beside one that advertises so often.
    #[must_use]
    pub fn down(&self, interval: Centis) -> Duration {
        match self.version {
            Version::V3 => active_down_interval(self.priority, interval),
            Version::V2 => interval.duration() * 3 + self.skew(interval),
        }
    }

    /// How long a router that gives the addresses up goes on holding them, while nobody claims them.
    #[must_use]
    pub fn handover_bound(&self) -> Duration {
        self.down(self.advert_interval).clamp(*HANDOVER.start(), *HANDOVER.end())
    }

    /// How long it leaves a living router of lower priority in peace; who owns the addresses waits for nobody.
    pub(super) fn delay(&self) -> Duration {
        if self.priority == Priority::OWNER { Duration::ZERO } else { self.preempt_delay }
    }

    /// The primary address, where there is one to send from.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.primary.filter(|primary| Family::of(*primary) == self.family())
    }
}

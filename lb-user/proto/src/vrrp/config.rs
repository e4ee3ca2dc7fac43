//! What a virtual router is told once: its parameters, RFC 9568 section 6.1.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::family::Family;
use crate::units::{Centis, Priority, Vrid};
use crate::wire::vrrp::Addresses;

/// Parameters of a virtual router on one interface. Every value of every field is usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which virtual router.
    pub vrid: Vrid,
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
}

impl Config {
    /// The family of the virtual router.
    #[must_use]
    pub fn family(&self) -> Family {
        self.addresses.family()
    }

    /// The primary address, where there is one to send from.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.primary.filter(|primary| Family::of(*primary) == self.family())
    }
}

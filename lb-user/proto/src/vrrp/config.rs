//! What a virtual router is told once: its parameters, RFC 9568 section 6.1.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

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
    /// Source of our adverts, and what decides between equal priorities. `None`: the interface has no address, which
    /// is a fault of its own.
    pub primary: Option<Ipv4Addr>,
    /// The virtual addresses.
    pub addresses: Addresses,
    /// Who is sent our adverts and whose adverts count. Empty: everybody, by multicast.
    pub peers: Arc<[Ipv4Addr]>,
}

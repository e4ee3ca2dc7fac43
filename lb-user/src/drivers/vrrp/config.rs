//! What a virtual router is told: its configuration, what its siblings have, and what its interface is like. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use lb_proto::family::Family;
use lb_proto::units::{Centis, Priority, Vrid};
use lb_proto::vrrp::Config;
use lb_proto::wire::vrrp::{Addresses, AddressesError, ChecksumForm};

use super::seat::Seat;
use crate::config::{self, Vrrp};
use crate::netlink::{Interfaces, Speaker};

/// The configuration of a router, with what matters of the others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) vrrp: Vrrp,
    /// The VIPs of all routers of this node; none of them is an address to send from.
    pub(super) vips: Arc<[IpAddr]>,
    /// VRIDs of this node's other routers of the family on the same interface, whose adverts this one overhears.
    pub(super) siblings: Vec<Vrid>,
    /// In its sync group.
    pub(super) seat: Option<Seat>,
}

impl Order {
    /// One for each configuration.
    pub(super) fn all(configs: &[Vrrp]) -> Vec<Self> {
        let vips: Arc<[IpAddr]> =
            configs.iter().flat_map(|vrrp| vrrp.virtual_addresses.iter().map(|net| net.address)).collect();
        let siblings = |vrrp: &Vrrp| {
            let others =
                configs.iter().filter(|other| (&other.interface, other.family()) == (&vrrp.interface, vrrp.family()));
            let ids = others.map(|other| other.virtual_router_id).filter(|id| *id != vrrp.virtual_router_id);
            ids.map(Vrid::from).collect()
        };
        let order =
            |vrrp: &Vrrp| Self { siblings: siblings(vrrp), vrrp: vrrp.clone(), vips: Arc::clone(&vips), seat: None };
        configs.iter().map(order).collect()
    }

    /// As the state machine wants it.
    ///
    /// # Errors
    /// A number of addresses that no advert can carry, which the configuration does not allow.
    pub(super) fn machine(&self, primary: Option<IpAddr>) -> Result<Config, AddressesError> {
        let vrrp = &self.vrrp;
        Ok(Config {
            vrid: vrrp.virtual_router_id.into(),
            priority: Priority::new(vrrp.priority).unwrap_or(Priority::DEFAULT),
            advert_interval: Centis::from_duration(vrrp.advert_interval),
            preempt: vrrp.preempt,
            preempt_delay: vrrp.preempt_delay,
            primary,
            addresses: Addresses::new(vrrp.virtual_addresses.iter().map(|net| net.address))?,
            peers: vrrp.unicast_peers.as_slice().into(),
            version: vrrp.version,
            authenticated: vrrp.auth.is_some(),
        })
    }

    pub(super) fn multicast(&self) -> bool {
        self.vrrp.unicast_peers.is_empty()
    }

    /// What kind of address it sends from, unless one is named: over IPv6 a link-local one to the group (RFC 9568 section 5.1.2.1),
    /// and to peers one of the kind by which they are known.
    pub(super) fn speaker(&self) -> Speaker {
        let link_local = |peer: &IpAddr| matches!(peer, IpAddr::V6(peer) if peer.is_unicast_link_local());
        match self.vrrp.family() {
            Family::V4 => Speaker::Ipv4,
            Family::V6 if self.vrrp.unicast_peers.iter().all(link_local) => Speaker::Ipv6LinkLocal,
            Family::V6 => Speaker::Ipv6,
        }
    }

    pub(super) fn checksum(&self) -> ChecksumForm {
        match self.vrrp.checksum {
            config::ChecksumForm::Rfc5798 => ChecksumForm::Rfc5798,
            config::ChecksumForm::Rfc9568 => ChecksumForm::Rfc9568,
        }
    }
}

/// The interface of a router at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) ifindex: u32,
    pub(super) up: bool,
    /// The address to send from.
    pub(super) primary: Option<IpAddr>,
}

impl Place {
    /// `None`: there is no such interface.
    pub(super) fn of(order: &Order, interfaces: &Interfaces) -> Option<Self> {
        let link = interfaces.link(&order.vrrp.interface)?;
        let primary = match order.vrrp.unicast_source {
            Some(source) => {
                let there = interfaces.addresses_of(link.index).any(|a| a.net.address == source && a.usable);
                there.then_some(source)
            }
            None => interfaces.primary_address(link.index, order.speaker(), &order.vips),
        };
        Some(Self { ifindex: link.index, up: link.up, primary })
    }
}

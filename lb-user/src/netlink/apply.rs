//! Changes: addresses of ours come and go, neighbours get resolved. An object that is already as wanted is no error.

use std::net::Ipv4Addr;

use nix::net::if_::if_indextoname;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError, exchange, observe, ours};
use crate::config::Ipv4Net;

/// How an address came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was added.
    Now,
    /// It was there, and ours.
    Before,
    /// It was there and somebody else's. It stays as it is, and is not ours to remove.
    Foreign,
}

const ADD_ADDRESS: &str = "add an address";
const REMOVE_ADDRESS: &str = "remove an address";
const RESOLVE: &str = "resolve a neighbour";

impl Netlink {
    /// Adds `net` to an interface, marked as ours. It brings no route: the network is already reachable through the interface's
    /// own address, and must stay so when `net` goes.
    ///
    /// # Errors
    /// No such interface, or another refusal.
    pub async fn add_address(&self, ifindex: u32, net: Ipv4Net) -> Result<Added, NetlinkError> {
        Self::run(move || add_address(ifindex, net)).await
    }

    /// Removes `net` from an interface. That it, or the interface, is not there is fine.
    ///
    /// # Errors
    /// Any other refusal.
    pub async fn remove_address(&self, ifindex: u32, net: Ipv4Net) -> Result<(), NetlinkError> {
        Self::run(move || {
            let request = RouteNetlinkMessage::DelAddress(address(ifindex, net));
            match exchange::act(REMOVE_ADDRESS, &request, 0) {
                Err(e) if matches!(e.refused_with(), Some(libc::ENODEV | libc::EADDRNOTAVAIL)) => Ok(()),
                result => result,
            }
        })
        .await
    }

    /// Has the kernel find out, or confirm, the Ethernet address of a neighbour. Returns at once; the answer shows in a later
    /// observation. Cheap, and without effect on an entry that is confirmed.
    ///
    /// # Errors
    /// No such interface, or it does not use ARP.
    pub async fn resolve(&self, ifindex: u32, neighbour: Ipv4Addr) -> Result<(), NetlinkError> {
        Self::run(move || {
            let mut request = NeighbourMessage::default();
            request.header.family = AddressFamily::Inet;
            request.header.ifindex = ifindex;
            request.header.flags = NeighbourFlags::Use;
            request.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(neighbour)));
            exchange::act(RESOLVE, &RouteNetlinkMessage::NewNeighbour(request), NLM_F_CREATE)
        })
        .await
    }
}

fn add_address(ifindex: u32, net: Ipv4Net) -> Result<Added, NetlinkError> {
    let refused = |errno: nix::Error| NetlinkError::Refused { doing: ADD_ADDRESS, source: errno.into() };
    let name = if_indextoname(ifindex).map_err(refused)?;
    let mut message = address(ifindex, net);
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
    message.attributes.extend(ours::mark(&name.to_string_lossy()));
    match exchange::act(ADD_ADDRESS, &RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(Added::Now),
        Err(e) if e.refused_with() == Some(libc::EEXIST) => {
            let there = observe::addresses()?.into_iter().find(|a| a.ifindex == ifindex && a.net == net);
            match there {
                Some(address) if address.ours => Ok(Added::Before),
                Some(_) => Ok(Added::Foreign),
                // Gone again: the next round adds it.
                None => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}

fn address(ifindex: u32, net: Ipv4Net) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = net.prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = ifindex;
    message.attributes =
        vec![AddressAttribute::Local(net.address.into()), AddressAttribute::Address(net.address.into())];
    message
}

//! What there is: links, addresses and neighbours of both families, all of them or an error.

use std::net::IpAddr;

use rtnetlink::packet_core::{NlasIterator, Parseable};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as Nud,
};

use super::exchange::{self, malformed};
use super::{Netlink, NetlinkError, ours};
use crate::config::{HostFacts, IpNet};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a link made again under its old name has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Switched on and with carrier.
    pub up: bool,
    /// How often carrier has come or gone.
    pub flaps: u32,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// `veth`, `bridge` and the like; none for hardware.
    pub kind: Option<String>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub ifindex: u32,
    /// The address, and the network it opens.
    pub net: IpNet,
    /// Not the first of its network on this interface; of IPv6, temporary (RFC 8981).
    pub secondary: bool,
    /// Valid beyond the link and the host.
    pub global: bool,
    /// Good to speak with. Of IPv6, not while its uniqueness is unproven, or when it is deprecated.
    pub usable: bool,
    /// Added by xvip, by this process or an earlier one.
    pub ours: bool,
}

/// A neighbour of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, if known; it may be out of date in every state but `Usable`.
    pub mac: Option<[u8; 6]>,
    /// What the kernel knows.
    pub state: NeighbourState,
}

impl Neighbour {
    /// Whether packets can be sent to it now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.mac.is_some()
            && matches!(self.state, NeighbourState::Usable | NeighbourState::Stale | NeighbourState::Probing)
    }
}

/// How far the kernel trusts a neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Confirmed, or not in need of it.
    Usable,
    /// Not confirmed of late.
    Stale,
    /// Being confirmed, with the last address still in use.
    Probing,
    /// Being asked for, no answer yet.
    Incomplete,
    /// Asked for, no answer.
    Failed,
}

/// What kind of address to speak with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// IPv4, global.
    Ipv4,
    /// IPv6, good on the link alone.
    Ipv6LinkLocal,
    /// IPv6, global.
    Ipv6,
}

/// Links and addresses at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses, for each link and family in the kernel's order.
    pub addresses: Vec<Address>,
}

impl Interfaces {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The addresses of a link.
    pub fn addresses_of(&self, ifindex: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.ifindex == ifindex)
    }

    /// The address an interface speaks with: of the kind wanted, usable, not secondary, not in `excluding` and not ours. Of
    /// several, the one that has been there longest.
    #[must_use]
    pub fn primary_address(&self, ifindex: u32, want: Speaker, excluding: &[IpAddr]) -> Option<IpAddr> {
        let wanted = |a: &&Address| match (want, a.net.address) {
            (Speaker::Ipv4, IpAddr::V4(_)) | (Speaker::Ipv6, IpAddr::V6(_)) => a.global,
            (Speaker::Ipv6LinkLocal, IpAddr::V6(address)) => address.is_unicast_link_local(),
            _ => false,
        };
        let free = |a: &&Address| a.usable && !a.secondary && !a.ours && !excluding.contains(&a.net.address);
        let mut found = self.addresses_of(ifindex).filter(wanted).filter(free).map(|a| a.net.address);
        // The kernel lists IPv4 addresses from the oldest on, IPv6 addresses of a scope from the newest.
        if want == Speaker::Ipv4 { found.next() } else { found.last() }
    }

    /// As the configuration wants to see it; without the addresses that we added ourselves.
    #[must_use]
    pub fn host_facts(&self) -> HostFacts {
        let addresses = |link: &Link| self.addresses_of(link.index).filter(|a| !a.ours).map(|a| a.net).collect();
        HostFacts { interfaces: self.links.iter().map(|link| (link.name.clone(), addresses(link))).collect() }
    }
}

/// Everything that is observed, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Links and addresses.
    pub interfaces: Interfaces,
    /// All neighbours.
    pub neighbours: Vec<Neighbour>,
}

impl Observed {
    /// What is known of a neighbour.
    #[must_use]
    pub fn neighbour(&self, ifindex: u32, address: IpAddr) -> Option<&Neighbour> {
        self.neighbours.iter().find(|n| n.ifindex == ifindex && n.address == address)
    }
}

impl Netlink {
    /// Links, addresses and neighbours.
    ///
    /// # Errors
    /// Any part that could not be read whole: there is no partial answer.
    pub async fn observe(&self) -> Result<Observed, NetlinkError> {
        Self::run(|| Ok(Observed { interfaces: interfaces()?, neighbours: neighbours()? })).await
    }

    /// Links and addresses.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub async fn interfaces(&self) -> Result<Interfaces, NetlinkError> {
        Self::run(interfaces).await
    }
}

fn interfaces() -> Result<Interfaces, NetlinkError> {
    Ok(Interfaces { links: links()?, addresses: addresses()? })
}

const LIST_LINKS: &str = "list links";
const LIST_ADDRESSES: &str = "list addresses";
const LIST_NEIGHBOURS: &str = "list neighbours";

fn links() -> Result<Vec<Link>, NetlinkError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let replies = exchange::dump(LIST_LINKS, &RouteNetlinkMessage::GetLink(request))?;
    replies.iter().filter(|reply| reply.kind == libc::RTM_NEWLINK).map(|reply| link(&reply.body)).collect()
}

/// Reads the few attributes we need and steps over the rest: what some other link is made of must not hide ours.
fn link(body: &[u8]) -> Result<Link, NetlinkError> {
    // struct ifinfomsg: family, padding, type, index, flags, change mask.
    let header: &[u8; 16] = body.first_chunk().ok_or_else(|| malformed(LIST_LINKS, "a link is cut short"))?;
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let mut link = Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: String::new(),
        mac: None,
        up: [libc::IFF_UP, libc::IFF_LOWER_UP].into_iter().all(|flag| flags & flag.cast_unsigned() != 0),
        flaps: 0,
        mtu: 0,
        kind: None,
    };
    for attribute in NlasIterator::new(body.get(header.len()..).unwrap_or_default()) {
        let attribute = attribute.map_err(|e| malformed(LIST_LINKS, e))?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok().filter(|mac| *mac != [0; 6]),
            libc::IFLA_CARRIER_CHANGES => {
                link.flaps = value.first_chunk().map_or(0, |flaps| u32::from_ne_bytes(*flaps))
            }
            libc::IFLA_MTU => link.mtu = value.first_chunk().map_or(0, |mtu| u32::from_ne_bytes(*mtu)),
            libc::IFLA_LINKINFO => link.kind = kind(value),
            _ => {}
        }
    }
    Ok(link)
}

fn kind(info: &[u8]) -> Option<String> {
    let kind = NlasIterator::new(info).map_while(Result::ok).find(|info| info.kind() == libc::IFLA_INFO_KIND)?;
    Some(text(kind.value()))
}

/// A string of the kernel's, which ends with a zero byte.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// Whether a message, which begins with its family, is about IP: other families' are not ours to understand.
fn is_ip(body: &[u8]) -> bool {
    [libc::AF_INET, libc::AF_INET6].iter().any(|family| body.first().map(|byte| i32::from(*byte)) == Some(*family))
}

pub(super) fn addresses() -> Result<Vec<Address>, NetlinkError> {
    // No family: those of all.
    let request = AddressMessage::default();
    let replies = exchange::dump(LIST_ADDRESSES, &RouteNetlinkMessage::GetAddress(request))?;
    let mut addresses = Vec::with_capacity(replies.len());
    for reply in replies.iter().filter(|reply| reply.kind == libc::RTM_NEWADDR && is_ip(&reply.body)) {
        let message = AddressMessage::parse(reply.body.as_slice()).map_err(|e| malformed(LIST_ADDRESSES, e))?;
        addresses.extend(address(&message));
    }
    Ok(addresses)
}

/// `None` for other families.
fn address(message: &AddressMessage) -> Option<Address> {
    // The local address; on a point-to-point link the other attribute has the peer's. IPv6 has the other alone elsewhere.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let either = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
            _ => None,
        })
    };
    let flags = message.header.flags;
    let unproven = flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    let unfit = AddressHeaderFlags::Dadfailed | AddressHeaderFlags::Deprecated;
    Some(Address {
        ifindex: message.header.index,
        net: IpNet { address: local.or_else(either)?, prefix: message.header.prefix_len },
        secondary: flags.contains(AddressHeaderFlags::Secondary),
        usable: !unproven && !flags.intersects(unfit),
        global: message.header.scope == AddressScope::Universe,
        ours: ours::is_marked(&message.attributes),
    })
}

fn neighbours() -> Result<Vec<Neighbour>, NetlinkError> {
    let request = NeighbourMessage::default();
    let replies = exchange::dump(LIST_NEIGHBOURS, &RouteNetlinkMessage::GetNeighbour(request))?;
    let mut neighbours = Vec::with_capacity(replies.len());
    for reply in replies.iter().filter(|reply| reply.kind == libc::RTM_NEWNEIGH && is_ip(&reply.body)) {
        let message = NeighbourMessage::parse(reply.body.as_slice()).map_err(|e| malformed(LIST_NEIGHBOURS, e))?;
        neighbours.extend(neighbour(&message));
    }
    Ok(neighbours)
}

/// `None` for other families, and for entries that say nothing.
fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let state = match message.header.state {
        Nud::Reachable | Nud::Permanent | Nud::Noarp => NeighbourState::Usable,
        Nud::Stale => NeighbourState::Stale,
        Nud::Delay | Nud::Probe => NeighbourState::Probing,
        Nud::Incomplete => NeighbourState::Incomplete,
        Nud::Failed => NeighbourState::Failed,
        _ => return None,
    };
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => address = Some((*to).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => address = Some((*to).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour { ifindex: message.header.ifindex, address: address?, mac, state })
}

#[cfg(test)]
mod tests;

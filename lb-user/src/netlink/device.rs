//! What is on a device: an XDP program, whoever put it there, VLANs, and how much a packet may hold.

use rtnetlink::packet_core::NlasIterator;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};

use super::NetlinkError;
use super::attributes::{attributes, text};
use super::exchange::{self, malformed};

const LOOK_AT_LINK: &str = "look at a link";
const LIST_LINKS: &str = "list links";
/// `struct ifinfomsg`
const HEADER: usize = 16;
/// The flag of nested attributes (linux/netlink.h).
const NESTED: u16 = 0x8000;

// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
/// One program, and then one of each place: driver, stack, hardware.
const PROGRAM_IDS: [u16; 4] = [4, 5, 6, 7];

/// The kernel's number of the XDP program on a device; one of them, if it has several. Blocks for as long as the kernel
/// takes to answer.
///
/// # Errors
/// When the kernel cannot be asked, or the device is not there.
pub fn xdp_program(ifindex: u32) -> Result<Option<u32>, NetlinkError> {
    program(&look(ifindex)?)
}

/// Bytes of the largest packet that a device takes. Blocks like [`xdp_program`].
///
/// # Errors
/// When the kernel cannot be asked, or the device is not there.
pub fn mtu(ifindex: u32) -> Result<u32, NetlinkError> {
    let link = look(ifindex)?;
    let mut attributes = NlasIterator::new(link.as_slice()).map_while(Result::ok);
    let mtu = attributes.find(|attribute| attribute.kind() == IFLA_MTU);
    let mtu = mtu.and_then(|mtu| mtu.value().first_chunk().map(|mtu| u32::from_ne_bytes(*mtu)));
    mtu.ok_or_else(|| malformed(LOOK_AT_LINK, "it has no MTU"))
}

/// The attributes of a link.
fn look(ifindex: u32) -> Result<Vec<u8>, NetlinkError> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let reply = exchange::ask(LOOK_AT_LINK, &RouteNetlinkMessage::GetLink(request))?;
    reply.body.get(HEADER..).map(<[u8]>::to_vec).ok_or_else(|| malformed(LOOK_AT_LINK, "it is cut short"))
}

/// Whether interfaces for VLANs are on a device. Blocks like [`xdp_program`].
///
/// # Errors
/// When the kernel cannot be asked.
pub fn has_vlans(ifindex: u32) -> Result<bool, NetlinkError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let links = exchange::dump(LIST_LINKS, &RouteNetlinkMessage::GetLink(request))?;
    Ok(links.iter().any(|link| is_vlan_on(link.body.get(HEADER..).unwrap_or_default(), ifindex)))
}

/// The names of the links that are part of a device: a bond's wires, a bridge's ports. Blocks like [`xdp_program`].
///
/// # Errors
/// When the kernel cannot be asked.
pub fn members(ifindex: u32) -> Result<Vec<String>, NetlinkError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let links = exchange::dump(LIST_LINKS, &RouteNetlinkMessage::GetLink(request))?;
    Ok(links.iter().filter_map(|link| member(link.body.get(HEADER..).unwrap_or_default(), ifindex)).collect())
}

/// The name among the attributes of a link, if it is part of the device.
fn member(link: &[u8], ifindex: u32) -> Option<String> {
    let attributes = attributes(link);
    let of = |kind| attributes.iter().find(|(of, _)| *of == kind).map(|(_, value)| *value);
    of(IFLA_MASTER).filter(|master| *master == ifindex.to_ne_bytes())?;
    of(IFLA_IFNAME).map(text)
}

/// Whether these are the attributes of a VLAN on the device.
fn is_vlan_on(attributes: &[u8], ifindex: u32) -> bool {
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let (mut is_on_it, mut is_vlan) = (false, false);
    for attribute in &mut attributes {
        match attribute.kind() & !NESTED {
            IFLA_LINK => is_on_it = attribute.value() == ifindex.to_ne_bytes(),
            IFLA_LINKINFO => {
                let mut inner = NlasIterator::new(attribute.value()).map_while(Result::ok);
                let kind = inner.find(|inner| inner.kind() == IFLA_INFO_KIND);
                is_vlan = kind.is_some_and(|kind| kind.value() == b"vlan\0");
            }
            _ => {}
        }
    }
    is_on_it && is_vlan
}

/// Finds the program among the attributes of a link.
fn program(attributes: &[u8]) -> Result<Option<u32>, NetlinkError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|error| malformed(LOOK_AT_LINK, error))?;
        if attribute.kind() & !NESTED != IFLA_XDP {
            continue;
        }
        for inner in NlasIterator::new(attribute.value()) {
            let inner = inner.map_err(|error| malformed(LOOK_AT_LINK, error))?;
            let id = inner.value().first_chunk().map(|id| u32::from_ne_bytes(*id));
            if PROGRAM_IDS.contains(&inner.kind()) && id.is_some_and(|id| id != 0) {
                return Ok(id);
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_number_is_found_where_the_kernel_puts_it() {
        let name = attribute(3, b"eth0\0");
        let xdp = |inner: &[Vec<u8>]| [name.clone(), attribute(IFLA_XDP, &inner.concat())].concat();
        let attached = |place: u8| attribute(2, &[place]);
        let id = |kind: u16, id: u32| attribute(kind, &id.to_ne_bytes());
        assert_eq!(program(&name).unwrap(), None);
        assert_eq!(program(&xdp(&[attached(0)])).unwrap(), None);
        assert_eq!(program(&xdp(&[attached(1), id(4, 77), id(5, 77)])).unwrap(), Some(77));
        assert_eq!(program(&xdp(&[attached(4), id(5, 78), id(6, 79)])).unwrap(), Some(78));
        assert_eq!(program(&attribute(IFLA_XDP | NESTED, &id(4, 80))).unwrap(), Some(80));
        assert!(program(&[3, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_vlan_names_its_kind_and_its_device() {
        let link = |below: u32, kind: &[u8]| {
            let below = attribute(IFLA_LINK, &below.to_ne_bytes());
            [below, attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind))].concat()
        };
        assert!(is_vlan_on(&link(7, b"vlan\0"), 7));
        assert!(!is_vlan_on(&link(8, b"vlan\0"), 7));
        assert!(!is_vlan_on(&link(7, b"macvlan\0"), 7));
        assert!(!is_vlan_on(&attribute(IFLA_LINK, &7_u32.to_ne_bytes()), 7));
        assert!(!is_vlan_on(&[], 7));
    }

    #[test]
    fn a_member_names_its_device_and_itself() {
        let wire = [attribute(IFLA_IFNAME, b"eth1\0"), attribute(IFLA_MASTER, &7_u32.to_ne_bytes())].concat();
        assert_eq!(member(&wire, 7).as_deref(), Some("eth1"));
        assert_eq!(member(&wire, 8), None);
        assert_eq!(member(&attribute(IFLA_IFNAME, b"eth1\0"), 7), None);
    }

    #[test]
    fn the_loopback_has_neither_and_takes_packets() {
        assert!(!has_vlans(1).unwrap());
        assert_eq!(xdp_program(1).unwrap(), None);
        assert!(mtu(1).unwrap() >= 1280);
        assert!(xdp_program(u32::MAX >> 1).is_err());
    }
}

//! What only a diagnosis asks of links: what is above and below them, VLANs, and programs of XDP.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};

use super::attributes::{attributes, word};
use super::exchange::{self, malformed};
use super::{Netlink, NetlinkError};

/// A link in detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// The kernel's number for it.
    pub index: u32,
    /// The link it is a port or a member of.
    pub master: Option<u32>,
    /// VLAN identifier, of a VLAN's link.
    pub vlan: Option<u16>,
    /// Programs of XDP on it.
    pub xdp: Vec<AttachedXdp>,
}

/// A program of XDP on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachedXdp {
    /// In the stack, not in the driver or on the card.
    pub generic: bool,
    /// The kernel's number of the program.
    pub id: u32,
}

const LIST_LINKS: &str = "list links in detail";

// linux/if_link.h
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const XDP_ATTACHED_SKB: u8 = 2;
const IFLA_VLAN_ID: u16 = 1;

impl Netlink {
    /// All links.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub async fn details(&self) -> Result<Vec<Detail>, NetlinkError> {
        Self::run(|| {
            let mut request = LinkMessage::default();
            request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
            let replies = exchange::dump(LIST_LINKS, &RouteNetlinkMessage::GetLink(request))?;
            replies.iter().filter(|reply| reply.kind == libc::RTM_NEWLINK).map(|reply| detail(&reply.body)).collect()
        })
        .await
    }
}

fn detail(body: &[u8]) -> Result<Detail, NetlinkError> {
    let header: &[u8; 16] = body.first_chunk().ok_or_else(|| malformed(LIST_LINKS, "a link is cut short"))?;
    let [_, _, _, _, i0, i1, i2, i3, ..] = *header;
    let mut detail = Detail { index: u32::from_ne_bytes([i0, i1, i2, i3]), ..Detail::default() };
    for (kind, value) in attributes(body.get(header.len()..).unwrap_or_default()) {
        match kind {
            libc::IFLA_MASTER => detail.master = word(value),
            libc::IFLA_LINKINFO => detail.vlan = vlan(value),
            libc::IFLA_XDP => detail.xdp = xdp(value),
            _ => {}
        }
    }
    Ok(detail)
}

fn vlan(info: &[u8]) -> Option<u16> {
    let info = attributes(info);
    let of = |kind| info.iter().find(|(of, _)| *of == kind).map(|(_, value)| *value);
    let is_vlan = of(libc::IFLA_INFO_KIND).is_some_and(|kind| kind.starts_with(b"vlan"));
    let data = of(libc::IFLA_INFO_DATA).filter(|_| is_vlan)?;
    let (_, id) = attributes(data).into_iter().find(|(kind, _)| *kind == IFLA_VLAN_ID)?;
    id.first_chunk().map(|id| u16::from_ne_bytes(*id))
}

fn xdp(value: &[u8]) -> Vec<AttachedXdp> {
    let inside = attributes(value);
    let of = |kind| inside.iter().find(|(of, _)| *of == kind).and_then(|(_, value)| word(value)).filter(|id| *id != 0);
    let program = |kind, generic| of(kind).map(|id| AttachedXdp { generic, id });
    let by_mode = [(IFLA_XDP_DRV_PROG_ID, false), (IFLA_XDP_SKB_PROG_ID, true), (IFLA_XDP_HW_PROG_ID, false)];
    let programs: Vec<_> = by_mode.into_iter().filter_map(|(kind, generic)| program(kind, generic)).collect();
    if !programs.is_empty() {
        return programs;
    }
    let attached = inside.iter().find(|(kind, _)| *kind == IFLA_XDP_ATTACHED).and_then(|(_, value)| value.first());
    program(IFLA_XDP_PROG_ID, attached == Some(&XDP_ATTACHED_SKB)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::attributes::attribute;
    use super::*;

    #[test]
    fn a_vlan_with_a_master_and_two_programs() {
        let info = [
            attribute(libc::IFLA_INFO_KIND, b"vlan\0"),
            attribute(libc::IFLA_INFO_DATA, &attribute(IFLA_VLAN_ID, &100_u16.to_ne_bytes())),
        ]
        .concat();
        let xdp = [
            attribute(IFLA_XDP_ATTACHED, &[4]),
            attribute(IFLA_XDP_DRV_PROG_ID, &7_u32.to_ne_bytes()),
            attribute(IFLA_XDP_SKB_PROG_ID, &8_u32.to_ne_bytes()),
        ]
        .concat();
        let mut body = vec![0; 16];
        body[4] = 3;
        body.extend(attribute(libc::IFLA_MASTER, &9_u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINKINFO, &info));
        body.extend(attribute(libc::IFLA_XDP, &xdp));
        let both = vec![AttachedXdp { generic: false, id: 7 }, AttachedXdp { generic: true, id: 8 }];
        assert_eq!(
            detail(&body).unwrap(),
            Detail { index: u32::from_ne_bytes([3, 0, 0, 0]), master: Some(9), vlan: Some(100), xdp: both }
        );
        assert!(detail(&body[..15]).is_err());
        let alone = [attribute(IFLA_XDP_ATTACHED, &[2]), attribute(IFLA_XDP_PROG_ID, &5_u32.to_ne_bytes())].concat();
        assert_eq!(super::xdp(&alone), [AttachedXdp { generic: true, id: 5 }]);
        assert_eq!(super::xdp(&attribute(IFLA_XDP_ATTACHED, &[0])), []);
    }
}

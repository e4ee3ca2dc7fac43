//! IPv6 in IPv6 (RFC 2473).

use super::super::failure::ethernet;
use super::{HOPS, ICMP, Nested};
use crate::abi::Node;
use crate::net::header::{ETHERNET, TcpHead};
use crate::net::{Be16, Be128, Family as _, V6};
use crate::packet::{Packet, Short};

/// Ethernet and the outer header, as halfwords.
const FRONT: usize = (ETHERNET + V6::IP) / 2;
/// The same, the inner header, and the ports.
const BOTH: usize = FRONT + V6::IP / 2 + 2;
/// With an ICMP error inside: the same up to the ports of the packet that it is about.
const BOTH_OF_ERROR: usize = BOTH + (V6::IP + ICMP) / 2;

impl Nested for V6 {
    const INSIDE: u8 = 41;
    /// The length of an outer header is of what follows it.
    const LONGEST: u32 = 0xffff;

    #[inline(always)]
    fn own(node: &Node) -> Be128 {
        node.address6
    }

    #[inline(always)]
    fn segments(node: &Node) -> u16 {
        node.mss6
    }

    /// Only senders fragment (RFC 8200 section 4.5).
    #[inline(always)]
    fn may_be_cut(_head: &TcpHead<Self>) -> bool {
        false
    }

    #[inline(always)]
    fn both(packet: &mut impl Packet) -> Result<&[u16], Short> {
        packet.head::<BOTH>().map(|head| head.as_slice())
    }

    #[inline(always)]
    fn both_of_error(packet: &mut impl Packet) -> Result<&[u16], Short> {
        packet.head::<BOTH_OF_ERROR>().map(|head| head.as_slice())
    }

    #[inline(always)]
    fn enclose(packet: &mut impl Packet, node: &Node, to: Be128, _random: impl FnOnce() -> u32) -> Result<(), Short> {
        let head = Self::head(packet)?;
        let mut front = [0; FRONT];
        ethernet::<Self>(&mut front, head.mac_destination(), node.mac);
        let [first, second] = head.first_of_ip();
        // The class without its two bits of congestion, as with IPv4; the other half of the byte is of the flow label.
        header(
            &mut front,
            [0x60 | first & 0xf, second & 0xc0],
            head.ip_length() as u16,
            Self::INSIDE,
            node.address6,
            to,
        );
        packet.push(&front)
    }

    #[inline(always)]
    fn disclose(packet: &mut impl Packet) -> Result<(), Short> {
        packet.pull::<FRONT>()
    }
}

/// Writes an IPv6 header behind Ethernet's: version and class, the length of what follows it, and what is always so.
#[inline(always)]
pub(in crate::datapath) fn header(
    frame: &mut [u16], first: [u8; 2], length: u16, protocol: u8, from: Be128, to: Be128,
) {
    (frame[7], frame[8]) = (u16::from_ne_bytes(first), 0);
    (frame[9], frame[10]) = (Be16::new(length).raw(), u16::from_ne_bytes([protocol, HOPS]));
    V6::set_source(frame, ETHERNET, from);
    V6::set_destination(frame, ETHERNET, to);
}

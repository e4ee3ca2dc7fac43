//! IPv4 in IPv4 (RFC 2003).

use super::super::failure::ethernet;
use super::{HOPS, ICMP, Nested};
use crate::abi::Node;
use crate::net::checksum::fold;
use crate::net::header::{ETHERNET, TcpHead};
use crate::net::{Address as _, Be16, Be32, Family as _, V4};
use crate::packet::{Packet, Short};

/// Ethernet and the outer header, as halfwords.
const FRONT: usize = (ETHERNET + V4::IP) / 2;
/// The same, the inner header, and the ports.
const BOTH: usize = FRONT + V4::IP / 2 + 2;
/// With an ICMP error inside: the same up to the ports of the packet that it is about.
const BOTH_OF_ERROR: usize = BOTH + (V4::IP + ICMP) / 2;

const DONT_FRAGMENT: u16 = 0x4000;

impl Nested for V4 {
    const INSIDE: u8 = 4;
    const LONGEST: u32 = 0xffff - Self::IP as u32;

    #[inline(always)]
    fn own(node: &Node) -> Be32 {
        node.address
    }

    #[inline(always)]
    fn segments(node: &Node) -> u16 {
        node.mss
    }

    #[inline(always)]
    fn may_be_cut(head: &TcpHead<Self>) -> bool {
        head.fragment().get() & DONT_FRAGMENT == 0
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
    fn enclose(packet: &mut impl Packet, node: &Node, to: Be32, random: impl FnOnce() -> u32) -> Result<(), Short> {
        let head = Self::head(packet)?;
        let length = head.ip_length() + Self::IP as u32;
        let may_be_cut = Self::may_be_cut(head);
        let identification = if may_be_cut { random() as u16 } else { 0 };
        let fragment = if may_be_cut { 0 } else { DONT_FRAGMENT };
        let mut front = [0; FRONT];
        ethernet::<Self>(&mut front, head.mac_destination(), node.mac);
        let [_, class] = head.first_of_ip();
        // Without the two bits of congestion, which nobody would carry over at the other end (RFC 6040 section 4.1).
        let first = u16::from_ne_bytes([0x45, class & 0xfc]);
        let words = [first, Be16::new(length as u16).raw(), Be16::new(identification).raw(), Be16::new(fragment).raw()];
        header(&mut front, words, Self::INSIDE, node.address, to);
        packet.push(&front)
    }

    #[inline(always)]
    fn disclose(packet: &mut impl Packet) -> Result<(), Short> {
        packet.pull::<FRONT>()
    }
}

/// Writes an IPv4 header behind Ethernet's: its first four words, and what is always so.
#[inline(always)]
pub(in crate::datapath) fn header(frame: &mut [u16], first: [u16; 4], protocol: u8, from: Be32, to: Be32) {
    let fifth = u16::from_ne_bytes([HOPS, protocol]);
    (frame[7], frame[8], frame[9], frame[10], frame[11]) = (first[0], first[1], first[2], first[3], fifth);
    let sum = first[0] as u32 + first[1] as u32 + first[2] as u32 + first[3] as u32 + fifth as u32;
    frame[12] = !fold(sum + from.sum() + to.sum());
    V4::set_source(frame, ETHERNET, from);
    V4::set_destination(frame, ETHERNET, to);
}

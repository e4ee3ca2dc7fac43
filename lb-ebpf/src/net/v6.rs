//! IPv6 (RFC 8200) without extension headers.

use super::checksum::{change32, halves};
use super::family::{Address, Family};
use super::header::{CONGESTION, ETHERNET, TCP, TcpHead, be32, byte, field, set_be32, set_byte};
use super::{Be16, Be128};
use crate::packet::{Packet, Short};

/// IP version 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V6 {}

impl Address for Be128 {
    #[inline(always)]
    fn of(address: Be128) -> Self {
        address
    }

    #[inline(always)]
    fn change(self, to: Self) -> u32 {
        let ([a, b, c, d], [e, f, g, h]) = (self.raw(), to.raw());
        change32(a, e) + change32(b, f) + change32(c, g) + change32(d, h)
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        let [a, b, c, d] = self.raw();
        halves(a) + halves(b) + halves(c) + halves(d)
    }

    /// RFC 4291 section 2.4; IPv4-mapped addresses do not travel either (RFC 6890).
    #[inline(always)]
    fn is_a_hosts(self) -> bool {
        let [first, second, third, last] = self.words();
        let is_low = first.raw() == 0 && second.raw() == 0 && third.raw() == 0 && last.get() <= 1;
        !is_low && self.mapped().is_none() && first.wire()[0] != 0xff
    }
}

impl Family for V6 {
    type Address = Be128;
    type Halfwords = [u16; 37];
    type Room = [u16; 73];
    type Ends = [u16; 18];

    const ETHERTYPE: Be16 = Be16::new(0x86dd);
    const PLACE: usize = 1;
    const IP: usize = 40;
    const ICMP: u8 = 58;
    const TOO_BIG: [u8; 2] = [2, 0];
    const MTU_HALFWORDS: usize = 2;
    const LEAST_MTU: u32 = 1280;
    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
    const ERRORS: &'static [u8] = &[1, 2, 3, 4];
    const HEADER_HAS_CHECKSUM: bool = false;
    const HOPS: usize = 6;
    const ADDRESSES: usize = 8;

    #[inline(always)]
    fn head(packet: &mut impl Packet) -> Result<&mut TcpHead<Self>, Short> {
        packet.head::<37>().map(TcpHead::over)
    }

    #[inline(always)]
    fn error_front(packet: &mut impl Packet) -> Result<&[u16], Short> {
        packet.head::<51>().map(|head| head.as_slice())
    }

    #[inline(always)]
    fn error_head(packet: &mut impl Packet) -> Result<&mut [u16], Short> {
        packet.head::<55>().map(|head| head.as_mut_slice())
    }

    #[inline(always)]
    fn error_head_with_checksum(packet: &mut impl Packet) -> Result<&mut [u16], Short> {
        packet.head::<60>().map(|head| head.as_mut_slice())
    }

    /// IPv4's addresses stand among the VIPs as mapped ones, which do not travel (RFC 6890).
    #[inline(always)]
    fn is_plain(halfwords: &[u16], at: usize, protocol: u8) -> bool {
        byte(halfwords, at) >> 4 == 6
            && Self::protocol(halfwords, at) == protocol
            && Self::destination(halfwords, at).mapped().is_none()
    }

    #[inline(always)]
    fn protocol(halfwords: &[u16], at: usize) -> u8 {
        byte(halfwords, at + 6)
    }

    #[inline(always)]
    fn is_sound(_halfwords: &[u16], _at: usize) -> bool {
        true
    }

    #[inline(always)]
    fn source(halfwords: &[u16], at: usize) -> Be128 {
        be128(halfwords, at + 8)
    }

    #[inline(always)]
    fn set_source(halfwords: &mut [u16], at: usize, address: Be128) {
        set_be128(halfwords, at + 8, address);
    }

    #[inline(always)]
    fn destination(halfwords: &[u16], at: usize) -> Be128 {
        be128(halfwords, at + 24)
    }

    #[inline(always)]
    fn set_destination(halfwords: &mut [u16], at: usize, address: Be128) {
        set_be128(halfwords, at + 24, address);
    }

    #[inline(always)]
    fn length(halfwords: &[u16], at: usize) -> u32 {
        Self::IP as u32 + Be16::from_raw(halfwords[at / 2 + 2]).get() as u32
    }

    #[inline(always)]
    fn hops(halfwords: &[u16], at: usize) -> u8 {
        byte(halfwords, at + 7)
    }

    #[inline(always)]
    fn set_hops(halfwords: &mut [u16], at: usize, hops: u8) {
        set_byte(halfwords, at + 7, hops);
    }

    #[inline(always)]
    fn change(_halfwords: &mut [u16], _at: usize, _change: u16) {}

    #[inline(always)]
    fn make_bare(head: &mut TcpHead<Self>, hops: u8) {
        let [first, second] = head.first_of_ip();
        // The version, the class without what routers set of it, and no flow label.
        let words = head.halfwords_mut();
        words[ETHERNET / 2] = u16::from_ne_bytes([first, second & !(CONGESTION << 4 | 0x0f)]);
        words[ETHERNET / 2 + 1] = 0;
        head.set_payload_length(Be16::new(TCP as u16));
        head.set_hops(hops);
    }
}

impl TcpHead<V6> {
    field!(/// Length of what follows the header in bytes.
        payload_length / set_payload_length : be16 at 18);
}

#[inline(always)]
fn be128(halfwords: &[u16], at: usize) -> Be128 {
    Be128::from_words([be32(halfwords, at), be32(halfwords, at + 4), be32(halfwords, at + 8), be32(halfwords, at + 12)])
}

#[inline(always)]
fn set_be128(halfwords: &mut [u16], at: usize, value: Be128) {
    let [a, b, c, d] = value.words();
    set_be32(halfwords, at, a);
    set_be32(halfwords, at + 4, b);
    set_be32(halfwords, at + 8, c);
    set_be32(halfwords, at + 12, d);
}

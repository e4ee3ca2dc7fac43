//! IPv4 (RFC 791) without options.

use super::checksum::{self, change32};
use super::family::{Address, Family};
use super::header::{ETHERNET, PROTOCOL_TCP, TCP, TcpHead, be32, field, set_be32};
use super::{Be16, Be32, Be128};
use crate::packet::{Packet, Short};

/// IP version 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V4 {}

/// The "don't fragment" bit: our own packets are never longer than their headers.
const DONT_FRAGMENT: Be16 = Be16::new(0x4000);

impl Address for Be32 {
    #[inline(always)]
    fn of(address: Be128) -> Self {
        let [_, _, _, last] = address.words();
        last
    }

    #[inline(always)]
    fn change(self, to: Self) -> u32 {
        change32(self.raw(), to.raw())
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        checksum::halves(self.raw())
    }

    #[inline(always)]
    fn is_a_hosts(self) -> bool {
        let first = self.wire()[0];
        first != 0 && first != 127 && first < 224
    }
}

impl Family for V4 {
    type Address = Be32;
    type Halfwords = [u16; 27];
    type Ends = [u16; 6];

    const ETHERTYPE: Be16 = Be16::new(0x0800);
    const IP: usize = 20;
    const HEADER_HAS_CHECKSUM: bool = true;
    const HOPS: usize = 8;
    const ADDRESSES: usize = 12;

    #[inline(always)]
    fn head(packet: &mut impl Packet) -> Result<&mut TcpHead<Self>, Short> {
        packet.head::<27>().map(TcpHead::over)
    }

    #[inline(always)]
    fn is_plain_tcp(head: &TcpHead<Self>) -> bool {
        head.version_ihl() == 0x45 && head.protocol() == PROTOCOL_TCP && !head.is_fragment()
    }

    #[inline(always)]
    fn header_is_sound(head: &TcpHead<Self>) -> bool {
        head.ip_sum() == 0xffff
    }

    #[inline(always)]
    fn source(head: &TcpHead<Self>) -> Be32 {
        be32(head.halfwords(), 26)
    }

    #[inline(always)]
    fn set_source(head: &mut TcpHead<Self>, address: Be32) {
        set_be32(head.halfwords_mut(), 26, address);
    }

    #[inline(always)]
    fn destination(head: &TcpHead<Self>) -> Be32 {
        be32(head.halfwords(), 30)
    }

    #[inline(always)]
    fn set_destination(head: &mut TcpHead<Self>, address: Be32) {
        set_be32(head.halfwords_mut(), 30, address);
    }

    #[inline(always)]
    fn ip_length(head: &TcpHead<Self>) -> u32 {
        head.total_length().get() as u32
    }

    #[inline(always)]
    fn hops(head: &TcpHead<Self>) -> u8 {
        head.ttl()
    }

    #[inline(always)]
    fn set_hops(head: &mut TcpHead<Self>, hops: u8) {
        head.set_ttl(hops);
    }

    #[inline(always)]
    fn change_header(head: &mut TcpHead<Self>, change: u16) {
        head.set_ip_checksum(Be16::from_raw(checksum::update(head.ip_checksum().raw(), change)));
    }

    #[inline(always)]
    fn make_bare(head: &mut TcpHead<Self>, hops: u8) {
        head.set_total_length(Be16::new((Self::IP + TCP) as u16));
        head.set_identification(Be16::default());
        head.set_fragment(DONT_FRAGMENT);
        head.set_ttl(hops);
        head.set_ip_checksum(Be16::default());
        head.set_ip_checksum(Be16::from_raw(!head.ip_sum()));
    }
}

impl TcpHead<V4> {
    field!(/// IP version and header length in 32-bit words.
        version_ihl / set_version_ihl : u8 at 14);
    field!(/// Length of the IP packet in bytes.
        total_length / set_total_length : be16 at 16);
    field!(/// Identification.
        identification / set_identification : be16 at 18);
    field!(/// Flags and fragment offset.
        fragment / set_fragment : be16 at 20);
    field!(/// Time to live.
        ttl / set_ttl : u8 at 22);
    field!(/// Protocol above IP.
        protocol / set_protocol : u8 at 23);
    field!(/// Header checksum.
        ip_checksum / set_ip_checksum : be16 at 24);

    /// Whether this packet is a piece of a larger one.
    #[inline(always)]
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment().get() & 0x3fff != 0
    }

    /// The sum over a header without options; 0xffff when its checksum is right.
    #[inline(always)]
    fn ip_sum(&self) -> u16 {
        let mut sum = 0;
        let mut at = ETHERNET / 2;
        while at < (ETHERNET + Self::IP) / 2 {
            sum += self.halfwords()[at] as u32;
            at += 1;
        }
        checksum::fold(sum)
    }
}

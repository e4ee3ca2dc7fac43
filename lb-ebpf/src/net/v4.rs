//! IPv4 (RFC 791) without options.

use super::checksum::{self, change32};
use super::family::{Address, Family};
use super::header::{CONGESTION, ETHERNET, TCP, TcpHead, be32, byte, field, set_be32, set_byte};
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
        let [first, second, ..] = self.wire();
        first != 0 && first != 127 && first < 224 && !(first == 169 && second == 254)
    }
}

impl Family for V4 {
    type Address = Be32;
    type Halfwords = [u16; 27];
    type Room = [u16; 43];
    type Ends = [u16; 6];

    const ETHERTYPE: Be16 = Be16::new(0x0800);
    const PLACE: usize = 0;
    const IP: usize = 20;
    const ICMP: u8 = 1;
    const TOO_BIG: [u8; 2] = [3, 4];
    const MTU_HALFWORDS: usize = 1;
    const LEAST_MTU: u32 = 552;
    /// Destination unreachable, time exceeded, parameter problem (RFC 792).
    const ERRORS: &'static [u8] = &[3, 11, 12];
    const HEADER_HAS_CHECKSUM: bool = true;
    const HOPS: usize = 8;
    const ADDRESSES: usize = 12;

    #[inline(always)]
    fn head(packet: &mut impl Packet) -> Result<&mut TcpHead<Self>, Short> {
        packet.head::<27>().map(TcpHead::over)
    }

    #[inline(always)]
    fn error_front(packet: &mut impl Packet) -> Result<&[u16], Short> {
        packet.head::<31>().map(|head| head.as_slice())
    }

    #[inline(always)]
    fn error_head(packet: &mut impl Packet) -> Result<&mut [u16], Short> {
        packet.head::<35>().map(|head| head.as_mut_slice())
    }

    #[inline(always)]
    fn error_head_with_checksum(packet: &mut impl Packet) -> Result<&mut [u16], Short> {
        packet.head::<40>().map(|head| head.as_mut_slice())
    }

    #[inline(always)]
    fn is_plain(halfwords: &[u16], at: usize, protocol: u8) -> bool {
        let fragment = Be16::from_raw(halfwords[at / 2 + 3]).get();
        byte(halfwords, at) == 0x45 && Self::protocol(halfwords, at) == protocol && fragment & 0x3fff == 0
    }

    #[inline(always)]
    fn protocol(halfwords: &[u16], at: usize) -> u8 {
        byte(halfwords, at + 9)
    }

    /// The sum over a header without options is 0xffff when its checksum is right.
    #[inline(always)]
    fn is_sound(halfwords: &[u16], at: usize) -> bool {
        ip_sum(halfwords, at) == 0xffff
    }

    #[inline(always)]
    fn source(halfwords: &[u16], at: usize) -> Be32 {
        be32(halfwords, at + 12)
    }

    #[inline(always)]
    fn set_source(halfwords: &mut [u16], at: usize, address: Be32) {
        set_be32(halfwords, at + 12, address);
    }

    #[inline(always)]
    fn destination(halfwords: &[u16], at: usize) -> Be32 {
        be32(halfwords, at + 16)
    }

    #[inline(always)]
    fn set_destination(halfwords: &mut [u16], at: usize, address: Be32) {
        set_be32(halfwords, at + 16, address);
    }

    #[inline(always)]
    fn length(halfwords: &[u16], at: usize) -> u32 {
        Be16::from_raw(halfwords[at / 2 + 1]).get() as u32
    }

    #[inline(always)]
    fn hops(halfwords: &[u16], at: usize) -> u8 {
        byte(halfwords, at + 8)
    }

    #[inline(always)]
    fn set_hops(halfwords: &mut [u16], at: usize, hops: u8) {
        set_byte(halfwords, at + 8, hops);
    }

    #[inline(always)]
    fn change(halfwords: &mut [u16], at: usize, change: u16) {
        halfwords[at / 2 + 5] = checksum::update(halfwords[at / 2 + 5], change);
    }

    #[inline(always)]
    fn make_bare(head: &mut TcpHead<Self>, hops: u8) {
        let [first, class] = head.first_of_ip();
        head.halfwords_mut()[ETHERNET / 2] = u16::from_ne_bytes([first, class & !CONGESTION]);
        head.set_total_length(Be16::new((Self::IP + TCP) as u16));
        head.set_identification(Be16::default());
        head.set_fragment(DONT_FRAGMENT);
        head.set_hops(hops);
        head.set_ip_checksum(Be16::default());
        head.set_ip_checksum(Be16::from_raw(!ip_sum(head.halfwords(), ETHERNET)));
    }
}

impl TcpHead<V4> {
    field!(/// Length of the IP packet in bytes.
        total_length / set_total_length : be16 at 16);
    field!(/// Identification.
        identification / set_identification : be16 at 18);
    field!(/// Flags and fragment offset.
        fragment / set_fragment : be16 at 20);
    field!(/// Header checksum.
        ip_checksum / set_ip_checksum : be16 at 24);
}

/// The sum over a header without options.
#[inline(always)]
fn ip_sum(halfwords: &[u16], at: usize) -> u16 {
    let mut sum = 0;
    let mut place = at / 2;
    while place < (at + V4::IP) / 2 {
        sum += halfwords[place] as u32;
        place += 1;
    }
    checksum::fold(sum)
}

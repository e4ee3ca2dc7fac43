//! ICMP errors of this node's own (RFC 792, RFC 4443): the packet that they are about becomes one to its sender.

use super::tunnel::{v4, v6};
use crate::net::checksum::fold;
use crate::net::header::{ETHERNET, TCP, set_mac};
use crate::net::{Address as _, Be16, Family, V4, V6};
use crate::packet::{Packet, Short};

/// An ICMP error.
pub struct Failure<A> {
    /// Where its receiver is.
    pub mac_to: [u8; 6],
    /// This node.
    pub mac_from: [u8; 6],
    /// Whose word it is.
    pub from: A,
    /// Type and code.
    pub kind: [u8; 2],
    /// The MTU of the next link, in bytes, where the error names one.
    pub mtu: u16,
}

/// An IP version whose senders can be told.
pub trait Told: Family {
    /// Type and code of the error about a packet that has no hop left.
    const TIME_EXCEEDED: [u8; 2];

    /// Turns a packet into the error that its sender gets.
    ///
    /// # Errors
    /// [`Short`] when the device cannot.
    fn tell(packet: &mut impl Packet, failure: &Failure<Self::Address>) -> Result<(), Short>;
}

/// Length of an error's header.
const ICMP: usize = 8;
/// Of the packet, as halfwords: of IPv4 its header and eight bytes, as little as RFC 792 asks for; of IPv6 its headers.
const ABOUT4: usize = (V4::IP + 8) / 2;
const ABOUT6: usize = (V6::IP + TCP) / 2;
/// Where the error begins in a frame.
const AT4: usize = (ETHERNET + V4::IP) / 2;
const AT6: usize = (ETHERNET + V6::IP) / 2;
/// A whole frame.
const FRAME4: usize = AT4 + ICMP / 2 + ABOUT4;
const FRAME6: usize = AT6 + ICMP / 2 + ABOUT6;

const DONT_FRAGMENT: u16 = 0x4000;

impl Told for V4 {
    const TIME_EXCEEDED: [u8; 2] = [11, 0];

    #[inline(always)]
    fn tell(packet: &mut impl Packet, failure: &Failure<Self::Address>) -> Result<(), Short> {
        let head = Self::head(packet)?;
        let mut frame = [0; FRAME4];
        ethernet::<Self>(&mut frame, failure.mac_to, failure.mac_from);
        let length = (2 * FRAME4 - ETHERNET) as u16;
        let words = [u16::from_ne_bytes([0x45, 0]), Be16::new(length).raw(), 0, Be16::new(DONT_FRAGMENT).raw()];
        v4::header(&mut frame, words, Self::ICMP, failure.from, head.source());
        frame[AT4] = u16::from_ne_bytes(failure.kind);
        frame[AT4 + 3] = Be16::new(failure.mtu).raw();
        let mut sum = frame[AT4] as u32 + frame[AT4 + 3] as u32;
        let mut at = 0;
        while at < ABOUT4 {
            let word = head.ip_halfword(at);
            frame[AT4 + ICMP / 2 + at] = word;
            sum += word as u32;
            at += 1;
        }
        frame[AT4 + 1] = !fold(sum);
        packet.replace(&frame)
    }
}

impl Told for V6 {
    const TIME_EXCEEDED: [u8; 2] = [3, 0];

    #[inline(always)]
    fn tell(packet: &mut impl Packet, failure: &Failure<Self::Address>) -> Result<(), Short> {
        let head = Self::head(packet)?;
        let mut frame = [0; FRAME6];
        ethernet::<Self>(&mut frame, failure.mac_to, failure.mac_from);
        let (from, to, length) = (failure.from, head.source(), 2 * (FRAME6 - AT6) as u16);
        v6::header(&mut frame, [0x60, 0], length, Self::ICMP, from, to);
        frame[AT6] = u16::from_ne_bytes(failure.kind);
        // The upper half of the MTU stays zero.
        frame[AT6 + 3] = Be16::new(failure.mtu).raw();
        // The pseudo-header is in the sum (RFC 8200 section 8.1).
        let mut sum =
            from.sum() + to.sum() + Be16::new(length).raw() as u32 + Be16::new(Self::ICMP as u16).raw() as u32;
        sum += frame[AT6] as u32 + frame[AT6 + 3] as u32;
        let mut at = 0;
        while at < ABOUT6 {
            let word = head.ip_halfword(at);
            frame[AT6 + ICMP / 2 + at] = word;
            sum += word as u32;
            at += 1;
        }
        frame[AT6 + 1] = !fold(sum);
        packet.replace(&frame)
    }
}

/// Writes an Ethernet header.
#[inline(always)]
pub(super) fn ethernet<F: Family>(frame: &mut [u16], to: [u8; 6], from: [u8; 6]) {
    set_mac(frame, 0, to);
    set_mac(frame, 6, from);
    frame[6] = F::ETHERTYPE.raw();
}

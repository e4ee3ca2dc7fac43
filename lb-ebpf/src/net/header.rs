//! Where the fields are in a frame of Ethernet, IP without options or extension headers, and TCP, and typed access to
//! them.
//!
//! Frames begin at an even address, so headers are read as halfwords: BPF has no unaligned loads to spare on the
//! stack, and byte by byte would cost twice as much.

use super::be::{Be16, Be32};
use super::checksum;
use super::family::{Address as _, Family};
use crate::packet::{Packet, Short};

/// Ethernet header, bytes.
pub const ETHERNET: usize = 14;
/// TCP header without options, bytes.
pub const TCP: usize = 20;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// The bits of a packet's class that routers set (RFC 3168 section 5).
pub(crate) const CONGESTION: u8 = 3;

/// TCP flags (RFC 9293 section 3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

macro_rules! field {
    ($(#[$doc:meta])* $get:ident / $set:ident : be16 at $at:expr) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> Be16 {
            Be16::from_raw(self.halfwords()[$at / 2])
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, value: Be16) {
            self.halfwords_mut()[$at / 2] = value.raw();
        }
    };
    ($(#[$doc:meta])* $get:ident / $set:ident : be32 at $at:expr) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> Be32 {
            be32(self.halfwords(), $at)
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, value: Be32) {
            set_be32(self.halfwords_mut(), $at, value);
        }
    };
    // The two bytes of a halfword are read and written together.
    ($(#[$doc:meta])* $get:ident / $set:ident : u8 at $at:expr) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> u8 {
            self.halfwords()[$at / 2].to_ne_bytes()[$at % 2]
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, value: u8) {
            let mut pair = self.halfwords()[$at / 2].to_ne_bytes();
            pair[$at % 2] = value;
            self.halfwords_mut()[$at / 2] = u16::from_ne_bytes(pair);
        }
    };
}
pub(super) use field;

#[inline(always)]
pub(super) fn be32(halfwords: &[u16], at: usize) -> Be32 {
    Be32::from_halves([halfwords[at / 2], halfwords[at / 2 + 1]])
}

#[inline(always)]
pub(super) fn set_be32(halfwords: &mut [u16], at: usize, value: Be32) {
    let [a, b, c, d] = value.wire();
    halfwords[at / 2] = u16::from_ne_bytes([a, b]);
    halfwords[at / 2 + 1] = u16::from_ne_bytes([c, d]);
}

#[inline(always)]
pub(crate) fn byte(halfwords: &[u16], at: usize) -> u8 {
    halfwords[at / 2].to_ne_bytes()[at % 2]
}

#[inline(always)]
pub(super) fn set_byte(halfwords: &mut [u16], at: usize, value: u8) {
    let mut pair = halfwords[at / 2].to_ne_bytes();
    pair[at % 2] = value;
    halfwords[at / 2] = u16::from_ne_bytes(pair);
}

/// Writes an Ethernet address at byte `at`.
#[inline(always)]
pub fn set_mac(halfwords: &mut [u16], at: usize, [a, b, c, d, e, f]: [u8; 6]) {
    halfwords[at / 2] = u16::from_ne_bytes([a, b]);
    halfwords[at / 2 + 1] = u16::from_ne_bytes([c, d]);
    halfwords[at / 2 + 2] = u16::from_ne_bytes([e, f]);
}

/// The EtherType of a frame; a VLAN tag stands here if there is one.
///
/// # Errors
/// [`Short`] when the frame ends earlier.
#[inline(always)]
pub fn ethertype(packet: &mut impl Packet) -> Result<Be16, Short> {
    Ok(Be16::from_raw(packet.head::<{ ETHERNET / 2 }>()?[6]))
}

/// A frame up to the end of the fixed part of the TCP header, seen as Ethernet, IP and TCP.
#[repr(transparent)]
pub struct TcpHead<F: Family>(F::Halfwords);

impl<F: Family> TcpHead<F> {
    /// Length of the IP header in bytes.
    pub const IP: usize = F::IP;
    /// Frame up to the end of the fixed part of the TCP header, bytes.
    pub const LENGTH: usize = ETHERNET + F::IP + TCP;
    /// Where the TCP checksum is in the frame, bytes.
    pub const CHECKSUM: usize = ETHERNET + F::IP + 16;

    /// Sees the bytes as headers.
    #[inline(always)]
    pub fn over(halfwords: &mut F::Halfwords) -> &mut Self {
        // SAFETY: `repr(transparent)` over exactly this array, so layout and alignment are the same.
        unsafe { &mut *core::ptr::from_mut(halfwords).cast::<Self>() }
    }

    #[inline(always)]
    pub(super) fn halfwords(&self) -> &[u16] {
        self.0.as_ref()
    }

    #[inline(always)]
    pub(super) fn halfwords_mut(&mut self) -> &mut [u16] {
        self.0.as_mut()
    }

    /// The protocol above IP, as the header claims.
    #[inline(always)]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        F::protocol(self.halfwords(), ETHERNET)
    }

    /// A halfword of the IP header and what follows it.
    #[inline(always)]
    pub(crate) fn ip_halfword(&self, at: usize) -> u16 {
        self.halfwords()[ETHERNET / 2 + at]
    }

    /// The first two bytes of the IP header.
    #[inline(always)]
    pub(crate) fn first_of_ip(&self) -> [u8; 2] {
        self.ip_halfword(0).to_ne_bytes()
    }

    /// Copies the IP and the TCP header out.
    #[inline(always)]
    pub(crate) fn copy_packet<const N: usize>(&self, into: &mut [u16; N]) {
        let halfwords = self.halfwords();
        let mut at = 0;
        while at < (F::IP + TCP) / 2 {
            into[at] = halfwords[ETHERNET / 2 + at];
            at += 1;
        }
    }

    /// Writes them.
    #[inline(always)]
    pub(crate) fn set_packet<const N: usize>(&mut self, from: &[u16; N]) {
        let halfwords = self.halfwords_mut();
        halfwords[6] = F::ETHERTYPE.raw();
        let mut at = 0;
        while at < (F::IP + TCP) / 2 {
            halfwords[ETHERNET / 2 + at] = from[at];
            at += 1;
        }
    }

    /// Ethernet destination.
    #[inline(always)]
    #[must_use]
    pub fn mac_destination(&self) -> [u8; 6] {
        self.mac(0)
    }

    /// Sets the same.
    #[inline(always)]
    pub fn set_mac_destination(&mut self, mac: [u8; 6]) {
        set_mac(self.halfwords_mut(), 0, mac);
    }

    /// Ethernet source.
    #[inline(always)]
    #[must_use]
    pub fn mac_source(&self) -> [u8; 6] {
        self.mac(6)
    }

    /// Sets the same.
    #[inline(always)]
    pub fn set_mac_source(&mut self, mac: [u8; 6]) {
        set_mac(self.halfwords_mut(), 6, mac);
    }

    #[inline(always)]
    fn mac(&self, at: usize) -> [u8; 6] {
        let halfwords = self.halfwords();
        let pair = |place: usize| halfwords[at / 2 + place].to_ne_bytes();
        let ([a, b], [c, d], [e, f]) = (pair(0), pair(1), pair(2));
        [a, b, c, d, e, f]
    }

    /// Whether the IP header is followed by the beginning of a TCP header.
    #[inline(always)]
    #[must_use]
    pub fn is_plain_tcp(&self) -> bool {
        F::is_plain(self.halfwords(), ETHERNET, PROTOCOL_TCP)
    }

    /// Whether the IP header is followed by ICMP.
    #[inline(always)]
    #[must_use]
    pub fn is_plain_icmp(&self) -> bool {
        F::is_plain(self.halfwords(), ETHERNET, F::ICMP)
    }

    /// Whether the IP header's checksum is right, where it has one.
    #[inline(always)]
    #[must_use]
    pub fn header_is_sound(&self) -> bool {
        F::is_sound(self.halfwords(), ETHERNET)
    }

    /// Source address.
    #[inline(always)]
    #[must_use]
    pub fn source(&self) -> F::Address {
        F::source(self.halfwords(), ETHERNET)
    }

    /// Sets the same.
    #[inline(always)]
    pub fn set_source(&mut self, address: F::Address) {
        F::set_source(self.halfwords_mut(), ETHERNET, address);
    }

    /// Destination address.
    #[inline(always)]
    #[must_use]
    pub fn destination(&self) -> F::Address {
        F::destination(self.halfwords(), ETHERNET)
    }

    /// Sets the same.
    #[inline(always)]
    pub fn set_destination(&mut self, address: F::Address) {
        F::set_destination(self.halfwords_mut(), ETHERNET, address);
    }

    /// Length of the IP packet in bytes, as the header claims.
    #[inline(always)]
    #[must_use]
    pub fn ip_length(&self) -> u32 {
        F::length(self.halfwords(), ETHERNET)
    }

    /// Hops left to live.
    #[inline(always)]
    #[must_use]
    pub fn hops(&self) -> u8 {
        F::hops(self.halfwords(), ETHERNET)
    }

    /// Sets the same.
    #[inline(always)]
    pub fn set_hops(&mut self, hops: u8) {
        F::set_hops(self.halfwords_mut(), ETHERNET, hops);
    }

    /// Adds to the complement of the IP header's checksum, where it has one.
    #[inline(always)]
    pub fn change_header(&mut self, change: u16) {
        F::change(self.halfwords_mut(), ETHERNET, change);
    }

    field!(/// Source port.
        source_port / set_source_port : be16 at (ETHERNET + F::IP));
    field!(/// Destination port.
        destination_port / set_destination_port : be16 at (ETHERNET + F::IP + 2));
    field!(/// Sequence number.
        sequence / set_sequence : be32 at ETHERNET + F::IP + 4);
    field!(/// Acknowledgement number.
        acknowledgement / set_acknowledgement : be32 at ETHERNET + F::IP + 8);
    field!(/// Data offset in 32-bit words (upper half) and reserved bits.
        data_offset / set_data_offset : u8 at (ETHERNET + F::IP + 12));
    field!(/// Flags.
        flags / set_flags : u8 at (ETHERNET + F::IP + 13));
    field!(/// Window.
        window / set_window : be16 at (ETHERNET + F::IP + 14));
    field!(/// Checksum.
        tcp_checksum / set_tcp_checksum : be16 at (ETHERNET + F::IP + 16));
    field!(/// Urgent pointer.
        urgent / set_urgent : be16 at (ETHERNET + F::IP + 18));

    /// TCP header length in bytes, as the header claims.
    #[inline(always)]
    #[must_use]
    pub fn tcp_header_length(&self) -> u32 {
        ((self.data_offset() >> 4) as u32) << 2
    }

    /// What the segment takes of the sequence space: data, SYN and FIN.
    ///
    /// Only meaningful when lengths have been checked.
    #[inline(always)]
    #[must_use]
    pub fn segment_length(&self) -> u32 {
        let data = self.ip_length().wrapping_sub(F::IP as u32).wrapping_sub(self.tcp_header_length());
        data.wrapping_add((self.flags() & flag::FIN != 0) as u32).wrapping_add((self.flags() & flag::SYN != 0) as u32)
    }

    /// Computes and sets the checksum of a TCP header without options or data, made here from nothing.
    #[inline(always)]
    pub fn seal_bare_tcp(&mut self) {
        self.set_tcp_checksum(Be16::default());
        let mut sum = self.bare_pseudo_header();
        sum += self.source_port().raw() as u32 + self.destination_port().raw() as u32;
        sum += checksum::halves(self.sequence().raw()) + checksum::halves(self.acknowledgement().raw());
        sum += Be16::from_wire([self.data_offset(), self.flags()]).raw() as u32;
        sum += self.window().raw() as u32 + self.urgent().raw() as u32;
        self.set_tcp_checksum(Be16::from_raw(!checksum::fold(sum)));
    }

    /// Sets what the checksum of such a header has to begin with where the device, or the stack in its place,
    /// finishes it: the sum over the pseudo-header, not complemented.
    #[inline(always)]
    pub fn open_bare_tcp(&mut self) {
        self.set_tcp_checksum(Be16::from_raw(checksum::fold(self.bare_pseudo_header())));
    }

    /// The same of a segment of `length` bytes, header included.
    #[inline(always)]
    pub fn open_tcp(&mut self, length: u16) {
        let sum = self.bare_pseudo_header() + checksum::change16(Be16::new(TCP as u16).raw(), Be16::new(length).raw());
        self.set_tcp_checksum(Be16::from_raw(checksum::fold(sum)));
    }

    /// The sum over the pseudo-header (RFC 9293 section 3.1; RFC 8200 section 8.1) of a TCP header without options or
    /// data.
    #[inline(always)]
    fn bare_pseudo_header(&self) -> u32 {
        self.source().sum()
            + self.destination().sum()
            + Be16::new(PROTOCOL_TCP as u16).raw() as u32
            + Be16::new(TCP as u16).raw() as u32
    }
}

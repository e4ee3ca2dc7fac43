//! Where the fields are in a frame of Ethernet, IPv4 without options and TCP, and typed access to them.
//!
//! Frames begin at an even address, so headers are read as halfwords: BPF has no unaligned loads to spare on the
//! stack, and byte by byte would cost twice as much.

use super::be::{Be16, Be32};
use super::checksum;

/// Ethernet header, bytes.
pub const ETHERNET: usize = 14;
/// IPv4 header without options, bytes.
pub const IPV4: usize = 20;
/// TCP header without options, bytes.
pub const TCP: usize = 20;
/// Frame up to the end of the IPv4 header.
pub const TO_IPV4: usize = ETHERNET + IPV4;
/// Frame up to the end of the fixed part of the TCP header.
pub const TO_TCP: usize = TO_IPV4 + TCP;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;

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
    ($(#[$doc:meta])* $get:ident / $set:ident : be16 at $at:literal) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> Be16 {
            Be16::from_raw(self.0[$at / 2])
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, value: Be16) {
            self.0[$at / 2] = value.raw();
        }
    };
    ($(#[$doc:meta])* $get:ident / $set:ident : be32 at $at:literal) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> Be32 {
            Be32::from_halves([self.0[$at / 2], self.0[$at / 2 + 1]])
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, value: Be32) {
            let [a, b, c, d] = value.wire();
            self.0[$at / 2] = u16::from_ne_bytes([a, b]);
            self.0[$at / 2 + 1] = u16::from_ne_bytes([c, d]);
        }
    };
    // The two bytes of a halfword are read and written together.
    ($(#[$doc:meta])* $get:ident / $set:ident : u8 at $at:literal) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> u8 {
            self.0[$at / 2].to_ne_bytes()[$at % 2]
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, value: u8) {
            let mut pair = self.0[$at / 2].to_ne_bytes();
            pair[$at % 2] = value;
            self.0[$at / 2] = u16::from_ne_bytes(pair);
        }
    };
    ($(#[$doc:meta])* $get:ident / $set:ident : mac at $at:literal) => {
        $(#[$doc])*
        #[inline(always)]
        #[must_use]
        pub fn $get(&self) -> [u8; 6] {
            let ([a, b], [c, d], [e, f]) =
                (self.0[$at / 2].to_ne_bytes(), self.0[$at / 2 + 1].to_ne_bytes(), self.0[$at / 2 + 2].to_ne_bytes());
            [a, b, c, d, e, f]
        }
        /// Sets the same.
        #[inline(always)]
        pub fn $set(&mut self, [a, b, c, d, e, f]: [u8; 6]) {
            self.0[$at / 2] = u16::from_ne_bytes([a, b]);
            self.0[$at / 2 + 1] = u16::from_ne_bytes([c, d]);
            self.0[$at / 2 + 2] = u16::from_ne_bytes([e, f]);
        }
    };
}

/// Halfwords of a frame up to the end of the IPv4 header.
pub const IPV4_HALFWORDS: usize = TO_IPV4 / 2;
/// Halfwords of a frame up to the end of the fixed part of the TCP header.
pub const TCP_HALFWORDS: usize = TO_TCP / 2;

/// The first [`TO_IPV4`] bytes of a frame, seen as Ethernet and IPv4.
#[repr(transparent)]
pub struct Ipv4Head([u16; IPV4_HALFWORDS]);

/// The first [`TO_TCP`] bytes of a frame, seen as Ethernet, IPv4 without options and TCP.
#[repr(transparent)]
pub struct TcpHead([u16; TCP_HALFWORDS]);

macro_rules! ethernet_and_ipv4 {
    ($name:ident, $len:expr) => {
        impl $name {
            /// Sees the bytes as headers.
            #[inline(always)]
            pub fn over(halfwords: &mut [u16; $len]) -> &mut Self {
                // SAFETY: `repr(transparent)` over exactly this array, so layout and alignment are the same.
                unsafe { &mut *core::ptr::from_mut(halfwords).cast::<Self>() }
            }

            field!(/// Ethernet destination.
                mac_destination / set_mac_destination : mac at 0);
            field!(/// Ethernet source.
                mac_source / set_mac_source : mac at 6);
            field!(/// EtherType; a VLAN tag stands here if there is one.
                ethertype / set_ethertype : be16 at 12);
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
            field!(/// Source address.
                source / set_source : be32 at 26);
            field!(/// Destination address.
                destination / set_destination : be32 at 30);

            /// Whether this packet is a piece of a larger one.
            #[inline(always)]
            #[must_use]
            pub fn is_fragment(&self) -> bool {
                self.fragment().get() & 0x3fff != 0
            }

            /// Whether the checksum of a header without options is right.
            #[inline(always)]
            #[must_use]
            pub fn ip_checksum_is_right(&self) -> bool {
                self.ip_sum() == 0xffff
            }

            /// The sum over a header without options; 0xffff when its checksum is right.
            #[inline(always)]
            fn ip_sum(&self) -> u16 {
                let mut sum = 0;
                let mut at = ETHERNET / 2;
                while at < TO_IPV4 / 2 {
                    sum += self.0[at] as u32;
                    at += 1;
                }
                checksum::fold(sum)
            }
        }
    };
}

ethernet_and_ipv4!(Ipv4Head, IPV4_HALFWORDS);
ethernet_and_ipv4!(TcpHead, TCP_HALFWORDS);

impl TcpHead {
    field!(/// Source port.
        source_port / set_source_port : be16 at 34);
    field!(/// Destination port.
        destination_port / set_destination_port : be16 at 36);
    field!(/// Sequence number.
        sequence / set_sequence : be32 at 38);
    field!(/// Acknowledgement number.
        acknowledgement / set_acknowledgement : be32 at 42);
    field!(/// Data offset in 32-bit words (upper half) and reserved bits.
        data_offset / set_data_offset : u8 at 46);
    field!(/// Flags.
        flags / set_flags : u8 at 47);
    field!(/// Window.
        window / set_window : be16 at 48);
    field!(/// Checksum.
        tcp_checksum / set_tcp_checksum : be16 at 50);
    field!(/// Urgent pointer.
        urgent / set_urgent : be16 at 52);

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
        let data = (self.total_length().get() as u32).wrapping_sub(IPV4 as u32).wrapping_sub(self.tcp_header_length());
        data.wrapping_add((self.flags() & flag::FIN != 0) as u32).wrapping_add((self.flags() & flag::SYN != 0) as u32)
    }

    /// Computes and sets the checksum of the IPv4 header.
    #[inline(always)]
    pub fn seal_ipv4(&mut self) {
        self.set_ip_checksum(Be16::default());
        self.set_ip_checksum(Be16::from_raw(!self.ip_sum()));
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

    /// The sum over the pseudo-header (RFC 9293 section 3.1) of a TCP header without options or data.
    #[inline(always)]
    fn bare_pseudo_header(&self) -> u32 {
        checksum::halves(self.source().raw())
            + checksum::halves(self.destination().raw())
            + Be16::new(PROTOCOL_TCP as u16).raw() as u32
            + Be16::new(TCP as u16).raw() as u32
    }
}

//! What the packet logic needs to know of an IP version, so that it is written once for both.

use core::fmt::Debug;
use core::hash::Hash;

use super::header::TcpHead;
use super::{Be16, Be128};
use crate::packet::{Packet, Short};

/// An address as packets carry it.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Default + Into<Be128> + 'static {
    /// The address of this version in a table of both; one of the other version gives nonsense, and no table mixes them.
    fn of(address: Be128) -> Self;

    /// What to add to the complement of a checksum when this address becomes `to`; at most eight halfwords' worth.
    fn change(self, to: Self) -> u32;

    /// The sum of its halfwords, as memory images.
    fn sum(self) -> u32;

    /// Whether a host can be reached by it: not unspecified, loopback, multicast or reserved, nor IPv4's own of a link, which
    /// go no further (RFC 3927 section 2.7). IPv6's are every host's, also towards other addresses on the link.
    fn is_a_hosts(self) -> bool;
}

/// An IP version: where its fields are in a frame of Ethernet, IP without options or extension headers, and TCP.
pub trait Family: Sized + Copy + Debug + 'static {
    /// Its addresses.
    type Address: Address;
    /// A frame up to the end of the fixed part of the TCP header.
    type Halfwords: AsRef<[u16]> + AsMut<[u16]> + Copy;
    /// The longest part of a frame that is looked at: an ICMP error inside an outer packet, up to the ports of the packet
    /// that it is about.
    type Room: AsRef<[u16]> + AsMut<[u16]> + Copy;
    /// Both addresses and both ports, which lie side by side.
    type Ends: AsRef<[u16]> + AsMut<[u16]> + Copy;

    /// Its EtherType.
    const ETHERTYPE: Be16;
    /// Its place where there is something for each version: IPv4 comes first.
    const PLACE: usize;
    /// Length of the IP header in bytes.
    const IP: usize;
    /// Whether the IP header has a checksum of its own, which makes up for every change in it.
    const HEADER_HAS_CHECKSUM: bool;
    /// Where the hops left to live are in the IP header, in bytes of which two are read and written together.
    const HOPS: usize;
    /// Where the addresses begin in the IP header, in bytes; the ports follow them.
    const ADDRESSES: usize;

    /// The head of a frame.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn head(packet: &mut impl Packet) -> Result<&mut TcpHead<Self>, Short>;

    /// The head of a frame with an ICMP error in it, up to the end of the IP header of the packet that the error is about.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn error_front(packet: &mut impl Packet) -> Result<&[u16], Short>;

    /// The head of a frame with an ICMP error in it: Ethernet, IP, ICMP, and of the packet that the error is about the IP
    /// header, the ports and the sequence number.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn error_head(packet: &mut impl Packet) -> Result<&mut [u16], Short>;

    /// The same up to the end of that packet's TCP checksum.
    ///
    /// # Errors
    /// [`Short`] when the frame ends earlier.
    fn error_head_with_checksum(packet: &mut impl Packet) -> Result<&mut [u16], Short>;

    /// Its ICMP, as a protocol above IP.
    const ICMP: u8;
    /// Type and code of the error that names the MTU of a link.
    const TOO_BIG: [u8; 2];
    /// Halfwords of that MTU, of which the last ends the header.
    const MTU_HALFWORDS: usize;
    /// The least MTU that an error may name: IPv6's own; for IPv4 what Linux goes down to (`net.ipv4.route.min_pmtu`).
    const LEAST_MTU: u32;
    /// Types of ICMP messages that are about a packet which did not arrive.
    const ERRORS: &'static [u8];

    // What follows is about an IP header that begins at byte `at` of these halfwords.

    /// Whether the header is followed by that of `protocol`.
    fn is_plain(halfwords: &[u16], at: usize, protocol: u8) -> bool;
    /// The protocol above IP.
    fn protocol(halfwords: &[u16], at: usize) -> u8;
    /// Whether the header's checksum is right, where it has one.
    fn is_sound(halfwords: &[u16], at: usize) -> bool;
    /// Source address.
    fn source(halfwords: &[u16], at: usize) -> Self::Address;
    /// Sets the same.
    fn set_source(halfwords: &mut [u16], at: usize, address: Self::Address);
    /// Destination address.
    fn destination(halfwords: &[u16], at: usize) -> Self::Address;
    /// Sets the same.
    fn set_destination(halfwords: &mut [u16], at: usize, address: Self::Address);
    /// Length of the IP packet in bytes, as the header claims.
    fn length(halfwords: &[u16], at: usize) -> u32;
    /// Hops left to live.
    fn hops(halfwords: &[u16], at: usize) -> u8;
    /// Sets the same, and no checksum.
    fn set_hops(halfwords: &mut [u16], at: usize, hops: u8);
    /// Adds to the complement of the header's checksum, where it has one.
    fn change(halfwords: &mut [u16], at: usize, change: u16);

    /// Makes the IP header that of a packet of our own with a TCP header and nothing else; addresses are set already. Its
    /// class stays, but for the bits that routers set (RFC 3168 section 6.1.5).
    fn make_bare(head: &mut TcpHead<Self>, hops: u8);
}

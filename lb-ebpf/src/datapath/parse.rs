//! What a frame is, before anything is done with it.

use super::tables::Tables;
use super::{Key, lease};
use crate::abi::{Node, Reason};
use crate::net::header::{ETHERNET, PROTOCOL_TCP, TCP, TcpHead, flag};
use crate::net::{Address as _, Be16, Be32, Be128, Family, V4, V6};
use crate::packet::Packet;

/// What is to be said of frames that are not plain TCP of an IP version.
pub trait Odd: Family {
    /// Everything that is not plain TCP to this node, or too short to tell.
    fn odd(packet: &mut impl Packet, tables: &impl Tables<Self>, node: &Node) -> Reason;

    /// Whether it asks or tells where an address is (RFC 4861), which IPv4 does by ARP.
    #[inline(always)]
    fn is_neighbour_discovery(_head: &TcpHead<Self>) -> bool {
        false
    }
}

/// A frame up to the end of the IP header, as halfwords.
const IPV4_HALFWORDS: usize = (ETHERNET + V4::IP) / 2;
const IPV6_HALFWORDS: usize = (ETHERNET + V6::IP) / 2;

impl Odd for V4 {
    #[inline(always)]
    fn odd(packet: &mut impl Packet, tables: &impl Tables<Self>, node: &Node) -> Reason {
        let Ok(head) = packet.head::<IPV4_HALFWORDS>() else {
            return Reason::Runt;
        };
        if !is_to(head, node) {
            return Reason::OtherMac;
        }
        if !tables.is_vip(Be32::from_halves([head[15], head[16]])) {
            return Reason::NotVip;
        }
        let [version_ihl, _] = head[7].to_ne_bytes();
        let [_, protocol] = head[11].to_ne_bytes();
        if version_ihl >> 4 != 4 {
            return Reason::IpVersion;
        }
        if version_ihl & 0xf < 5 {
            return Reason::IpHeaderLength;
        }
        if protocol != PROTOCOL_TCP {
            return Reason::NotTcp;
        }
        if Be16::from_raw(head[10]).get() & 0x3fff != 0 {
            return Reason::IpFragment;
        }
        if version_ihl & 0xf > 5 {
            return Reason::IpOptions;
        }
        Reason::TcpTruncated
    }
}

/// Headers between that of IPv6 and TCP (RFC 8200 section 4): hop by hop, routing, destination options, authentication.
const EXTENSIONS: [u8; 4] = [0, 43, 60, 51];
/// The fragment header.
const FRAGMENT: u8 = 44;
/// A frame up to the first halfword behind the IP header: an extension header begins with what comes next.
const EXTENSION_HALFWORDS: usize = IPV6_HALFWORDS + 1;

impl Odd for V6 {
    #[inline(always)]
    fn odd(packet: &mut impl Packet, tables: &impl Tables<Self>, node: &Node) -> Reason {
        let Ok(head) = packet.head::<IPV6_HALFWORDS>() else {
            return Reason::Runt;
        };
        if !is_to(head, node) {
            return Reason::OtherMac;
        }
        let word = |at: usize| Be32::from_halves([head[at], head[at + 1]]);
        let to = Be128::from_words([word(19), word(21), word(23), word(25)]);
        if to.mapped().is_some() || !tables.is_vip(to) {
            return Reason::NotVip;
        }
        let [version, _] = head[7].to_ne_bytes();
        let [next_header, _] = head[10].to_ne_bytes();
        if version >> 4 != 6 {
            return Reason::IpVersion;
        }
        let is_extension = |header: u8| header == FRAGMENT || EXTENSIONS.contains(&header);
        if next_header == PROTOCOL_TCP {
            return Reason::TcpTruncated;
        }
        if !is_extension(next_header) {
            return Reason::NotTcp;
        }
        // What is behind more than one of them is not looked for: it may be TCP.
        let behind = packet.head::<EXTENSION_HALFWORDS>().map(|head| head[IPV6_HALFWORDS].to_ne_bytes()[0]);
        match behind {
            Ok(behind) if behind != PROTOCOL_TCP && !is_extension(behind) => Reason::NotTcp,
            _ if next_header == FRAGMENT => Reason::IpFragment,
            _ => Reason::IpOptions,
        }
    }

    #[inline(always)]
    fn is_neighbour_discovery(head: &TcpHead<Self>) -> bool {
        let [kind, _] = head.source_port().wire();
        head.is_plain_icmp()
            && head.hops() == lease::HOP_LIMIT
            && matches!(kind, lease::SOLICITATION | lease::ADVERTISEMENT)
    }
}

#[inline(always)]
fn is_to<const N: usize>(head: &[u16; N], node: &Node) -> bool {
    let [a, b, c, d, e, f] = node.mac;
    let mac = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
    head[0] == mac[0] && head[1] == mac[1] && head[2] == mac[2]
}

/// What is wrong with a plain TCP packet to a VIP, if anything.
#[inline(always)]
pub(super) fn fault<F: Family>(head: &TcpHead<F>, length: usize) -> Option<Reason> {
    let total = head.ip_length() as usize;
    if total < F::IP + TCP || total + ETHERNET > length {
        return Some(Reason::IpTotalLength);
    }
    if !head.header_is_sound() {
        return Some(Reason::IpChecksum);
    }
    if head.hops() <= 1 {
        return Some(Reason::Ttl);
    }
    let header = head.tcp_header_length() as usize;
    if header < TCP || F::IP + header > total {
        return Some(Reason::TcpDataOffset);
    }
    let flags = head.flags();
    if flags & flag::SYN != 0 && flags & (flag::FIN | flag::RST) != 0 {
        return Some(Reason::TcpFlags);
    }
    None
}

/// Whether no host can have this source address; nobody behind the datapath would stop it.
#[inline(always)]
pub(super) fn is_martian<F: Family>(key: &Key<F>, tables: &impl Tables<F>) -> bool {
    !key.source.is_a_hosts() || key.source == key.destination || tables.is_vip(key.source)
}

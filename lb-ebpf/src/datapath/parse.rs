//! What a frame is, before anything is done with it.

use super::tables::Tables;
use crate::abi::{FlowKey, Node, Reason};
use crate::net::header::{ETHERNET, ETHERTYPE_IPV4, IPV4, IPV4_HALFWORDS, Ipv4Head, PROTOCOL_TCP, TCP, TcpHead, flag};
use crate::packet::Packet;

/// Whether the frame is for us and TCP sits where it sits without IP options and fragments.
#[inline(always)]
pub(super) fn is_plain_tcp(head: &TcpHead, node: &Node) -> bool {
    head.ethertype() == ETHERTYPE_IPV4
        && head.version_ihl() == 0x45
        && head.protocol() == PROTOCOL_TCP
        && !head.is_fragment()
        && head.mac_destination() == node.mac
}

/// Everything that is not plain TCP, or too short to tell.
#[inline(always)]
pub(super) fn odd(packet: &mut impl Packet, tables: &impl Tables, node: &Node) -> Reason {
    let Ok(halfwords) = packet.head::<IPV4_HALFWORDS>() else {
        return Reason::Runt;
    };
    let head = Ipv4Head::over(halfwords);
    if head.ethertype() != ETHERTYPE_IPV4 {
        return Reason::NotIpv4;
    }
    if head.mac_destination() != node.mac {
        return Reason::OtherMac;
    }
    if !tables.is_vip(head.destination()) {
        return Reason::NotVip;
    }
    let version_ihl = head.version_ihl();
    if version_ihl >> 4 != 4 {
        return Reason::IpVersion;
    }
    if version_ihl & 0xf < 5 {
        return Reason::IpHeaderLength;
    }
    if head.protocol() != PROTOCOL_TCP {
        return Reason::NotTcp;
    }
    if head.is_fragment() {
        return Reason::IpFragment;
    }
    if version_ihl & 0xf > 5 {
        return Reason::IpOptions;
    }
    Reason::TcpTruncated
}

/// What is wrong with a plain TCP packet to a VIP, if anything.
#[inline(always)]
pub(super) fn fault(head: &TcpHead, length: usize) -> Option<Reason> {
    let total = head.total_length().get() as usize;
    if total < IPV4 + TCP || total + ETHERNET > length {
        return Some(Reason::IpTotalLength);
    }
    if !head.ip_checksum_is_right() {
        return Some(Reason::IpChecksum);
    }
    if head.ttl() <= 1 {
        return Some(Reason::Ttl);
    }
    let header = head.tcp_header_length() as usize;
    if header < TCP || IPV4 + header > total {
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
pub(super) fn is_martian(key: &FlowKey, tables: &impl Tables) -> bool {
    let first = key.source.wire()[0];
    first == 0 || first == 127 || first >= 224 || key.source == key.destination || tables.is_vip(key.source)
}

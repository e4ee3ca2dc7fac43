//! Packets to nodes behind routers: the client's own packet inside an outer one (IP in IP, RFC 2003).
//!
//! ```text
//! balancer -> backend's node ( client:cp -> VIP:vp )
//! ```
//! The outer packet may be fragmented where the inner one may, and carries its traffic class. What is longer than the
//! interface takes with 20 bytes more is answered as a router does. At the other end only packets for a service with a
//! backend there are taken out, and only from nodes that the agent knows.

use super::parse::Odd as _;
use super::tables::Tables;
use crate::abi::{Endpoint, Node, Reason, node_flag};
use crate::net::checksum::{fold, halves};
use crate::net::header::{ETHERNET, PROTOCOL_TCP, TcpHead};
use crate::net::{Address as _, Be16, Be32, Family, V4};
use crate::packet::Packet;

/// Bytes of the outer header.
pub const OUTER: usize = 20;
/// Ethernet and the outer header, as halfwords.
pub const FRONT: usize = (ETHERNET + OUTER) / 2;
/// The same, the inner header, and the ports.
pub const BOTH: usize = FRONT + 12;
/// An ICMP error about a packet, as halfwords: Ethernet, IP, ICMP, and of the packet its header and eight bytes.
pub const ERROR: usize = (ETHERNET + 20 + 8 + 28) / 2;

/// Protocol number of IPv4 inside IP.
const PROTOCOL_IPV4: u8 = 4;
const PROTOCOL_ICMP: u8 = 1;
const HOPS: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;

/// Whether the frame may be an outer packet for this node, as far as a packet's head tells.
#[inline(always)]
pub(super) fn may_be_outer<F: Family>(head: &TcpHead<F>, node: &Node) -> bool {
    F::ETHERTYPE == V4::ETHERTYPE
        && node.flags & node_flag::DELIVERS_ONLY != 0
        && node.address != Be32::default()
        && head.protocol_of_ipv4() == PROTOCOL_IPV4
        && head.mac_destination() == node.mac
}

/// Whether a frame that [`may_be_outer`] holds a packet that is to be taken out.
#[inline(always)]
pub fn is_ours(front: &[u16; BOTH], tables: &impl Tables<V4>) -> bool {
    let byte = |at: usize| front[at / 2].to_ne_bytes()[at % 2];
    let address = |at: usize| Be32::from_halves([front[at / 2], front[at / 2 + 1]]);
    let is_plain = |at: usize, protocol: u8| {
        byte(at) == 0x45 && byte(at + 9) == protocol && Be16::from_raw(front[at / 2 + 3]).get() & 0x3fff == 0
    };
    let inner = ETHERNET + OUTER;
    if !is_plain(ETHERNET, PROTOCOL_IPV4) || !is_plain(inner, PROTOCOL_TCP) {
        return false;
    }
    let listener = Endpoint::new(address(inner + 16).into(), Be16::from_raw(front[inner / 2 + 11]));
    // The backend's own address, of which a node may have several.
    let own = tables.service(&listener).and_then(|service| tables.backend(service.own.checked_sub(1)?));
    own.is_some_and(|own| own.endpoint.address == address(ETHERNET + 16).into())
        && tables.is_tunnel(address(ETHERNET + 12))
}

/// Takes the inner packet out; a reason if there is none for this node.
#[inline(always)]
pub fn unwrap(packet: &mut impl Packet, tables: &impl Tables<V4>) -> Option<Reason> {
    let Some(node) = tables.node() else {
        return Some(Reason::NotConfigured);
    };
    let is_ours = packet.head::<BOTH>().is_ok_and(|front| is_ours(front, tables));
    if !is_ours {
        return Some(V4::odd(packet, tables, node));
    }
    packet.pull().err().map(|_| Reason::CannotReply)
}

/// Puts a packet that has been rewritten for its backend into an outer one. `segments`: it is many in one, which the
/// kernel will cut to fit.
///
/// # Errors
/// What becomes of it instead.
#[inline(always)]
pub fn wrap(packet: &mut impl Packet, tables: &impl Tables<V4>, segments: bool) -> Result<(), Reason> {
    let (Some(node), Ok(head)) = (tables.node(), V4::head(packet)) else {
        return Err(Reason::NotConfigured);
    };
    let key = super::key(head);
    let Some(flow) = tables.established(&key).or_else(|| tables.half_open(&key)) else {
        return Err(Reason::NoNeighbour);
    };
    let Some(backend) = tables.backend(flow.backend as u32) else {
        return Err(Reason::NoNeighbour);
    };
    let (length, fragment) = (head.total_length().get() as u32 + OUTER as u32, head.fragment().get() & DONT_FRAGMENT);
    if length > 0xffff || !segments && node.mtu != 0 && length > node.mtu as u32 {
        if fragment == 0 || !tables.spend_reset(tables.now(), node.resets_per_second) {
            return Err(Reason::TunnelTooBig);
        }
        let error = error(head, node, flow.mac());
        return Err(match packet.replace(&error) {
            Ok(()) => Reason::FragmentationNeeded,
            Err(_) => Reason::CannotReply,
        });
    }
    let identification = if fragment == 0 { tables.random() as u16 } else { 0 };
    let mut front = [0; FRONT];
    ethernet(&mut front, head.mac_destination(), node.mac);
    let [_, class] = head.first_of_ip();
    // Without the two bits of congestion, which nobody would carry over at the other end (RFC 6040 section 4.1).
    let first = u16::from_ne_bytes([0x45, class & 0xfc]);
    let words = [first, Be16::new(length as u16).raw(), Be16::new(identification).raw(), Be16::new(fragment).raw()];
    header(&mut front, words, PROTOCOL_IPV4, node.address, Be32::of(backend.endpoint.address));
    packet.push(&front).map_err(|_| Reason::CannotReply)
}

/// "Fragmentation needed" about a packet, from this node to the packet's sender.
#[inline(always)]
fn error(head: &TcpHead<V4>, node: &Node, mac: [u8; 6]) -> [u16; ERROR] {
    let mut frame = [0; ERROR];
    ethernet(&mut frame, mac, node.mac);
    let length = (2 * ERROR - ETHERNET) as u16;
    let words = [u16::from_ne_bytes([0x45, 0]), Be16::new(length).raw(), 0, Be16::new(DONT_FRAGMENT).raw()];
    header(&mut frame, words, PROTOCOL_ICMP, node.address, head.source());
    frame[17] = u16::from_ne_bytes([3, 4]);
    frame[20] = Be16::new(node.mtu.saturating_sub(OUTER as u16)).raw();
    let mut sum = frame[17] as u32 + frame[20] as u32;
    let mut at = 0;
    while at < 14 {
        let word = head.ip_halfword(at);
        frame[21 + at] = word;
        sum += word as u32;
        at += 1;
    }
    frame[18] = !fold(sum);
    frame
}

#[inline(always)]
fn ethernet<const N: usize>(frame: &mut [u16; N], to: [u8; 6], from: [u8; 6]) {
    let pairs = |[a, b, c, d, e, f]: [u8; 6]| [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
    let (to, from) = (pairs(to), pairs(from));
    (frame[0], frame[1], frame[2]) = (to[0], to[1], to[2]);
    (frame[3], frame[4], frame[5]) = (from[0], from[1], from[2]);
    frame[6] = V4::ETHERTYPE.raw();
}

/// Writes an IPv4 header behind Ethernet's: its first four words, and what is always so.
#[inline(always)]
fn header<const N: usize>(frame: &mut [u16; N], first: [u16; 4], protocol: u8, from: Be32, to: Be32) {
    let fifth = u16::from_ne_bytes([HOPS, protocol]);
    (frame[7], frame[8], frame[9], frame[10], frame[11]) = (first[0], first[1], first[2], first[3], fifth);
    let sum = first[0] as u32 + first[1] as u32 + first[2] as u32 + first[3] as u32 + fifth as u32;
    frame[12] = !fold(sum + halves(from.raw()) + halves(to.raw()));
    let ([a, b, c, d], [e, f, g, h]) = (from.wire(), to.wire());
    (frame[13], frame[14]) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
    (frame[15], frame[16]) = (u16::from_ne_bytes([e, f]), u16::from_ne_bytes([g, h]));
}

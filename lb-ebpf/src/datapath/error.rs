//! ICMP errors about packets that this node has rewritten (RFC 792, RFC 4443): "packet too big" above all, without which
//! a smaller MTU on the way swallows connections. Whoever sent the packet gets the error, about the packet it sent.
//!
//! ```text
//! router -> VIP ( VIP:vp -> client:cp )    becomes    VIP -> backend ( backend:bp -> VIP:sp )
//! router -> VIP ( VIP:sp -> backend:bp )   becomes    VIP -> client  ( client:cp -> VIP:vp )
//! ```
//! An error about a packet that no VIP can have sent, or too little of it, is dropped: the packets above have no options, are no
//! fragments, and come from the address that the error is sent to. What is not about TCP is the host's.
//!
//! Receivers believe an error only if the sequence number in it is one they have under way (RFC 5927 section 4); what is far
//! from that, or names an MTU that no path has, goes no further.

use super::tables::Tables;
use super::{Handled, Key, Step, backend_of, client_mac, retry, rewrite, track};
use crate::abi::{FlowKey, Readable as _, Reason};
use crate::net::checksum::{change16, fold, update};
use crate::net::header::{ETHERNET, PROTOCOL_TCP, set_mac};
use crate::net::{Address as _, Be16, Be32, Family};
use crate::packet::Packet;

/// Decides about a frame that is an ICMP error by its first look.
#[inline(always)]
pub fn error<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let length = packet.len();
    let Some(node) = tables.node() else {
        return Step::End(Reason::NotConfigured);
    };
    // All that may be changed has to be read before anything is.
    let has_checksum = F::error_head_with_checksum(packet).is_ok();
    let Ok(head) = F::error_head(packet) else {
        let is_ours = F::error_front(packet).is_ok_and(|head| is_about_tcp::<F>(head, length, tables));
        return Step::End(if is_ours { Reason::IcmpInner } else { F::odd(packet, tables, node) });
    };
    if !is_about_tcp::<F>(head, length, tables) {
        return Step::End(F::odd(packet, tables, node));
    }
    let (ip, icmp, inner) = (ETHERNET, ETHERNET + F::IP, ETHERNET + F::IP + ICMP);
    let outer_length = F::length(head, ip) as usize;
    let to = F::destination(head, ip);
    let (ports, key) = (inner + F::IP, answer_to::<F>(head, inner));
    if !F::is_plain(head, inner, PROTOCOL_TCP)
        || outer_length < inner + F::IP + PORTS_AND_SEQUENCE - ETHERNET
        || key.destination != to
    {
        return Step::End(Reason::IcmpInner);
    }
    let established = tables.established(&key);
    let is_established = established.is_some();
    let Some(flow) = established.or_else(|| tables.half_open(&key)) else {
        return Step::End(F::odd(packet, tables, node));
    };
    let mtu = icmp / 2 + 4 - F::MTU_HALFWORDS;
    let mtu = (mtu..icmp / 2 + 4).fold(0, |mtu, at| mtu << 16 | Be16::from_raw(head[at]).get() as u32);
    let names_mtu = head[icmp / 2].to_ne_bytes() == F::TOO_BIG;
    let sequence = Be32::from_halves([head[ports / 2 + 2], head[ports / 2 + 3]]).get();
    // Of a handshake too little is known; its packets are few and small.
    let was_under_way = !is_established || track::is_near(sequence, flow.acknowledged.get());
    if names_mtu && mtu < F::LEAST_MTU || !was_under_way {
        return Step::End(Reason::IcmpForged);
    }
    let [kind, code] = head[icmp / 2].to_ne_bytes();
    if kind == F::ERRORS[0] && !(F::HEADER_HAS_CHECKSUM && code == FRAGMENTATION_NEEDED) && !flow.is_from_client() {
        let client = flow.other();
        if retry::is_waiting::<F>(tables, &key, &client) {
            return Step::End(Reason::Refused);
        }
    }
    let hops = F::hops(head, ip);
    if hops <= 1 {
        return Step::End(Reason::Ttl);
    }
    let mac = if flow.is_local() {
        Some(node.mac)
    } else if flow.is_from_client() {
        backend_of(tables, flow).and_then(|backend| rewrite::backend_mac(tables, node, backend, to, 0))
    } else {
        client_mac(tables, node, flow, 0, tables.now())
    };
    let Some(mac) = mac else {
        return Step::End(Reason::NoNeighbour);
    };
    if !tables.spend_error(tables.now()) {
        return Step::End(Reason::IcmpLimit);
    }
    let mut outer_change = 0;
    if !flow.is_local() {
        set_mac(head, 0, mac);
        set_mac(head, 6, node.mac);
        F::set_hops(head, ip, hops.wrapping_sub(1));
        // TTL is the upper half of its word, so one less is 0x0100 less.
        F::change(head, ip, fold(change16(Be16::new(0x0100).raw(), 0)));
        if flow.is_direct() {
            // The backend's own node translates.
            return if flow.is_tunnelled() { Step::Wrap(Reason::IcmpError) } else { Step::End(Reason::IcmpError) };
        }
        // It comes from nobody that its receiver knows; whoever it believes to speak with is.
        outer_change += F::source(head, ip).change(flow.translated.source);
        F::set_source(head, ip, flow.translated.source);
    }
    // Who sent that packet, and to whom, is the reverse of what the answer becomes.
    let sent = &flow.translated;
    outer_change += to.change(sent.destination);
    F::set_destination(head, ip, sent.destination);
    F::change(head, ip, fold(outer_change));
    let inner_change = key.destination.change(sent.destination) + key.source.change(sent.source);
    F::set_source(head, inner, sent.destination);
    F::set_destination(head, inner, sent.source);
    F::change(head, inner, fold(inner_change));
    let ports_change = change16(key.destination_port.raw(), sent.destination_port.raw())
        + change16(key.source_port.raw(), sent.source_port.raw());
    head[ports / 2] = sent.destination_port.raw();
    head[ports / 2 + 1] = sent.source_port.raw();
    // An IPv4 header's own checksum makes up for its addresses; IPv6's are in the sum, and in the pseudo-header too.
    let addresses = if F::HEADER_HAS_CHECKSUM { 0 } else { fold(outer_change + inner_change) as u32 };
    let checksum = icmp / 2 + 1;
    head[checksum] = update(head[checksum], fold(addresses + ports_change));
    if has_checksum
        && outer_length + ETHERNET >= ports + TCP_CHECKSUM + 2
        && let Ok(head) = F::error_head_with_checksum(packet)
    {
        let at = (ports + TCP_CHECKSUM) / 2;
        let now = update(head[at], fold(fold(inner_change) as u32 + ports_change));
        head[checksum] = update(head[checksum], fold(change16(head[at], now)));
        head[at] = now;
    }
    Step::End(if flow.is_local() { Reason::IcmpErrorLocal } else { Reason::IcmpError })
}

/// Whether the frame that begins so is a sound ICMP error to a VIP about a packet of TCP, as that says of itself.
#[inline(always)]
fn is_about_tcp<F: Family>(head: &[u16], length: usize, tables: &impl Tables<F>) -> bool {
    let (ip, icmp, inner) = (ETHERNET, ETHERNET + F::IP, ETHERNET + F::IP + ICMP);
    let claimed = F::length(head, ip) as usize;
    F::ERRORS.contains(&head[icmp / 2].to_ne_bytes()[0])
        && F::is_plain(head, ip, F::ICMP)
        && F::is_sound(head, ip)
        && F::protocol(head, inner) == PROTOCOL_TCP
        && claimed >= inner + F::IP - ETHERNET
        && claimed + ETHERNET <= length
        && tables.is_vip(F::destination(head, ip))
}

/// The key of what answers a TCP packet that begins at byte `at`.
#[inline(always)]
pub(super) fn answer_to<F: Family>(head: &[u16], at: usize) -> Key<F> {
    let ports = (at + F::IP) / 2;
    FlowKey {
        source: F::destination(head, at),
        destination: F::source(head, at),
        source_port: Be16::from_raw(head[ports + 1]),
        destination_port: Be16::from_raw(head[ports]),
    }
}

/// The code of "unreachable" that is about a packet's length (RFC 1191), in IPv4.
const FRAGMENTATION_NEEDED: u8 = 4;
/// Length of an ICMP error's header.
pub(super) const ICMP: usize = 8;
/// What an error has of TCP at least: ports and sequence number.
const PORTS_AND_SEQUENCE: usize = 8;
/// Where the checksum is in a TCP header.
const TCP_CHECKSUM: usize = 16;

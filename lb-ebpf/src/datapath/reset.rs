//! Answers with RST (RFC 9293 section 3.5.2), so that a peer starts again instead of waiting.

use super::tables::Tables;
use crate::abi::{Node, Reason};
use crate::net::Be16;
use crate::net::Be32;
use crate::net::header::{IPV4, TCP, TCP_HALFWORDS, TO_TCP, TcpHead, flag};
use crate::packet::Packet;

/// Time to live of our own packets.
const TTL: u8 = 64;
/// The "don't fragment" bit: the answer is never longer than a header.
const DONT_FRAGMENT: Be16 = Be16::new(0x4000);

/// Turns a checked packet into the RST its sender must get for `reason`, within this second's budget.
#[inline(always)]
pub(super) fn answer(packet: &mut impl Packet, tables: &impl Tables, reason: Reason) -> Reason {
    let Some(node) = tables.node() else {
        return Reason::CannotReply;
    };
    let Ok(halfwords) = packet.head::<TCP_HALFWORDS>() else {
        return Reason::CannotReply;
    };
    let head = TcpHead::over(halfwords);
    // A RST is never answered, or two hosts could go on for ever.
    if head.flags() & flag::RST != 0 {
        return Reason::StrayReset;
    }
    if !tables.spend_reset(tables.now(), node.resets_per_second) {
        return Reason::ResetLimit;
    }
    turn(head, node);
    match packet.truncate(TO_TCP) {
        Ok(()) => reason,
        Err(_) => Reason::CannotReply,
    }
}

#[inline(always)]
fn turn(head: &mut TcpHead, node: &Node) {
    let (source, destination) = (head.source(), head.destination());
    let (source_port, destination_port) = (head.source_port(), head.destination_port());
    let (sequence, acknowledgement, flags) = if head.flags() & flag::ACK != 0 {
        (head.acknowledgement(), Be32::default(), flag::RST)
    } else {
        let next = head.sequence().get().wrapping_add(head.segment_length());
        (Be32::default(), Be32::new(next), flag::RST | flag::ACK)
    };
    head.set_mac_destination(head.mac_source());
    head.set_mac_source(node.mac);
    head.set_total_length(Be16::new((IPV4 + TCP) as u16));
    head.set_identification(Be16::default());
    head.set_fragment(DONT_FRAGMENT);
    head.set_ttl(TTL);
    head.set_source(destination);
    head.set_destination(source);
    head.set_source_port(destination_port);
    head.set_destination_port(source_port);
    head.set_sequence(sequence);
    head.set_acknowledgement(acknowledgement);
    head.set_data_offset(((TCP / 4) as u8) << 4);
    head.set_flags(flags);
    head.set_window(Be16::default());
    head.set_urgent(Be16::default());
    head.seal_ipv4();
    head.seal_bare_tcp();
}

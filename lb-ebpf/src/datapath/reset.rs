//! Answers with RST (RFC 9293 section 3.5.2), so that a peer starts again instead of waiting.
//!
//! In the same part: what has no hop left is answered as a router does ([`expired`](super::expired)).

use super::tables::Tables;
use super::{Handled, expired, parse};
use crate::abi::{Node, Reason};
use crate::net::header::{TCP, TcpHead, flag};
use crate::net::{Be16, Be32, Family};
use crate::packet::Packet;

/// Hops that our own packets may live.
const HOPS: u8 = 64;

/// The last part: turns a checked packet into what its sender must get for the reason of this number, within this second's
/// budget; another reason if it does not get that.
#[inline(always)]
pub fn answer<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>, reason: u32) -> Option<Reason> {
    if reason == Reason::TimeExceeded as u32 {
        return expired::expired(packet, tables);
    }
    let length = packet.len();
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Some(Reason::CannotReply);
    };
    // Read anew, and whoever shares its memory may have changed it.
    if let Some(fault) = parse::fault(head, length) {
        return Some(fault);
    }
    // A RST is never answered, or two hosts could go on for ever.
    if head.flags() & flag::RST != 0 {
        return Some(Reason::StrayReset);
    }
    if !tables.spend_reset(tables.now(), node.resets_per_second) {
        return Some(Reason::ResetLimit);
    }
    turn(head, node);
    match packet.truncate(TcpHead::<F>::LENGTH) {
        Ok(()) => None,
        Err(_) => Some(Reason::CannotReply),
    }
}

#[inline(always)]
fn turn<F: Family>(head: &mut TcpHead<F>, node: &Node) {
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
    head.set_source(destination);
    head.set_destination(source);
    F::make_bare(head, HOPS);
    head.set_source_port(destination_port);
    head.set_destination_port(source_port);
    head.set_sequence(sequence);
    head.set_acknowledgement(acknowledgement);
    head.set_data_offset(((TCP / 4) as u8) << 4);
    head.set_flags(flags);
    head.set_window(Be16::default());
    head.set_urgent(Be16::default());
    head.seal_bare_tcp();
}

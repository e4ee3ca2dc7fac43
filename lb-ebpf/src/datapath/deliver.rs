//! Backends that answer the client themselves: this node's own, and those of nodes that translate for themselves.
//!
//! A node never forwards what another has forwarded to it: whatever the two believe about who holds the VIP, a packet
//! makes one such hop at most.

use super::tables::Tables;
use super::{open, rewrite, track};
use crate::abi::{Backend, FlowKey, Node, Reason, Service, SharedFlow, node_flag};
use crate::net::header::{ETHERTYPE_IPV4, PROTOCOL_TCP, TCP_HALFWORDS, TcpHead};
use crate::packet::Packet;

/// Decides about a frame that leaves the host's own stack: an answer of its own backend gets the VIP for its source.
///
/// Everything else passes unchanged.
#[inline(always)]
pub fn leave(packet: &mut impl Packet, tables: &impl Tables) -> Reason {
    let length = packet.len();
    let Ok(halfwords) = packet.head::<TCP_HALFWORDS>() else {
        return Reason::NotVip;
    };
    let head = TcpHead::over(halfwords);
    let is_tcp = head.ethertype() == ETHERTYPE_IPV4
        && head.version_ihl() == 0x45
        && head.protocol() == PROTOCOL_TCP
        && !head.is_fragment();
    if !is_tcp {
        return Reason::NotVip;
    }
    let key = FlowKey {
        source: head.source(),
        destination: head.destination(),
        source_port: head.source_port(),
        destination_port: head.destination_port(),
    };
    let answers = |flow: &&SharedFlow| flow.is_local() && !flow.is_from_client();
    if let Some(flow) = tables.established(&key).filter(answers) {
        track::follow(head, tables, &key, flow, tables.now());
        rewrite::deliver(head, flow);
        tables.count_out(flow.backend as u32, length as u64);
        return Reason::FromLocal;
    }
    match tables.half_open(&key).filter(answers) {
        Some(half) => open::from_local(head, tables, &key, half, tables.now()),
        None => Reason::NotVip,
    }
}

/// The backend for a new flow that another node has chosen this one for.
#[inline(always)]
pub(super) fn own<'a>(tables: &'a impl Tables, service: &Service) -> Option<(u32, &'a Backend)> {
    let slot = service.own.checked_sub(1)?;
    Some((slot, tables.backend(slot)?))
}

/// Whether another node has forwarded this packet, rather than sent it: a client behind that node is answered there.
#[inline(always)]
pub(super) fn is_forwarded(head: &TcpHead, tables: &impl Tables, node: &Node, key: &FlowKey) -> bool {
    if node.flags & node_flag::DELIVERS_ONLY != 0 {
        return true;
    }
    let from = head.mac_source();
    tables.is_fellow(from)
        && (node.flags & node_flag::FIB == 0
            || tables.next_hop(key.destination, key.source, head.total_length().get()) != Some(from))
}

//! Backends that answer the client themselves: this node's own, and those of nodes that translate for themselves.
//!
//! A node never forwards what another has forwarded to it: whatever the two believe about who holds the VIP, a packet
//! makes one such hop at most.

use super::tables::Tables;
use super::{Entry, Key, Step, open, retry, rewrite, track};
use crate::abi::{Delivery, Node, Reason, Service, node_flag};
use crate::net::Family;
use crate::net::header::TcpHead;
use crate::packet::Packet;

/// Decides about a frame of this IP version that leaves the host's own stack: an answer of its own backend gets the VIP
/// for its source.
///
/// Everything else passes unchanged, as [`Reason::NotVip`]. A refusal is [`Step::Retry`].
#[inline(always)]
pub fn leave<F: Family>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let length = packet.len();
    let Ok(head) = F::head(packet) else {
        return Step::End(Reason::NotVip);
    };
    if !head.is_plain_tcp() {
        return Step::End(Reason::NotVip);
    }
    let key = super::key(head);
    // What a VIP that another node has now would be sent to is on its way there.
    let answers = |flow: &&Entry<F>| flow.is_local() && !flow.is_from_client() && !flow.is_homed(&key);
    if let Some(flow) = tables.established(&key).filter(answers) {
        track::follow(head, tables, &key, flow, tables.now());
        rewrite::deliver(head, flow);
        tables.count_out(flow.backend as u32, length as u64);
        return Step::End(Reason::FromLocal);
    }
    let (Some(half), Some(node)) = (tables.half_open(&key).filter(answers), tables.node()) else {
        return Step::End(Reason::NotVip);
    };
    if retry::is_due(head, tables, node, &key, half) {
        return Step::Retry;
    }
    Step::End(open::from_local(head, tables, &key, half, tables.now()))
}

/// The same for a frame that leaves by the loopback interface: an answer to a VIP of this node, from a backend whose flow
/// was opened through another node, goes to the client. It is of an established flow, or none of ours.
#[inline(always)]
pub fn leave_home<F: Family>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let length = packet.len();
    let Ok(head) = F::head(packet) else {
        return Step::End(Reason::NotVip);
    };
    if !head.is_plain_tcp() {
        return Step::End(Reason::NotVip);
    }
    let key = super::key(head);
    let Some(flow) = tables.established(&key).filter(|flow| !flow.is_from_client() && flow.is_homed(&key)) else {
        return Step::End(Reason::NotVip);
    };
    track::follow(head, tables, &key, flow, tables.now());
    rewrite::deliver(head, flow);
    tables.count_out(flow.backend as u32, length as u64);
    Step::End(Reason::FromLocal)
}

/// The backend for a new flow that another node has chosen this one for.
#[inline(always)]
pub(super) fn own<F: Family>(tables: &impl Tables<F>, service: &Service) -> Option<u32> {
    let slot = service.own.checked_sub(1)?;
    tables.backend(slot).map(|_| slot)
}

/// Whether a packet that keeps its addresses would go back to where it has come from, which would send it here again.
#[inline(always)]
pub(super) fn is_back<F: Family>(head: &TcpHead<F>, delivery: Delivery, mac: [u8; 6]) -> bool {
    delivery as u16 == Delivery::Direct as u16 && mac == head.mac_source()
}

/// Whether another node has forwarded this packet, rather than sent it: a client behind that node is answered there.
#[inline(always)]
pub(super) fn is_forwarded<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>) -> bool {
    if node.flags & node_flag::DELIVERS_ONLY != 0 {
        return true;
    }
    let from = head.mac_source();
    tables.is_fellow(from)
        && (node.flags & node_flag::FIB == 0
            || tables.next_hop(key.destination, key.source, head.ip_length() as u16) != Some(from))
}

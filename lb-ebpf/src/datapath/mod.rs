//! The story of a packet, top-down: recognise it, find its flow or make one, rewrite it.
//!
//! ```text
//! client:cp -> VIP:vp          rewritten to  VIP:sp -> backend:bp      (entry ToBackend)
//! backend:bp -> VIP:sp         rewritten to  VIP:vp -> client:cp       (entry ToClient)
//! ```
//!
//! Packets of both directions are sent to a VIP, so everything else is left alone after one look. A backend that is
//! this node itself answers from inside, and is met where its packets leave ([`leave`]):
//!
//! ```text
//! client:cp -> VIP:vp          rewritten to  client:sp -> node:bp      (entry ToBackend, local)
//! node:bp -> client:sp         rewritten to  VIP:vp -> client:cp       (entry ToClient, local; leaving)
//! ```

mod deliver;
pub mod local;
mod open;
mod parse;
mod reset;
mod rewrite;
pub mod tables;
mod track;

use crate::abi::{Backend, Endpoint, FlowKey, Node, Readable as _, Reason, SharedFlow, node_flag};
use crate::net::Be16;
use crate::net::header::{TCP_HALFWORDS, TcpHead, flag};
use crate::packet::Packet;
use tables::{Note, Tables};

pub use deliver::leave;

/// Decides about a frame and rewrites it; the caller sends, passes or drops it as the reason's verdict says.
///
/// Total: every frame, however malformed, ends with a reason. A frame whose verdict is to pass has not been changed.
#[inline(always)]
pub fn process(packet: &mut impl Packet, tables: &impl Tables) -> Reason {
    match decide(packet, tables) {
        Ok(reason) => reason,
        Err(reset) => reset::answer(packet, tables, reset),
    }
}

/// Why the sender gets a RST instead; always a reason whose verdict is to reply.
type ResetFor = Reason;

#[inline(always)]
fn decide(packet: &mut impl Packet, tables: &impl Tables) -> Result<Reason, ResetFor> {
    let length = packet.len();
    let Some(node) = tables.node() else {
        return Ok(Reason::NotConfigured);
    };
    let Ok(halfwords) = packet.head::<TCP_HALFWORDS>() else {
        return Ok(parse::odd(packet, tables, node));
    };
    let head = TcpHead::over(halfwords);
    if !parse::is_plain_tcp(head, node) {
        return Ok(parse::odd(packet, tables, node));
    }
    let key = FlowKey {
        source: head.source(),
        destination: head.destination(),
        source_port: head.source_port(),
        destination_port: head.destination_port(),
    };
    if let Some(flow) = tables.established(&key) {
        if flow.is_local() && !flow.is_from_client() {
            // This node's own answers do not arrive from outside.
            return Ok(Reason::NotVip);
        }
        if let Some(fault) = parse::fault(head, length) {
            return Ok(fault);
        }
        if flow.is_direct() && deliver::is_forwarded(head, tables, node, &key) {
            // It was this node that forwarded, before another did.
            tables.remove_established(&key);
            return unknown(head, length, tables, node, &key);
        }
        if !(track::is_opening(head) && flow.is_closed()) {
            return established(head, length as u64, tables, node, &key, flow);
        }
        // The client uses its port again: a new connection, which gets a backend of its own. The entry for answers
        // stays for its time, because the backend remembers the source port.
        if flow.is_from_client() {
            tables.remove_established(&key);
        }
    }
    unknown(head, length, tables, node, &key)
}

/// A packet of an established flow.
#[inline(always)]
fn established(
    head: &mut TcpHead, bytes: u64, tables: &impl Tables, node: &Node, key: &FlowKey, flow: &SharedFlow,
) -> Result<Reason, ResetFor> {
    let now = tables.now();
    let slot = flow.backend as u32;
    if track::is_of_another(head, tables, key, flow, now) {
        return Err(Reason::StaleFlow);
    }
    if !flow.is_from_client() {
        let Some(mac) = client_mac(head, tables, node, flow, now) else {
            return Ok(Reason::NoNeighbour);
        };
        track::follow(head, tables, key, flow, now);
        rewrite::translate(head, flow, node, mac);
        tables.count_out(slot, bytes);
        return Ok(Reason::ToClient);
    }

    let Some(backend) = backend_of(tables, flow) else {
        tables.note(Note::BackendGone, key, slot);
        tables.remove_established(&flow.other());
        tables.remove_established(key);
        return Err(Reason::BackendGone);
    };
    if flow.is_local() {
        track::follow(head, tables, key, flow, now);
        rewrite::deliver(head, flow);
        tables.count_in(slot, bytes, false);
        return Ok(Reason::ToLocal);
    }
    let Some(mac) = rewrite::backend_mac(head, tables, node, backend, &flow.translated) else {
        return Ok(Reason::NoNeighbour);
    };
    learn_client_mac(head, tables, flow);
    track::follow(head, tables, key, flow, now);
    rewrite::translate(head, flow, node, mac);
    tables.count_in(slot, bytes, false);
    Ok(Reason::ToBackend)
}

/// A packet without an established flow.
#[inline(always)]
fn unknown(
    head: &mut TcpHead, length: usize, tables: &impl Tables, node: &Node, key: &FlowKey,
) -> Result<Reason, ResetFor> {
    if !tables.is_vip(key.destination) {
        return Ok(Reason::NotVip);
    }
    let service = tables.service(&Endpoint::new(key.destination, key.destination_port));
    // Fields of a service that is not there would be registers without a value; where the compiler happens to save
    // one of those, the verifier refuses the program.
    let (is_service, service) = (service.is_some(), service.unwrap_or_default());
    if !is_service && !is_backend_answer(tables, node, key) {
        return Ok(Reason::NotService);
    }
    if let Some(fault) = parse::fault(head, length) {
        return Ok(fault);
    }
    if parse::is_martian(key, tables) {
        return Ok(Reason::Martian);
    }
    let now = tables.now();
    let opens = track::is_opening(head);
    if let Some(half) = tables.half_open(key) {
        // As above: it was this node that forwarded, before another did.
        let forwarded_back = half.is_direct() && deliver::is_forwarded(head, tables, node, key);
        if !(forwarded_back || opens && open::is_orphan(tables, key, half)) {
            return open::half_open(head, length as u64, tables, node, key, half, now);
        }
        open::forget(tables, key, half);
    }
    if opens && is_service {
        return open::new_flow(head, tables, node, key, &service, now);
    }
    let flags = head.flags();
    if flags & flag::RST != 0 {
        return Ok(Reason::StrayReset);
    }
    if flags & (flag::SYN | flag::ACK) == 0 {
        return Ok(Reason::TcpFlags);
    }
    Err(Reason::NoFlow)
}

/// The flow's backend, unless it is gone.
#[inline(always)]
fn backend_of<'a>(tables: &'a impl Tables, flow: &SharedFlow) -> Option<&'a Backend> {
    let backend = tables.backend(flow.backend as u32)?;
    (backend.generation == flow.generation && backend.gone == 0).then_some(backend)
}

/// The entry for the other direction, unless the client's port belongs to another flow by now.
#[inline(always)]
fn pair<'a>(tables: &'a impl Tables, key: &FlowKey, flow: &SharedFlow) -> Option<&'a SharedFlow> {
    tables.established(&flow.other()).filter(|other| other.other() == *key)
}

/// Whether this could be a backend's answer to one of our source ports.
#[inline(always)]
fn is_backend_answer(tables: &impl Tables, node: &Node, key: &FlowKey) -> bool {
    let offset = (key.destination_port.get() as u32).wrapping_sub(node.first_port as u32);
    // A backend without a port answers from any.
    let (itself, any_port) = (Endpoint::new(key.source, key.source_port), Endpoint::new(key.source, Be16::default()));
    offset < node.port_count as u32 && (tables.is_backend(&itself) || tables.is_backend(&any_port))
}

/// Where a packet to the client goes: as the kernel's tables say, else to where its own packets came from.
#[inline(always)]
fn client_mac(head: &TcpHead, tables: &impl Tables, node: &Node, flow: &SharedFlow, now: u32) -> Option<[u8; 6]> {
    if node.flags & node_flag::FIB != 0 && flow.routed.get() != now {
        flow.routed.set(now);
        let translated = &flow.translated;
        if let Some(mac) = tables.next_hop(translated.source, translated.destination, head.total_length().get()) {
            flow.set_mac(mac);
        }
    }
    let mac = flow.mac();
    (mac != [0; 6]).then_some(mac)
}

/// Remembers where the client's packets come from, when that has changed.
#[inline(always)]
fn learn_client_mac(head: &TcpHead, tables: &impl Tables, flow: &SharedFlow) {
    let mac = head.mac_source();
    if flow.mac() != mac {
        flow.set_mac(mac);
        if let Some(answers) = tables.established(&flow.other()) {
            answers.set_mac(mac);
        }
    }
}

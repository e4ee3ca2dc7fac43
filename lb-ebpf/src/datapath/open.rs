//! How a flow begins: a backend and a source port for a SYN, the handshake, and the move to the established table.

use super::tables::{Drafts, Note, Tables};
use super::{Entry, Key, NewFlow, ResetFor, backend_of, balance, deliver, retry, rewrite};
use crate::abi::{
    Backend, Change, Delivery, Direction, Flow, FlowKey, Node, Readable as _, Reason, Service, split_mac, state,
};
use crate::net::header::{TcpHead, flag};
use crate::net::{Address as _, Be16, Family};

/// A SYN of no known flow, for the backend in `slot`.
#[inline(always)]
pub(super) fn new_flow<F: Family>(
    head: &mut TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>, service: &Service, slot: u32, now: u32,
) -> Result<Reason, ResetFor> {
    let Some(backend) = tables.backend(slot) else {
        return Err(Reason::NoBackend);
    };
    // SAFETY: called once for a backend that a packet goes to, here or in `promote`.
    let Some(Drafts { there: flow, back, answers }) = (unsafe { tables.drafts() }) else {
        return Ok(Reason::HalfOpenFull);
    };
    // A client on the backend's own node would be sent a packet from itself, which its stack refuses.
    let is_itself = F::Address::of(backend.endpoint.address) == key.source;
    let delivery = if backend.delivery == Delivery::Tunnelled as u16 { Delivery::Tunnelled } else { Delivery::Direct };
    if backend.delivery == delivery as u16 && !is_itself {
        let Some(mac) = rewrite::backend_mac(tables, node, backend, key.source, head.ip_length()) else {
            return Ok(Reason::NoNeighbour);
        };
        *flow = Flow::new(key, *key, Direction::ToBackend, now).delivered(key, delivery);
        begin(flow, head, slot, backend, service);
        if tables.add_half_open(key, flow).is_err() {
            return Ok(Reason::HalfOpenFull);
        }
        balance::count_opening(tables, slot, Change::Begun);
        rewrite::translate(head, flow, node, mac);
        return Ok(Reason::NewFlow);
    }
    // This node's own backend sees the client's address; with a port of ours, because the client may have a connection
    // of its own to that backend from any of its ports.
    let is_local = backend.delivery == Delivery::Local as u16;
    *answers = FlowKey {
        source: F::Address::of(backend.endpoint.address),
        destination: if is_local { key.source } else { key.destination },
        source_port: backend.endpoint.reached_for(key.destination_port).port,
        destination_port: Be16::default(),
    };
    let mac = if is_local {
        Some(node.mac)
    } else {
        rewrite::backend_mac(tables, node, backend, answers.destination, head.ip_length())
    };
    let Some(mac) = mac else {
        return Ok(Reason::NoNeighbour);
    };
    if !tables.find_port(answers, slot, is_local) {
        tables.note(Note::NoSourcePort, key, slot);
        return Err(Reason::NoSourcePort);
    }
    let delivery = if is_local { Delivery::Local } else { Delivery::Translated };
    *flow = Flow::new(key, answers.reversed(), Direction::ToBackend, now).delivered(key, delivery);
    begin(flow, head, slot, backend, service);
    *back = flow.answering(key, now);
    // The entries of both directions, or none.
    if tables.add_half_open(answers, back).is_err() {
        return Ok(Reason::HalfOpenFull);
    }
    if tables.add_half_open(key, flow).is_err() {
        tables.remove_half_open(answers);
        return Ok(Reason::HalfOpenFull);
    }
    balance::count_opening(tables, slot, Change::Begun);
    if is_local {
        rewrite::deliver(head, flow);
        return Ok(Reason::NewLocal);
    }
    rewrite::translate(head, flow, node, mac);
    Ok(Reason::NewFlow)
}

/// What a new flow knows of its ends besides the translation.
#[inline(always)]
fn begin<F: Family>(flow: &mut NewFlow<F>, head: &TcpHead<F>, slot: u32, backend: &Backend, service: &Service) {
    flow.backend = slot as u16;
    flow.service = service.number;
    flow.generation = backend.generation;
    flow.idle_seconds = service.idle_seconds;
    (flow.mac_high, flow.mac_low) = split_mac(head.mac_source());
}

/// Whether a half-open flow leads nowhere: its backend is gone, or its other entry was pushed out.
#[inline(always)]
pub(super) fn is_orphan<F: Family>(tables: &impl Tables<F>, key: &Key<F>, half: &Entry<F>) -> bool {
    half.is_from_client()
        && (backend_of(tables, half).is_none() || !half.is_direct() && other_half(tables, key, half).is_none())
}

/// Removes a half-open flow: this entry, and the other one if it is of the same flow.
#[inline(always)]
pub(super) fn forget<F: Family>(tables: &impl Tables<F>, key: &Key<F>, half: &Entry<F>) {
    let other = half.other();
    balance::count_opening(tables, half.backend as u32, Change::Ended);
    if other_half(tables, key, half).is_some() {
        tables.remove_half_open(&other);
    }
    tables.remove_half_open(key);
}

/// The entry of a half-open flow for the other direction. One that does not point back is another flow's: entries are
/// pushed out one by one, and ports are used again.
#[inline(always)]
fn other_half<'a, F: Family>(tables: &'a impl Tables<F>, key: &Key<F>, half: &Entry<F>) -> Option<&'a Entry<F>> {
    tables.half_open(&half.other()).filter(|other| other.other() == *key)
}

/// A packet of a flow whose handshake is not complete.
#[inline(always)]
pub(super) fn half_open<F: Family>(
    head: &mut TcpHead<F>, bytes: u64, tables: &impl Tables<F>, node: &Node, key: &Key<F>, half: &Entry<F>, now: u32,
) -> Result<Reason, ResetFor> {
    if !half.is_from_client() {
        let reason = from_backend(head, tables, key, half, now)?;
        rewrite::translate(head, half, node, half.mac());
        Ok(reason)
    } else {
        from_client(head, bytes, tables, node, key, half, now)
    }
}

/// A packet of this node's own backend, where it leaves, of a flow whose handshake is not complete.
#[inline(always)]
pub(super) fn from_local<F: Family>(
    head: &mut TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, half: &Entry<F>, now: u32,
) -> Reason {
    // Without the client's entry it is the answer to a packet that was delivered in time: its source is still ours to set.
    let _ = from_backend(head, tables, key, half, now);
    rewrite::deliver(head, half);
    Reason::LocalHandshake
}

#[inline(always)]
fn from_backend<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, half: &Entry<F>, now: u32,
) -> Result<Reason, ResetFor> {
    let client = half.other();
    let flags = head.flags();
    let Some(first) = other_half(tables, key, half) else {
        // The client's entry was pushed out; its next SYN starts again.
        tables.remove_half_open(key);
        return if flags & flag::RST != 0 { Ok(Reason::StrayReset) } else { Err(Reason::NoFlow) };
    };
    if flags & flag::RST != 0 {
        retry::lives(tables, half.backend as u32);
        balance::count_opening(tables, half.backend as u32, Change::Ended);
        tables.remove_half_open(key);
        tables.remove_half_open(&client);
    } else if flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK {
        half.touch(now);
        first.touch(now);
        retry::answered(head, tables, &client, first);
        first.expect.set(head.sequence().get().wrapping_add(1));
        half.acknowledged.set(head.acknowledgement().get());
        first.state.set(state::ANSWERED);
    }
    Ok(Reason::Handshake)
}

#[inline(always)]
fn from_client<F: Family>(
    head: &mut TcpHead<F>, bytes: u64, tables: &impl Tables<F>, node: &Node, key: &Key<F>, half: &Entry<F>, now: u32,
) -> Result<Reason, ResetFor> {
    let answers = half.other();
    let flags = head.flags();
    let Some(backend) = backend_of(tables, half) else {
        forget(tables, key, half);
        return Err(Reason::BackendGone);
    };
    half.touch(now);
    // An answer that goes another way is not seen here: the client's word for it must do.
    let completes = flags & (flag::SYN | flag::ACK | flag::RST) == flag::ACK
        && (half.is_direct()
            || half.state.get() & state::ANSWERED != 0 && head.acknowledgement().get() == half.expect.get());
    if half.is_local() {
        if completes {
            let flow = promote(head, bytes, tables, key, half, &answers, now)?;
            rewrite::deliver(head, flow);
            return Ok(Reason::LocalOpened);
        }
        rewrite::deliver(head, half);
        end(head, tables, key, half);
        return Ok(Reason::LocalHandshake);
    }
    let Some(mac) = rewrite::backend_mac(tables, node, backend, half.translated.source, head.ip_length()) else {
        return Ok(Reason::NoNeighbour);
    };
    if half.is_direct() && !half.is_tunnelled() && deliver::is_back(head, Delivery::Direct, mac) {
        tables.remove_half_open(key);
        return Err(Reason::BackendGone);
    }
    if completes {
        let flow = promote(head, bytes, tables, key, half, &answers, now)?;
        rewrite::translate(head, flow, node, mac);
        return Ok(Reason::Opened);
    }
    rewrite::translate(head, half, node, mac);
    end(head, tables, key, half);
    Ok(Reason::Handshake)
}

/// Forgets a handshake that the client gives up.
#[inline(always)]
fn end<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, half: &Entry<F>) {
    // Before the SYN-ACK a RST is the client's word to a backend that still remembers the source port (TIME-WAIT): it
    // ends that memory, and the client's next SYN must meet the same backend and port (RFC 9293 section 3.10.7.3).
    if head.flags() & flag::RST != 0 && half.state.get() & state::ANSWERED != 0 {
        forget(tables, key, half);
    }
}

/// Moves both entries to the table from which nothing is pushed out.
#[inline(always)]
fn promote<'a, F: Family>(
    head: &TcpHead<F>, bytes: u64, tables: &'a impl Tables<F>, key: &Key<F>, half: &Entry<F>, answers: &Key<F>,
    now: u32,
) -> Result<&'a NewFlow<F>, ResetFor> {
    // SAFETY: called once for a packet, here or in `new_flow`.
    let Some(Drafts { there: flow, back: answer, .. }) = (unsafe { tables.drafts() }) else {
        return Err(Reason::TableFull);
    };
    *flow = Flow::new(key, half.translated, Direction::ToBackend, now);
    flow.ip_change = half.ip_change;
    flow.delivery = half.delivery;
    flow.backend = half.backend;
    flow.service = half.service;
    flow.generation = half.generation;
    flow.idle_seconds = half.idle_seconds;
    flow.acknowledged = head.acknowledgement().get();
    flow.mac_high = half.mac_high.get();
    flow.mac_low = half.mac_low.get();
    if head.flags() & flag::FIN != 0 {
        flow.state = state::FIN_CLIENT;
    }
    flow.expect = head.sequence().get().wrapping_add(head.segment_length());
    if half.is_direct() {
        retry::lives::<F>(tables, half.backend as u32);
        tables.forget_syn(key);
        let added = tables.add_established(key, flow).is_ok() || tables.established(key).is_some();
        tables.remove_half_open(key);
        return opened(bytes, tables, key, flow, added).map(|()| &*flow);
    }
    // The source port is ours only while the entry for answers points back here.
    let Some(back) = other_half(tables, key, half) else {
        tables.remove_half_open(key);
        return Err(Reason::NoFlow);
    };
    *answer = flow.answering(key, now);
    answer.acknowledged = back.acknowledged.get();
    answer.expect = flow.acknowledged;
    answer.state = flow.state;
    // Another CPU may have been faster with the same flow.
    let is_there = |at: &Key<F>, other: &Key<F>| tables.established(at).is_some_and(|flow| flow.other() == *other);
    let added = tables.add_established(answers, answer).is_ok() || is_there(answers, key);
    let added = added && {
        let both = tables.add_established(key, flow).is_ok() || is_there(key, answers);
        if !both {
            tables.remove_established(answers);
        }
        both
    };
    tables.remove_half_open(answers);
    tables.remove_half_open(key);
    opened(bytes, tables, key, flow, added).map(|()| &*flow)
}

/// Counts and tells a flow that was added; refuses one that was not.
#[inline(always)]
fn opened<F: Family>(
    bytes: u64, tables: &impl Tables<F>, key: &Key<F>, flow: &NewFlow<F>, added: bool,
) -> Result<(), ResetFor> {
    let slot = flow.backend as u32;
    balance::count_opening(tables, slot, Change::Ended);
    if !added {
        tables.note(Note::TableFull, key, slot);
        return Err(Reason::TableFull);
    }
    balance::count_open(tables, slot, flow.generation, Change::Opened);
    tables.count_in(slot, bytes, true);
    tables.note(Note::Opened, key, slot);
    Ok(())
}

//! What the packets of an established flow say about its end.

use super::tables::{Note, Tables};
use super::{Entry, Key, balance, pair};
use crate::abi::{Change, Readable as _, state};
use crate::net::Family;
use crate::net::header::{TcpHead, flag};

/// How far from what was seen last a FIN may be.
const FIN_WINDOW: u32 = 1 << 20;

/// How far from the last acknowledgement a packet of the same connection may be: beyond what stacks keep under way.
const NEAR: u32 = 1 << 26;

/// After so many seconds of silence a flow's addresses may have passed to another connection unseen: its end, or its
/// successor, went through the other balancer.
const QUIET_SECONDS: u32 = 2;

/// Whether the packet opens a connection.
#[inline(always)]
pub(super) fn is_opening<F: Family>(head: &TcpHead<F>) -> bool {
    head.flags() & (flag::SYN | flag::ACK) == flag::SYN
}

/// Whether the packet belongs to another connection than the flow that is known by its addresses.
///
/// Judged only after a silence, and only for packets that carry both numbers. Who does not belong is answered, and the
/// flow is left alone: an outsider's guess must not end it.
#[inline(always)]
pub(super) fn is_of_another<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, flow: &Entry<F>, now: u32,
) -> bool {
    if now.saturating_sub(flow.seen.get()) < QUIET_SECONDS
        || head.flags() & (flag::SYN | flag::ACK | flag::RST) != flag::ACK
    {
        return false;
    }
    let Some(peer) = pair(tables, key, flow) else {
        return false;
    };
    let is_its = is_near(head.acknowledgement().get(), flow.acknowledged.get())
        && is_near(head.sequence().get(), peer.acknowledged.get());
    !is_its && !may_have_moved(tables, flow)
}

/// Whether the flow's packets may have gone through another node since the last one here; if so, the next one is believed.
#[inline(always)]
fn may_have_moved<F: Family>(tables: &impl Tables<F>, flow: &Entry<F>) -> bool {
    let bits = flow.state.get();
    if bits & state::UNSURE != 0 {
        return true;
    }
    let is_older = tables.sharing().is_some_and(|sharing| flow.seen.get() <= sharing.gained);
    if is_older {
        flow.state.set(bits | state::UNSURE);
    }
    is_older
}

/// Takes a packet's word for where the flow is. A wrong one, which its receiver answers with the numbers that it expects,
/// is put right by that answer: it is believed as well.
#[inline(always)]
fn believe<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, flow: &Entry<F>) {
    flow.state.set(flow.state.get() & !state::UNSURE);
    flow.expect.set(next::<F>(head));
    flow.acknowledged.set(head.acknowledgement().get());
    if let Some(peer) = pair(tables, key, flow) {
        peer.expect.set(head.acknowledgement().get());
        peer.acknowledged.set(head.sequence().get());
    }
}

/// Whether a number is near the last one that was seen.
#[inline(always)]
pub(super) const fn is_near(number: u32, last: u32) -> bool {
    number.wrapping_sub(last).wrapping_add(NEAR) < 2 * NEAR
}

/// How far ahead of the last one a packet's numbers may be to move them on: more than stacks keep under way.
const AHEAD: u32 = 1 << 25;

/// Updates the flow by one of its packets.
///
/// Only a packet with both numbers where they can be moves them, and only on: an outsider would have to guess both.
#[inline(always)]
pub(super) fn follow<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, flow: &Entry<F>, now: u32) {
    flow.touch(now);
    let flags = head.flags();
    if flow.state.get() & state::UNSURE != 0 && flags & (flag::SYN | flag::ACK | flag::RST) == flag::ACK {
        believe(head, tables, key, flow);
    }
    if flags & (flag::FIN | flag::RST) != 0 {
        end(head, tables, key, flow);
    }
    if flags & (flag::SYN | flag::ACK | flag::RST) != flag::ACK {
        return;
    }
    let acknowledged = head.acknowledgement().get();
    let is_ahead = |number: u32, last: u32| number.wrapping_sub(last) < AHEAD;
    let (next, last) = (next::<F>(head), flow.expect.get());
    let last_acknowledged = flow.acknowledged.get();
    if is_near(next, last) && is_near(acknowledged, last_acknowledged) {
        if is_ahead(next, last) {
            flow.expect.set(next);
        }
        if is_ahead(acknowledged, last_acknowledged) {
            flow.acknowledged.set(acknowledged);
        }
    }
}

/// The sequence number behind a segment.
#[inline(always)]
fn next<F: Family>(head: &TcpHead<F>) -> u32 {
    head.sequence().get().wrapping_add(head.segment_length())
}

/// A side has closed or reset: both entries must know.
#[inline(always)]
fn end<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, key: &Key<F>, flow: &Entry<F>) {
    let is_reset = head.flags() & flag::RST != 0;
    if !is_reset && !ends_stream(head, flow) {
        return;
    }
    if flow.is_direct() {
        // What the backend says is not seen here: the client's word must do, where its numbers are those of the flow. Its
        // packets, and what the backend may still send for a while, keep the entry alive.
        let is_believed = !is_reset || head.sequence().get() == flow.expect.get();
        if is_believed && !flow.is_closed() {
            count_end(tables, flow);
            flow.state.set(flow.state.get() | state::FIN_CLIENT | state::FIN_BACKEND | state::BACKEND_FIRST);
            tables.note(Note::Closed, key, flow.backend as u32);
        }
        return;
    }
    let other = flow.other();
    let Some(peer) = pair(tables, key, flow) else {
        return;
    };
    let from_client = flow.is_from_client();
    let before = flow.state.get();
    let after = if is_reset {
        // RFC 5961 section 3.2: a RST counts only with the very number that its receiver expects; with another near it, the
        // receiver asks again. That is behind what it has acknowledged, or behind what its sender has sent since.
        let sequence = head.sequence().get();
        let is_expected = sequence == peer.acknowledged.get() || sequence == flow.expect.get();
        if is_expected { before | state::RESET } else { before }
    } else if from_client {
        before | state::FIN_CLIENT
    } else if before & state::FIN_CLIENT != 0 && head.acknowledgement().get() == peer.expect.get() {
        before | state::FIN_BACKEND
    } else {
        // Sent before the client's arrived there, which may be under way (RFC 9293 section 3.6, simultaneous close).
        before | state::FIN_BACKEND | state::BACKEND_FIRST
    };
    if after == before {
        return;
    }
    let was_open = !flow.is_closed();
    flow.state.set(after);
    peer.state.set(after);
    // A RST behind both FINs ends nothing any more.
    if was_open && flow.is_closed() {
        balance::count_open(tables, flow.backend as u32, flow.generation, Change::Closed);
        let client = if from_client { *key } else { other };
        tables.note(Note::Closed, &client, flow.backend as u32);
    }
}

/// Whether a FIN can be its sender's: what it ends and what it acknowledges lie near what was seen last. It may have
/// overtaken data, so it need not be exactly next.
#[inline(always)]
fn ends_stream<F: Family>(head: &TcpHead<F>, flow: &Entry<F>) -> bool {
    let is_close = |number: u32, last: u32| number.wrapping_sub(last).wrapping_add(FIN_WINDOW) <= 2 * FIN_WINDOW;
    head.flags() & flag::ACK != 0
        && is_close(next::<F>(head), flow.expect.get())
        && is_close(head.acknowledgement().get(), flow.acknowledged.get())
}

/// Counts the end of a flow that is about to be removed, unless it was over already.
#[inline(always)]
pub(super) fn count_end<F: Family>(tables: &impl Tables<F>, flow: &Entry<F>) {
    if !flow.is_closed() {
        balance::count_open(tables, flow.backend as u32, flow.generation, Change::Closed);
    }
}

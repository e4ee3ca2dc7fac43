//! Source ports towards backends: which of them a new flow gets.

use super::tables::Tables;
use super::{Key, open, pair, track};
use crate::abi::{Endpoint, FlowKey, Node};
use crate::net::{Be16, Family};

/// Source ports tried before a backend counts as exhausted.
const TRIES: u32 = 24;

/// A source port that no flow to this backend uses.
///
/// In turn, so that a port rests as long as possible before it is used again; at random places when that meets one
/// in use. Flows that are over give theirs back when nothing else is left.
#[inline(always)]
pub(super) fn free<F: Family>(tables: &impl Tables<F>, node: &Node, slot: u32, to: Key<F>, now: u32) -> Option<Be16> {
    let count = node.port_count as u32;
    if count == 0 {
        return None;
    }
    let step = 1 + (tables.random() & node.port_jitter as u32);
    let mut place = tables.take_port(slot, step)?.wrapping_add(node.port_offset);
    let mut closed = None;
    let mut tries = 0;
    while tries < TRIES {
        let port = Be16::new(node.first_port.wrapping_add((place % count) as u16));
        let answers = FlowKey { source_port: port, ..to }.reversed();
        match use_of(tables, &answers, now) {
            // A service listens on this very port of the VIP.
            _ if tables.service(&Endpoint::new(to.source.into(), port)).is_some() => {}
            Use::Free => return Some(port),
            Use::Over => {
                reclaim(tables, &answers);
                return Some(port);
            }
            Use::Closed if closed.is_none() => closed = Some(port),
            Use::Closed | Use::Taken => {}
        }
        tries += 1;
        place = if node.port_jitter == 0 { place.wrapping_add(1) } else { tables.random() };
    }
    let port = closed?;
    reclaim(tables, &FlowKey { source_port: port, ..to }.reversed());
    Some(port)
}

enum Use {
    Free,
    /// Its flow is over and rested.
    Over,
    /// Its flow is over, but late packets may come.
    Closed,
    Taken,
}

#[inline(always)]
fn use_of<F: Family>(tables: &impl Tables<F>, answers: &Key<F>, now: u32) -> Use {
    if let Some(flow) = tables.established(answers) {
        // Either entry may have seen the last packet.
        let other_is_alive = pair(tables, answers, flow).is_some_and(|other| !other.is_expired(now));
        return if flow.is_expired(now) && !other_is_alive {
            Use::Over
        } else if flow.is_closed() {
            Use::Closed
        } else {
            Use::Taken
        };
    }
    match tables.half_open(answers) {
        None => Use::Free,
        Some(half) if half.is_stale_half_open(now) => Use::Over,
        Some(_) => Use::Taken,
    }
}

/// Removes what is left of a flow that is over.
#[inline(always)]
fn reclaim<F: Family>(tables: &impl Tables<F>, answers: &Key<F>) {
    if let Some(flow) = tables.established(answers) {
        if pair(tables, answers, flow).is_some() {
            track::count_end(tables, flow);
            tables.remove_established(&flow.other());
        }
        tables.remove_established(answers);
    }
    if let Some(half) = tables.half_open(answers) {
        open::forget(tables, answers, half);
    }
}

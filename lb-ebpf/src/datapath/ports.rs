//! Source addresses and ports towards backends: which of them a new flow gets, and where to when there is none.
//!
//! Each port is used in its turn, so that it rests as long as possible before it is used again: backends remember
//! ports, and late packets come. The turns go over all addresses, and over the ports of each by a stride, from a place
//! that nobody knows. When it is the turn of one in use, a set of hints tells the next that is free (see
//! [`PortSet`](crate::abi::PortSet)); what the tables of flows say of it decides. Where hints are of no use, ports are
//! tried at random, and flows that are over give theirs back.

use super::tables::Tables;
use super::{Handled, Key, Step, balance, deliver, key, listener, retry, track};
use crate::abi::{Delivery, Endpoint, FlowKey, MAX_SOURCES, NoHint, Node, PortKey, Readable as _, Reason, Word};
use crate::net::{Address, Be16, Family};
use crate::packet::Packet;

/// Source ports looked at before a backend counts as exhausted.
const TRIES: u64 = 24;

/// Backends that are looked at for one with a free port.
const PLACES: u32 = 16;

/// A search for a source address and port, as far as it is. In memory, and not in registers: there the verifier would
/// follow every way through all the tries.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Search<A> {
    /// The key of answers, with the address and port that are looked at.
    pub answers: FlowKey<A>,
    /// The address that comes first.
    vip: A,
    /// Slot of the backend.
    slot: Word,
    /// The second in which it is.
    now: Word,
    /// Addresses there are.
    addresses: Word,
    /// Which address is looked at.
    at: Word,
    /// Which port, from the first.
    place: Word,
    /// Whether ports are tried at random where hints are of no use; 0: one after the other.
    is_random: Word,
    /// Addresses whose hints may still name a free port.
    hinted: Word,
    /// An address and port at rest, plus 1; 0: none was seen.
    closed: Word,
}

impl<A: Address> Search<A> {
    /// Begins a search for the backend in `slot`; `answers` has the VIP, or the client's address where that remains the
    /// source (`is_local`).
    #[inline(always)]
    pub fn begin(&mut self, answers: &FlowKey<A>, slot: u32, is_local: bool) {
        self.answers = *answers;
        self.vip = answers.destination;
        self.slot.set(slot);
        self.hinted.set(!is_local as u32);
        self.closed.set(0);
    }

    /// Whose ports are looked at.
    #[inline(always)]
    pub fn set(&self) -> PortKey {
        PortKey { address: self.answers.destination.into(), slot: self.slot.get() }
    }

    /// Goes on to the next address; true: that is the first again.
    #[inline(always)]
    fn next_address(&self) -> bool {
        let next = self.at.get() + 1;
        let is_last = next >= self.addresses.get();
        self.at.set(if is_last { 0 } else { next });
        is_last
    }
}

/// Finds a source address and port that no flow to this backend uses, and completes the key of its answers by them;
/// false: there is none.
#[inline(always)]
pub fn find<F: Family>(tables: &impl Tables<F>, search: &mut Search<F::Address>) -> bool {
    if !start(tables, search) {
        return false;
    }
    // Of a whole register's width: the verifier loses sight of a counter that shares eight bytes of the stack.
    let mut tries = 0_u64;
    while tries < TRIES {
        tries += 1;
        // Looked up each time, because it costs less than to remember it: the stack is small.
        let Some(node) = tables.node() else {
            return false;
        };
        let place = search.place.get().checked_rem(node.port_count as u32).unwrap_or_default();
        let next = node.first_port.wrapping_add(place as u16);
        search.answers.destination = address(tables, search.vip, search.at.get());
        search.answers.destination_port = Be16::new(next);
        if search.hinted.get() != 0 {
            match tables.take_hint(search, next) {
                Ok(port) => search.answers.destination_port = Be16::new(port),
                Err(NoHint::Again) => continue,
                Err(NoHint::Full) => {
                    search.hinted.set(search.hinted.get() - 1);
                    search.next_address();
                    continue;
                }
            }
        }
        match tables.try_port(search, false) {
            Try::Free => return true,
            Try::Closed if search.closed.get() == 0 => {
                let port = search.answers.destination_port.get() as u32;
                search.closed.set(1 + (search.at.get() << 16 | port));
            }
            Try::Closed | Try::Taken => {}
        }
        if search.hinted.get() == 0 && search.next_address() {
            let is_random = search.is_random.get() != 0;
            search.place.set(if is_random { tables.random() } else { search.place.get().wrapping_add(1) });
        }
    }
    let Some(closed) = search.closed.get().checked_sub(1) else {
        return false;
    };
    search.answers.destination = address(tables, search.vip, closed >> 16);
    search.answers.destination_port = Be16::new(closed as u16);
    tables.try_port(search, true) == Try::Free
}

/// Takes a turn, which says where to begin.
#[inline(always)]
fn start<F: Family>(tables: &impl Tables<F>, search: &Search<F::Address>) -> bool {
    let Some(node) = tables.node().filter(|node| node.port_count != 0) else {
        return false;
    };
    let jitter = node.port_jitter as u32;
    search.is_random.set(jitter);
    let Some(turn) = tables.take_port(search.slot.get(), 1 + (tables.random() & jitter)) else {
        return false;
    };
    let turn = turn.wrapping_add(node.port_offset);
    let addresses = if search.hinted.get() != 0 { addresses::<F>(node) } else { 1 };
    search.addresses.set(addresses);
    search.hinted.set(search.hinted.get() * addresses);
    search.at.set(turn % addresses);
    let place = (turn / addresses).checked_rem(node.port_count as u32).unwrap_or_default();
    search.place.set(place.wrapping_mul(node.port_stride.max(1) as u32));
    search.now.set(tables.now());
    true
}

/// Source addresses of this node towards a backend: the VIP that the client asked for, and others.
#[inline(always)]
fn addresses<F: Family>(node: &Node) -> u32 {
    let others = node.sources[F::PLACE] as u32;
    1 + if others < MAX_SOURCES { others } else { MAX_SOURCES }
}

/// One of them.
#[inline(always)]
fn address<F: Family>(tables: &impl Tables<F>, vip: F::Address, at: u32) -> F::Address {
    match at.checked_sub(1) {
        None => vip,
        Some(number) => tables.source(number).unwrap_or(vip),
    }
}

/// What a source port is good for.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    /// Nobody uses it any more.
    Free = 0,
    /// Its flow is over, but late packets may come.
    Closed = 1,
    /// It is in use.
    Taken = 2,
}

/// Looks at the port that a search has come to, and takes it back from a flow that is over and rested; `in_need`, from
/// one that is over.
#[inline(always)]
pub fn try_port<F: Family>(tables: &impl Tables<F>, search: &Search<F::Address>, in_need: bool) -> Try {
    let (answers, now) = (&search.answers, search.now.get());
    // A service listens on this very port of the address.
    if tables.service(&Endpoint::new(answers.destination.into(), answers.destination_port)).is_some() {
        return Try::Taken;
    }
    // A key of IPv6 is a large part of the stack, so there is but one.
    let other;
    if let Some(flow) = tables.established(answers) {
        other = flow.other();
        let pair = tables.established(&other).filter(|pair| pair.is_other_of(answers));
        // Either entry may have seen the last packet.
        let is_over = flow.is_expired(now) && pair.is_none_or(|pair| pair.is_expired(now));
        let is_closed = flow.is_closed();
        let is_ours = is_over || is_closed && in_need;
        if !is_ours {
            return if is_closed { Try::Closed } else { Try::Taken };
        }
        if pair.is_some() {
            track::count_end(tables, flow);
            tables.remove_established(&other);
        }
        tables.remove_established(answers);
        return Try::Free;
    }
    let Some(half) = tables.half_open(answers) else {
        return Try::Free;
    };
    if !half.is_stale_half_open(now) {
        return Try::Taken;
    }
    other = half.other();
    if tables.half_open(&other).is_some_and(|first| first.is_other_of(answers)) {
        tables.remove_half_open(&other);
    }
    tables.remove_half_open(answers);
    Try::Free
}

/// The part after [`super::open()`] where no source port was left towards the backend in `slot`: another backend that
/// may have one. Where none has, the client gets a RST.
#[inline(always)]
pub fn elsewhere<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>, slot: u32) -> Step {
    let refused = Step::Reset(Reason::NoSourcePort);
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = key(head);
    let Some(service) = tables.service(&listener::<F>(&key)).filter(|service| service.set_length != 0) else {
        return refused;
    };
    // What another node has forwarded here is for this node's own backend alone.
    if deliver::is_forwarded(head, tables, node, &key) {
        return refused;
    }
    let Some(turn) = tables.take_turn(service.number as u32) else {
        return refused;
    };
    let length = service.set_length as u32;
    let set = service.ring_start.wrapping_add(service.ring_length as u32);
    let mut looked = 0;
    while looked < PLACES && looked < length {
        let place = turn.wrapping_add(looked) % length;
        looked += 1;
        let Some(other) = tables.ring(set.wrapping_add(place)).filter(|other| *other != slot) else {
            continue;
        };
        let Some(backend) = tables.backend(other).filter(|backend| balance::is_of(backend, &service)) else {
            continue;
        };
        if backend.share == 0 || !balance::has_room(tables, other, backend) {
            continue;
        }
        if backend.delivery != Delivery::Translated as u16 || has_free(tables, node, &key, other) {
            retry::goes_elsewhere::<F>(tables, slot, other, tables.micros());
            return Step::Open(other);
        }
    }
    refused
}

/// Whether a port may be free towards a backend, by the hints.
#[inline(always)]
fn has_free<F: Family>(tables: &impl Tables<F>, node: &Node, key: &Key<F>, slot: u32) -> bool {
    let mut at = 0;
    while at < addresses::<F>(node) {
        let set = PortKey { address: address(tables, key.destination, at).into(), slot };
        if !tables.is_exhausted(set) {
            return true;
        }
        at += 1;
    }
    false
}

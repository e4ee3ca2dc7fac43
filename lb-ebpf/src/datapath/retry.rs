//! A backend that refuses a connection or does not answer costs its client none: the SYN goes on to another.
//!
//! ```text
//! client -> VIP           SYN kept, and sent to backend a
//! a -> VIP: RST           becomes the client's SYN again, for backend b, which the client never learns
//! client -> VIP: SYN again, and a has not answered for a while       for backend b too
//! ```
//! A backend gets a connection once: a SYN leaves for every RST or SYN that arrives, and for so many backends at most.
//! When none is left, the RST goes to the client.
//!
//! What is seen of all connections of a backend together makes it suspect: several SYNs, the first of them a while ago,
//! and no answer. A suspect is passed over while another backend is none, but for a SYN now and then; its first answer
//! ends that. Clients cannot bring it about, because a backend that lives answers whatever SYN it gets.

use super::tables::Tables;
use super::{Entry, Handled, Key, Step, balance, deliver, listener, rewrite, track};
use crate::abi::{
    Change, EVENT_EVERY_MS, Node, PULSE_FORGETS_MS, Readable as _, Reason, SUSPECT_RETRY_MS, SUSPECT_SYNS, Service,
    SharedPulse, SharedSyn, node_flag, state,
};
use crate::net::Family;
use crate::net::header::{TCP, TcpHead, flag};
use crate::packet::Packet;

/// Backends that are looked at for another one.
const TRIES: u32 = 16;
/// No slot.
const NONE: u32 = u32::MAX;
/// Of a backend whose answers go another way, so long a silence says that it is not the client that hears nothing: it
/// would have answered again by then.
const DIRECT_SILENCE_MS: u32 = 2_000;

/// Between choosing a backend and going there: keeps the SYN for others, and notes that the backend in `slot` has to
/// answer.
#[inline(always)]
pub fn keep<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>, slot: u32) {
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return;
    };
    let key = super::key(head);
    if !track::is_opening(head) {
        return;
    }
    if deliver::is_forwarded(head, tables, node, &key) {
        // Whoever forwarded it has chosen: this node's own backend is the only one for it.
        tables.forget_syn(&key);
        return;
    }
    // SAFETY: called once for a packet.
    let Some(syn) = (unsafe { tables.syn_draft() }) else {
        return;
    };
    let header = head.tcp_header_length();
    let options = header.wrapping_sub(TCP as u32);
    let packet_length = head.ip_length();
    syn.sequence = head.sequence().get();
    syn.tried = [0; _];
    syn.options_length = options as u16;
    head.copy_packet(&mut syn.head);
    let is_bare = packet_length == F::IP as u32 + header;
    let is_read = is_bare && packet.options(TcpHead::<F>::LENGTH, options, &mut syn.options).is_ok();
    syn.is_whole = is_read as u16;
    if packet.is_unfinished() {
        syn.finish(F::IP);
    }
    let now = tables.micros();
    syn.at = now as u32;
    tables.keep_syn(&key, syn);
    went_to::<F>(tables, slot, now);
}

/// Whether a packet of a half-open flow is one after which its SYN may go on to another backend: [`retry`] sees.
#[inline(always)]
pub(super) fn is_due<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>, half: &Entry<F>,
) -> bool {
    let flags = head.flags();
    if !half.is_from_client() {
        // RFC 9293 section 3.10.7.3: a RST in answer to a SYN acknowledges it.
        return flags & (flag::RST | flag::ACK) == flag::RST | flag::ACK
            && tables.half_open(&half.other()).is_some_and(|first| first.other() == *key && is_open::<F>(first));
    }
    if !track::is_opening(head) || !is_open::<F>(half) {
        return false;
    }
    let Some(syn) = tables.syn(key).filter(|syn| syn.sequence == head.sequence().get()) else {
        return false;
    };
    let now = tables.micros();
    let age = (now as u32).wrapping_sub(syn.at.get()) / 1000;
    age >= node.syn_patience as u32
        && (!half.is_direct() || is_silent::<F>(tables, half.backend as u32, millis(now), age))
}

/// Whether what a router or host says about a client's SYN is none of the client's business: the backend is out of
/// reach, and another gets the SYN when the client sends it again. `key` is that of the backend's answers.
#[inline(always)]
pub(super) fn is_waiting<F: Family>(tables: &impl Tables<F>, key: &Key<F>, client: &Key<F>) -> bool {
    let Some(first) = tables.half_open(client).filter(|first| first.other() == *key && is_open::<F>(first)) else {
        return false;
    };
    let is_waiting = tables.syn(client).is_some();
    if is_waiting {
        tell::<F>(tables, first.backend as u32, millis(tables.micros()));
    }
    is_waiting
}

/// Whether the backend has not answered, and others may be left.
#[inline(always)]
fn is_open<F: Family>(first: &Entry<F>) -> bool {
    first.state.get() & (state::ANSWERED | state::LAST) == 0
}

/// Whether a backend whose answers are not seen has opened no connection since a SYN of this age went there.
#[inline(always)]
fn is_silent<F: Family>(tables: &impl Tables<F>, slot: u32, now: u32, age: u32) -> bool {
    let Some(pulse) = tables.pulse(slot) else {
        return false;
    };
    let waiting = pulse.waiting.get();
    waiting != 0 && now.wrapping_sub(pulse.since.get()) >= age && (waiting >= SUSPECT_SYNS || age >= DIRECT_SILENCE_MS)
}

/// The part after [`is_due`]: makes the packet the client's SYN and finds it another backend. With none left, a RST goes
/// to the client and a SYN goes on as before ([`Step::Unknown`]).
#[inline(always)]
pub fn retry<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = super::key(head);
    let Some(half) = tables.half_open(&key) else {
        // Another CPU was faster.
        return Step::End(Reason::Refused);
    };
    let is_refused = !half.is_from_client();
    let client = if is_refused { half.other() } else { key };
    let Some(first) = tables.half_open(&client).filter(|first| first.is_from_client()) else {
        return Step::End(Reason::Refused);
    };
    let slot = first.backend as u32;
    if is_refused {
        // Its host lives: what nobody listens at is one port of it.
        lives::<F>(tables, slot);
    }
    let now = tables.micros();
    let kept =
        tables.syn(&client).filter(|syn| !is_refused || head.acknowledgement().get() == syn.sequence.wrapping_add(1));
    let next = match (kept, tables.service(&listener::<F>(&client))) {
        (Some(syn), Some(service)) if syn.try_no_more(slot) => {
            tell::<F>(tables, slot, millis(now));
            other::<F>(tables, &service, millis(now), |slot| !syn.has_tried(slot)).map(|next| (syn, next))
        }
        _ => None,
    };
    let Some((syn, next)) = next else {
        first.state.set(first.state.get() | state::LAST);
        return if is_refused { give(head, tables, node, &key, half) } else { Step::Unknown };
    };
    if is_refused {
        let mac = first.mac();
        if syn.is_whole == 0 || rebuild::<F>(packet, node, syn, mac).is_err() {
            return Step::End(Reason::Refused);
        }
    }
    let answers = first.other();
    if !first.is_direct() {
        tables.remove_half_open(&answers);
    }
    tables.remove_half_open(&client);
    balance::count_opening(tables, slot, Change::Ended);
    tables.count_retry(slot, is_refused);
    syn.at.set(now as u32);
    went_to::<F>(tables, next, now);
    Step::Open(next)
}

/// The RST as the client must get it.
#[inline(always)]
fn give<F: Family>(head: &mut TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>, half: &Entry<F>) -> Step {
    let client = half.other();
    let is_local = half.is_local();
    if is_local {
        rewrite::deliver(head, half);
    } else {
        rewrite::translate(head, half, node, half.mac());
    }
    tables.remove_half_open(key);
    tables.remove_half_open(&client);
    balance::count_opening(tables, half.backend as u32, Change::Ended);
    Step::End(if is_local { Reason::LocalHandshake } else { Reason::Handshake })
}

/// Makes the frame the SYN as it arrived.
#[inline(always)]
fn rebuild<F: Family>(packet: &mut impl Packet, node: &Node, syn: &SharedSyn, mac: [u8; 6]) -> Result<(), ()> {
    let length = syn.options_length as u32;
    packet.resize(TcpHead::<F>::LENGTH + length as usize).map_err(|_| ())?;
    packet.set_options(TcpHead::<F>::LENGTH, length, &syn.options).map_err(|_| ())?;
    let head = F::head(packet).map_err(|_| ())?;
    head.set_mac_destination(node.mac);
    head.set_mac_source(mac);
    head.set_packet(&syn.head);
    Ok(())
}

/// A backend of the service with a share and room that `may` be taken, in turn; one that is suspect only where no other
/// is.
#[inline(always)]
fn other<F: Family>(tables: &impl Tables<F>, service: &Service, now: u32, may: impl Fn(u32) -> bool) -> Option<u32> {
    let length = service.set_length as u32;
    if length == 0 {
        return None;
    }
    // A node that only delivers forwards nothing, whatever it did when the SYN came.
    let node = tables.node().filter(|node| node.flags & node_flag::DELIVERS_ONLY == 0)?;
    let set = service.ring_start.wrapping_add(service.ring_length as u32);
    let turn = tables.take_turn(service.number as u32)?;
    // No `Option`: of one that is none the kernel would see a word that was never written.
    let mut spare = NONE;
    let mut tries = 0;
    while tries < TRIES && tries < length {
        let slot = tables.ring(set.wrapping_add((turn % length + tries) % length))?;
        tries += 1;
        let takes = tables.backend(slot).is_some_and(|backend| {
            balance::is_of(backend, service) && backend.share != 0 && balance::has_room(tables, slot, backend)
        });
        if takes && may(slot) {
            if !tables.pulse(slot).is_some_and(|pulse| is_suspect(pulse, node, now)) {
                return Some(slot);
            }
            if spare == NONE {
                spare = slot;
            }
        }
    }
    (spare != NONE).then_some(spare)
}

/// The backend that was chosen for a new connection, or another one while that is suspect.
#[inline(always)]
pub(super) fn unless_suspect<F: Family>(tables: &impl Tables<F>, node: &Node, service: &Service, slot: u32) -> u32 {
    let Some(pulse) = tables.pulse(slot).filter(|pulse| pulse.waiting.get() >= SUSPECT_SYNS) else {
        return slot;
    };
    let now = millis(tables.micros());
    if !is_suspect(pulse, node, now) {
        return slot;
    }
    tell::<F>(tables, slot, now);
    let is_better =
        |other: u32| other != slot && !tables.pulse(other).is_some_and(|pulse| is_suspect(pulse, node, now));
    other::<F>(tables, service, now, is_better).unwrap_or(slot)
}

/// Whether a backend leaves several SYNs unanswered; `now` is in milliseconds.
#[inline(always)]
#[must_use]
pub fn is_suspect(pulse: &SharedPulse, node: &Node, now: u32) -> bool {
    let silent = now.wrapping_sub(pulse.last.get());
    pulse.waiting.get() >= SUSPECT_SYNS
        && now.wrapping_sub(pulse.since.get()) >= node.suspect_after as u32
        && silent < SUSPECT_RETRY_MS
}

/// Notes that a SYN has gone to a backend.
#[inline(always)]
fn went_to<F: Family>(tables: &impl Tables<F>, slot: u32, micros: u64) {
    let Some(pulse) = tables.pulse(slot) else {
        return;
    };
    let now = millis(micros);
    let waiting = pulse.waiting.get();
    if waiting == 0 || now.wrapping_sub(pulse.last.get()) >= PULSE_FORGETS_MS {
        pulse.since.set(now);
        pulse.waiting.set(1);
    } else {
        pulse.waiting.set(waiting.wrapping_add(1));
    }
    pulse.last.set(now);
}

/// A SYN of which [`keep`] has noted that it goes to one backend goes to another.
#[inline(always)]
pub(super) fn goes_elsewhere<F: Family>(tables: &impl Tables<F>, from: u32, to: u32, micros: u64) {
    if let Some(pulse) = tables.pulse(from) {
        // Another answer may have ended the waiting meanwhile.
        pulse.waiting.set(pulse.waiting.get().saturating_sub(1));
    }
    went_to::<F>(tables, to, micros);
}

/// A backend has answered a SYN; `first` is the client's entry.
#[inline(always)]
pub(super) fn answered<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, client: &Key<F>, first: &Entry<F>) {
    if first.state.get() & state::ANSWERED != 0 {
        return;
    }
    let slot = first.backend as u32;
    lives::<F>(tables, slot);
    let is_its = |syn: &&SharedSyn| head.acknowledgement().get() == syn.sequence.wrapping_add(1);
    if let Some(syn) = tables.syn(client).filter(is_its) {
        tables.count_handshake(slot, (tables.micros() as u32).wrapping_sub(syn.at.get()));
        // It goes nowhere else now, and to push it out later costs more than to remove it while it is at hand.
        tables.forget_syn(client);
    }
}

/// The backend in a slot answers.
#[inline(always)]
pub(super) fn lives<F: Family>(tables: &impl Tables<F>, slot: u32) {
    if let Some(pulse) = tables.pulse(slot)
        && pulse.waiting.get() != 0
    {
        pulse.waiting.set(0);
    }
}

/// Tells the agent, unless it has just been told.
#[inline(always)]
fn tell<F: Family>(tables: &impl Tables<F>, slot: u32, now: u32) {
    if let Some(pulse) = tables.pulse(slot)
        && now.wrapping_sub(pulse.told.get()) >= EVENT_EVERY_MS
    {
        pulse.told.set(now);
        tables.suspect(slot);
    }
}

#[inline(always)]
const fn millis(micros: u64) -> u32 {
    (micros / 1000) as u32
}

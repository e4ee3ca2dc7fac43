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
//!
//! A flow that was opened through another node, to the backend that is this one, keeps the addresses that its server knows.
//! Since the VIP has moved here, that server's answers leave by the loopback interface, and are met there ([`leave_home`]):
//!
//! ```text
//! client:cp -> VIP:vp          rewritten to  VIP:sp -> node:bp         (entry ToBackend, local)
//! node:bp -> VIP:sp            rewritten to  VIP:vp -> client:cp       (entry ToClient, local; leaving by loopback)
//! ```

mod admit;
pub mod balance;
mod choose;
mod deliver;
mod error;
mod expired;
mod failure;
pub mod lease;
pub mod local;
mod open;
mod parse;
pub mod ports;
mod reset;
mod retry;
mod rewrite;
pub mod tables;
mod track;
pub mod tunnel;

use crate::abi::{
    Backend, Delivery, Endpoint, Flow, FlowKey, Node, Readable as _, Reason, SharedFlow, Sharing, node_flag,
};
use crate::net::header::{TcpHead, ethertype, flag};
use crate::net::{Be16, Family, V4, V6};
use crate::packet::Packet;
pub use parse::Odd;
use tables::{Note, Tables};
pub use tunnel::Nested;

pub use admit::admit;
pub use choose::again;
pub use deliver::{leave, leave_home};
pub use error::error;
use failure::Told;
pub use ports::elsewhere;
pub use reset::answer;
pub use retry::{is_suspect, keep, retry};

/// A flow's key, in one IP version.
type Key<F> = FlowKey<<F as Family>::Address>;
/// A flow's entry as it lies in its table.
type Entry<F> = SharedFlow<<F as Family>::Address>;
/// A flow's entry before it lies there.
type NewFlow<F> = Flow<<F as Family>::Address>;

/// An IP version that the datapath handles.
pub trait Handled: Family + Odd + Nested + Told {}
impl<F: Family + Odd + Nested + Told> Handled for F {}

/// Why the sender gets an answer instead; always a reason whose verdict is to reply.
pub type ResetFor = Reason;

/// What comes next for a packet. The kernel verifies each part by itself, so they are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: this is how it ended.
    End(Reason),
    /// No established flow has it: [`unknown`].
    Unknown,
    /// It is of no flow, and for a service that not everyone may use: [`admit()`].
    Admit,
    /// It opens a connection to a service: [`choose()`].
    Choose,
    /// It is of a connection to a service whose flow is not known here: [`again()`].
    Again,
    /// The connection goes to the backend in this slot: [`open()`].
    Open(u32),
    /// It goes to another, for want of a source port to the one in this slot: [`elsewhere`].
    Elsewhere(u32),
    /// Its backend may not take it: [`retry()`]. With [`Step::Unknown`] after that, [`unknown`] goes on.
    Retry,
    /// Its sender gets a RST, or is told that no hop was left: [`answer()`].
    Reset(ResetFor),
    /// It has been rewritten, and leaves inside an outer packet: [`tunnel::wrap`].
    Wrap(Reason),
    /// It is ICMP, and may be an error about one of our packets: [`error()`].
    Icmp,
    /// It asks or tells where an address of IPv6 is: [`lease::neighbour`].
    Neighbour,
    /// It may be an outer packet: [`tunnel::unwrap`]; then all from the beginning.
    Unwrap,
}

impl From<Result<Reason, ResetFor>> for Step {
    #[inline(always)]
    fn from(outcome: Result<Reason, ResetFor>) -> Self {
        match outcome {
            Ok(reason) => Self::End(reason),
            Err(reset) => Self::Reset(reset),
        }
    }
}

/// The same for a frame that leaves the host's own stack; what is none of ours ends as [`Reason::NotVip`].
#[inline(always)]
pub fn process_leaving(packet: &mut impl Packet, tables: &(impl Tables<V4> + Tables<V6>)) -> Reason {
    let refused = match ethertype(packet) {
        Ok(lease::ARP) => packet.head().ok().and_then(|head| lease::arp_leaves(head, tables)),
        Ok(V6::ETHERTYPE) => packet.head().ok().and_then(|head| lease::neighbour_leaves(head, tables)),
        _ => None,
    };
    if let Some(reason) = refused {
        return reason;
    }
    match ethertype(packet) {
        Ok(V4::ETHERTYPE) => left::<V4>(packet, tables),
        Ok(V6::ETHERTYPE) => left::<V6>(packet, tables),
        _ => Reason::NotVip,
    }
}

/// The same for a frame that the host's own stack sends by its loopback interface.
#[inline(always)]
pub fn process_leaving_home(packet: &mut impl Packet, tables: &(impl Tables<V4> + Tables<V6>)) -> Reason {
    match ethertype(packet) {
        Ok(V4::ETHERTYPE) => ended(leave_home::<V4>(packet, tables)),
        Ok(V6::ETHERTYPE) => ended(leave_home::<V6>(packet, tables)),
        _ => Reason::NotVip,
    }
}

#[inline(always)]
fn left<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Reason {
    match whole_leaving(packet, tables) {
        Step::Wrap(reason) => tunnel::wrap::<F>(packet, tables, false, false).err().unwrap_or(reason),
        step => ended(step),
    }
}

#[inline(always)]
fn whole_leaving<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    match leave(packet, tables) {
        Step::Retry => {
            let step = retry(packet, tables);
            opened(packet, tables, step)
        }
        step => step,
    }
}

/// Decides about a frame and rewrites it; the caller sends, passes or drops it as the reason's verdict says.
///
/// Total: every frame, however malformed, ends with a reason. A frame whose verdict is to pass has not been changed.
#[inline(always)]
pub fn process(packet: &mut impl Packet, tables: &(impl Tables<V4> + Tables<V6>)) -> Reason {
    match ethertype(packet) {
        Ok(V4::ETHERTYPE) => of_version::<V4>(packet, tables),
        Ok(V6::ETHERTYPE) => of_version::<V6>(packet, tables),
        Ok(lease::ARP) => packet.head().map_or(Reason::NotIp, |head| lease::arp(head, tables)),
        other => no_ip(other.is_ok()),
    }
}

/// How a frame ends that is not IP.
#[inline(always)]
pub fn no_ip(has_ethertype: bool) -> Reason {
    if has_ethertype { Reason::NotIp } else { Reason::Runt }
}

#[inline(always)]
fn of_version<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Reason {
    match whole::<F>(packet, tables) {
        Step::Unwrap => match tunnel::unwrap::<F>(packet, tables) {
            Some(reason) => reason,
            None => ended(whole::<F>(packet, tables)),
        },
        Step::Wrap(reason) => {
            let is_error = reason == Reason::IcmpError;
            tunnel::wrap::<F>(packet, tables, false, is_error).err().unwrap_or(reason)
        }
        step => ended(step),
    }
}

#[inline(always)]
fn ended(step: Step) -> Reason {
    match step {
        Step::End(reason) => reason,
        // Each part comes before those it may call for.
        _ => Reason::NotVip,
    }
}

#[inline(always)]
fn whole<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let step = match known(packet, tables) {
        Step::Neighbour => lease::neighbour(packet, tables),
        Step::Unknown => match unknown(packet, tables) {
            Step::Unknown => known(packet, tables),
            Step::Retry => match retry(packet, tables) {
                Step::Unknown => unknown(packet, tables),
                step => step,
            },
            step => step,
        },
        step => step,
    };
    let step = match step {
        Step::Admit => admit(packet, tables),
        step => step,
    };
    let step = match step {
        Step::Again => again(packet, tables),
        Step::Choose => match choose(packet, tables) {
            Step::Open(slot) => {
                keep(packet, tables, slot);
                Step::Open(slot)
            }
            step => step,
        },
        step => step,
    };
    opened(packet, tables, step)
}

/// What comes after a backend has been chosen.
#[inline(always)]
fn opened<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>, step: Step) -> Step {
    let step = match step {
        Step::Open(slot) => open(packet, tables, slot),
        step => step,
    };
    let step = match step {
        Step::Elsewhere(slot) => match elsewhere(packet, tables, slot) {
            Step::Open(other) => open(packet, tables, other),
            step => step,
        },
        step => step,
    };
    match step {
        Step::Elsewhere(_) => Step::End(answered(packet, tables, Reason::NoSourcePort)),
        Step::Icmp => error(packet, tables),
        Step::Reset(reset) => Step::End(answered(packet, tables, reset)),
        step => step,
    }
}

#[inline(always)]
fn answered<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>, reason: Reason) -> Reason {
    answer(packet, tables, reason as u32).unwrap_or(reason)
}

/// What comes next for a packet to a VIP with something wrong about it.
#[inline(always)]
fn faulty(fault: Reason) -> Step {
    if fault == Reason::Ttl { Step::Reset(Reason::TimeExceeded) } else { Step::End(fault) }
}

/// The first part: a frame of this IP version whose flow is established, or that is none of ours at first sight.
#[inline(always)]
pub fn known<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let length = packet.len();
    let Some(node) = tables.node() else {
        return Step::End(Reason::NotConfigured);
    };
    let Ok(head) = F::head(packet) else {
        return Step::End(F::odd(packet, tables, node));
    };
    if !head.is_plain_tcp() || head.mac_destination() != node.mac {
        if F::is_neighbour_discovery(head) {
            return Step::Neighbour;
        }
        if tunnel::may_be_outer(head, node) {
            return Step::Unwrap;
        }
        if head.is_plain_icmp() && head.mac_destination() == node.mac {
            return Step::Icmp;
        }
        return Step::End(F::odd(packet, tables, node));
    }
    let key = key(head);
    let Some(flow) = tables.established(&key) else {
        return Step::Unknown;
    };
    if flow.is_local() && !flow.is_from_client() {
        // This node's own answers do not arrive from outside.
        return Step::End(Reason::NotVip);
    }
    if let Some(fault) = parse::fault(head, length) {
        return faulty(fault);
    }
    if flow.is_direct() && deliver::is_forwarded(head, tables, node, &key) {
        // It was this node that forwarded, before another did.
        track::count_end(tables, flow);
        tables.remove_established(&key);
        return Step::Unknown;
    }
    if track::is_opening(head) && flow.is_closed() {
        // The client uses its port again: a new connection, which gets a backend of its own. The entry for answers
        // stays for its time, because the backend remembers the source port.
        if flow.is_from_client() {
            tables.remove_established(&key);
        }
        return Step::Unknown;
    }
    let is_tunnelled = flow.is_tunnelled();
    leaving(established(head, length as u64, tables, node, &key, flow), is_tunnelled)
}

/// The second part: a frame that [`known`] found no established flow for. [`Step::Unknown`]: now there is one.
#[inline(always)]
pub fn unknown<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let length = packet.len();
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = key(head);
    if !tables.is_vip(key.destination) {
        return Step::End(Reason::NotVip);
    }
    // Of a service: whether not everyone may open connections to it.
    let service = tables.service(&listener::<F>(&key)).map(|service| service.allow | service.is_limited != 0);
    let is_service = service.is_some();
    if !is_service && !is_backend_answer(tables, node, &key) {
        return Step::End(Reason::NotService);
    }
    if let Some(fault) = parse::fault(head, length) {
        return faulty(fault);
    }
    // What this node sends to itself does not arrive from outside.
    if parse::is_martian(&key, tables) || tables.is_own(key.source) {
        return Step::End(Reason::Martian);
    }
    let opens = track::is_opening(head);
    if let Some(half) = tables.half_open(&key) {
        // As in the first part: it was this node that forwarded, before another did.
        let forwarded_back = half.is_direct() && deliver::is_forwarded(head, tables, node, &key);
        if !(forwarded_back || opens && open::is_orphan(tables, &key, half)) {
            if retry::is_due(head, tables, node, &key, half) {
                return Step::Retry;
            }
            let is_tunnelled = half.is_tunnelled();
            let outcome = open::half_open(head, length as u64, tables, node, &key, half, tables.now());
            return leaving(outcome, is_tunnelled);
        }
        open::forget(tables, &key, half);
    } else if !opens && tables.established(&key).is_some() {
        // Another CPU has moved it there meanwhile.
        return Step::Unknown;
    }
    if service == Some(true) {
        return Step::Admit;
    }
    if opens && is_service {
        return Step::Choose;
    }
    of_no_flow(head, tables, node, &key, is_service)
}

/// What comes next for a packet that belongs to no flow and opens none.
#[inline(always)]
fn of_no_flow<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, node: &Node, key: &Key<F>, is_service: bool,
) -> Step {
    let flags = head.flags();
    if flags & flag::RST != 0 {
        return Step::End(Reason::StrayReset);
    }
    if flags & (flag::SYN | flag::ACK) == 0 {
        return Step::End(Reason::TcpFlags);
    }
    if is_service && deliver::is_forwarded(head, tables, node, key) {
        // Who forwarded it is not its sender: our own server's stack answers it, where there is one.
        return Step::Choose;
    }
    match tables.sharing() {
        None => Step::Reset(Reason::NoFlow),
        Some(sharing) => of_no_shared_flow(head, tables, is_service, sharing),
    }
}

/// The same where other nodes may have the flow: what they can still tell, or what follows without them, comes before a RST.
#[inline(always)]
fn of_no_shared_flow<F: Family>(
    head: &TcpHead<F>, tables: &impl Tables<F>, is_service: bool, sharing: &Sharing,
) -> Step {
    if !is_service && head.flags() & flag::SYN != 0 {
        // Its client sends its SYN again, to whoever has the VIP by then; a RST would end what is well elsewhere.
        return Step::End(Reason::AnswerElsewhere);
    }
    if tables.nanoseconds() < sharing.patient_until {
        return Step::End(Reason::Awaited);
    }
    // Where the backend follows from the client's address, its own node may have the flow.
    if is_service { Step::Again } else { Step::Reset(Reason::NoFlow) }
}

/// The fourth part: which backend the connection goes to whose first packet [`unknown`] has found, and [`admit()`] let in.
#[inline(always)]
pub fn choose<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>) -> Step {
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = key(head);
    let Some(service) = tables.service(&listener::<F>(&key)) else {
        return Step::End(Reason::NotService);
    };
    if parse::is_martian(&key, tables) {
        return Step::End(Reason::Martian);
    }
    let slot = match choose::choose(head, tables, node, &key, &service) {
        Ok(slot) => slot,
        Err(reset) => return Step::Reset(reset),
    };
    if Some(slot) == service.own.checked_sub(1) && deliver::is_forwarded(head, tables, node, &key) {
        return Step::Open(slot);
    }
    Step::Open(retry::unless_suspect(tables, node, &service, slot))
}

/// The fifth part: the first packet of a connection to the backend in `slot`.
#[inline(always)]
pub fn open<F: Handled>(packet: &mut impl Packet, tables: &impl Tables<F>, slot: u32) -> Step {
    let length = packet.len();
    let (Some(node), Ok(head)) = (tables.node(), F::head(packet)) else {
        return Step::End(Reason::NotConfigured);
    };
    let key = key(head);
    let Some(service) = tables.service(&listener::<F>(&key)) else {
        return Step::End(Reason::NotService);
    };
    // Read anew, and whoever shares its memory may have changed it.
    if let Some(fault) = parse::fault(head, length) {
        return Step::End(fault);
    }
    let outcome = open::new_flow(head, tables, node, &key, &service, slot, tables.now());
    if outcome == Err(Reason::NoSourcePort) {
        return Step::Elsewhere(slot);
    }
    leaving(outcome, tables.half_open(&key).is_some_and(Entry::<F>::is_tunnelled))
}

/// What comes next for a packet of a flow.
#[inline(always)]
fn leaving(outcome: Result<Reason, ResetFor>, is_tunnelled: bool) -> Step {
    match outcome {
        Ok(reason @ (Reason::NewFlow | Reason::Handshake | Reason::Opened | Reason::ToBackend)) if is_tunnelled => {
            Step::Wrap(reason)
        }
        outcome => outcome.into(),
    }
}

/// Where a packet's receiver listens.
#[inline(always)]
fn listener<F: Family>(key: &Key<F>) -> Endpoint {
    Endpoint::new(key.destination.into(), key.destination_port)
}

#[inline(always)]
fn key<F: Family>(head: &TcpHead<F>) -> Key<F> {
    FlowKey {
        source: head.source(),
        destination: head.destination(),
        source_port: head.source_port(),
        destination_port: head.destination_port(),
    }
}

/// A packet of an established flow.
#[inline(always)]
fn established<F: Family>(
    head: &mut TcpHead<F>, bytes: u64, tables: &impl Tables<F>, node: &Node, key: &Key<F>, flow: &Entry<F>,
) -> Result<Reason, ResetFor> {
    let now = tables.now();
    let slot = flow.backend as u32;
    // Who forwarded a packet is not its sender: this node's own stack judges it, and its answer finds the client.
    if track::is_of_another(head, tables, key, flow, now)
        && !(flow.is_local() && deliver::is_forwarded(head, tables, node, key))
    {
        return Err(Reason::StaleFlow);
    }
    if !flow.is_from_client() {
        let Some(mac) = client_mac(tables, node, flow, head.ip_length(), now) else {
            return Ok(Reason::NoNeighbour);
        };
        track::follow(head, tables, key, flow, now);
        rewrite::translate(head, flow, node, mac);
        tables.count_out(slot, bytes);
        return Ok(Reason::ToClient);
    }

    let Some(backend) = backend_of(tables, flow) else {
        tables.note(Note::BackendGone, key, slot);
        track::count_end(tables, flow);
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
    let Some(mac) = rewrite::backend_mac(tables, node, backend, flow.translated.source, head.ip_length()) else {
        return Ok(Reason::NoNeighbour);
    };
    if flow.is_direct() && !flow.is_tunnelled() && deliver::is_back(head, Delivery::Direct, mac) {
        track::count_end(tables, flow);
        tables.remove_established(key);
        return Err(Reason::BackendGone);
    }
    learn_client_mac(head, tables, flow);
    track::follow(head, tables, key, flow, now);
    rewrite::translate(head, flow, node, mac);
    tables.count_in(slot, bytes, false);
    Ok(Reason::ToBackend)
}

/// The flow's backend, unless it is gone.
#[inline(always)]
fn backend_of<'a, F: Family>(tables: &'a impl Tables<F>, flow: &Entry<F>) -> Option<&'a Backend> {
    let backend = tables.backend(flow.backend as u32)?;
    (backend.generation == flow.generation && backend.gone == 0).then_some(backend)
}

/// The entry for the other direction, unless the client's port belongs to another flow by now.
#[inline(always)]
fn pair<'a, F: Family>(tables: &'a impl Tables<F>, key: &Key<F>, flow: &Entry<F>) -> Option<&'a Entry<F>> {
    tables.established(&flow.other()).filter(|other| other.other() == *key)
}

/// Whether this could be a backend's answer to one of our source ports.
#[inline(always)]
fn is_backend_answer<F: Family>(tables: &impl Tables<F>, node: &Node, key: &Key<F>) -> bool {
    let offset = (key.destination_port.get() as u32).wrapping_sub(node.first_port as u32);
    // A backend without a port answers from any.
    let (itself, any_port) =
        (Endpoint::new(key.source.into(), key.source_port), Endpoint::new(key.source.into(), Be16::default()));
    offset < node.port_count as u32 && (tables.is_backend(&itself) || tables.is_backend(&any_port))
}

/// Where a packet to the client goes: as the kernel's tables say, else to where its own packets came from.
#[inline(always)]
fn client_mac<F: Family>(
    tables: &impl Tables<F>, node: &Node, flow: &Entry<F>, length: u32, now: u32,
) -> Option<[u8; 6]> {
    if node.flags & node_flag::FIB != 0 && flow.routed.get() != now {
        flow.routed.set(now);
        let translated = &flow.translated;
        if let Some(mac) = tables.next_hop(translated.source, translated.destination, length as u16) {
            flow.set_mac(mac);
        }
    }
    let mac = flow.mac();
    (mac != [0; 6]).then_some(mac)
}

/// Remembers where the client's packets come from, when that has changed.
#[inline(always)]
fn learn_client_mac<F: Family>(head: &TcpHead<F>, tables: &impl Tables<F>, flow: &Entry<F>) {
    let mac = head.mac_source();
    if flow.mac() != mac {
        flow.set_mac(mac);
        if let Some(answers) = tables.established(&flow.other()) {
            answers.set_mac(mac);
        }
    }
}

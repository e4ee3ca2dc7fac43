//! Everything the datapath may ask besides the packet.

use super::balance::Rounds;
use super::lease::Leases;
use super::ports::{Search, Try};
use crate::abi::{
    Endpoint, Flow, FlowKey, Moment, NoHint, Node, PortKey, Service, SharedFlow, SharedPulse, SharedSyn, Sharing,
    Source, SourceLimit, Syn, told,
};
use crate::net::Family;

/// A table took no entry, or the key was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Something worth a line in the agent's log; never more than one for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A handshake was completed.
    Opened,
    /// A flow was closed or reset by one of its ends.
    Closed,
    /// A flow's backend is gone.
    BackendGone,
    /// No source port is left towards a backend; another may have one.
    NoSourcePort,
    /// The table of flows is full.
    TableFull,
}

impl Note {
    /// What those are told who share flows.
    #[inline(always)]
    #[must_use]
    pub const fn told(self) -> Option<u32> {
        match self {
            Self::Opened => Some(told::OPENED),
            Self::Closed | Self::BackendGone => Some(told::CLOSED),
            Self::NoSourcePort | Self::TableFull => None,
        }
    }
}

/// Where a flow's two entries are made, and a source port is looked for: together they are more than a stack of the
/// kernel's takes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Drafts<A> {
    /// The entry for packets from the client.
    pub there: Flow<A>,
    /// The entry for answers.
    pub back: Flow<A>,
    /// The key of that entry.
    pub answers: FlowKey<A>,
}

/// The kernel's maps and helpers, or a model of them, as packets of one IP version need them.
pub trait Tables<F: Family>: Rounds + Leases {
    /// This node, once the agent has described it.
    fn node(&self) -> Option<&Node>;
    /// What is known of nodes that share these flows, where there are any.
    fn sharing(&self) -> Option<&Sharing>;
    /// Seconds of the kernel's monotonic clock.
    fn now(&self) -> u32;
    /// Nanoseconds of the same clock, exactly.
    fn nanoseconds(&self) -> u64;
    /// Microseconds of the same clock.
    fn micros(&self) -> u64;
    /// Whether the address is one of the VIPs.
    fn is_vip(&self, address: F::Address) -> bool;
    /// Whether the address is one of this node's own, VIPs apart.
    fn is_own(&self, address: F::Address) -> bool;
    /// What is behind a VIP:port.
    fn service(&self, listener: &Endpoint) -> Option<Service>;
    /// Whether a list allows connections from an address.
    fn is_allowed(&self, list: u32, address: F::Address) -> bool;
    /// How many connections a source may open to the service with this number, and have there.
    fn source_limit(&self, service: u32) -> Option<&SourceLimit>;
    /// When the bucket of a source is full again.
    fn limited(&self, source: &Source) -> Option<&Moment>;
    /// Remembers a source that has opened its first connection, if there is room.
    fn add_limited(&self, source: &Source, filled: u64);
    /// Until when a source is taken for one that has as many connections as it may; nanoseconds.
    fn full_until(&self, source: &Source) -> Option<u64>;
    /// Whether a node with this Ethernet address forwards to this one without translating.
    fn is_fellow(&self, mac: [u8; 6]) -> bool;
    /// Whether packets inside outer ones from this address are taken.
    fn is_tunnel(&self, from: F::Address) -> bool;
    /// Whether some backend listens there.
    fn is_backend(&self, endpoint: &Endpoint) -> bool;
    /// Moves on by `step` among a backend's source ports; returns where it was.
    fn take_port(&self, slot: u32, step: u32) -> Option<u32>;
    /// [`find`](super::ports::find), and completes `answers` by what it finds.
    fn find_port(&self, answers: &mut FlowKey<F::Address>, slot: u32, is_local: bool) -> bool;
    /// [`try_port`](super::ports::try_port).
    fn try_port(&self, search: &Search<F::Address>, in_need: bool) -> Try;
    /// Takes a port of the set that a search has come to, this one or the next that is free, by [`SharedPortSet::take`].
    ///
    /// # Errors
    /// As that says; [`NoHint::Full`] where there is no such set.
    ///
    /// [`SharedPortSet::take`]: crate::abi::SharedPortSet::take
    fn take_hint(&self, search: &Search<F::Address>, from: u16) -> Result<u16, NoHint>;
    /// Whether a set says that no port is free.
    fn is_exhausted(&self, key: PortKey) -> bool;
    /// A source address besides the VIP.
    fn source(&self, number: u32) -> Option<F::Address>;
    /// A random number.
    fn random(&self) -> u32;
    /// An entry of the table of established flows.
    fn established(&self, key: &FlowKey<F::Address>) -> Option<&SharedFlow<F::Address>>;
    /// An entry of the table of half-open flows.
    fn half_open(&self, key: &FlowKey<F::Address>) -> Option<&SharedFlow<F::Address>>;
    /// Room for a new flow, with anything in it.
    ///
    /// # Safety
    /// It is the same place every time: what an earlier call has returned is used no more.
    #[allow(clippy::mut_from_ref, reason = "a place of this CPU's own, which tables that are shared lend out")]
    unsafe fn drafts(&self) -> Option<&mut Drafts<F::Address>>;
    /// What is kept of a client's SYN.
    fn syn(&self, client: &FlowKey<F::Address>) -> Option<&SharedSyn>;
    /// Room for one, with anything in it.
    ///
    /// # Safety
    /// As [`Self::drafts`].
    #[allow(clippy::mut_from_ref, reason = "a place of this CPU's own, which tables that are shared lend out")]
    unsafe fn syn_draft(&self) -> Option<&mut Syn>;
    /// Keeps a client's SYN, in place of any other.
    fn keep_syn(&self, client: &FlowKey<F::Address>, syn: &Syn);
    /// Forgets a client's SYN, if one is kept.
    fn forget_syn(&self, client: &FlowKey<F::Address>);
    /// How the backend in `slot` answers.
    fn pulse(&self, slot: u32) -> Option<&SharedPulse>;
    /// Counts a handshake with the backend in `slot`, which took so many microseconds from SYN to SYN-ACK.
    fn count_handshake(&self, slot: u32, micros: u32);
    /// Counts a SYN that goes on to another backend because the one in `slot` refused it, or did not answer.
    fn count_retry(&self, slot: u32, refused: bool);
    /// Tells the agent that the backend in `slot` may be dead.
    fn suspect(&self, slot: u32);
    /// Adds an established entry.
    ///
    /// # Errors
    /// [`Refused`] when the table is full or has the key.
    fn add_established(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) -> Result<(), Refused>;
    /// Adds a half-open entry.
    ///
    /// # Errors
    /// [`Refused`] when the table cannot take it or has the key.
    fn add_half_open(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) -> Result<(), Refused>;
    /// Removes an established entry, if it is there.
    fn remove_established(&self, key: &FlowKey<F::Address>);
    /// Removes a half-open entry, if it is there.
    fn remove_half_open(&self, key: &FlowKey<F::Address>);
    /// The Ethernet address of the next hop for a packet from `source` to `destination`, by the kernel's FIB and
    /// neighbour tables.
    fn next_hop(&self, source: F::Address, destination: F::Address, length: u16) -> Option<[u8; 6]>;
    /// Takes one RST out of this second's budget; false when it is spent.
    fn spend_reset(&self, now: u32, per_second: u32) -> bool;
    /// Takes one ICMP error out of this second's budget; false when it is spent.
    fn spend_error(&self, now: u32) -> bool;
    /// Counts a packet from the client for the backend in `slot`, and a new flow.
    fn count_in(&self, slot: u32, bytes: u64, opened: bool);
    /// Counts a packet to the client for the backend in `slot`.
    fn count_out(&self, slot: u32, bytes: u64);
    /// Tells the agent; of a flow that opened or closed, also who shares flows.
    fn note(&self, note: Note, client: &FlowKey<F::Address>, slot: u32);
}

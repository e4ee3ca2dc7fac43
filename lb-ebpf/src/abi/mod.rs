//! What crosses the boundary between the kernel side and the agent, and only this.
//!
//! Every type is `repr(C)` without implicit padding, because keys are hashed as bytes. [`VERSION`] changes with any
//! of them; an agent replaces pinned tables of another version instead of reading them.

mod admission;
mod adoption;
mod balance;
mod capture;
mod flow;
mod lease;
mod local;
#[cfg(feature = "user")]
mod pod;
mod ports;
mod pulse;
mod reason;
mod sharing;
mod syn;
mod word;

pub use admission::{
    ALLOWED_ENTRIES, Allowed, LIST_BITS, MAX_ALLOWED, MAX_FULL_SOURCES, MAX_LIMITED_SOURCES, Source, SourceLimit, mask,
};
pub use adoption::{Adoption, Keyed};
pub use balance::{Balance, Change, Correction, LOADS, Load, service_load};
pub use capture::{CAPTURE_BYTES, Captured, place};
pub use flow::{Delivery, Direction, Flow, FlowKey, SharedFlow, split_mac, state};
pub use lease::{CLAIMS_PER_SECOND, Claim, Lease, SharedLease, lease_flag};
pub use local::{Dialled, Hook, MAX_OWN_ADDRESSES, NOBODY};
pub use ports::{NoHint, PortKey, PortSet, SharedPortSet};
pub use pulse::{
    EVENT_EVERY_MS, HANDSHAKE_BOUNDS, HANDSHAKE_BUCKETS, PULSE_FORGETS_MS, Pulse, SUSPECT_RETRY_MS, SUSPECT_SYNS,
    SharedPulse, Suspicion, handshake_bucket,
};
pub use reason::{Reason, Verdict};
pub use sharing::{CHANGE_BYTES, LOG_BYTES, Logged, Sharing, Told, hears, told};
pub use syn::{MAX_TRIED, SYN_ENTRIES, SYN_HEAD, SYN_OPTIONS, SharedSyn, Syn};
pub use word::{Bits, Moment, Readable, Word};

use crate::net::{Be16, Be32, Be128};

/// Version of this boundary.
pub const VERSION: u32 = 5;

/// Places a node can listen at: address:port, of all services together; a range of ports takes one for each.
pub const MAX_LISTENERS: u32 = 16_384;
/// Nodes that forward to this one without translating.
pub const MAX_FELLOWS: u32 = 256;
/// Nodes from which this one takes packets inside outer ones.
pub const MAX_TUNNELS: u32 = 256;
/// VIPs a node can have.
pub const MAX_VIPS: u32 = 256;
/// Backends of all services together.
pub const MAX_BACKENDS: u32 = 8192;
/// Source addresses towards backends besides the VIP, of each IP version.
pub const MAX_SOURCES: u32 = 8;
/// Sets of source ports: one for each backend and address of ours.
pub const MAX_PORT_SETS: u32 = 2 * MAX_BACKENDS;
/// Places in the round of one service.
pub const ROUND_SIZE: u32 = 512;
/// Backends that one service can have.
pub const SET_SIZE: u32 = 128;
/// Places for a service: its round, and behind that the slots of its backends, each once.
pub const RING_SIZE: u32 = ROUND_SIZE + SET_SIZE;
/// Services a node can have.
pub const MAX_SERVICES: u32 = 512;
/// Rounds: two for each service, one in use and one being written.
pub const MAX_RINGS: u32 = 2 * MAX_SERVICES;
/// Room for counters of packets: more than there are reasons, so that a new one leaves the tables as they are.
pub const MAX_REASONS: u32 = 128;
/// Bytes of the ring buffer of [`Suspicion`]s and [`Claim`]s, a power of two and of pages.
pub const EVENT_BYTES: u32 = 65_536;
/// Entries of the table of half-open flows of an IP version; a flow has two.
pub const HALF_OPEN_ENTRIES: u32 = 65_536;

/// ICMP errors that each CPU passes on in a second; anyone can send them.
pub const ERRORS_PER_SECOND: u32 = 1000;
/// Seconds a half-open flow may be silent.
pub const HALF_OPEN_SECONDS: u32 = 10;
/// Seconds a flow that was reset is kept, for what is still under way.
pub const RESET_SECONDS: u32 = 2;
/// Seconds a flow that the client closed first is kept, for the last acknowledgements.
pub const CLOSED_SECONDS: u32 = 5;
/// Seconds a flow that the backend closed first is kept: its socket there waits for this long (RFC 9293 section 3.6.1,
/// with Linux's 60 s).
pub const TIME_WAIT_SECONDS: u32 = 60;

/// Names of the maps, as in the object and under bpffs.
pub mod map {
    /// What the program of XDP hands packets of IPv6 to, one entry.
    pub const SIX: &str = "SIX";
    /// The same of TC's.
    pub const TC_SIX: &str = "TC_SIX";
    /// [`super::Node`], one entry.
    pub const NODE: &str = "NODE";
    /// Address -> 1.
    pub const VIPS: &str = "VIPS";
    /// [`super::Endpoint`] -> [`super::Service`].
    pub const SERVICES: &str = "SERVICES";
    /// Slot -> [`super::Backend`].
    pub const BACKENDS: &str = "BACKENDS";
    /// [`super::Endpoint`] -> slot.
    pub const BACKEND_SLOTS: &str = "BACKEND_SLOTS";
    /// Ethernet address, two bytes of zero -> 1: nodes that forward to this one without translating.
    pub const FELLOWS: &str = "FELLOWS";
    /// Address -> 1: nodes from which packets inside outer ones are taken.
    pub const TUNNELS: &str = "TUNNELS";
    /// Place in all rounds -> slot.
    pub const RINGS: &str = "RINGS";
    /// Service number -> turns taken, per CPU.
    pub const TURNS: &str = "TURNS";
    /// Number -> source address towards backends: [`super::MAX_SOURCES`] of IPv4, then those of IPv6.
    pub const SOURCES: &str = "SOURCES";
    /// [`super::PortKey`] -> [`super::PortSet`].
    pub const PORTS: &str = "PORTS";
    /// Slot -> source ports tried, per CPU.
    pub const PORT_CURSORS: &str = "PORT_CURSORS";
    /// [`super::FlowKey`] -> [`super::Flow`] of IPv4; nothing is ever pushed out.
    pub const ESTABLISHED: &str = "ESTABLISHED";
    /// The same, for flows whose handshake is not complete; the oldest are pushed out.
    pub const HALF_OPEN: &str = "HALF_OPEN";
    /// [`ESTABLISHED`] for IPv6.
    pub const ESTABLISHED6: &str = "ESTABLISHED6";
    /// [`HALF_OPEN`] for IPv6.
    pub const HALF_OPEN6: &str = "HALF_OPEN6";
    /// Slot, or [`super::service_load`] -> [`super::Load`].
    pub const LOADS: &str = "LOADS";
    /// The same -> [`super::Correction`].
    pub const CORRECTIONS: &str = "CORRECTIONS";
    /// [`super::FlowKey`] of the client -> [`super::Syn`] of IPv4; the oldest are pushed out.
    pub const SYNS: &str = "SYNS";
    /// [`SYNS`] for IPv6.
    pub const SYNS6: &str = "SYNS6";
    /// Slot -> [`super::Pulse`].
    pub const PULSES: &str = "PULSES";
    /// [`super::Suspicion`]s and [`super::Claim`]s, a ring buffer.
    pub const EVENTS: &str = "EVENTS";
    /// [`super::Sharing`], one entry.
    pub const SHARING: &str = "SHARING";
    /// [`super::Told`] after [`super::Told`], a ring buffer.
    pub const CHANGES: &str = "CHANGES";
    /// Flows that [`CHANGES`] had no room for, per CPU, one entry.
    pub const UNTOLD: &str = "UNTOLD";
    /// [`super::Logged`] after [`super::Logged`], a ring buffer.
    pub const LOGGED: &str = "LOGGED";
    /// Flows that [`LOGGED`] had no room for, per CPU, one entry.
    pub const UNLOGGED: &str = "UNLOGGED";
    /// [`super::Reason`] -> packets, per CPU.
    pub const PACKETS: &str = "PACKETS";
    /// Slot -> [`super::Traffic`], per CPU.
    pub const TRAFFIC: &str = "TRAFFIC";
    /// [`super::budget`] -> [`super::Bucket`], per CPU.
    pub const BUDGETS: &str = "BUDGETS";
    /// [`super::Captured`] and a packet after [`super::Captured`] and a packet, for each CPU: pinned while somebody looks.
    pub const CAPTURED: &str = "CAPTURED";
    /// [`super::Allowed`] and a prefix length -> 1, a trie.
    pub const ALLOWED: &str = "ALLOWED";
    /// Service number -> [`super::SourceLimit`].
    pub const LIMITS: &str = "LIMITS";
    /// [`super::Source`] -> the moment at which its bucket is full again; the oldest are pushed out.
    pub const LIMITED: &str = "LIMITED";
    /// [`super::Source`] -> moment until which it is taken for one that has as many connections as it may.
    pub const FULL_SOURCES: &str = "FULL_SOURCES";
    /// Virtual address -> [`super::Lease`].
    pub const LEASES: &str = "LEASES";
    /// [`super::Hook`], one entry.
    pub const HOOK: &str = "HOOK";
    /// This node's own addresses -> 1, as far as a service listens at all of them.
    pub const OWN: &str = "OWN";
    /// Service number -> slot of the backend that this node's own clients prefer, plus 1; [`super::NOBODY`].
    pub const PREFERRED: &str = "PREFERRED";
    /// Slot -> connections of this node's own clients, per CPU.
    pub const LOCAL_OPENED: &str = "LOCAL_OPENED";
    /// Socket -> [`super::Dialled`].
    pub const DIALLED: &str = "DIALLED";
}

/// What the datapath knows of its node.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Node {
    /// [`VERSION`] of the agent that wrote this; 0 before any did.
    pub version: u32,
    /// See [`node_flag`].
    pub flags: u32,
    /// Index of the interface that packets are redirected to.
    pub ifindex: u32,
    /// RSTs each CPU may send in a second.
    pub resets_per_second: u32,
    /// First source port towards backends, host order.
    pub first_port: u16,
    /// Number of source ports.
    pub port_count: u16,
    /// Mask on the random part of the step between source ports; 0 makes them predictable, for tests.
    pub port_jitter: u16,
    /// The interface's own Ethernet address.
    pub mac: [u8; 6],
    /// Where this node begins among the source ports: nodes that follow each other on a VIP should not use the same
    /// ports, because backends remember them.
    pub port_offset: u32,
    /// This node's own IPv4 address, from which or at which outer packets of IPv4 come or go; zero: none do.
    pub address: Be32,
    /// Bytes of the largest IP packet that the interface takes; 0: any.
    pub mtu: u16,
    /// The largest TCP segment (MSS option) that clients of IPv4 are told to send; 0: as the stack says.
    pub mss: u16,
    /// [`Self::address`] for IPv6.
    pub address6: Be128,
    /// [`Self::mss`] for IPv6.
    pub mss6: u16,
    /// How far it is from one source port to the next, which has no factor in common with their number; 0: 1.
    pub port_stride: u16,
    /// Source addresses besides the VIP, of IPv4 and of IPv6; at most [`MAX_SOURCES`] of each.
    pub sources: [u8; 2],
    /// Milliseconds after which a SYN that the client sends again goes to another backend, if the first has not answered.
    pub syn_patience: u16,
    /// Milliseconds that the oldest of several SYNs without an answer must have waited for their backend to be suspected.
    pub suspect_after: u16,
    /// Zero.
    pub pad: u16,
}

/// Flags in [`Node::flags`].
pub mod node_flag {
    /// Send by redirecting to [`super::Node::ifindex`] instead of XDP_TX.
    pub const REDIRECT: u32 = 1;
    /// The kernel's FIB answers on this interface (it forwards packets of at least one IP version).
    pub const FIB: u32 = 2;
    /// The node forwards nothing: every packet to a service counts as forwarded to it.
    pub const DELIVERS_ONLY: u32 = 4;
}

/// An address of either IP version and a port. A backend's port may be zero: its connections keep the port that the client asked for.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Endpoint {
    /// Address.
    pub address: Be128,
    /// Port.
    pub port: Be16,
    /// Zero.
    pub pad: u16,
}

impl Endpoint {
    /// From its parts.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Be128, port: Be16) -> Self {
        Self { address, port, pad: 0 }
    }

    /// Where a connection goes whose client asked for `port`.
    #[inline(always)]
    #[must_use]
    pub const fn reached_for(&self, port: Be16) -> Self {
        if self.port.raw() == 0 { Self::new(self.address, port) } else { *self }
    }
}

impl Backend {
    /// Whether the slot waits for another backend.
    #[inline(always)]
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.endpoint.address == Be128::default()
    }
}

/// An Ethernet address as a key.
#[inline(always)]
#[must_use]
pub const fn mac_key([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// The Ethernet address of a key.
#[must_use]
pub const fn key_mac(key: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = key.to_ne_bytes();
    [a, b, c, d, e, f]
}

impl From<core::net::SocketAddr> for Endpoint {
    fn from(address: core::net::SocketAddr) -> Self {
        Self::new(address.ip().into(), Be16::new(address.port()))
    }
}

impl From<core::net::SocketAddrV4> for Endpoint {
    fn from(address: core::net::SocketAddrV4) -> Self {
        core::net::SocketAddr::V4(address).into()
    }
}

impl From<Endpoint> for core::net::SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.address.into(), endpoint.port.get())
    }
}

/// What is behind a VIP:port.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// Number of the service: its counter of turns, and its number in flows.
    pub number: u16,
    /// Places in its round.
    pub ring_length: u16,
    /// First place of its round in the map of rounds; behind the round, the slots of its backends with a share.
    pub ring_start: u32,
    /// Seconds an established flow may be silent.
    pub idle_seconds: u32,
    /// One more than the slot of the backend that is this node itself; 0: none is.
    pub own: u32,
    /// Established connections that all its backends together may have; 0: any number.
    pub max_connections: u32,
    /// Key of the hash that picks a place of the round; the same on all nodes.
    pub key: [u32; 2],
    /// Backends with a share; 0: nobody serves.
    pub set_length: u16,
    /// [`Balance`].
    pub balance: u16,
    /// Number of the list of those who may open connections; 0: everyone.
    pub allow: u32,
    /// 1: sources are limited.
    pub is_limited: u32,
}

/// A place of a backend; flows remember it by slot and generation.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backend {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Grows when the slot is given to another backend; 0: it never was to any.
    pub generation: u32,
    /// Number of the service it is in.
    pub service: u16,
    /// 1: it is gone, and its flows are answered with RST. With address 0 as well, the slot is free.
    pub gone: u16,
    /// [`Delivery`].
    pub delivery: u16,
    /// Ethernet address of the next hop; zero: not resolved.
    pub mac: [u8; 6],
    /// Established connections it may have; 0: any number.
    pub max_connections: u32,
    /// Its share of connections beside those of the others of its service.
    pub share: u16,
    /// Zero.
    pub pad: u16,
}

/// Traffic of a backend.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Flows established.
    pub opened: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients, whole frames.
    pub bytes_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes to clients, whole frames.
    pub bytes_out: u64,
}

/// What is limited by the second.
pub mod budget {
    /// RSTs.
    pub const RESETS: u32 = 0;
    /// Warnings about refused connections.
    pub const WARNINGS: u32 = 1;
    /// ICMP errors that are passed on.
    pub const ERRORS: u32 = 2;
    /// How many there are.
    pub const COUNT: u32 = 3;
}

/// What is left of this second's budget.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// The second.
    pub second: u32,
    /// Spent in it.
    pub spent: u32,
}

const _: () = {
    assert!(size_of::<Node>() == 68);
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<Service>() == 40);
    assert!(Reason::COUNT <= MAX_REASONS);
    assert!(size_of::<Backend>() == 44);
    assert!(size_of::<Traffic>() == 40);
    assert!(size_of::<Bucket>() == 8);
};

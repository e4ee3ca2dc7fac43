//! What datapath and agent tell each other where other nodes have the flows too.

use super::FlowKey;
use crate::net::{Address, Be128};

/// What the datapath knows of nodes that share its flows.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sharing {
    /// Who hears of flows that open and close, see [`hears`]; with [`hears::SHARED`] they are shared.
    pub is_on: u32,
    /// Second in which this node last gained a VIP, monotonic clock of the kernel: a flow that was last seen no later than
    /// this may have gone on elsewhere. 0: it never did.
    pub gained: u32,
    /// Nanosecond of the same clock until which a packet of no flow gets no answer, because word of its flow may be under way.
    pub patient_until: u64,
}

/// A flow that opened or closed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Key of the client's entry, with IPv4 addresses as IPv4-mapped ones.
    pub client: FlowKey<Be128>,
    /// See [`told`].
    pub what: u32,
}

impl Told {
    /// Of a flow of either IP version.
    #[inline(always)]
    #[must_use]
    pub fn of<A: Address>(client: &FlowKey<A>, what: u32) -> Self {
        Self { client: client.wide(), what }
    }
}

/// Bits of [`Sharing::is_on`].
pub mod hears {
    /// Those who share flows, by [`Told`](super::Told).
    pub const SHARED: u32 = 1;
    /// The log of flows, by [`Logged`](super::Logged).
    pub const LOGGED: u32 = 2;
}

/// The same for the log of flows, with what the flow's entries say of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logged {
    /// When, nanosecond of the monotonic clock of the kernel.
    pub at: u64,
    /// As [`Told::client`].
    pub client: FlowKey<Be128>,
    /// The key that the client's packets have when they leave.
    pub translated: FlowKey<Be128>,
    /// See [`told`].
    pub what: u32,
    /// Generation of the backend's slot.
    pub generation: u32,
    /// Slot of the backend.
    pub backend: u16,
    /// Number of the service.
    pub service: u16,
    /// Of a flow that has opened, the sequence number of the client's first byte.
    pub from_client: u32,
    /// The same of the backend's.
    pub from_backend: u32,
    /// Zero.
    pub pad: u32,
}

/// What is told of a flow.
pub mod told {
    /// It is established.
    pub const OPENED: u32 = 1;
    /// It is over.
    pub const CLOSED: u32 = 2;
}

/// Bytes of the ring buffer of [`Told`], a power of two and of pages: some 10,000 of them, several seconds of what a busy
/// control plane opens.
pub const CHANGE_BYTES: u32 = 524_288;

/// Bytes of the ring buffer of [`Logged`]: some 5,000 of them.
pub const LOG_BYTES: u32 = 524_288;

const _: () = {
    assert!(size_of::<Logged>() == 104);
    assert!(size_of::<Sharing>() == 16);
    assert!(size_of::<Told>() == 40);
};

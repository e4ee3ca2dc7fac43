//! What datapath and agent tell each other where other nodes have the flows too.

use super::FlowKey;
use crate::net::{Address, Be128};

/// What the datapath knows of nodes that share its flows.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sharing {
    /// 1: flows are shared, and the agent hears of those that open and close ([`Told`]).
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

const _: () = {
    assert!(size_of::<Sharing>() == 16);
    assert!(size_of::<Told>() == 40);
};

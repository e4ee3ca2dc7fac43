//! How new connections are spread, and the numbers that decide about it.

use super::{MAX_BACKENDS, MAX_SERVICES};

/// How a new connection chooses its backend.
#[repr(u16)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The next place of the round.
    #[default]
    RoundRobin = 0,
    /// The backend with the fewest connections for its share.
    LeastConn = 1,
    /// The place of the round that a hash of the client's address picks.
    Source = 2,
    /// The place that a hash of the client's address and of both ports picks.
    Maglev = 3,
}

/// Connections of a backend or of a service as the datapath has counted them, shared between CPUs: what each number grew
/// by since the tables were made, so that nothing is lost between reading and writing.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Connections established.
    pub opened: u64,
    /// Established connections that are over.
    pub closed: u64,
    /// Handshakes begun.
    pub begun: u64,
    /// Handshakes completed or given up.
    pub ended: u64,
}

/// What a count is wrong by, as the agent has found out; only the agent writes it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Correction {
    /// To be added to the established connections.
    pub open: i64,
    /// To be added to the handshakes under way.
    pub opening: i64,
}

/// What a [`Load`] counts; its number is that of the field.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A connection was established.
    Opened = 0,
    /// An established connection is over.
    Closed = 1,
    /// A handshake has begun.
    Begun = 2,
    /// A handshake is over.
    Ended = 3,
}

/// Entries of the tables of loads and corrections.
pub const LOADS: u32 = MAX_BACKENDS + MAX_SERVICES;

/// Where the load of a service is, among those of the backends by slot.
#[inline(always)]
#[must_use]
pub const fn service_load(number: u16) -> u32 {
    MAX_BACKENDS + number as u32
}

impl Load {
    /// Established connections; never below zero, and no more than a limit can be.
    #[inline(always)]
    #[must_use]
    pub const fn open(&self, correction: &Correction) -> u32 {
        clamp(self.opened.wrapping_sub(self.closed).wrapping_add(correction.open as u64) as i64)
    }

    /// Handshakes under way; the same.
    #[inline(always)]
    #[must_use]
    pub const fn opening(&self, correction: &Correction) -> u32 {
        clamp(self.begun.wrapping_sub(self.ended).wrapping_add(correction.opening as u64) as i64)
    }

    /// Counts.
    #[inline(always)]
    pub const fn count(&mut self, change: Change) {
        let number = match change {
            Change::Opened => &mut self.opened,
            Change::Closed => &mut self.closed,
            Change::Begun => &mut self.begun,
            Change::Ended => &mut self.ended,
        };
        *number = number.wrapping_add(1);
    }
}

#[inline(always)]
const fn clamp(number: i64) -> u32 {
    if number < 0 {
        0
    } else if number > u32::MAX as i64 {
        u32::MAX
    } else {
        number as u32
    }
}

const _: () = {
    assert!(size_of::<Load>() == 32);
    assert!(size_of::<Correction>() == 16);
};

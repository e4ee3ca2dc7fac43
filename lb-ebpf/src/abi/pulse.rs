//! How a backend answers SYNs, as the datapath sees it.

use super::word::Word;

/// Upper bounds of the buckets of [`Pulse::handshakes`], in microseconds; the last bucket has none.
pub const HANDSHAKE_BOUNDS: [u32; HANDSHAKE_BUCKETS - 1] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];
/// Buckets of [`Pulse::handshakes`].
pub const HANDSHAKE_BUCKETS: usize = 16;

/// SYNs without an answer that a backend must have before it is suspected.
pub const SUSPECT_SYNS: u32 = 3;
/// Milliseconds after which a suspect gets one more SYN, to see whether it answers again.
pub const SUSPECT_RETRY_MS: u32 = 1_000;
/// Milliseconds without a SYN after which those of before say nothing any more.
pub const PULSE_FORGETS_MS: u32 = 5_000;
/// Milliseconds between two events about the same backend.
pub const EVENT_EVERY_MS: u32 = 100;

/// How a backend answers. Times are milliseconds of the kernel's monotonic clock, which wrap; `W` is as in [`super::Flow`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulse<W = u32> {
    /// When the first of the SYNs went there that wait.
    pub since: W,
    /// Connections begun since it last answered one.
    pub waiting: W,
    /// When the last SYN went there.
    pub last: W,
    /// When the agent was last told about it.
    pub told: W,
    /// SYNs that went on to another backend because of its RST.
    pub refused: u64,
    /// The same because it did not answer.
    pub unanswered: u64,
    /// Microseconds from SYN to SYN-ACK, all together.
    pub micros: u64,
    /// Handshakes by their time from SYN to SYN-ACK, see [`HANDSHAKE_BOUNDS`].
    pub handshakes: [u64; HANDSHAKE_BUCKETS],
}

/// A pulse as it lies in the table.
pub type SharedPulse = Pulse<Word>;

/// A backend may be dead: the agent should look.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspicion {
    /// Its slot.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

const _: () = {
    assert!(size_of::<Pulse>() == 168);
    assert!(size_of::<SharedPulse>() == size_of::<Pulse>() && align_of::<SharedPulse>() == align_of::<Pulse>());
    assert!(size_of::<Suspicion>() == 8);
};

/// The bucket of a time from SYN to SYN-ACK.
#[inline(always)]
#[must_use]
pub const fn handshake_bucket(micros: u32) -> u32 {
    // Sixteen steps without a table, which would be a map of its own in the kernel.
    (micros > 50) as u32
        + (micros > 100) as u32
        + (micros > 200) as u32
        + (micros > 500) as u32
        + (micros > 1_000) as u32
        + (micros > 2_000) as u32
        + (micros > 5_000) as u32
        + (micros > 10_000) as u32
        + (micros > 20_000) as u32
        + (micros > 50_000) as u32
        + (micros > 100_000) as u32
        + (micros > 200_000) as u32
        + (micros > 500_000) as u32
        + (micros > 1_000_000) as u32
        + (micros > 2_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_in_the_first_bucket_that_it_fits() {
        for micros in (0..2_100_000).step_by(7).chain(HANDSHAKE_BOUNDS).chain([u32::MAX]) {
            let expected = HANDSHAKE_BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(HANDSHAKE_BUCKETS - 1);
            assert_eq!(handshake_bucket(micros) as usize, expected, "{micros}");
        }
    }
}

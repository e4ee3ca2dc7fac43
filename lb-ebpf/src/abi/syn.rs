//! What is kept of a SYN until its connection is open, so that another backend can get it when the first one does not answer.

use super::word::{Readable, Word};

/// Backends a connection tries besides the last one.
pub const MAX_TRIED: usize = 6;
/// Entries of the table of SYNs of an IP version: a half-open flow has two entries, its SYN one.
pub const SYN_ENTRIES: u32 = super::HALF_OPEN_ENTRIES / 2;
/// IPv6 and TCP, fixed headers, in halfwords.
pub const SYN_HEAD: usize = 30;
/// TCP options, in halfwords.
pub const SYN_OPTIONS: usize = 20;

/// A client's SYN as it arrived; `W` is as in [`super::Flow`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syn<W = u32> {
    /// When it last went to a backend: microseconds of the kernel's monotonic clock, which wrap.
    pub at: W,
    /// Its sequence number, host order.
    pub sequence: u32,
    /// Slots, plus 1, of backends that did not take the connection; 0: none yet.
    pub tried: [W; MAX_TRIED],
    /// Bytes of its options.
    pub options_length: u16,
    /// 1: it is here as it was; 0: it has data, and is not.
    pub is_whole: u16,
    /// IP and TCP header.
    pub head: [u16; SYN_HEAD],
    /// The options behind them.
    pub options: [u16; SYN_OPTIONS],
}

/// A SYN as it lies in the table.
pub type SharedSyn = Syn<Word>;

const _: () = {
    assert!(size_of::<Syn>() == 136);
    assert!(size_of::<SharedSyn>() == size_of::<Syn>() && align_of::<SharedSyn>() == align_of::<Syn>());
};

impl Default for Syn {
    fn default() -> Self {
        Self {
            at: 0,
            sequence: 0,
            tried: [0; MAX_TRIED],
            options_length: 0,
            is_whole: 0,
            head: [0; SYN_HEAD],
            options: [0; SYN_OPTIONS],
        }
    }
}

impl<W: Readable> Syn<W> {
    /// Whether the backend in a slot has been tried.
    #[inline(always)]
    #[must_use]
    pub fn has_tried(&self, slot: u32) -> bool {
        let mut at = 0;
        let mut found = false;
        while at < MAX_TRIED {
            found |= self.tried[at].get() == slot.wrapping_add(1);
            at += 1;
        }
        found
    }
}

impl SharedSyn {
    /// Notes that the backend in a slot has been tried; false when there is no room to.
    #[inline(always)]
    pub fn try_no_more(&self, slot: u32) -> bool {
        let mut at = 0;
        while at < MAX_TRIED {
            let there = self.tried[at].get();
            if there == slot.wrapping_add(1) {
                return true;
            }
            if there == 0 {
                self.tried[at].set(slot.wrapping_add(1));
                return true;
            }
            at += 1;
        }
        false
    }
}

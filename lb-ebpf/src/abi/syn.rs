//! What is kept of a SYN until its connection is open, so that another backend can get it when the first one does not answer.

use super::word::{Readable, Word};
use crate::net::checksum::fold;
use crate::net::header::TCP;

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

impl Syn {
    /// Finishes a TCP checksum that was left to the device, so that the field holds the sum over the pseudo-header; `ip` is
    /// the length of the IP header in bytes.
    #[inline(always)]
    pub fn finish(&mut self, ip: usize) {
        let mut sum = 0;
        let mut at = 0;
        while at < TCP / 2 {
            sum += self.head[ip / 2 + at] as u32;
            at += 1;
        }
        let mut at = 0;
        while at < SYN_OPTIONS {
            if 2 * at < self.options_length as usize {
                sum += self.options[at] as u32;
            }
            at += 1;
        }
        self.head[(ip + TCP_CHECKSUM) / 2] = !fold(sum);
    }
}

/// Where the checksum is in a TCP header.
const TCP_CHECKSUM: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Frame, checksums_are_right};
    use crate::net::header::{ETHERNET, TcpHead};
    use crate::net::{Family, V4, V6};
    use crate::packet::Owned;

    fn finishes<F: Family>(frame: &Frame) {
        let whole = frame.bytes();
        let mut packet = Owned::new(&whole);
        let head = F::head(&mut packet).expect("it is long enough");
        head.open_tcp((20 + frame.options.len()) as u16);
        let mut syn = Syn { options_length: frame.options.len() as u16, ..Syn::default() };
        head.copy_packet(&mut syn.head);
        // What an earlier SYN has left behind the options.
        syn.options = [0xabcd; SYN_OPTIONS];
        for (place, pair) in syn.options.iter_mut().zip(frame.options.chunks(2)) {
            *place = u16::from_ne_bytes([pair[0], pair[1]]);
        }
        syn.finish(F::IP);
        head.set_packet(&syn.head);
        assert_eq!(packet.bytes(), whole);
        assert_eq!(checksums_are_right(&whole), (true, true));
        assert_eq!(TcpHead::<F>::LENGTH, ETHERNET + F::IP + TCP);
    }

    #[test]
    fn an_unfinished_checksum_is_finished() {
        for options in [vec![], vec![2, 4, 5, 0xb4], (0..40).collect()] {
            let frame = Frame {
                mac_to: [2; 6],
                mac_from: [4; 6],
                from: [192, 0, 2, 1].into(),
                to: [192, 0, 2, 2].into(),
                from_port: 40_000,
                to_port: 8443,
                ttl: 64,
                identification: 7,
                fragment: 0x4000,
                sequence: 0xdead_beef,
                acknowledgement: 0,
                flags: 2,
                window: 64_240,
                options,
                payload: Vec::new(),
            };
            finishes::<V4>(&frame);
            finishes::<V6>(&frame.in_ipv6());
        }
    }
}

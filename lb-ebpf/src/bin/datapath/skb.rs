//! The frame of a socket buffer (TC): a copy of its headers to decide about and to change, written back by the
//! kernel's helpers.
//!
//! A socket buffer is more than its bytes. Its TCP checksum may be left to the device to finish (CHECKSUM_PARTIAL:
//! the field holds the sum over the pseudo-header alone), or the device may have summed the whole packet
//! (CHECKSUM_COMPLETE); it may stand for many segments; its bytes may be shared with a clone, or lie in pages. The
//! helpers know, and keep all of that true when they are told what changes: addresses, which are in the
//! pseudo-header, or ports, which are not. Frames that pass are only read.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use lb_ebpf::net::checksum::{change16, fold};
use lb_ebpf::net::header::{ETHERNET, TCP_HALFWORDS, TO_TCP, TcpHead};
use lb_ebpf::packet::{Packet, Short};

use crate::context::Context;

/// Where the addresses begin in a frame, in halfwords.
const ADDRESSES: usize = 13;
/// How many halfwords the addresses are.
const ADDRESSES_LENGTH: usize = 4;
/// Addresses and ports, which follow them, in halfwords.
const KEY_LENGTH: usize = 6;
/// Where the TCP checksum is in a frame, in bytes.
const TCP_CHECKSUM: u32 = 50;

/// A frame in a socket buffer.
pub(crate) struct Frame {
    buffer: Buffer,
    head: Head,
    /// Halfwords of `head` that have been read.
    read: usize,
    /// Addresses and ports as they arrived.
    arrived: [u16; KEY_LENGTH],
}

/// The padding puts addresses at a multiple of four.
#[repr(C, align(8))]
struct Head {
    padding: u16,
    halfwords: [u16; TCP_HALFWORDS],
}

/// The socket buffer itself.
#[derive(Clone, Copy)]
pub(crate) struct Buffer(*mut __sk_buff);

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub(crate) fn new(context: &TcContext) -> Self {
        let head = Head { padding: 0, halfwords: [0; TCP_HALFWORDS] };
        Self { buffer: Buffer(context.skb.skb), head, read: 0, arrived: [0; KEY_LENGTH] }
    }

    /// For helpers.
    #[inline(always)]
    pub(crate) fn buffer(&self) -> Buffer {
        self.buffer
    }

    /// Writes a packet back that differs in what a translation changes.
    ///
    /// # Errors
    /// When the kernel cannot make the buffer writable.
    #[inline(always)]
    pub(crate) fn write_translated(&self) -> Result<(), Short> {
        let head = &self.head.halfwords;
        let (mut addresses, mut ports) = (0, 0);
        let mut at = 0;
        while at < KEY_LENGTH {
            let change = change16(self.arrived[at], head[ADDRESSES + at]);
            if at < ADDRESSES_LENGTH {
                addresses += change;
            } else {
                ports += change;
            }
            at += 1;
        }
        // A sum that the device made over the packet stays: Ethernet is not in it, and what changes in the IP header,
        // or in the ports, a checksum in the same sum makes up for.
        self.buffer.store(0, head.as_ptr(), TCP_CHECKSUM, 0)?;
        self.buffer.change_checksum(fold(addresses), u64::from(BPF_F_PSEUDO_HDR))?;
        self.buffer.change_checksum(fold(ports), 0)
    }

    /// Writes a packet back that was made anew, cut to its headers.
    ///
    /// # Errors
    /// As [`Self::write_translated`].
    #[inline(always)]
    pub(crate) fn write_answer(&mut self) -> Result<(), Short> {
        if self.buffer.is_to_be_finished()? {
            TcpHead::over(&mut self.head.halfwords).open_bare_tcp();
        }
        let head = &self.head.halfwords;
        self.buffer.store(0, head.as_ptr(), ETHERNET as u32, 0)?;
        let rest = head.as_ptr().wrapping_add(ETHERNET / 2);
        self.buffer.store(ETHERNET as u32, rest, (TO_TCP - ETHERNET) as u32, u64::from(BPF_F_RECOMPUTE_CSUM))
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn len(&self) -> usize {
        self.buffer.len() as usize
    }

    #[inline(always)]
    fn head<const N: usize>(&mut self) -> Result<&mut [u16; N], Short> {
        const { assert!(N <= TCP_HALFWORDS) };
        if self.read < N {
            self.buffer.load(0, self.head.halfwords.as_mut_ptr(), 2 * N as u32)?;
            self.read = N;
            if N == TCP_HALFWORDS {
                let mut at = 0;
                while at < KEY_LENGTH {
                    self.arrived[at] = self.head.halfwords[ADDRESSES + at];
                    at += 1;
                }
            }
        }
        self.head.halfwords.first_chunk_mut::<N>().ok_or(Short)
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> Result<(), Short> {
        if self.len() <= len {
            return Ok(());
        }
        // SAFETY: the buffer is valid, and nothing points into it. The kernel makes one segment of many.
        done(unsafe { bpf_skb_change_tail(self.buffer.0, len as u32, 0) })
    }
}

impl Buffer {
    #[inline(always)]
    fn len(self) -> u32 {
        // SAFETY: the kernel hands the program a valid `__sk_buff`; so below.
        unsafe { (*self.0).len }
    }

    /// Whether the kernel has taken a VLAN tag out of the frame; it will put it back when the frame is sent. One that only
    /// names a priority (VLAN 0) is none, and is kept all the same.
    #[inline(always)]
    pub(crate) fn is_tagged(self) -> bool {
        // SAFETY: see above.
        unsafe { (*self.0).vlan_present != 0 && (*self.0).vlan_tci & 0xfff != 0 }
    }

    #[inline(always)]
    fn load(self, at: u32, to: *mut u16, bytes: u32) -> Result<(), Short> {
        // SAFETY: `to` has room for so many bytes, at every caller; the verifier checks it again. So below.
        done(unsafe { bpf_skb_load_bytes(self.0.cast(), at, to.cast(), bytes) })
    }

    #[inline(always)]
    fn store(self, at: u32, from: *const u16, bytes: u32, flags: u64) -> Result<(), Short> {
        // SAFETY: see above.
        done(unsafe { bpf_skb_store_bytes(self.0, at, from.cast(), bytes, flags) })
    }

    /// Adds to the complement of the TCP checksum; with BPF_F_PSEUDO_HDR because the pseudo-header has changed, and
    /// otherwise because the segment has, which a checksum that is yet to be finished does not cover.
    #[inline(always)]
    fn change_checksum(self, change: u16, flags: u64) -> Result<(), Short> {
        // SAFETY: the buffer is valid. The size of the field is 0, which stands for a difference.
        done(unsafe { bpf_l4_csum_replace(self.0, TCP_CHECKSUM, 0, u64::from(change), flags) })
    }

    /// Whether the TCP checksum is left to the device to finish. The kernel does not say so, but then a change of the
    /// segment leaves it alone.
    #[inline(always)]
    fn is_to_be_finished(self) -> Result<bool, Short> {
        let (mut before, mut after) = (0u16, 0u16);
        self.load(TCP_CHECKSUM, &raw mut before, 2)?;
        self.change_checksum(1, 0)?;
        self.load(TCP_CHECKSUM, &raw mut after, 2)?;
        // Minus one, which undoes it.
        self.change_checksum(!1, 0)?;
        Ok(before == after)
    }
}

impl Context for Buffer {
    #[inline(always)]
    fn as_ptr(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.0).ifindex }
    }

    /// A packet of many segments may be longer than the MTU, which only the kernel can judge.
    #[inline(always)]
    fn length_to_route(self, _length: u16) -> u16 {
        0
    }
}

/// The outcome of a helper.
#[inline(always)]
fn done(result: i64) -> Result<(), Short> {
    if result == 0 { Ok(()) } else { Err(Short) }
}

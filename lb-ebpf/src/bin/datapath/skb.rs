//! The frame of a socket buffer (TC): a copy of its headers to decide about and to change, written back by the
//! kernel's helpers.
//!
//! A socket buffer is more than its bytes. Its TCP checksum may be left to the device to finish (CHECKSUM_PARTIAL:
//! the field holds the sum over the pseudo-header alone), or the device may have summed the whole packet
//! (CHECKSUM_COMPLETE); it may stand for many segments; its bytes may be shared with a clone, or lie in pages. The
//! helpers know, and keep all of that true when they are told what changes: addresses, which are in the
//! pseudo-header, or ports, which are not. Frames that pass are only read.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{
    bpf_l4_csum_replace, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use lb_ebpf::abi::{Reason, SYN_OPTIONS, Verdict};
use lb_ebpf::datapath::{self, Step, lease, tunnel};
use lb_ebpf::net::checksum::{change16, fold};
use lb_ebpf::net::header::{ETHERNET, TcpHead, flag};
use lb_ebpf::net::{Be16, Family, V4, V6};
use lb_ebpf::packet::{Packet, Short};

use crate::context::Context;
use crate::maps::{Kept, Kernel, count, count_number, node};
use crate::parts::{UNWRAP, outcome};
use crate::redirect;

/// See [`datapath::known`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn known<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    match datapath::known::<F>(&mut frame, &kernel) {
        // Apart from the others, where this is a function that is called.
        Step::End(reason) => end(context, frame.written(reason)),
        step => done_with(context, &frame, step),
    }
}

/// See [`datapath::unknown`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn unknown<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::unknown::<F>(&mut frame, &kernel);
    done_with(context, &frame, step)
}

/// See [`datapath::admit()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn admit<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::admit::<F>(&mut frame, &kernel);
    done_with(context, &frame, step)
}

/// See [`datapath::choose()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn choose<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::choose::<F>(&mut frame, &kernel);
    done_with(context, &frame, step)
}

/// See [`datapath::again()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn again<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::again::<F>(&mut frame, &kernel);
    done_with(context, &frame, step)
}

/// See [`datapath::open()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn open<F: Kept + datapath::Handled>(context: *mut __sk_buff, slot: u32) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::open::<F>(&mut frame, &kernel, slot);
    done_with(context, &frame, step)
}

/// See [`datapath::elsewhere`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn elsewhere<F: Kept + datapath::Handled>(context: *mut __sk_buff, slot: u32) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::elsewhere::<F>(&mut frame, &kernel, slot);
    done_with(context, &frame, step)
}

/// See [`datapath::retry()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn retry<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::retry::<F>(&mut frame, &kernel);
    if matches!(step, Step::Open(_)) && frame.write_rebuilt().is_err() {
        return end(context, Reason::CannotReply);
    }
    done_with(context, &frame, step)
}

/// See [`datapath::keep()`]; returns nothing of meaning.
#[inline(always)]
pub(crate) fn keep<F: Kept + datapath::Handled>(context: *mut __sk_buff, slot: u32) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    if let Some(mut frame) = Frame::<F>::new(buffer) {
        datapath::keep::<F>(&mut frame, &kernel, slot);
    }
    0
}

/// See [`datapath::error()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn error<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = datapath::error::<F>(&mut frame, &kernel);
    let is_changed = match step {
        Step::End(reason) => matches!(reason.verdict(), Verdict::Forward | Verdict::Deliver),
        step => matches!(step, Step::Wrap(_)),
    };
    if is_changed && frame.write_error().is_err() {
        return end(context, Reason::CannotReply);
    }
    outcome(step, |reason| end(context, reason))
}

/// See [`lease::neighbour`]: the action.
#[inline(always)]
pub(crate) fn neighbour(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let Some(mut frame) = Frame::<V6>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let step = lease::neighbour::<V6>(&mut frame, &Kernel::new(buffer));
    outcome(step, |reason| end(context, reason))
}

/// See [`datapath::answer()`]: the action.
#[inline(always)]
pub(crate) fn answer<F: Kept + datapath::Handled>(context: *mut __sk_buff, reason: u32) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    if let Some(instead) = datapath::answer::<F>(&mut frame, &kernel, reason) {
        return end(context, instead);
    }
    // What is no RST has been written.
    if reason != Reason::TimeExceeded as u32 && frame.write_answer().is_err() {
        return end(context, Reason::CannotReply);
    }
    count_number(reason);
    redirect(buffer.ifindex()) as u32
}

/// Writes back what a part has changed; returns as [`outcome`] says.
#[inline(always)]
fn done_with<F: Kept>(context: *mut __sk_buff, frame: &Frame<'_, F>, step: Step) -> u32 {
    match step {
        Step::Wrap(reason) if frame.written(reason) != reason => end(context, Reason::CannotReply),
        step => outcome(step, |reason| end(context, frame.written(reason))),
    }
}

/// See [`tunnel::wrap`]: the action.
#[inline(always)]
pub(crate) fn wrap<F: Kept + datapath::Handled>(context: *mut __sk_buff, reason: u32) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    match tunnel::wrap::<F>(&mut frame, &kernel, buffer.is_many(), reason == Reason::IcmpError as u32) {
        Err(instead) => end(context, instead),
        Ok(()) => {
            count_number(reason);
            redirect(buffer.ifindex()) as u32
        }
    }
}

/// See [`tunnel::unwrap`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn unwrap<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    tunnel::unwrap::<F>(&mut frame, &kernel).map_or(UNWRAP, |reason| end(context, reason))
}

/// See [`datapath::leave`]: the action.
#[inline(always)]
pub(crate) fn leaving<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let decided = match datapath::leave::<F>(&mut frame, &kernel) {
        Step::End(decided) if decided.verdict() == Verdict::Deliver => decided,
        Step::End(_) => return TC_ACT_UNSPEC as u32,
        step => return outcome(step, |reason| end(context, reason)),
    };
    let written = frame.written(decided);
    let is_syn = F::head(&mut frame).is_ok_and(|head| head.flags() & flag::SYN != 0);
    if is_syn && let Some(node) = node() {
        // Where it cannot be changed, what is too long is told so on its way.
        let _ = buffer.limit_segments::<F>(F::segments(node));
    }
    end(context, written)
}

/// See [`datapath::leave_home`]: the action. The kernel finds the way to the client.
#[inline(always)]
pub(crate) fn leaving_home<F: Kept + datapath::Handled>(context: *mut __sk_buff) -> u32 {
    let buffer = Buffer::new(context);
    let kernel = Kernel::new(buffer);
    let Some(mut frame) = Frame::<F>::new(buffer) else {
        return TC_ACT_UNSPEC as u32;
    };
    let Step::End(decided @ Reason::FromLocal) = datapath::leave_home::<F>(&mut frame, &kernel) else {
        return TC_ACT_UNSPEC as u32;
    };
    let written = frame.written(decided);
    let action = end(context, written);
    match node() {
        // SAFETY: a helper without pointers, where there is no next hop to name.
        Some(node) if written == decided => unsafe { bpf_redirect_neigh(node.ifindex, null_mut(), 0, 0) as u32 },
        _ => action,
    }
}

/// Counts how a frame ended; the action for it.
#[inline(always)]
pub(crate) fn end(context: *mut __sk_buff, reason: Reason) -> u32 {
    count(reason);
    match reason.verdict() {
        // On to the programs behind this one, if there are any.
        Verdict::Pass | Verdict::Deliver => TC_ACT_UNSPEC as u32,
        Verdict::Drop => TC_ACT_SHOT as u32,
        Verdict::Forward | Verdict::Reply => redirect(Buffer::new(context).ifindex()) as u32,
    }
}

/// Room between Ethernet and IP.
const BPF_ADJ_ROOM_MAC: u32 = 1;
/// What is made room for is an IPv4 header, or an IPv6 one.
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV4: u64 = 1 << 1;
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV6: u64 = 1 << 2;

/// `BPF_F_IPV6` (Linux 6.16): a sum that the device made over the packet covers the addresses too, unlike IPv4's, where
/// the header's own checksum makes up for them.
const BPF_F_IPV6: u64 = 1 << 7;

/// A frame of an IP version in a socket buffer.
pub(crate) struct Frame<'a, F: Family> {
    buffer: Buffer,
    head: &'a mut Head<F>,
    /// Halfwords of the head that have been read.
    read: usize,
}

/// What is copied of a frame. The padding puts addresses at a multiple of four.
#[repr(C, align(8))]
pub(crate) struct Head<F: Family> {
    padding: u16,
    halfwords: F::Room,
    /// Addresses and ports as they arrived.
    arrived: F::Ends,
}

/// The socket buffer itself.
#[derive(Clone, Copy)]
pub(crate) struct Buffer(*mut __sk_buff);

impl<F: Kept> Frame<'_, F> {
    /// Where addresses and ports begin in a frame, in halfwords.
    const ENDS: usize = (ETHERNET + F::ADDRESSES) / 2;
    /// How many halfwords both addresses are.
    const ADDRESSES_LENGTH: usize = size_of::<F::Address>();
    /// How many halfwords they and the ports are.
    const ENDS_LENGTH: usize = Self::ADDRESSES_LENGTH + 2;

    /// The frame of a socket buffer.
    #[inline(always)]
    fn new(buffer: Buffer) -> Option<Self> {
        // SAFETY: a map value of this CPU, which holds any bytes. Both programs that use it run with softirqs off, so
        // neither interrupts the other here (without PREEMPT_RT), and each looks at one frame at a time.
        F::head_copy().map(|head| Self { buffer, head: unsafe { &mut *head }, read: 0 })
    }

    /// Writes the packet back if its verdict is to go on changed; how it ends, then.
    #[inline(always)]
    fn written(&self, decided: Reason) -> Reason {
        let is_changed = matches!(decided.verdict(), Verdict::Forward | Verdict::Deliver);
        if is_changed && self.write_translated().is_err() { Reason::CannotReply } else { decided }
    }

    /// Writes a packet back that differs in what a translation changes.
    ///
    /// # Errors
    /// When the kernel cannot make the buffer writable.
    #[inline(always)]
    fn write_translated(&self) -> Result<(), Short> {
        let (arrived, head) = (self.head.arrived.as_ref(), self.head.halfwords.as_ref());
        let (mut addresses, mut ports) = (0, 0);
        let mut at = 0;
        while at < Self::ENDS_LENGTH {
            let change = change16(arrived[at], head[Self::ENDS + at]);
            if at < Self::ADDRESSES_LENGTH {
                addresses += change;
            } else {
                ports += change;
            }
            at += 1;
        }
        let checksum = TcpHead::<F>::CHECKSUM as u32;
        if !F::HEADER_HAS_CHECKSUM {
            // Nothing makes up for one hop less in a sum that the device made over the packet.
            let at = ETHERNET + F::HOPS;
            self.buffer.store(at as u32, &raw const head[at / 2], 2, u64::from(BPF_F_RECOMPUTE_CSUM))?;
        }
        // Such a sum stays otherwise: Ethernet is not in it, and what changes in addresses and ports a checksum in the
        // same sum makes up for.
        self.buffer.store(0, head.as_ptr(), checksum, 0)?;
        self.buffer.change_pseudo_header::<F>(fold(addresses))?;
        self.buffer.change_checksum::<F>(fold(ports), 0)
    }

    /// Writes an ICMP error back, which no device finishes.
    ///
    /// # Errors
    /// As [`Self::write_translated`].
    #[inline(always)]
    fn write_error(&mut self) -> Result<(), Short> {
        let (buffer, error) = (self.buffer, F::error_head(self)?);
        buffer.store_packet(error)?;
        match F::error_head_with_checksum(self) {
            Ok(error) => buffer.store_packet(error),
            // It ends earlier.
            Err(_) => Ok(()),
        }
    }

    /// Writes the headers of a packet back that was made a SYN again, of the length that the buffer has by now.
    ///
    /// # Errors
    /// As [`Self::write_translated`].
    #[inline(always)]
    fn write_rebuilt(&mut self) -> Result<(), Short> {
        if self.buffer.is_to_be_finished::<F>()? {
            let length = self.buffer.len().wrapping_sub((ETHERNET + F::IP) as u32);
            F::head(self)?.open_tcp(length as u16);
        }
        let head = self.head.halfwords.as_ref();
        self.buffer.store(0, head.as_ptr(), ETHERNET as u32, 0)?;
        let rest = head.as_ptr().wrapping_add(ETHERNET / 2);
        let length = (TcpHead::<F>::LENGTH - ETHERNET) as u32;
        self.buffer.store(ETHERNET as u32, rest, length, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    /// Writes a packet back that was made anew, cut to its headers.
    ///
    /// # Errors
    /// As [`Self::write_translated`].
    #[inline(always)]
    fn write_answer(&mut self) -> Result<(), Short> {
        if self.buffer.is_to_be_finished::<F>()? {
            F::head(self)?.open_bare_tcp();
        }
        let head = self.head.halfwords.as_ref();
        self.buffer.store(0, head.as_ptr(), ETHERNET as u32, 0)?;
        let rest = head.as_ptr().wrapping_add(ETHERNET / 2);
        let length = (TcpHead::<F>::LENGTH - ETHERNET) as u32;
        self.buffer.store(ETHERNET as u32, rest, length, u64::from(BPF_F_RECOMPUTE_CSUM))
    }
}

impl<F: Kept> Packet for Frame<'_, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.buffer.len() as usize
    }

    #[inline(always)]
    fn head<const N: usize>(&mut self) -> Result<&mut [u16; N], Short> {
        const { assert!(2 * N <= size_of::<F::Room>()) };
        let Head { halfwords, arrived, .. } = &mut *self.head;
        let head = halfwords.as_mut();
        if self.read < N {
            let loaded = self.buffer.load(0, head.as_mut_ptr(), 2 * N as u32);
            // What is too short clears all of it, also what was read before.
            self.read = if loaded.is_ok() { N } else { 0 };
            loaded?;
            if 2 * N == TcpHead::<F>::LENGTH {
                let arrived = arrived.as_mut();
                let mut at = 0;
                while at < Self::ENDS_LENGTH {
                    arrived[at] = head[Self::ENDS + at];
                    at += 1;
                }
            }
        }
        head.first_chunk_mut::<N>().ok_or(Short)
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> Result<(), Short> {
        if self.len() <= len {
            return Ok(());
        }
        // SAFETY: the buffer is valid, and nothing points into it. The kernel makes one segment of many.
        done(unsafe { bpf_skb_change_tail(self.buffer.0, len as u32, 0) })
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Result<(), Short> {
        // SAFETY: as above.
        done(unsafe { bpf_skb_change_tail(self.buffer.0, len as u32, 0) })
    }

    #[inline(always)]
    fn options(&mut self, at: usize, bytes: u32, into: &mut [u16; SYN_OPTIONS]) -> Result<(), Short> {
        let mut place = 0;
        while place < SYN_OPTIONS && (2 * place as u32) < bytes {
            self.buffer.load((at + 2 * place) as u32, &raw mut into[place], 4)?;
            place += 2;
        }
        Ok(())
    }

    #[inline(always)]
    fn is_unfinished(&mut self) -> bool {
        self.buffer.is_to_be_finished::<F>().unwrap_or(false)
    }

    #[inline(always)]
    fn set_options(&mut self, at: usize, bytes: u32, from: &[u16; SYN_OPTIONS]) -> Result<(), Short> {
        let mut place = 0;
        while place < SYN_OPTIONS && (2 * place as u32) < bytes {
            let at = (at + 2 * place) as u32;
            self.buffer.store(at, &raw const from[place], 4, u64::from(BPF_F_RECOMPUTE_CSUM))?;
            place += 2;
        }
        Ok(())
    }

    #[inline(always)]
    fn push<const N: usize>(&mut self, front: &[u16; N]) -> Result<(), Short> {
        let is_four = F::ETHERTYPE == V4::ETHERTYPE;
        let flag = if is_four { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 };
        self.buffer.adjust((2 * N - ETHERNET) as i32, flag)?;
        self.buffer.store(0, front.as_ptr(), 2 * N as u32, 0)
    }

    #[inline(always)]
    fn pull<const N: usize>(&mut self) -> Result<(), Short> {
        // What comes out is of the same IP version, so the kernel need not be told.
        self.buffer.adjust(-((2 * N - ETHERNET) as i32), 0)
    }

    #[inline(always)]
    fn replace<const N: usize>(&mut self, frame: &[u16; N]) -> Result<(), Short> {
        let is_to_be_finished = self.buffer.is_to_be_finished::<F>()?;
        self.resize(2 * N)?;
        self.buffer.store(0, frame.as_ptr(), 2 * N as u32, u64::from(BPF_F_RECOMPUTE_CSUM))?;
        if !is_to_be_finished {
            return Ok(());
        }
        // The device will put the complement of a sum where a TCP checksum would be: of what is there above IP. With this in
        // the place it becomes what the frame has there.
        let mut sum = 0;
        let mut at = (ETHERNET + F::IP) / 2;
        while at < N {
            sum += frame[at] as u32;
            at += 1;
        }
        let until_then = !fold(sum);
        self.buffer.store(TcpHead::<F>::CHECKSUM as u32, &raw const until_then, 2, 0)
    }
}

impl Buffer {
    /// The socket buffer of a context.
    #[inline(always)]
    pub(crate) fn new(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    /// The EtherType of a frame that is of no VLAN. A tag that only names a priority (VLAN 0) makes none, and is kept.
    #[inline(always)]
    pub(crate) fn ethertype(self) -> Option<Be16> {
        // SAFETY: the kernel hands the program a valid `__sk_buff`; so below.
        let (protocol, vlan_present, tag) = unsafe { ((*self.0).protocol, (*self.0).vlan_present, (*self.0).vlan_tci) };
        // The kernel may have taken a tag out of the frame; it will put it back when the frame is sent. The protocol is
        // as on the wire, in a word of its own.
        (vlan_present == 0 || tag & 0xfff == 0).then_some(Be16::from_raw(protocol as u16))
    }

    /// Whether it stands for many segments.
    #[inline(always)]
    fn is_many(self) -> bool {
        // SAFETY: see above.
        unsafe { (*self.0).gso_size != 0 }
    }

    /// Makes room, or takes it away, between the Ethernet and the IP header. Segments become shorter by as much.
    #[inline(always)]
    fn adjust(self, bytes: i32, flags: u64) -> Result<(), Short> {
        // SAFETY: the buffer is valid, and nothing points into it.
        done(unsafe { bpf_skb_adjust_room(self.0, bytes, BPF_ADJ_ROOM_MAC, flags) })
    }

    /// Lowers the largest segment that a SYN-ACK asks for (RFC 9293 section 3.7.1), which the stack writes as the first
    /// option; 0: to nothing less.
    #[inline(always)]
    fn limit_segments<F: Family>(self, most: u16) -> Result<(), Short> {
        let at = TcpHead::<F>::LENGTH as u32;
        let mut option = [0u16; 2];
        self.load(at, option.as_mut_ptr(), 4)?;
        let [kind, size] = option;
        let most = Be16::new(most);
        if most.get() == 0 || kind != u16::from_ne_bytes([2, 4]) || Be16::from_raw(size).get() <= most.get() {
            return Ok(());
        }
        let new = most.raw();
        self.store(at + 2, &raw const new, 2, 0)?;
        self.change_checksum::<F>(fold(change16(size, new)), 0)
    }

    #[inline(always)]
    fn len(self) -> u32 {
        // SAFETY: see above.
        unsafe { (*self.0).len }
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

    /// Writes the beginning of a frame back, and keeps a sum true that the device made over the packet.
    #[inline(always)]
    fn store_packet(self, head: &[u16]) -> Result<(), Short> {
        self.store(0, head.as_ptr(), ETHERNET as u32, 0)?;
        let rest = &head[ETHERNET / 2..];
        self.store(ETHERNET as u32, rest.as_ptr(), 2 * rest.len() as u32, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    /// Adds to the complement of the TCP checksum because the addresses have changed.
    #[inline(always)]
    fn change_pseudo_header<F: Family>(self, change: u16) -> Result<(), Short> {
        let pseudo_header = u64::from(BPF_F_PSEUDO_HDR);
        if F::HEADER_HAS_CHECKSUM {
            return self.change_checksum::<F>(change, pseudo_header);
        }
        if self.change_checksum::<F>(change, pseudo_header | BPF_F_IPV6).is_ok() {
            return Ok(());
        }
        // An older kernel: what the flag is for happens by itself where the checksum is not left to be finished.
        let flags = if self.is_to_be_finished::<F>()? { pseudo_header } else { 0 };
        self.change_checksum::<F>(change, flags)
    }

    /// Adds to the complement of the TCP checksum; with BPF_F_PSEUDO_HDR because the pseudo-header has changed, and
    /// otherwise because the segment has, which a checksum that is yet to be finished does not cover.
    #[inline(always)]
    fn change_checksum<F: Family>(self, change: u16, flags: u64) -> Result<(), Short> {
        let at = TcpHead::<F>::CHECKSUM as u32;
        // SAFETY: the buffer is valid. The size of the field is 0, which stands for a difference.
        done(unsafe { bpf_l4_csum_replace(self.0, at, 0, u64::from(change), flags) })
    }

    /// Whether the TCP checksum is left to the device to finish. The kernel does not say so, but then a change of the
    /// segment leaves it alone.
    #[inline(always)]
    fn is_to_be_finished<F: Family>(self) -> Result<bool, Short> {
        let at = TcpHead::<F>::CHECKSUM as u32;
        let (mut before, mut after) = (0u16, 0u16);
        self.load(at, &raw mut before, 2)?;
        self.change_checksum::<F>(1, 0)?;
        self.load(at, &raw mut after, 2)?;
        // Minus one, which undoes it.
        self.change_checksum::<F>(!1, 0)?;
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

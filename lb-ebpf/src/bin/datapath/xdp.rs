//! The frame of an XDP context: the bounds checks, and the only pointer arithmetic.

use core::ffi::c_void;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use lb_ebpf::abi::{Reason, SYN_OPTIONS, Verdict, node_flag};
use lb_ebpf::datapath;
use lb_ebpf::datapath::tunnel;
use lb_ebpf::net::header::ETHERNET;
use lb_ebpf::packet::{Packet, Short};

use crate::context::Context;
use crate::maps::{Kept, Kernel, count, count_number, node};
use crate::parts::{UNWRAP, outcome};
use crate::redirect;

/// See [`datapath::known`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn known<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::known::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::unknown`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn unknown<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::unknown::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::admit()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn admit<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::admit::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::choose()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn choose<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::choose::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::again()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn again<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::again::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::open()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn open<F: Kept + datapath::Handled>(context: *mut xdp_md, slot: u32) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::open::<F>(&mut frame, &kernel, slot), end)
}

/// See [`datapath::elsewhere`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn elsewhere<F: Kept + datapath::Handled>(context: *mut xdp_md, slot: u32) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::elsewhere::<F>(&mut frame, &kernel, slot), end)
}

/// See [`datapath::retry()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn retry<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::retry::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::keep()`]; returns nothing of meaning.
#[inline(always)]
pub(crate) fn keep<F: Kept + datapath::Handled>(context: *mut xdp_md, slot: u32) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    datapath::keep::<F>(&mut frame, &kernel, slot);
    0
}

/// See [`datapath::error()`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn error<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(datapath::error::<F>(&mut frame, &kernel), end)
}

/// See [`datapath::answer()`]: the action.
#[inline(always)]
pub(crate) fn answer<F: Kept + datapath::Handled>(context: *mut xdp_md, reason: u32) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    match datapath::answer::<F>(&mut frame, &kernel, reason) {
        Some(instead) => end(instead),
        None => {
            count_number(reason);
            send()
        }
    }
}

/// See [`tunnel::wrap`]: the action.
#[inline(always)]
pub(crate) fn wrap<F: Kept + datapath::Handled>(context: *mut xdp_md, reason: u32) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    match tunnel::wrap::<F>(&mut frame, &kernel, false, reason == Reason::IcmpError as u32) {
        Err(instead) => end(instead),
        Ok(()) => {
            count_number(reason);
            send()
        }
    }
}

/// See [`tunnel::unwrap`]; returns as [`outcome`] says.
#[inline(always)]
pub(crate) fn unwrap<F: Kept + datapath::Handled>(context: *mut xdp_md) -> u32 {
    let mut frame = Frame::new(context);
    let kernel = Kernel::new(frame);
    tunnel::unwrap::<F>(&mut frame, &kernel).map_or(UNWRAP, end)
}

/// Counts how a frame ended; the action for it.
#[inline(always)]
pub(crate) fn end(reason: Reason) -> u32 {
    count(reason);
    match reason.verdict() {
        Verdict::Pass | Verdict::Deliver => XDP_PASS,
        Verdict::Drop => XDP_DROP,
        Verdict::Forward | Verdict::Reply => send(),
    }
}

#[inline(always)]
fn send() -> u32 {
    match node() {
        Some(node) if node.flags & node_flag::REDIRECT != 0 => redirect(node.ifindex) as u32,
        _ => XDP_TX,
    }
}

/// A frame in the driver's buffer.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    context: *mut xdp_md,
}

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub(crate) fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel hands the program a valid `xdp_md`, and these fields stay readable throughout.
        unsafe { ((*self.context).data as usize, (*self.context).data_end as usize) }
    }
}

impl Context for Frame {
    #[inline(always)]
    fn as_ptr(self) -> *mut c_void {
        self.context.cast()
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the context is valid for the run of the program.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn length_to_route(self, length: u16) -> u16 {
        length
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn len(&self) -> usize {
        let (start, end) = self.bounds();
        end - start
    }

    #[inline(always)]
    fn head<const N: usize>(&mut self) -> Result<&mut [u16; N], Short> {
        let (start, end) = self.bounds();
        if start + 2 * N > end {
            return Err(Short);
        }
        // SAFETY: the frame has at least `N` halfwords by the comparison above, which the verifier checks again; it
        // begins at an even address (NET_IP_ALIGN, and the headroom of XDP, are even); the borrow of `self` keeps it
        // from being cut while they are in use.
        Ok(unsafe { &mut *(start as *mut [u16; N]) })
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> Result<(), Short> {
        let now = self.len();
        if now <= len {
            return Ok(());
        }
        let less = (now - len) as i32;
        // SAFETY: the context is valid, and no reference into the frame outlives this call (`&mut self`).
        if unsafe { bpf_xdp_adjust_tail(self.context, -less) } == 0 { Ok(()) } else { Err(Short) }
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Result<(), Short> {
        let more = len as i32 - self.len() as i32;
        // Drivers leave much room in front and often little behind (veth: none to speak of). Frames begin at even addresses.
        // SAFETY: as above.
        if more > 0 && more & 1 == 0 && unsafe { bpf_xdp_adjust_head(self.context, -more) } == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        if more == 0 || unsafe { bpf_xdp_adjust_tail(self.context, more) } == 0 { Ok(()) } else { Err(Short) }
    }

    #[inline(always)]
    fn options(&mut self, at: usize, bytes: u32, into: &mut [u16; SYN_OPTIONS]) -> Result<(), Short> {
        let (start, end) = self.bounds();
        let mut place = 0;
        while place < SYN_OPTIONS && (2 * place as u32) < bytes {
            let from = start + at + 2 * place;
            if from + 2 > end {
                return Err(Short);
            }
            // SAFETY: in the frame by the comparison above. Volatile, or it becomes a copy of a length that the verifier
            // cannot know.
            into[place] = unsafe { (from as *const u16).read_volatile() };
            place += 1;
        }
        Ok(())
    }

    #[inline(always)]
    fn set_options(&mut self, at: usize, bytes: u32, from: &[u16; SYN_OPTIONS]) -> Result<(), Short> {
        let (start, end) = self.bounds();
        let mut place = 0;
        while place < SYN_OPTIONS && (2 * place as u32) < bytes {
            let to = start + at + 2 * place;
            if to + 2 > end {
                return Err(Short);
            }
            // SAFETY: as above.
            unsafe { (to as *mut u16).write_volatile(from[place]) };
            place += 1;
        }
        Ok(())
    }

    #[inline(always)]
    fn push<const N: usize>(&mut self, front: &[u16; N]) -> Result<(), Short> {
        let more = (2 * N - ETHERNET) as i32;
        // SAFETY: as above.
        if unsafe { bpf_xdp_adjust_head(self.context, -more) } != 0 {
            return Err(Short);
        }
        self.head::<N>()?.copy_from_slice(front);
        Ok(())
    }

    #[inline(always)]
    fn pull<const N: usize>(&mut self) -> Result<(), Short> {
        let ethernet = *self.head::<{ ETHERNET / 2 }>()?;
        let less = (2 * N - ETHERNET) as i32;
        // SAFETY: as above.
        if unsafe { bpf_xdp_adjust_head(self.context, less) } != 0 {
            return Err(Short);
        }
        *self.head()? = ethernet;
        Ok(())
    }

    #[inline(always)]
    fn replace<const N: usize>(&mut self, frame: &[u16; N]) -> Result<(), Short> {
        // What is not made longer by halfwords finds no room in front.
        self.truncate(if self.len() > 2 * N { 2 * N } else { self.len() & !1 })?;
        self.resize(2 * N)?;
        self.head::<N>()?.copy_from_slice(frame);
        Ok(())
    }
}

//! The frame of an XDP context: the bounds checks, and the only pointer arithmetic.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use lb_ebpf::packet::{Packet, Short};

use crate::context::Context;

/// A frame in the driver's buffer.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    context: *mut xdp_md,
}

impl Frame {
    /// The frame of a context.
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self { context: context.as_ptr().cast() }
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
}

//! Packets shown as they enter and leave, to who wants to see them: nothing else of the host shows both.
//!
//! The agent loads the programs for it while somebody looks, and without it otherwise: the kernel then leaves all of this
//! out (`opt_remove_dead_code` in kernel/bpf/verifier.c), and packets pay for it by reading a constant.

use aya_ebpf::Global;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, PerfEventArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_ebpf::abi::Captured;

/// Bytes to show of each packet; 0: nobody looks. The agent sets it when it loads the object.
#[unsafe(no_mangle)]
static CAPTURE: Global<u32> = Global::new(0);
#[map]
static CAPTURED: PerfEventArray<Captured> = PerfEventArray::new(0);
/// With what the packet was counted that is looked at now.
#[map]
static ENDED: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Marks a packet that leaves in the place that [`Watched::show`] is told.
const LEAVES: u32 = 0x100;

/// A context whose packet can be shown.
pub(crate) trait Watched {
    /// Shows it, with what a program returns for it.
    fn show(context: *mut Self, place: u32, action: u32);
}

impl Watched for xdp_md {
    #[inline(always)]
    fn show(context: *mut Self, place: u32, action: u32) {
        xvip_show(context, place, action);
    }
}

impl Watched for __sk_buff {
    #[inline(always)]
    fn show(context: *mut Self, place: u32, action: u32) {
        xvip_tc_show(context, place, action);
    }
}

/// Shows a packet that enters a program.
#[inline(always)]
pub(crate) fn entered<C: Watched>(context: *mut C, place: u32) {
    if CAPTURE.load() != 0 {
        C::show(context, place, 0);
    }
}

/// Shows a packet that leaves a program, which returns this action for it.
#[inline(always)]
pub(crate) fn left<C: Watched>(context: *mut C, place: u32, action: u32) -> u32 {
    if CAPTURE.load() != 0 {
        C::show(context, place | LEAVES, action);
    }
    action
}

/// Notes with what a packet is counted.
#[inline(always)]
pub(crate) fn counted(reason: u32) {
    if CAPTURE.load() != 0 {
        note(reason);
    }
}

#[inline(always)]
fn note(reason: u32) {
    if let Some(ended) = ENDED.get_ptr_mut(0) {
        // SAFETY: a map value of this CPU; the program is not preempted by itself.
        unsafe { *ended = reason };
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xvip_show(context: *mut xdp_md, place: u32, action: u32) -> u32 {
    // SAFETY: the kernel hands the program a valid `xdp_md`, and these fields stay readable throughout.
    let (data, data_end) = unsafe { ((*context).data, (*context).data_end) };
    let captured = captured(data_end.wrapping_sub(data), place, action);
    CAPTURED.output(&XdpContext::new(context), captured, captured.kept);
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xvip_tc_show(context: *mut __sk_buff, place: u32, action: u32) -> u32 {
    // SAFETY: the kernel hands the program a valid `__sk_buff`.
    let length = unsafe { (*context).len };
    let captured = captured(length, place, action);
    CAPTURED.output(&TcContext::new(context), captured, captured.kept);
    0
}

#[inline(always)]
fn captured(length: u32, place: u32, action: u32) -> Captured {
    let is_leaving = place & LEAVES != 0;
    let mut reason = Captured::NO_REASON;
    if is_leaving {
        if let Some(ended) = ENDED.get(0) {
            reason = *ended;
        }
    } else {
        note(reason);
    }
    let most = CAPTURE.load();
    Captured {
        // SAFETY: a helper without arguments.
        at: unsafe { bpf_ktime_get_ns() },
        length,
        kept: if length < most { length } else { most },
        action,
        reason,
        place: place & !LEAVES,
        leaves: is_leaving as u32,
    }
}

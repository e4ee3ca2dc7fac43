//! Backends, their rounds and their connections: what packets and connect hooks share.

use core::arch::asm;
use core::ptr::addr_of;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use lb_ebpf::abi::{Backend, Change, Correction, LOADS as LOAD_ENTRIES, Load, MAX_BACKENDS, MAX_RINGS, RING_SIZE};
use lb_ebpf::datapath::balance::Connections;

#[map]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(MAX_BACKENDS, 0);
#[map]
pub(crate) static RINGS: Array<u32> = Array::with_max_entries(RING_SIZE * MAX_RINGS, 0);
#[map]
static LOADS: Array<Load> = Array::with_max_entries(LOAD_ENTRIES, 0);
#[map]
static CORRECTIONS: Array<Correction> = Array::with_max_entries(LOAD_ENTRIES, 0);

/// Lets a type answer by these tables; turns of its own it takes from an array of counters.
macro_rules! rounds {
    ([$($generics:tt)*] $kernel:ty, $turns:ident) => {
        impl<$($generics)*> lb_ebpf::datapath::balance::Rounds for $kernel {
            #[inline(always)]
            fn backend(&self, slot: u32) -> Option<&lb_ebpf::abi::Backend> {
                $crate::rounds::BACKENDS.get(slot)
            }

            #[inline(always)]
            fn ring(&self, place: u32) -> Option<u32> {
                $crate::rounds::RINGS.get(place).copied()
            }

            #[inline(always)]
            fn take_turn(&self, service: u32) -> Option<u32> {
                $crate::rounds::advance(&$turns, service, 1)
            }

            #[inline(always)]
            fn connections(&self, at: u32) -> lb_ebpf::datapath::balance::Connections {
                $crate::rounds::connections(at)
            }

            #[inline(always)]
            fn count(&self, at: u32, change: lb_ebpf::abi::Change) {
                $crate::rounds::count_load(at, change);
            }
        }
    };
}
pub(crate) use rounds;

/// Adds to a counter that all CPUs share. The target has the instruction and no type that uses it.
///
/// # Safety
/// In a map value, and aligned.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, more: u64) {
    // SAFETY: by the caller's word; the value stays valid until the program ends.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) more) };
}

/// Adds to a counter of this CPU; returns what it was, apart for each CPU.
#[inline(always)]
pub(crate) fn advance(counters: &PerCpuArray<u32>, index: u32, step: u32) -> Option<u32> {
    /// How far apart the CPUs begin.
    const STRIDE: u32 = 7919;
    let counter = counters.get_ptr_mut(index)?;
    // SAFETY: a map value of this CPU, aligned. Packets' programs are not preempted by themselves; connect hooks may be, and
    // who is preempted in between takes a turn twice.
    let before = unsafe {
        let before = counter.read_volatile();
        counter.write_volatile(before.wrapping_add(step));
        before
    };
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    Some(before.wrapping_add(cpu.wrapping_mul(STRIDE)))
}

/// Connections of a backend or a service.
#[inline(always)]
pub(crate) fn connections(at: u32) -> Connections {
    let (Some(load), Some(correction)) = (LOADS.get_ptr(at), CORRECTIONS.get_ptr(at)) else {
        return Connections::default();
    };
    // SAFETY: map values, aligned and there until the program ends; each word is read whole, and words of different
    // moments are numbers all the same.
    let (load, correction) = unsafe {
        (
            Load {
                opened: addr_of!((*load).opened).read_volatile(),
                closed: addr_of!((*load).closed).read_volatile(),
                begun: addr_of!((*load).begun).read_volatile(),
                ended: addr_of!((*load).ended).read_volatile(),
            },
            Correction {
                open: addr_of!((*correction).open).read_volatile(),
                opening: addr_of!((*correction).opening).read_volatile(),
            },
        )
    };
    Connections { open: load.open(&correction), opening: load.opening(&correction) }
}

/// Counts for a backend or a service.
#[inline(always)]
pub(crate) fn count_load(at: u32, change: Change) {
    if let Some(load) = LOADS.get_ptr_mut(at) {
        // SAFETY: one of the words of a map value, by the layout of `Load`.
        unsafe { add(load.cast::<u64>().wrapping_add(change as usize), 1) };
    }
}

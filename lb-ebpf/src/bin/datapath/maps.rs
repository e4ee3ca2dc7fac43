//! The maps, and the datapath's questions answered from them and from the kernel's helpers.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_fib_lookup as FibLookup};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_get_prandom_u32, bpf_get_smp_processor_id};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_log_ebpf::{debug, warn};
use lb_ebpf::abi::{
    Backend, Bucket, Endpoint, Flow, FlowKey, HALF_OPEN_ENTRIES, MAX_BACKENDS, MAX_FELLOWS, MAX_LISTENERS, MAX_RINGS,
    MAX_SERVICES, MAX_VIPS, Node, RING_SIZE, Reason, Service, SharedFlow, Traffic, budget, mac_key,
};
use lb_ebpf::datapath::tables::{Note, Refused, Tables};
use lb_ebpf::net::Be32;

use crate::context::Context;

#[map]
static NODE: Array<Node> = Array::with_max_entries(1, 0);
#[map]
static VIPS: HashMap<Be32, u32> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
#[map]
static SERVICES: HashMap<Endpoint, Service> = HashMap::with_max_entries(MAX_LISTENERS, BPF_F_NO_PREALLOC);
#[map]
static BACKENDS: Array<Backend> = Array::with_max_entries(MAX_BACKENDS, 0);
#[map]
static BACKEND_SLOTS: HashMap<Endpoint, u32> = HashMap::with_max_entries(MAX_BACKENDS, BPF_F_NO_PREALLOC);
#[map]
static FELLOWS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_FELLOWS, BPF_F_NO_PREALLOC);
#[map]
static RINGS: Array<u32> = Array::with_max_entries(RING_SIZE * MAX_RINGS, 0);
#[map]
static TURNS: PerCpuArray<u32> = PerCpuArray::with_max_entries(MAX_SERVICES, 0);
#[map]
static PORT_CURSORS: PerCpuArray<u32> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);
/// The agent sets the size when it loads the object.
#[map]
static ESTABLISHED: HashMap<FlowKey, Flow> = HashMap::with_max_entries(2048, 0);
#[map]
static HALF_OPEN: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(HALF_OPEN_ENTRIES, 0);
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);
#[map]
static BUDGETS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(budget::COUNT, 0);
/// Only this program's business, so no part of the boundary to the agent.
#[map]
static CLOCK: PerCpuArray<Clock> = PerCpuArray::with_max_entries(1, 0);

/// The clock as a CPU last read it.
#[repr(C)]
struct Clock {
    /// Timer ticks of the kernel then.
    ticks: u64,
    /// Second of the monotonic clock.
    second: u32,
}

const NANOSECONDS: u64 = 1_000_000_000;
const AF_INET: u8 = 2;

/// The kernel, as the datapath asks it.
pub(crate) struct Kernel<C> {
    context: C,
}

impl<C: Context> Kernel<C> {
    /// For one run of the program.
    #[inline(always)]
    pub(crate) fn new(context: C) -> Self {
        Self { context }
    }

    /// Counts how a packet ended.
    #[inline(always)]
    pub(crate) fn count(&self, reason: Reason) {
        if let Some(counter) = PACKETS.get_ptr_mut(reason as u32) {
            // SAFETY: a map value of this CPU; the program is not preempted by itself.
            unsafe { *counter += 1 };
        }
    }
}

/// A table's entry as the datapath shares it with other CPUs.
#[inline(always)]
fn shared<'a>(entry: Option<*mut Flow>) -> Option<&'a SharedFlow> {
    // SAFETY: the kernel keeps a looked-up value readable until the program ends. `SharedFlow` is `Flow` with its
    // changing words atomic, of the same layout (asserted beside the definition). An entry removed meanwhile may be
    // given to another flow; words are then mixed, never out of bounds, and a mixed translation is a lost packet.
    entry.map(|entry| unsafe { &*entry.cast::<SharedFlow>() })
}

/// Adds to a counter of this CPU; returns what it was, apart for each CPU.
#[inline(always)]
fn advance(counters: &PerCpuArray<u32>, index: u32, step: u32) -> Option<u32> {
    /// How far apart the CPUs begin.
    const STRIDE: u32 = 7919;
    let counter = counters.get_ptr_mut(index)?;
    // SAFETY: a map value of this CPU; the program is not preempted by itself.
    let counter: &mut u32 = unsafe { &mut *counter };
    let before = *counter;
    *counter = before.wrapping_add(step);
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    Some(before.wrapping_add(cpu.wrapping_mul(STRIDE)))
}

/// Takes one out of this second's budget.
#[inline(always)]
fn spend(bucket: Option<*mut Bucket>, now: u32, per_second: u32) -> bool {
    let Some(bucket) = bucket else {
        return false;
    };
    // SAFETY: a map value of this CPU; the program is not preempted by itself.
    let bucket: &mut Bucket = unsafe { &mut *bucket };
    if bucket.second != now {
        *bucket = Bucket { second: now, spent: 0 };
    }
    if bucket.spent >= per_second {
        return false;
    }
    bucket.spent += 1;
    true
}

impl<C: Context> Tables for Kernel<C> {
    #[inline(always)]
    fn node(&self) -> Option<&Node> {
        NODE.get(0).filter(|node| node.version != 0)
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: a helper without arguments.
        let read = || (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS) as u32;
        let Some(clock) = CLOCK.get_ptr_mut(0) else {
            return read();
        };
        // SAFETY: a map value of this CPU; the program is not preempted by itself.
        let clock: &mut Clock = unsafe { &mut *clock };
        // The clock stands still between two ticks of the timer. Reading it costs half as much as finding the flow,
        // the count of ticks is a plain load.
        // SAFETY: a helper without arguments.
        let ticks = unsafe { bpf_jiffies64() };
        if clock.ticks != ticks {
            *clock = Clock { ticks, second: read() };
        }
        clock.second
    }

    #[inline(always)]
    fn is_vip(&self, address: Be32) -> bool {
        VIPS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn service(&self, listener: &Endpoint) -> Option<Service> {
        // SAFETY: not preallocated, so the value stays until the program ends; the agent replaces it as a whole.
        unsafe { SERVICES.get(listener) }.copied()
    }

    #[inline(always)]
    fn backend(&self, slot: u32) -> Option<&Backend> {
        BACKENDS.get(slot)
    }

    #[inline(always)]
    fn is_fellow(&self, mac: [u8; 6]) -> bool {
        FELLOWS.get_ptr(mac_key(mac)).is_some()
    }

    #[inline(always)]
    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        BACKEND_SLOTS.get_ptr(endpoint).is_some()
    }

    #[inline(always)]
    fn ring(&self, place: u32) -> Option<u32> {
        RINGS.get(place).copied()
    }

    #[inline(always)]
    fn take_turn(&self, service: u32) -> Option<u32> {
        advance(&TURNS, service, 1)
    }

    #[inline(always)]
    fn take_port(&self, slot: u32, step: u32) -> Option<u32> {
        advance(&PORT_CURSORS, slot, step)
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn established(&self, key: &FlowKey) -> Option<&SharedFlow> {
        shared(ESTABLISHED.get_ptr_mut(key))
    }

    #[inline(always)]
    fn half_open(&self, key: &FlowKey) -> Option<&SharedFlow> {
        shared(HALF_OPEN.get_ptr_mut(key))
    }

    #[inline(always)]
    fn add_established(&self, key: &FlowKey, flow: &Flow) -> Result<(), Refused> {
        ESTABLISHED.insert(key, flow, BPF_NOEXIST.into()).map_err(|_| Refused)
    }

    #[inline(always)]
    fn add_half_open(&self, key: &FlowKey, flow: &Flow) -> Result<(), Refused> {
        HALF_OPEN.insert(key, flow, BPF_NOEXIST.into()).map_err(|_| Refused)
    }

    #[inline(always)]
    fn remove_established(&self, key: &FlowKey) {
        // Gone already is what was wanted.
        let _ = ESTABLISHED.remove(key);
    }

    #[inline(always)]
    fn remove_half_open(&self, key: &FlowKey) {
        // Gone already is what was wanted.
        let _ = HALF_OPEN.remove(key);
    }

    #[inline(always)]
    fn next_hop(&self, source: Be32, destination: Be32, length: u16) -> Option<[u8; 6]> {
        // SAFETY: a plain C structure, for which zero is a valid value in every field.
        let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
        lookup.family = AF_INET;
        lookup.__bindgen_anon_1.tot_len = self.context.length_to_route(length);
        lookup.__bindgen_anon_3.ipv4_src = source.raw();
        lookup.__bindgen_anon_4.ipv4_dst = destination.raw();
        let ingress = self.context.ifindex();
        lookup.ifindex = ingress;
        let context = self.context.as_ptr();
        // SAFETY: context and structure are valid, and the length is the structure's.
        let result = unsafe { bpf_fib_lookup(context, &raw mut lookup, size_of::<FibLookup>() as i32, 0) };
        // Through another interface the answer would not come back to us.
        (result == 0 && lookup.ifindex == ingress).then_some(lookup.dmac)
    }

    #[inline(always)]
    fn spend_reset(&self, now: u32, per_second: u32) -> bool {
        spend(BUDGETS.get_ptr_mut(budget::RESETS), now, per_second)
    }

    #[inline(always)]
    fn count_in(&self, slot: u32, bytes: u64, opened: bool) {
        if let Some(traffic) = TRAFFIC.get_ptr_mut(slot) {
            // SAFETY: a map value of this CPU; the program is not preempted by itself.
            let traffic: &mut Traffic = unsafe { &mut *traffic };
            traffic.packets_in += 1;
            traffic.bytes_in += bytes;
            traffic.opened += opened as u64;
        }
    }

    #[inline(always)]
    fn count_out(&self, slot: u32, bytes: u64) {
        if let Some(traffic) = TRAFFIC.get_ptr_mut(slot) {
            // SAFETY: a map value of this CPU; the program is not preempted by itself.
            let traffic: &mut Traffic = unsafe { &mut *traffic };
            traffic.packets_out += 1;
            traffic.bytes_out += bytes;
        }
    }

    #[inline(always)]
    fn note(&self, note: Note, client: &FlowKey, slot: u32) {
        // A flood of refused connections must not become a flood of lines.
        let refused = matches!(note, Note::NoSourcePort | Note::TableFull);
        if !refused || spend(BUDGETS.get_ptr_mut(budget::WARNINGS), self.now(), 1) {
            write(note, client.source.get(), client.source_port.get(), slot);
        }
    }
}

/// Hands a line to the agent's log. A function of its own, for the stack's sake.
#[inline(never)]
fn write(note: Note, client: u32, port: u16, slot: u32) {
    // The log's macros take a context and leave it alone.
    let context = ();
    match note {
        Note::Opened => debug!(&context, "flow of {:i}:{} opened to backend slot {}", client, port, slot),
        Note::Closed => debug!(&context, "flow of {:i}:{} closed, backend slot {}", client, port, slot),
        Note::BackendGone => debug!(&context, "flow of {:i}:{} reset, backend slot {} is gone", client, port, slot),
        Note::NoSourcePort => {
            warn!(&context, "connection of {:i}:{} refused, no source port to backend slot {}", client, port, slot);
        }
        Note::TableFull => warn!(&context, "connection of {:i}:{} refused, table of flows is full", client, port),
    }
}

//! The maps, and the datapath's questions answered from them and from the kernel's helpers.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST, bpf_fib_lookup as FibLookup};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_get_prandom_u32};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use lb_ebpf::abi::{
    ALLOWED_ENTRIES, Allowed, Bucket, ERRORS_PER_SECOND, EVENT_BYTES, Endpoint, Flow, FlowKey, HALF_OPEN_ENTRIES,
    LIST_BITS, MAX_BACKENDS, MAX_FELLOWS, MAX_FULL_SOURCES, MAX_LIMITED_SOURCES, MAX_LISTENERS, MAX_OWN_ADDRESSES,
    MAX_PORT_SETS, MAX_REASONS, MAX_SERVICES, MAX_SOURCES, MAX_TUNNELS, MAX_VIPS, Moment, NoHint, Node, PortKey,
    PortSet, Pulse, Reason, SYN_ENTRIES, Service, SharedFlow, SharedPortSet, SharedPulse, SharedSyn, Sharing, Source,
    SourceLimit, Suspicion, Syn, Traffic, budget, handshake_bucket, hears, mac_key,
};
use lb_ebpf::datapath::ports::{self, Search, Try};
use lb_ebpf::datapath::tables::{Drafts, Note, Refused, Tables};
use lb_ebpf::net::{Address as _, Be32, Be128, Family, V4, V6};

use crate::context::{Context, NoPacket};
use crate::rounds::{BACKENDS, add, advance, rounds};
use crate::skb::Head;
use crate::{capture, parts, tell};

#[map]
static NODE: Array<Node> = Array::with_max_entries(1, 0);
/// Whom the connect hooks ask about as well.
#[map]
pub(crate) static OWN: HashMap<Be128, u32> = HashMap::with_max_entries(MAX_OWN_ADDRESSES, BPF_F_NO_PREALLOC);
#[map]
static VIPS: HashMap<Be128, u32> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SERVICES: HashMap<Endpoint, Service> = HashMap::with_max_entries(MAX_LISTENERS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static BACKEND_SLOTS: HashMap<Endpoint, u32> = HashMap::with_max_entries(MAX_BACKENDS, BPF_F_NO_PREALLOC);
#[map]
static FELLOWS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_FELLOWS, BPF_F_NO_PREALLOC);
#[map]
static TUNNELS: HashMap<Be128, u32> = HashMap::with_max_entries(MAX_TUNNELS, BPF_F_NO_PREALLOC);
#[map]
static TURNS: PerCpuArray<u32> = PerCpuArray::with_max_entries(MAX_SERVICES, 0);
#[map]
static PORT_CURSORS: PerCpuArray<u32> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);
#[map]
static SOURCES: Array<Be128> = Array::with_max_entries(2 * MAX_SOURCES, 0);
/// The agent makes the sets.
#[map]
static PORTS: HashMap<PortKey, PortSet> = HashMap::with_max_entries(MAX_PORT_SETS, BPF_F_NO_PREALLOC);
/// The agent sets the size when it loads the object, as that of all tables of flows and SYNs.
#[map]
static ESTABLISHED: HashMap<FlowKey, Flow> = HashMap::with_max_entries(2048, 0);
#[map]
static HALF_OPEN: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(HALF_OPEN_ENTRIES, 0);
/// Takes memory as it fills: most nodes have no use for it. The agent sets the size.
#[map]
static ESTABLISHED6: HashMap<FlowKey<Be128>, Flow<Be128>> = HashMap::with_max_entries(2048, BPF_F_NO_PREALLOC);
#[map]
static HALF_OPEN6: LruHashMap<FlowKey<Be128>, Flow<Be128>> = LruHashMap::with_max_entries(HALF_OPEN_ENTRIES, 0);
#[map]
static SYNS: LruHashMap<FlowKey, Syn> = LruHashMap::with_max_entries(SYN_ENTRIES, 0);
#[map]
static SYNS6: LruHashMap<FlowKey<Be128>, Syn> = LruHashMap::with_max_entries(SYN_ENTRIES, 0);
#[map]
static PULSES: Array<Pulse> = Array::with_max_entries(MAX_BACKENDS, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);
#[map]
static SHARING: Array<Sharing> = Array::with_max_entries(1, 0);
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_REASONS, 0);
#[map]
static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);
#[map]
static BUDGETS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(budget::COUNT, 0);
#[map]
static ALLOWED: LpmTrie<Allowed, u32> = LpmTrie::with_max_entries(ALLOWED_ENTRIES, 0);
#[map]
static LIMITS: Array<SourceLimit> = Array::with_max_entries(MAX_SERVICES, 0);
#[map]
static LIMITED: LruHashMap<Source, u64> = LruHashMap::with_max_entries(MAX_LIMITED_SOURCES, 0);
#[map]
static FULL_SOURCES: HashMap<Source, u64> = HashMap::with_max_entries(MAX_FULL_SOURCES, BPF_F_NO_PREALLOC);
/// Only this program's business, so no part of the boundary to the agent.
#[map]
static CLOCK: PerCpuArray<Clock> = PerCpuArray::with_max_entries(1, 0);

// Room for what would be too much for the stack, apart for each CPU; what one run leaves there means nothing to the next.
#[map]
static DRAFTS: PerCpuArray<Drafts<Be32>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static DRAFTS6: PerCpuArray<Drafts<Be128>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SEARCH: PerCpuArray<Search<Be32>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SEARCH6: PerCpuArray<Search<Be128>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PORT_KEY: PerCpuArray<PortKey> = PerCpuArray::with_max_entries(1, 0);
#[map]
static QUESTION: PerCpuArray<FibLookup> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SYN_DRAFT: PerCpuArray<Syn> = PerCpuArray::with_max_entries(1, 0);
#[map]
static HEAD: PerCpuArray<Head<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static HEAD6: PerCpuArray<Head<V6>> = PerCpuArray::with_max_entries(1, 0);

/// The clock as a CPU last read it.
#[repr(C)]
struct Clock {
    /// Timer ticks of the kernel then.
    ticks: u64,
    /// Second of the monotonic clock.
    second: u32,
}

const NANOSECONDS: u64 = 1_000_000_000;

/// An IP version's tables of flows, and how the kernel is asked for its routes.
pub(crate) trait Kept: Family {
    /// Its established flows.
    fn established() -> &'static HashMap<FlowKey<Self::Address>, Flow<Self::Address>>;
    /// Its half-open flows.
    fn half_open() -> &'static LruHashMap<FlowKey<Self::Address>, Flow<Self::Address>>;
    /// What is kept of its SYNs.
    fn syns() -> &'static LruHashMap<FlowKey<Self::Address>, Syn>;
    /// Room for a new flow.
    fn drafts() -> Option<*mut Drafts<Self::Address>>;
    /// Room for a search.
    fn search() -> Option<*mut Search<Self::Address>>;
    /// [`ports::find`] as a function of its own.
    fn find_port() -> u32;
    /// [`ports::try_port`] as a function of its own.
    fn try_port(in_need: u32) -> u32;
    /// Room for what is copied of a frame.
    fn head_copy() -> Option<*mut Head<Self>>;
    /// Asks for the way between two addresses.
    fn ask(lookup: &mut FibLookup, source: Self::Address, destination: Self::Address);
    /// Tells those who share flows of one.
    fn tell(client: &FlowKey<Self::Address>, what: u32);
    /// The same for the log of flows.
    fn log(client: &FlowKey<Self::Address>, what: u32);
    /// Hands a line to the agent's log.
    fn write(note: Note, client: Self::Address, port: u16, slot: u32);
}

impl Kept for V4 {
    #[inline(always)]
    fn established() -> &'static HashMap<FlowKey, Flow> {
        &ESTABLISHED
    }

    #[inline(always)]
    fn half_open() -> &'static LruHashMap<FlowKey, Flow> {
        &HALF_OPEN
    }

    #[inline(always)]
    fn syns() -> &'static LruHashMap<FlowKey, Syn> {
        &SYNS
    }

    #[inline(always)]
    fn drafts() -> Option<*mut Drafts<Self::Address>> {
        DRAFTS.get_ptr_mut(0)
    }

    #[inline(always)]
    fn search() -> Option<*mut Search<Self::Address>> {
        SEARCH.get_ptr_mut(0)
    }

    #[inline(always)]
    fn find_port() -> u32 {
        parts::xvip_find_port4()
    }

    #[inline(always)]
    fn try_port(in_need: u32) -> u32 {
        parts::xvip_try_port4(in_need)
    }

    #[inline(always)]
    fn head_copy() -> Option<*mut Head<Self>> {
        HEAD.get_ptr_mut(0)
    }

    #[inline(always)]
    fn ask(lookup: &mut FibLookup, source: Be32, destination: Be32) {
        const AF_INET: u8 = 2;
        lookup.family = AF_INET;
        lookup.__bindgen_anon_3.ipv4_src = source.raw();
        lookup.__bindgen_anon_4.ipv4_dst = destination.raw();
    }

    #[inline(always)]
    fn tell(client: &FlowKey<Self::Address>, what: u32) {
        tell::tell4(client, what);
    }

    #[inline(always)]
    fn log(client: &FlowKey<Self::Address>, what: u32) {
        tell::log4(client, what);
    }

    #[inline(always)]
    fn write(note: Note, client: Be32, port: u16, slot: u32) {
        tell::write4(note, client.get(), port, slot);
    }
}

impl Kept for V6 {
    #[inline(always)]
    fn established() -> &'static HashMap<FlowKey<Be128>, Flow<Be128>> {
        &ESTABLISHED6
    }

    #[inline(always)]
    fn half_open() -> &'static LruHashMap<FlowKey<Be128>, Flow<Be128>> {
        &HALF_OPEN6
    }

    #[inline(always)]
    fn syns() -> &'static LruHashMap<FlowKey<Be128>, Syn> {
        &SYNS6
    }

    #[inline(always)]
    fn drafts() -> Option<*mut Drafts<Self::Address>> {
        DRAFTS6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn search() -> Option<*mut Search<Self::Address>> {
        SEARCH6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn find_port() -> u32 {
        parts::xvip_find_port6()
    }

    #[inline(always)]
    fn try_port(in_need: u32) -> u32 {
        parts::xvip_try_port6(in_need)
    }

    #[inline(always)]
    fn head_copy() -> Option<*mut Head<Self>> {
        HEAD6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn ask(lookup: &mut FibLookup, source: Be128, destination: Be128) {
        const AF_INET6: u8 = 10;
        lookup.family = AF_INET6;
        lookup.__bindgen_anon_3.ipv6_src = source.raw();
        lookup.__bindgen_anon_4.ipv6_dst = destination.raw();
    }

    #[inline(always)]
    fn tell(client: &FlowKey<Self::Address>, what: u32) {
        tell::tell6(client, what);
    }

    #[inline(always)]
    fn log(client: &FlowKey<Self::Address>, what: u32) {
        tell::log6(client, what);
    }

    #[inline(always)]
    fn write(note: Note, client: Be128, port: u16, slot: u32) {
        tell::write6(note, client.wire(), port, slot);
    }
}

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
}

/// Counts how a packet ended.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    count_number(reason as u32);
}

/// The same by the number of the reason.
#[inline(always)]
pub(crate) fn count_number(reason: u32) {
    capture::counted(reason);
    if let Some(counter) = PACKETS.get_ptr_mut(reason) {
        // SAFETY: a map value of this CPU; the program is not preempted by itself.
        unsafe { *counter += 1 };
    }
}

/// This node, once the agent has described it.
#[inline(always)]
pub(crate) fn node<'a>() -> Option<&'a Node> {
    NODE.get(0).filter(|node| node.version != 0)
}

/// A table's entry as the datapath shares it with other CPUs.
#[inline(always)]
pub(crate) fn shared<'a, A>(entry: Option<*mut Flow<A>>) -> Option<&'a SharedFlow<A>> {
    // SAFETY: the kernel keeps a looked-up value readable until the program ends. `SharedFlow` is `Flow` with its
    // changing words atomic, of the same layout (asserted beside the definition). An entry removed meanwhile may be
    // given to another flow; words are then mixed, never out of bounds, and a mixed translation is a lost packet.
    entry.map(|entry| unsafe { &*entry.cast::<SharedFlow<A>>() })
}

/// A set of source ports.
#[inline(always)]
fn port_set<'a>(key: &PortKey) -> Option<&'a SharedPortSet> {
    // SAFETY: not preallocated, so the set stays until the program ends, be it replaced meanwhile. `SharedPortSet` is
    // `PortSet` with its words atomic, of the same layout (asserted beside the definition), and nothing here uses it
    // otherwise.
    PORTS.get_ptr(key).map(|set| unsafe { &*set.cast::<SharedPortSet>() })
}

/// Goes on with the search that [`Kept::search`] has.
#[inline(always)]
pub(crate) fn find_port<F: Kept>() -> bool {
    // SAFETY: a map value of this CPU, of which the caller has no reference now.
    let search = F::search().map(|search| unsafe { &mut *search });
    search.is_some_and(|search| ports::find::<F>(&Kernel::new(NoPacket), search))
}

const FREE: u32 = Try::Free as u32;
const CLOSED: u32 = Try::Closed as u32;

/// Looks at the port that the same search has come to.
#[inline(always)]
pub(crate) fn try_port<F: Kept>(in_need: bool) -> u32 {
    // SAFETY: a map value of this CPU, which the caller does not change meanwhile.
    let search = F::search().map(|search| unsafe { &*search });
    search.map_or(Try::Taken, |search| ports::try_port::<F>(&Kernel::new(NoPacket), search, in_need)) as u32
}

/// Takes a port of the set whose key is in [`PORT_KEY`].
#[inline(always)]
pub(crate) fn take_hint(from: u16) -> Result<u16, NoHint> {
    PORT_KEY.get(0).and_then(port_set).ok_or(NoHint::Full)?.take(from)
}

/// Takes one out of this second's budget.
#[inline(always)]
pub(crate) fn spend(bucket: Option<*mut Bucket>, now: u32, per_second: u32) -> bool {
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

rounds!([C: Context] Kernel<C>, TURNS);

impl<F: Kept, C: Context> Tables<F> for Kernel<C> {
    #[inline(always)]
    fn node(&self) -> Option<&Node> {
        node()
    }

    #[inline(always)]
    fn sharing(&self) -> Option<&Sharing> {
        SHARING.get(0).filter(|sharing| sharing.is_on & hears::SHARED != 0)
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
    fn nanoseconds(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn micros(&self) -> u64 {
        // SAFETY: a helper without arguments.
        let nanoseconds = unsafe { bpf_ktime_get_ns() };
        nanoseconds / 1000
    }

    #[inline(always)]
    fn syn(&self, client: &FlowKey<F::Address>) -> Option<&SharedSyn> {
        // SAFETY: as `shared`: the same layout, with words for what changes.
        F::syns().get_ptr_mut(client).map(|syn| unsafe { &*syn.cast::<SharedSyn>() })
    }

    #[inline(always)]
    unsafe fn syn_draft(&self) -> Option<&mut Syn> {
        // SAFETY: as `drafts`.
        SYN_DRAFT.get_ptr_mut(0).map(|syn| unsafe { &mut *syn })
    }

    #[inline(always)]
    fn keep_syn(&self, client: &FlowKey<F::Address>, syn: &Syn) {
        // Without it the connection has one backend to try.
        let _ = F::syns().insert(client, syn, 0);
    }

    #[inline(always)]
    fn forget_syn(&self, client: &FlowKey<F::Address>) {
        // Gone already is what was wanted.
        let _ = F::syns().remove(client);
    }

    #[inline(always)]
    fn pulse(&self, slot: u32) -> Option<&SharedPulse> {
        // SAFETY: as `shared`; the counters behind the words are never read through this.
        PULSES.get_ptr_mut(slot).map(|pulse| unsafe { &*pulse.cast::<SharedPulse>() })
    }

    #[inline(always)]
    fn count_handshake(&self, slot: u32, micros: u32) {
        let Some(pulse) = PULSES.get_ptr_mut(slot) else {
            return;
        };
        let bucket = handshake_bucket(micros) as usize;
        // SAFETY: in the value, by the number of buckets, which the verifier sees from the mask.
        unsafe {
            add(&raw mut (*pulse).micros, micros as u64);
            add((&raw mut (*pulse).handshakes).cast::<u64>().add(bucket & 15), 1);
        }
    }

    #[inline(always)]
    fn count_retry(&self, slot: u32, refused: bool) {
        if let Some(pulse) = PULSES.get_ptr_mut(slot) {
            // SAFETY: fields of a map value.
            unsafe { add(if refused { &raw mut (*pulse).refused } else { &raw mut (*pulse).unanswered }, 1) };
        }
    }

    #[inline(always)]
    fn suspect(&self, slot: u32) {
        let generation = BACKENDS.get(slot).map_or(0, |backend| backend.generation);
        // Where the agent does not read, it need not hear more.
        let _ = EVENTS.output::<Suspicion>(&Suspicion { slot, generation }, 0);
    }

    #[inline(always)]
    fn is_vip(&self, address: F::Address) -> bool {
        let address: Be128 = address.into();
        VIPS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn is_own(&self, address: F::Address) -> bool {
        let address: Be128 = address.into();
        OWN.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn service(&self, listener: &Endpoint) -> Option<Service> {
        // SAFETY: not preallocated, so the value stays until the program ends; the agent replaces it as a whole.
        unsafe { SERVICES.get(listener) }.copied()
    }

    #[inline(always)]
    fn is_allowed(&self, list: u32, address: F::Address) -> bool {
        let key = Key::new(LIST_BITS + 128, Allowed { list, address: address.into() });
        ALLOWED.get(&key).is_some()
    }

    #[inline(always)]
    fn source_limit(&self, service: u32) -> Option<&SourceLimit> {
        LIMITS.get(service)
    }

    #[inline(always)]
    fn limited(&self, source: &Source) -> Option<&Moment> {
        // SAFETY: the kernel keeps a looked-up value readable until the program ends, and `Moment` is a `u64` that other
        // CPUs may write. An entry pushed out meanwhile may be another source's: that one then waits a little longer.
        LIMITED.get_ptr_mut(source).map(|filled| unsafe { &*filled.cast::<Moment>() })
    }

    #[inline(always)]
    fn add_limited(&self, source: &Source, filled: u64) {
        // Whom there is no room for is not limited.
        let _ = LIMITED.insert(source, filled, 0);
    }

    #[inline(always)]
    fn full_until(&self, source: &Source) -> Option<u64> {
        // SAFETY: the kernel keeps a looked-up value readable until the program ends.
        unsafe { FULL_SOURCES.get(source) }.copied()
    }

    #[inline(always)]
    fn is_fellow(&self, mac: [u8; 6]) -> bool {
        FELLOWS.get_ptr(mac_key(mac)).is_some()
    }

    #[inline(always)]
    fn is_tunnel(&self, from: F::Address) -> bool {
        let from: Be128 = from.into();
        TUNNELS.get_ptr(from).is_some()
    }

    #[inline(always)]
    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        BACKEND_SLOTS.get_ptr(endpoint).is_some()
    }

    #[inline(always)]
    fn take_port(&self, slot: u32, step: u32) -> Option<u32> {
        advance(&PORT_CURSORS, slot, step)
    }

    #[inline(always)]
    fn find_port(&self, answers: &mut FlowKey<F::Address>, slot: u32, is_local: bool) -> bool {
        let Some(search) = F::search() else {
            return false;
        };
        // SAFETY: a map value of this CPU, of which nobody has a reference now; for interruptions see `drafts` below.
        unsafe { (*search).begin(answers, slot, is_local) };
        if F::find_port() == 0 {
            return false;
        }
        // SAFETY: as above.
        *answers = unsafe { (*search).answers };
        true
    }

    #[inline(always)]
    fn try_port(&self, _search: &Search<F::Address>, in_need: bool) -> Try {
        match F::try_port(in_need as u32) {
            FREE => Try::Free,
            CLOSED => Try::Closed,
            _ => Try::Taken,
        }
    }

    #[inline(always)]
    fn take_hint(&self, search: &Search<F::Address>, from: u16) -> Result<u16, NoHint> {
        let Some(question) = PORT_KEY.get_ptr_mut(0) else {
            return Err(NoHint::Full);
        };
        // SAFETY: a map value of this CPU, used by nothing else; for interruptions see `Tables::drafts` below.
        unsafe { *question = search.set() };
        match parts::xvip_hint(from as u32) {
            parts::NO_HINT => Err(NoHint::Full),
            parts::HINT_AGAIN => Err(NoHint::Again),
            port => Ok(port as u16),
        }
    }

    #[inline(always)]
    fn is_exhausted(&self, key: PortKey) -> bool {
        port_set(&key).is_some_and(SharedPortSet::is_full)
    }

    #[inline(always)]
    fn source(&self, number: u32) -> Option<F::Address> {
        SOURCES.get(F::PLACE as u32 * MAX_SOURCES + number).map(|address| F::Address::of(*address))
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn established(&self, key: &FlowKey<F::Address>) -> Option<&SharedFlow<F::Address>> {
        shared(F::established().get_ptr_mut(key))
    }

    #[inline(always)]
    fn half_open(&self, key: &FlowKey<F::Address>) -> Option<&SharedFlow<F::Address>> {
        shared(F::half_open().get_ptr_mut(key))
    }

    #[inline(always)]
    unsafe fn drafts(&self) -> Option<&mut Drafts<F::Address>> {
        // SAFETY: a map value of this CPU, of which the caller has no other reference. Packets enter with softirqs off, so
        // no other run is under way here (without PREEMPT_RT).
        F::drafts().map(|drafts| unsafe { &mut *drafts })
    }

    #[inline(always)]
    fn add_established(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) -> Result<(), Refused> {
        F::established().insert(key, flow, BPF_NOEXIST.into()).map_err(|_| Refused)
    }

    #[inline(always)]
    fn add_half_open(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) -> Result<(), Refused> {
        F::half_open().insert(key, flow, BPF_NOEXIST.into()).map_err(|_| Refused)
    }

    #[inline(always)]
    fn remove_established(&self, key: &FlowKey<F::Address>) {
        // Gone already is what was wanted.
        let _ = F::established().remove(key);
    }

    #[inline(always)]
    fn remove_half_open(&self, key: &FlowKey<F::Address>) {
        // Gone already is what was wanted.
        let _ = F::half_open().remove(key);
    }

    #[inline(always)]
    fn next_hop(&self, source: F::Address, destination: F::Address, length: u16) -> Option<[u8; 6]> {
        let lookup = QUESTION.get_ptr_mut(0)?;
        // SAFETY: a map value of this CPU, used by nothing else, and for which zero is a valid value in every field. For
        // interruptions see `Tables::drafts` below.
        let lookup: &mut FibLookup = unsafe {
            lookup.write_bytes(0, 1);
            &mut *lookup
        };
        F::ask(lookup, source, destination);
        lookup.__bindgen_anon_1.tot_len = self.context.length_to_route(length);
        let ingress = self.context.ifindex();
        lookup.ifindex = ingress;
        let context = self.context.as_ptr();
        // SAFETY: context and structure are valid, and the length is the structure's.
        let result = unsafe { bpf_fib_lookup(context, lookup, size_of::<FibLookup>() as i32, 0) };
        // Through another interface the answer would not come back to us.
        (result == 0 && lookup.ifindex == ingress).then_some(lookup.dmac)
    }

    #[inline(always)]
    fn spend_reset(&self, now: u32, per_second: u32) -> bool {
        spend(BUDGETS.get_ptr_mut(budget::RESETS), now, per_second)
    }

    #[inline(always)]
    fn spend_error(&self, now: u32) -> bool {
        spend(BUDGETS.get_ptr_mut(budget::ERRORS), now, ERRORS_PER_SECOND)
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
    fn note(&self, note: Note, client: &FlowKey<F::Address>, slot: u32) {
        // A flood of refused connections must not become a flood of lines.
        let refused = matches!(note, Note::NoSourcePort | Note::TableFull);
        let now = Tables::<F>::now(self);
        if !refused || spend(BUDGETS.get_ptr_mut(budget::WARNINGS), now, 1) {
            F::write(note, client.source, client.source_port.get(), slot);
        }
        if let (Some(what), Some(sharing)) = (note.told(), SHARING.get(0)) {
            if sharing.is_on & hears::SHARED != 0 {
                F::tell(client, what);
            }
            if sharing.is_on & hears::LOGGED != 0 {
                F::log(client, what);
            }
        }
    }
}

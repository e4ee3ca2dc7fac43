//! The tables as tree maps, so that the datapath runs on the host.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::BTreeMap;

use super::arena::Arena;
use super::{Executor, World};
use crate::abi::{
    Adoption, Backend, Change, Correction, ERRORS_PER_SECOND, Endpoint, Flow, FlowKey, HALF_OPEN_ENTRIES, Lease, Load,
    Moment, NoHint, Node, PortKey, Pulse, Readable as _, Reason, Service, SharedFlow, SharedLease, SharedPortSet,
    SharedPulse, SharedSyn, Sharing, Source, SourceLimit, Syn, Told, Traffic, handshake_bucket, mask,
};
use crate::datapath::balance::{Connections, Rounds};
use crate::datapath::lease::Leases;
use crate::datapath::ports::{Search, Try, find, try_port};
use crate::datapath::tables::{Drafts, Note, Refused, Tables};
use crate::datapath::{process, process_leaving, process_leaving_home};
use crate::net::{Address, Be32, Be128, Family, V4, V6};
use crate::packet::Owned;

type Entries<A> = RefCell<BTreeMap<FlowKey<A>, usize>>;
/// A copy of a table of flows.
pub type Table<A> = BTreeMap<FlowKey<A>, Flow<A>>;
type Cursors = RefCell<BTreeMap<u32, u32>>;

/// The kernel's part, in memory.
pub struct Model {
    world: World,
    four: Flows<Be32>,
    six: Flows<Be128>,
    turns: Cursors,
    ports: Cursors,
    sets: BTreeMap<PortKey, SharedPortSet>,
    traffic: RefCell<BTreeMap<u32, Traffic>>,
    limited: RefCell<BTreeMap<Source, usize>>,
    /// When the buckets of sources are full again.
    buckets: Arena<Moment>,
    loads: RefCell<BTreeMap<u32, Load>>,
    resets: Cell<(u32, u32)>,
    errors: Cell<(u32, u32)>,
    /// The clock, in seconds.
    pub now: Cell<u32>,
    /// Where random numbers come from; without it, all are the same.
    pub chance: Cell<Option<u64>>,
    /// Next hops the kernel's FIB knows, by destination.
    pub neighbours: RefCell<BTreeMap<Be128, [u8; 6]>>,
    /// What was noted.
    pub notes: RefCell<Vec<Note>>,
    /// What was told to those who share flows.
    pub told: RefCell<Vec<Told>>,
    /// The finer clock, in microseconds.
    pub micros: Cell<u64>,
    pulses: RefCell<BTreeMap<u32, usize>>,
    beats: Arena<SharedPulse>,
    counts: RefCell<BTreeMap<u32, Pulse>>,
    /// Slots that were suspected, in the order in which the agent was told.
    pub suspects: RefCell<Vec<u32>>,
    leases: BTreeMap<Be128, SharedLease>,
    /// Claims of addresses by others, in the order in which the agent was told.
    pub claims: RefCell<Vec<(Be128, [u8; 6])>>,
}

/// An IP version's tables of flows.
#[derive(Default)]
struct Flows<A: Address> {
    established: Entries<A>,
    half_open: Entries<A>,
    /// What the tables' places say: entries outlive every reference handed out, as in the kernel.
    entries: Arena<SharedFlow<A>>,
    drafts: UnsafeCell<Drafts<A>>,
    syns: RefCell<BTreeMap<FlowKey<A>, usize>>,
    /// The same for SYNs.
    kept: Arena<SharedSyn>,
    syn_draft: UnsafeCell<Syn>,
}

/// An IP version as the model keeps its flows.
pub trait Kept: Family {
    /// Copies of both tables: established, half-open.
    fn flows(model: &Model) -> [Table<Self::Address>; 2];
    #[doc(hidden)]
    fn tables(model: &Model) -> Borrowed<'_, Self::Address>;
}

/// An IP version's tables of flows, lent.
pub struct Borrowed<'a, A: Address>(&'a Flows<A>);

macro_rules! kept {
    ($family:ty, $field:ident) => {
        impl Kept for $family {
            fn flows(model: &Model) -> [Table<Self::Address>; 2] {
                let flows = &model.$field;
                [&flows.established, &flows.half_open].map(|table| flows.all(table).collect())
            }

            fn tables(model: &Model) -> Borrowed<'_, Self::Address> {
                Borrowed(&model.$field)
            }
        }
    };
}
kept!(V4, four);
kept!(V6, six);

impl Model {
    /// A kernel with these tables and no connection.
    #[must_use]
    pub fn new(world: World) -> Self {
        let sets = world.port_sets().into_iter().map(|key| (key, world.no_port_taken().shared()));
        Self {
            sets: sets.collect(),
            four: Flows::default(),
            six: Flows::default(),
            turns: Cursors::default(),
            ports: Cursors::default(),
            traffic: RefCell::default(),
            limited: RefCell::default(),
            buckets: Arena::default(),
            loads: RefCell::default(),
            resets: Cell::default(),
            errors: Cell::default(),
            now: Cell::new(100_000),
            chance: Cell::new(None),
            neighbours: RefCell::default(),
            notes: RefCell::default(),
            told: RefCell::default(),
            micros: Cell::new(100_000_000_000),
            pulses: RefCell::default(),
            beats: Arena::default(),
            counts: RefCell::default(),
            suspects: RefCell::default(),
            leases: leases(&world),
            claims: RefCell::default(),
            world,
        }
    }

    /// Makes the sets of source ports those of the beginning, as if all were free.
    pub fn forget_hints(&mut self) {
        let sets = self.world.port_sets().into_iter().map(|key| (key, self.world.no_port_taken().shared()));
        self.sets = sets.collect();
    }

    /// Entries of both tables: established, half-open, of both IP versions.
    #[must_use]
    pub fn entries(&self) -> (usize, usize) {
        let (four, six) = (&self.four, &self.six);
        (
            four.established.borrow().len() + six.established.borrow().len(),
            four.half_open.borrow().len() + six.half_open.borrow().len(),
        )
    }

    /// Copies of both tables of an IP version: established, half-open.
    #[must_use]
    pub fn flows<F: Kept>(&self) -> [Table<F::Address>; 2] {
        F::flows(self)
    }

    /// What was counted for each backend, by slot.
    #[must_use]
    pub fn traffic(&self) -> BTreeMap<u32, Traffic> {
        self.traffic.borrow().clone()
    }

    /// Connections as they were counted, by slot or service.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<u32, Load> {
        self.loads.borrow().clone()
    }

    /// What was counted of a backend's answers.
    #[must_use]
    pub fn counted(&self, slot: u32) -> Pulse {
        self.counts.borrow().get(&slot).copied().unwrap_or_default()
    }

    /// Whether each entry of a table has its other half, and it points back; or is over and keeps a source port at rest.
    #[must_use]
    pub fn pairs_are_whole(&self) -> bool {
        self.four.pairs_are_whole() && self.six.pairs_are_whole()
    }
}

impl<A: Address> Flows<A> {
    fn pairs_are_whole(&self) -> bool {
        let rests = |flow: &SharedFlow<A>| !flow.is_from_client() && flow.is_closed();
        [&self.established, &self.half_open].iter().all(|table| {
            let is_paired = |key: &FlowKey<A>, flow: &SharedFlow<A>| {
                self.entry(table, &flow.other()).is_some_and(|other| other.other() == *key)
            };
            let places = table.borrow();
            let mut entries = places.iter().filter_map(|(key, place)| Some((key, self.entries.at(*place)?)));
            entries.all(|(key, flow)| rests(flow) || flow.is_direct() || is_paired(key, flow))
        })
    }

    fn entry(&self, table: &Entries<A>, key: &FlowKey<A>) -> Option<&SharedFlow<A>> {
        self.entries.at(*table.borrow().get(key)?)
    }

    fn all(&self, table: &Entries<A>) -> impl Iterator<Item = (FlowKey<A>, Flow<A>)> {
        let places: Vec<_> = table.borrow().iter().map(|(key, place)| (*key, *place)).collect();
        places.into_iter().filter_map(|(key, place)| Some((key, copy(self.entries.at(place)?))))
    }

    fn add(&self, table: &Entries<A>, key: &FlowKey<A>, flow: &Flow<A>, capacity: u32) -> Result<(), Refused> {
        let mut table = table.borrow_mut();
        if table.contains_key(key) || table.len() >= capacity as usize {
            return Err(Refused);
        }
        table.insert(*key, self.entries.add(share(flow)));
        Ok(())
    }
}

fn share<A: Address>(flow: &Flow<A>) -> SharedFlow<A> {
    Flow {
        translated: flow.translated,
        ip_change: flow.ip_change,
        tcp_change: flow.tcp_change,
        backend: flow.backend,
        service: flow.service,
        generation: flow.generation,
        direction: flow.direction,
        delivery: flow.delivery,
        seen: flow.seen.into(),
        state: flow.state.into(),
        acknowledged: flow.acknowledged.into(),
        expect: flow.expect.into(),
        mac_high: flow.mac_high.into(),
        mac_low: flow.mac_low.into(),
        routed: flow.routed.into(),
        idle_seconds: flow.idle_seconds,
    }
}

fn copy<A: Address>(flow: &SharedFlow<A>) -> Flow<A> {
    Flow {
        translated: flow.translated,
        ip_change: flow.ip_change,
        tcp_change: flow.tcp_change,
        backend: flow.backend,
        service: flow.service,
        generation: flow.generation,
        direction: flow.direction,
        delivery: flow.delivery,
        seen: flow.seen.get(),
        state: flow.state.get(),
        acknowledged: flow.acknowledged.get(),
        expect: flow.expect.get(),
        mac_high: flow.mac_high.get(),
        mac_low: flow.mac_low.get(),
        routed: flow.routed.get(),
        idle_seconds: flow.idle_seconds,
    }
}

/// The first bits of an address.
fn masked(address: Be128, bits: u8) -> u128 {
    u128::from_be_bytes(address.wire()) & u128::from_be_bytes(mask(bits).wire())
}

fn leases(world: &World) -> BTreeMap<Be128, SharedLease> {
    let shared = |lease: &Lease| Lease { until: lease.until.into(), router: lease.router, flags: lease.flags };
    world.leases.iter().map(|(address, lease)| (*address, shared(lease))).collect()
}

/// Moves a cursor on; returns where it was.
fn advance(cursors: &Cursors, index: u32, step: u32) -> u32 {
    let mut cursors = cursors.borrow_mut();
    let place = cursors.entry(index).or_default();
    let before = *place;
    *place = before.wrapping_add(step);
    before
}

impl Executor for Model {
    fn begin(&mut self, world: &World) {
        *self = Self::new(world.clone());
    }

    fn change(&mut self, world: &World) {
        self.world = world.clone();
        self.leases = leases(world);
    }

    fn run(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        let mut packet = Owned::new(frame);
        let reason = process(&mut packet, self);
        (reason, packet.bytes())
    }

    fn leave(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        let mut packet = Owned::new(frame);
        let reason = process_leaving(&mut packet, self);
        (reason, packet.bytes())
    }

    fn leave_home(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        let mut packet = Owned::new(frame);
        let reason = process_leaving_home(&mut packet, self);
        (reason, packet.bytes())
    }

    fn adopt(&mut self, flow: &Adoption) {
        if flow.client.source.mapped().is_some() { adopt::<V4>(self, flow) } else { adopt::<V6>(self, flow) }
    }
}

fn adopt<F: Kept>(model: &Model, flow: &Adoption) {
    let ((key, there), back) = flow.entries();
    let added = [Some((key, there)), back].into_iter().flatten();
    added.for_each(|(key, entry)| Tables::<F>::add_established(model, &key, &entry).expect("a flow has one record"));
}

impl Rounds for Model {
    fn backend(&self, slot: u32) -> Option<&Backend> {
        self.world.backends.get(slot as usize)
    }

    fn ring(&self, place: u32) -> Option<u32> {
        self.world.rings.get(place as usize).copied()
    }

    fn take_turn(&self, service: u32) -> Option<u32> {
        Some(advance(&self.turns, service, 1))
    }

    fn connections(&self, at: u32) -> Connections {
        let load = self.loads.borrow().get(&at).copied().unwrap_or_default();
        let correction = Correction::default();
        Connections { open: load.open(&correction), opening: load.opening(&correction) }
    }

    fn count(&self, at: u32, change: Change) {
        self.loads.borrow_mut().entry(at).or_default().count(change);
    }
}

impl Leases for Model {
    fn own_mac(&self) -> Option<[u8; 6]> {
        (self.world.node.version != 0).then_some(self.world.node.mac)
    }

    fn lease(&self, address: Be128) -> Option<&SharedLease> {
        self.leases.get(&address)
    }

    fn boot_nanoseconds(&self) -> u64 {
        u64::from(self.now.get()) * 1_000_000_000
    }

    fn claimed(&self, address: Be128, mac: [u8; 6]) {
        self.claims.borrow_mut().push((address, mac));
    }
}

impl<F: Kept> Tables<F> for Model {
    fn node(&self) -> Option<&Node> {
        (self.world.node.version != 0).then_some(&self.world.node)
    }

    fn sharing(&self) -> Option<&Sharing> {
        Some(&self.world.sharing).filter(|sharing| sharing.is_on != 0)
    }

    fn now(&self) -> u32 {
        self.now.get()
    }

    fn nanoseconds(&self) -> u64 {
        u64::from(self.now.get()) * 1_000_000_000
    }

    fn micros(&self) -> u64 {
        self.micros.get()
    }

    fn syn(&self, client: &FlowKey<F::Address>) -> Option<&SharedSyn> {
        let flows = F::tables(self).0;
        flows.kept.at(*flows.syns.borrow().get(client)?)
    }

    unsafe fn syn_draft(&self) -> Option<&mut Syn> {
        // SAFETY: the caller has no earlier one any more, and nobody else has this model.
        Some(unsafe { &mut *F::tables(self).0.syn_draft.get() })
    }

    fn keep_syn(&self, client: &FlowKey<F::Address>, syn: &Syn) {
        let Syn { at, sequence, tried, options_length, is_whole, head, options } = *syn;
        let (at, tried) = (at.into(), tried.map(Into::into));
        let shared = Syn { at, sequence, tried, options_length, is_whole, head, options };
        let flows = F::tables(self).0;
        flows.syns.borrow_mut().insert(*client, flows.kept.add(shared));
    }

    fn forget_syn(&self, client: &FlowKey<F::Address>) {
        F::tables(self).0.syns.borrow_mut().remove(client);
    }

    fn pulse(&self, slot: u32) -> Option<&SharedPulse> {
        let place = *self.pulses.borrow_mut().entry(slot).or_insert_with(|| self.beats.add(SharedPulse::default()));
        self.beats.at(place)
    }

    fn count_handshake(&self, slot: u32, micros: u32) {
        let mut counts = self.counts.borrow_mut();
        let counts = counts.entry(slot).or_default();
        counts.micros += u64::from(micros);
        counts.handshakes[handshake_bucket(micros) as usize] += 1;
    }

    fn count_retry(&self, slot: u32, refused: bool) {
        let mut counts = self.counts.borrow_mut();
        let counts = counts.entry(slot).or_default();
        *(if refused { &mut counts.refused } else { &mut counts.unanswered }) += 1;
    }

    fn suspect(&self, slot: u32) {
        self.suspects.borrow_mut().push(slot);
    }

    fn is_vip(&self, address: F::Address) -> bool {
        self.world.vips.iter().chain(&self.world.sources).any(|vip| *vip == address.into())
    }

    fn is_own(&self, address: F::Address) -> bool {
        self.world.own.contains(&address.into())
    }

    fn service(&self, listener: &Endpoint) -> Option<Service> {
        self.world.services.iter().find(|(at, _)| at == listener).map(|(_, service)| *service)
    }

    fn is_allowed(&self, list: u32, address: F::Address) -> bool {
        let address: Be128 = address.into();
        let mut allowed = self.world.allowed.iter();
        allowed.any(|(of, prefix, bits)| *of == list && masked(address, *bits) == masked(*prefix, *bits))
    }

    fn source_limit(&self, service: u32) -> Option<&SourceLimit> {
        self.world.limits.iter().find(|(number, _)| *number == service).map(|(_, limit)| limit)
    }

    fn limited(&self, source: &Source) -> Option<&Moment> {
        self.buckets.at(*self.limited.borrow().get(source)?)
    }

    fn add_limited(&self, source: &Source, filled: u64) {
        self.limited.borrow_mut().insert(*source, self.buckets.add(filled.into()));
    }

    fn full_until(&self, source: &Source) -> Option<u64> {
        let is_it =
            |(service, address, _): &&(u32, Be128, u64)| *service == source.service && *address == source.address;
        self.world.full.iter().find(is_it).map(|(.., until)| *until)
    }

    fn is_fellow(&self, mac: [u8; 6]) -> bool {
        self.world.fellows.contains(&mac)
    }

    fn is_tunnel(&self, from: F::Address) -> bool {
        self.world.tunnels.contains(&from.into())
    }

    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        self.world.backends.iter().any(|backend| backend.endpoint == *endpoint)
    }

    fn take_port(&self, slot: u32, step: u32) -> Option<u32> {
        Some(advance(&self.ports, slot, step))
    }

    fn find_port(&self, answers: &mut FlowKey<F::Address>, slot: u32, is_local: bool) -> bool {
        let mut search = Search::default();
        search.begin(answers, slot, is_local);
        let found = find::<F>(self, &mut search);
        *answers = search.answers;
        found
    }

    fn try_port(&self, search: &Search<F::Address>, in_need: bool) -> Try {
        try_port::<F>(self, search, in_need)
    }

    fn take_hint(&self, search: &Search<F::Address>, from: u16) -> Result<u16, NoHint> {
        self.sets.get(&search.set()).ok_or(NoHint::Full)?.take(from)
    }

    fn is_exhausted(&self, key: PortKey) -> bool {
        self.sets.get(&key).is_some_and(SharedPortSet::is_full)
    }

    fn source(&self, number: u32) -> Option<F::Address> {
        self.world.sources.get(number as usize).map(|address| F::Address::of(*address))
    }

    fn random(&self) -> u32 {
        let Some(state) = self.chance.get() else {
            // Anything will do where the stories switch chance off.
            return 4;
        };
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.chance.set(Some(state));
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 32) as u32
    }

    fn established(&self, key: &FlowKey<F::Address>) -> Option<&SharedFlow<F::Address>> {
        let flows = F::tables(self).0;
        flows.entry(&flows.established, key)
    }

    fn half_open(&self, key: &FlowKey<F::Address>) -> Option<&SharedFlow<F::Address>> {
        let flows = F::tables(self).0;
        flows.entry(&flows.half_open, key)
    }

    unsafe fn drafts(&self) -> Option<&mut Drafts<F::Address>> {
        // SAFETY: the caller uses nothing that an earlier call has returned, and nobody else has the place.
        Some(unsafe { &mut *F::tables(self).0.drafts.get() })
    }

    fn add_established(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) -> Result<(), Refused> {
        let flows = F::tables(self).0;
        flows.add(&flows.established, key, flow, self.world.capacity)
    }

    fn add_half_open(&self, key: &FlowKey<F::Address>, flow: &Flow<F::Address>) -> Result<(), Refused> {
        let flows = F::tables(self).0;
        flows.add(&flows.half_open, key, flow, HALF_OPEN_ENTRIES)
    }

    fn remove_established(&self, key: &FlowKey<F::Address>) {
        F::tables(self).0.established.borrow_mut().remove(key);
    }

    fn remove_half_open(&self, key: &FlowKey<F::Address>) {
        F::tables(self).0.half_open.borrow_mut().remove(key);
    }

    fn next_hop(&self, _source: F::Address, destination: F::Address, _length: u16) -> Option<[u8; 6]> {
        self.neighbours.borrow().get(&destination.into()).copied()
    }

    fn spend_reset(&self, now: u32, per_second: u32) -> bool {
        let (second, spent) = self.resets.get();
        let spent = if second == now { spent } else { 0 };
        if spent >= per_second {
            return false;
        }
        self.resets.set((now, spent + 1));
        true
    }

    fn spend_error(&self, now: u32) -> bool {
        let (second, spent) = self.errors.get();
        let spent = if second == now { spent } else { 0 };
        self.errors.set((now, spent + 1));
        spent < ERRORS_PER_SECOND
    }

    fn count_in(&self, slot: u32, bytes: u64, opened: bool) {
        let mut traffic = self.traffic.borrow_mut();
        let traffic = traffic.entry(slot).or_default();
        traffic.packets_in += 1;
        traffic.bytes_in += bytes;
        traffic.opened += u64::from(opened);
    }

    fn count_out(&self, slot: u32, bytes: u64) {
        let mut traffic = self.traffic.borrow_mut();
        let traffic = traffic.entry(slot).or_default();
        traffic.packets_out += 1;
        traffic.bytes_out += bytes;
    }

    fn note(&self, note: Note, client: &FlowKey<F::Address>, _slot: u32) {
        self.notes.borrow_mut().push(note);
        if let Some(what) = note.told().filter(|_| self.world.sharing.is_on != 0) {
            self.told.borrow_mut().push(Told::of(client, what));
        }
    }
}

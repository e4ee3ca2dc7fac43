//! The tables as tree maps, so that the datapath runs on the host.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::{Executor, World};
use crate::abi::{Backend, Endpoint, Flow, FlowKey, HALF_OPEN_ENTRIES, Node, Reason, Service, SharedFlow};
use crate::datapath::process;
use crate::datapath::tables::{Note, Refused, Tables};
use crate::net::Be32;
use crate::packet::Owned;

type Entries = RefCell<BTreeMap<FlowKey, &'static SharedFlow>>;

/// The kernel's part, in memory.
pub struct Model {
    world: World,
    established: Entries,
    half_open: Entries,
    turns: Cell<u32>,
    ports: RefCell<BTreeMap<u32, u32>>,
    resets: Cell<(u32, u32)>,
    /// The clock, in seconds.
    pub now: Cell<u32>,
    /// Next hops the kernel's FIB knows, by destination.
    pub neighbours: RefCell<BTreeMap<Be32, [u8; 6]>>,
    /// What was noted.
    pub notes: RefCell<Vec<Note>>,
}

impl Model {
    /// A kernel with these tables and no connection.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            world,
            established: Entries::default(),
            half_open: Entries::default(),
            turns: Cell::new(0),
            ports: RefCell::default(),
            resets: Cell::default(),
            now: Cell::new(100_000),
            neighbours: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    /// Entries of both tables: established, half-open.
    #[must_use]
    pub fn entries(&self) -> (usize, usize) {
        (self.established.borrow().len(), self.half_open.borrow().len())
    }

    /// Whether each entry of a table has its other half, and it points back.
    #[must_use]
    pub fn pairs_are_whole(&self) -> bool {
        [&self.established, &self.half_open].iter().all(|table| {
            let table = table.borrow();
            table.iter().all(|(key, flow)| table.get(&flow.other()).is_some_and(|other| other.other() == *key))
        })
    }

    fn add(table: &Entries, key: &FlowKey, flow: &Flow, capacity: u32) -> Result<(), Refused> {
        let mut table = table.borrow_mut();
        if table.contains_key(key) || table.len() >= capacity as usize {
            return Err(Refused);
        }
        // Entries outlive every reference handed out, as in the kernel; a test's leak is small and ends with it.
        table.insert(*key, Box::leak(Box::new(share(flow))));
        Ok(())
    }
}

fn share(flow: &Flow) -> SharedFlow {
    Flow {
        translated: flow.translated,
        ip_change: flow.ip_change,
        tcp_change: flow.tcp_change,
        backend: flow.backend,
        service: flow.service,
        generation: flow.generation,
        direction: flow.direction,
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

impl Executor for Model {
    fn begin(&mut self, world: &World) {
        *self = Self::new(world.clone());
    }

    fn change(&mut self, world: &World) {
        self.world = world.clone();
    }

    fn run(&mut self, frame: &[u8]) -> (Reason, Vec<u8>) {
        let mut packet = Owned::new(frame);
        let reason = process(&mut packet, self);
        (reason, packet.bytes())
    }
}

impl Tables for Model {
    fn node(&self) -> Option<&Node> {
        (self.world.node.version != 0).then_some(&self.world.node)
    }

    fn now(&self) -> u32 {
        self.now.get()
    }

    fn is_vip(&self, address: Be32) -> bool {
        self.world.vips.contains(&address)
    }

    fn service(&self, listener: &Endpoint) -> Option<Service> {
        self.world.services.iter().find(|(at, _)| at == listener).map(|(_, service)| *service)
    }

    fn backend(&self, slot: u32) -> Option<&Backend> {
        self.world.backends.get(slot as usize)
    }

    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        self.world.backends.iter().any(|backend| backend.endpoint == *endpoint)
    }

    fn ring(&self, place: u32) -> Option<u32> {
        self.world.rings.get(place as usize).copied()
    }

    fn take_turn(&self, _service: u32) -> Option<u32> {
        Some(self.turns.replace(self.turns.get().wrapping_add(1)))
    }

    fn take_port(&self, slot: u32, step: u32) -> Option<u32> {
        let mut ports = self.ports.borrow_mut();
        let place = ports.entry(slot).or_default();
        let before = *place;
        *place = before.wrapping_add(step);
        Some(before)
    }

    fn random(&self) -> u32 {
        // Anything will do where the stories switch chance off.
        4
    }

    fn established(&self, key: &FlowKey) -> Option<&SharedFlow> {
        self.established.borrow().get(key).copied()
    }

    fn half_open(&self, key: &FlowKey) -> Option<&SharedFlow> {
        self.half_open.borrow().get(key).copied()
    }

    fn add_established(&self, key: &FlowKey, flow: &Flow) -> Result<(), Refused> {
        Self::add(&self.established, key, flow, self.world.capacity)
    }

    fn add_half_open(&self, key: &FlowKey, flow: &Flow) -> Result<(), Refused> {
        Self::add(&self.half_open, key, flow, HALF_OPEN_ENTRIES)
    }

    fn remove_established(&self, key: &FlowKey) {
        self.established.borrow_mut().remove(key);
    }

    fn remove_half_open(&self, key: &FlowKey) {
        self.half_open.borrow_mut().remove(key);
    }

    fn next_hop(&self, _source: Be32, destination: Be32, _length: u16) -> Option<[u8; 6]> {
        self.neighbours.borrow().get(&destination).copied()
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

    fn count_in(&self, _slot: u32, _bytes: u64, _opened: bool) {}

    fn count_out(&self, _slot: u32, _bytes: u64) {}

    fn note(&self, note: Note, _client: &FlowKey, _slot: u32) {
        self.notes.borrow_mut().push(note);
    }
}

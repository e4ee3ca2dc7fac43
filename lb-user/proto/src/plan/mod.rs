//! From what is wanted and what the kernel has, the steps between them.
//!
//! [`plan`] compares [`Wanted`] with [`Observed`] and gives [`Op`]s in make-before-break order: a backend is in place
//! before a round names it, a round is complete before a service points at it, a VIP is known before it is served;
//! removal goes the other way. Backends and services keep their slot and number as long as they are wanted, so flows
//! stay valid whatever else changes, and an agent that starts anew finds them again.

mod admission;
mod maglev;
mod ring;

use std::collections::{BTreeMap, BTreeSet};

pub use admission::Prefix;
use lb_ebpf::abi::{
    Backend, Balance, Delivery, Endpoint, MAX_ALLOWED, MAX_BACKENDS, MAX_FELLOWS, MAX_LISTENERS, MAX_OWN_ADDRESSES,
    MAX_SERVICES, MAX_TUNNELS, MAX_VIPS, NOBODY, Node, RING_SIZE, SET_SIZE, Service, SourceLimit,
};
use lb_ebpf::net::Be128;
pub use maglev::{Candidate, TABLE_SIZE, stable_hash, table};
pub use ring::ring;

/// What the datapath should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// This node.
    pub node: Node,
    /// In the order of the configuration.
    pub services: Vec<WantedService>,
    /// This node's own addresses, at most [`MAX_OWN_ADDRESSES`]: where a service may listen, and what no packet from outside comes from.
    pub own: BTreeSet<Be128>,
    /// Ethernet addresses of nodes that may forward to this one without translating.
    pub fellows: BTreeSet<[u8; 6]>,
    /// Nodes from which packets inside outer ones are taken.
    pub tunnels: BTreeSet<Be128>,
    /// Source addresses towards backends besides the VIPs, by their number.
    pub sources: BTreeMap<u32, Be128>,
}

/// A service as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedService {
    /// VIP:port: for packets, and for this node's own clients.
    pub listeners: Vec<Endpoint>,
    /// Places where this node's own clients alone find it; address 0.0.0.0 is every one of [`Wanted::own`] and 127.0.0.0/8.
    pub local_listeners: Vec<Endpoint>,
    /// The backend that this node's own clients get, by its place among `backends`; `None`: they take turns.
    pub preferred: Option<usize>,
    /// Seconds an established flow may be silent.
    pub idle_seconds: u32,
    /// How a new connection chooses its backend.
    pub balance: Balance,
    /// Key of the hash of clients.
    pub key: [u32; 2],
    /// Established connections that all backends together may have; 0: any number.
    pub max_connections: u32,
    /// Who may open connections; empty: everyone.
    pub allow: BTreeSet<Prefix>,
    /// How many connections a source may open; `None`: any number.
    pub limit: Option<SourceLimit>,
    /// In the order of the configuration.
    pub backends: Vec<WantedBackend>,
}

impl WantedService {
    /// Every place where it is served.
    fn places(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().chain(&self.local_listeners)
    }
}

/// A backend as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedBackend {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Share of new flows now; 0: none.
    pub share: u16,
    /// Share of new flows that it has while it takes any; 0: none. Where clients are hashed, this alone decides who is
    /// whose.
    pub weight: u16,
    /// Established connections it may have; 0: any number.
    pub max_connections: u32,
    /// Its flows are to be answered with RST.
    pub gone: bool,
    /// How packets reach it.
    pub delivery: Delivery,
    /// Next hop; zero: not resolved.
    pub mac: [u8; 6],
}

/// What the kernel's tables hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// This node.
    pub node: Node,
    /// VIPs.
    pub vips: BTreeSet<Be128>,
    /// Listeners.
    pub services: BTreeMap<Endpoint, Service>,
    /// Slots that were ever used.
    pub backends: BTreeMap<u32, Backend>,
    /// Endpoints of backends.
    pub slots: BTreeMap<Endpoint, u32>,
    /// The rounds in use, by their first place.
    pub rings: BTreeMap<u32, Vec<u32>>,
    /// This node's own addresses.
    pub own: BTreeSet<Be128>,
    /// Slot plus 1 of the backend that local clients prefer, by service number; [`NOBODY`] may be left out.
    pub preferred: BTreeMap<u16, u32>,
    /// Nodes that forward to this one.
    pub fellows: BTreeSet<[u8; 6]>,
    /// Nodes that do so inside outer packets.
    pub tunnels: BTreeSet<Be128>,
    /// Allow lists, by number.
    pub allowed: BTreeMap<u32, BTreeSet<Prefix>>,
    /// Limits of sources, by service number.
    pub limits: BTreeMap<u16, SourceLimit>,
    /// Source addresses, by their number; those beyond the node's count mean nothing.
    pub sources: BTreeMap<u32, Be128>,
}

/// A step; each is one write to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Describe the node.
    SetNode(Node),
    /// Fill a slot; `fresh`: another backend than before, whose traffic begins at zero.
    SetBackend {
        /// Slot.
        slot: u32,
        /// Content.
        backend: Backend,
        /// Whether its counters begin anew.
        fresh: bool,
    },
    /// Know an endpoint as a backend's.
    AddSlot(Endpoint, u32),
    /// Write a round that nobody uses yet.
    WriteRing {
        /// First place.
        start: u32,
        /// Slots in turn.
        slots: Vec<u32>,
    },
    /// Know a node as one that forwards to this one.
    AddFellow([u8; 6]),
    /// Take packets inside outer ones from a node.
    AddTunnel(Be128),
    /// Add a prefix to an allow list.
    Allow(u32, Prefix),
    /// Take one off an allow list.
    Disallow(u32, Prefix),
    /// Limit the sources of the service with this number, from when on the service says so.
    SetLimit(u16, SourceLimit),
    /// Know an address as a VIP.
    AddVip(Be128),
    /// Have a source address by this number.
    SetSource(u32, Be128),
    /// Serve at VIP:port, from now on like this.
    SetService(Endpoint, Service),
    /// Let the local clients of the service with this number prefer a backend: its slot plus 1, or [`NOBODY`].
    SetPreferred(u16, u32),
    /// Know an address as this node's own.
    AddOwn(Be128),
    /// Know it as that no more.
    RemoveOwn(Be128),
    /// Serve there no more.
    RemoveService(Endpoint),
    /// Know the address as a VIP no more.
    RemoveVip(Be128),
    /// Know the endpoint as a backend's no more.
    RemoveSlot(Endpoint),
    /// Know the node as one that forwards to this one no more.
    RemoveFellow([u8; 6]),
    /// Take packets inside outer ones from the node no more.
    RemoveTunnel(Be128),
}

/// What to do, and where everything will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub ops: Vec<Op>,
    /// Place of each backend of each service, in the order of [`Wanted`].
    pub places: Vec<Vec<Place>>,
}

/// Where a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Slot.
    pub slot: u32,
    /// Generation of the slot since this backend has it.
    pub generation: u32,
}

/// The tables are too small for what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// More services than [`MAX_SERVICES`].
    #[error("more than {MAX_SERVICES} services")]
    Services,
    /// More places to listen at than [`MAX_LISTENERS`].
    #[error("more than {MAX_LISTENERS} listen addresses in all services together")]
    Listeners,
    /// More addresses than [`MAX_OWN_ADDRESSES`].
    #[error("this node has more than {MAX_OWN_ADDRESSES} addresses")]
    OwnAddresses,
    /// More nodes than [`MAX_FELLOWS`].
    #[error("more than {MAX_FELLOWS} nodes that forward to this one")]
    Fellows,
    /// More nodes than [`MAX_TUNNELS`].
    #[error("more than {MAX_TUNNELS} nodes behind routers that forward to this one")]
    Tunnels,
    /// More VIPs than [`MAX_VIPS`].
    #[error("more than {MAX_VIPS} VIPs")]
    Vips,
    /// More prefixes than [`MAX_ALLOWED`].
    #[error("more than {MAX_ALLOWED} prefixes in the allow lists of all services together")]
    Allowed,
    /// More backends than [`MAX_BACKENDS`].
    #[error("more than {MAX_BACKENDS} backends in all services together")]
    Backends,
}

/// Compares and plans.
///
/// # Errors
/// When the tables cannot hold it; nothing is to be done then.
pub fn plan(wanted: &Wanted, observed: &Observed) -> Result<Plan, TooMuch> {
    let numbers = numbers(wanted, observed)?;
    let mut slots = Slots::new(wanted, observed, &numbers);
    let mut lists = admission::Lists::new(wanted, observed)?;
    let mut ops = Vec::new();
    // The node's count names only what is there, and answers are known as such.
    let fresh: BTreeSet<_> = wanted.sources.values().filter(|address| !observed.vips.contains(address)).collect();
    ops.extend(fresh.into_iter().map(|address| Op::AddVip(*address)));
    let sources = wanted.sources.iter().filter(|(number, address)| observed.sources.get(number) != Some(address));
    ops.extend(sources.map(|(number, address)| Op::SetSource(*number, *address)));
    if observed.node != wanted.node {
        ops.push(Op::SetNode(wanted.node));
    }
    // Nobody is forwarded to before what he forwards is known as such.
    ops.extend(wanted.fellows.difference(&observed.fellows).map(|mac| Op::AddFellow(*mac)));
    let (mut adds, mut rings, mut services, mut preferences) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut places = Vec::with_capacity(wanted.services.len());
    let mut endpoints = BTreeMap::new();
    for (service, number) in wanted.services.iter().zip(&numbers) {
        let mut here = Vec::with_capacity(service.backends.len());
        for backend in &service.backends {
            let (place, op) = slots.place(backend, *number)?;
            here.push(place);
            ops.extend(op);
            endpoints.entry(backend.endpoint).or_insert(place.slot);
        }
        let mut of_own = here.iter().zip(&service.backends);
        let own = of_own.find(|(_, backend)| backend.delivery == Delivery::Local).map(|(place, _)| *place);
        let (ring_length, set_length, round) = round(service, &here);
        let active = active_ring(service, observed);
        let start = match active {
            Some(start) if round.is_empty() || observed.rings.get(&start) == Some(&round) => start,
            active => {
                let first = u32::from(*number) * 2 * RING_SIZE;
                let start = if active == Some(first) { first + RING_SIZE } else { first };
                if !round.is_empty() {
                    rings.push(Op::WriteRing { start, slots: round.clone() });
                }
                start
            }
        };
        let value = Service {
            number: *number,
            ring_length,
            ring_start: start,
            idle_seconds: service.idle_seconds,
            own: own.map_or(0, |place| place.slot + 1),
            max_connections: service.max_connections,
            key: service.key,
            set_length,
            balance: service.balance as u16,
            allow: lists.place(service, *number),
            is_limited: u32::from(service.limit.is_some()),
        };
        if let Some(limit) = service.limit
            && observed.limits.get(number) != Some(&limit)
        {
            ops.push(Op::SetLimit(*number, limit));
        }
        for listener in service.places() {
            if observed.services.get(listener) != Some(&value) {
                services.push(Op::SetService(*listener, value));
            }
        }
        let preferred = service.preferred.and_then(|at| here.get(at)).map_or(NOBODY, |place| place.slot + 1);
        if observed.preferred.get(number).copied().unwrap_or(NOBODY) != preferred {
            preferences.push(Op::SetPreferred(*number, preferred));
        }
        places.push(here);
    }
    for (endpoint, slot) in &endpoints {
        if observed.slots.get(endpoint) != Some(slot) {
            adds.push(Op::AddSlot(*endpoint, *slot));
        }
    }
    let listeners: BTreeSet<_> = wanted.services.iter().flat_map(WantedService::places).copied().collect();
    let served = wanted.services.iter().flat_map(|service| &service.listeners).map(|listener| listener.address);
    let vips: BTreeSet<_> = served.chain(wanted.sources.values().copied()).collect();
    if listeners.len() > MAX_LISTENERS as usize {
        return Err(TooMuch::Listeners);
    }
    if vips.len() > MAX_VIPS as usize {
        return Err(TooMuch::Vips);
    }
    if wanted.own.len() > MAX_OWN_ADDRESSES as usize {
        return Err(TooMuch::OwnAddresses);
    }
    if wanted.fellows.len() > MAX_FELLOWS as usize {
        return Err(TooMuch::Fellows);
    }
    if wanted.tunnels.len() > MAX_TUNNELS as usize {
        return Err(TooMuch::Tunnels);
    }
    ops.append(&mut adds);
    ops.append(&mut rings);
    ops.extend(wanted.tunnels.difference(&observed.tunnels).map(|node| Op::AddTunnel(*node)));
    let is_source = |vip: &&Be128| wanted.sources.values().any(|source| source == *vip);
    ops.extend(vips.difference(&observed.vips).filter(|vip| !is_source(vip)).map(|vip| Op::AddVip(*vip)));
    let (before, after) = lists.ops();
    ops.extend(before);
    ops.append(&mut preferences);
    ops.append(&mut services);
    ops.extend(wanted.own.difference(&observed.own).map(|address| Op::AddOwn(*address)));
    ops.extend(observed.own.difference(&wanted.own).map(|address| Op::RemoveOwn(*address)));
    ops.extend(observed.services.keys().filter(|at| !listeners.contains(at)).map(|at| Op::RemoveService(*at)));
    ops.extend(observed.vips.difference(&vips).map(|vip| Op::RemoveVip(*vip)));
    ops.extend(observed.slots.keys().filter(|at| !endpoints.contains_key(at)).map(|at| Op::RemoveSlot(*at)));
    ops.extend(observed.fellows.difference(&wanted.fellows).map(|mac| Op::RemoveFellow(*mac)));
    ops.extend(observed.tunnels.difference(&wanted.tunnels).map(|node| Op::RemoveTunnel(*node)));
    ops.extend(slots.retire());
    ops.extend(after);
    Ok(Plan { ops, places })
}

/// The round of a service and behind it each of its backends that takes connections: how long both are, and both.
fn round(service: &WantedService, places: &[Place]) -> (u16, u16, Vec<u32>) {
    let backends = || places.iter().map(|place| place.slot).zip(&service.backends);
    let mut round = match service.balance {
        Balance::RoundRobin | Balance::LeastConn => {
            ring(&backends().map(|(slot, backend)| (slot, backend.share)).collect::<Vec<_>>())
        }
        Balance::Source | Balance::Maglev => {
            let candidate = |(slot, backend): (u32, &WantedBackend)| Candidate {
                endpoint: backend.endpoint,
                slot,
                weight: backend.weight,
                serves: backend.share > 0,
            };
            table(&backends().map(candidate).collect::<Vec<_>>())
        }
    };
    let ring_length = round.len();
    if ring_length > 0 {
        let taking = backends().filter(|(_, backend)| backend.share > 0).map(|(slot, _)| slot);
        round.extend(taking.take(SET_SIZE as usize));
    }
    (ring_length as u16, (round.len() - ring_length) as u16, round)
}

/// A number for each service: its old one where one of its listeners is known, else a free one.
fn numbers(wanted: &Wanted, observed: &Observed) -> Result<Vec<u16>, TooMuch> {
    let mut taken = BTreeSet::new();
    let mut numbers = Vec::with_capacity(wanted.services.len());
    for service in &wanted.services {
        let known = service.places().filter_map(|at| observed.services.get(at)).map(|value| value.number);
        let number = known.into_iter().find(|number| u32::from(*number) < MAX_SERVICES && taken.insert(*number));
        numbers.push(number);
    }
    // The number of a service that is about to go is taken last: its round is in use until then.
    let leaving: BTreeSet<_> = observed.services.values().map(|value| value.number).collect();
    let unused = (0..MAX_SERVICES as u16).filter(|number| !taken.contains(number) && !leaving.contains(number));
    let given_up =
        leaving.iter().copied().filter(|number| u32::from(*number) < MAX_SERVICES && !taken.contains(number));
    let mut free = unused.chain(given_up);
    numbers.into_iter().map(|number| number.or_else(|| free.next()).ok_or(TooMuch::Services)).collect()
}

/// The round that packets to this service use now.
fn active_ring(service: &WantedService, observed: &Observed) -> Option<u32> {
    service.places().find_map(|at| observed.services.get(at)).map(|value| value.ring_start)
}

/// Slots by what is in them and what is to be.
struct Slots<'a> {
    observed: &'a Observed,
    /// Slots that keep or get a backend in this plan.
    used: BTreeSet<u32>,
    /// Slots of wanted backends that are in place already, by service number and endpoint.
    kept: BTreeMap<(u16, Endpoint), u32>,
}

impl<'a> Slots<'a> {
    fn new(wanted: &Wanted, observed: &'a Observed, numbers: &[u16]) -> Self {
        let wants: BTreeSet<_> = wanted
            .services
            .iter()
            .zip(numbers)
            .flat_map(|(service, number)| service.backends.iter().map(|backend| (*number, backend.endpoint)))
            .collect();
        let in_place = observed.backends.iter().filter(|(_, backend)| !backend.is_free());
        let kept: BTreeMap<_, _> = in_place
            .map(|(slot, backend)| ((backend.service, backend.endpoint), *slot))
            .filter(|(identity, _)| wants.contains(identity))
            .collect();
        Self { observed, used: kept.values().copied().collect(), kept }
    }

    /// The place of a backend, and the write that makes it right if it is not.
    fn place(&mut self, backend: &WantedBackend, service: u16) -> Result<(Place, Option<Op>), TooMuch> {
        let value = |generation| Backend {
            endpoint: backend.endpoint,
            generation,
            service,
            gone: u16::from(backend.gone),
            delivery: backend.delivery as u16,
            mac: backend.mac,
            max_connections: backend.max_connections,
            share: backend.share,
            pad: 0,
        };
        if let Some(slot) = self.kept.get(&(service, backend.endpoint)).copied() {
            let before = self.observed.backends.get(&slot).copied().unwrap_or_default();
            let after = value(before.generation);
            let place = Place { slot, generation: before.generation };
            return Ok((place, (before != after).then_some(Op::SetBackend { slot, backend: after, fresh: false })));
        }
        // A slot that has never been used is better than one whose flows may still be around.
        let unused = |slot: &u32| !self.used.contains(slot);
        let never = (0..MAX_BACKENDS).find(|slot| unused(slot) && !self.observed.backends.contains_key(slot));
        let freed = || {
            let free = self.observed.backends.iter().filter(|(_, backend)| backend.is_free());
            free.map(|(slot, _)| *slot).find(unused)
        };
        let given_up = || self.observed.backends.keys().copied().find(unused);
        let slot = never.or_else(freed).or_else(given_up).ok_or(TooMuch::Backends)?;
        self.used.insert(slot);
        let before = self.observed.backends.get(&slot).map_or(0, |backend| backend.generation);
        // Zero would mean that nobody was ever here.
        let generation = before.wrapping_add(1).max(1);
        let op = Op::SetBackend { slot, backend: value(generation), fresh: true };
        Ok((Place { slot, generation }, Some(op)))
    }

    /// Frees the slots of backends nobody wants; their flows are answered with RST from then on.
    fn retire(&self) -> Vec<Op> {
        let unwanted = self.observed.backends.iter();
        unwanted
            .filter(|(slot, backend)| !backend.is_free() && !self.used.contains(slot))
            .map(|(slot, backend)| Op::SetBackend {
                slot: *slot,
                backend: Backend { generation: backend.generation, gone: 1, ..Backend::default() },
                fresh: false,
            })
            .collect()
    }
}

impl Observed {
    /// What the tables hold after a step.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::SetNode(node) => self.node = *node,
            Op::SetBackend { slot, backend, .. } => {
                self.backends.insert(*slot, *backend);
            }
            Op::AddSlot(endpoint, slot) => {
                self.slots.insert(*endpoint, *slot);
            }
            Op::WriteRing { start, slots } => {
                self.rings.insert(*start, slots.clone());
            }
            Op::Allow(list, prefix) => {
                self.allowed.entry(*list).or_default().insert(*prefix);
            }
            Op::Disallow(list, prefix) => {
                if let Some(prefixes) = self.allowed.get_mut(list) {
                    prefixes.remove(prefix);
                    if prefixes.is_empty() {
                        self.allowed.remove(list);
                    }
                }
            }
            Op::SetLimit(number, limit) => {
                self.limits.insert(*number, *limit);
            }
            Op::SetSource(number, address) => {
                self.sources.insert(*number, *address);
            }
            Op::AddVip(vip) => {
                self.vips.insert(*vip);
            }
            Op::SetService(at, service) => {
                self.services.insert(*at, *service);
            }
            Op::SetPreferred(number, slot) => {
                self.preferred.insert(*number, *slot);
            }
            Op::AddOwn(address) => {
                self.own.insert(*address);
            }
            Op::RemoveOwn(address) => {
                self.own.remove(address);
            }
            Op::RemoveService(at) => {
                self.services.remove(at);
            }
            Op::RemoveVip(vip) => {
                self.vips.remove(vip);
            }
            Op::RemoveSlot(endpoint) => {
                self.slots.remove(endpoint);
            }
            Op::AddFellow(mac) => {
                self.fellows.insert(*mac);
            }
            Op::AddTunnel(node) => {
                self.tunnels.insert(*node);
            }
            Op::RemoveTunnel(node) => {
                self.tunnels.remove(node);
            }
            Op::RemoveFellow(mac) => {
                self.fellows.remove(mac);
            }
        }
    }
}

#[cfg(test)]
mod tests;

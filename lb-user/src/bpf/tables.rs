//! The tables the agent writes: what is in them, and one step of a plan applied.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use lb_ebpf::abi::{
    Allowed, Backend, Endpoint, LIST_BITS, MAX_BACKENDS, MAX_SERVICES, MAX_SOURCES, Node, RING_SIZE, Service,
    SourceLimit, key_mac, mac_key, map,
};
use lb_ebpf::net::Be128;
use lb_proto::plan::{Observed, Op, Prefix};

use super::counters::Counters;

/// A table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The object has no such map: it is not the one this agent was built with.
    #[error("the datapath has no table {0}")]
    Missing(&'static str),
    /// The kernel refused.
    #[error("table {table}: {source}")]
    Map {
        /// Which.
        table: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// It could not be read as a whole.
    #[error("table {table}: {source}")]
    Whole {
        /// Which.
        table: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No second descriptor could be had.
    #[error("table {table} cannot be shared: {source}")]
    Shared {
        /// Which.
        table: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The number of CPUs cannot be read.
    #[error("cannot count the CPUs: {0}")]
    Cpus(String),
}

/// Maps the error of an operation on a table.
pub(super) fn at(table: &'static str) -> impl Fn(MapError) -> TableError {
    move |source| TableError::Map { table, source }
}

/// Takes a map out of the object as a typed table.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, TableError> {
    ebpf.take_map(name).ok_or(TableError::Missing(name))?.try_into().map_err(at(name))
}

/// The same map once more, which somebody else takes.
pub(super) fn share<T: TryFrom<Map, Error = MapError>>(ebpf: &Ebpf, name: &'static str) -> Result<T, TableError> {
    let map = ebpf.map(name).ok_or(TableError::Missing(name))?;
    let (data, whole): (_, fn(MapData) -> Map) = match map {
        Map::Array(data) => (data, Map::Array),
        Map::HashMap(data) => (data, Map::HashMap),
        _ => return Err(TableError::Missing(name)),
    };
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(|source| TableError::Shared { table: name, source })?;
    let again = MapData::from_fd(fd).map_err(at(name))?;
    whole(again).try_into().map_err(at(name))
}

/// The tables that the planner plans for.
pub struct Tables {
    node: Array<MapData, Node>,
    vips: HashMap<MapData, AddressPod, u32>,
    services: HashMap<MapData, Endpoint, Service>,
    backends: Array<MapData, Backend>,
    slots: HashMap<MapData, Endpoint, u32>,
    rings: Array<MapData, u32>,
    own: HashMap<MapData, AddressPod, u32>,
    preferred: Array<MapData, u32>,
    fellows: HashMap<MapData, u64, u32>,
    tunnels: HashMap<MapData, AddressPod, u32>,
    sources: Array<MapData, AddressPod>,
    allowed: LpmTrie<MapData, Allowed, u32>,
    limits: Array<MapData, SourceLimit>,
    counters: Counters,
    /// Slots that were ever used, as long as this agent runs; found by one look over all at the start.
    known: Option<BTreeSet<u32>>,
}

/// An address as a key; the library's own type is not aya's to move.
type AddressPod = [u8; 16];

impl Tables {
    /// Takes them out of the loaded object.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            node: take(ebpf, map::NODE)?,
            vips: take(ebpf, map::VIPS)?,
            services: take(ebpf, map::SERVICES)?,
            backends: take(ebpf, map::BACKENDS)?,
            slots: take(ebpf, map::BACKEND_SLOTS)?,
            rings: take(ebpf, map::RINGS)?,
            own: take(ebpf, map::OWN)?,
            preferred: take(ebpf, map::PREFERRED)?,
            fellows: take(ebpf, map::FELLOWS)?,
            tunnels: take(ebpf, map::TUNNELS)?,
            sources: take(ebpf, map::SOURCES)?,
            allowed: take(ebpf, map::ALLOWED)?,
            limits: take(ebpf, map::LIMITS)?,
            counters: Counters::take(ebpf)?,
            known: None,
        })
    }

    /// Reads all tables; complete, or an error.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn observe(&mut self) -> Result<Observed, TableError> {
        let node = self.node.get(&0, 0).map_err(at(map::NODE))?;
        let vips =
            self.vips.keys().map(|key| key.map(Be128::from_wire)).collect::<Result<_, _>>().map_err(at(map::VIPS))?;
        let services: BTreeMap<_, _> = self.services.iter().collect::<Result<_, _>>().map_err(at(map::SERVICES))?;
        let slots = self.slots.iter().collect::<Result<_, _>>().map_err(at(map::BACKEND_SLOTS))?;
        let known = match self.known.take() {
            Some(known) => known,
            None => {
                let mut known = BTreeSet::new();
                for slot in 0..MAX_BACKENDS {
                    if self.backend(slot)?.generation != 0 {
                        known.insert(slot);
                    }
                }
                known
            }
        };
        let backends = known.iter().map(|slot| Ok((*slot, self.backend(*slot)?))).collect::<Result<_, TableError>>();
        self.known = Some(known);
        let mut rings = BTreeMap::new();
        for service in services.values() {
            let service: &Service = service;
            // A range of ports has one round for all.
            if rings.contains_key(&service.ring_start) {
                continue;
            }
            let length = (u32::from(service.ring_length) + u32::from(service.set_length)).min(RING_SIZE);
            let places = (0..length).map(|place| self.rings.get(&(service.ring_start + place), 0));
            rings.insert(service.ring_start, places.collect::<Result<Vec<_>, _>>().map_err(at(map::RINGS))?);
        }
        let own =
            self.own.keys().map(|key| key.map(Be128::from_wire)).collect::<Result<_, _>>().map_err(at(map::OWN))?;
        let preferred = (0..MAX_SERVICES as u16).map(|number| Ok((number, self.preferred.get(&number.into(), 0)?)));
        let preferred = preferred.collect::<Result<_, _>>().map_err(at(map::PREFERRED))?;
        let fellows = self.fellows.keys().map(|key| key.map(key_mac)).collect::<Result<_, _>>();
        let fellows = fellows.map_err(at(map::FELLOWS))?;
        let tunnels = self.tunnels.keys().map(|key| key.map(Be128::from_wire)).collect::<Result<_, _>>();
        let tunnels = tunnels.map_err(at(map::TUNNELS))?;
        let mut allowed = BTreeMap::<_, BTreeSet<_>>::new();
        for key in self.allowed.keys() {
            let key = key.map_err(at(map::ALLOWED))?;
            let Allowed { list, address } = key.data();
            let bits = u8::try_from(key.prefix_len().saturating_sub(LIST_BITS)).unwrap_or(u8::MAX);
            allowed.entry(list).or_default().insert(Prefix { address, bits });
        }
        let limited = services.values().filter(|service: &&Service| service.is_limited != 0);
        let limits = limited.map(|service| Ok((service.number, self.limits.get(&service.number.into(), 0)?)));
        let limits = limits.collect::<Result<_, _>>().map_err(at(map::LIMITS))?;
        let sources = (0..2 * MAX_SOURCES).map(|number| Ok((number, Be128::from_wire(self.sources.get(&number, 0)?))));
        let sources = sources.collect::<Result<_, _>>().map_err(at(map::SOURCES))?;
        Ok(Observed {
            sources,
            node,
            vips,
            services,
            backends: backends?,
            slots,
            rings,
            own,
            preferred,
            fellows,
            tunnels,
            allowed,
            limits,
        })
    }

    /// The counters beside them.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn backend(&self, slot: u32) -> Result<Backend, TableError> {
        self.backends.get(&slot, 0).map_err(at(map::BACKENDS))
    }

    /// Applies one step.
    ///
    /// # Errors
    /// When the kernel refuses; what was applied before stays, and a later plan goes on from there.
    pub fn apply(&mut self, op: &Op) -> Result<(), TableError> {
        match op {
            Op::SetNode(node) => self.node.set(0, *node, 0).map_err(at(map::NODE)),
            Op::SetBackend { slot, backend, fresh } => {
                if *fresh {
                    self.counters.reset(*slot)?;
                }
                self.backends.set(*slot, *backend, 0).map_err(at(map::BACKENDS))?;
                if let Some(known) = &mut self.known {
                    known.insert(*slot);
                }
                Ok(())
            }
            Op::AddSlot(endpoint, slot) => self.slots.insert(endpoint, slot, 0).map_err(at(map::BACKEND_SLOTS)),
            Op::WriteRing { start, slots } => {
                for (place, slot) in (*start..).zip(slots) {
                    self.rings.set(place, slot, 0).map_err(at(map::RINGS))?;
                }
                Ok(())
            }
            Op::AddFellow(mac) => self.fellows.insert(mac_key(*mac), 1, 0).map_err(at(map::FELLOWS)),
            Op::RemoveFellow(mac) => gone(self.fellows.remove(&mac_key(*mac))).map_err(at(map::FELLOWS)),
            Op::AddTunnel(node) => self.tunnels.insert(node.wire(), 1, 0).map_err(at(map::TUNNELS)),
            Op::RemoveTunnel(node) => gone(self.tunnels.remove(&node.wire())).map_err(at(map::TUNNELS)),
            Op::Allow(list, prefix) => self.allowed.insert(&allowed(*list, *prefix), 1, 0).map_err(at(map::ALLOWED)),
            Op::Disallow(list, prefix) => gone(self.allowed.remove(&allowed(*list, *prefix))).map_err(at(map::ALLOWED)),
            Op::SetLimit(number, limit) => self.limits.set((*number).into(), limit, 0).map_err(at(map::LIMITS)),
            Op::SetSource(number, address) => self.sources.set(*number, address.wire(), 0).map_err(at(map::SOURCES)),
            Op::AddVip(vip) => self.vips.insert(vip.wire(), 1, 0).map_err(at(map::VIPS)),
            Op::SetService(listener, service) => self.services.insert(listener, service, 0).map_err(at(map::SERVICES)),
            Op::SetPreferred(number, slot) => self.preferred.set((*number).into(), slot, 0).map_err(at(map::PREFERRED)),
            Op::AddOwn(address) => self.own.insert(address.wire(), 1, 0).map_err(at(map::OWN)),
            Op::RemoveOwn(address) => gone(self.own.remove(&address.wire())).map_err(at(map::OWN)),
            Op::RemoveService(listener) => gone(self.services.remove(listener)).map_err(at(map::SERVICES)),
            Op::RemoveVip(vip) => gone(self.vips.remove(&vip.wire())).map_err(at(map::VIPS)),
            Op::RemoveSlot(endpoint) => gone(self.slots.remove(endpoint)).map_err(at(map::BACKEND_SLOTS)),
        }
    }
}

/// A prefix as a key of the lists.
fn allowed(list: u32, Prefix { address, bits }: Prefix) -> Key<Allowed> {
    Key::new(LIST_BITS + u32::from(bits), Allowed { list, address })
}

/// Not there is as good as removed.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}

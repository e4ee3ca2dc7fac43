//! What the datapath's tables say that it would decide about one connection by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use lb_ebpf::abi::{
    Allowed, Correction, Endpoint, LIST_BITS, Load, Node, Pulse, RING_SIZE, Service, Source, SourceLimit, map,
    service_load,
};
use lb_ebpf::datapath::balance::Connections;
use lb_ebpf::net::Be128;

use super::attach::directory_of;
use super::flows::{Found as _, Pins, View, there};
use super::tables::{TableError, at};
use crate::clock;
use crate::explain::Facts;

/// Bits of an address.
const ADDRESS_BITS: u32 = 128;

/// The tables that an agent has pinned, as far as a decision asks for them.
pub struct FactTables {
    view: View,
    node: Array<MapData, Node>,
    vips: HashMap<MapData, [u8; 16], u32>,
    own: HashMap<MapData, [u8; 16], u32>,
    services: HashMap<MapData, Endpoint, Service>,
    rings: Array<MapData, u32>,
    loads: Array<MapData, Load>,
    corrections: Array<MapData, Correction>,
    pulses: Array<MapData, Pulse>,
    allowed: LpmTrie<MapData, Allowed, u32>,
    limits: Array<MapData, SourceLimit>,
    limited: HashMap<MapData, Source, u64>,
    full: HashMap<MapData, Source, u64>,
}

impl FactTables {
    /// Those of this node's agent.
    ///
    /// # Errors
    /// When it has pinned none.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        let directory = directory_of(node);
        let pins = Pins(&directory);
        Ok(Self {
            view: View::find(&pins)?,
            node: pins.table(map::NODE)?,
            vips: pins.table(map::VIPS)?,
            own: pins.table(map::OWN)?,
            services: pins.table(map::SERVICES)?,
            rings: pins.table(map::RINGS)?,
            loads: pins.table(map::LOADS)?,
            corrections: pins.table(map::CORRECTIONS)?,
            pulses: pins.table(map::PULSES)?,
            allowed: pins.table(map::ALLOWED)?,
            limits: pins.table(map::LIMITS)?,
            limited: pins.table(map::LIMITED)?,
            full: pins.table(map::FULL_SOURCES)?,
        })
    }

    /// Where packets find a service: at the VIPs.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn listeners(&self) -> Result<BTreeSet<SocketAddr>, TableError> {
        let vips = self.vips()?;
        let all = self.services.keys().collect::<Result<Vec<_>, _>>().map_err(at(map::SERVICES))?;
        Ok(all.into_iter().filter(|listener| vips.contains(&listener.address)).map(SocketAddr::from).collect())
    }

    /// What there is about a connection of this client.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn of(&self, client: SocketAddr, listener: SocketAddr) -> Result<Facts, TableError> {
        let service = there(self.services.get(&Endpoint::from(listener), 0)).map_err(at(map::SERVICES))?;
        let from = Be128::from(client.ip());
        let now = clock::monotonic_nanoseconds();
        let mut facts = Facts {
            client,
            listener,
            node: self.node.get(&0, 0).map_err(at(map::NODE))?,
            vips: self.vips()?,
            is_own: there(self.own.get(&from.wire(), 0)).map_err(at(map::OWN))?.is_some(),
            service,
            is_allowed: true,
            limit: None,
            filled: None,
            full_until: None,
            ring: Vec::new(),
            backends: BTreeMap::new(),
            connections: BTreeMap::new(),
            pulses: BTreeMap::new(),
            now,
        };
        let Some(service) = service else {
            return Ok(facts);
        };
        if service.allow != 0 {
            let key = Key::new(LIST_BITS + ADDRESS_BITS, Allowed { list: service.allow, address: from });
            facts.is_allowed = there(self.allowed.get(&key, 0)).map_err(at(map::ALLOWED))?.is_some();
        }
        if service.is_limited != 0 {
            let number = u32::from(service.number);
            let limit = self.limits.get(&number, 0).map_err(at(map::LIMITS))?;
            let source = Source::of(number, from, &limit);
            facts.filled = there(self.limited.get(&source, 0)).map_err(at(map::LIMITED))?;
            facts.full_until = there(self.full.get(&source, 0)).map_err(at(map::FULL_SOURCES))?;
            facts.limit = Some(limit);
        }
        let length = (u32::from(service.ring_length) + u32::from(service.set_length)).min(RING_SIZE);
        let places = (0..length).map(|place| self.rings.get(&service.ring_start.saturating_add(place), 0));
        facts.ring = places.collect::<Result<_, _>>().map_err(at(map::RINGS))?;
        let backends = self.view.all_backends()?;
        facts.backends = backends.into_iter().filter(|(_, backend)| backend.service == service.number).collect();
        let number = service_load(service.number);
        for slot in facts.backends.keys().copied().chain([number]) {
            let load = self.loads.get(&slot, 0).map_err(at(map::LOADS))?;
            let correction = self.corrections.get(&slot, 0).map_err(at(map::CORRECTIONS))?;
            let connections = Connections { open: load.open(&correction), opening: load.opening(&correction) };
            facts.connections.insert(slot, connections);
            if slot != number {
                facts.pulses.insert(slot, self.pulses.get(&slot, 0).map_err(at(map::PULSES))?);
            }
        }
        Ok(facts)
    }

    fn vips(&self) -> Result<BTreeSet<Be128>, TableError> {
        self.vips.keys().map(|key| key.map(Be128::from_wire)).collect::<Result<_, _>>().map_err(at(map::VIPS))
    }
}

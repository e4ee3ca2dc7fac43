//! The sets of source ports, kept true: what the datapath has taken and no table of flows has any more is free again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use lb_ebpf::abi::{Delivery, Endpoint, Flow, FlowKey, PortKey, PortSet, map};
use lb_ebpf::net::{Address, Be128};
use lb_proto::plan::{Place, Wanted, WantedBackend};

use super::tables::{TableError, at, take};

/// Which sets there should be. Pure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortLayout {
    /// The ports that are used; `None`: none yet.
    ports: Option<RangeInclusive<u16>>,
    /// Sets, and the ports of each at which a service listens.
    sets: BTreeMap<PortKey, BTreeSet<u16>>,
    /// Source ports there are towards each backend, by slot.
    capacities: BTreeMap<u32, u64>,
}

impl PortLayout {
    /// For backends that get translated packets, at these places.
    #[must_use]
    pub fn new(wanted: &Wanted, places: &[Vec<Place>]) -> Self {
        let first = wanted.node.first_port;
        let ports = wanted.node.port_count.checked_sub(1).map(|more| first..=first.saturating_add(more));
        let mut layout = Self { ports, ..Self::default() };
        let Some(ports) = &layout.ports else {
            return layout;
        };
        let listening = listening(wanted, ports);
        for (service, places) in wanted.services.iter().zip(places) {
            for (backend, place) in service.backends.iter().zip(places) {
                if backend.delivery != Delivery::Translated {
                    continue;
                }
                // A backend without a port has source ports for each of the ports that it serves.
                let (keeps_port, mut asked) = (backend.endpoint.port.raw() == 0, BTreeSet::new());
                asked.extend(service.listeners.iter().map(|listener| listener.port).filter(|_| keeps_port));
                let mut capacity = 0;
                for address in addresses(&service.listeners, wanted, backend) {
                    let taken = listening.get(&address).cloned().unwrap_or_default();
                    capacity += (ports.len() - taken.len()) * asked.len().max(1);
                    if !keeps_port {
                        layout.sets.insert(PortKey { address, slot: place.slot }, taken);
                    }
                }
                layout.capacities.insert(place.slot, capacity as u64);
            }
        }
        layout
    }

    /// Source ports towards the backend in a slot; 0 where it needs none.
    #[must_use]
    pub fn capacity(&self, slot: u32) -> u64 {
        self.capacities.get(&slot).copied().unwrap_or_default()
    }

    /// What is never free of a set.
    fn fixed(&self, taken: &BTreeSet<u16>) -> PortSet {
        let mut set = match &self.ports {
            Some(ports) => PortSet::of_range(ports.clone()),
            None => PortSet::full(),
        };
        taken.iter().for_each(|port| set.add(*port));
        set.summed()
    }
}

/// Ports of the range at which services listen, by address.
fn listening(wanted: &Wanted, ports: &RangeInclusive<u16>) -> BTreeMap<Be128, BTreeSet<u16>> {
    let mut listening: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let listeners = wanted.services.iter().flat_map(|service| &service.listeners);
    for listener in listeners.filter(|listener| ports.contains(&listener.port.get())) {
        listening.entry(listener.address).or_default().insert(listener.port.get());
    }
    listening
}

/// Addresses of ours towards a backend.
fn addresses(listeners: &[Endpoint], wanted: &Wanted, backend: &WantedBackend) -> BTreeSet<Be128> {
    let is_four = |address: &Be128| address.mapped().is_some();
    let four = is_four(&backend.endpoint.address);
    let vips = listeners.iter().map(|listener| listener.address);
    vips.chain(wanted.sources.values().copied()).filter(|address| is_four(address) == four).collect()
}

/// Source ports of a backend that are not free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortUse {
    /// Of connections that are open or opening.
    pub in_use: u64,
    /// Of connections that are over, whose ports are not used again yet.
    pub resting: u64,
}

/// What a sweep finds of ports.
#[derive(Debug, Default)]
pub(super) struct Found {
    sets: BTreeMap<PortKey, PortSet>,
    /// By slot and generation of the backend.
    pub(super) used: BTreeMap<(u16, u32), PortUse>,
}

impl Found {
    /// Takes in an entry.
    pub(super) fn note<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        if flow.is_from_client() || flow.delivery != Delivery::Translated as u16 {
            return;
        }
        let used = self.used.entry((flow.backend, flow.generation)).or_default();
        if flow.is_closed() {
            used.resting += 1;
        } else {
            used.in_use += 1;
        }
        let set = PortKey { address: key.destination.into(), slot: flow.backend.into() };
        self.sets.entry(set).or_insert_with(PortSet::empty).add(key.destination_port.get());
    }
}

/// The table of sets.
pub(super) struct PortSets(HashMap<MapData, PortKey, PortSet>);

/// Sets as they were before the tables of flows were looked at.
pub(super) type Before = BTreeMap<PortKey, PortSet>;

impl PortSets {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self(take(ebpf, map::PORTS)?))
    }

    /// Reads all of them.
    pub(super) fn look(&self) -> Result<Before, TableError> {
        self.0.iter().collect::<Result<_, _>>().map_err(at(map::PORTS))
    }

    /// Makes them what they should be, as far as the tables of flows have been seen since `before`.
    ///
    /// A set is replaced as a whole: what the datapath adds at that very moment is lost, and found out when the port
    /// is looked at.
    pub(super) fn mend(&mut self, layout: &PortLayout, before: &Before, found: &Found) -> Result<(), TableError> {
        let nothing = PortSet::empty();
        for (key, taken) in &layout.sets {
            let fixed = layout.fixed(taken);
            let found = found.sets.get(key).unwrap_or(&nothing);
            let now = match self.0.get(key, 0) {
                Ok(now) => Some(now),
                Err(MapError::KeyNotFound) => None,
                Err(error) => return Err(at(map::PORTS)(error)),
            };
            let after = match (&now, before.get(key)) {
                (Some(now), Some(before)) => now.mended(before, found, &fixed),
                (Some(now), None) => *now,
                (None, _) => fixed.mended(&nothing, found, &fixed),
            };
            if now.as_ref() != Some(&after) {
                self.0.insert(key, after, 0).map_err(at(map::PORTS))?;
            }
        }
        for key in before.keys().filter(|key| !layout.sets.contains_key(key)) {
            match self.0.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(at(map::PORTS)(error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use lb_ebpf::abi::{Balance, Node};
    use lb_ebpf::net::Be16;
    use lb_proto::plan::WantedService;

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn address(text: &str) -> Be128 {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn wanted(listeners: &[&str], backends: &[(&str, Delivery)]) -> Wanted {
        let backend = |(at, delivery): &(&str, Delivery)| WantedBackend {
            endpoint: endpoint(at),
            share: 1,
            weight: 1,
            max_connections: 0,
            gone: false,
            delivery: *delivery,
            mac: [2; 6],
        };
        Wanted {
            node: Node { first_port: 8000, port_count: 1000, ..Node::default() },
            services: vec![WantedService {
                listeners: listeners.iter().map(|at| endpoint(at)).collect(),
                local_listeners: Vec::new(),
                preferred: None,
                idle_seconds: 60,
                balance: Balance::RoundRobin,
                key: [0; 2],
                max_connections: 0,
                allow: BTreeSet::new(),
                limit: None,
                backends: backends.iter().map(backend).collect(),
            }],
            own: BTreeSet::new(),
            fellows: BTreeSet::new(),
            tunnels: BTreeSet::new(),
            sources: [(0, address("192.0.2.110")), (8, address("2001:db8::110"))].into(),
        }
    }

    fn places(slots: std::ops::Range<u32>) -> Vec<Vec<Place>> {
        vec![slots.map(|slot| Place { slot, generation: 1 }).collect()]
    }

    #[test]
    fn a_set_for_each_address_of_ours_and_backend_that_is_translated_for() {
        let backends = [
            ("192.0.2.31:6443", Delivery::Translated),
            ("192.0.2.32:6443", Delivery::Direct),
            ("192.0.2.33:0", Delivery::Translated),
        ];
        let layout = PortLayout::new(&wanted(&["192.0.2.100:8443", "192.0.2.100:8444"], &backends), &places(5..8));
        let key = |text: &str| PortKey { address: address(text), slot: 5 };
        let sets = [(key("192.0.2.100"), [8443, 8444].into()), (key("192.0.2.110"), BTreeSet::new())];
        assert_eq!(layout.sets, sets.into());
        assert_eq!([5, 6, 7].map(|slot| layout.capacity(slot)), [1998, 0, 2 * 1998]);
        let fixed = layout.fixed(&[8443].into());
        assert!([7999, 8443, 9000].iter().all(|port| fixed.has(*port)) && !fixed.has(8442) && !fixed.has(8999));
    }

    #[test]
    fn ports_of_open_and_of_closed_flows_are_found_and_told_apart() {
        use lb_ebpf::abi::{Direction, state};
        use lb_ebpf::net::Be32;
        let answers = |port| FlowKey {
            source: Be32::from(std::net::Ipv4Addr::new(192, 0, 2, 31)),
            destination: Be32::from(std::net::Ipv4Addr::new(192, 0, 2, 100)),
            source_port: Be16::new(6443),
            destination_port: Be16::new(port),
        };
        let mut found = Found::default();
        for (port, state, delivery) in
            [(8001, 0, Delivery::Translated), (8002, state::RESET, Delivery::Translated), (8003, 0, Delivery::Local)]
        {
            let flow = Flow { state, backend: 5, generation: 1, ..Flow::default() }.delivered(&answers(port), delivery);
            found.note(&answers(port), &Flow { direction: Direction::ToClient as u16, ..flow });
            found.note(&answers(port).reversed(), &Flow { direction: Direction::ToBackend as u16, ..flow });
        }
        assert_eq!(found.used, [((5, 1), PortUse { in_use: 1, resting: 1 })].into());
        let set = &found.sets[&PortKey { address: address("192.0.2.100"), slot: 5 }];
        assert_eq!((set.len(), set.has(8001), set.has(8002)), (2, true, true));
    }
}

//! Decisions about connect(2), on tables in memory.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::balance::Connections;
use super::*;
use crate::abi::{Backend, Change};

const NETNS: u64 = 77;

/// The tables in memory.
#[derive(Default)]
struct Model {
    services: BTreeMap<Endpoint, Service>,
    own: BTreeSet<Be128>,
    backends: Vec<Backend>,
    rings: Vec<u32>,
    preferred: Option<u32>,
    /// Where nobody listens.
    silent: BTreeSet<Endpoint>,
    turn: Cell<u32>,
    open: BTreeMap<u32, u32>,
    client: [u32; 2],
}

impl LocalTables for Model {
    fn hook(&self) -> Hook {
        Hook { netns: NETNS, client: self.client }
    }

    fn service(&self, listener: &Endpoint) -> Option<Service> {
        self.services.get(listener).copied()
    }

    fn is_own(&self, address: Be128) -> bool {
        self.own.contains(&address)
    }

    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        self.backends.iter().any(|backend| backend.endpoint == *endpoint)
    }

    fn preferred(&self, _: u32) -> Option<u32> {
        self.preferred
    }

    fn listens(&self, at: &Endpoint) -> bool {
        !self.silent.contains(at)
    }
}

impl Rounds for Model {
    fn backend(&self, slot: u32) -> Option<&Backend> {
        self.backends.get(slot as usize)
    }

    /// Every round is followed by each of its backends once.
    fn ring(&self, place: u32) -> Option<u32> {
        let set: BTreeSet<_> = self.rings.iter().copied().collect();
        self.rings.iter().copied().chain(set).nth(place as usize)
    }

    fn take_turn(&self, _: u32) -> Option<u32> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        Some(turn)
    }

    fn connections(&self, at: u32) -> Connections {
        Connections { open: self.open.get(&at).copied().unwrap_or_default(), opening: 0 }
    }

    fn count(&self, _: u32, _: Change) {}
}

fn at(address: [u8; 4], port: u16) -> Endpoint {
    SocketAddrV4::new(Ipv4Addr::from(address), port).into()
}

const VIP: [u8; 4] = [192, 0, 2, 100];
const NODE: [u8; 4] = [192, 0, 2, 31];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const ANY: [u8; 4] = [0; 4];

fn backend(host: u8, port: u16) -> Backend {
    Backend { endpoint: at([192, 0, 2, host], port), generation: 1, service: 3, share: 1, ..Backend::default() }
}

/// Service 3 behind these places, with backends .31 (this node), .32 and .33.
fn model(listeners: &[Endpoint]) -> Model {
    let service = Service { number: 3, ring_length: 3, set_length: 3, idle_seconds: 60, ..Service::default() };
    Model {
        services: listeners.iter().map(|listener| (*listener, service)).collect(),
        own: [at(NODE, 0).address].into(),
        backends: (31..34).map(|host| backend(host, 6443)).collect(),
        rings: vec![0, 1, 2],
        preferred: None,
        silent: BTreeSet::new(),
        turn: Cell::new(0),
        open: BTreeMap::new(),
        client: [0; 2],
    }
}

fn slot(model: &Model, asked: Endpoint) -> Option<u32> {
    connect(model, NETNS, asked).map(|translation| translation.slot)
}

#[test]
fn turns_are_taken_and_the_preferred_one_comes_first() {
    let mut model = model(&[at(VIP, 8443)]);
    let slots: Vec<_> = (0..6).map(|_| slot(&model, at(VIP, 8443))).collect();
    assert_eq!(slots, [0, 1, 2, 0, 1, 2].map(Some));
    model.preferred = Some(2);
    assert_eq!([(); 3].map(|()| slot(&model, at(VIP, 8443))), [Some(2); 3]);
    let to = connect(&model, NETNS, at(VIP, 8443)).map(|translation| translation.reached);
    assert_eq!(to, Some(at([192, 0, 2, 33], 6443)));
}

#[test]
fn others_come_before_the_preferred_one_when_its_process_is_gone() {
    let mut model = model(&[at(VIP, 8443)]);
    model.preferred = Some(0);
    model.silent = [at(NODE, 6443)].into();
    let slots: Vec<_> = (0..4).map(|_| slot(&model, at(VIP, 8443))).collect();
    assert!(slots.iter().all(|slot| [Some(1), Some(2)].contains(slot)), "{slots:?}");
    // Nobody else: it may be reached all the same, by a translation of somebody else's.
    model.rings = vec![0, 0, 0];
    assert_eq!(slot(&model, at(VIP, 8443)), Some(0));
}

#[test]
fn a_full_backend_is_passed_over_and_a_node_keeps_its_own_by_source() {
    let mut model = model(&[at(VIP, 8443)]);
    model.backends[1].max_connections = 5;
    model.preferred = Some(1);
    model.open = [(1, 5)].into();
    let slots: Vec<_> = (0..6).map(|_| slot(&model, at(VIP, 8443))).collect();
    assert!(slots.iter().all(|slot| [Some(0), Some(2)].contains(slot)), "{slots:?}");
    model.open.insert(1, 4);
    assert_eq!(slot(&model, at(VIP, 8443)), Some(1));

    let of = |client| {
        let model = Model { client: [client, 7], ..super::tests::model(&[at(VIP, 8443)]) };
        let model = Model { services: self::source(&model), ..model };
        let slots = [(); 4].map(|()| slot(&model, at(VIP, 8443)));
        assert_eq!(slots, [slots[0]; 4]);
        slots[0]
    };
    let seen: BTreeSet<_> = (0..32).map(of).collect();
    assert_eq!(seen.len(), 3, "other nodes have others");
}

fn source(model: &Model) -> BTreeMap<Endpoint, Service> {
    let by_source = |service: &Service| Service { balance: Balance::Source as u16, ..*service };
    model.services.iter().map(|(at, service)| (*at, by_source(service))).collect()
}

#[test]
fn a_place_that_is_listened_at_everywhere_is_this_nodes_alone() {
    let everywhere = model(&[at(ANY, 4300)]);
    for own in [LOOPBACK, NODE, ANY, [127, 0, 0, 53]] {
        assert!(slot(&everywhere, at(own, 4300)).is_some(), "{own:?}");
        assert_eq!(slot(&everywhere, at(own, 4301)), None);
    }
    for other in [VIP, [192, 0, 2, 32], [198, 51, 100, 1]] {
        assert_eq!(slot(&everywhere, at(other, 4300)), None, "{other:?}");
    }
    let loopback = model(&[at(LOOPBACK, 4300)]);
    assert!(slot(&loopback, at(LOOPBACK, 4300)).is_some() && slot(&loopback, at(ANY, 4300)).is_some());
    assert_eq!(slot(&loopback, at(NODE, 4300)), None);
}

#[test]
fn other_namespaces_are_left_alone() {
    let model = model(&[at(VIP, 8443), at(LOOPBACK, 8443)]);
    for netns in [0, NETNS + 1] {
        assert_eq!(connect(&model, netns, at(VIP, 8443)), None);
        assert_eq!(connect(&model, netns, at(LOOPBACK, 8443)), None);
    }
}

#[test]
fn whoever_names_a_backend_means_it() {
    // As health checks of this node's own server do where a service listens at the same port everywhere.
    let model = model(&[at(ANY, 6443)]);
    assert_eq!(slot(&model, at(NODE, 6443)), None);
    assert!(slot(&model, at(LOOPBACK, 6443)).is_some());
}

#[test]
fn a_backend_without_a_port_is_named_by_any() {
    let mut model = model(&[at(ANY, 6443)]);
    model.backends = vec![backend(31, 0)];
    model.rings = vec![0, 0, 0];
    assert_eq!(slot(&model, at(NODE, 6443)), None);
    assert!(slot(&model, at(LOOPBACK, 6443)).is_some());
}

#[test]
fn a_backend_without_a_port_keeps_the_clients() {
    let mut model = model(&[at(VIP, 30_000), at(VIP, 30_001)]);
    model.backends = vec![backend(31, 0)];
    model.rings = vec![0, 0, 0];
    for port in [30_000, 30_001] {
        let to = connect(&model, NETNS, at(VIP, port)).map(|translation| translation.reached);
        assert_eq!(to, Some(at(NODE, port)));
    }
    assert_eq!(slot(&model, at(VIP, 30_002)), None);
}

#[test]
fn nobody_serves() {
    let mut model = model(&[at(VIP, 8443)]);
    for backend in &mut model.backends {
        backend.gone = 1;
    }
    assert_eq!(slot(&model, at(VIP, 8443)), None);
    model.preferred = Some(9);
    assert_eq!(slot(&model, at(VIP, 8443)), None);
    let service = Service { number: 3, idle_seconds: 60, ..Service::default() };
    model.services.insert(at(VIP, 8443), service);
    assert_eq!(slot(&model, at(VIP, 8443)), None);
}

#[test]
fn peers_are_what_was_dialled_as_long_as_it_is_the_same_connection() {
    let kept = Dialled { asked: at(VIP, 8443), reached: at(NODE, 6443) };
    assert_eq!(peer(&kept, at(NODE, 6443)), Some(at(VIP, 8443)));
    assert_eq!(peer(&kept, at(NODE, 6444)), None);
}

#[test]
fn an_address_is_of_one_version_or_the_other() {
    let parse = |address: &str| Be128::from(address.parse::<core::net::Ipv6Addr>().unwrap());
    assert_eq!(parse("::ffff:192.0.2.100"), at(VIP, 0).address);
    for other in ["::192.0.2.100", "::1", "64:ff9b::192.0.2.100", "2001:db8::ffff:192.0.2.100"] {
        assert_eq!(parse(other).mapped(), None, "{other}");
    }
    assert_eq!(port(8443_u16.to_be().into()), Be16::new(8443));
}

#[test]
fn services_at_every_address_are_those_of_one_version() {
    let six = |address: &str| Endpoint::from(core::net::SocketAddr::new(address.parse().unwrap(), 4300));
    let mut model = model(&[six("::")]);
    model.own.insert(six("2001:db8::21").address);
    for asked in ["::1", "::", "2001:db8::21"] {
        assert!(super::connect(&model, NETNS, six(asked)).is_some(), "{asked}");
    }
    for other in ["2001:db8::22", "127.0.0.1", "0.0.0.0", "::2", "fe80::1"] {
        assert!(super::connect(&model, NETNS, six(other)).is_none(), "{other}");
    }
}

proptest! {
    /// As long as one backend serves, a connection is made, and to one that does.
    #[test]
    fn a_connection_goes_to_a_backend_that_serves(
        gone in proptest::collection::vec(any::<bool>(), 1..6), preferred in proptest::option::of(0u32..8), turn in any::<u32>(),
    ) {
        let mut model = model(&[at(VIP, 8443)]);
        model.backends = gone.iter().zip(31..).map(|(gone, host)| Backend { gone: (*gone).into(), ..backend(host, 6443) }).collect();
        model.rings = (0..gone.len() as u32).collect();
        model.preferred = preferred;
        model.turn.set(turn);
        let length = gone.len() as u16;
        let service = Service { number: 3, ring_length: length, set_length: length, idle_seconds: 60, ..Service::default() };
        model.services.insert(at(VIP, 8443), service);
        let serving = gone.iter().filter(|gone| !**gone).count();
        match slot(&model, at(VIP, 8443)) {
            Some(slot) => prop_assert!(!gone[slot as usize]),
            None => prop_assert_eq!(serving, 0),
        }
        if let Some(slot) = preferred && gone.get(slot as usize) == Some(&false) {
            prop_assert_eq!(super::connect(&model, NETNS, at(VIP, 8443)).map(|to| to.slot), Some(slot));
        }
    }
}

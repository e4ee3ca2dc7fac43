//! Plans for small worlds, and what holds for every plan.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

use super::*;

fn at(host: u8, port: u16) -> Endpoint {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, host), port).into()
}

fn backend(host: u8) -> WantedBackend {
    WantedBackend {
        endpoint: at(host, 6443),
        share: 1,
        weight: 1,
        max_connections: 0,
        gone: false,
        delivery: Delivery::Translated,
        mac: [2, 0, 0, 0, 0, host],
    }
}

fn service(port: u16, hosts: &[u8]) -> WantedService {
    WantedService {
        listeners: vec![at(100, port)],
        local_listeners: Vec::new(),
        preferred: None,
        idle_seconds: 7200,
        balance: Balance::RoundRobin,
        key: [1, 2],
        max_connections: 0,
        allow: BTreeSet::new(),
        limit: None,
        backends: hosts.iter().map(|host| backend(*host)).collect(),
    }
}

fn wanted(services: Vec<WantedService>) -> Wanted {
    let node = Node { version: 1, ..Node::default() };
    Wanted {
        node,
        services,
        own: BTreeSet::new(),
        fellows: BTreeSet::new(),
        tunnels: BTreeSet::new(),
        sources: BTreeMap::new(),
    }
}

fn slots(plan: &Plan) -> Vec<Vec<u32>> {
    plan.places.iter().map(|places| places.iter().map(|place| place.slot).collect()).collect()
}

fn settle(wanted: &Wanted, observed: &mut Observed) -> Plan {
    let plan = plan(wanted, observed).unwrap();
    for op in &plan.ops {
        observed.apply(op);
    }
    plan
}

#[test]
fn from_nothing_in_order() {
    let mut observed = Observed::default();
    let plan = settle(&wanted(vec![service(8443, &[31, 32])]), &mut observed);
    let kinds: Vec<_> = plan
        .ops
        .iter()
        .map(|op| match op {
            Op::SetNode(_) => "node",
            Op::SetBackend { fresh, .. } => {
                if *fresh {
                    "new backend"
                } else {
                    "backend"
                }
            }
            Op::AddSlot(..) => "slot",
            Op::WriteRing { .. } => "ring",
            Op::AddFellow(_) | Op::AddTunnel(_) => "fellow",
            Op::Allow(..) | Op::Disallow(..) | Op::SetLimit(..) => "admission",
            Op::SetSource(..) => "source",
            Op::AddVip(_) => "vip",
            Op::SetService(..) => "service",
            Op::SetPreferred(..) => "preference",
            Op::AddOwn(_) => "own address",
            Op::RemoveService(_)
            | Op::RemoveVip(_)
            | Op::RemoveSlot(_)
            | Op::RemoveOwn(_)
            | Op::RemoveFellow(_)
            | Op::RemoveTunnel(_) => "removal",
        })
        .collect();
    assert_eq!(kinds, ["node", "new backend", "new backend", "slot", "slot", "ring", "vip", "service"]);
    assert_eq!(slots(&plan), [[0, 1]]);
}

#[test]
fn a_changed_round_goes_to_the_other_place_and_then_back() {
    let mut observed = Observed::default();
    let all = wanted(vec![service(8443, &[31, 32])]);
    settle(&all, &mut observed);
    let mut less = all.clone();
    less.services[0].backends[0].share = 0;
    let plan = settle(&less, &mut observed);
    assert!(plan.ops.contains(&Op::WriteRing { start: RING_SIZE, slots: vec![1, 1] }));
    assert_eq!(observed.services[&at(100, 8443)].ring_start, RING_SIZE);
    let plan = settle(&all, &mut observed);
    assert!(plan.ops.contains(&Op::WriteRing { start: 0, slots: vec![0, 1, 0, 1] }));
}

#[test]
fn others_keep_their_slots_when_one_goes_and_another_comes() {
    let mut observed = Observed::default();
    settle(&wanted(vec![service(8443, &[31, 32, 33])]), &mut observed);
    let plan = settle(&wanted(vec![service(8443, &[31, 33])]), &mut observed);
    assert_eq!(slots(&plan), [[0, 2]]);
    assert_eq!(observed.backends[&1].gone, 1, "flows of the removed backend are answered with RST");
    assert!(!observed.slots.contains_key(&at(32, 6443)));
    let plan = settle(&wanted(vec![service(8443, &[34, 31, 33])]), &mut observed);
    assert_eq!(slots(&plan), [[3, 0, 2]], "a slot never used comes before one given up");
}

#[test]
fn a_slot_used_again_has_another_generation() {
    let mut observed = Observed::default();
    settle(&wanted(vec![service(8443, &[31])]), &mut observed);
    let (first, generation) = (0, observed.backends[&0].generation);
    for slot in 1..MAX_BACKENDS {
        observed
            .backends
            .insert(slot, Backend { endpoint: at(99, 1), generation: 9, service: 60, ..Backend::default() });
    }
    observed.apply(&Op::SetBackend {
        slot: first,
        backend: Backend { generation, gone: 1, ..Backend::default() },
        fresh: false,
    });
    let plan = settle(&wanted(vec![service(8443, &[35])]), &mut observed);
    assert_eq!(slots(&plan), [[first]]);
    assert_eq!(observed.backends[&first].generation, generation + 1);
}

#[test]
fn one_machine_in_two_services_has_a_slot_in_each() {
    let mut observed = Observed::default();
    let plan = settle(&wanted(vec![service(8443, &[31]), service(9443, &[31])]), &mut observed);
    assert_eq!(slots(&plan), [[0], [1]]);
}

#[test]
fn a_service_that_moves_to_another_port_and_back_is_found_by_its_other_listener() {
    let mut observed = Observed::default();
    let mut first = wanted(vec![service(9000, &[30]), service(8443, &[31])]);
    first.services[1].listeners.push(at(100, 8444));
    settle(&first, &mut observed);
    first.services.remove(0);
    first.services[0].listeners.remove(0);
    let plan = settle(&first, &mut observed);
    assert_eq!(slots(&plan), [[1]]);
    assert_eq!(observed.services[&at(100, 8444)].number, 1);
}

#[test]
fn local_clients_are_served_where_no_packets_are_and_prefer_a_backend() {
    let mut observed = Observed::default();
    let mut local = wanted(vec![service(8443, &[31, 32])]);
    let (loopback, vip) = (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8443).into(), at(100, 8443));
    local.services[0].local_listeners = vec![loopback];
    local.services[0].preferred = Some(1);
    local.own = [at(31, 0).address].into();
    settle(&local, &mut observed);
    assert_eq!(observed.services[&loopback], observed.services[&vip]);
    assert_eq!(observed.vips, [vip.address].into());
    assert_eq!(observed.preferred, [(0, 2)].into());
    assert_eq!(observed.own, local.own);
    local.services[0].preferred = None;
    let plan = settle(&local, &mut observed);
    assert_eq!(plan.ops, [Op::SetPreferred(0, NOBODY)]);
}

#[test]
fn too_many_are_refused_whole() {
    let many = wanted((0..=MAX_SERVICES as u16).map(|n| service(8000 + n, &[31])).collect());
    assert_eq!(plan(&many, &Observed::default()), Err(TooMuch::Services));
    let mut listeners = service(1, &[31]);
    listeners.listeners = (1..=MAX_LISTENERS as u16 + 1).map(|port| at(100, port)).collect();
    assert_eq!(plan(&wanted(vec![listeners]), &Observed::default()), Err(TooMuch::Listeners));
    let mut crowd = service(1, &[31]);
    let address = |number: u32| lb_ebpf::net::Be32::new(number).into();
    crowd.allow = (0..=MAX_ALLOWED).map(|number| Prefix { address: address(number), bits: 128 }).collect();
    assert_eq!(plan(&wanted(vec![crowd]), &Observed::default()), Err(TooMuch::Allowed));
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    let backends = proptest::collection::btree_map(1u8..9, (0u16..3, any::<bool>(), any::<bool>()), 1..6);
    let preferred = proptest::option::of(0usize..6);
    let prefixes = (0u8..3, 120u8..123).prop_map(|(host, bits)| Prefix { address: at(host, 0).address, bits });
    let admission = (proptest::collection::btree_set(prefixes, 0..4), proptest::option::of(0u64..2));
    let services = (backends, 0u8..2, any::<bool>(), preferred, 0usize..4, admission);
    let services = proptest::collection::btree_map(8000u16..8006, services, 0..5);
    let own = proptest::collection::btree_set((1u8..4).prop_map(|host| at(host, 0).address), 0..3);
    let fellows = proptest::collection::btree_set(proptest::array::uniform6(0u8..2), 0..3);
    let sources = proptest::collection::btree_set((110u8..114).prop_map(|host| at(host, 0).address), 0..4);
    (services, own, fellows, sources).prop_map(|(services, own, fellows, sources)| Wanted {
        own,
        fellows,
        tunnels: BTreeSet::new(),
        node: Node { version: 1, sources: [sources.len() as u8, 0], ..Node::default() },
        sources: (0..).zip(sources).collect(),
        ..wanted(
            services
                .into_iter()
                .map(|(port, (backends, vip, local, preferred, balance, (allow, limit)))| WantedService {
                    listeners: if local { vec![] } else { vec![at(100 + vip, port)] },
                    local_listeners: vec![Endpoint::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))],
                    preferred,
                    idle_seconds: 60,
                    balance: [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Maglev][balance],
                    key: [1, 2],
                    max_connections: 0,
                    allow,
                    limit: limit.map(|interval| SourceLimit { interval, ..SourceLimit::default() }),
                    backends: backends
                        .into_iter()
                        .map(|(host, (share, gone, resolved))| WantedBackend {
                            share,
                            gone,
                            mac: [u8::from(resolved); 6],
                            delivery: if host == 1 { Delivery::Local } else { Delivery::Direct },
                            ..backend(host)
                        })
                        .collect(),
                })
                .collect(),
        )
    })
}

/// Whom the service at each place admits, and whether that is everyone: only an empty list of nobody's choosing is both.
fn admission(observed: &Observed) -> BTreeMap<Endpoint, (BTreeSet<Prefix>, bool)> {
    let services = observed.services.iter();
    let list = |list: u32| observed.allowed.get(&list).cloned().unwrap_or_default();
    services.map(|(at, service)| (*at, (list(service.allow), service.allow == 0))).collect()
}

#[test]
fn an_allow_list_changes_at_once() {
    let prefix = |host, bits| Prefix { address: at(host, 0).address, bits: 96_u8 + bits };
    let mut observed = Observed::default();
    let mut wanted = wanted(vec![service(8443, &[31])]);
    settle(&wanted, &mut observed);
    assert_eq!(observed.services[&at(100, 8443)].allow, 0);
    wanted.services[0].allow = [prefix(1, 32), prefix(2, 32)].into();
    let plan = settle(&wanted, &mut observed);
    let service = observed.services[&at(100, 8443)];
    let on = [Op::Allow(1, prefix(1, 32)), Op::Allow(1, prefix(2, 32)), Op::SetService(at(100, 8443), service)];
    assert_eq!(plan.ops, on);
    wanted.services[0].allow = [prefix(2, 32)].into();
    let plan = settle(&wanted, &mut observed);
    let service = observed.services[&at(100, 8443)];
    let changed = [
        Op::Allow(2, prefix(2, 32)),
        Op::SetService(at(100, 8443), service),
        Op::Disallow(1, prefix(1, 32)),
        Op::Disallow(1, prefix(2, 32)),
    ];
    assert_eq!(plan.ops, changed);
    wanted.services[0].allow.clear();
    let plan = settle(&wanted, &mut observed);
    let service = observed.services[&at(100, 8443)];
    assert_eq!(plan.ops, [Op::SetService(at(100, 8443), service), Op::Disallow(2, prefix(2, 32))]);
}

#[test]
fn what_a_plan_left_half_done_is_put_right_before_it_is_used() {
    let prefix = |host| Prefix { address: at(host, 0).address, bits: 128 };
    let mut observed = Observed::default();
    let mut wanted = wanted(vec![service(8443, &[31])]);
    wanted.services[0].allow = [prefix(1)].into();
    settle(&wanted, &mut observed);
    // An earlier list that never came into use.
    observed.allowed.insert(2, [prefix(9)].into());
    wanted.services[0].allow = [prefix(2)].into();
    let plan = settle(&wanted, &mut observed);
    let switch = plan.ops.iter().position(|op| matches!(op, Op::SetService(..))).unwrap();
    assert!(plan.ops[..switch].contains(&Op::Disallow(2, prefix(9))));
    assert_eq!(observed.allowed, [(2, [prefix(2)].into())].into());
}

proptest! {
    #[test]
    fn one_pass_settles_and_every_step_in_between_is_safe(worlds in proptest::collection::vec(any_wanted(), 1..6)) {
        let mut observed = Observed::default();
        for wanted in worlds {
            let plan = plan(&wanted, &observed).unwrap();
            let before = admission(&observed);
            let mut after = observed.clone();
            plan.ops.iter().for_each(|op| after.apply(op));
            let after = admission(&after);
            for op in &plan.ops {
                observed.apply(op);
                for (at, now) in admission(&observed) {
                    let known = [before.get(&at), after.get(&at)];
                    prop_assert!(known.contains(&Some(&now)), "{:?}: {:?} is none of {:?}", op, now, known);
                }
                for number in 0..u32::from(observed.node.sources[0]) {
                    prop_assert!(observed.vips.contains(&observed.sources[&number]));
                }
                for service in observed.services.values() {
                    if service.ring_length > 0 {
                        let round = &observed.rings[&service.ring_start];
                        let length = usize::from(service.ring_length + service.set_length);
                        prop_assert!(service.set_length > 0 && round.len() >= length);
                        for slot in round.iter().take(length) {
                            prop_assert!(observed.backends[slot].generation > 0);
                        }
                    }
                    let preferred = observed.preferred.get(&service.number).copied().unwrap_or(NOBODY);
                    prop_assert!(preferred == NOBODY || observed.backends[&(preferred - 1)].generation > 0);
                }
            }
            prop_assert_eq!(super::plan(&wanted, &observed).unwrap().ops, vec![]);
            prop_assert_eq!(&observed.own, &wanted.own);
            prop_assert!(observed.vips.iter().all(|vip| *vip != Ipv4Addr::UNSPECIFIED.into()), "0.0.0.0 is no VIP");
            prop_assert_eq!(&observed.fellows, &wanted.fellows);
            prop_assert_eq!(&observed.tunnels, &wanted.tunnels);
            for service in observed.services.values() {
                let own = service.own.checked_sub(1).map(|slot| observed.backends[&slot].delivery);
                prop_assert!(own.is_none_or(|delivery| delivery == Delivery::Local as u16));
            }
            let admitted = admission(&observed);
            for service in &wanted.services {
                for at in service.places() {
                    prop_assert_eq!(&admitted[at].0, &service.allow);
                    prop_assert_eq!(observed.services[at].is_limited, u32::from(service.limit.is_some()));
                    let number = observed.services[at].number;
                    prop_assert!(service.limit.is_none_or(|limit| observed.limits[&number] == limit));
                }
            }
            prop_assert_eq!(observed.allowed.len(), wanted.services.iter().filter(|s| !s.allow.is_empty()).count());
            for (service, slots) in wanted.services.iter().zip(slots(&plan)) {
                for (backend, slot) in service.backends.iter().zip(slots) {
                    prop_assert_eq!(observed.backends[&slot].endpoint, backend.endpoint);
                }
            }
        }
    }
}

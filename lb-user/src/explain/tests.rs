//! What the datapath decides by copies of tables, and how that is put into words.

use lb_ebpf::abi::Backend;
use lb_ebpf::abi::{Delivery, Node, Pulse, Service, SourceLimit, VERSION, service_load};
use lb_ebpf::datapath::balance::Connections;
use lb_ebpf::net::Be128;

use super::*;
use crate::naming::{Named, Naming};
use crate::status::example::example;

const NOW: u64 = 100_000_000_000;

/// Three backends, a round of six places.
fn facts(client: &str) -> Facts {
    let client: SocketAddr = client.parse().unwrap();
    let (vip, net): (SocketAddr, fn(u8) -> String) = match client {
        SocketAddr::V4(_) => ("192.0.2.100:8443".parse().unwrap(), |host| format!("192.0.2.{host}:6443")),
        SocketAddr::V6(_) => ("[2001:db8::100]:8443".parse().unwrap(), |host| format!("[2001:db8::{host}]:6443")),
    };
    let backend = |host: u8| Backend {
        endpoint: net(host).parse::<SocketAddr>().unwrap().into(),
        generation: 1,
        service: 4,
        delivery: Delivery::Translated as u16,
        mac: [2; 6],
        share: 100,
        ..Backend::default()
    };
    let node = Node { version: VERSION, mac: [2, 0, 0, 0, 0, 9], port_count: 100, ..Node::default() };
    let service = Service { number: 4, ring_length: 6, set_length: 3, ring_start: 640, ..Service::default() };
    Facts {
        client,
        listener: vip,
        node,
        vips: [Be128::from(vip.ip())].into(),
        is_own: false,
        service: Some(service),
        is_allowed: true,
        limit: None,
        filled: None,
        full_until: None,
        ring: vec![0, 1, 2, 0, 1, 0, 0, 1, 2],
        backends: (0..3).map(|slot| (u32::from(slot), backend(31 + slot))).collect(),
        connections: BTreeMap::new(),
        pulses: (0..3).map(|slot| (slot, Pulse::default())).collect(),
        now: NOW,
    }
}

fn naming() -> Naming {
    let named = |slot: u16| Named { service: "apiserver".to_owned(), backend: format!("master{}", slot + 1) };
    (0..3).map(|slot| ((slot, 1), named(slot))).collect()
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = facts("192.0.2.10:40000");
    change(&mut facts);
    facts
}

fn service(change: impl FnOnce(&mut Service)) -> Facts {
    with(|facts| change(facts.service.as_mut().unwrap()))
}

fn turns(facts: &Facts) -> Vec<(u32, u32)> {
    let decision = decide(facts);
    assert_eq!(decision.reason, Reason::NewFlow, "{decision:?}");
    decision.turns.into_iter().collect()
}

#[test]
fn by_turns_each_place_counts() {
    for client in ["192.0.2.10:40000", "[2001:db8::10]:40000"] {
        assert_eq!(turns(&facts(client)), [(0, 3), (1, 2), (2, 1)], "{client}");
    }
    let full = with(|facts| {
        facts.backends.get_mut(&0).unwrap().max_connections = 5;
        facts.connections.insert(0, Connections { open: 5, opening: 0 });
    });
    assert!(turns(&full).iter().all(|(slot, _)| *slot != 0), "{:?}", turns(&full));
    let suspect = with(|facts| {
        let millis = u32::try_from(NOW / 1_000_000).unwrap();
        let pulse = Pulse { waiting: 9, since: millis - 500, last: millis - 10, ..Pulse::default() };
        facts.node.suspect_after = 200;
        facts.pulses.insert(1, pulse);
    });
    assert!(turns(&suspect).iter().all(|(slot, _)| *slot != 1), "{:?}", turns(&suspect));
    assert!(suspect.is_suspect(1) && !suspect.is_suspect(0));
}

#[test]
fn hashes_and_the_fewest_connections_leave_one() {
    for balance in [Balance::Source, Balance::Maglev] {
        let hashed = service(|service| service.balance = balance as u16);
        assert_eq!(turns(&hashed).len(), 1);
        let chosen: std::collections::BTreeSet<_> = (1..200)
            .map(|port| {
                let mut facts = hashed.clone();
                facts.client.set_port(port);
                turns(&facts)[0].0
            })
            .collect();
        assert_eq!(chosen.len(), if balance == Balance::Source { 1 } else { 3 });
    }
    let mut least = service(|service| service.balance = Balance::LeastConn as u16);
    for (slot, open) in [(0, 4), (1, 9), (2, 4)] {
        least.connections.insert(slot, Connections { open, opening: 0 });
    }
    assert_eq!(turns(&least).iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 2], "equals take turns");
    least.connections.insert(2, Connections { open: 3, opening: 0 });
    assert_eq!(turns(&least), [(2, 6)]);
}

#[test]
fn refusals_are_those_of_the_datapath() {
    let limit =
        SourceLimit { interval: 1_000_000_000, tolerance: 0, mask: lb_ebpf::abi::mask(128), ..SourceLimit::default() };
    let five = SourceLimit { connections: 5, mask: limit.mask, ..SourceLimit::default() };
    for (facts, reason) in [
        (with(|facts| facts.vips.clear()), Reason::NotVip),
        (with(|facts| facts.service = None), Reason::NotService),
        (with(|facts| facts.node = Node::default()), Reason::NotConfigured),
        (with(|facts| facts.is_own = true), Reason::Martian),
        (with(|facts| facts.client = "127.0.0.1:5".parse().unwrap()), Reason::Martian),
        (service(|service| service.set_length = 0), Reason::NewFlow),
        (service(|service| (service.ring_length, service.set_length) = (0, 0)), Reason::NoBackend),
        (with(|facts| (facts.service.as_mut().unwrap().allow, facts.is_allowed) = (3, false)), Reason::NotAllowed),
        (with(|facts| facts.service.as_mut().unwrap().allow = 3), Reason::NewFlow),
        (
            with(|facts| {
                facts.service.as_mut().unwrap().is_limited = 1;
                (facts.limit, facts.filled) = (Some(limit), Some(NOW + 1_000_000_000));
            }),
            Reason::SourceLimit,
        ),
        (
            with(|facts| {
                facts.service.as_mut().unwrap().is_limited = 1;
                (facts.limit, facts.full_until) = (Some(five), Some(NOW + 1));
            }),
            Reason::SourceFull,
        ),
        (
            with(|facts| {
                facts.service.as_mut().unwrap().max_connections = 7;
                facts.connections.insert(service_load(4), Connections { open: 7, opening: 0 });
            }),
            Reason::ServiceFull,
        ),
    ] {
        assert_eq!(decide(&facts).reason, reason);
    }
}

#[test]
fn an_explanation_names_each_backend_and_why() {
    let mut facts = with(|facts| {
        facts.backends.get_mut(&0).unwrap().share = 0;
        facts.backends.get_mut(&1).unwrap().max_connections = 10;
        facts.connections.insert(1, Connections { open: 10, opening: 1 });
        facts.ring = vec![1, 2, 1, 2, 1, 2, 1, 2, 2];
    });
    facts.service.as_mut().unwrap().set_length = 2;
    let mut status = example();
    status.services.truncate(1);
    (status.services[0].name, status.services[0].fail_open) = ("apiserver".to_owned(), false);
    let mut down = status.services[0].backends[0].clone();
    (down.name, down.state, down.reason) = ("master1".to_owned(), "down".to_owned(), "connection refused".to_owned());
    status.services[0].backends = vec![down];
    let said = explanation(&facts, None, &naming(), &status);
    assert_eq!((said.service.as_deref(), said.balance.as_str()), (Some("apiserver"), "roundrobin"));
    let whys: Vec<_> = said.candidates.iter().map(|of| (of.name.as_str(), of.takes, of.why.as_str())).collect();
    assert_eq!(
        whys,
        [
            ("master1", false, "down: connection refused"),
            ("master2", false, "full: 10 of 10 connections"),
            ("master3", true, "takes connections"),
        ]
    );
    assert!((said.candidates[2].chance - 1.0).abs() < f64::EPSILON, "{said:?}");
    assert_eq!(said.words, "goes to master3, the only one that is open to it");
    assert_eq!((said.allowed.as_str(), said.source_limit.as_str()), ("everyone may connect", "none"));
}

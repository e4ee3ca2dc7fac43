//! What the datapath should do, from the configuration and from what is known of the world. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{Delivery, Endpoint, Node, VERSION, node_flag};
use lb_proto::health::State;
use lb_proto::health::policy::{Member, decide};
use lb_proto::plan::{Wanted, WantedBackend, WantedService};

use crate::config::{Backend, Config, Role, Service, ServiceMode};

/// RSTs each CPU may send in a second: enough for every client of a control plane to be told within two.
const RESETS_PER_SECOND: u32 = 10_000;
/// Mask on the random part of the step between source ports.
const PORT_JITTER: u16 = 7;

/// What is known of the world.
pub trait World {
    /// Health of a backend.
    fn health(&self, service: &str, backend: &str) -> State;
    /// Open connections of a backend.
    fn connections(&self, service: &str, backend: &str) -> u64;
    /// Ethernet address of the next hop towards an address.
    fn next_hop(&self, address: IpAddr) -> Option<[u8; 6]>;
    /// Whether the address is this node's own.
    fn is_own(&self, address: IpAddr) -> bool;
}

/// A service that the datapath cannot serve; the configuration lets none through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is IPv6, which the packet datapath does not serve yet; use IPv4")]
pub struct Unserved(pub SocketAddr);

/// As the datapath's tables have it, which are IPv4's so far.
fn endpoint(address: SocketAddr) -> Result<Endpoint, Unserved> {
    match address {
        SocketAddr::V4(address) => Ok(address.into()),
        SocketAddr::V6(_) => Err(Unserved(address)),
    }
}

/// The interface, as the datapath has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Index.
    pub index: u32,
    /// Its own Ethernet address.
    pub mac: [u8; 6],
    /// Whether packets are redirected to it instead of sent by XDP_TX.
    pub redirect: bool,
    /// Whether the kernel forwards on it, and so answers questions for next hops.
    pub forwards: bool,
    /// Where this node begins among the source ports.
    pub port_offset: u32,
}

/// What is wanted, and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// For the planner.
    pub wanted: Wanted,
    /// Services whose backends all fail and are all used all the same, by name.
    pub fail_open: BTreeMap<String, bool>,
}

impl Desired {
    /// Whether a backend is this node itself.
    #[must_use]
    pub fn has_own(&self) -> bool {
        let mut backends = self.wanted.services.iter().flat_map(|service| &service.backends);
        backends.any(|backend| backend.delivery == Delivery::Local)
    }
}

/// Puts it together.
///
/// # Errors
/// A service that the datapath cannot serve.
pub fn desired(config: &Config, interface: Interface, world: &impl World) -> Result<Desired, Unserved> {
    let mut fail_open = BTreeMap::new();
    let services = config.services.iter().map(|service| {
        let (service_wanted, open) = of_service(service, config.node.role, world)?;
        fail_open.insert(service.name.clone(), open);
        Ok(service_wanted)
    });
    let services = services.collect::<Result<Vec<_>, _>>()?;
    let fellows = fellows(&services);
    Ok(Desired { wanted: Wanted { node: node(config, interface), services, fellows }, fail_open })
}

/// Nodes that forward to this one when they hold the VIP: those with a backend beside one of this node's own.
fn fellows(services: &[WantedService]) -> BTreeSet<[u8; 6]> {
    let direct = services.iter().flat_map(|service| &service.backends).filter(|b| b.delivery == Delivery::Direct);
    direct.map(|backend| backend.mac).filter(|mac| *mac != [0; 6]).collect()
}

fn node(config: &Config, interface: Interface) -> Node {
    let ports = &config.node.source_ports;
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    Node {
        version: VERSION,
        flags: flag(interface.redirect, node_flag::REDIRECT) | flag(interface.forwards, node_flag::FIB),
        ifindex: interface.index,
        resets_per_second: RESETS_PER_SECOND,
        first_port: *ports.start(),
        // 65,536 ports cannot all be asked for: the range begins at 1024.
        port_count: ports.end().saturating_sub(*ports.start()).saturating_add(1),
        port_jitter: PORT_JITTER,
        mac: interface.mac,
        port_offset: interface.port_offset,
    }
}

fn of_service(service: &Service, role: Role, world: &impl World) -> Result<(WantedService, bool), Unserved> {
    let member =
        |backend: &Backend| Member { weight: backend.weight, state: world.health(&service.name, &backend.name) };
    let members: Vec<_> = service.backends.iter().map(member).collect();
    let decision = decide(&members);
    let backends = service.backends.iter().zip(&decision.standings).map(|(backend, standing)| {
        let full = backend.max_connections > 0
            && world.connections(&service.name, &backend.name) >= u64::from(backend.max_connections);
        let own = world.is_own(backend.address.ip());
        // Who forwards has chosen already; whether the backend is well is that node's to judge.
        let share = match role {
            Role::Balancer if standing.eligible && !full => backend.weight,
            Role::Backend if own => 1,
            Role::Balancer | Role::Backend => 0,
        };
        Ok(WantedBackend {
            endpoint: endpoint(backend.address)?,
            share,
            gone: standing.lost && !(own && role == Role::Backend),
            delivery: match (own, service.mode, role) {
                (true, ..) => Delivery::Local,
                (false, ServiceMode::Dsr, Role::Balancer) => Delivery::Direct,
                (false, ..) => Delivery::Translated,
            },
            mac: world.next_hop(backend.address.ip()).unwrap_or_default(),
        })
    });
    let wanted = WantedService {
        listeners: service.listen.iter().map(|listener| endpoint(*listener)).collect::<Result<_, _>>()?,
        idle_seconds: u32::try_from(service.idle_timeout.as_secs()).unwrap_or(u32::MAX),
        backends: backends.collect::<Result<_, _>>()?,
    };
    Ok((wanted, decision.fail_open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    const FILE: &str = r#"
        [node]
        name = "lb1"
        interface = "eth0"
        source_ports = "10000-10999"
        [[service]]
        name = "api"
        listen = "192.0.2.100:8443"
        idle_timeout = "1h"
        [[service.backend]]
        name = "a"
        address = "192.0.2.31:6443"
        weight = 3
        max_connections = 10
        [[service.backend]]
        name = "b"
        address = "192.0.2.32:6443"
    "#;

    struct Known {
        a: State,
        b: State,
        connections: u64,
    }

    impl World for Known {
        fn health(&self, _: &str, backend: &str) -> State {
            if backend == "a" { self.a } else { self.b }
        }

        fn connections(&self, _: &str, _: &str) -> u64 {
            self.connections
        }

        fn next_hop(&self, address: IpAddr) -> Option<[u8; 6]> {
            (address == IpAddr::from([192, 0, 2, 31])).then_some([2, 0, 0, 0, 0, 31])
        }

        fn is_own(&self, address: IpAddr) -> bool {
            address == IpAddr::from([192, 0, 2, 32])
        }
    }

    fn shares(world: &Known) -> (Vec<(u16, bool)>, bool) {
        let config = parse(FILE, "xvip.toml", &Env::default()).unwrap().config;
        let interface = Interface { index: 3, mac: [2; 6], redirect: true, forwards: false, port_offset: 0 };
        let desired = desired(&config, interface, world).unwrap();
        let backends = &desired.wanted.services[0].backends;
        (backends.iter().map(|backend| (backend.share, backend.gone)).collect(), desired.fail_open["api"])
    }

    #[test]
    fn health_and_limits_decide_shares() {
        let (up, down, lost) = (State::Up, State::Down { lost: false }, State::Down { lost: true });
        let of = |a, b, connections| shares(&Known { a, b, connections });
        assert_eq!(of(up, up, 0), (vec![(3, false), (1, false)], false));
        assert_eq!(of(down, up, 0), (vec![(0, false), (1, false)], false), "established connections stay");
        assert_eq!(of(lost, up, 0), (vec![(0, true), (1, false)], false));
        assert_eq!(of(lost, lost, 0), (vec![(3, false), (1, false)], true), "when all fail, all are used");
        assert_eq!(of(up, up, 10), (vec![(0, false), (1, false)], false), "a is full, b has no limit");
    }

    #[test]
    fn the_node_is_described() {
        let config = parse(FILE, "xvip.toml", &Env::default()).unwrap().config;
        let interface = Interface { index: 3, mac: [2; 6], redirect: true, forwards: true, port_offset: 0 };
        let node = node(&config, interface);
        assert_eq!((node.first_port, node.port_count), (10_000, 1000));
        assert_eq!(node.flags, node_flag::REDIRECT | node_flag::FIB);
    }
}

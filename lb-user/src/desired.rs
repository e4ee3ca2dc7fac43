//! What the datapath should do, from the configuration and from what is known of the world. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_ebpf::abi::{
    Balance, Delivery, Endpoint, MAX_FELLOWS, MAX_OWN_ADDRESSES, MAX_SOURCES, Node, VERSION, node_flag,
};
use lb_ebpf::net::{Be32, Be128};
use lb_proto::health::State;
use lb_proto::health::policy::{Member, decide};
use lb_proto::pace::WHOLE;
use lb_proto::plan::{Prefix, Wanted, WantedBackend, WantedService, stable_hash};

use crate::config::{self, Backend, Config, Duty, IpNet, Local, Role, Service, ServiceMode};

/// RSTs each CPU may send in a second: enough for every client of a control plane to be told within two.
const RESETS_PER_SECOND: u32 = 10_000;
/// Below the first repetition of a SYN, which comes after a second (RFC 6298 section 2).
const SYN_PATIENCE_MS: u16 = 700;
/// Far beyond the time from SYN to SYN-ACK between a balancer and its backends.
const SUSPECT_AFTER_MS: u16 = 200;
/// Mask on the random part of the step between source ports.
const PORT_JITTER: u16 = 3;

/// What is known of the world.
pub trait World {
    /// Health of a backend.
    fn health(&self, service: &str, backend: &str) -> State;
    /// How much of its weight a backend has now, in hundredths.
    fn percent(&self, service: &Service, backend: &Backend) -> u16;
    /// Whether the connections of a backend that takes no new ones are to be given up.
    fn is_drained(&self, service: &Service, backend: &Backend) -> bool;
    /// Backends of a service that are configured no more and keep their connections.
    fn leaving(&self, service: &str) -> Vec<Backend>;
    /// Ethernet address of the next hop towards an address.
    fn next_hop(&self, address: IpAddr) -> Option<[u8; 6]>;
    /// Whether the agent of a backend's node has said that it delivers.
    fn delivers(&self, service: &str, backend: &str) -> bool;
    /// How packets that are forwarded as they came reach an address.
    fn way_to(&self, address: IpAddr) -> Way;
    /// Nodes from which this one takes packets inside outer ones.
    fn tunnels(&self) -> BTreeSet<IpAddr>;
    /// Ethernet addresses of nodes that may forward to this one, besides those it forwards to.
    fn fellows(&self) -> BTreeSet<[u8; 6]>;
    /// This node's own addresses, without the VIPs it holds for xvip.
    fn own_addresses(&self) -> &BTreeSet<IpAddr>;
}

/// How packets that are forwarded as they came reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is on the link, or not known to be elsewhere.
    Link,
    /// It is behind routers, and gets them inside outer packets.
    Tunnel,
    /// It is behind routers and cannot get them.
    Beyond,
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
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// Where outer packets come or go.
    pub ends: Ends,
}

/// This node's own addresses where outer packets come or go, one of each IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Of IPv4.
    pub four: Option<Ipv4Addr>,
    /// Of IPv6.
    pub six: Option<Ipv6Addr>,
}

impl Ends {
    /// The first of each version.
    #[must_use]
    pub fn first(addresses: impl Iterator<Item = IpAddr>) -> Self {
        addresses.fold(Self::default(), |ends, address| {
            ends.or(match address {
                IpAddr::V4(address) => Self { four: Some(address), six: None },
                IpAddr::V6(address) => Self { four: None, six: Some(address) },
            })
        })
    }

    /// These, and others' where there is none.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self { four: self.four.or(others.four), six: self.six.or(others.six) }
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.four == Some(address),
            IpAddr::V6(address) => self.six == Some(address),
        }
    }
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
    /// Names of services with a backend that is this node itself, whatever their mode.
    #[must_use]
    pub fn own_services(&self, config: &Config) -> BTreeSet<String> {
        let services = config.services.iter().zip(&self.wanted.services);
        let own = services.filter(|(_, wanted)| wanted.backends.iter().any(|b| b.delivery == Delivery::Local));
        own.map(|(service, _)| service.name.clone()).collect()
    }

    /// Lets the largest segment follow the nodes from which outer packets are wanted after all.
    pub fn limit_segments(&mut self) {
        let node = &mut self.wanted.node;
        (node.mss, node.mss6) = segments(node.mtu, &self.wanted.tunnels);
    }

    /// Whether a backend is this node itself.
    #[must_use]
    pub fn has_own(&self) -> bool {
        let mut backends = self.wanted.services.iter().flat_map(|service| &service.backends);
        backends.any(|backend| backend.delivery == Delivery::Local)
    }
}

/// Puts it together.
#[must_use]
pub fn desired(config: &Config, interface: Interface, world: &impl World) -> Desired {
    let mut fail_open = BTreeMap::new();
    let vips = vips(config);
    let services = config.services.iter().map(|service| {
        let (service_wanted, open) = of_service(service, &vips, config.node.role, world);
        fail_open.insert(service.name.clone(), open);
        service_wanted
    });
    let services: Vec<_> = services.collect();
    let fellows = match config.node.role {
        // A backend whose frames are not known as forwarded is noticed when they come back.
        Role::Balancer => fellows(&services).into_iter().chain(world.fellows()).take(MAX_FELLOWS as usize).collect(),
        // It takes every packet as one that was forwarded.
        Role::Backend => BTreeSet::new(),
    };
    let tunnels = match config.node.role {
        Role::Balancer => BTreeSet::new(),
        Role::Backend => world.tunnels().into_iter().map(Be128::from).collect(),
    };
    // Where the table is too small, some addresses of a very large node are not known as its own.
    let own = world.own_addresses().difference(&vips).filter(|address| !address.is_loopback());
    let own = own.map(|address| (*address).into()).take(MAX_OWN_ADDRESSES as usize).collect();
    let node = node(config, interface, &tunnels);
    Desired { wanted: Wanted { node, services, own, fellows, tunnels, sources: sources(config) }, fail_open }
}

/// Where packets from outside arrive: what the virtual routers carry; without any, all that is listened at.
pub(crate) fn vips(config: &Config) -> BTreeSet<IpAddr> {
    let carried = config.vrrp.iter().flat_map(|router| router.virtual_addresses.iter().map(|vip| vip.address));
    let own: BTreeSet<_> = config.vrrp.iter().filter_map(|router| router.unicast_source).collect();
    let listened = config.services.iter().flat_map(|service| &service.listen);
    let somebodys = listened.filter(|listen| !listen.is_loopback() && !listen.is_everywhere());
    carried.chain(somebodys.map(|listen| listen.address).filter(|address| !own.contains(address))).collect()
}

/// Where a service is found: by packets and local clients, and by local clients alone.
fn places(service: &Service, vips: &BTreeSet<IpAddr>) -> (Vec<Endpoint>, Vec<Endpoint>) {
    let (mut all, mut local) = (BTreeSet::new(), BTreeSet::new());
    for listen in &service.listen {
        for port in listen.ports() {
            if listen.is_everywhere() {
                // Every VIP of its own family.
                let vips = vips.iter().filter(|vip| vip.is_ipv4() == listen.address.is_ipv4());
                all.extend(vips.map(|vip| Endpoint::from(SocketAddr::new(*vip, port))));
            }
            let at = SocketAddr::new(listen.address, port).into();
            if vips.contains(&listen.address) {
                all.insert(at)
            } else {
                local.insert(at)
            };
        }
    }
    (all.into_iter().collect(), local.into_iter().collect())
}

/// Nodes that forward to this one when they hold the VIP: those with a backend beside one of this node's own.
fn fellows(services: &[WantedService]) -> BTreeSet<[u8; 6]> {
    let direct = services.iter().flat_map(|service| &service.backends).filter(|b| b.delivery == Delivery::Direct);
    direct.map(|backend| backend.mac).filter(|mac| *mac != [0; 6]).collect()
}

fn node(config: &Config, interface: Interface, tunnels: &BTreeSet<Be128>) -> Node {
    let (mss, mss6) = segments(interface.mtu, tunnels);
    let ports = &config.node.source_ports;
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    Node {
        version: VERSION,
        flags: flag(interface.redirect, node_flag::REDIRECT)
            | flag(interface.forwards, node_flag::FIB)
            | flag(config.node.role == Role::Backend, node_flag::DELIVERS_ONLY),
        ifindex: interface.index,
        resets_per_second: RESETS_PER_SECOND,
        first_port: *ports.start(),
        // 65,536 ports cannot all be asked for: the range begins at 1024.
        port_count: ports.end().saturating_sub(*ports.start()).saturating_add(1),
        port_jitter: PORT_JITTER,
        mac: interface.mac,
        port_offset: interface.port_offset,
        address: interface.ends.four.map(Be32::from).unwrap_or_default(),
        mtu: interface.mtu,
        mss,
        address6: interface.ends.six.map(Be128::from).unwrap_or_default(),
        mss6,
        port_stride: stride(&vips(config), ports.len() as u32),
        sources: [true, false]
            .map(|four| config.node.source_addresses.iter().filter(|address| address.is_ipv4() == four).count() as u8),
        syn_patience: SYN_PATIENCE_MS,
        suspect_after: SUSPECT_AFTER_MS,
        pad: 0,
    }
}

/// Source addresses towards backends, by their number.
fn sources(config: &Config) -> BTreeMap<u32, Be128> {
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) =
        config.node.source_addresses.iter().partition(|address| address.is_ipv4());
    let (four, six) = ((0..MAX_SOURCES).zip(four), (MAX_SOURCES..2 * MAX_SOURCES).zip(six));
    four.chain(six).map(|(number, address)| (number, address.into())).collect()
}

/// How far it is from one source port to the next of `count`: with no factor in common, so that every port has its turn. The
/// nodes of the same VIPs have the same, so that those which begin elsewhere stay apart.
fn stride(vips: &BTreeSet<IpAddr>, count: u32) -> u16 {
    const fn have_factor(mut a: u32, mut b: u32) -> bool {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a != 1
    }
    // FNV-1a, the same in every version and on every machine.
    let bytes = vips.iter().flat_map(|vip| Be128::from(*vip).wire());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let first = hash >> 16;
    let found = (0..count).map(|more| 1 + (first + more) % count).find(|stride| !have_factor(*stride, count));
    found.and_then(|stride| u16::try_from(stride).ok()).unwrap_or(1)
}

/// The largest segments that clients of IPv4 and of IPv6 are told to send: they have to fit into outer packets of their
/// version, where there are any. TCP's header is 20 bytes, the two of IPv4 are 40, those of IPv6 80.
fn segments(mtu: u16, tunnels: &BTreeSet<Be128>) -> (u16, u16) {
    let of = |is_four: bool, headers: u16| {
        let is_any = tunnels.iter().any(|node| node.mapped().is_some() == is_four);
        if is_any { mtu.saturating_sub(headers) } else { 0 }
    };
    (of(true, 60), of(false, 100))
}

fn of_service(service: &Service, vips: &BTreeSet<IpAddr>, role: Role, world: &impl World) -> (WantedService, bool) {
    let is_own = |backend: &Backend| world.own_addresses().contains(&backend.address.ip());
    let forwards = service.mode == ServiceMode::Dsr && role == Role::Balancer;
    let way = |backend: &Backend| world.way_to(backend.address.ip());
    let is_beyond = |backend: &Backend| forwards && !is_own(backend) && way(backend) == Way::Beyond;
    let member = |backend: &Backend| Member {
        weight: backend.taken_weight(),
        state: match is_beyond(backend) {
            true => State::Down { lost: false },
            false => world.health(&service.name, &backend.name),
        },
    };
    let members: Vec<_> = service.backends.iter().map(member).collect();
    let decision = decide(&members);
    let percents: Vec<_> = service.backends.iter().map(|backend| world.percent(service, backend)).collect();
    // Weights alone say how small a share can be.
    let grows = percents.iter().any(|percent| *percent < WHOLE);
    let delivery = |backend: &Backend| {
        // Of a node that has not said it delivers, nothing is known but that its server answers: where all fail and are
        // used all the same, it gets translated packets, for which it needs no agent.
        let delivers = forwards && world.delivers(&service.name, &backend.name);
        match is_own(backend) {
            true => Delivery::Local,
            false if !delivers => Delivery::Translated,
            false => match way(backend) {
                Way::Link => Delivery::Direct,
                Way::Tunnel => Delivery::Tunnelled,
                Way::Beyond => Delivery::Translated,
            },
        }
    };
    let wanted = |backend: &Backend, share: u16, gone: bool| WantedBackend {
        endpoint: backend.address.into(),
        share,
        weight: backend.weight,
        max_connections: backend.max_connections,
        gone,
        delivery: delivery(backend),
        mac: world.next_hop(backend.address.ip()).unwrap_or_default(),
    };
    let backends = service.backends.iter().zip(decision.standings.iter().zip(percents));
    let backends = backends.map(|(backend, (standing, percent))| {
        let weight = if grows { backend.weight.saturating_mul(percent) } else { backend.weight };
        // Who forwards here has judged the backend; its packets are to reach it as long as it is there.
        let judged = !(is_own(backend) && role == Role::Backend);
        let disabled = backend.duty == Duty::Disabled;
        let gone = standing.lost || disabled || !standing.eligible && world.is_drained(service, backend);
        wanted(backend, if standing.eligible { weight } else { 0 }, gone && judged)
    });
    let leaving = world.leaving(&service.name);
    let leaving = leaving.iter().map(|backend| WantedBackend { weight: 0, ..wanted(backend, 0, false) });
    let backends: Vec<_> = backends.chain(leaving).collect();
    let mut candidates = service.backends.iter().zip(&backends);
    let (listeners, local_listeners) = places(service, vips);
    let wanted = WantedService {
        listeners,
        local_listeners,
        preferred: match service.local {
            Local::Prefer => candidates.position(|(backend, wanted)| wanted.share > 0 && is_own(backend)),
            Local::Spread => None,
        },
        idle_seconds: u32::try_from(service.idle_timeout.as_secs()).unwrap_or(u32::MAX),
        balance: match service.balance {
            config::Balance::RoundRobin => Balance::RoundRobin,
            config::Balance::LeastConn => Balance::LeastConn,
            config::Balance::Source => Balance::Source,
            config::Balance::Maglev => Balance::Maglev,
        },
        key: key(service.hash_key.as_deref().unwrap_or_default()),
        max_connections: service.max_connections,
        allow: service.allow.iter().map(|net| prefix(*net)).collect(),
        limit: service.source_limit.map(|limit| limit.spelled(service.family())),
        backends,
    };
    (wanted, decision.fail_open)
}

/// A prefix as the tables have it.
fn prefix(net: IpNet) -> Prefix {
    let before = if net.address.is_ipv4() { 96 } else { 0 };
    Prefix { address: net.network().into(), bits: before + net.prefix }
}

/// What the hash of clients is keyed with: from nothing that could differ between nodes but what is configured for it.
fn key(words: &str) -> [u32; 2] {
    let key = stable_hash(words.bytes());
    [key as u32, (key >> 32) as u32]
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

    const INTERFACE: Interface = Interface {
        index: 3,
        mac: [2; 6],
        redirect: true,
        forwards: false,
        port_offset: 0,
        mtu: 1500,
        ends: Ends { four: None, six: None },
    };

    struct Known {
        a: State,
        b: State,
        /// Of a's weight.
        percent: u16,
        /// a is.
        drained: bool,
        leaving: Vec<Backend>,
        own: BTreeSet<IpAddr>,
        /// The agent of a's node says so.
        delivers: bool,
        /// To all backends.
        way: Way,
        tunnels: BTreeSet<IpAddr>,
    }

    impl World for Known {
        fn health(&self, _: &str, backend: &str) -> State {
            if backend == "a" { self.a } else { self.b }
        }

        fn percent(&self, _: &Service, backend: &Backend) -> u16 {
            if backend.name == "a" { self.percent } else { WHOLE }
        }

        fn is_drained(&self, _: &Service, backend: &Backend) -> bool {
            backend.name == "a" && self.drained
        }

        fn leaving(&self, _: &str) -> Vec<Backend> {
            self.leaving.clone()
        }

        fn next_hop(&self, address: IpAddr) -> Option<[u8; 6]> {
            (address == IpAddr::from([192, 0, 2, 31])).then_some([2, 0, 0, 0, 0, 31])
        }

        fn delivers(&self, _: &str, backend: &str) -> bool {
            backend == "a" && self.delivers
        }

        fn way_to(&self, _: IpAddr) -> Way {
            self.way
        }

        fn tunnels(&self) -> BTreeSet<IpAddr> {
            self.tunnels.clone()
        }

        fn fellows(&self) -> BTreeSet<[u8; 6]> {
            [[2, 0, 0, 0, 0, 21]].into()
        }

        fn own_addresses(&self) -> &BTreeSet<IpAddr> {
            &self.own
        }
    }

    impl Known {
        /// On the node of backend b.
        fn new(a: State, b: State) -> Self {
            let (own, tunnels) = ([[192, 0, 2, 32].into()].into(), [[203, 0, 113, 21].into()].into());
            let (delivers, way) = (true, Way::Link);
            Self { a, b, percent: WHOLE, drained: false, leaving: Vec::new(), own, delivers, way, tunnels }
        }
    }

    fn shares(world: &Known) -> (Vec<(u16, bool)>, bool) {
        let config = parse(FILE, "xvip.toml", &Env::default()).unwrap().config;
        let desired = desired(&config, INTERFACE, world);
        let backends = &desired.wanted.services[0].backends;
        (backends.iter().map(|backend| (backend.share, backend.gone)).collect(), desired.fail_open["api"])
    }

    #[test]
    fn health_and_limits_decide_shares() {
        let (up, down, lost) = (State::Up, State::Down { lost: false }, State::Down { lost: true });
        let of = |a, b| shares(&Known::new(a, b));
        assert_eq!(of(up, up), (vec![(3, false), (1, false)], false));
        assert_eq!(of(down, up), (vec![(0, false), (1, false)], false), "established connections stay");
        assert_eq!(of(lost, up), (vec![(0, true), (1, false)], false));
        assert_eq!(of(lost, lost), (vec![(3, false), (1, false)], true), "when all fail, all are used");
        let drained = |a, b| shares(&Known { drained: true, ..Known::new(a, b) });
        assert_eq!(drained(down, up), (vec![(0, true), (1, false)], false), "until the deadline");
        assert_eq!(drained(down, down), (vec![(3, false), (1, false)], true));
        let growing = Known { percent: 5, ..Known::new(up, up) };
        assert_eq!(shares(&growing), (vec![(15, false), (100, false)], false), "a twentieth of three beside one");
        let leaving = Backend {
            name: "c".into(),
            address: ([192, 0, 2, 33], 6443).into(),
            weight: 9,
            max_connections: 0,
            duty: Duty::Serving,
        };
        let leaving = Known { leaving: vec![leaving], ..Known::new(up, up) };
        assert_eq!(shares(&leaving), (vec![(3, false), (1, false), (0, false)], false), "its connections stay");
    }

    #[test]
    fn what_a_command_takes_out_keeps_its_weight_in_the_deal() {
        let (up, down) = (State::Up, State::Down { lost: false });
        let of = |duty, world: &Known| {
            let mut config = parse(FILE, "xvip.toml", &Env::default()).unwrap().config;
            config.services[0].backends[0].duty = duty;
            let desired = desired(&config, INTERFACE, world);
            let backends = desired.wanted.services[0].backends.iter();
            backends.map(|backend| (backend.share, backend.weight, backend.gone)).collect::<Vec<_>>()
        };
        let both = Known::new(up, up);
        assert_eq!(of(Duty::Serving, &both), [(3, 3, false), (1, 1, false)]);
        assert_eq!(of(Duty::Drained, &both), [(0, 3, false), (1, 1, false)]);
        assert_eq!(of(Duty::Disabled, &both), [(0, 3, true), (1, 1, false)]);
        let failing = Known::new(up, down);
        assert_eq!(of(Duty::Drained, &failing), [(0, 3, false), (1, 1, false)], "nobody else is left");
    }

    #[test]
    fn the_datapath_knows_balance_and_limits() {
        let file = FILE.replace(
            "idle_timeout",
            "balance = \"maglev\"\n        hash_key = \"k\"\n        max_connections = 50\n        idle_timeout",
        );
        let service = &wanted(&file, &Known::new(State::Up, State::Up)).services[0];
        assert_eq!((service.balance, service.max_connections), (Balance::Maglev, 50));
        assert_eq!((service.backends[0].weight, service.backends[0].max_connections), (3, 10));
        let unkeyed = &wanted(FILE, &Known::new(State::Up, State::Up)).services[0];
        assert_eq!(unkeyed.balance, Balance::RoundRobin);
        assert_ne!(service.key, unkeyed.key);
    }

    #[test]
    fn every_port_has_its_turn_whatever_the_vips_are() {
        for count in [1, 64, 100, 1000, 31_744, 64_512] {
            let vips = |last: u8| BTreeSet::from([IpAddr::from([192, 0, 2, last])]);
            let strides: BTreeSet<_> = (0..50).map(|last| stride(&vips(last), count)).collect();
            assert!(count < 1000 || strides.len() > 25, "{count}: {strides:?}");
            for stride in strides {
                let places: BTreeSet<_> = (0..count).map(|turn| turn * u32::from(stride) % count).collect();
                assert_eq!(places.len(), count as usize, "{count} by {stride}");
            }
        }
    }

    #[test]
    fn source_addresses_are_counted_and_numbered_by_family() {
        let file = FILE.replace(
            "interface =",
            "source_addresses = [\"2001:db8::9\", \"192.0.2.110\", \"192.0.2.111\"]\n interface =",
        );
        let wanted = wanted(&file, &Known::new(State::Up, State::Up));
        assert_eq!(wanted.node.sources, [2, 1]);
        let address = |text: &str| Be128::from(text.parse::<IpAddr>().unwrap());
        let sources = [(0, address("192.0.2.110")), (1, address("192.0.2.111")), (8, address("2001:db8::9"))];
        assert_eq!(wanted.sources, sources.into());
    }

    #[test]
    fn the_node_is_described() {
        let config = parse(FILE, "xvip.toml", &Env::default()).unwrap().config;
        let node = node(&config, Interface { forwards: true, ..INTERFACE }, &BTreeSet::new());
        assert_eq!((node.first_port, node.port_count), (10_000, 1000));
        assert_eq!(node.flags, node_flag::REDIRECT | node_flag::FIB);
    }

    fn wanted(file: &str, known: &Known) -> Wanted {
        let config = parse(file, "xvip.toml", &Env::default()).unwrap_or_else(|faults| panic!("{faults}")).config;
        desired(&config, INTERFACE, known).wanted
    }

    #[test]
    fn the_nodes_own_server_is_preferred_while_new_connections_may_go_there() {
        let (up, down) = (State::Up, State::Down { lost: true });
        let preferred = |file: &str, a, b| wanted(file, &Known::new(a, b)).services[0].preferred;
        assert_eq!(preferred(FILE, up, up), Some(1));
        assert_eq!(preferred(FILE, up, down), None);
        assert_eq!(preferred(FILE, down, down), Some(1), "when all fail, all are used");
        let spread = FILE.replace("idle_timeout", "local = \"spread\"\n        idle_timeout");
        assert_eq!(preferred(&spread, up, up), None);
    }

    #[test]
    fn places_of_packets_and_places_of_local_clients() {
        let file = FILE.replace(
            "listen = \"192.0.2.100:8443\"",
            "listen = [\"192.0.2.100:8443-8444\", \"0.0.0.0:4300\", \"127.0.0.1:8443\", \"192.0.2.21:9443\"]",
        );
        let routers = "[[vrrp]]\nname = \"k\"\nvirtual_router_id = 1\nunicast_source = \"192.0.2.21\"\n\
                       virtual_addresses = [\"192.0.2.100/24\", \"192.0.2.101/24\"]\n[[service]]";
        let file = file.replacen("[[service]]", routers, 1);
        let own: [IpAddr; 3] = [[127, 0, 0, 1].into(), [192, 0, 2, 21].into(), [192, 0, 2, 100].into()];
        let known = Known { own: own.into(), ..Known::new(State::Up, State::Up) };
        let everywhere = wanted(&file, &known);
        let shown = |places: &[Endpoint]| {
            let place = |at: &Endpoint| SocketAddr::from(*at).to_string();
            let mut places: Vec<_> = places.iter().map(place).collect();
            places.sort();
            places
        };
        let service = &everywhere.services[0];
        assert_eq!(
            shown(&service.listeners),
            ["192.0.2.100:4300", "192.0.2.100:8443", "192.0.2.100:8444", "192.0.2.101:4300"]
        );
        assert_eq!(shown(&service.local_listeners), ["0.0.0.0:4300", "127.0.0.1:8443", "192.0.2.21:9443"]);
        let node = std::net::Ipv4Addr::new(192, 0, 2, 21);
        assert_eq!(everywhere.own, [IpAddr::from(node).into()].into(), "neither VIPs nor loopback");

        let one = wanted(FILE, &known);
        assert_eq!(shown(&one.services[0].listeners), ["192.0.2.100:8443"]);
        assert_eq!(one.own, everywhere.own, "nobody outside has them either");
    }

    fn of_a(file: &str, known: &Known) -> (Delivery, u16) {
        let backend = wanted(file, known).services[0].backends[0];
        (backend.delivery, backend.share)
    }

    #[test]
    fn packets_are_forwarded_as_they_came_to_neighbours_that_deliver() {
        let up = State::Up;
        let dsr = FILE.replace("idle_timeout", "mode = \"dsr\"\n        idle_timeout");
        let known = Known::new(up, up);
        assert_eq!(of_a(FILE, &known), (Delivery::Translated, 3), "in mode snat never");
        assert_eq!(of_a(&dsr, &known), (Delivery::Direct, 3));
        let macs: BTreeSet<[u8; 6]> = [[2, 0, 0, 0, 0, 21], [2, 0, 0, 0, 0, 31]].into();
        assert_eq!(wanted(&dsr, &known).fellows, macs, "who it forwards to, and who else has an agent");

        let silent = || Known { delivers: false, ..Known::new(up, up) };
        assert_eq!(of_a(&dsr, &silent()), (Delivery::Translated, 3), "until its agent has said so");
        let all_down = Known { a: State::Down { lost: false }, b: State::Down { lost: false }, ..silent() };
        assert_eq!(of_a(&dsr, &all_down), (Delivery::Translated, 3), "when all fail, all are used");
        let behind = |way| Known { way, ..Known::new(up, up) };
        assert_eq!(of_a(&dsr, &behind(Way::Tunnel)), (Delivery::Tunnelled, 3));
        assert_eq!(wanted(&dsr, &behind(Way::Tunnel)).fellows, [[2, 0, 0, 0, 0, 21]].into(), "no router is a fellow");
        assert_eq!(of_a(&dsr, &behind(Way::Beyond)), (Delivery::Translated, 0));
        let alone = Known { way: Way::Beyond, b: State::Down { lost: false }, ..Known::new(up, up) };
        assert_eq!(of_a(&dsr, &alone), (Delivery::Translated, 3), "when all fail, all are used");
    }

    #[test]
    fn a_node_that_only_delivers_says_so_and_forwards_nothing() {
        let text = FILE.replace("idle_timeout", "mode = \"dsr\"\n        idle_timeout");
        let text = text.replace("[node]", "[node]\n        role = \"backend\"");
        let lost = State::Down { lost: true };
        let node = wanted(&text, &Known::new(State::Up, lost));
        assert_eq!(node.node.flags & node_flag::DELIVERS_ONLY, node_flag::DELIVERS_ONLY);
        assert!(node.fellows.is_empty());
        assert_eq!((node.tunnels.len(), node.node.mss, node.node.mss6), (1, 1440, 0));
        let six = "2001:db8::21".parse().unwrap();
        let known = Known { tunnels: [six].into(), ..Known::new(State::Up, lost) };
        let of_six = wanted(&text, &known);
        assert_eq!((of_six.tunnels, of_six.node.mss, of_six.node.mss6), ([six.into()].into(), 0, 1400));
        let balancer =
            wanted(&FILE.replace("idle_timeout", "mode = \"dsr\"\n        idle_timeout"), &Known::new(State::Up, lost));
        assert_eq!((balancer.tunnels.len(), balancer.node.mss, balancer.node.mss6), (0, 0, 0));
        let [a, b] = node.services[0].backends[..] else { panic!() };
        assert_eq!((a.delivery, a.share), (Delivery::Translated, 3), "for its own clients");
        assert_eq!((b.delivery, b.share, b.gone), (Delivery::Local, 0, false), "what is forwarded reaches it");
    }
}

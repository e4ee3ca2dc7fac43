//! A host on which all is well, and what each departure from it means.

use std::net::IpAddr;
use std::time::Duration;

use lb_proto::health::{Outcome, Phase};
use lb_proto::wire::arp::Mac;

use super::judge;
use crate::bpf::choose;
use crate::config::{self, Datapath};
use crate::doctor::facts::*;
use crate::doctor::finding::{Check, Finding, Severity};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x22]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn subnet(address: &str) -> Subnet {
    Subnet { address: ip(address), prefix: 24 }
}

/// A balancer with a card, a peer, one VIP and one backend, before the agent has ever run.
fn well() -> Facts {
    Facts {
        configuration: Configuration::Good {
            host_lacks: None,
            datapath: Datapath::Auto,
            interface: "eth0".into(),
            source_ports: 1024..=32767,
            metrics: "0.0.0.0:9910".parse().unwrap(),
        },
        keys: vec![],
        page: Page::default(),
        host: Host {
            kernel: Ok("6.18.5-amd64".into()),
            btf: true,
            realtime: false,
            jit: Ok(1),
            bpffs: true,
            cgroup: Ok(Some("/sys/fs/cgroup".into())),
            capabilities: Ok(u64::MAX),
            datapath_inside: true,
            port_range: Ok(32768..=60999),
            cpus: 4,
            processes: Ok(vec![]),
        },
        devices: vec![Device {
            name: "eth0".into(),
            traits: choose::Facts {
                driver: Some("ixgbe".into()),
                native_xdp: Some(true),
                has_tcx: true,
                mtu: 1500,
                ..choose::Facts::default()
            },
            up: true,
            ethernet: true,
            mtu: 1500,
            master: None,
            vlan: None,
            driver: Ok("ixgbe".into()),
            queues: Ok(4),
            offloads: Ok(Offloads { rx_checksum: true, tx_checksum: true, tso: true, gro: true, lro: false }),
            programs: vec![],
            rp_filter: Ok(2),
            arp_ignore: Ok(0),
        }],
        others: vec![],
        routers: vec![Router {
            name: "k8s".into(),
            interface: "eth0".into(),
            vrid: 51,
            version: 3,
            interval: Duration::from_millis(100),
            addresses: vec![ip("192.0.2.100")],
            peers: vec![(ip("192.0.2.22"), Ok(Answer::From(vec![MAC])))],
        }],
        adverts: vec![],
        deaf: vec![],
        listened: Duration::from_secs(3),
        vips: vec![Vip {
            router: "k8s".into(),
            address: ip("192.0.2.100"),
            interface: "eth0".into(),
            subnets: vec![subnet("192.0.2.21")],
            held: None,
            answers: Ok(Answer::From(vec![])),
        }],
        services: vec![Service {
            name: "apiserver".into(),
            listen: vec![listen("192.0.2.100:8443")],
            tls: true,
            check_fails: None,
            backends: vec![backend("master1", "192.0.2.31"), backend("master2", "192.0.2.32")],
        }],
        listeners: Ok(vec![]),
    }
}

fn listen(text: &str) -> config::Listen {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

fn backend(name: &str, address: &str) -> Backend {
    Backend {
        name: name.into(),
        address: format!("{address}:6443").parse().unwrap(),
        route: Ok(Way { interface: "eth0".into(), gateway: None, local: false }),
        outcome: Some((Outcome::Ready { status: Some(200) }, Duration::from_millis(3))),
        path_mtu: Some(1500),
        certificate: Some(Ok(Certificate {
            lacks: vec![],
            names: vec![],
            not_before: Some(NOW - DAY),
            not_after: Some(NOW + 365 * DAY),
        })),
    }
}

/// What the other router of the group says.
fn peer() -> Advert {
    Advert {
        interface: "eth0".into(),
        source: ip("192.0.2.22"),
        version: 3,
        vrid: 51,
        priority: 110,
        interval: Duration::from_millis(100),
        addresses: vec![ip("192.0.2.100")],
    }
}

fn program(name: &str, hook: Hook) -> Vec<Seen<Program>> {
    vec![Ok(Program { hook, name: Some(name.into()), id: Some(7) })]
}

fn listener(address: &str, process: &str) -> Seen<Vec<Listener>> {
    Ok(vec![Listener { address: address.parse().unwrap(), process: Some((process.into(), 7)) }])
}

fn ask_for(facts: &mut Facts, asked: Datapath) {
    if let Configuration::Good { datapath, .. } = &mut facts.configuration {
        *datapath = asked;
    }
}

fn certificate(facts: &mut Facts) -> &mut Certificate {
    facts.services[0].backends[0].certificate.as_mut().unwrap().as_mut().unwrap()
}

fn page_valid_for(days: u64) -> Option<Seen<(std::path::PathBuf, Vec<Certificate>)>> {
    let (lacks, names) = (vec![], vec![]);
    let server = Certificate { lacks, names, not_before: Some(NOW - DAY), not_after: Some(NOW + days * DAY) };
    let authority = Certificate { not_after: Some(NOW + 365 * DAY), ..server.clone() };
    Some(Ok(("/c".into(), vec![server, authority])))
}

fn clients(valid_days: u64, list_days: u64) -> Option<Seen<Clients>> {
    let (lacks, names) = (vec![], vec![]);
    let authority = Certificate { lacks, names, not_before: Some(NOW - DAY), not_after: Some(NOW + valid_days * DAY) };
    let list = |next_update| RevocationList { issuer: "CN=a".into(), next_update };
    let lists = vec![list(Some(NOW + list_days * DAY)), list(None)];
    Some(Ok(Clients { path: "/a".into(), authorities: vec![authority], lists }))
}

fn matter(findings: &[Finding]) -> Vec<(Severity, Check)> {
    let matter = findings.iter().filter(|finding| finding.severity != Severity::Ok);
    matter.map(|finding| (finding.severity, finding.check)).collect()
}

/// Each departure: its name, how it is made, and every finding that is not ok.
type Case = (&'static str, fn(&mut Facts), &'static [(Severity, Check)]);

use Check as C;
use Severity::{Note, Problem, Warning};

const HOST: &[Case] = &[
    (
        "a key file that cannot be used",
        |f| f.keys = vec![KeyFile { path: "/etc/xvip/sync.key".into(), usable: Err("it is missing".into()) }],
        &[(Problem, C::Keys)],
    ),
    (
        "a key file that can",
        |f| f.keys = vec![KeyFile { path: "/etc/xvip/sync.key".into(), usable: Ok("it holds a key".into()) }],
        &[],
    ),
    ("passwords that cannot be used", |f| f.page.passwords = Some(Err("no".into())), &[(Problem, C::Page)]),
    ("passwords for the host alone", |f| f.page.passwords = Some(Ok("/p".into())), &[(Note, C::Page)]),
    ("a key of another certificate", |f| f.page.tls = Some(Err("no".into())), &[(Problem, C::Page)]),
    (
        "passwords and a certificate for long",
        |f| (f.page.passwords, f.page.tls) = (Some(Ok("/p".into())), page_valid_for(31)),
        &[],
    ),
    ("a page's certificate for a month", |f| f.page.tls = page_valid_for(29), &[(Warning, C::Page)]),
    ("a page's certificate that is over", |f| f.page.tls = page_valid_for(0), &[(Problem, C::Page)]),
    ("authorities that cannot be used", |f| f.page.clients = Some(Err("no".into())), &[(Problem, C::Page)]),
    ("authorities for long", |f| f.page.clients = clients(31, 1), &[]),
    ("an authority for a month", |f| f.page.clients = clients(29, 1), &[(Warning, C::Page)]),
    ("an authority that is over", |f| f.page.clients = clients(0, 1), &[(Warning, C::Page)]),
    ("an old revocation list", |f| f.page.clients = clients(31, 0), &[(Warning, C::Page)]),
    ("old kernel", |f| f.host.kernel = Ok("5.10.0-28".into()), &[(Problem, C::Kernel)]),
    (
        "kernel too old for a veth",
        |f| {
            f.host.kernel = Ok("5.15.0".into());
            f.devices[0].traits.kind = Some("veth".into());
        },
        &[(Problem, C::Kernel)],
    ),
    ("a kernel that was not tried", |f| f.host.kernel = Ok("5.15.0".into()), &[(Warning, C::Kernel)]),
    ("no tcx", |f| f.host.kernel = Ok("6.1.0-56-amd64".into()), &[(Note, C::Kernel)]),
    ("no version", |f| f.host.kernel = Ok("mainline".into()), &[(Note, C::Kernel)]),
    ("a real-time kernel", |f| f.host.realtime = true, &[(Warning, C::Realtime)]),
    ("no BTF", |f| f.host.btf = false, &[(Problem, C::Btf)]),
    ("no JIT", |f| f.host.jit = Ok(0), &[(Warning, C::Jit)]),
    ("JIT unseen", |f| f.host.jit = Err("not permitted".into()), &[(Note, C::Jit)]),
    ("no bpffs", |f| f.host.bpffs = false, &[(Note, C::Bpffs)]),
    ("no cgroup 2", |f| f.host.cgroup = Ok(None), &[(Warning, C::Cgroup)]),
    ("no capabilities", |f| f.host.capabilities = Ok(0), &[(Note, C::Capabilities)]),
    ("old root", |f| f.host.capabilities = Ok(1 << 12 | 1 << 13 | 1 << 21), &[]),
    ("stub", |f| f.host.datapath_inside = false, &[(Problem, C::Build)]),
    ("ports meet", |f| f.host.port_range = Ok(30000..=60999), &[(Note, C::SourcePorts)]),
    ("keepalived", |f| f.host.processes = Ok(vec![("keepalived".into(), 7)]), &[(Warning, C::Processes)]),
    ("haproxy", |f| f.host.processes = Ok(vec![("haproxy".into(), 7)]), &[(Note, C::Processes)]),
];

const DEVICE: &[Case] = &[
    ("down", |f| f.devices[0].up = false, &[(Problem, C::Device)]),
    ("no Ethernet", |f| f.devices[0].ethernet = false, &[(Problem, C::Device)]),
    ("few queues", |f| f.devices[0].queues = Ok(1), &[(Note, C::Queues)]),
    ("no queues known", |f| f.devices[0].queues = Err("no".into()), &[]),
    ("LRO", |f| f.devices[0].offloads.as_mut().unwrap().lro = true, &[(Warning, C::Offloads)]),
    ("hardware GRO", |f| f.devices[0].traits.joins = true, &[(Note, C::Offloads)]),
    (
        "native XDP without a driver for it",
        |f| {
            f.devices[0].traits.native_xdp = Some(false);
            ask_for(f, Datapath::Xdp);
        },
        &[(Problem, C::Datapath)],
    ),
    (
        "native XDP on a veth",
        |f| {
            f.devices[0].traits.kind = Some("veth".into());
            ask_for(f, Datapath::Xdp);
        },
        &[(Warning, C::Datapath), (Note, C::Offloads)],
    ),
    (
        "somebody's XDP where there is no tcx",
        |f| {
            f.devices[0].programs = program("foreign", Hook::XdpNative);
            (f.devices[0].traits.foreign_xdp, f.devices[0].traits.has_tcx) = (Some(7), false);
        },
        &[(Problem, C::Datapath), (Warning, C::Programs)],
    ),
    ("generic XDP", |f| ask_for(f, Datapath::XdpGeneric), &[(Note, C::Datapath)]),
    (
        "large packets with native XDP",
        |f| {
            (f.devices[0].mtu, f.devices[0].traits.mtu) = (9000, 9000);
            f.services[0].backends.iter_mut().for_each(|backend| backend.path_mtu = Some(9000));
            ask_for(f, Datapath::Xdp);
        },
        &[(Warning, C::Datapath), (Problem, C::Mtu)],
    ),
    (
        "port of a bridge",
        |f| f.devices[0].master = Some(("br0".into(), Some("bridge".into()))),
        &[(Warning, C::Master)],
    ),
    ("VLAN", |f| f.devices[0].vlan = Some(100), &[]),
    ("somebody's XDP", |f| f.devices[0].programs = program("foreign", Hook::XdpNative), &[(Warning, C::Programs)]),
    (
        "somebody's XDP where XDP is asked for",
        |f| {
            f.devices[0].programs = program("foreign", Hook::XdpGeneric);
            ask_for(f, Datapath::Xdp);
        },
        &[(Problem, C::Programs)],
    ),
    (
        "somebody's tcx",
        |f| f.devices[0].programs = program("cil", Hook::Tcx { ingress: true }),
        &[(Warning, C::Programs)],
    ),
    (
        "somebody's filter, out",
        |f| f.devices[0].programs = program("u32", Hook::Filter { ingress: false }),
        &[(Note, C::Programs)],
    ),
    ("our own", |f| f.devices[0].programs = program("xvip", Hook::XdpNative), &[]),
    (
        "a program without a name",
        |f| {
            f.devices[0].programs = vec![Ok(Program { hook: Hook::XdpNative, name: None, id: Some(7) })];
        },
        &[(Note, C::Programs)],
    ),
    ("programs unseen", |f| f.devices[0].programs = vec![Err("not permitted".into())], &[(Note, C::Programs)]),
    ("no ARP", |f| f.devices[0].arp_ignore = Ok(8), &[(Problem, C::ArpIgnore)]),
    ("strict filter, one home", |f| f.devices[0].rp_filter = Ok(1), &[]),
    (
        "strict filter, two homes, both in the VIP's subnet",
        |f| {
            f.devices[0].rp_filter = Ok(1);
            f.others = vec![Other { name: "eth1".into(), subnets: vec![subnet("192.0.2.201")], arp_ignore: Ok(0) }];
        },
        &[(Note, C::RpFilter), (Warning, C::ArpIgnore)],
    ),
    (
        "a second interface that keeps quiet",
        |f| {
            f.others = vec![Other { name: "eth1".into(), subnets: vec![subnet("192.0.2.201")], arp_ignore: Ok(1) }];
        },
        &[],
    ),
];

const NETWORK: &[Case] = &[
    ("the peer", |f| f.adverts = vec![peer()], &[]),
    (
        "the peer holds it",
        |f| {
            f.adverts = vec![peer()];
            f.vips[0].answers = Ok(Answer::From(vec![MAC]));
        },
        &[],
    ),
    (
        "our VRID, other VIPs",
        |f| {
            f.adverts = vec![Advert { addresses: vec![ip("192.0.2.200")], source: ip("192.0.2.9"), ..peer() }];
        },
        &[(Problem, C::Adverts)],
    ),
    (
        "our VRID, more VIPs",
        |f| {
            f.adverts = vec![Advert { addresses: vec![ip("192.0.2.100"), ip("192.0.2.200")], ..peer() }];
        },
        &[(Problem, C::Adverts)],
    ),
    (
        "our VIP, another VRID",
        |f| {
            f.adverts = vec![Advert { vrid: 60, ..peer() }];
        },
        &[(Problem, C::Adverts)],
    ),
    (
        "somebody else's group",
        |f| {
            f.adverts = vec![Advert { vrid: 60, addresses: vec![ip("192.0.2.200")], ..peer() }];
        },
        &[],
    ),
    (
        "our VRID in another network",
        |f| {
            f.adverts = vec![Advert { interface: "eth1".into(), addresses: vec![ip("192.0.2.200")], ..peer() }];
        },
        &[],
    ),
    ("the group in version 2", |f| f.adverts = vec![Advert { version: 2, ..peer() }], &[(Problem, C::Adverts)]),
    (
        "the group, from a stranger",
        |f| {
            f.adverts = vec![Advert { source: ip("192.0.2.9"), ..peer() }];
        },
        &[(Warning, C::Adverts)],
    ),
    (
        "the group, less often",
        |f| {
            f.adverts = vec![Advert { interval: Duration::from_secs(1), ..peer() }];
        },
        &[(Warning, C::Adverts)],
    ),
    ("adverts unseen", |f| f.deaf = vec![("eth0".into(), "not permitted".into())], &[(Note, C::Adverts)]),
    ("silent peer", |f| f.routers[0].peers[0].1 = Ok(Answer::From(vec![])), &[(Warning, C::Peers)]),
    ("peer elsewhere", |f| f.routers[0].peers[0].1 = Ok(Answer::Elsewhere), &[(Warning, C::Peers)]),
    ("VIP of a stranger", |f| f.vips[0].answers = Ok(Answer::From(vec![OTHER])), &[(Problem, C::Vip)]),
    (
        "VIP released by the group",
        |f| {
            f.adverts = vec![Advert { priority: 0, ..peer() }];
            f.vips[0].answers = Ok(Answer::From(vec![OTHER]));
        },
        &[(Problem, C::Vip)],
    ),
    (
        "VIP of the group and a stranger",
        |f| {
            f.adverts = vec![peer()];
            f.vips[0].answers = Ok(Answer::From(vec![MAC, OTHER]));
        },
        &[(Problem, C::Vip)],
    ),
    ("VIP held by us", |f| f.vips[0].held = Some(("eth0".into(), true)), &[]),
    (
        "VIP held by us and another",
        |f| {
            f.vips[0].held = Some(("eth0".into(), true));
            f.vips[0].answers = Ok(Answer::From(vec![OTHER]));
        },
        &[(Problem, C::Vip)],
    ),
    ("VIP put here by another program", |f| f.vips[0].held = Some(("eth0".into(), false)), &[(Problem, C::Vip)]),
    ("ARP unseen", |f| f.vips[0].answers = Err("not permitted".into()), &[(Note, C::Vip)]),
];

const SERVICES: &[Case] = &[
    ("haproxy at the VIP", |f| f.listeners = listener("192.0.2.100:8443", "haproxy"), &[(Warning, C::Listeners)]),
    ("haproxy at every address", |f| f.listeners = listener("0.0.0.0:8443", "haproxy"), &[(Note, C::Listeners)]),
    (
        "something in a range of ports",
        |f| {
            f.services[0].listen = vec![config::Listen { last: 9000, ..listen("192.0.2.100:8000") }];
            f.listeners = listener("192.0.2.100:8999", "haproxy");
        },
        &[(Warning, C::Listeners)],
    ),
    (
        "a backend on this host without tcx",
        |f| {
            f.devices[0].traits.has_tcx = false;
            f.services[0].backends[0].route.as_mut().unwrap().local = true;
        },
        &[(Problem, C::Datapath)],
    ),
    ("something at another address", |f| f.listeners = listener("127.0.0.1:8443", "haproxy"), &[]),
    ("metrics port taken", |f| f.listeners = listener("127.0.0.1:9910", "node"), &[(Problem, C::Listeners)]),
    ("metrics port ours", |f| f.listeners = listener("0.0.0.0:9910", "xvip"), &[]),
    ("sockets unseen", |f| f.listeners = Err("not permitted".into()), &[(Note, C::Listeners)]),
    ("no CA file", |f| f.services[0].check_fails = Some("CA file /x: no; name it".into()), &[(Problem, C::Reachable)]),
    (
        "one backend down",
        |f| {
            f.services[0].backends[0].outcome = Some((Outcome::Refused, Duration::ZERO));
            f.services[0].backends[0].certificate = Some(Err("refused".into()));
        },
        &[(Warning, C::Reachable)],
    ),
    (
        "all backends down",
        |f| {
            for backend in &mut f.services[0].backends {
                backend.outcome = Some((Outcome::TimedOut { phase: Phase::Connect }, Duration::ZERO));
                backend.certificate = Some(Err("no connection in time".into()));
            }
        },
        &[(Problem, C::Reachable), (Warning, C::Reachable), (Warning, C::Reachable)],
    ),
    (
        "not the right server",
        |f| {
            f.services[0].backends[0].outcome =
                Some((Outcome::TlsFailed { text: "unknown issuer".into() }, Duration::ZERO));
        },
        &[(Problem, C::Reachable)],
    ),
    ("no route", |f| f.services[0].backends[0].route = Err("unreachable".into()), &[(Problem, C::Route)]),
    (
        "by another interface",
        |f| {
            f.services[0].backends[0].route = Ok(Way { interface: "eth1".into(), gateway: None, local: false });
        },
        &[(Problem, C::Route)],
    ),
    (
        "by a router",
        |f| {
            f.services[0].backends[0].route =
                Ok(Way { interface: "eth0".into(), gateway: Some(ip("192.0.2.1")), local: false });
        },
        &[],
    ),
    (
        "on this host",
        |f| {
            f.services[0].backends[0].route = Ok(Way { interface: "lo".into(), gateway: None, local: true });
            f.services[0].backends[0].path_mtu = Some(65536);
        },
        &[],
    ),
    (
        "on this host, at the service's own port",
        |f| {
            let own = &mut f.services[0].backends[0];
            own.route = Ok(Way { interface: "lo".into(), gateway: None, local: true });
            own.address.set_port(8443);
            f.listeners = listener("0.0.0.0:8443", "kube-apiserver");
        },
        &[],
    ),
    ("narrow path", |f| f.services[0].backends[0].path_mtu = Some(1400), &[(Warning, C::PathMtu)]),
    ("certificate without the VIP", |f| certificate(f).lacks = vec![ip("192.0.2.100")], &[(Problem, C::Certificate)]),
    ("certificate expired", |f| certificate(f).not_after = Some(NOW), &[(Problem, C::Certificate)]),
    ("certificate expires soon", |f| certificate(f).not_after = Some(NOW + 29 * DAY), &[(Warning, C::Certificate)]),
    ("certificate of tomorrow", |f| certificate(f).not_before = Some(NOW + 1), &[(Problem, C::Certificate)]),
    ("certificate without dates", |f| certificate(f).not_after = None, &[(Note, C::Certificate)]),
    (
        "no certificate",
        |f| f.services[0].backends[0].certificate = Some(Err("no TLS".into())),
        &[(Note, C::Certificate)],
    ),
    (
        "no TLS",
        |f| {
            f.services[0].tls = false;
            f.services[0].backends.iter_mut().for_each(|backend| backend.certificate = None);
        },
        &[(Note, C::Certificate)],
    ),
];

#[test]
fn a_host_on_which_all_is_well() {
    let findings = judge(&well(), NOW);
    assert_eq!(matter(&findings), []);
    assert!(findings.len() > 20, "and it says what it looked at");
}

#[test]
fn every_departure_has_its_findings() {
    for (name, depart, expected) in [HOST, DEVICE, NETWORK, SERVICES].concat() {
        let mut facts = well();
        depart(&mut facts);
        let findings = judge(&facts, NOW);
        assert_eq!(matter(&findings), expected, "{name}: {findings:#?}");
        for finding in &findings {
            assert_eq!(finding.remedy.is_some(), finding.severity != Severity::Ok, "{name}: {finding:?}");
            assert!(!finding.seen.is_empty() && !finding.seen.contains('\n'), "{name}: {finding:?}");
        }
    }
}

#[test]
fn faults_of_the_configuration_are_problems_with_their_place() {
    let faults = config::parse("[node]\nname = 1\n", "x.toml", &config::Env::default()).unwrap_err();
    let mut facts = well();
    facts.configuration = Configuration::Wrong(faults.clone());
    (facts.routers, facts.vips, facts.services) = (vec![], vec![], vec![]);
    let findings = judge(&facts, NOW);
    assert_eq!(matter(&findings), vec![(Problem, C::Configuration); faults.iter().count()]);
    assert!(findings[0].seen.starts_with("x.toml:"), "{}", findings[0].seen);
}

#[test]
fn without_a_configuration_the_wire_is_described() {
    let mut facts = well();
    facts.configuration = Configuration::None;
    (facts.routers, facts.vips, facts.services) = (vec![], vec![], vec![]);
    assert_eq!(matter(&judge(&facts, NOW)), []);
    facts.adverts = vec![peer()];
    facts.devices[0].programs = program("foreign", Hook::XdpNative);
    assert_eq!(matter(&judge(&facts, NOW)), [(Note, C::Programs), (Note, C::Adverts)]);
}

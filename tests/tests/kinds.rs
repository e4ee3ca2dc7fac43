//! Every kind of device that this kernel can make, as the agent's interface: what it chooses there and why, clients
//! through the VIP, an API server on the node itself, and the device made anew under way. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use common::{LIMIT, OFTEN, SANDBOX, breaks, end, plain, served_more, settle, unstarted, wait, watches_open};
use xvip_tests::agent::{adapt, find};
use xvip_tests::apiserver::{ApiServer, pattern_digest};
use xvip_tests::netns::Netns;
use xvip_tests::process::output_within;
use xvip_tests::status::Status;
use xvip_tests::tap::Cable;
use xvip_tests::topology::{BALANCERS, Topology, server_keys, tc_programs};
use xvip_tests::wire::Port;

/// The balancer's own address.
const ADDRESS: &str = BALANCERS[0].1;
/// The bridge's end of its wire.
const WIRE: &str = "lb1.eth0";

/// A device to be made in the balancer's namespace, on `eth0` or beside it.
struct Kind {
    /// Its name.
    name: &'static str,
    /// As the kernel calls its kind.
    kind: &'static str,
    /// Words to `ip` in the balancer's namespace.
    here: &'static [&'static str],
    /// Words to `ip` where the segment is.
    there: &'static [&'static str],
    /// What undoes both there; here the device alone has to go.
    undo: &'static [&'static str],
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "br1",
        kind: "bridge",
        here: &["link add br1 type bridge forward_delay 0", "link set eth0 master br1"],
        there: &[],
        undo: &[],
    },
    Kind {
        name: "mv1",
        kind: "macvlan",
        here: &["link add mv1 link eth0 type macvlan mode bridge"],
        there: &[],
        undo: &[],
    },
    Kind { name: "tap1", kind: "tun", here: &[], there: &["link set lb1.tap1 master br0 up"], undo: &[] },
    Kind {
        name: "eth0.7",
        kind: "vlan",
        here: &["link add link eth0 name eth0.7 type vlan id 7"],
        there: &[
            "link set lb1.eth0 nomaster",
            "link add link lb1.eth0 name lb1.7 type vlan id 7",
            "link set lb1.7 master br0 up",
        ],
        undo: &["link del lb1.7", "link set lb1.eth0 master br0"],
    },
    Kind {
        name: "bond1",
        kind: "bond",
        here: &[
            "link add bond1 type bond mode active-backup miimon 50",
            "link set eth0 down",
            "link set eth1 down",
            "link set eth0 master bond1",
            "link set eth1 master bond1",
        ],
        there: &[],
        undo: &[],
    },
];

/// What a device needs as long as it is there.
#[derive(Default)]
struct Made {
    cable: Option<Cable>,
    second: Option<Port>,
}

impl Kind {
    /// Makes the device and gives it the balancer's address.
    fn make(&self, topology: &Topology) -> Result<Made> {
        let (lan, netns) = (topology.lan.netns(), topology.balancers[0].agent.netns());
        let mut made = Made::default();
        match self.kind {
            "tun" => made.cable = Some(Cable::between((netns, self.name), (lan, "lb1.tap1"))?),
            "bond" => made.second = Some(topology.lan.attach(netns, "eth1", "")?),
            _ => {}
        }
        self.here.iter().try_for_each(|words| netns.ip(words).map(drop))?;
        self.there.iter().try_for_each(|words| lan.ip(words).map(drop))?;
        netns.ip(&format!("address add {ADDRESS}/24 dev {}", self.name))?;
        netns.ip(&format!("link set {} up", self.name))?;
        Ok(made)
    }

    fn unmake(&self, topology: &Topology, made: Made) {
        let (lan, netns) = (topology.lan.netns(), topology.balancers[0].agent.netns());
        if made.cable.is_none() {
            netns.ip(&format!("link del {}", self.name)).unwrap();
        }
        if made.second.is_some() {
            netns.ip("link del eth1").unwrap();
        }
        drop(made);
        for words in self.undo {
            lan.ip(words).unwrap();
        }
        netns.ip("link set eth0 up").unwrap();
    }
}

#[test]
fn every_kind_of_device_is_served_by_tc() {
    // One of the three backends is the balancer itself.
    let own = ("address = \"192.0.2.33:6443\"", &*format!("address = \"{ADDRESS}:6443\""));
    let mut topology = unstarted(1, &[OFTEN, ("datapath = \"xdp\"", "datapath = \"auto\""), own]);
    plain(&topology);
    let netns = topology.balancers[0].agent.netns().clone();
    netns.ip(&format!("address del {ADDRESS}/24 dev eth0")).unwrap();
    // The device below a macvlan would answer for its addresses too, with an Ethernet address of its own.
    netns.sysctl("net/ipv4/conf/all/arp_ignore", "1").unwrap();
    let keys = server_keys(&topology.authority, "lb1", ADDRESS).unwrap();
    let server = ApiServer::start(Path::new(SANDBOX), &netns, "0.0.0.0:6443", &keys).unwrap();
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let mut tried = Vec::new();
    for kind in &KINDS {
        let made = match kind.make(&topology) {
            Ok(made) => made,
            Err(error) if format!("{error:#}").contains("Unknown device type") => {
                println!("{}: this kernel has none, not tried", kind.kind);
                undo_what_there_is(&topology, kind);
                continue;
            }
            Err(error) => panic!("{}: {error:#}", kind.kind),
        };
        let on_it = format!("interface = \"{}\"", kind.name);
        let agent = &mut topology.balancers[0].agent;
        agent.write_config(&adapt(&config, &[("interface = \"eth0\"", &on_it)]).unwrap()).unwrap();
        agent.start().unwrap();
        let status = agent.wait_for("to be active", LIMIT, |status| status.is_active() && status.all_up()).unwrap();
        println!("{}: {}: {}", kind.name, status.datapath.mode, status.datapath.reason);
        assert_eq!(status.datapath.mode, "tc");
        assert!(status.datapath.reason.contains(&format!("kind {}", kind.kind)), "{}", status.datapath.reason);
        serves(&topology);
        if kind.kind == "bond" {
            loses_a_wire(&topology);
        }

        kind.unmake(&topology, made);
        let agent = &mut topology.balancers[0].agent;
        agent.wait_for("the fault", LIMIT, |status| status.vrrp_state() == "fault").unwrap();
        let made = kind.make(&topology).unwrap();
        let agent = &mut topology.balancers[0].agent;
        agent.wait_for("to be active again", LIMIT, |status| status.is_active() && status.all_up()).unwrap();
        serves(&topology);
        assert_eq!(of_ours(&netns, kind.name), ["xvip_tc"]);

        let agent = &mut topology.balancers[0].agent;
        assert!(agent.stop(LIMIT).unwrap().unwrap().success());
        assert_eq!(tc_programs(&netns, kind.name).unwrap(), vec![]);
        kind.unmake(&topology, made);
        tried.push(kind.kind);
    }
    println!("tried: {tried:?}");
    assert!(["bridge", "macvlan", "tun"].iter().all(|kind| tried.contains(kind)), "{tried:?}");
    drop((server, netns));
    end(topology);
}

/// Two network cards with a cable between them, whose names the variable XVIP_CARDS has, as in `eth1,eth2`. There are none on
/// most machines, and nothing is shown there.
#[test]
fn a_network_card_is_served_in_every_way_it_can_be() {
    let Ok(cards) = std::env::var("XVIP_CARDS") else {
        println!("XVIP_CARDS names no network cards: not tried");
        return;
    };
    let (ours, far) = cards.split_once(',').expect("XVIP_CARDS is two names with a comma between them");
    let own = ("address = \"192.0.2.33:6443\"", &*format!("address = \"{ADDRESS}:6443\""));
    let mut topology = unstarted(1, &[OFTEN, ("interface = \"eth0\"", "interface = \"card0\""), own]);
    plain(&topology);
    let (lan, netns) = (topology.lan.netns().clone(), topology.balancers[0].agent.netns().clone());
    for (card, to, name) in [(ours, &netns, "card0"), (far, &lan, "card1")] {
        // Its own name may be in use there.
        let moved = Command::new("ip").args(["link", "set", card, "name", name, "netns"]).arg(to.path()).status();
        assert!(moved.unwrap().success(), "moving {card}");
        to.ip(&format!("link set {name} up")).unwrap();
    }
    lan.ip("link set card1 master br0").unwrap();
    netns.ip("link set eth0 down").unwrap();
    netns.ip(&format!("address del {ADDRESS}/24 dev eth0")).unwrap();
    netns.ip(&format!("address add {ADDRESS}/24 dev card0")).unwrap();
    let keys = server_keys(&topology.authority, "lb1", ADDRESS).unwrap();
    let server = ApiServer::start(Path::new(SANDBOX), &netns, "0.0.0.0:6443", &keys).unwrap();
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let mut served = Vec::new();
    for (asked, feature) in [("auto", ""), ("tc", ""), ("xdp", ""), ("xdp-generic", ""), ("auto", "rx-gro-hw off")] {
        if !feature.is_empty() {
            let mut ethtool = netns.command("ethtool");
            ethtool.args(["-K", "card0"]).args(feature.split(' '));
            println!("{feature}: {:?}", ethtool.status().unwrap().code());
        }
        let change = ("datapath = \"xdp\"", &*format!("datapath = \"{asked}\""));
        let agent = &mut topology.balancers[0].agent;
        agent.write_config(&adapt(&config, &[change]).unwrap()).unwrap();
        agent.start().unwrap();
        let ready = |status: &Status| status.is_active() && status.all_up();
        match agent.wait_for("to be active", LIMIT, ready) {
            Ok(status) => println!("{asked} {feature}: {}: {}", status.datapath.mode, status.datapath.reason),
            Err(error) => {
                println!("{asked} {feature}: {error:#}");
                assert!(asked == "xdp" && !agent.is_running(), "only native XDP may be refused, and at once");
                continue;
            }
        }
        let mut doctor = netns.command(find().unwrap());
        doctor.args(["doctor", "--config"]).arg(agent.config());
        println!("{}", output_within(doctor, LIMIT).unwrap().1);
        serves(&topology);
        assert!(topology.balancers[0].agent.stop(LIMIT).unwrap().unwrap().success());
        served.push(asked);
    }
    println!("{cards}: served by {served:?}");
    drop((server, netns, lan));
    end(topology);
}

/// Where a device could not be made, what was made before it.
fn undo_what_there_is(topology: &Topology, kind: &Kind) {
    if kind.kind == "bond" {
        topology.balancers[0].agent.netns().ip("link del eth1").unwrap();
    }
}

fn of_ours(netns: &Netns, device: &str) -> Vec<String> {
    tc_programs(netns, device).unwrap().into_iter().map(|(_, name)| name).collect()
}

/// Packets that ended so.
fn packets(topology: &Topology, reason: &str) -> u64 {
    let mut packets = 0;
    wait("a status", || {
        let Ok(status) = topology.balancers[0].agent.status() else { return false };
        packets = status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum();
        true
    });
    packets
}

/// Every server answers, the balancer's own among them, in short and at length.
#[track_caller]
fn serves(topology: &Topology) {
    // On a new device the first packet to each neighbour may be lost while its Ethernet address is asked for.
    wait("every server", || (0..6).all(|_| topology.curl(&["-f"], "/livez").unwrap().0.success()));
    let load = topology.load(Duration::from_millis(100), 3).unwrap();
    watches_open(&load);
    served_more(&load, 15);
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    assert!(load.servers().iter().any(|server| server == "lb1"), "{:?}", load.servers());
    drop(load);
    let bytes = 2_000_000;
    let file = topology.run.dir().join("body");
    let before = packets(topology, "from_local");
    // Three in a row are one from each.
    for _ in 0..3 {
        let words = ["-f", "-o", &file.display().to_string()];
        assert!(topology.curl(&words, &format!("/bytes?n={bytes}")).unwrap().0.success());
        let from = format!("@{}", file.display());
        let (_, answer) = topology.curl(&["-f", "-H", "Expect:", "--data-binary", &from], "/digest").unwrap();
        assert_eq!(answer, pattern_digest(bytes));
    }
    wait("its own server to have sent", || packets(topology, "from_local") > before);
    assert!(packets(topology, "to_local") > 0);
}

/// The active one of a bond's wires is cut, and mended: clients are served on by the other.
#[track_caller]
fn loses_a_wire(topology: &Topology) {
    let netns = topology.balancers[0].agent.netns();
    let active =
        || netns.enter(|| fs::read_to_string("/proc/thread-self/net/bonding/bond1").unwrap_or_default()).unwrap();
    let is_active = |wire: &str| active().contains(&format!("Currently Active Slave: {wire}\n"));
    wait("the first wire to be in use", || is_active("eth0"));
    let load = topology.load(Duration::from_millis(200), 3).unwrap();
    watches_open(&load);
    topology.lan.netns().ip(&format!("link set {WIRE} down")).unwrap();
    wait("the second wire to be in use", || is_active("eth1"));
    let from = load.now();
    served_more(&load, 15);
    assert_eq!((load.summary(from, settle(&load)).failed(), breaks(&load)), (0, vec![]));
    topology.lan.netns().ip(&format!("link set {WIRE} up")).unwrap();
}

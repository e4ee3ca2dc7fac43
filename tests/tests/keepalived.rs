//! keepalived as the other router, in both roles, by multicast and by unicast, over IPv4 and over IPv6. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, OFTEN, end, unstarted, wait};
use xvip_tests::agent::adapt;
use xvip_tests::capture::Capture;
use xvip_tests::ipv6::{self, shown, tshark};
use xvip_tests::keepalived::{Keepalived, Settings};
use xvip_tests::ping::Ping;
use xvip_tests::scrape::Scrape;
use xvip_tests::status::Status;
use xvip_tests::topology::{BALANCERS, Balancer, Topology, mac_of};

/// The node of xvip, and the node of keepalived.
const OURS: usize = 0;
const THEIRS: usize = 1;

/// The virtual router of one of the tests.
struct Contest {
    topology: Topology,
    /// Its name with us.
    router: &'static str,
    /// Its addresses, with prefix lengths.
    vips: &'static [&'static str],
    /// Our address and theirs, by unicast.
    ends: (&'static str, &'static str),
    /// Where adverts go by multicast.
    group: &'static str,
    multicast: bool,
    /// Version 2 with this password.
    password: Option<&'static str>,
}

#[test]
fn by_multicast() {
    over_ipv4(true).takes_turns();
}

#[test]
fn by_unicast() {
    over_ipv4(false).takes_turns();
}

#[test]
fn by_version_2_with_a_password() {
    let contest = over_ipv4(true);
    let agent = &contest.topology.balancers[OURS].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    let two = "\nversion = 2\nauth_pass = \"secret12\"\nadvert_interval = \"1s\"";
    agent.write_config(&adapt(&config, &[("\nadvert_interval = \"100ms\"", two)]).unwrap()).unwrap();
    Contest { password: Some("secret12"), ..contest }.takes_turns();
}

#[test]
fn by_multicast_over_ipv6() {
    over_ipv6(true).takes_turns();
}

#[test]
fn by_unicast_over_ipv6() {
    over_ipv6(false).takes_turns();
}

fn over_ipv4(multicast: bool) -> Contest {
    let topology = unstarted(2, &[OFTEN]);
    if multicast {
        let agent = &topology.balancers[OURS].agent;
        let config = fs::read_to_string(agent.config()).unwrap();
        let lines = config.lines().filter(|line| !line.starts_with("unicast_"));
        agent.write_config(&lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    let ends = (BALANCERS[OURS].1, BALANCERS[THEIRS].1);
    Contest { topology, router: "k8s", vips: &["192.0.2.100/24"], ends, group: "224.0.0.18", multicast, password: None }
}

/// Beside a virtual router of IPv4 that has no peer.
fn over_ipv6(multicast: bool) -> Contest {
    let topology = unstarted(2, &[OFTEN]);
    ipv6::number(&topology).unwrap();
    let ends = (ipv6::BALANCERS[OURS], ipv6::BALANCERS[THEIRS]);
    // By multicast the first address should be a link-local one, says RFC 9568.
    let vips: &[&str] = if multicast { &["fe80::100/64", "2001:db8::100/64"] } else { &["2001:db8::100/64"] };
    let unicast = match multicast {
        true => String::new(),
        false => format!("unicast_source = \"{}\"\nunicast_peers = [\"{}\"]\n", ends.0, ends.1),
    };
    let keys = format!("{unicast}preempt = false # over IPv6\nvirtual_addresses = {vips:?}");
    let agent = &topology.balancers[OURS].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    agent.write_config(&ipv6::with_router(&config, &keys).unwrap()).unwrap();
    Contest { topology, router: ipv6::ROUTER, vips, ends, group: "ff02::12", multicast, password: None }
}

impl Contest {
    /// Every way in which one of them can follow the other.
    fn takes_turns(mut self) {
        let theirs = self.topology.balancers[THEIRS].agent.netns().clone();
        let capture = Capture::start(&theirs, "eth0").unwrap();

        // They are active before we come, and better; we stay back.
        let peer = self.keepalived(150);
        wait("keepalived to hold the VIP", || self.owners() == [THEIRS]);
        self.topology.balancers[OURS].agent.start().unwrap();
        self.we_are("backup");
        self.stays_with(THEIRS);
        self.we_are("backup");
        // Who has never been heard, and answers for the addresses, would keep them.
        let ours = self.topology.balancers[OURS].agent.netns().clone();
        let received = [("router", self.router), ("direction", "received")];
        wait("their adverts to be heard", || {
            Scrape::of(&ours).unwrap().count("xvip_vrrp_adverts_total", &received) > 0.0
        });
        drop(ours);

        // They die, and we notice the silence. Nobody was left there to remove the addresses.
        peer.kill9().unwrap();
        self.we_are_active();
        assert_eq!(self.owners(), [OURS, THEIRS]);
        for vip in self.vips {
            let prefix = if vip.contains(':') { "128" } else { "24" };
            let address = vip.split('/').next().unwrap();
            // keepalived may have given it another prefix than asked for.
            let asked = theirs.ip(&format!("address del {vip} dev eth0"));
            asked.or_else(|_| theirs.ip(&format!("address del {address}/{prefix} dev eth0"))).unwrap();
        }
        self.stays_with(OURS);
        self.served();

        // They come back, better, and take it from us.
        let peer = self.keepalived(150);
        self.we_are("backup");
        wait("keepalived to hold the VIP alone", || self.owners() == [THEIRS]);
        self.stays_with(THEIRS);

        // They stop and say so.
        let log = peer.log();
        peer.stop().unwrap();
        self.we_are_active();
        wait("us to hold the VIP alone", || self.owners() == [OURS]);
        self.stays_with(OURS);
        self.served();

        // They are worse and stay back; then we stop and say so.
        let peer = self.keepalived(90);
        wait("keepalived to be backup", || peer.log()[log.len()..].contains("Entering BACKUP STATE"));
        self.stays_with(OURS);
        let agent = &mut self.topology.balancers[OURS].agent;
        assert!(agent.stop(LIMIT).unwrap().unwrap().success(), "{}", agent.log_tail(10));
        wait("keepalived to hold the VIP alone", || self.owners() == [THEIRS]);
        self.stays_with(THEIRS);

        // We come back, better, and take it from them.
        let preempt = if self.is_ipv6() { "\npreempt = false # over IPv6" } else { "\npreempt = false" };
        let agent = &mut self.topology.balancers[OURS].agent;
        let config = fs::read_to_string(agent.config()).unwrap();
        agent.write_config(&adapt(&config, &[(preempt, "\npreempt = true")]).unwrap()).unwrap();
        agent.start().unwrap();
        self.we_are_active();
        wait("us to hold the VIP alone", || self.owners() == [OURS]);
        self.stays_with(OURS);
        self.served();
        self.nobody_complains(&peer);
        self.what_the_wire_saw(&capture);
        peer.stop().unwrap();
        drop((capture, theirs));
        end(self.topology);
    }

    fn is_ipv6(&self) -> bool {
        self.router == ipv6::ROUTER
    }

    fn keepalived(&self, priority: u8) -> Keepalived {
        let (ours, theirs) = self.ends;
        let unicast = (!self.multicast).then_some((theirs, ours));
        let settings = Settings { priority, unicast, addresses: self.vips, password: self.password };
        let netns = self.topology.balancers[THEIRS].agent.netns();
        Keepalived::start(netns, settings).unwrap_or_else(|err| panic!("{err:#}"))
    }

    /// The last of the addresses, without its prefix length.
    fn vip(&self) -> &'static str {
        self.vips.last().and_then(|vip| vip.split('/').next()).unwrap()
    }

    /// The balancers whose interface has all of the addresses.
    fn owners(&self) -> Vec<usize> {
        let has = |balancer: &Balancer| {
            self.vips.iter().all(|vip| shown(balancer.agent.netns(), vip.split('/').next().unwrap()).is_some())
        };
        (0..2).filter(|index| has(&self.topology.balancers[*index])).collect()
    }

    #[track_caller]
    fn we_are(&mut self, state: &str) {
        let router = self.router;
        let holds = |status: &Status| ipv6::router(status, router).is_some_and(|router| router.state == state);
        self.topology.balancers[OURS].agent.wait_for(state, LIMIT, holds).unwrap();
    }

    #[track_caller]
    fn we_are_active(&mut self) {
        self.we_are("active");
        wait("our interface to have the VIP", || self.owners().contains(&OURS));
    }

    /// Looks for half a second, five adverts, in which nothing may move.
    #[track_caller]
    fn stays_with(&self, holder: usize) {
        for _ in 0..10 {
            assert_eq!(self.owners(), [holder]);
            sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn served(&self) {
        if self.is_ipv6() {
            let ping = Ping::start(&self.topology.client, ipv6::VIP).unwrap();
            wait("echoes from the VIP", || ping.count() >= 3);
        } else {
            let (status, answer) = self.topology.curl(&["-f"], "/whoami").unwrap();
            assert!(status.success() && answer.contains("\"server\":\"master"), "{status} {answer}");
        }
    }

    #[track_caller]
    fn nobody_complains(&self, peer: &Keepalived) {
        let log = peer.log();
        for complaint in ["checksum", "invalid", "discard", "bogus", "mismatch", "incompatible", "wrong", "error"] {
            // That it prevails over us is no complaint.
            let of_ours =
                |line: &&str| line.to_lowercase().contains(complaint) && !line.contains("received lower priority");
            let lines: Vec<_> = log.lines().filter(of_ours).collect();
            assert!(lines.is_empty(), "keepalived complains: {lines:?}");
        }
        let scrape = || Scrape::of(self.topology.balancers[OURS].agent.netns()).unwrap();
        let router = ("router", self.router);
        assert_eq!(scrape().count("xvip_vrrp_advert_errors_total", &[router]), 0.0);
        assert!(scrape().count("xvip_vrrp_adverts_total", &[router, ("direction", "sent")]) > 0.0);
        // Five rounds, over IPv4 in two forms.
        let (metric, least) = match self.is_ipv6() {
            true => ("xvip_unsolicited_na_total", 5.0),
            false => ("xvip_gratuitous_arp_total", 10.0),
        };
        wait("bursts of announcements to end", || scrape().count(metric, &[("address", self.vip())]) >= least);
    }

    /// What tshark makes of our adverts and announcements as they arrived on the other node.
    #[track_caller]
    fn what_the_wire_saw(&self, capture: &Capture) {
        let file = self.topology.run.dir().join("wire.pcap");
        capture.save(&file).unwrap();
        let ours = mac_of(self.topology.balancers[OURS].agent.netns()).unwrap();
        let tshark = |filter: &str, fields: &[&str]| tshark(&file, filter, fields).unwrap();
        let (protocol, header) = match self.is_ipv6() {
            false => ("ip", ["ip.dst", "ip.ttl", "ip.src"]),
            true => ("ipv6", ["ipv6.dst", "ipv6.hlim", "ipv6.src"]),
        };
        let message = ["vrrp.version", "vrrp.virt_rtr_id", "vrrp.checksum.status", "vrrp.prio"];
        let version = if self.password.is_some() { "2" } else { "3" };
        let filter = format!("vrrp && {protocol} && !icmp && !icmpv6 && eth.src == {ours}");
        let adverts = tshark(&filter, &[&header[..], &message].concat());
        assert!(adverts.len() > if self.password.is_some() { 5 } else { 20 }, "{adverts:?}");
        let destination = if self.multicast { self.group } else { self.ends.1 };
        for advert in &adverts {
            let good = [destination, "255", advert[2].as_str(), version, "51", "1", advert[6].as_str()];
            assert_eq!(*advert, good, "to, TTL, from, version, VRID, VRRP checksum good, priority");
            match self.is_ipv6() && self.multicast {
                true => assert!(advert[2].starts_with("fe80::"), "{advert:?}"),
                false => assert_eq!(advert[2], self.ends.0),
            }
        }
        let released = adverts.iter().filter(|advert| advert[6] == "0").count();
        assert!((1..=3).contains(&released), "one stop, {released} adverts of priority 0");
        assert!(adverts.iter().all(|advert| ["0", "110"].contains(&advert[6].as_str())), "{adverts:?}");
        let theirs =
            tshark(&format!("vrrp.prio == 0 && {protocol} && !icmp && !icmpv6 && eth.src != {ours}"), &["eth.src"]);
        assert!(!theirs.is_empty(), "keepalived released the address by priority 0");
        if self.is_ipv6() {
            let vips: Vec<_> = self.vips.iter().map(|vip| vip.split('/').next().unwrap()).collect();
            let listed = tshark(&filter, &["vrrp.ipv6_addr"]);
            assert!(listed.iter().all(|row| row[0] == vips.join(",")), "{listed:?}");
            vips.iter().for_each(|vip| advertised(&tshark, vip, &ours));
        } else {
            let bad = tshark(&format!("vrrp && !icmp && ip.checksum.status != 1 && eth.src == {ours}"), &["ip.src"]);
            assert!(bad.is_empty(), "IP checksums: {bad:?}");
            announced(&tshark, self.vip(), &ours);
        }
        // What tshark itself finds odd in anything of ours: adverts, announcements.
        let odd = format!("(vrrp || arp || icmpv6) && eth.src == {ours} && _ws.expert.severity >= 0x00600000");
        let odd = tshark(&odd, &["frame.number", "_ws.expert.message"]);
        let odd: Vec<_> = odd.iter().filter(|row| !row[1].contains("Duplicate IP")).collect();
        assert!(odd.is_empty(), "{odd:?}");
        println!("{} adverts of ours, {released} with priority 0, all well formed for tshark", adverts.len());
    }
}

/// Rows of a filter, with these fields.
type Tshark<'a> = &'a dyn Fn(&str, &[&str]) -> Vec<Vec<String>>;

/// Gratuitous ARP was seen in both forms.
#[track_caller]
fn announced(tshark: Tshark<'_>, vip: &str, ours: &str) {
    for (opcode, form) in [("1", "request"), ("2", "reply")] {
        let filter =
            format!("arp.isgratuitous && arp.src.proto_ipv4 == {vip} && eth.src == {ours} && arp.opcode == {opcode}");
        let announced = tshark(&filter, &["eth.dst", "arp.src.hw_mac", "arp.dst.proto_ipv4"]);
        assert!(announced.len() >= 3, "gratuitous ARP, {form}: {announced:?}");
        assert!(announced.iter().all(|row| *row == ["ff:ff:ff:ff:ff:ff", ours, vip]), "{announced:?}");
    }
}

/// Unsolicited neighbour advertisements were seen.
#[track_caller]
fn advertised(tshark: Tshark<'_>, vip: &str, ours: &str) {
    let filter = format!(
        "icmpv6.type == 136 && icmpv6.nd.na.target_address == {vip} && ipv6.dst == ff02::1 && eth.src == {ours}"
    );
    let fields = [
        "eth.dst",
        "ipv6.src",
        "ipv6.hlim",
        "icmpv6.checksum.status",
        "icmpv6.nd.na.flag.o",
        "icmpv6.nd.na.flag.s",
        "icmpv6.nd.na.flag.r",
        "icmpv6.opt.linkaddr",
    ];
    let seen = tshark(&filter, &fields);
    assert!(seen.len() >= 3, "unsolicited advertisements of {vip}: {seen:?}");
    let good = ["33:33:00:00:00:01", vip, "255", "1", "1", "0", "0", ours];
    assert!(seen.iter().all(|row| *row == good), "{seen:?}");
}

//! keepalived as the other router, in both roles, by multicast and by unicast. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, OFTEN, end, unstarted, wait};
use xvip_tests::agent::adapt;
use xvip_tests::capture::Capture;
use xvip_tests::keepalived::{Keepalived, Settings};
use xvip_tests::netns::Netns;
use xvip_tests::process::output_within;
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::{BALANCERS, Topology};

/// The node of xvip, and the node of keepalived.
const OURS: usize = 0;
const THEIRS: usize = 1;

#[test]
fn by_multicast() {
    takes_turns(true);
}

#[test]
fn by_unicast() {
    takes_turns(false);
}

/// Every way in which one of them can follow the other.
fn takes_turns(multicast: bool) {
    let mut topology = unstarted(2, &[OFTEN]);
    let theirs = topology.balancers[THEIRS].agent.netns().clone();
    if multicast {
        let agent = &topology.balancers[OURS].agent;
        let config = fs::read_to_string(agent.config()).unwrap();
        let lines = config.lines().filter(|line| !line.starts_with("unicast_"));
        agent.write_config(&lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    let ((_, our_address, _), (_, their_address, _)) = (BALANCERS[OURS], BALANCERS[THEIRS]);
    let keepalived = |priority| {
        let unicast = (!multicast).then_some((their_address, our_address));
        Keepalived::start(&theirs, Settings { priority, unicast }).unwrap_or_else(|err| panic!("{err:#}"))
    };
    let capture = Capture::start(&theirs, "eth0").unwrap();

    // They are active before we come, and better; we stay back.
    let peer = keepalived(150);
    wait("keepalived to hold the VIP", || topology.owners() == [THEIRS]);
    topology.balancers[OURS].agent.start().unwrap();
    topology.balancers[OURS].agent.wait_for("to be backup", LIMIT, |s| s.vrrp_state() == "backup").unwrap();
    stays_with(&topology, THEIRS);
    assert_eq!(topology.balancers[OURS].agent.status().unwrap().vrrp_state(), "backup");

    // They die, and we notice the silence. Nobody was left there to remove the address.
    peer.kill9().unwrap();
    we_are_active(&mut topology);
    assert_eq!(topology.owners(), [OURS, THEIRS]);
    theirs.ip("address del 192.0.2.100/24 dev eth0").unwrap();
    stays_with(&topology, OURS);
    served(&topology);

    // They come back, better, and take it from us.
    let peer = keepalived(150);
    topology.balancers[OURS].agent.wait_for("to be backup", LIMIT, |s| s.vrrp_state() == "backup").unwrap();
    wait("keepalived to hold the VIP alone", || topology.owners() == [THEIRS]);
    stays_with(&topology, THEIRS);

    // They stop and say so.
    let log = peer.log();
    peer.stop().unwrap();
    we_are_active(&mut topology);
    wait("us to hold the VIP alone", || topology.owners() == [OURS]);
    stays_with(&topology, OURS);
    served(&topology);

    // They are worse and stay back; then we stop and say so.
    let peer = keepalived(90);
    wait("keepalived to be backup", || peer.log()[log.len()..].contains("Entering BACKUP STATE"));
    stays_with(&topology, OURS);
    let agent = &mut topology.balancers[OURS].agent;
    assert!(agent.stop(LIMIT).unwrap().unwrap().success(), "{}", agent.log_tail(10));
    wait("keepalived to hold the VIP alone", || topology.owners() == [THEIRS]);
    stays_with(&topology, THEIRS);

    // We come back, better, and take it from them.
    let agent = &mut topology.balancers[OURS].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    agent.write_config(&adapt(&config, &[("\npreempt = false", "\npreempt = true")]).unwrap()).unwrap();
    agent.start().unwrap();
    we_are_active(&mut topology);
    wait("us to hold the VIP alone", || topology.owners() == [OURS]);
    stays_with(&topology, OURS);
    served(&topology);

    let log = peer.log();
    for complaint in ["checksum", "invalid", "discard", "bogus", "mismatch", "incompatible", "wrong", "error"] {
        // That it prevails over us is no complaint.
        let of_ours =
            |line: &&str| line.to_lowercase().contains(complaint) && !line.contains("received lower priority");
        let lines: Vec<_> = log.lines().filter(of_ours).collect();
        assert!(lines.is_empty(), "keepalived complains: {lines:?}");
    }
    let scrape = Scrape::of(topology.balancers[OURS].agent.netns()).unwrap();
    assert_eq!(scrape.count("xvip_vrrp_advert_errors_total", &[]), 0.0);
    assert!(scrape.count("xvip_vrrp_adverts_total", &[("direction", "sent")]) > 0.0);
    wait("bursts of gratuitous ARP to end", || {
        let scrape = Scrape::of(topology.balancers[OURS].agent.netns()).unwrap();
        scrape.count("xvip_gratuitous_arp_total", &[("address", "192.0.2.100")]) >= 10.0
    });
    what_the_wire_saw(&topology, &capture, if multicast { "224.0.0.18" } else { their_address });
    peer.stop().unwrap();
    drop((capture, theirs));
    end(topology);
}

#[track_caller]
fn we_are_active(topology: &mut Topology) {
    topology.balancers[OURS].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    wait("our interface to have the VIP", || topology.owners().contains(&OURS));
}

/// Looks for half a second, five adverts, in which nothing may move.
#[track_caller]
fn stays_with(topology: &Topology, holder: usize) {
    for _ in 0..10 {
        assert_eq!(topology.owners(), [holder]);
        sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn served(topology: &Topology) {
    let (status, answer) = topology.curl(&["-f"], "/whoami").unwrap();
    assert!(status.success() && answer.contains("\"server\":\"master"), "{status} {answer}");
}

/// What tshark makes of our adverts and announcements as they arrived on the other node.
#[track_caller]
fn what_the_wire_saw(topology: &Topology, capture: &Capture, destination: &str) {
    let file = topology.run.dir().join("wire.pcap");
    capture.save(&file).unwrap();
    let ours = ether(topology.balancers[OURS].agent.netns());
    let tshark = |filter: &str, fields: &[&str]| {
        let mut tshark = std::process::Command::new("tshark");
        tshark.args(["-n", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-Y", filter, "-r"]).arg(&file);
        fields.iter().for_each(|field| {
            tshark.args(["-e", field]);
        });
        let (status, text) = output_within(tshark, LIMIT).expect("the program tshark is needed");
        assert!(status.success(), "tshark ended with {status}");
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let fields = [
        "ip.dst",
        "ip.ttl",
        "ip.checksum.status",
        "vrrp.version",
        "vrrp.virt_rtr_id",
        "vrrp.checksum.status",
        "vrrp.prio",
    ];
    let adverts = tshark(&format!("vrrp && !icmp && eth.src == {ours}"), &fields);
    assert!(adverts.len() > 20, "{adverts:?}");
    let good = [destination, "255", "1", "3", "51", "1"];
    for advert in &adverts {
        assert_eq!(advert[..6], good, "to, TTL, IP checksum good, version, VRID, VRRP checksum good");
    }
    let released = adverts.iter().filter(|advert| advert[6] == "0").count();
    assert!((1..=3).contains(&released), "one stop, {released} adverts of priority 0");
    assert!(adverts.iter().all(|advert| ["0", "110"].contains(&advert[6].as_str())), "{adverts:?}");
    let theirs = tshark(&format!("vrrp.prio == 0 && !icmp && eth.src != {ours}"), &["ip.src"]);
    assert!(!theirs.is_empty(), "keepalived released the address by priority 0");
    for (opcode, form) in [("1", "request"), ("2", "reply")] {
        let filter = format!(
            "arp.isgratuitous && arp.src.proto_ipv4 == 192.0.2.100 && eth.src == {ours} && arp.opcode == {opcode}"
        );
        let announced = tshark(&filter, &["eth.dst", "arp.src.hw_mac", "arp.dst.proto_ipv4"]);
        assert!(announced.len() >= 3, "gratuitous ARP, {form}: {announced:?}");
        assert!(
            announced.iter().all(|row| *row == ["ff:ff:ff:ff:ff:ff", ours.as_str(), "192.0.2.100"]),
            "{announced:?}"
        );
    }
    println!("{} adverts of ours, {released} with priority 0, all well formed for tshark", adverts.len());
}

/// The Ethernet address of `eth0`, as text.
fn ether(netns: &Netns) -> String {
    let link = netns.ip("-o link show dev eth0").unwrap();
    link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

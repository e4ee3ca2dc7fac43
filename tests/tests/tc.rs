//! The TC datapath: on plain veths with everything they leave to be done, with tags, and beside other people's programs.
//! Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use common::{
    LIMIT, OFTEN, breaks, curl, end, plain, served_more, serving, serving_both, settle, streams_of, unstarted, wait,
    watches_open,
};
use lb_ebpf::cases::Frame;
use sha2::{Digest as _, Sha256};
use xvip_tests::agent::{Agent, adapt, find};
use xvip_tests::apiserver::pattern_digest;
use xvip_tests::capture::{Capture, Sender};
use xvip_tests::foreign::{Foreign, push_out};
use xvip_tests::netns::Netns;
use xvip_tests::process::Process;
use xvip_tests::run::{PIN_DIR, node_of};
use xvip_tests::scrape::Scrape;
use xvip_tests::stats::Failure;
use xvip_tests::status::Status;
use xvip_tests::topology::{BALANCERS, CLIENT, Topology, VIP, VIP_ADDRESS, mac, program, tc_programs};
use xvip_tests::version::Version;
use xvip_tests::wire::{finish_frames, single_packets};

const TC: (&str, &str) = ("datapath = \"xdp\"", "datapath = \"tc\"");
const AUTO: (&str, &str) = ("datapath = \"xdp\"", "datapath = \"auto\"");
/// The longest frame of a wire.
const WIRE: f64 = 1514.0;

/// Where the link of a node is pinned.
fn pin(node: &str, mode: &str) -> PathBuf {
    let directory = fs::read_dir(PIN_DIR).unwrap().flatten().map(|entry| entry.path());
    let of_node = |path: &PathBuf| path.file_name().is_some_and(|name| node_of(&name.to_string_lossy()) == node);
    directory.into_iter().find(of_node).unwrap().join(format!("link-{mode}-eth0"))
}

/// The program of ours on `eth0` of a namespace, if it is there.
fn ours(netns: &Netns) -> Option<u32> {
    tc_programs(netns, "eth0").unwrap().into_iter().find(|(_, name)| name == "xvip_tc").map(|(id, _)| id)
}

/// What the status says happened to the datapath.
fn told(status: &Status) -> Vec<String> {
    status.events.iter().filter(|event| event.subject == "datapath").map(|event| event.text.clone()).collect()
}

/// Packets and bytes of all backends: from clients ("in") or to them ("out").
fn traffic(topology: &Topology, direction: &str) -> (f64, f64) {
    let scrape = Scrape::of(topology.balancers[0].agent.netns()).unwrap();
    let sum = |name: &str| scrape.count(name, &[("direction", direction)]);
    (sum("xvip_backend_packets_total"), sum("xvip_backend_bytes_total"))
}

/// Waits until `bytes` more have been counted since `before`; bytes for each packet since then.
#[track_caller]
fn mean_length(topology: &Topology, direction: &str, before: (f64, f64), bytes: u64) -> f64 {
    wait("the bytes to be counted", || traffic(topology, direction).1 > before.1 + bytes as f64);
    let after = traffic(topology, direction);
    (after.1 - before.1) / (after.0 - before.0)
}

#[test]
fn a_plain_veth_is_served_with_segments_joined_and_checksums_unfinished() {
    bodies_arrive(Wires::Plain);
}

/// Then receivers verify every checksum; on plain veths nobody does.
#[test]
fn what_came_unfinished_leaves_right_where_the_balancer_has_to_finish_it() {
    bodies_arrive(Wires::Finished);
}

/// Native XDP is not for frames of this length, which do not fit a page.
#[test]
fn long_frames_are_served_as_they_are() {
    bodies_arrive(Wires::Jumbo);
}

/// What frames are like.
#[derive(Clone, Copy, PartialEq)]
enum Wires {
    /// Joined, with checksums unfinished.
    Plain,
    /// The same, and the balancer finishes what it sends.
    Finished,
    /// Apart, finished, and of up to 9014 bytes.
    Jumbo,
}

/// The longest that those are.
const JUMBO: f64 = 9014.0;

fn jumbo(topology: &Topology) {
    let ends = topology.servers.iter().map(|server| server.netns());
    let ends = ends.chain([&topology.client, topology.balancers[0].agent.netns()]);
    for netns in ends {
        let port = format!("{}.eth0", netns.role());
        for (netns, device) in [(topology.lan.netns(), port.as_str()), (netns, "eth0")] {
            netns.ip(&format!("link set {device} mtu 9000")).unwrap();
            single_packets(netns, device).unwrap();
        }
    }
}

fn bodies_arrive(wires: Wires) {
    let (topology, servers) = serving_both(1, &[OFTEN, TC]);
    let netns = topology.balancers[0].agent.netns();
    // Next hops of clients come from the kernel's tables then.
    for version in ["ipv4", "ipv6"] {
        netns.sysctl(&format!("net/{version}/conf/eth0/forwarding"), "1").unwrap();
    }
    match wires {
        Wires::Plain => plain(&topology),
        Wires::Finished => {
            plain(&topology);
            finish_frames(netns, "eth0").unwrap();
        }
        Wires::Jumbo => jumbo(&topology),
    }
    assert_eq!(topology.balancers[0].agent.status().unwrap().datapath.mode, "tc");
    let load = topology.load(Duration::from_millis(10), 6).unwrap();
    watches_open(&load);
    served_more(&load, 200);

    let bytes = 48_000_001;
    let digest = pattern_digest(bytes);
    let file = topology.run.dir().join("body");
    let ca = topology.authority.ca_file();
    for version in [Version::V4, Version::V6] {
        let place = version.at(VIP).unwrap();
        let before = traffic(&topology, "out");
        let words = ["-o", &file.display().to_string()];
        curl(&topology.client, &ca, &words, &format!("https://{place}/bytes?n={bytes}"));
        let sum: String = Sha256::digest(fs::read(&file).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, digest, "to the client, {version:?}");
        let down = mean_length(&topology, "out", before, bytes);

        let before = traffic(&topology, "in");
        let from = format!("@{}", file.display());
        let words = ["-H", "Expect:", "--data-binary", &from];
        let answer = curl(&topology.client, &ca, &words, &format!("https://{place}/digest"));
        assert_eq!(answer, digest, "to the backend, {version:?}");
        let up = mean_length(&topology, "in", before, bytes);
        println!("{version:?}: bytes a packet: {down:.0} to the client, {up:.0} to the backend");
        assert!(down > 2.0 * WIRE && up > 2.0 * WIRE, "segments arrive joined and stay so, or are long");
        assert!(wires != Wires::Jumbo || down <= JUMBO && up <= JUMBO);
    }

    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    drop((load, servers));
    end(topology);
}

#[test]
fn what_is_long_and_unfinished_is_answered_with_a_reset_too() {
    let (mut topology, servers) = serving_both(1, &[OFTEN, TC]);
    plain(&topology);
    let load = topology.load(Duration::from_millis(30), 9).unwrap();
    watches_open(&load);
    let gone = streams_of(&load, "master3");
    assert!(!gone.is_empty());
    // The balancer finishes its answers, so that their receivers verify them.
    finish_frames(topology.balancers[0].agent.netns(), "eth0").unwrap();
    // Three in a row are one on each backend. Nothing has been written on them yet.
    let connect = |version: Version| {
        let place = version.at(VIP).unwrap();
        topology.client.enter(|| TcpStream::connect(place).unwrap()).unwrap()
    };
    let streams: Vec<_> =
        [Version::V4, Version::V6].into_iter().flat_map(|version| (0..6).map(move |_| version)).map(connect).collect();
    let agent = &mut topology.balancers[0].agent;
    // The agent's own RSTs would come first.
    let silence = "add table inet t; add chain inet t c { type filter hook output priority 0; }; \
                   add rule inet t c tcp flags & rst == rst drop";
    assert!(agent.netns().command("nft").arg(silence).status().unwrap().success());
    let config = fs::read_to_string(agent.config()).unwrap();
    let backend = "\n[[service.backend]]\nname = \"master3\"\naddress = \"192.0.2.33:6443\"\n";
    agent.write_config(&adapt(&config, &[(backend, ""), (&Version::V6.text(backend), "")]).unwrap()).unwrap();
    agent.reload().unwrap();
    agent.wait_for("the backend to be gone", LIMIT, |status| status.backend("master3").is_none()).unwrap();
    let mut reset = 0;
    for mut stream in streams {
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        // Other backends take it for a bad TLS record and reset too, but only after an alert.
        let outcome = (0..100).try_for_each(|_| stream.write_all(&[0x5a; 60_000]));
        match outcome.map_err(|error| error.kind()) {
            Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => reset += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reset, 12);
    wait("the streams on master3 to break", || {
        let broken = breaks(&load);
        gone.iter().all(|stream| broken.iter().any(|(of, _)| of == stream))
    });
    assert!(breaks(&load).iter().all(|(stream, why)| gone.contains(stream) && *why == Failure::Reset));
    let answered = |status: &Status| {
        status
            .datapath
            .packets
            .iter()
            .any(|row| ["backend_gone", "no_flow"].contains(&row.reason.as_str()) && row.packets > 1)
    };
    topology.balancers[0].agent.wait_for("the answers to be counted", LIMIT, answered).unwrap();
    // One that was under way at master3 in that moment is reset with the streams there.
    let all = load.summary(Duration::ZERO, load.now());
    assert!(all.failed() <= 1 && all.failures.keys().all(|why| *why == Failure::Reset), "{}", all.failures_in_words());
    drop((load, servers));
    end(topology);
}

#[test]
fn other_peoples_programs_stay_where_they_are() {
    let mut topology = unstarted(1, &[OFTEN, AUTO]);
    let netns = topology.balancers[0].agent.netns().clone();
    let before = Foreign::attach_tc(&netns, "eth0", false).unwrap();
    let [theirs] = tc_programs(&netns, "eth0").unwrap().try_into().unwrap();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let found = tc_programs(&netns, "eth0").unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].1.as_str(), &found[1]), ("xvip_tc", &theirs), "ours is in front, theirs is still there");

    // Somebody puts one in front: it is reported, not fought.
    let in_front = Foreign::attach_tc(&netns, "eth0", true).unwrap();
    let agent = &mut topology.balancers[0].agent;
    let reported = |status: &Status| told(status).iter().any(|text| text.contains("see packets before it: program "));
    agent.wait_for("the report", LIMIT, reported).unwrap();
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    assert_eq!(tc_programs(&netns, "eth0").unwrap().len(), 3);
    drop(in_front);
    let agent = &mut topology.balancers[0].agent;
    let over = |status: &Status| told(status).last().is_some_and(|text| text.contains("any more"));
    agent.wait_for("its end to be reported", LIMIT, over).unwrap();

    // And after a clean stop theirs is all that is left.
    assert!(agent.stop(LIMIT).unwrap().unwrap().success());
    assert_eq!(tc_programs(&netns, "eth0").unwrap(), vec![theirs]);
    drop((before, netns));
    end(topology);
}

#[test]
fn where_another_xdp_program_is_tc_serves_beside_it() {
    let mut topology = unstarted(1, &[OFTEN, AUTO]);
    let netns = topology.balancers[0].agent.netns().clone();
    let foreign = Foreign::attach(&netns, "eth0", false).unwrap();
    let theirs = program(&netns).unwrap().unwrap();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let status = topology.balancers[0].agent.status().unwrap();
    println!("{}: {}", status.datapath.mode, status.datapath.reason);
    assert_eq!(status.datapath.mode, "tc");
    assert!(status.datapath.reason.contains(&format!("number {theirs}")), "{}", status.datapath.reason);
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    assert_eq!(program(&netns).unwrap(), Some(theirs), "it is still there");
    assert!(topology.balancers[0].agent.stop(LIMIT).unwrap().unwrap().success());
    assert_eq!(program(&netns).unwrap(), Some(theirs));
    drop((foreign, netns));
    end(topology);
}

#[test]
fn an_agent_that_dies_leaves_tc_serving_and_the_next_takes_it_over() {
    let mut topology = serving(1, &[OFTEN, TC]);
    let load = topology.load(Duration::from_millis(20), 4).unwrap();
    watches_open(&load);
    let netns = topology.balancers[0].agent.netns().clone();
    let first = ours(&netns).unwrap();
    topology.balancers[0].agent.kill9().unwrap();
    served_more(&load, 100);
    assert_eq!(ours(&netns), Some(first));
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let programs = tc_programs(&netns, "eth0").unwrap();
    assert!(programs.len() == 1 && programs[0].0 != first, "the program has been exchanged: {programs:?}");
    served_more(&load, 100);
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    assert!(topology.balancers[0].agent.stop(LIMIT).unwrap().unwrap().success());
    assert_eq!(tc_programs(&netns, "eth0").unwrap(), vec![]);
    drop((load, netns));
    end(topology);
}

#[test]
fn an_interface_that_is_made_anew_is_served_by_tc_again() {
    let mut topology = serving(1, &[OFTEN, TC]);
    let netns = topology.balancers[0].agent.netns().clone();
    let before = ours(&netns);
    netns.ip("link del eth0").unwrap();
    topology.balancers[0].agent.wait_for("the fault", LIMIT, |status| status.vrrp_state() == "fault").unwrap();
    let (_, address, _) = BALANCERS[0];
    topology.balancers[0].port = topology.lan.attach(&netns, "eth0", &format!("{address}/24")).unwrap();
    plain(&topology);
    wait("the program to be attached again", || ours(&netns).is_some_and(|program| Some(program) != before));
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    drop(netns);
    end(topology);
}

#[test]
fn a_program_that_is_pushed_out_is_missed_and_put_back() {
    for (mode, change) in [("tc", TC), ("xdp", ("datapath = \"xdp\"", "datapath = \"xdp\""))] {
        let mut topology = serving(1, &[OFTEN, change]);
        let netns = topology.balancers[0].agent.netns().clone();
        let attached = || if mode == "tc" { ours(&netns) } else { program(&netns).unwrap() };
        let before = attached();
        assert!(before.is_some());
        push_out(&pin(netns.name(), mode)).unwrap();
        wait("another to be attached", || attached().is_some_and(|program| Some(program) != before));
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        let status = topology.balancers[0].agent.status().unwrap();
        let told = told(&status);
        println!("{mode}: {told:?}");
        assert!(told.iter().any(|text| text.contains("the program on eth0 is gone")), "{told:?}");
        assert!(told.iter().any(|text| text.starts_with("attached again")), "{told:?}");
        assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
        drop(netns);
        end(topology);
    }
}

#[test]
fn a_program_whose_place_was_taken_waits_for_it() {
    let mut topology = serving(1, &[OFTEN]);
    let netns = topology.balancers[0].agent.netns().clone();
    push_out(&pin(netns.name(), "xdp")).unwrap();
    let foreign = Foreign::attach(&netns, "eth0", false).unwrap();
    let theirs = program(&netns).unwrap();
    let agent = &mut topology.balancers[0].agent;
    let status = agent
        .wait_for("the reason", LIMIT, |status| {
            status.datapath.mode == "none" && status.datapath.reason.contains("another XDP program")
        })
        .unwrap();
    assert_eq!(status.vrrp_state(), "fault", "a node that cannot forward holds no VIP");
    assert_eq!(program(&netns).unwrap(), theirs);
    drop(foreign);
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert_eq!(topology.balancers[0].agent.status().unwrap().datapath.mode, "xdp");
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    drop(netns);
    end(topology);
}

#[test]
fn another_nodes_agent_is_refused_beside_tc() {
    let mut topology = serving(1, &[OFTEN, TC]);
    let netns = topology.balancers[0].agent.netns().clone();
    let programs = tc_programs(&netns, "eth0").unwrap();
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let socket = Agent::socket_of(&netns).display().to_string();
    let other = [
        (format!("name = \"{}\"", netns.name()), format!("name = \"{}-2\"", netns.name())),
        (socket.clone(), format!("{socket}.2")),
        ("0.0.0.0:9910".to_owned(), "0.0.0.0:9911".to_owned()),
    ];
    let other: Vec<_> = other.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let file = topology.run.dir().join("second.toml");
    for change in [TC.1, "datapath = \"auto\"", "datapath = \"xdp\""] {
        let second = adapt(&adapt(&config, &other).unwrap(), &[(TC.1, change)]).unwrap();
        fs::write(&file, second).unwrap();
        let mut command = netns.command(find().unwrap());
        command.arg("run").arg("--config").arg(&file);
        let mut second = Process::spawn(&topology.run, "second", command).unwrap();
        let status = second.wait(LIMIT).unwrap();
        let log = second.log_tail(2);
        assert!(status.code() == Some(1) && log.contains("another xvip, of a node of another name"), "{log}");
    }
    assert_eq!(tc_programs(&netns, "eth0").unwrap(), programs);
    assert_eq!(program(&netns).unwrap(), None);
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    assert!(topology.balancers[0].agent.stop(LIMIT).unwrap().unwrap().success());
    drop(netns);
    end(topology);
}

#[test]
fn a_priority_is_kept_and_frames_of_other_vlans_pass() {
    const VIP_OCTETS: [u8; 4] = [192, 0, 2, 100];
    let topology = serving(1, &[OFTEN, TC]);
    let netns = topology.balancers[0].agent.netns();
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    let syn = |tag: Option<u16>, from_port: u16| {
        let plain = Frame {
            mac_to: mac(netns).unwrap(),
            mac_from: mac(&topology.client).unwrap(),
            from: CLIENT.parse().unwrap(),
            to: VIP_ADDRESS.parse().unwrap(),
            from_port,
            to_port: 8443,
            ttl: 64,
            identification: 7,
            fragment: 0x4000,
            sequence: 1_000_000,
            acknowledgement: 0,
            flags: 2,
            window: 500,
            options: Vec::new(),
            payload: Vec::new(),
        };
        let mut frame = plain.bytes();
        if let Some(tag) = tag {
            frame.splice(12..12, [[0x81, 0], tag.to_be_bytes()].concat());
        }
        frame
    };
    // Priority 3 in VLAN 7, priority 5 in no VLAN (IEEE 802.1Q section 6.9.1), and none.
    let frames = [syn(Some(0x6007), 40_007), syn(Some(0xa000), 40_000), syn(None, 40_001)];
    let (capture, client) = (Capture::start(netns, "eth0").unwrap(), Capture::start(&topology.client, "eth0").unwrap());
    let sender = Sender::open(&topology.client, "eth0").unwrap();
    frames.iter().for_each(|frame| sender.send(frame).unwrap());
    // The tag of each packet from the VIP to a backend.
    let parts = |frame: &[u8]| {
        let tag = (frame.get(12..14) == Some(&[0x81, 0])).then(|| u16::from_be_bytes([frame[14], frame[15]]));
        (tag, frame.get(if tag.is_some() { 18 } else { 14 }..).unwrap_or_default().to_vec())
    };
    let opened = || -> Vec<Option<u16>> {
        let sent = capture.frames(true).into_iter().map(|frame| parts(&frame));
        let is_syn = |packet: &[u8]| packet.get(12..16) == Some(&VIP_OCTETS) && packet.get(33) == Some(&2);
        sent.filter(|(_, packet)| is_syn(packet)).map(|(tag, _)| tag).collect()
    };
    wait("the last of them to be served", || opened().contains(&None));
    assert_eq!(opened(), [Some(0xa000), None]);
    let arrived = capture.frames(false);
    assert!(arrived.contains(&frames[0]) && arrived.contains(&frames[1]), "with their tags");
    let answered = |port: u16| {
        let is_answer =
            |packet: &[u8]| packet.get(12..16) == Some(&VIP_OCTETS) && packet.get(22..24) == Some(&port.to_be_bytes());
        client.frames(false).iter().any(|frame| is_answer(&parts(frame).1))
    };
    wait("backends to answer", || answered(40_000) && answered(40_001));
    assert!(!answered(40_007), "that is another network's");
    drop((capture, client, sender));
    end(topology);
}

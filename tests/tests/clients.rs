//! Clients through the VIP: HTTP of both versions, many connections, much data, and backends that come and go. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, end, served_more, serving, settle, streams_of, wait, watches_open};
use lb_ebpf::cases::Frame;
use sha2::{Digest as _, Sha256};
use xvip_tests::agent::adapt;
use xvip_tests::apiserver::pattern_digest;
use xvip_tests::capture::{Capture, Sender};
use xvip_tests::process::output_within;
use xvip_tests::scrape::Scrape;
use xvip_tests::stats::Failure;
use xvip_tests::status::Status;
use xvip_tests::topology::{Topology, VIP, mac};

/// Connections so far, by backend.
fn connections(topology: &Topology) -> Vec<u64> {
    let status = topology.balancers[0].agent.status().unwrap();
    status.services[0].backends.iter().map(|backend| backend.connections_total).collect()
}

/// As [`connections`], once there are at least `all` more than `before`.
#[track_caller]
fn connections_since(topology: &Topology, before: &[u64], all: u64) -> Vec<u64> {
    let mut since = Vec::new();
    wait(&format!("{all} connections to be counted"), || {
        since = connections(topology).iter().zip(before).map(|(now, before)| now - before).collect();
        since.iter().sum::<u64>() >= all
    });
    since
}

/// `h2load` with a number of requests over a number of connections; every one has to succeed.
#[track_caller]
fn h2load(topology: &Topology, requests: u32, connections: u32) {
    let mut h2load = topology.client.command("h2load");
    h2load.args(["-n", &requests.to_string(), "-c", &connections.to_string(), "-m", "10"]);
    h2load.args(["--connection-inactivity-timeout", "30"]).arg(format!("https://{VIP}/whoami"));
    let (status, output) = output_within(h2load, Duration::from_secs(120)).unwrap();
    let line = output.lines().find(|line| line.starts_with("requests:")).unwrap_or_default();
    println!("h2load, {connections} connections: {line}");
    assert!(status.success(), "{output}");
    let all = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert_eq!(line, all, "{output}");
}

/// The whole spread that turns may have: every CPU takes its own, and each begins anew with new weights.
fn spread() -> u64 {
    2 * std::thread::available_parallelism().unwrap().get() as u64
}

#[test]
fn curl_speaks_both_versions_and_moves_bodies_unharmed() {
    let topology = serving(1, &[OFTEN]);
    for (word, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        let (status, answer) = topology.curl(&[word, "-f"], "/whoami").unwrap();
        assert!(status.success() && answer.contains(&format!("\"protocol\":\"{version}\"")), "{answer}");
        assert!(answer.contains("\"peer\":\"192.0.2.100:"), "backends see the VIP as their client: {answer}");
    }
    let bytes = 24_000_001;
    let digest = pattern_digest(bytes);
    let file = topology.run.dir().join("body");
    let (to, from) = (file.display().to_string(), format!("@{}", file.display()));
    for word in ["--http1.1", "--http2"] {
        let (status, _) = topology.curl(&[word, "-f", "-o", &to], &format!("/bytes?n={bytes}")).unwrap();
        assert!(status.success());
        let sum: String =
            Sha256::digest(std::fs::read(&file).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, digest, "download, {word}");
        let (_, answer) = topology.curl(&[word, "-f", "-H", "Expect:", "--data-binary", &from], "/digest").unwrap();
        assert_eq!(answer, digest, "upload, {word}");
    }
    end(topology);
}

#[test]
fn new_connections_are_spread_by_weight_and_none_fails() {
    let mut topology = serving(1, &[OFTEN]);
    let before = connections(&topology);
    h2load(&topology, 6000, 600);
    let equal = connections_since(&topology, &before, 600);
    println!("equal weights: {equal:?}");
    assert_eq!(equal.iter().sum::<u64>(), 600);
    assert!(equal.iter().max().unwrap() - equal.iter().min().unwrap() <= spread(), "{equal:?}");

    let agent = &mut topology.balancers[0].agent;
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let heavy = adapt(&config, &[("name = \"master1\"\n", "name = \"master1\"\nweight = 3\n")]).unwrap();
    agent.write_config(&heavy).unwrap();
    agent.reload().unwrap();
    wait("the reload", || {
        Scrape::of(agent.netns()).unwrap().value("xvip_backend_weight", &[("backend", "master1")]) == Some(3.0)
    });
    let before = connections(&topology);
    h2load(&topology, 5000, 1000);
    let weighted = connections_since(&topology, &before, 1000);
    println!("weights 3:1:1: {weighted:?}");
    for (got, share) in weighted.iter().zip([600, 200, 200]) {
        assert!(got.abs_diff(share) <= 10 + spread(), "{weighted:?}");
    }
    let status = topology.balancers[0].agent.status().unwrap();
    let lost: Vec<_> = status
        .datapath
        .packets
        .iter()
        .filter(|row| ["no_source_port", "table_full"].contains(&row.reason.as_str()))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    end(topology);
}

#[test]
fn a_backend_that_says_500_gets_no_new_connection_and_keeps_the_old_ones() {
    let mut topology =
        serving(1, &[("interval = \"1s\"\ntimeout = \"500ms\"", "interval = \"2s\"\ntimeout = \"1500ms\"")]);
    let load = topology.load(Duration::from_millis(15), 9).unwrap();
    watches_open(&load);
    served_more(&load, 100);
    let on_it = streams_of(&load, "master2");
    assert!(!on_it.is_empty(), "none of nine streams is on master2: {:?} {:?}", load.watches(), load.servers());

    topology.servers[1].set_ready(false).unwrap();
    let agent = &mut topology.balancers[0].agent;
    let down = agent.wait_for("master2 to be down", LIMIT, |s| state(s, "master2") == "down").unwrap();
    let scrape = Scrape::of(agent.netns()).unwrap();
    assert_eq!(
        scrape.count("xvip_health_check_total", &[("backend", "master2"), ("result", "not_ready")]),
        1.0,
        "one such answer is enough: {}",
        down.backend("master2").unwrap().reason
    );
    assert_eq!(scrape.value("xvip_backend_up", &[("backend", "master2")]), Some(0.0));
    let from = load.now();
    served_more(&load, 300);
    let sum = load.summary(from, settle(&load));
    let master2 = load.servers().iter().position(|name| name == "master2").unwrap() as u16;
    assert_eq!((sum.failed(), sum.by_server.get(&master2)), (0, None), "{sum:?}");
    assert_eq!(streams_of(&load, "master2"), on_it, "established streams go on");
    assert_eq!(breaks(&load), []);

    topology.servers[1].set_ready(true).unwrap();
    topology.balancers[0].agent.wait_for("master2 to be up", LIMIT, |s| state(s, "master2") == "up").unwrap();
    let from = load.now();
    wait("master2 to be used again", || load.summary(from, load.now()).by_server.contains_key(&master2));
    let sum = load.summary(Duration::ZERO, load.now());
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    drop(load);
    end(topology);
}

#[test]
fn a_backend_that_refuses_is_left_out_after_its_checks() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 0).unwrap();
    served_more(&load, 100);
    let killed = load.now();
    topology.servers[2].kill9().unwrap();
    let agent = &mut topology.balancers[0].agent;
    let status = agent.wait_for("master3 to be down", LIMIT, |s| state(s, "master3") == "down").unwrap();
    let backend = status.backend("master3").unwrap();
    // The third or one after it, when the status was asked.
    assert!(backend.reason.contains("refused") && backend.reason.contains("failures in a row"), "{backend:?}");
    let down = load.now();
    served_more(&load, 200);
    let after = load.summary(down, settle(&load));
    let during = load.summary(killed, down);
    println!(
        "until it was noticed {} of {}, then {} of {}",
        during.failed(),
        during.attempts,
        after.failed(),
        after.attempts
    );
    assert!(during.failures.keys().all(|why| [Failure::Refused, Failure::Reset].contains(why)), "{during:?}");
    assert_eq!(after.failed(), 0, "{after:?}");

    topology.servers[2].revive().unwrap();
    topology.balancers[0].agent.wait_for("master3 to be up", LIMIT, |s| state(s, "master3") == "up").unwrap();
    let revived = load.now();
    let master3 = load.servers().iter().position(|name| name == "master3").unwrap() as u16;
    wait("master3 to be used again", || load.summary(revived, load.now()).by_server.contains_key(&master3));
    assert_eq!(load.summary(revived, load.now()).failed(), 0);
    drop(load);
    end(topology);
}

#[test]
fn when_every_backend_fails_all_are_used() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 3).unwrap();
    watches_open(&load);
    for server in &mut topology.servers {
        server.set_ready(false).unwrap();
    }
    let agent = &mut topology.balancers[0].agent;
    agent.wait_for("to fail open", LIMIT, |s| s.services[0].fail_open).unwrap();
    assert!(agent.status().unwrap().services[0].backends.iter().all(|backend| backend.state == "down"));
    let scrape = Scrape::of(agent.netns()).unwrap();
    assert_eq!(scrape.value("xvip_service_fail_open", &[("service", "apiserver")]), Some(1.0));
    let from = load.now();
    served_more(&load, 200);
    assert_eq!(load.summary(from, load.now()).by_server.len(), 3, "over all of them");
    for server in &mut topology.servers {
        server.set_ready(true).unwrap();
    }
    let agent = &mut topology.balancers[0].agent;
    agent.wait_for("to be well again", LIMIT, |s| s.all_up() && !s.services[0].fail_open).unwrap();
    let scrape = Scrape::of(agent.netns()).unwrap();
    assert_eq!(scrape.value("xvip_service_fail_open", &[("service", "apiserver")]), Some(0.0));
    assert_eq!((load.summary(Duration::ZERO, load.now()).failed(), breaks(&load)), (0, vec![]));
    drop(load);
    end(topology);
}

#[test]
fn a_packet_of_no_flow_is_reset_at_once() {
    let topology = serving(1, &[OFTEN]);
    // Fills the client's neighbour table, and with it the addresses of the frame below.
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    let capture = Capture::start(&topology.client, "eth0").unwrap();
    let stray = Frame {
        mac_to: mac(topology.balancers[0].agent.netns()).unwrap(),
        mac_from: mac(&topology.client).unwrap(),
        from: "192.0.2.10".parse().unwrap(),
        to: "192.0.2.100".parse().unwrap(),
        from_port: 55_555,
        to_port: 8443,
        ttl: 64,
        identification: 7,
        fragment: 0x4000,
        sequence: 1_000_000,
        acknowledgement: 2_000_000,
        flags: 0x18,
        window: 500,
        options: Vec::new(),
        payload: b"who knows me?".to_vec(),
    };
    Sender::open(&topology.client, "eth0").unwrap().send(&stray.bytes()).unwrap();
    let is_answer =
        |frame: &[u8]| frame.len() >= 54 && frame[12..14] == [8, 0] && frame[36..38] == 55_555_u16.to_be_bytes();
    let mut answers = Vec::new();
    wait("an answer", || {
        answers = capture.frames(false).into_iter().filter(|frame| is_answer(frame)).collect();
        !answers.is_empty()
    });
    let reset = Frame {
        mac_to: stray.mac_from,
        mac_from: stray.mac_to,
        from: stray.to,
        to: stray.from,
        from_port: stray.to_port,
        to_port: stray.from_port,
        ttl: answers[0][22],
        identification: u16::from_be_bytes([answers[0][18], answers[0][19]]),
        // RFC 9293 section 3.10.7.1: the sequence number of a RST is what the segment acknowledged.
        sequence: stray.acknowledgement,
        acknowledgement: 0,
        flags: 0x04,
        window: 0,
        payload: Vec::new(),
        ..stray.clone()
    };
    let answer = &answers[0][..reset.bytes().len()];
    assert_eq!(answer, reset.bytes());
    wait("the answer to be counted", || {
        let status = topology.balancers[0].agent.status().unwrap();
        status.datapath.packets.iter().any(|row| row.verdict == "reply" && row.reason == "no_flow" && row.packets > 0)
    });
    drop(capture);
    end(topology);
}

#[test]
fn streams_to_a_backend_taken_from_the_file_break_and_do_not_hang() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(30), 9).unwrap();
    watches_open(&load);
    let gone = streams_of(&load, "master3");
    assert!(!gone.is_empty());
    let agent = &mut topology.balancers[0].agent;
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let backend = "\n[[service.backend]]\nname = \"master3\"\naddress = \"192.0.2.33:6443\"\n";
    agent.write_config(&adapt(&config, &[(backend, "")]).unwrap()).unwrap();
    agent.reload().unwrap();
    wait("the streams on master3 to break", || {
        let broken = breaks(&load);
        gone.iter().all(|stream| broken.iter().any(|(of, _)| of == stream))
    });
    watches_open(&load);
    let broken = breaks(&load);
    assert!(broken.iter().all(|(stream, why)| gone.contains(stream) && *why == Failure::Reset), "{broken:?} {gone:?}");
    assert_eq!(streams_of(&load, "master3"), Vec::<usize>::new());
    assert_eq!(load.summary(Duration::ZERO, load.now()).failed(), 0);
    drop(load);
    end(topology);
}

fn state<'a>(status: &'a Status, backend: &str) -> &'a str {
    status.backend(backend).map_or("", |backend| backend.state.as_str())
}

//! `xvip capture`: packets before and after the datapath, by XDP and by TC, while nobody notices. Needs root and tshark.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, curl, end, served_more, serving, serving_both, settle, wait, watches_open};
use nix::sys::signal::Signal;
use xvip_tests::agent::{self, Agent};
use xvip_tests::client::Client;
use xvip_tests::ipv6::{self, tshark};
use xvip_tests::process::Process;
use xvip_tests::topology::{CLIENT, Topology, VIP_ADDRESS};

/// What a packet says in a file: interface, source, destination, flags of TCP, comment.
type Row = (String, String, String, String, String);

fn rows(file: &Path, filter: &str) -> Vec<Row> {
    let fields = ["frame.interface_name", "ip.src", "ip.dst", "tcp.flags", "frame.comment"];
    let rows = tshark(file, filter, &fields).unwrap();
    let row = |row: Vec<String>| {
        let mut fields = row.into_iter().map(|field| field.to_ascii_lowercase());
        let mut next = || fields.next().unwrap_or_default();
        (next(), next(), next(), next(), next())
    };
    rows.into_iter().map(row).collect()
}

/// `xvip capture` with these words, that goes on.
fn capturing(agent: &Agent, words: &[&str]) -> Process {
    let mut command = agent.netns().command(agent::find().unwrap());
    command.arg("capture").args(words).arg("--socket").arg(Agent::socket_of(agent.netns()));
    Process::spawn(agent.netns().run(), "capture", command).unwrap()
}

/// The same until it ends by itself; what it said.
#[track_caller]
fn captured(agent: &Agent, words: &[&str]) -> String {
    let (status, text) = agent.command(&[&["capture"], words].concat()).unwrap();
    assert!(status.success(), "{words:?}: {text}");
    text
}

fn has_ended(agent: &Agent, times: usize) -> bool {
    let events = agent.status().unwrap().events;
    events.iter().filter(|event| event.text.contains("packets are not shown any more")).count() >= times
}

/// A handshake is in the file as the client has it and as the backend has it.
#[track_caller]
fn both_sides_of_handshakes(file: &Path, place: &str) {
    let syns = rows(file, "tcp.flags.syn == 1 && ip");
    let entered: BTreeSet<_> = syns.iter().filter(|row| row.0 == format!("eth0 {place} enters")).collect();
    let left: BTreeSet<_> = syns.iter().filter(|row| row.0 == format!("eth0 {place} left")).collect();
    let is = |row: &&&Row, source: Option<&str>, destination: Option<&str>, comment: &str| {
        source.is_none_or(|source| row.1 == source)
            && destination.is_none_or(|destination| row.2 == destination)
            && row.4 == comment
    };
    let count = |rows: &BTreeSet<&Row>, source, destination, comment| {
        rows.iter().filter(|row| is(row, source, destination, comment)).count()
    };
    assert!(count(&entered, Some(CLIENT), Some(VIP_ADDRESS), "forward new_flow") > 0, "{entered:?}");
    assert!(count(&left, Some(VIP_ADDRESS), None, "forward new_flow") > 0, "{left:?}");
    assert_eq!(count(&left, Some(CLIENT), None, "forward new_flow"), 0, "the source is translated: {left:?}");
    assert!(count(&entered, None, Some(VIP_ADDRESS), "forward handshake") > 0, "{entered:?}");
    assert!(count(&left, Some(VIP_ADDRESS), Some(CLIENT), "forward handshake") > 0, "{left:?}");
    // Checksums are as they left, or open for the device to finish.
    let wrong = rows(file, "ip.checksum.status == 0");
    assert_eq!(wrong, [], "{place}");
}

/// No connection failed and no stream broke since.
#[track_caller]
fn nothing_was_noticed(load: &Client, from: Duration) {
    served_more(load, 20);
    let sum = load.summary(from, settle(load));
    assert_eq!(sum.failed(), 0, "{}", sum.failures_in_words());
    assert_eq!(breaks(load), []);
}

fn loaded(topology: &Topology) -> Client {
    let load = topology.load(Duration::from_millis(20), 6).unwrap();
    watches_open(&load);
    served_more(&load, 10);
    load
}

#[test]
fn packets_are_shown_by_xdp() {
    let (topology, servers) = serving_both(1, &[OFTEN]);
    let agent = &topology.balancers[0].agent;
    let load = loaded(&topology);
    let from = load.now();
    let file = topology.run.dir().join("xdp.pcapng");
    let said = captured(agent, &["--write", file.to_str().unwrap(), "--count", "300"]);
    both_sides_of_handshakes(&file, "xdp");
    assert!(said.contains("300 packets captured"), "{said}");
    wait("the end to be told", || has_ended(agent, 1));

    // Of IPv6, and only what was asked for.
    let mut process = capturing(agent, &["--address", ipv6::CLIENT]);
    let url = format!("https://[{}]:8443/whoami", ipv6::VIP);
    wait("a connection to be shown", || {
        curl(&topology.client, &topology.authority.ca_file(), &[], &url);
        process.log_tail(200).contains(&format!("[{}]:8443 SYN  ->  forward new_flow: ", ipv6::VIP))
    });
    assert!(!process.log_tail(200).contains(CLIENT), "{}", process.log_tail(200));

    // One at a time; and one that is gone without a word does not keep the others out for long.
    let (status, text) = agent.command(&["capture", "--count", "1"]).unwrap();
    let refused = format!("packets are shown to uid 0 (process {}) already", process.pid());
    assert!(status.code() == Some(1) && text.contains(&refused), "{text}");
    process.kill9().unwrap();
    wait("a dead one to be forgotten", || has_ended(agent, 2));
    let (status, text) = agent.command(&["capture", "--count", "1"]).unwrap();
    assert!(status.success() && text.contains("  ->  "), "{text}");
    let (status, text) = agent.command_of_nobody(&["capture"]).unwrap();
    assert!(status.code() == Some(1) && text.contains("permission"), "{text}");
    nothing_was_noticed(&load, from);
    drop((load, servers));
    end(topology);
}

#[test]
fn packets_are_shown_by_tc() {
    let mut topology = serving(1, &[OFTEN, ("datapath = \"xdp\"", "datapath = \"tc\"")]);
    let load = loaded(&topology);
    let from = load.now();
    let file = topology.run.dir().join("tc.pcapng");
    let mut process = capturing(&topology.balancers[0].agent, &["--write", file.to_str().unwrap()]);
    wait("packets in the file", || std::fs::metadata(&file).is_ok_and(|meta| meta.len() > 50_000));
    // The agent may be started anew meanwhile, and goes on to show packets.
    let before = topology.balancers[0].agent.status().unwrap().started_at;
    topology.balancers[0].agent.hand_over(LIMIT).unwrap();
    topology.balancers[0].agent.start().unwrap();
    wait("the next agent to show packets", || {
        let status = topology.balancers[0].agent.status();
        status.is_ok_and(|status| {
            let is_asked = status.events.iter().any(|event| event.text.contains("packets are shown to"));
            status.started_at > before && is_asked
        })
    });
    let so_far = std::fs::metadata(&file).unwrap().len();
    wait("more packets in the file", || std::fs::metadata(&file).unwrap().len() > so_far + 50_000);
    process.signal(Signal::SIGINT).unwrap();
    assert!(process.wait(LIMIT).unwrap().success(), "{}", process.log_tail(5));
    both_sides_of_handshakes(&file, "tc");
    let agent = &topology.balancers[0].agent;
    wait("the end to be told", || has_ended(agent, 1));
    nothing_was_noticed(&load, from);
    drop(load);
    end(topology);
}

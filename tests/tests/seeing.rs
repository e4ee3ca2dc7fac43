//! What an operator sees of connections: the table of flows, why one goes where it goes, and their log. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LIMIT, OFTEN, curl, end, served_more, settle, unstarted, wait, watches_open};
use serde_json::Value;
use xvip::connections::{Connection, Connections};
use xvip::explain::Explanation;
use xvip_tests::agent::Agent;
use xvip_tests::topology::{CLIENT, Topology, VIP, sharing};

const STREAMS: usize = 6;

#[track_caller]
fn said(agent: &Agent, exit: i32, line: &str) -> String {
    let (status, text) = agent.command(&line.split(' ').collect::<Vec<_>>()).unwrap();
    assert_eq!(status.code(), Some(exit), "xvip {line}: {text}");
    text
}

#[track_caller]
fn connections(agent: &Agent, words: &str) -> Vec<Connection> {
    let text = said(agent, 0, &format!("connections --json{words}"));
    let found: Connections = serde_json::from_str(&text).unwrap();
    assert_eq!(found.total, found.connections.len() as u64);
    found.connections
}

fn streams(agent: &Agent) -> Vec<Connection> {
    let is_stream = |of: &Connection| of.state == "established";
    connections(agent, "").into_iter().filter(is_stream).collect()
}

#[track_caller]
fn explain(agent: &Agent, words: &str) -> Explanation {
    serde_json::from_str(&said(agent, 0, &format!("explain --json {words}"))).unwrap()
}

/// The lines of a log of flows.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last one may be under way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn of<'l>(lines: &'l [Value], event: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// Two balancers that share their flows and log them.
fn world() -> Topology {
    let mut topology = unstarted(2, &[OFTEN]);
    let shared = sharing(topology.run.dir()).unwrap();
    for balancer in &mut topology.balancers {
        let agent = &mut balancer.agent;
        let log = log_of(agent);
        let config = fs::read_to_string(agent.config()).unwrap();
        let text = format!("{config}\n{shared}\n[flow_log]\npath = \"{}\"\n", log.display());
        agent.write_config(&text).unwrap();
        agent.start().unwrap();
    }
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    topology
}

fn log_of(agent: &Agent) -> PathBuf {
    agent.config().with_extension("flows")
}

#[test]
fn connections_are_listed_explained_and_logged() {
    let topology = world();
    let owner = topology.owner().unwrap();
    let load = topology.load(Duration::from_millis(15), STREAMS).unwrap();
    watches_open(&load);
    let (holder, backup) = (&topology.balancers[owner].agent, &topology.balancers[1 - owner].agent);
    let log = log_of(holder);

    // What is there, whole and in parts.
    wait("the streams in the table", || streams(holder).len() >= STREAMS);
    let all = streams(holder);
    assert!(all.iter().all(|of| of.client.starts_with(&format!("{CLIENT}:")) && of.listener == VIP), "{all:?}");
    assert!(all.iter().all(|of| of.service.as_deref() == Some("apiserver") && of.origin == "own"), "{all:?}");
    let sources: BTreeSet<_> = all.iter().map(|of| (&of.address, &of.seen_as)).collect();
    assert_eq!(sources.len(), all.len(), "each has a source port of its own at its backend: {all:?}");
    for name in ["master1", "master2", "master3"] {
        let of = connections(holder, &format!(" --backend apiserver/{name}"));
        assert!(of.iter().all(|of| of.backend.as_deref() == Some(name)), "{of:?}");
    }
    assert_eq!(connections(holder, " --client 192.0.2.99"), []);
    let one = &all[0];
    let alone = connections(holder, &format!(" --client {}", one.client));
    assert_eq!((alone.len(), &alone[0].seen_as), (1, &one.seen_as));
    let text = said(holder, 0, "connections --limit 2");
    assert!(text.starts_with("CLIENT ") && text.contains("xvip: 2 of ") && text.lines().count() == 4, "{text}");
    said(holder, 1, "connections --backend master9");
    let (status, text) = holder.command_of_nobody(&["connections"]).unwrap();
    assert!(status.success() && text.contains("apiserver"), "{text}");

    // The other balancer has been told of them.
    let clients = |of: &[Connection]| of.iter().map(|of| of.client.clone()).collect::<BTreeSet<_>>();
    wait("the backup to list the streams", || clients(&streams(backup)).is_superset(&clients(&alone)));
    let learnt = streams(backup).into_iter().find(|of| of.client == one.client).unwrap();
    assert_eq!((learnt.origin.as_str(), &learnt.backend, &learnt.seen_as), ("sync", &one.backend, &one.seen_as));

    // Why one is where it is, and where another would go.
    let known = explain(holder, &one.client);
    assert_eq!(known.flow.as_ref().and_then(|flow| flow.backend.clone()), one.backend);
    assert!(known.words.starts_with(&format!("goes on to {}", one.backend_name())), "{known:?}");
    let new = explain(holder, &format!("{CLIENT}:9 {VIP}"));
    assert_eq!((new.flow.is_none(), new.outcome.as_str(), new.balance.as_str()), (true, "new_flow", "roundrobin"));
    assert!(new.vip.starts_with("this node holds it"), "{new:?}");
    let sum: f64 = new.candidates.iter().map(|of| of.chance).sum();
    assert!(new.candidates.iter().all(|of| of.takes && of.chance > 0.2) && (sum - 1.0).abs() < 1e-9, "{new:?}");
    assert!(explain(backup, &format!("{CLIENT}:9")).vip.starts_with("not on this node"));
    assert_eq!(explain(holder, &format!("{CLIENT}:9 192.0.2.100:9")).outcome, "not_service");

    // Who looks at packets has the datapath loaded anew, of which the log knows nothing.
    said(holder, 0, "capture --count 3");
    wait("the datapath from before", || {
        let events = holder.status().unwrap().events;
        events.iter().any(|event| event.text.contains("packets are not shown any more"))
    });

    said(holder, 0, "backend drain master3");
    let new = explain(holder, &format!("{CLIENT}:9"));
    let drained = new.candidates.iter().find(|of| of.name == "master3").unwrap();
    assert!(!drained.takes && drained.chance == 0.0 && drained.why.starts_with("draining"), "{drained:?}");
    let text = said(holder, 0, &format!("explain {CLIENT}:9"));
    assert!(text.contains("next in turn of master1, master2\n"), "{text}");

    // By the hash, and only for some: what it says is what happens.
    let before = fs::read_to_string(holder.config()).unwrap();
    let changed =
        before.replacen("\nbalance = \"roundrobin\"\n", "\nbalance = \"source\"\nallow = [\"192.0.2.0/24\"]\n", 1);
    assert_ne!(before, changed);
    holder.write_config(&changed).unwrap();
    said(holder, 0, "reload");
    let new = explain(holder, &format!("{CLIENT}:9"));
    let chosen: Vec<_> = new.candidates.iter().filter(|of| of.chance == 1.0).map(|of| of.name.clone()).collect();
    let [chosen] = chosen.as_slice() else { panic!("one follows from the client: {new:?}") };
    let said_now = curl(&topology.client, &topology.authority.ca_file(), &[], &format!("https://{VIP}/whoami"));
    assert!(said_now.contains(chosen.as_str()), "{said_now}: {new:?}");
    let stranger = explain(holder, &format!("198.51.100.7:9 {VIP}"));
    assert_eq!((stranger.outcome.as_str(), stranger.words.starts_with("dropped")), ("not_allowed", true));

    // The log was opened anew by that reload, and is without any, where it has been moved.
    let moved = log.with_extension("flows.1");
    fs::rename(&log, &moved).unwrap();
    served_more(&load, 20);
    settle(&load);
    wait("the log to be opened anew", || of(&lines(&log), "closed").len() >= 20);
    holder.write_config(&changed.replace(".flows\"", "/none/lb.flows\"")).unwrap();
    assert!(said(holder, 1, "reload").contains("flow_log.path: cannot open"));
    holder.write_config(&changed).unwrap();

    // Every connection opens and ends once, with the same ends, and has carried something.
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!(sum.failed(), 0, "{sum:?}");
    let count = sum.attempts as usize;
    drop(load);
    let both = || [lines(&moved), lines(&log)].concat();
    wait("all ends to be logged", || of(&both(), "closed").len() > count && streams(holder).is_empty());
    wait("the last lines", || of(&both(), "closed").len() == of(&both(), "opened").len());
    let all = both();
    assert_eq!(of(&all, "left_out"), Vec::<&Value>::new());
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let key = |line: &Value| (text(line, "client"), text(line, "seen_as"), text(line, "backend"));
    let opened: BTreeMap<_, _> = of(&all, "opened").into_iter().map(|line| (key(line), text(line, "at"))).collect();
    for line in of(&all, "closed") {
        assert_eq!(Some(&text(line, "opened_at")), opened.get(&key(line)), "{line}");
        // The last ones were cut off.
        let least = if line["cause"] == "reset" { 0 } else { 300 };
        assert!(line["bytes_from_client"].as_u64().unwrap() > least, "a TLS hello and a request: {line}");
        assert!(line["bytes_from_backend"].as_u64().unwrap() > least, "a certificate and an answer: {line}");
        assert!(line["bytes_from_backend"].as_u64().unwrap() < 1 << 20, "{line}");
    }
    let after = of(&lines(&log), "opened").into_iter().map(|line| text(line, "backend")).collect::<BTreeSet<_>>();
    assert_eq!(after, [chosen.clone()].into(), "all from one address come to one");
    end(topology);
}

//! Allow lists and limits of sources, changed under a client's eyes. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, curl, end, served_more, serving, settle, wait, watches_open};
use xvip_tests::agent::{Agent, adapt};
use xvip_tests::scrape::Scrape;
use xvip_tests::stats::Failure;
use xvip_tests::topology::VIP;

const LISTEN: &str = "listen = \"192.0.2.100:8443\"\n";

/// Applies the configuration with these lines in the service.
#[track_caller]
fn apply(agent: &mut Agent, whole: &str, lines: &str) {
    let before = agent.status().unwrap().config.reloads;
    agent.write_config(&adapt(whole, &[(LISTEN, &format!("{LISTEN}{lines}\n"))]).unwrap()).unwrap();
    agent.reload().unwrap();
    agent.wait_for("the reload", LIMIT, |status| status.config.reloads > before).unwrap();
}

fn counted(agent: &Agent, reason: &str) -> f64 {
    Scrape::of(agent.netns()).unwrap().count("xvip_datapath_packets_total", &[("reason", reason)])
}

#[test]
fn who_may_connect_changes_without_a_moment_of_everyone_or_nobody() {
    let mut topology = serving(1, &[OFTEN]);
    let whole = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let load = topology.load(Duration::from_millis(10), 8).unwrap();
    watches_open(&load);
    let agent = &mut topology.balancers[0].agent;

    // Lists that have the client, one after the other: nobody notices.
    let from = load.now();
    for lines in [
        "allow = [\"192.0.2.10\"]",
        "allow = [\"10.0.0.0/8\", \"192.0.2.0/28\"]",
        "allow = [\"192.0.2.0/24\", \"203.0.113.0/24\"]",
        "",
        "allow = [\"0.0.0.0/0\"]",
        "allow = [\"192.0.2.8/29\"]",
    ] {
        apply(agent, &whole, lines);
        served_more(&load, 30);
    }
    let to = settle(&load);
    assert_eq!(load.summary(from, to).failed(), 0);
    assert_eq!(counted(agent, "not_allowed"), 0.0);

    // A list without it, and another: connections that are open stay, new ones get no answer, this node's own clients do.
    apply(agent, &whole, "allow = [\"192.0.2.11\", \"10.0.0.0/8\"]");
    let from = load.now();
    apply(agent, &whole, "allow = [\"203.0.113.0/24\"]");
    wait("refused connections", || load.summary(from, load.now()).failed() > 20);
    let refused = load.attempts_since(from);
    let ended = |failure: Failure| refused.iter().filter(|attempt| attempt.outcome == Err(failure)).count();
    assert_eq!(ended(Failure::Reset), 0, "no answer is given");
    assert_eq!(load.summary(from + Duration::from_millis(1), load.now()).served, 0);
    assert!(counted(agent, "not_allowed") > 20.0);
    assert_eq!(breaks(&load), []);
    let text = curl(agent.netns(), &topology.authority.ca_file(), &[], &format!("https://{VIP}/whoami"));
    assert!(text.contains("\"server\":"), "{text}");

    // And again with it.
    let agent = &mut topology.balancers[0].agent;
    apply(agent, &whole, "allow = [\"192.0.2.10\"]");
    let from = load.now();
    served_more(&load, 50);
    let to = settle(&load);
    assert_eq!(load.summary(from, to).failed(), 0);
    assert_eq!(breaks(&load), []);

    // A limit: the client is cut to it, another is not, and what is open goes on.
    let limit = "source_limit = { connections_per_second = 10, burst = 10 }";
    apply(agent, &whole, limit);
    let from = load.now();
    wait("ten seconds' worth", || load.now() > from + Duration::from_secs(4));
    let served = load.summary(from, load.now()).served;
    assert!((20..=75).contains(&served), "{served} in four seconds and a little");
    assert!(counted(agent, "source_limit") > 100.0);
    let status = agent.status().unwrap();
    let sources = status.table("limited_sources").unwrap();
    assert!((1..=2).contains(&sources.entries), "{sources:?}");
    assert!(status.table("established").unwrap().bytes > 1 << 20, "{status:?}");
    let other = topology.servers[0].netns();
    for _ in 0..5 {
        curl(other, &topology.authority.ca_file(), &[], &format!("https://{VIP}/whoami"));
    }

    // As many connections as the client has: it is told that it gets no more, another does, and what is open goes on.
    let agent = &mut topology.balancers[0].agent;
    apply(agent, &whole, "source_limit = { connections = 8 }");
    agent.wait_for("a full source", LIMIT, |status| status.table("full_sources").unwrap().entries == 1).unwrap();
    let from = load.now();
    let refused =
        || load.attempts_since(from).iter().filter(|attempt| attempt.outcome == Err(Failure::Refused)).count();
    wait("refused connections", || refused() > 20);
    assert!(counted(agent, "source_full") > 20.0);
    curl(other, &topology.authority.ca_file(), &[], &format!("https://{VIP}/whoami"));
    assert_eq!(breaks(&load), []);
    let agent = &mut topology.balancers[0].agent;
    apply(agent, &whole, "source_limit = { connections = 10000 }");
    agent.wait_for("nobody full", LIMIT, |status| status.table("full_sources").unwrap().entries == 0).unwrap();
    served_more(&load, 20);
    apply(agent, &whole, "");
    let from = load.now();
    served_more(&load, 100);
    let to = settle(&load);
    assert_eq!(load.summary(from, to).failed(), 0);
    assert_eq!(breaks(&load), []);
    drop(load);
    end(topology);
}

//! Agents that tell each other of their flows: who has the key is believed, a node that joins is told everything, and
//! connections live through every way in which a VIP moves. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, end, unstarted, wait, watches_open};
use xvip_tests::client::{Client, Options};
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::{BALANCERS, Topology};

/// Streams with an event in this time: each hears of a move when its next event comes.
const SELDOM: Duration = Duration::from_secs(4);
/// Longer than that, and than the silence after which the client gives a stream up.
const HEARD: Duration = Duration::from_millis(6500);
const IDLE: usize = 50;
const BUSY: usize = 8;

fn value(topology: &Topology, balancer: usize, name: &str, labels: &[(&str, &str)]) -> f64 {
    let scraped = Scrape::of(topology.balancers[balancer].agent.netns());
    scraped.ok().and_then(|scrape| scrape.value(name, labels)).unwrap_or_default()
}

fn peer_of(balancer: usize) -> (&'static str, &'static str) {
    ("peer", BALANCERS[1 - balancer].1)
}

fn is_up(topology: &Topology, balancer: usize) -> bool {
    value(topology, balancer, "xvip_sync_peer_up", &[peer_of(balancer)]) == 1.0
}

/// Writes a key that only root can read, and names it in the balancer's configuration.
fn share(topology: &Topology, balancer: usize, key: char) {
    let agent = &topology.balancers[balancer].agent;
    let file = topology.run.dir().join(format!("{}.key", agent.name()));
    fs::write(&file, format!("{}\n", key.to_string().repeat(64))).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let config = fs::read_to_string(agent.config()).unwrap();
    if !config.contains("[sync]") {
        let sync = format!("\n[sync]\nkey_file = \"{}\"\n", file.display());
        agent.write_config(&(config + &sync)).unwrap();
    }
}

fn flows(topology: &Topology, balancer: usize) -> f64 {
    value(topology, balancer, "xvip_connection_table_entries", &[("table", "established")])
}

/// Waits until a node has what the other one has, which holds all the streams.
#[track_caller]
fn told(topology: &Topology, to: usize) {
    wait("the table to be told", || {
        is_up(topology, 0)
            && is_up(topology, 1)
            && value(topology, to, "xvip_sync_tables_total", &[peer_of(to), ("direction", "received")]) > 0.0
            && flows(topology, to) >= 2.0 * (IDLE + BUSY) as f64
    });
}

fn streams(topology: &Topology, watches: usize, watch_interval: Duration) -> Client {
    let options = Options { watches, watch_interval, every: Duration::from_millis(20), ..options(topology) };
    let client = Client::start(&topology.client, options).unwrap();
    watches_open(&client);
    client
}

fn options(topology: &Topology) -> Options {
    Options::https(Topology::vip(), topology.authority.ca_file())
}

#[test]
fn connections_live_through_every_move_between_agents_that_share_a_key() {
    let mut topology = unstarted(2, &[OFTEN]);
    share(&topology, 0, 'a');
    share(&topology, 1, 'b');
    topology.balancers[0].agent.start().unwrap();
    let active = topology.balancers[0].agent.wait_for("to be active", LIMIT, |status| status.is_active());
    active.unwrap_or_else(|err| panic!("{err:#}"));
    let (idle, busy) = (streams(&topology, IDLE, SELDOM), streams(&topology, BUSY, Duration::from_millis(100)));

    // One with another key learns nothing, until it has the right one and reloads.
    topology.balancers[1].agent.start().unwrap();
    wait("the wrong key to be noticed", || {
        let refused = "xvip_sync_refused_datagrams_total";
        (0..2).all(|at| value(&topology, at, refused, &[peer_of(at), ("reason", "proof")]) > 0.0)
    });
    assert!(!is_up(&topology, 0) && !is_up(&topology, 1));
    assert_eq!(flows(&topology, 1), 0.0, "nothing was told");
    share(&topology, 1, 'a');
    topology.balancers[1].agent.reload().unwrap();
    told(&topology, 1);
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let stays = |topology: &Topology, after: &str| {
        sleep(HEARD);
        let lag = (0..2).map(|at| {
            let of = |name: &str| value(topology, at, name, &[peer_of(at)]);
            of("xvip_sync_lag_seconds_sum") / of("xvip_sync_lag_seconds_count").max(1.0)
        });
        println!(
            "{after}: mean lag {:?} s; flows {:?}",
            lag.collect::<Vec<_>>(),
            [flows(topology, 0), flows(topology, 1)]
        );
        assert_eq!((breaks(&idle), breaks(&busy)), (vec![], vec![]), "after {after}");
    };
    stays(&topology, "a node has joined");

    // The holder stops, and the VIP goes to the other; then it comes back and is told everything.
    let holder = topology.owner().unwrap();
    let stopped = topology.balancers[holder].agent.stop(LIMIT).unwrap();
    assert!(stopped.unwrap().success());
    wait("the other to hold the VIP", || topology.owners() == [1 - holder]);
    stays(&topology, "the holder has stopped");
    topology.balancers[holder].agent.start().unwrap();
    told(&topology, holder);
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    // The holder's wire is cut.
    let holder = topology.owner().unwrap();
    topology.balancers[holder].port.cut().unwrap();
    wait("the other to hold the VIP", || topology.owners() == [1 - holder]);
    stays(&topology, "the holder was cut off");
    topology.balancers[holder].port.mend().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    told(&topology, holder);

    // The holder's agent is killed; its datapath goes on until the next agent comes.
    let holder = topology.owner().unwrap();
    topology.balancers[holder].agent.kill9().unwrap();
    let other = 1 - holder;
    topology.balancers[other].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    stays(&topology, "the holder was killed");
    topology.balancers[holder].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    told(&topology, holder);
    stays(&topology, "the killed one is back");
    watches_open(&idle);
    watches_open(&busy);
    for (at, (name, ..)) in BALANCERS.into_iter().enumerate() {
        let bytes = |direction| value(&topology, at, "xvip_sync_bytes_total", &[peer_of(at), ("direction", direction)]);
        println!("{name}: {} bytes sent, {} received", bytes("sent"), bytes("received"));
    }
    drop((idle, busy));
    end(topology);
}

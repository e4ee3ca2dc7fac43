//! Connections that live through a move of the VIP, between nodes that know each other's flows. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, SANDBOX, breaks, streams_of, wait, watches_open};
use xvip_tests::agent::{self, adapt};
use xvip_tests::client::{Client, Options};
use xvip_tests::netns::Netns;
use xvip_tests::run::leftovers;
use xvip_tests::scrape::Scrape;
use xvip_tests::stacked::{NODES, Stacked};
use xvip_tests::topology::{CLIENT, VIP, host, sharing};
use xvip_tests::until::until;
use xvip_tests::version::Version;

/// Longer than the silence after which the client gives a stream up: whatever is open then has had events.
const HEARD: Duration = Duration::from_millis(6500);

#[track_caller]
fn stacked(version: Version, service: &str, datapath: &str) -> Stacked {
    let xvip = agent::find().unwrap();
    let listen = format!("\"{VIP}\"");
    let built = Stacked::over(version, &xvip, Path::new(SANDBOX), &listen, service);
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    let sync = format!("{}[admin]", sharing(stacked.run.dir()).unwrap());
    for node in &mut stacked.nodes {
        let config = std::fs::read_to_string(node.agent.config()).unwrap();
        let (name, with) = ("interface = \"eth0\"", format!("interface = \"eth0\"\ndatapath = \"{datapath}\""));
        node.agent.write_config(&adapt(&config, &[(name, &with), ("[admin]", &sync)]).unwrap()).unwrap();
    }
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    wait("every node to hear the others", || {
        stacked.nodes.iter().zip(NODES).all(|(node, (_, own, _))| {
            let others = NODES.map(|(_, address, _)| address).into_iter().filter(|address| *address != own);
            Scrape::of(&node.netns).is_ok_and(|scrape| {
                others
                    .map(|address| version.text(address))
                    .all(|address| scrape.value("xvip_sync_peer_up", &[("peer", &address)]) == Some(1.0))
            })
        })
    });
    stacked
}

#[track_caller]
fn nothing_left(run: &str) {
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(run).is_empty().then_some(()));
    assert_eq!(leftovers(run), Vec::<String>::new());
}

/// Moves the VIP to a node, under agents that live on.
#[track_caller]
fn move_to(stacked: &mut Stacked, to: usize) {
    let order: Vec<_> = (0..NODES.len()).filter(|node| *node != to).chain([to]).collect();
    for node in order {
        let agent = &mut stacked.nodes[node].agent;
        let config = std::fs::read_to_string(agent.config()).unwrap();
        let priority = if node == to { 200 } else { NODES[node].2 };
        let lines = config.lines().filter(|line| !line.starts_with("preempt = "));
        let lines = lines.map(|line| match line.starts_with("priority = ") {
            true => format!("priority = {priority}\npreempt = true"),
            false => line.to_owned(),
        });
        agent.write_config(&(lines.collect::<Vec<_>>().join("\n") + "\n")).unwrap();
        agent.reload().unwrap();
    }
    wait("the VIP to have moved", || stacked.holder().is_ok_and(|(holder, _)| holder == to));
    stacked.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
}

#[track_caller]
fn watching(stacked: &Stacked, netns: &Netns, version: Version, watches: usize) -> Client {
    let options = Options {
        watches,
        every: Duration::from_millis(20),
        ..Options::https(version.at(VIP).unwrap(), stacked.authority.ca_file())
    };
    let client = Client::start(netns, options).unwrap();
    watches_open(&client);
    client
}

/// How packets have ended on each node.
fn packets(stacked: &Stacked) -> String {
    let of = |node: &xvip_tests::stacked::Node| {
        let status = node.agent.status().unwrap_or_default();
        let rows = status.datapath.packets.iter().filter(|row| row.packets > 0);
        let rows: Vec<_> = rows.map(|row| format!("{} {}", row.reason, row.packets)).collect();
        format!("{}: {}", node.agent.name(), rows.join(", "))
    };
    stacked.nodes.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// Streams of each node's server.
fn spread(client: &Client) -> Vec<usize> {
    NODES.iter().map(|(name, ..)| streams_of(client, name).len()).collect()
}

/// Connections with servers on the old holder, the new one and another live through moves there and back, and those that can
/// through the loss of the holder.
#[track_caller]
fn live_through_moves(version: Version, service: &str, datapath: &str) {
    let mut stacked = stacked(version, service, datapath);
    let (netns, port) = host(&stacked.lan, &stacked.run, "client", CLIENT).unwrap();
    version.equip(&netns, CLIENT).unwrap();
    // Each agent sees that flows are shared, and makes its host ready.
    wait("answers at home to be met", || {
        stacked.nodes.iter().all(|node| {
            let pins = Path::new("/sys/fs/bpf/xvip").join(node.netns.name().replace('.', ":"));
            pins.join("link-home-lo").exists()
        })
    });
    let client = watching(&stacked, &netns, version, 24);
    println!("streams by server: {:?}", spread(&client));
    assert!(spread(&client).iter().all(|streams| *streams > 3), "every server has some");
    let from = client.now();
    for to in [1, 2, 0] {
        move_to(&mut stacked, to);
        sleep(HEARD);
        assert_eq!(breaks(&client), [], "after the move to {}: {:?}", NODES[to].0, spread(&client));
    }
    // There and back, as fast as it goes.
    for to in [1, 0, 1, 0, 2] {
        move_to(&mut stacked, to);
    }
    sleep(HEARD);
    assert_eq!(breaks(&client), [], "after five moves: {:?}", spread(&client));
    watches_open(&client);
    let moved = client.now();
    let during = client.summary(from, moved);
    println!(
        "eight moves: outage {:?}, {} served, failed: {}",
        during.outage,
        during.served,
        during.failures_in_words()
    );

    // The holder is lost with its own server's connections, and no others.
    let of_servers = NODES.map(|(name, ..)| streams_of(&client, name));
    let own = &of_servers[2];
    stacked.nodes[2].port.cut().unwrap();
    wait("another to hold the VIP", || {
        stacked.nodes[..2].iter().any(|node| node.agent.status().is_ok_and(|status| status.is_active()))
    });
    sleep(HEARD);
    let lost: BTreeMap<_, _> = breaks(&client).into_iter().collect();
    println!("the holder's loss broke {} of 24 streams, {} were its own server's", lost.len(), own.len());
    let others: Vec<_> = lost.iter().filter(|(stream, _)| !own.contains(stream)).collect();
    assert!(others.is_empty(), "{others:?}, streams by server {of_servers:?}, packets {}", packets(&stacked));
    drop(client);
    let run = stacked.run.name().to_owned();
    drop((stacked, netns, port));
    nothing_left(&run);
}

#[test]
fn connections_live_through_moves_between_stacked_nodes() {
    live_through_moves(Version::V4, "", "auto");
}

#[test]
fn the_same_by_tc_over_ipv6() {
    live_through_moves(Version::V6, "", "tc");
}

#[test]
fn the_same_with_direct_return() {
    live_through_moves(Version::V4, "mode = \"dsr\"", "auto");
}

//! API servers on the balancers themselves, reached by a client from outside. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, SANDBOX, wait};
use xvip_tests::agent::{self, adapt};
use xvip_tests::netns::Netns;
use xvip_tests::process::output_within;
use xvip_tests::run::leftovers;
use xvip_tests::stacked::{NODES, Stacked};
use xvip_tests::topology::host;
use xvip_tests::until::until;

const VIP: &str = "192.0.2.100:8443";
const CLIENT: &str = "192.0.2.50";

#[track_caller]
fn serving(listen: &str, service: &str) -> (Stacked, Netns) {
    let xvip = agent::find().unwrap();
    let built = Stacked::build(&xvip, Path::new(SANDBOX), listen, service);
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let (client, _) = host(&stacked.lan, &stacked.run, "client", CLIENT).unwrap();
    (stacked, client)
}

#[track_caller]
fn end(stacked: Stacked, client: Netns) {
    let run = stacked.run.name().to_owned();
    drop(client);
    drop(stacked);
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

/// Connections from the client to the VIP, none of which may fail; how many each server has answered.
#[track_caller]
fn dial(stacked: &Stacked, client: &Netns, target: &str, count: usize) -> Vec<(String, usize)> {
    let target: SocketAddr = target.parse().unwrap();
    let dialled = stacked.dial_from(client, None, target, count, "/whoami").unwrap();
    assert!(dialled.failed.is_empty(), "{dialled:?}");
    assert_eq!(dialled.answers(), count);
    dialled.served.into_iter().collect()
}

/// Who answers one more connection, and whom it sees as its client.
fn whoami(stacked: &Stacked, client: &Netns) -> (String, String) {
    let mut curl = client.command("curl");
    let ca = stacked.authority.ca_file();
    curl.args(["-s", "--max-time", "5", "--cacert"]).arg(ca).arg(format!("https://{VIP}/whoami"));
    let (status, text) = output_within(curl, LIMIT).unwrap();
    assert!(status.success(), "{text}");
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("{text}"));
        rest.split('"').next().unwrap().to_owned()
    };
    (field("server"), field("peer"))
}

/// Packets of a node that ended so.
fn packets(stacked: &Stacked, node: usize, reason: &str) -> u64 {
    let status = stacked.nodes[node].agent.status().unwrap();
    status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum()
}

fn state(stacked: &Stacked, node: usize, backend: &str) -> String {
    let status = stacked.nodes[node].agent.status().unwrap();
    status.backend(backend).map_or_else(String::new, |backend| backend.state.clone())
}

#[test]
fn a_client_from_outside_is_served_by_every_node() {
    let (mut stacked, client) = serving(&format!("\"{VIP}\""), "");
    let (holder, _) = stacked.holder().unwrap();

    let served = dial(&stacked, &client, VIP, 600);
    let most = served.iter().map(|(_, count)| count).max().unwrap();
    let least = served.iter().map(|(_, count)| count).min().unwrap();
    assert!(served.len() == 3 && most - least <= 2 * std::thread::available_parallelism().unwrap().get(), "{served:?}");
    assert!(packets(&stacked, holder, "to_local") > 0 && packets(&stacked, holder, "from_local") > 0);

    // The holder's own server sees the client itself, the others see the VIP.
    let mut seen = std::collections::BTreeMap::new();
    wait("all servers to have answered", || {
        let (server, peer) = whoami(&stacked, &client);
        seen.insert(server, peer.split(':').next().unwrap().to_owned());
        seen.len() == 3
    });
    for (node, (name, ..)) in NODES.iter().enumerate() {
        assert_eq!(seen[*name], if node == holder { CLIENT } else { "192.0.2.100" }, "{seen:?}");
    }

    // A direct connection to the same server from the same client is none of ours.
    let (name, address, _) = NODES[holder];
    assert_eq!(dial(&stacked, &client, &format!("{address}:6443"), 20), [(name.to_owned(), 20)]);

    // Much data, through whoever's turn it is; once at least it is the holder's own.
    let before = packets(&stacked, holder, "from_local");
    for _ in 0..6 {
        let bulk = stacked.dial_from(&client, None, VIP.parse().unwrap(), 1, "/bytes?n=20000000").unwrap();
        assert!(bulk.failed.is_empty() && bulk.bytes > 20_000_000, "{bulk:?}");
    }
    wait("its own server to have sent some of it", || packets(&stacked, holder, "from_local") > before + 100);

    // Its own server dies: once that is known nobody notices, and so when it is back.
    stacked.nodes[holder].server.kill9().unwrap();
    wait("it to be down", || state(&stacked, holder, name) == "down");
    let without = dial(&stacked, &client, VIP, 300);
    assert_eq!(without.len(), 2, "{without:?}");
    stacked.nodes[holder].server.revive().unwrap();
    wait("it to be up", || state(&stacked, holder, name) == "up");
    assert_eq!(dial(&stacked, &client, VIP, 300).len(), 3);

    // The configuration loses that backend, and gets it back.
    let agent = &mut stacked.nodes[holder].agent;
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let backend = format!("\n[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:6443\"\n");
    agent.write_config(&adapt(&config, &[(&backend, "")]).unwrap()).unwrap();
    agent.reload().unwrap();
    agent.wait_for("the backend to be gone", LIMIT, |status| status.backend(name).is_none()).unwrap();
    assert_eq!(dial(&stacked, &client, VIP, 300).len(), 2);
    let agent = &mut stacked.nodes[holder].agent;
    agent.write_config(&config).unwrap();
    agent.reload().unwrap();
    agent.wait_for("the backend to be up", LIMIT, |status| status.all_up()).unwrap();
    assert_eq!(dial(&stacked, &client, VIP, 300).len(), 3);

    // The agent is killed and another adopts what it left: nobody notices.
    stacked.nodes[holder].agent.kill9().unwrap();
    stacked.nodes[holder].start_agent().unwrap();
    stacked.wait_serving(LIMIT).unwrap();
    assert_eq!(dial(&stacked, &client, VIP, 300).len(), 3);

    // The VIP moves: another node's own server is inside now.
    let (holder, others) = stacked.holder().unwrap();
    let status = stacked.nodes[holder].agent.stop(LIMIT).unwrap();
    assert!(status.is_some_and(|status| status.success()));
    wait("another to hold the VIP", || {
        others.iter().any(|node| stacked.nodes[*node].agent.status().is_ok_and(|status| status.is_active()))
    });
    assert_eq!(dial(&stacked, &client, VIP, 300).len(), 3);
    end(stacked, client);
}

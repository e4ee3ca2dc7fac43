//! Services of IPv6: what the others show for IPv4, by XDP beside IPv4, and by TC with API servers on the nodes. Needs root
//! and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, OFTEN, SANDBOX, both_served, curl, end, served_more, serving_both, settle, wait, watches_open};
use sha2::{Digest as _, Sha256};
use xvip_tests::agent;
use xvip_tests::apiserver::pattern_digest;
use xvip_tests::client::{Client, Options};
use xvip_tests::dial::{self, Dialled};
use xvip_tests::ipv6::{ROUTER, VIP, router, shown};
use xvip_tests::run::leftovers;
use xvip_tests::stacked::{NODES, Stacked};
use xvip_tests::status::Status;
use xvip_tests::topology::{Balancer, Topology, host};
use xvip_tests::until::until;
use xvip_tests::version::Version;

const PLACE: &str = "[2001:db8::100]:8443";

fn url(path: &str) -> String {
    format!("https://{PLACE}{path}")
}

fn load(topology: &Topology, watches: usize) -> Client {
    let options = Options::https(PLACE.parse().unwrap(), topology.authority.ca_file());
    Client::start(&topology.client, Options { every: Duration::from_millis(15), watches, ..options }).unwrap()
}

#[test]
fn both_families_are_served_by_xdp_and_much_data_arrives_unharmed() {
    let (topology, servers) = serving_both(2, &[OFTEN]);
    let ca = topology.authority.ca_file();
    let (four, six) = (topology.load(Duration::from_millis(15), 3).unwrap(), load(&topology, 3));
    for client in [&four, &six] {
        watches_open(client);
        served_more(client, 200);
    }
    let whoami = curl(&topology.client, &ca, &[], &url("/whoami"));
    assert!(whoami.contains("\"peer\":\"[2001:db8::100]:"), "backends see the VIP as their client: {whoami}");

    let bytes = 24_000_001;
    let digest = pattern_digest(bytes);
    let file = topology.run.dir().join("body");
    let (to, from) = (file.display().to_string(), format!("@{}", file.display()));
    for word in ["--http1.1", "--http2"] {
        curl(&topology.client, &ca, &[word, "-o", &to], &url(&format!("/bytes?n={bytes}")));
        let sum: String = Sha256::digest(fs::read(&file).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, digest, "download, {word}");
        let answer = curl(&topology.client, &ca, &[word, "-H", "Expect:", "--data-binary", &from], &url("/digest"));
        assert_eq!(answer, digest, "upload, {word}");
    }

    let options = dial::Options {
        target: PLACE.parse().unwrap(),
        ca_file: ca,
        count: 3000,
        at_once: 32,
        path: "/whoami".to_owned(),
    };
    let dialled = dial::run(Path::new(SANDBOX), &topology.client, None, &options, Duration::from_secs(240)).unwrap();
    assert!(dialled.failed.is_empty() && dialled.answers() == 3000, "{dialled:?}");
    assert_eq!(dialled.servers().len(), 3);

    // Both families are counted, each for its own service.
    let holder = topology.owner().unwrap();
    let status = topology.balancers[holder].agent.status().unwrap();
    let opened = |name: &str| -> u64 {
        let service = status.services.iter().find(|service| service.name == name).unwrap();
        service.backends.iter().map(|backend| backend.connections_total).sum()
    };
    assert!(opened("apiserver") >= 200 && opened("apiserver6") >= 800, "{:?}", status.services);
    for client in [&four, &six] {
        assert_eq!(client.summary(Duration::ZERO, settle(client)).failed(), 0);
    }
    drop((four, six, servers));
    end(topology);
}

/// Does something to the node that holds both VIPs, sees the other take over and clients of both families served.
#[track_caller]
fn fail_over(topology: &mut Topology, fault: fn(&mut Balancer), repair: fn(&mut Balancer)) {
    let six = load(topology, 3);
    watches_open(&six);
    served_more(&six, 50);
    let has =
        |topology: &Topology, node: usize| shown(topology.balancers[node].agent.netns(), &VIP.to_string()).is_some();
    let holder = (0..2).find(|node| has(topology, *node)).unwrap();
    let from = six.now();
    fault(&mut topology.balancers[holder]);
    let is_active = |status: &Status| router(status, ROUTER).is_some_and(|router| router.state == "active");
    topology.balancers[1 - holder].agent.wait_for("to be active", LIMIT, is_active).unwrap();
    wait("the VIP on the other node", || has(topology, 1 - holder));
    served_more(&six, 50);
    watches_open(&six);
    let resumed = six.now();
    served_more(&six, 50);
    let repaired = six.now();
    repair(&mut topology.balancers[holder]);
    both_served(topology);
    let healed = six.now();
    served_more(&six, 50);
    let during = six.summary(from, resumed);
    println!("outage {:?}, failed: {}", during.outage, during.failures_in_words());
    for after in [six.summary(resumed, repaired), six.summary(healed, settle(&six))] {
        assert_eq!(after.failed(), 0, "{after:?}");
    }
}

#[test]
fn the_other_takes_over_after_a_stop_a_kill_and_a_cut() {
    let (mut topology, servers) = serving_both(2, &[OFTEN]);
    fail_over(
        &mut topology,
        |holder| assert!(holder.agent.stop(LIMIT).unwrap().unwrap().success(), "{}", holder.agent.log_tail(10)),
        |holder| holder.agent.start().unwrap(),
    );
    fail_over(&mut topology, |holder| holder.agent.kill9().unwrap(), |holder| holder.agent.start().unwrap());
    fail_over(&mut topology, |holder| holder.port.cut().unwrap(), |holder| holder.port.mend().unwrap());
    drop(servers);
    end(topology);
}

#[test]
fn a_dead_server_costs_no_connection_once_that_is_known() {
    let (topology, mut servers) = serving_both(2, &[OFTEN]);
    let six = load(&topology, 0);
    served_more(&six, 50);
    let holder = topology.owner().unwrap();
    let is = |state: &str| {
        let status = topology.balancers[holder].agent.status().unwrap();
        let service = status.services.iter().find(|service| service.name == "apiserver6").unwrap();
        service.backends[1].state == state
    };
    servers[1].kill9().unwrap();
    wait("it to be down", || is("down"));
    let known = six.now();
    served_more(&six, 100);
    servers[1].revive().unwrap();
    wait("it to be up", || is("up"));
    served_more(&six, 100);
    assert_eq!(six.summary(known, settle(&six)).failed(), 0);
    drop((six, servers));
    end(topology);
}

/// Everywhere a service may be found.
const EVERYWHERE: &str = "[\"192.0.2.100:8443\", \"0.0.0.0:4300\", \"127.0.0.1:8443\"]";

#[track_caller]
fn dial(stacked: &Stacked, node: usize, target: &str, count: usize) -> Dialled {
    let target = Version::V6.at(target).unwrap();
    let dialled = stacked.dial(node, target, count, "/whoami").unwrap();
    assert!(dialled.failed.is_empty() && dialled.answers() == count, "{} to {target}: {dialled:?}", NODES[node].0);
    assert_eq!(dialled.peers, [(target.to_string(), count)].into(), "what getpeername says");
    dialled
}

#[test]
fn nodes_with_their_own_servers_serve_clients_from_outside_and_their_own() {
    let xvip = agent::find().unwrap();
    let built = Stacked::over(Version::V6, &xvip, Path::new(SANDBOX), EVERYWHERE, "");
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let (client, _) = host(&stacked.lan, &stacked.run, "client", "192.0.2.50").unwrap();
    Version::V6.equip(&client, "192.0.2.50").unwrap();
    let (holder, others) = stacked.holder().unwrap();

    for (node, (name, address, _)) in NODES.into_iter().enumerate() {
        let own = format!("{address}:4300");
        for target in ["192.0.2.100:8443", "192.0.2.100:4300", "127.0.0.1:8443", "127.0.0.1:4300", &own] {
            assert_eq!(dial(&stacked, node, target, 12).servers(), [name], "{target}");
        }
        // Whoever names a backend means it.
        for (other, address, _) in NODES {
            assert_eq!(dial(&stacked, node, &format!("{address}:6443"), 3).servers(), [other]);
        }
    }
    // Its own server dies: the others come at once.
    stacked.nodes[others[0]].server.kill9().unwrap();
    let at_once = dial(&stacked, others[0], "127.0.0.1:8443", 200);
    assert_eq!(at_once.servers().len(), 2, "{at_once:?}");
    stacked.nodes[others[0]].server.revive().unwrap();
    stacked.wait_serving(LIMIT).unwrap();

    let outside = |stacked: &Stacked, count: usize| {
        let target = Version::V6.at("192.0.2.100:8443").unwrap();
        let dialled = stacked.dial_from(&client, None, target, count, "/whoami").unwrap();
        assert!(dialled.failed.is_empty() && dialled.answers() == count, "{dialled:?}");
        dialled.servers().len()
    };
    assert_eq!(outside(&stacked, 3000), 3);
    let packets = |stacked: &Stacked, reason: &str| -> u64 {
        let status = stacked.nodes[holder].agent.status().unwrap();
        status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum()
    };
    assert!(packets(&stacked, "to_local") > 0 && packets(&stacked, "from_local") > 0);
    let before = packets(&stacked, "from_local");
    for _ in 0..6 {
        let bulk = stacked
            .dial_from(&client, None, Version::V6.at("192.0.2.100:8443").unwrap(), 1, "/bytes?n=20000000")
            .unwrap();
        assert!(bulk.failed.is_empty() && bulk.bytes > 20_000_000, "{bulk:?}");
    }
    wait("its own server to have sent some of it", || packets(&stacked, "from_local") > before + 100);

    // The holder's own server sees the client itself, the others see the VIP.
    let mut seen = std::collections::BTreeSet::new();
    wait("all servers to have answered", || {
        seen.insert(
            curl(&client, &stacked.authority.ca_file(), &[], &url("/whoami"))
                .replace(|c: char| c.is_ascii_digit(), "#"),
        );
        let text = seen.iter().cloned().collect::<String>();
        text.contains("\"peer\":\"[####:db#::##]:") && text.contains("\"peer\":\"[####:db#::###]:")
    });

    // The VIP moves: another node's own server is inside now.
    let status = stacked.nodes[holder].agent.stop(LIMIT).unwrap();
    assert!(status.is_some_and(|status| status.success()));
    wait("another to hold the VIP", || {
        others.iter().any(|node| stacked.nodes[*node].agent.status().is_ok_and(|status| status.is_active()))
    });
    assert_eq!(outside(&stacked, 300), 3);
    let run = stacked.run.name().to_owned();
    drop((client, stacked));
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

//! A stacked control plane: the nodes' own clients, through the connect hooks. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{LIMIT, SANDBOX, wait};
use xvip_tests::agent::{self, adapt};
use xvip_tests::cgroup::Cgroup;
use xvip_tests::dial::Dialled;
use xvip_tests::hooks::{self, ForeignHook, Statistics};
use xvip_tests::netns::Netns;
use xvip_tests::run::leftovers;
use xvip_tests::scrape::Scrape;
use xvip_tests::stacked::{NODES, Stacked};
use xvip_tests::topology::host;
use xvip_tests::until::until;

/// Everywhere a service may be found by a node's own clients.
const EVERYWHERE: &str = "[\"192.0.2.100:8443\", \"0.0.0.0:4300\", \"127.0.0.1:8443\"]";

#[track_caller]
fn serving(listen: &str, service: &str) -> Stacked {
    let xvip = agent::find().unwrap();
    let built = Stacked::build(&xvip, Path::new(SANDBOX), listen, service);
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    stacked
}

#[track_caller]
fn end(stacked: Stacked) {
    let run = stacked.run.name().to_owned();
    drop(stacked);
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Connections from a node to a place; none may fail, and all must believe to have reached that place.
#[track_caller]
fn dial(stacked: &Stacked, node: usize, target: &str, count: usize) -> Dialled {
    let dialled = stacked.dial(node, at(target), count, "/whoami").unwrap();
    assert!(dialled.failed.is_empty(), "{} to {target}: {dialled:?}", NODES[node].0);
    assert_eq!(dialled.answers(), count);
    assert_eq!(dialled.peers, [(target.to_owned(), count)].into(), "what getpeername says");
    dialled
}

/// Connections of a node's own clients so far, by backend.
fn translated(stacked: &Stacked, node: usize) -> Vec<u64> {
    let status = stacked.nodes[node].agent.status().unwrap();
    status.services[0].backends.iter().map(|backend| backend.local_connections_total).collect()
}

fn state(stacked: &Stacked, node: usize, backend: &str) -> String {
    let status = stacked.nodes[node].agent.status().unwrap();
    status.backend(backend).map_or_else(String::new, |backend| backend.state.clone())
}

#[test]
fn every_node_reaches_its_own_server_wherever_it_dials() {
    let stacked = serving(EVERYWHERE, "");
    for (node, (name, address, _)) in NODES.into_iter().enumerate() {
        let own = format!("{address}:4300");
        for target in [
            "192.0.2.100:8443",
            "192.0.2.100:4300",
            "127.0.0.1:8443",
            "127.0.0.1:4300",
            &own,
            "[::ffff:192.0.2.100]:8443",
        ] {
            assert_eq!(dial(&stacked, node, target, 12).servers(), [name], "{target}");
        }
        // Whoever names a backend means it.
        for (other, address, _) in NODES {
            assert_eq!(dial(&stacked, node, &format!("{address}:6443"), 3).servers(), [other]);
        }
        let status = stacked.nodes[node].agent.status().unwrap();
        assert!(status.local.attached, "{:?}", status.local);
        assert_eq!(status.local.cgroup.as_deref(), stacked.nodes[node].cgroup.path().to_str());
        wait("the connections to be counted", || translated(&stacked, node).iter().sum::<u64>() == 72);
        let scrape = Scrape::of(&stacked.nodes[node].netns).unwrap();
        assert_eq!(scrape.value("xvip_local_attached", &[]), Some(1.0));
        assert_eq!(scrape.value("xvip_local_connections_total", &[("backend", name)]), Some(72.0));
        assert_eq!(scrape.value("xvip_backend_connections_total", &[("backend", name)]), Some(0.0), "no packets");
    }

    // Outside of the cgroup nothing is translated; nor inside, in another network namespace.
    let node = &stacked.nodes[0];
    let outside = stacked.dial_from(&node.netns, None, at("127.0.0.1:4300"), 2, "/whoami").unwrap();
    assert_eq!(outside.answers(), 0, "{outside:?}");
    let pod = Netns::create(&stacked.run, "pod").unwrap();
    for target in ["127.0.0.1:4300", "127.0.0.1:8443"] {
        let other = stacked.dial_from(&pod, Some(&node.cgroup), at(target), 2, "/whoami").unwrap();
        assert_eq!(other.answers(), 0, "{other:?}");
    }
    drop(pod);
    end(stacked);
}

#[test]
fn a_node_goes_to_others_as_soon_as_its_own_server_is_not_ready() {
    let mut stacked = serving(EVERYWHERE, "");
    let node = 1;
    let stop = AtomicBool::new(false);
    stacked.nodes[node].server.set_ready(false).unwrap();
    let (meanwhile, after) = std::thread::scope(|scope| {
        let (stacked, stop) = (&stacked, &stop);
        let load = scope.spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += dial(stacked, node, "127.0.0.1:4300", 50).answers();
            }
            count
        });
        wait("n2 to be down", || state(stacked, node, "n2") == "down");
        let after = dial(stacked, node, "192.0.2.100:8443", 60);
        stop.store(true, Ordering::Relaxed);
        (load.join().unwrap(), after)
    });
    println!("{meanwhile} connections meanwhile, none failed; then {:?}", after.served);
    assert_eq!(after.servers(), ["n1", "n3"]);
    let (most, least) = (after.served.values().max().unwrap(), after.served.values().min().unwrap());
    let spread = 2 * std::thread::available_parallelism().unwrap().get();
    assert!(most - least <= spread, "in turn: {after:?}");

    stacked.nodes[node].server.set_ready(true).unwrap();
    wait("n2 to be up", || state(&stacked, node, "n2") == "up");
    assert_eq!(dial(&stacked, node, "192.0.2.100:8443", 20).servers(), ["n2"]);

    // It dies: the others come at once, before any health check has said so, and it comes back with its first answer.
    stacked.nodes[node].server.kill9().unwrap();
    let at_once = dial(&stacked, node, "127.0.0.1:8443", 200);
    println!("200 connections after its own server was killed, none failed: {:?}", at_once.served);
    assert_eq!(at_once.servers(), ["n1", "n3"]);
    wait("n2 to be down", || state(&stacked, node, "n2") == "down");
    stacked.nodes[node].server.revive().unwrap();
    wait("n2 to be up", || state(&stacked, node, "n2") == "up");
    assert_eq!(dial(&stacked, node, "192.0.2.100:8443", 20).servers(), ["n2"]);

    // When nobody is ready, all are used; a node's own is still the nearest.
    for node in &mut stacked.nodes {
        node.server.set_ready(false).unwrap();
    }
    wait("all to be down", || NODES.iter().all(|(name, ..)| state(&stacked, node, name) == "down"));
    assert_eq!(dial(&stacked, node, "127.0.0.1:4300", 20).servers(), ["n2"]);
    end(stacked);
}

#[test]
fn ten_thousand_connections_from_the_holder_from_a_backup_and_from_a_client() {
    let mut stacked = serving(EVERYWHERE, "local = \"spread\"");
    let (client, _) = host(&stacked.lan, &stacked.run, "client", "192.0.2.50").unwrap();
    let (holder, others) = stacked.holder().unwrap();
    let statistics = Statistics::on().unwrap();
    // Who, the node whose hooks and datapath they meet, what they dial, and whether they are that node's own.
    for (from, node, target, own) in [
        ("the holder", holder, "192.0.2.100:8443", true),
        ("a backup", others[0], "127.0.0.1:4300", true),
        ("a client", holder, "192.0.2.100:8443", false),
    ] {
        let before = translated(&stacked, node);
        let programs = hooks::on_connect(stacked.nodes[node].cgroup.path()).unwrap();
        let program = hooks::named("xvip_connect4", &programs).unwrap();
        let (runs, nanoseconds) = hooks::cost(program).unwrap();
        let dialled = match own {
            true => dial(&stacked, node, target, 10_000),
            false => stacked.dial_from(&client, None, at(target), 10_000, "/whoami").unwrap(),
        };
        let (runs, nanoseconds) = hooks::cost(program).map(|(r, n)| (r - runs, n - nanoseconds)).unwrap();
        println!(
            "{from} to {target}: {} served, failed: {:?}, {:?}; {runs} runs of the hook, {} ns each",
            dialled.answers(),
            dialled.failed,
            dialled.served,
            nanoseconds / runs.max(1)
        );
        let spread = 2 * std::thread::available_parallelism().unwrap().get();
        let (most, least) = (dialled.served.values().max().unwrap(), dialled.served.values().min().unwrap());
        assert!(dialled.served.len() == 3 && most - least <= spread, "{dialled:?}");
        assert!(dialled.failed.is_empty() && dialled.answers() == 10_000, "{dialled:?}");
        // Once for each connection of the node's own; and for the agent's health checks, which keep theirs while they can.
        let once = if own { 10_000 } else { 0 };
        assert!((once..once + 100).contains(&runs), "{runs} runs of the hook");
        if !own {
            let packets = |reason: &str| {
                let status = stacked.nodes[node].agent.status().unwrap();
                status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum::<u64>()
            };
            wait("packets to and from the holder's own server", || {
                packets("to_local") > 0 && packets("from_local") > 0
            });
            assert_eq!(translated(&stacked, node), before, "none of the client's");
            continue;
        }
        let mut since = Vec::new();
        let counted = until("the connections to be counted", LIMIT, || {
            since = translated(&stacked, node).iter().zip(&before).map(|(now, before)| now - before).collect();
            (since.iter().sum::<u64>() == 10_000).then_some(())
        });
        assert!(counted.is_ok(), "{since:?}");
    }

    // One connection and many packets: the hook has nothing to do with them.
    let programs = hooks::on_connect(stacked.nodes[holder].cgroup.path()).unwrap();
    let program = hooks::named("xvip_connect4", &programs).unwrap();
    let (before, _) = hooks::cost(program).unwrap();
    let bulk = stacked.dial(holder, at("192.0.2.100:8443"), 1, "/bytes?n=60000000").unwrap();
    let (after, _) = hooks::cost(program).unwrap();
    println!("{} bytes over one connection: {} runs, health checks included", bulk.bytes, after - before);
    assert!(bulk.bytes > 60_000_000 && after - before < 60, "{bulk:?}, {} runs", after - before);
    drop(statistics);

    // The agent dies and another comes: nobody notices.
    let node = others[0];
    let stop = AtomicBool::new(false);
    let mut agents = std::mem::take(&mut stacked.nodes);
    let (netns, cgroup) = (agents[node].netns.clone(), agents[node].cgroup.path().to_owned());
    let served = std::thread::scope(|scope| {
        let (stacked, stop, netns, cgroup) = (&stacked, &stop, &netns, &cgroup);
        let load = scope.spawn(move || {
            let cgroup = Cgroup::known(cgroup);
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                let dialled = stacked.dial_from(netns, Some(&cgroup), at("127.0.0.1:8443"), 50, "/whoami").unwrap();
                assert!(dialled.failed.is_empty(), "{dialled:?}");
                assert_eq!(dialled.peers.len(), 1, "{dialled:?}");
                served += dialled.answers();
            }
            served
        });
        let first = hooks::on_connect(cgroup).unwrap();
        agents[node].agent.kill9().unwrap();
        assert_eq!(hooks::on_connect(cgroup).unwrap(), first, "the hooks outlive the agent");
        agents[node].start_agent().unwrap();
        agents[node].agent.wait_for("the hooks to be attached", LIMIT, |status| status.local.attached).unwrap();
        let second = hooks::on_connect(cgroup).unwrap();
        assert!(second.len() == 1 && second != first, "one is exchanged for the other: {first:?} {second:?}");
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    println!("{served} connections while the agent was killed and started again, none failed");
    assert!(served > 0);
    stacked.nodes = agents;
    drop((netns, client));
    end(stacked);
}

#[test]
fn hooks_come_back_go_with_the_agent_and_leave_others_alone() {
    let mut stacked = serving(EVERYWHERE, "");
    let cgroup = stacked.nodes[0].cgroup.path().to_owned();
    let ours = hooks::on_connect(&cgroup).unwrap();
    assert_eq!(ours.len(), 1);
    let foreign = ForeignHook::attach(&cgroup).unwrap();
    let both = hooks::on_connect(&cgroup).unwrap();
    assert_eq!(both.len(), 2);
    assert_eq!(dial(&stacked, 0, "127.0.0.1:4300", 10).servers(), ["n1"], "beside another's");

    // Somebody takes the pin away.
    let node = stacked.nodes[0].netns.name().replace('.', ":");
    std::fs::remove_file(Path::new("/sys/fs/bpf/xvip").join(node).join("hook-connect4")).unwrap();
    wait("the hooks to be back", || {
        let now = hooks::on_connect(&cgroup).unwrap();
        now.len() == 2 && now != both
    });
    wait("the connections to be translated", || {
        stacked.dial(0, at("127.0.0.1:4300"), 1, "/whoami").is_ok_and(|dialled| dialled.answers() == 1)
    });

    // To another cgroup and back by reload; a place that is no cgroup is said to be none.
    let agent = &mut stacked.nodes[0].agent;
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let named = format!("cgroup = \"{}\"", cgroup.display());
    agent.write_config(&adapt(&config, &[(&named, "cgroup = \"/proc\"")]).unwrap()).unwrap();
    agent.reload().unwrap();
    let status = agent.wait_for("the hooks to be gone", LIMIT, |status| !status.local.attached).unwrap();
    assert!(status.local.reason.contains("/proc is no cgroup v2; name a directory"), "{:?}", status.local);
    // The kernel takes a link away a moment after its last user has gone.
    wait("the foreign one alone", || hooks::on_connect(&cgroup).unwrap().len() == 1);
    assert_eq!(Scrape::of(agent.netns()).unwrap().value("xvip_local_attached", &[]), Some(0.0));
    agent.write_config(&config).unwrap();
    agent.reload().unwrap();
    agent.wait_for("the hooks to be attached again", LIMIT, |status| status.local.attached).unwrap();
    assert_eq!(dial(&stacked, 0, "127.0.0.1:4300", 10).servers(), ["n1"]);

    let status = stacked.nodes[0].agent.stop(LIMIT).unwrap();
    assert!(status.is_some_and(|status| status.success()));
    let left = hooks::on_connect(&cgroup).unwrap();
    assert!(left.len() == 1 && !ours.contains(&left[0]) && both.contains(&left[0]), "{left:?}");
    drop(foreign);
    assert!(hooks::on_connect(&cgroup).unwrap().is_empty());
    end(stacked);
}

#[test]
fn a_range_of_ports_is_served_and_kept() {
    // The servers listen at 6443 alone: ports 6400 to 6499 of the VIP reach them only where the port is kept and theirs.
    let stacked = serving("[\"192.0.2.100:6400-6499\", \"127.0.0.1:6400-6499\"]", "local = \"spread\"");
    let config: Vec<_> =
        stacked.nodes.iter().map(|node| std::fs::read_to_string(node.agent.config()).unwrap()).collect();
    for (node, config) in stacked.nodes.iter().zip(config) {
        let kept = NODES.iter().fold(config, |config, (_, address, _)| {
            config.replace(&format!("address = \"{address}:6443\""), &format!("address = \"{address}\""))
        });
        let kept = kept.replace("type = \"https\"\n", "type = \"https\"\nport = 6443\n");
        node.agent.write_config(&kept).unwrap();
    }
    let mut stacked = stacked;
    for node in &mut stacked.nodes {
        node.agent.reload().unwrap();
        node.agent
            .wait_for("the new backends", LIMIT, |s| {
                s.config.reloads == 1 && s.all_up() && s.backend("n1").unwrap().address == "192.0.2.31"
            })
            .unwrap();
    }
    for node in 0..NODES.len() {
        for target in ["192.0.2.100:6443", "127.0.0.1:6443"] {
            assert_eq!(dial(&stacked, node, target, 30).servers().len(), 3, "{target}");
        }
        let other = stacked.dial(node, at("192.0.2.100:6444"), 3, "/whoami").unwrap();
        assert_eq!(other.answers(), 0, "nobody is at 6444: {other:?}");
    }
    end(stacked);
}

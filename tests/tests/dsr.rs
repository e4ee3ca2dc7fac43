//! Direct return: balancers that forward, nodes that deliver and answer the client themselves. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{LIMIT, SANDBOX, breaks, streams_of, wait, watches_open};
use xvip_tests::agent::{self, adapt};
use xvip_tests::apiserver::{pattern, pattern_digest};
use xvip_tests::capture::Capture;
use xvip_tests::client::{Client, Options};
use xvip_tests::direct::{Direct, Node, dial, whoami};
use xvip_tests::netns::Netns;
use xvip_tests::process::output_within;
use xvip_tests::run::leftovers;
use xvip_tests::stacked::{NODES, Stacked};
use xvip_tests::topology::{BALANCERS, CLIENT, SERVERS, VIP, VIP_ADDRESS, host};
use xvip_tests::until::until;
use xvip_tests::version::Version;

#[track_caller]
fn nothing_left(run: &str) {
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(run).is_empty().then_some(()));
    assert_eq!(leftovers(run), Vec::<String>::new());
}

/// State of a backend, and why, to an agent.
fn state(node: &Node, backend: &str) -> (String, String) {
    let status = node.agent.status().unwrap_or_default();
    status.backend(backend).map(|backend| (backend.state.clone(), backend.reason.clone())).unwrap_or_default()
}

#[track_caller]
fn all_up(direct: &mut Direct) {
    for balancer in &mut direct.balancers {
        balancer.agent.wait_for("all backends to be up", LIMIT, |status| status.all_up()).unwrap();
    }
}

/// Connections of the client, none of which may fail; who answered how many.
#[track_caller]
fn served(direct: &Direct, count: usize) -> Vec<(String, usize)> {
    let dialled = direct.dial(&direct.client, None, count, "/whoami").unwrap();
    assert!(dialled.failed.is_empty() && dialled.answers() == count, "{dialled:?}");
    dialled.served.into_iter().collect()
}

/// The addresses that servers see as the client's, once all of them have answered.
#[track_caller]
fn seen(direct: &Direct, servers: usize) -> BTreeSet<String> {
    let (mut addresses, mut answered) = (BTreeSet::new(), BTreeSet::new());
    wait("all servers to have answered", || {
        let (server, peer) = direct.whoami().unwrap();
        addresses.insert(peer.parse::<SocketAddr>().unwrap().ip().to_string());
        answered.insert(server);
        answered.len() == servers
    });
    addresses
}

/// Ends a load, also when what it runs beside fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connections of the client while something happens; none may fail.
#[track_caller]
fn meanwhile(direct: &mut Direct, happening: impl FnOnce(&mut [Node], &mut [Node])) -> usize {
    let stop = AtomicBool::new(false);
    let (mut balancers, mut nodes) = (std::mem::take(&mut direct.balancers), std::mem::take(&mut direct.nodes));
    let count = std::thread::scope(|scope| {
        let (world, ended) = (&*direct, &stop);
        let load = scope.spawn(move || {
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                count += served(world, 50).iter().map(|(_, count)| count).sum::<usize>();
            }
            count
        });
        let stopping = Stop(&stop);
        happening(&mut balancers, &mut nodes);
        drop(stopping);
        load.join().unwrap()
    });
    (direct.balancers, direct.nodes) = (balancers, nodes);
    count
}

#[test]
fn a_pair_forwards_and_three_nodes_answer() {
    let xvip = agent::find().unwrap();
    let mut direct = Direct::build(&xvip, Path::new(SANDBOX), false).unwrap_or_else(|err| panic!("{err:#}"));

    // Nobody delivers yet: clients are served all the same, by translation.
    for balancer in &mut direct.balancers {
        balancer.start().unwrap();
    }
    for balancer in &mut direct.balancers {
        let status = balancer.agent.wait_for("no agent to be found", LIMIT, |status| {
            status
                .services
                .iter()
                .any(|service| service.fail_open && service.backends.iter().all(|b| b.state == "down"))
        });
        let why = status.unwrap().backend("master1").unwrap().reason.clone();
        assert!(why.contains("no agent delivers for 192.0.2.100:8443 there (start xvip on it"), "{why}");
    }
    wait("one to hold the VIP", || direct.holder().is_ok());
    served(&direct, 100);
    assert_eq!(seen(&direct, 3), [VIP_ADDRESS.to_owned()].into());

    for node in &mut direct.nodes {
        node.start().unwrap();
    }
    all_up(&mut direct);
    let (holder, backup) = direct.holder().unwrap();
    for node in &mut direct.nodes {
        let status = node.agent.wait_ready(LIMIT).unwrap();
        assert_eq!((status.role.as_str(), status.vrrp.len(), status.services[0].remark.as_str()), ("backend", 0, ""));
    }

    // Every connection, none of it translated by the holder.
    let ports = direct.balancers[holder].ports_taken().unwrap();
    let answers = served(&direct, 10_000);
    println!("10000 connections, none failed: {answers:?}");
    let (most, least) = (answers.iter().map(|a| a.1).max().unwrap(), answers.iter().map(|a| a.1).min().unwrap());
    assert!(
        answers.len() == 3 && most - least <= 2 * std::thread::available_parallelism().unwrap().get(),
        "{answers:?}"
    );
    assert_eq!(direct.balancers[holder].ports_taken().unwrap(), ports, "no source port is spent");
    assert_eq!(seen(&direct, 3), [CLIENT.to_owned()].into(), "the client's own address");

    // The holder sees the requests of many answers.
    let before: Vec<_> = direct.balancers.iter().chain(&direct.nodes).map(|n| n.bytes(&direct.lan).unwrap()).collect();
    for _ in 0..6 {
        let bulk = direct.dial(&direct.client, None, 1, "/bytes?n=10000000").unwrap();
        assert!(bulk.failed.is_empty() && bulk.bytes > 10_000_000, "{bulk:?}");
    }
    let after = direct.balancers.iter().chain(&direct.nodes).map(|n| n.bytes(&direct.lan).unwrap());
    let moved: Vec<_> = after.zip(&before).map(|(now, then)| (now.0 - then.0, now.1 - then.1)).collect();
    println!("60 MB of answers; bytes to and from lb1, lb2, master1 to master3: {moved:?}");
    let answered: u64 = moved[2..].iter().map(|(_, from)| from).sum();
    assert!(answered > 60_000_000, "{moved:?}");
    assert!(moved[holder].0 < answered / 20 && moved[holder].1 < answered / 20, "requests only: {moved:?}");
    assert!(moved[backup].1 < answered / 100, "{moved:?}");

    // A node's own clients reach an API server without a packet to the VIP.
    let node = &direct.nodes[1];
    let own = direct.dial(&node.netns, Some(&node.cgroup), 20, "/whoami").unwrap();
    assert_eq!((own.answers(), own.servers()), (20, vec!["master2"]), "{own:?}");

    let place = VIP.parse().unwrap();
    let options = Options { watches: 6, ..Options::https(place, direct.authority.ca_file()) };
    let streams = Client::start(&direct.client, Options { every: Duration::from_millis(500), ..options }).unwrap();
    watches_open(&streams);
    let doomed = streams_of(&streams, "master1");

    // An agent stops: the balancers are told before it goes, so that no new connection fails.
    let count = meanwhile(&mut direct, |balancers, nodes| {
        let status = nodes[0].agent.stop(LIMIT).unwrap();
        assert!(status.is_some_and(|status| status.success()));
        for balancer in balancers {
            assert_eq!(state(balancer, "master1").0, "down");
            wait("its reason", || state(balancer, "master1").1.contains("no agent delivers for 192.0.2.100:8443"));
        }
    });
    println!("{count} connections while an agent was stopped, none failed");
    // What it leaves behind is reset, and nothing else.
    wait("its connections to be reset", || breaks(&streams).len() == doomed.len());
    assert!(breaks(&streams).iter().all(|(stream, _)| doomed.contains(stream)), "{doomed:?} {:?}", breaks(&streams));
    watches_open(&streams);
    assert_eq!(served(&direct, 60).len(), 2);
    direct.nodes[0].start().unwrap();
    all_up(&mut direct);
    assert_eq!(served(&direct, 60).len(), 3);

    // An agent dies: its datapath goes on until that is noticed, and for the connections it has.
    let count = meanwhile(&mut direct, |balancers, nodes| {
        nodes[1].agent.kill9().unwrap();
        for balancer in balancers {
            wait("master2 to be down", || state(balancer, "master2").0 == "down");
        }
        nodes[1].start().unwrap();
    });
    println!("{count} connections while an agent was killed and started, none failed");
    assert_eq!(breaks(&streams).len(), doomed.len(), "no connection breaks");
    drop(streams);
    all_up(&mut direct);

    // A node is gone.
    direct.nodes[2].port.silence().unwrap();
    for balancer in &direct.balancers {
        wait("master3 to be down", || state(balancer, "master3").0 == "down");
    }
    assert_eq!(served(&direct, 60).len(), 2);
    direct.nodes[2].port.unsilence().unwrap();
    all_up(&mut direct);

    // To translation and back, in operation.
    for (mode, address) in [("snat", VIP_ADDRESS), ("dsr", CLIENT)] {
        direct.configure(mode).unwrap();
        let count = meanwhile(&mut direct, |balancers, _| {
            for balancer in balancers {
                let before = balancer.agent.status().unwrap().config.reloads;
                balancer.agent.reload().unwrap();
                balancer.agent.wait_for("the reload", LIMIT, |status| status.config.reloads > before).unwrap();
            }
        });
        println!("{count} connections meanwhile to {mode}, none failed");
        wait("all to see the address", || seen(&direct, 3) == [address.to_owned()].into());
    }

    // The VIP moves.
    let status = direct.balancers[holder].agent.stop(LIMIT).unwrap();
    assert!(status.is_some_and(|status| status.success()));
    direct.balancers[backup].agent.wait_for("the VIP to be taken over", LIMIT, |status| status.is_active()).unwrap();
    served(&direct, 300);
    assert_eq!(seen(&direct, 3), [CLIENT.to_owned()].into());

    // A node whose configuration names no server of its own says so.
    let node = &mut direct.nodes[0];
    let config = std::fs::read_to_string(node.agent.config()).unwrap();
    node.agent
        .write_config(&adapt(&config, &[(&format!("{}:6443", SERVERS[0].1), "192.0.2.99:6443")]).unwrap())
        .unwrap();
    node.agent.reload().unwrap();
    let is_said = |text: &str| text.contains("no backend of this service is at an address of this node");
    node.agent.wait_for("the remark", LIMIT, |status| is_said(&status.services[0].remark)).unwrap();
    let balancer = &direct.balancers[backup];
    wait("the balancer to hear so", || state(balancer, "master1").1.contains("the agent there does not deliver for"));

    let run = direct.run.name().to_owned();
    drop(direct);
    nothing_left(&run);
}

/// Much data from the client, and to it, in full segments; all of it has to arrive as it was.
#[track_caller]
fn bulk(direct: &Direct, content: &[u8]) {
    let (up, down) = (direct.run.dir().join("content"), direct.run.dir().join("received"));
    let place = format!("https://{}", direct.place());
    let curl = |path: &str, words: &[String]| {
        let mut curl = direct.client.command("curl");
        curl.args(["-s", "-S", "--max-time", "20", "--cacert"]).arg(direct.authority.ca_file());
        let (status, text) = output_within(
            {
                curl.args(words).arg(format!("{place}{path}"));
                curl
            },
            LIMIT,
        )
        .unwrap();
        assert!(status.success(), "{status}: {text}");
        text
    };
    let digest = curl("/digest", &["--data-binary".to_owned(), format!("@{}", up.display())]);
    assert_eq!(digest, pattern_digest(content.len() as u64));
    curl(&format!("/bytes?n={}", content.len()), &["-o".to_owned(), down.display().to_string()]);
    assert!(std::fs::read(down).unwrap() == content, "what was received differs from what was sent");
}

/// Answers of the nodes behind the router meet a narrower link there: the router's errors go to the VIP, and from there
/// inside others to who sent what is too long.
#[track_caller]
fn through_a_narrow_link(direct: &Direct, router: &Netns, holder: usize) {
    let before = direct.balancers[holder].packets("icmp_error").unwrap();
    router.ip("link set eth0 mtu 1400").unwrap();
    // In turns, which each processor takes by itself.
    let answers = direct.dial(&direct.client, None, 24, "/bytes?n=1000000").unwrap();
    assert!(answers.failed.is_empty() && answers.bytes > 24_000_000, "{answers:?}");
    router.ip("link set eth0 mtu 1500").unwrap();
    // One for each of two nodes.
    wait("the errors to be counted", || direct.balancers[holder].packets("icmp_error").unwrap() >= before + 2);
    println!("{} errors of the router", direct.balancers[holder].packets("icmp_error").unwrap() - before);
    for node in &direct.nodes {
        for family in ["-4", "-6"] {
            node.netns.ip(&format!("{family} route flush cache")).unwrap();
        }
    }
}

#[test]
fn nodes_behind_a_router_get_packets_inside_others() {
    let xvip = agent::find().unwrap();
    let mut direct = Direct::build(&xvip, Path::new(SANDBOX), true).unwrap_or_else(|err| panic!("{err:#}"));
    for node in direct.balancers.iter_mut().chain(&mut direct.nodes) {
        node.start().unwrap();
    }
    all_up(&mut direct);
    wait("one to hold the VIP", || direct.holder().is_ok());
    let mut bytes = vec![0; 4 << 20];
    pattern(0, &mut bytes);
    std::fs::write(direct.run.dir().join("content"), &bytes).unwrap();
    let router = direct.behind.as_ref().unwrap().0.clone();

    // By the balancer with XDP, then by the one with TC.
    for turn in 0..2 {
        let (holder, backup) = direct.holder().unwrap();
        for version in [Version::V4, Version::V6] {
            direct.version = version;
            let ports = direct.balancers[holder].ports_taken().unwrap();
            let capture = Capture::start(&router, "eth0").unwrap();
            let answers = served(&direct, 600);
            assert_eq!(answers.len(), 3, "{answers:?}");
            assert_eq!(seen(&direct, 3), [version.text(CLIENT)].into());
            for _ in 0..6 {
                bulk(&direct, &bytes);
            }
            assert_eq!(direct.balancers[holder].ports_taken().unwrap(), ports, "no source port is spent");
            let frames = capture.frames(false);
            let is_outer = |frame: &&Vec<u8>| match version {
                Version::V4 => frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&4),
                Version::V6 => frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&41),
            };
            let wrapped: Vec<_> = frames.iter().filter(is_outer).map(Vec::len).collect();
            let longest = wrapped.iter().max().copied().unwrap_or_default();
            println!(
                "{} outer packets of {version:?} by way of {}, the longest frame has {longest} bytes",
                wrapped.len(),
                BALANCERS[holder].0
            );
            assert!(wrapped.len() > 1000 && longest == 1514, "{} {longest}", wrapped.len());
            through_a_narrow_link(&direct, &router, holder);
        }
        assert_eq!(direct.balancers[holder].packets("tunnel_too_big").unwrap(), 0);
        assert_eq!(direct.balancers[holder].packets("fragmentation_needed").unwrap(), 0);
        if turn == 0 {
            direct.balancers[holder].agent.stop(LIMIT).unwrap();
            direct.balancers[backup].agent.wait_for("the VIPs", LIMIT, |status| status.holds_all()).unwrap();
        }
    }

    let run = direct.run.name().to_owned();
    drop((router, direct));
    nothing_left(&run);
}

/// Packets that have gone to the nodes.
fn packets_to_nodes(stacked: &Stacked) -> u64 {
    let of = |node: &xvip_tests::stacked::Node| {
        let text = stacked.lan.netns().ip(&format!("-j -s link show dev {}", node.port.name())).unwrap();
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        links.pointer("/0/stats64/tx/packets").and_then(serde_json::Value::as_u64).unwrap()
    };
    stacked.nodes.iter().map(of).sum()
}

/// Lets each node carry the VIP in a virtual router of its own, with these backends; so that all hold it.
#[track_caller]
fn views(stacked: &mut Stacked, configs: &[String], named: [&[usize]; 3]) {
    for (index, (node, config)) in stacked.nodes.iter_mut().zip(configs).enumerate() {
        let mut config = config.replace("virtual_router_id = 51", &format!("virtual_router_id = {}", 60 + index));
        // Owners of an address take it though others answer for it.
        config = adapt(&config, &[(&format!("\npriority = {}\n", NODES[index].2), "\npriority = 255\n")]).unwrap();
        for (other, (name, address, _)) in NODES.iter().enumerate() {
            if !named[index].contains(&other) {
                let table = format!("\n[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:6443\"\n");
                config = adapt(&config, &[(&table, "")]).unwrap();
            }
        }
        node.agent.write_config(&config).unwrap();
        let before = node.agent.status().unwrap().config.reloads;
        node.agent.reload().unwrap();
        let wanted = named[index].len();
        node.agent
            .wait_for("its view", LIMIT, |status| {
                let backends = &status.services[0].backends;
                status.config.reloads > before && status.is_active() && status.all_up() && backends.len() == wanted
            })
            .unwrap();
    }
}

/// Connections by way of each node in turn. Each packet of the client may come to the nodes twice: once to who holds the
/// VIP for this client, once to whom that forwards it.
#[track_caller]
fn by_way_of_each(stacked: &Stacked, client: &Netns) -> Vec<Vec<String>> {
    let mut answers = Vec::new();
    for node in &stacked.nodes {
        let mac = xvip_tests::topology::mac_of(&node.netns).unwrap();
        client.ip(&format!("neighbour replace {VIP_ADDRESS} lladdr {mac} dev eth0 nud permanent")).unwrap();
        let before = packets_to_nodes(stacked);
        let dialled = dial(Path::new(SANDBOX), &stacked.authority, client, None, VIP, 500, "/whoami").unwrap();
        let packets = packets_to_nodes(stacked) - before;
        assert!(dialled.failed.is_empty() && dialled.answers() == 500, "{dialled:?}");
        println!(
            "500 connections by way of {}: {:?}, {packets} packets to all nodes",
            node.netns.role(),
            dialled.served
        );
        // A connection is about ten packets of the client; one that circles would be sixty times as many.
        assert!(packets < 500 * 40, "{packets} packets");
        answers.push(dialled.servers().into_iter().map(str::to_owned).collect());
    }
    answers
}

/// Stacked nodes that serve, a client, and connections of the client; its address is what all servers see.
#[track_caller]
fn stacked(version: Version, connections: usize) -> (Stacked, Netns) {
    let xvip = agent::find().unwrap();
    let listen =
        if version == Version::V4 { "[\"192.0.2.100:8443\", \"127.0.0.1:8443\"]" } else { "\"192.0.2.100:8443\"" };
    let built = Stacked::over(version, &xvip, Path::new(SANDBOX), listen, "mode = \"dsr\"");
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let (client, _) = host(&stacked.lan, &stacked.run, "client", CLIENT).unwrap();
    version.equip(&client, CLIENT).unwrap();
    let place = version.at(VIP).unwrap();
    let dialled = stacked.dial_from(&client, None, place, connections, "/whoami").unwrap();
    println!("{connections} connections to {place}, {:?} failed: {:?}", dialled.failed, dialled.served);
    assert!(dialled.failed.is_empty() && dialled.answers() == connections && dialled.served.len() == 3, "{dialled:?}");
    let (mut peers, mut answered) = (BTreeSet::new(), BTreeSet::new());
    wait("all servers to have answered", || {
        let (server, peer) = whoami(&stacked.authority, &client, &place.to_string()).unwrap();
        peers.insert(peer.parse::<SocketAddr>().unwrap().ip().to_string());
        answered.insert(server);
        answered.len() == 3
    });
    assert_eq!(peers, [version.text(CLIENT)].into());
    (stacked, client)
}

#[track_caller]
fn end(stacked: Stacked, client: Netns) {
    let run = stacked.run.name().to_owned();
    drop((client, stacked));
    nothing_left(&run);
}

#[test]
fn stacked_nodes_answer_themselves_over_ipv6() {
    let (stacked, client) = stacked(Version::V6, 2000);
    end(stacked, client);
}

#[test]
fn stacked_nodes_answer_themselves_and_never_in_a_circle() {
    let (mut stacked, client) = stacked(Version::V4, 10_000);
    let (holder, others) = stacked.holder().unwrap();
    for node in [holder, others[0]] {
        let own = stacked.dial(node, "127.0.0.1:8443".parse().unwrap(), 20, "/whoami").unwrap();
        assert_eq!(own.servers(), [NODES[node].0], "{own:?}");
    }

    // All hold the VIP at once, by the same view, and by views of which each sees one other node only.
    let configs: Vec<_> =
        stacked.nodes.iter().map(|node| std::fs::read_to_string(node.agent.config()).unwrap()).collect();
    views(&mut stacked, &configs, [&[0, 1, 2]; 3]);
    assert!(by_way_of_each(&stacked, &client).iter().all(|servers| servers.len() == 3));
    let round: [&[usize]; 3] = [&[0, 1], &[1, 2], &[0, 2]];
    views(&mut stacked, &configs, round);
    for (servers, view) in by_way_of_each(&stacked, &client).iter().zip(round) {
        assert_eq!(servers, &view.iter().map(|node| NODES[*node].0).collect::<Vec<_>>());
    }

    end(stacked, client);
}

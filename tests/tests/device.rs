//! The interface under the agent: made anew, without XDP, with somebody else's program, with a second agent. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use common::{LIMIT, OFTEN, SANDBOX, breaks, end, served_more, serving, settle, unstarted, wait, watches_open};
use xvip_tests::agent::{Agent, adapt, find};
use xvip_tests::apiserver::pattern_digest;
use xvip_tests::foreign::{Foreign, push_out};
use xvip_tests::process::Process;
use xvip_tests::run::{PIN_DIR, leftovers, node_of};
use xvip_tests::stacked::{NODES, Stacked};
use xvip_tests::topology::{BALANCERS, Topology, VIP, host, program};
use xvip_tests::until::until;

/// Lets the agent choose, which on a veth is TC.
const AUTO: (&str, &str) = ("datapath = \"xdp\"", "datapath = \"auto\"");

/// Names of the pin directories that are this node's.
fn pins(node: &str) -> Vec<String> {
    let entries = fs::read_dir(PIN_DIR).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| node_of(name) == node).collect()
}

/// Starts an agent that has to refuse; its last words.
#[track_caller]
fn refuses(topology: &mut Topology) -> String {
    let agent = &mut topology.balancers[0].agent;
    agent.start().unwrap();
    wait("its end", || !agent.is_running());
    let log = agent.log_tail(3);
    println!("{log}");
    log
}

#[track_caller]
fn moves_a_body(topology: &Topology) {
    let (status, answer) = topology.curl(&["-f"], "/digest?n=1").unwrap();
    assert!(status.success() && answer == pattern_digest(1));
    let file = topology.run.dir().join("body");
    let (status, _) = topology.curl(&["-f", "-o", &file.display().to_string()], "/bytes?n=5000000").unwrap();
    assert!(status.success());
    let (_, answer) = topology.curl(&["-f", "--data-binary", &format!("@{}", file.display())], "/digest").unwrap();
    assert_eq!(answer, pattern_digest(5_000_000));
}

#[test]
fn an_interface_that_is_made_anew_is_served_again() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(20), 4).unwrap();
    watches_open(&load);
    served_more(&load, 50);
    for pause in [true, false] {
        let netns = topology.balancers[0].agent.netns().clone();
        let before = program(&netns).unwrap();
        netns.ip("link del eth0").unwrap();
        if pause {
            let agent = &mut topology.balancers[0].agent;
            agent.wait_for("the fault", LIMIT, |status| status.vrrp_state() == "fault").unwrap();
        }
        let (_, address, _) = BALANCERS[0];
        topology.balancers[0].port = topology.lan.attach(&netns, "eth0", &format!("{address}/24")).unwrap();
        wait("the program to be attached again", || {
            program(&netns).unwrap().is_some_and(|program| Some(program) != before)
        });
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        let from = load.now();
        served_more(&load, 50);
        watches_open(&load);
        let sum = load.summary(from, settle(&load));
        assert_eq!(sum.failed(), 0, "{sum:?}");
    }
    let status = topology.balancers[0].agent.status().unwrap();
    let told: Vec<_> = status.events.iter().filter(|event| event.subject == "datapath").map(|e| &e.text).collect();
    println!("events: {told:?}; broken streams: {:?}", breaks(&load));
    assert!(told.iter().filter(|text| text.starts_with("attached again")).count() >= 2, "{told:?}");
    drop(load);
    end(topology);
}

#[test]
fn a_veth_that_loses_what_xdp_sends_is_served_by_tc_or_not_at_all() {
    let mut topology = unstarted(1, &[OFTEN, AUTO]);
    topology.balancers[0].port.set_gro(false).unwrap();
    // A host is not silent while its agent starts.
    let busy = Arc::new(AtomicBool::new(true));
    let goes_on = busy.clone();
    let chatter = topology.balancers[0].agent.netns().spawn("chatter", move || {
        let socket = UdpSocket::bind("192.0.2.21:0").unwrap();
        while goes_on.load(Ordering::Relaxed) {
            // Before there is a neighbour, or without a link, it is not sent.
            let _ = socket.send_to(b"chatter", "192.0.2.10:9");
            sleep(Duration::from_millis(1));
        }
    });
    let chatter = chatter.unwrap();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let agent = &mut topology.balancers[0].agent;
    let status = agent.status().unwrap();
    println!("{}: {}", status.datapath.mode, status.datapath.reason);
    assert_eq!(status.datapath.mode, "tc");
    assert!(status.datapath.reason.contains("kind veth"), "{}", status.datapath.reason);
    let log = agent.log_tail(100);
    assert!(log.lines().any(|line| line.contains("mode=\"tc\"") && line.contains("kind veth")), "{log}");
    moves_a_body(&topology);
    let agent = &mut topology.balancers[0].agent;
    assert!(agent.stop(LIMIT).unwrap().unwrap().success());

    let config = fs::read_to_string(agent.config()).unwrap();
    let native = adapt(&config, &[("datapath = \"auto\"", "datapath = \"xdp\"")]).unwrap();
    agent.write_config(&native).unwrap();
    let log = refuses(&mut topology);
    assert!(log.contains("cannot attach to eth0") && log.contains("ethtool -K PEER gro on"), "{log}");
    let netns = topology.balancers[0].agent.netns().clone();
    assert_eq!((program(&netns).unwrap(), pins(netns.name())), (None, vec![]), "nothing of it stays");

    busy.store(false, Ordering::Relaxed);
    chatter.join().unwrap().unwrap();

    // With the remedy it starts.
    topology.balancers[0].port.set_gro(true).unwrap();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert_eq!(topology.balancers[0].agent.status().unwrap().datapath.mode, "xdp");
    moves_a_body(&topology);
    drop(netns);
    end(topology);
}

#[test]
fn somebody_elses_program_is_not_displaced() {
    let overlapping = ("interface = \"eth0\"\n", "interface = \"eth0\"\nsource_ports = \"30000-40000\"\n");
    let mut topology = unstarted(1, &[OFTEN, overlapping]);
    let netns = topology.balancers[0].agent.netns().clone();
    let reserved =
        || netns.enter(|| fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap()).unwrap();
    let before = reserved();
    for generic in [false, true] {
        let foreign = Foreign::attach(&netns, "eth0", generic).unwrap();
        let theirs = program(&netns).unwrap();
        assert!(theirs.is_some());
        let log = refuses(&mut topology);
        assert!(log.contains("another XDP program is attached") && log.contains("bpftool net"), "{log}");
        assert_eq!(program(&netns).unwrap(), theirs, "it is still there");
        assert_eq!(pins(netns.name()), Vec::<String>::new(), "nothing of ours stays");
        assert_eq!(reserved(), before);
        drop(foreign);
        wait("the interface to be free", || program(&netns).unwrap().is_none());
    }
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    // And the other way round.
    assert!(Foreign::attach(&netns, "eth0", false).is_err(), "ours cannot be displaced either");
    drop(netns);
    end(topology);
}

#[test]
fn a_second_agent_is_refused_and_the_first_notices_nothing() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(20), 4).unwrap();
    watches_open(&load);
    let agent = &topology.balancers[0].agent;
    let netns = agent.netns().clone();
    let config = fs::read_to_string(agent.config()).unwrap();
    let (ours, before) = (program(&netns).unwrap(), agent.status().unwrap());
    let name = format!("name = \"{}\"", netns.name());
    let other_name = format!("name = \"{}-2\"", netns.name());
    let socket = Agent::socket_of(&netns).display().to_string();
    let other_socket = format!("{socket}.2");
    let port = ("0.0.0.0:9910", "0.0.0.0:9911");
    // The same file, the same node at other addresses and with other tables, another node at the same interface.
    let seconds = [
        ("the same", config.clone(), "another xvip is running"),
        (
            "same_node",
            adapt(
                &config,
                &[(&socket, &other_socket), port, ("interface = \"eth0\"", "interface = \"eth0\"\nmax_flows = 4096")],
            )
            .unwrap(),
            "another xvip is running",
        ),
        (
            "other_node",
            adapt(&config, &[(&name, &other_name), (&socket, &other_socket), port]).unwrap(),
            "another xvip, of a node of another name, serves it",
        ),
    ];
    for (what, config, words) in seconds {
        let file = topology.run.dir().join(format!("{}.toml", what.replace(' ', "_")));
        fs::write(&file, config).unwrap();
        let mut command = netns.command(find().unwrap());
        command.arg("run").arg("--config").arg(&file);
        let mut second = Process::spawn(&topology.run, &what.replace(' ', "_"), command).unwrap();
        let status = second.wait(LIMIT).unwrap();
        let log = second.log_tail(3);
        println!("{what}: {log}");
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(words), "{log}");
        assert!(!Path::new(&other_socket).exists());
    }
    assert_eq!(program(&netns).unwrap(), ours);
    assert_eq!(pins(&format!("{}-2", netns.name())), Vec::<String>::new());
    served_more(&load, 100);
    let after = topology.balancers[0].agent.status().unwrap();
    assert_eq!(after.events, before.events, "nothing happened");
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    // The first one's files are still its own.
    let agent = &mut topology.balancers[0].agent;
    assert!(agent.stop(LIMIT).unwrap().unwrap().success());
    drop((load, netns));
    end(topology);
}

#[test]
fn an_interface_may_have_a_dot_in_its_name() {
    let mut topology = unstarted(1, &[OFTEN, ("interface = \"eth0\"", "interface = \"eth0.7\"")]);
    let agent = &mut topology.balancers[0].agent;
    for words in ["link set eth0 down", "link set eth0 name eth0.7", "link set eth0.7 up"] {
        agent.netns().ip(words).unwrap();
    }
    agent.start().unwrap();
    agent.wait_for("to be active", LIMIT, |status| status.is_active() && status.all_up()).unwrap();
    wait("the service", || topology.curl(&["-f"], "/livez").unwrap().0.success());
    let agent = &mut topology.balancers[0].agent;
    agent.kill9().unwrap();
    agent.start().unwrap();
    agent.wait_for("to be active again", LIMIT, |status| status.is_active() && status.all_up()).unwrap();
    assert!(agent.stop(LIMIT).unwrap().unwrap().success());
    assert_eq!(pins(agent.netns().name()), Vec::<String>::new());
    end(topology);
}

/// What it gets enters by XDP, what it answers leaves by TC.
#[test]
fn by_xdp_the_holders_own_server_is_served_too() {
    let listen = format!("\"{VIP}\"");
    let built = Stacked::build(&find().unwrap(), Path::new(SANDBOX), &listen, "");
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    for node in &stacked.nodes {
        let config = fs::read_to_string(node.agent.config()).unwrap();
        let native = adapt(&config, &[("interface = \"eth0\"", "interface = \"eth0\"\ndatapath = \"xdp\"")]).unwrap();
        node.agent.write_config(&native).unwrap();
    }
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let (client, _) = host(&stacked.lan, &stacked.run, "client", "192.0.2.50").unwrap();
    let (holder, _) = stacked.holder().unwrap();
    let (name, ..) = NODES[holder];
    let status = stacked.nodes[holder].agent.status().unwrap();
    assert_eq!(status.datapath.mode, "xdp");
    let dial = |stacked: &Stacked, count: usize, path: &str| {
        let dialled = stacked.dial_from(&client, None, VIP.parse().unwrap(), count, path).unwrap();
        assert!(dialled.failed.is_empty(), "{dialled:?}");
        dialled
    };
    let packets = |stacked: &Stacked, reason: &str| -> u64 {
        let status = stacked.nodes[holder].agent.status().unwrap();
        status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum()
    };
    let served = dial(&stacked, 600, "/whoami").served;
    println!("600 connections: {served:?}");
    assert_eq!(served.len(), 3);
    assert!(packets(&stacked, "to_local") > 0 && packets(&stacked, "from_local") > 0);
    // Much data; among six in a row its own is.
    let before = packets(&stacked, "from_local");
    let bytes: usize = (0..6).map(|_| dial(&stacked, 1, "/bytes?n=20000000").bytes).sum();
    assert!(bytes > 120_000_000);
    wait("its own server to have sent some of it", || packets(&stacked, "from_local") > before + 100);

    // Somebody takes what leaves off the device: it is missed, and put back.
    let netns = stacked.nodes[holder].netns.clone();
    let leaving = || netns.enter(|| SchedClassifier::query_tcx("eth0", TcAttachType::Egress)).unwrap().unwrap().1;
    let of_ours = |programs: Vec<ProgramInfo>| {
        programs.iter().find(|info| info.name_as_str() == Some("xvip_leave")).map(ProgramInfo::id)
    };
    let first = of_ours(leaving());
    assert!(first.is_some());
    let directories = fs::read_dir(PIN_DIR).unwrap().flatten().map(|entry| entry.path());
    let is_its = |path: &Path| path.file_name().is_some_and(|name| node_of(&name.to_string_lossy()) == netns.name());
    let directory = directories.into_iter().find(|path| is_its(path)).unwrap();
    push_out(&directory.join("link-leave-eth0")).unwrap();
    wait("it to be put back", || of_ours(leaving()).is_some_and(|program| Some(program) != first));
    stacked.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let told = stacked.nodes[holder].agent.status().unwrap().events;
    assert!(told.iter().any(|event| event.text.contains("is gone")), "{told:?}");

    // It holds the VIP again, or another node does: all three serve, whoever it is.
    assert_eq!(dial(&stacked, 300, "/whoami").served.len(), 3);
    // The holder's own server dies and comes back.
    let (holder, _) = stacked.holder().unwrap();
    let (its, ..) = NODES[holder];
    stacked.nodes[holder].server.kill9().unwrap();
    let state = |stacked: &Stacked| {
        stacked.nodes[holder].agent.status().unwrap().backend(its).map(|backend| backend.state.clone())
    };
    wait("it to be down", || state(&stacked).as_deref() == Some("down"));
    assert_eq!(dial(&stacked, 300, "/whoami").served.len(), 2);
    println!("the holder was {name}, then {its}");
    let run = stacked.run.name().to_owned();
    drop((client, netns));
    drop(stacked);
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

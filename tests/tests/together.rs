//! Virtual routers that move together, what they track, and the programs that are told. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, OFTEN, end, served_more, settle, unstarted, wait};
use xvip_tests::agent::adapt;
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::Topology;
use xvip_tests::wire::Lan;

/// By node: the address on the second segment, and the priority.
const BACK: [(&str, &str); 2] = [("198.51.100.21", "110"), ("198.51.100.22", "100")];
const BACK_VIP: &str = "198.51.100.100";
/// What a busy machine adds.
const SLACK: Duration = Duration::from_millis(700);

const GROUP: &str = "\n[[vrrp_sync_group]]\nname = \"both\"\nmembers = [\"back\", \"k8s\"]\n";

/// The virtual router of the second segment.
fn back(node: usize) -> String {
    let ((own, priority), (peer, _)) = (BACK[node], BACK[1 - node]);
    format!(
        "\n[[vrrp]]\nname = \"back\"\ninterface = \"eth1\"\nvirtual_router_id = 52\npriority = {priority}\n\
         advert_interval = \"100ms\"\nunicast_source = \"{own}\"\nunicast_peers = [\"{peer}\"]\n\
         virtual_addresses = [\"{BACK_VIP}/24\"]\n"
    )
}

/// The nodes with the VIP of the second segment.
fn back_owners(topology: &Topology) -> Vec<usize> {
    let has = |node: &usize| {
        let netns = topology.balancers[*node].agent.netns();
        netns.ip("-o -4 address show dev eth1").is_ok_and(|text| text.contains(&format!(" {BACK_VIP}/")))
    };
    (0..2).filter(has).collect()
}

fn states(topology: &Topology, node: usize) -> Vec<String> {
    let status = topology.balancers[node].agent.status();
    status.map(|status| status.vrrp.into_iter().map(|router| router.state).collect()).unwrap_or_default()
}

/// Waits until a node has both VIPs, and the routers of the other are in this state.
#[track_caller]
fn both_at(topology: &Topology, node: usize, others: &str) {
    wait(&format!("both VIPs on one node, and the other in {others}"), || {
        (topology.owners(), back_owners(topology)) == (vec![node], vec![node])
            && states(topology, node) == ["active", "active"]
            && states(topology, 1 - node) == [others, others]
    });
}

#[test]
fn what_is_of_a_group_moves_together() {
    let mut topology = unstarted(2, &[OFTEN]);
    let segment = Lan::create(&topology.run, "back").unwrap();
    let mut ports = Vec::new();
    for (node, balancer) in topology.balancers.iter().enumerate() {
        let (own, _) = BACK[node];
        ports.push(segment.attach(balancer.agent.netns(), "eth1", &format!("{own}/24")).unwrap());
        let config = fs::read_to_string(balancer.agent.config()).unwrap();
        balancer.agent.write_config(&format!("{config}{}{GROUP}", back(node))).unwrap();
    }
    for balancer in &mut topology.balancers {
        balancer.agent.start().unwrap();
    }
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let first = topology.owner().unwrap();
    let second = 1 - first;
    both_at(&topology, first, "backup");
    let load = topology.load(Duration::from_millis(10), 0).unwrap();
    served_more(&load, 50);

    // The wire of one is cut: both move, and nobody notices that with the other.
    let from = load.now();
    ports[first].cut().unwrap();
    both_at(&topology, second, "fault");
    served_more(&load, 50);
    let seen = load.summary(from, settle(&load));
    println!("a wire of the other segment is cut: outage {:?}, failed {}", seen.outage, seen.failed());
    assert!(seen.failed() <= 3, "{}", seen.failures_in_words());
    assert!(seen.outage < SLACK, "{:?}", seen.outage);
    let status = topology.balancers[first].agent.status().unwrap();
    assert_eq!(status.vrrp[0].reason, "another of its sync group is in fault");
    assert_eq!(status.vrrp[1].reason, "interface \"eth1\" is down");

    // Mended, it waits.
    ports[first].mend().unwrap();
    both_at(&topology, second, "backup");

    // By command one takes the other with it.
    let (status, said) = topology.balancers[second].agent.step_down(&["back"]).unwrap();
    assert!(status.success(), "{said}");
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(": handed over to ")), "{said}");
    both_at(&topology, first, "backup");

    // An agent that is restarted goes on with both.
    let agent = &mut topology.balancers[first].agent;
    assert!(agent.hand_over(LIMIT).unwrap().success());
    agent.start().unwrap();
    both_at(&topology, first, "backup");
    let status = topology.balancers[first].agent.status().unwrap();
    assert!(status.vrrp.iter().all(|router| router.reason.contains("earlier process")), "{:?}", status.vrrp);

    // With nobody to hold both, nobody holds one.
    ports[first].cut().unwrap();
    both_at(&topology, second, "fault");
    ports[second].cut().unwrap();
    wait("no VIP", || topology.owners().is_empty() && back_owners(&topology).is_empty());
    ports[second].mend().unwrap();
    both_at(&topology, second, "fault");
    drop((load, ports, segment));
    end(topology);
}

/// A program that writes down how it was called, and then does this.
fn hook(dir: &Path, name: &str, then: &str) -> String {
    let (path, log) = (dir.join(name), dir.join(format!("{name}.log")));
    let line = "\"$#|$1|$XVIP_INSTANCE|$XVIP_FROM|$XVIP_STATE|$XVIP_ADDRESSES\"";
    fs::write(&path, format!("#!/bin/sh\nprintf '%s\\n' {line} >> {}\n{then}\n", log.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// From and to, of each call.
fn told(dir: &Path, name: &str, argument: &str) -> Vec<(String, String)> {
    let log = fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
    let call = |line: &str| {
        let words: Vec<_> = line.split('|').collect();
        assert_eq!([words[0], words[1], words[2], words[5]], ["1", argument, "k8s", "192.0.2.100/24"]);
        (words[3].to_owned(), words[4].to_owned())
    };
    log.lines().map(call).collect()
}

/// Whether a process runs whose command line has this in it.
fn runs(what: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.map(|process| fs::read(process.path().join("cmdline")).unwrap_or_default());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(what))
}

#[test]
fn what_is_tracked_moves_the_vip_and_programs_are_told_of_it() {
    let mut topology = unstarted(2, &[OFTEN]);
    let dir = topology.run.dir().to_owned();
    let (file, trap) = (dir.join("good"), dir.join("trap"));
    fs::write(&file, "").unwrap();
    // Nothing of this is for a shell.
    let argument = format!("; touch {}", trap.display());
    let unique = format!("98765.{}", std::process::id());
    let scripts = [hook(&dir, "fails", "exit 3"), hook(&dir, "hangs", &format!("sleep {unique}; true"))];
    let segment = Lan::create(&topology.run, "back").unwrap();
    let mut ports = Vec::new();
    for (node, balancer) in topology.balancers.iter().enumerate() {
        let (own, _) = BACK[node];
        ports.push(segment.attach(balancer.agent.netns(), "eth1", &format!("{own}/24")).unwrap());
        let tracks = match node {
            0 => format!(
                "\n[[vrrp.track]]\nfile = \"{}\"\nweight = -50\n\n[[vrrp.track]]\ninterface = \"eth1\"\n",
                file.display()
            ),
            _ => String::new(),
        };
        let config = fs::read_to_string(balancer.agent.config()).unwrap();
        let changes = [
            ("\npreempt = false", "\npreempt = true"),
            (
                "\nvirtual_router_id = 51",
                &format!("\nvirtual_router_id = 51\nnotify = [{:?}, {argument:?}]", scripts[node]),
            ),
            ("\n[[service]]", &format!("{tracks}\n[[service]]")),
        ];
        balancer.agent.write_config(&adapt(&config, &changes).unwrap()).unwrap();
    }
    for balancer in &mut topology.balancers {
        balancer.agent.start().unwrap();
    }
    let is_at = |topology: &mut Topology, node: usize, priority: u8| {
        let wanted = |status: &xvip_tests::status::Status| status.is_active();
        topology.balancers[node].agent.wait_for("to be active", LIMIT, wanted).unwrap();
        let tracked = |status: &xvip_tests::status::Status| status.vrrp[0].priority == priority;
        topology.balancers[0].agent.wait_for("its priority", LIMIT, tracked).unwrap();
        wait("the VIP on one node", || topology.owners() == [node]);
    };
    is_at(&mut topology, 0, 110);
    let before = [told(&dir, "fails", &argument).len(), transitions(&topology, 0)];

    // The file is gone and comes back.
    fs::remove_file(&file).unwrap();
    is_at(&mut topology, 1, 60);
    fs::write(&file, "").unwrap();
    is_at(&mut topology, 0, 110);
    // The tracked interface is cut and mended.
    ports[0].cut().unwrap();
    is_at(&mut topology, 1, 110);
    let status = topology.balancers[0].agent.status().unwrap();
    assert_eq!((status.vrrp_state(), status.vrrp[0].reason.as_str()), ("fault", "interface \"eth1\" is bad"));
    ports[0].mend().unwrap();
    is_at(&mut topology, 0, 110);

    // Of each transition once, in their order, by a program that fails every time.
    let step = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let expected = [
        step("active", "backup"),
        step("backup", "active"),
        step("active", "fault"),
        step("fault", "backup"),
        step("backup", "active"),
    ];
    wait("the program to be told", || told(&dir, "fails", &argument).len() >= before[0] + expected.len());
    assert_eq!(told(&dir, "fails", &argument)[before[0]..], expected);
    assert_eq!(transitions(&topology, 0) - before[1], expected.len());
    assert!(!trap.exists(), "a shell has read the argument");

    // The other node's program hangs; that has kept nothing from moving. When its time is over it is killed with what it has
    // started, and the next transition is told.
    wait("what hangs to be killed, and the next one told", || told(&dir, "hangs", &argument).len() >= 2);
    assert_eq!(told(&dir, "hangs", &argument)[..2], [step("initialize", "backup"), step("backup", "active")]);
    topology.balancers[1].agent.stop(LIMIT).unwrap();
    let log = topology.balancers[1].agent.log_tail(200);
    assert!(log.contains("hangs") && log.contains("failed, or took longer than 10s"), "{log}");
    wait("nothing of it to be left", || !runs(&unique));
    drop((ports, segment));
    end(topology);
}

/// Of the first virtual router.
fn transitions(topology: &Topology, node: usize) -> usize {
    let scrape = Scrape::of(topology.balancers[node].agent.netns()).unwrap();
    scrape.count("xvip_vrrp_transitions_total", &[("router", "k8s")]) as usize
}

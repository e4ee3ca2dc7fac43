//! New configurations for a running agent, good ones and bad ones, and what `xvip check` says of bad ones. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{LIMIT, OFTEN, SANDBOX, breaks, end, served_more, serving, settle, streams_of, wait, watches_open};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use xvip_tests::agent::{Agent, adapt, find};
use xvip_tests::process::thread_of;
use xvip_tests::reloads::reload_in_turn;
use xvip_tests::run::Run;
use xvip_tests::scrape::Scrape;
use xvip_tests::status::Status;
use xvip_tests::topology::{CONFIG, Plan, Topology, config_of, has_vip};
use xvip_tests::until::until;

const MASTER3: &str = "\n[[service.backend]]\nname = \"master3\"\naddress = \"192.0.2.33:6443\"\n";

/// Writes a configuration, sends SIGHUP, and waits until the agent has made up its mind.
#[track_caller]
fn reload(agent: &mut Agent, config: &str) -> Status {
    let before = agent.status().unwrap().config;
    agent.write_config(config).unwrap();
    agent.reload().unwrap();
    let decided = |status: &Status| {
        status.config.reloads + status.config.reload_failures > before.reloads + before.reload_failures
    };
    agent.wait_for("an answer to SIGHUP", LIMIT, decided).unwrap_or_else(|err| panic!("{err:#}"))
}

#[track_caller]
fn accepted(agent: &mut Agent, config: &str) {
    let before = agent.status().unwrap().config.reloads;
    let status = reload(agent, config);
    assert_eq!((status.config.reloads, &status.config.last_error), (before + 1, &None));
    assert_eq!(Scrape::of(agent.netns()).unwrap().value("xvip_config_last_reload_successful", &[]), Some(1.0));
}

#[test]
fn good_files_are_applied_under_load() {
    let mut topology = serving(1, &[OFTEN]);
    let agent = &mut topology.balancers[0].agent;
    let whole = fs::read_to_string(agent.config()).unwrap();
    let without = adapt(&whole, &[(MASTER3, "")]).unwrap();
    accepted(agent, &without);
    let load = topology.load(Duration::from_millis(15), 9).unwrap();
    watches_open(&load);
    served_more(&load, 50);
    assert_eq!(streams_of(&load, "master3"), Vec::<usize>::new());

    // A backend more.
    let agent = &mut topology.balancers[0].agent;
    accepted(agent, &whole);
    agent.wait_for("master3 to be up", LIMIT, Status::all_up).unwrap();
    let added = load.now();
    wait("master3 to be used", || load.servers().iter().any(|name| name == "master3"));
    let master3 = load.servers().iter().position(|name| name == "master3").unwrap() as u16;

    // Other weights.
    let weighted = adapt(&whole, &[("name = \"master1\"\n", "name = \"master1\"\nweight = 8\n")]).unwrap();
    accepted(agent, &weighted);
    let from = load.now();
    served_more(&load, 100);
    let sum = load.summary(from, load.now());
    let master1 = load.servers().iter().position(|name| name == "master1").unwrap() as u16;
    let share = sum.by_server.get(&master1).copied().unwrap_or_default();
    assert!((70..=90).contains(&(share * 100 / sum.served)), "eight of ten: {sum:?}");

    // Another path for the checks; a server that is not ready is alive all the same.
    topology.servers[0].set_ready(false).unwrap();
    let agent = &mut topology.balancers[0].agent;
    agent.wait_for("master1 to be down", LIMIT, |s| s.backend("master1").is_some_and(|b| b.state == "down")).unwrap();
    accepted(agent, &adapt(&weighted, &[("path = \"/readyz\"", "path = \"/livez\"")]).unwrap());
    agent.wait_for("master1 to be up", LIMIT, Status::all_up).unwrap();
    topology.servers[0].set_ready(true).unwrap();
    let agent = &mut topology.balancers[0].agent;

    // A backend less: first nothing new, then gone.
    let drained = adapt(&whole, &[("name = \"master3\"\n", "name = \"master3\"\nweight = 0\n")]).unwrap();
    accepted(agent, &drained);
    let from = load.now();
    served_more(&load, 50);
    let sum = load.summary(from, settle(&load));
    assert_eq!(sum.by_server.get(&master3), None, "weight 0: {sum:?}");
    assert_eq!(breaks(&load), [], "nothing so far has touched a stream");
    accepted(agent, &without);
    let removed = load.now();
    served_more(&load, 50);
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!(sum.failed(), 0, "{sum:?}");
    assert!(added < removed && !load.summary(removed, load.now()).by_server.contains_key(&master3));
    assert_eq!(breaks(&load), [], "no stream was on master3");
    println!("{} connections during five reloads, {} failed", sum.attempts, sum.failed());
    drop(load);
    end(topology);
}

#[test]
fn forty_reloads_in_turn_and_nobody_notices() {
    let mut topology = serving(1, &[]);
    let load = topology.load(Duration::from_millis(5), 8).unwrap();
    watches_open(&load);
    let agent = &mut topology.balancers[0].agent;
    let done = reload_in_turn(agent, 40).unwrap_or_else(|err| panic!("{err:#}"));
    println!("{}", done.words.concat());
    let status = agent.status().unwrap().config;
    assert_eq!((done.applied.len(), done.refused.len()), (20, 20));
    assert_eq!((status.reloads, status.reload_failures, status.last_error), (21, 20, None));
    let sum = load.summary(Duration::ZERO, settle(&load));
    println!("{} connections, {} failed", sum.attempts, sum.failed());
    assert_eq!((sum.failed(), breaks(&load)), (0, Vec::new()), "{sum:?}");
    drop(load);
    end(topology);
}

#[test]
fn a_vip_comes_while_a_reload_waits_for_files() {
    let mut topology = serving(2, &[OFTEN]);
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    let slow = topology.run.dir().join("slow.pem");
    mkfifo(&slow, Mode::S_IRWXU).unwrap();
    let ca = topology.authority.ca_file();
    let agent = &mut topology.balancers[other].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    agent.write_config(&config.replacen(ca.to_str().unwrap(), slow.to_str().unwrap(), 1)).unwrap();
    agent.reload().unwrap();
    let pid = agent.pid().unwrap();
    wait("the files to be read", || thread_of(pid, "preparing").is_some());
    topology.balancers[holder].agent.kill9().unwrap();
    let netns = topology.balancers[other].agent.netns().clone();
    wait("the VIP on the other node", || has_vip(&netns));
    drop(netns);
    let agent = &mut topology.balancers[other].agent;
    let status = agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    assert_eq!((status.config.reloads, status.config.reload_failures), (0, 0), "it does not wait any more");
    let refused = |status: &Status| status.config.reload_failures == 1;
    let status = agent.wait_for("to have waited long enough", LIMIT, refused).unwrap();
    let why = status.config.last_error.unwrap();
    assert!(why.contains("takes longer than 5s"), "{why}");
    end(topology);
}

#[test]
fn bad_files_are_refused_whole() {
    let mut topology = serving(1, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 4).unwrap();
    watches_open(&load);
    let agent = &mut topology.balancers[0].agent;
    let good = fs::read_to_string(agent.config()).unwrap();
    let file = agent.config().display().to_string();
    let name = format!("name = \"{}\"", agent.netns().name());
    let ca_file = format!("ca_file = \"{}\"", topology.authority.ca_file().display());
    // What is changed and into what, where the fault is, and words of the message.
    let bad: [(&str, &str, &str, bool, &str); 7] = [
        ("a table that is not closed", "\n[node]\n", "\n[node\n", true, "expected"),
        ("an unknown key", "\npreempt = false", "\npreemt = false", true, "did you mean \"preempt\"?"),
        (
            "a VIP outside the subnet",
            "[\"192.0.2.100/24\"]",
            "[\"192.0.2.100/24\", \"198.51.100.7/24\"]",
            true,
            "is in no subnet of \"eth0\"",
        ),
        ("an interface that is not there", "interface = \"eth0\"", "interface = \"eth7\"", true, "is not on this host"),
        ("a missing CA file", &ca_file, "ca_file = \"/nowhere/ca.pem\"", false, "/nowhere/ca.pem"),
        ("another node name", &name, "name = \"another\"", false, "node.name has changed, which needs a restart"),
        (
            "another table size",
            "interface = \"eth0\"",
            "interface = \"eth0\"\nmax_flows = 4096",
            false,
            "node.max_flows has changed",
        ),
    ];
    for (what, from, to, located, words) in bad {
        // A fault and a good change in one file: the change must not happen.
        let config = adapt(&good, &[(from, to), (MASTER3, "")]).unwrap();
        let status = reload(agent, &config);
        let error = status.config.last_error.clone().unwrap_or_else(|| panic!("{what} was accepted"));
        println!("{what}: {error}");
        assert!(error.contains(words), "{what}: {error}");
        if located {
            assert!(position(&error, &file).is_some(), "{what}: {error}");
        }
        let backends: Vec<_> = status.services[0].backends.iter().map(|backend| backend.name.as_str()).collect();
        assert_eq!(backends, ["master1", "master2", "master3"], "{what}");
        assert!(status.is_active());
        assert_eq!(Scrape::of(agent.netns()).unwrap().value("xvip_config_last_reload_successful", &[]), Some(0.0));
    }
    fs::remove_file(agent.config()).unwrap();
    let before = agent.status().unwrap().config.reload_failures;
    agent.reload().unwrap();
    let status = agent.wait_for("a refusal", LIMIT, |status| status.config.reload_failures > before).unwrap();
    println!("no file: {}", status.config.last_error.unwrap());

    accepted(agent, &good);
    served_more(&load, 50);
    let sum = load.summary(Duration::ZERO, settle(&load));
    assert_eq!((sum.failed(), breaks(&load)), (0, vec![]), "{sum:?}");
    drop(load);
    end(topology);
}

/// Line and column of a message `FILE:LINE:COLUMN: …`.
fn position(message: &str, file: &str) -> Option<(u32, u32)> {
    let mut rest = message.strip_prefix(file)?.strip_prefix(':')?.splitn(3, ':');
    let (line, column) = (rest.next()?.parse().ok()?, rest.next()?.parse().ok()?);
    rest.next()?.strip_prefix(' ')?;
    Some((line, column))
}

fn check(file: &std::path::Path) -> Output {
    Command::new(find().unwrap()).arg("check").arg("--config").arg(file).output().unwrap()
}

/// What is replaced in the shipped configuration of the sandbox, by what, and what the message has to say.
#[rustfmt::skip]
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("a table that is not closed", "\n[node]\n", "\n[node\n", "expected"),
    ("an unknown key", "\npreempt = false", "\npreemt = false", "did you mean \"preempt\"?"),
    ("an unknown table", "[metrics]", "[metric]", "did you mean [metrics]?"),
    ("no interface", "interface = \"eth0\"", "", "add interface ="),
    ("a number for a duration", "\ninterval = \"1s\"", "\ninterval = 1", "write a string such as"),
    ("a duration without a unit", "\nadvert_interval = \"100ms\"", "\nadvert_interval = \"100\"", "has no unit"),
    ("checks that overlap", "\ntimeout = \"500ms\"", "\ntimeout = \"2s\"", "timeout"),
    ("the priority of who leaves", "\npriority = 110", "\npriority = 0", "from 1 to 255"),
    ("a virtual router of no number", "\nvirtual_router_id = 51", "\nvirtual_router_id = 0", "from 1 to 255"),
    ("a service at no VIP", "listen = \"192.0.2.100:8443\"", "listen = \"192.0.2.99:8443\"", "no [[vrrp]] carries 192.0.2.99"),
    ("a service without a port", "listen = \"192.0.2.100:8443\"", "listen = \"192.0.2.100\"", "has no port"),
    ("a backend twice", "192.0.2.33:6443", "192.0.2.32:6443", "192.0.2.32:6443"),
    ("two backends of one name", "name = \"master3\"", "name = \"master2\"", "master2"),
    ("a host name for an address", "192.0.2.31:6443", "master1:6443", "has no IP address before its port"),
    ("a backend of the other family", "192.0.2.31:6443", "[2001:db8::31]:6443", "give the backend one of the service's family"),
    ("IPv6 without brackets", "192.0.2.31:6443", "2001:db8::31:6443", "write it in brackets"),
    ("a VIP of the other family", "[\"192.0.2.100/24\"]", "[\"192.0.2.100/24\", \"2001:db8::100/64\"]", "make a [[vrrp]] for each family"),
    ("a peer of the other family", "unicast_peers = [\"192.0.2.22\"]", "unicast_peers = [\"fe80::22\"]", "write the other router's IPv4 address"),
    ("a way to balance that is not there", "balance = \"roundrobin\"", "balance = \"rr\"", "use \"roundrobin\""),
    ("a path for a relative file", "\"/run/xvip/admin.sock\"", "\"admin.sock\"", "relative path"),
    ("a check of no kind", "type = \"https\"", "type = \"ping\"", "ping"),
    ("a peer that is a VIP", "unicast_peers = [\"192.0.2.22\"]", "unicast_peers = [\"192.0.2.100\"]", "is a virtual address"),
    ("no backends", "\n[[service.backend]]\nname = \"master1\"\naddress = \"192.0.2.31:6443\"\n\n[[service.backend]]\nname = \"master2\"\naddress = \"192.0.2.32:6443\"\n\n[[service.backend]]\nname = \"master3\"\naddress = \"192.0.2.33:6443\"\n", "", "has no backends"),
];

#[test]
fn check_says_what_is_wrong_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("xvip.toml");
    let name = file.display().to_string();
    for (what, from, to, words) in WRONG {
        let config = adapt(CONFIG, &[(from, to)]).unwrap_or_else(|err| panic!("{what}: {err}"));
        fs::write(&file, &config).unwrap();
        let output = check(&file);
        let text = String::from_utf8(output.stdout).unwrap();
        println!("{what}:\n  {}", text.trim().replace(&name, "xvip.toml").replace('\n', "\n  "));
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        assert!(text.contains(words), "{what}: {text}");
        for line in text.lines() {
            let (line, column) = position(line, &name).unwrap_or_else(|| panic!("{what}: {line}"));
            let of_file = config.lines().nth(line as usize - 1).unwrap_or_default();
            assert!(column as usize <= of_file.chars().count() + 1, "{what}: {line}:{column} is not in the file");
        }
    }
    // Several faults: all of them, in the order of the file.
    let config =
        adapt(CONFIG, &[("\npriority = 110", "\npriority = 0"), ("\nfall = 3", "\nfall = 0"), ("8443", "84430")])
            .unwrap();
    fs::write(&file, config).unwrap();
    let output = check(&file);
    let text = String::from_utf8(output.stdout).unwrap();
    let places: Vec<_> = text.lines().filter_map(|line| position(line, &name)).collect();
    assert!(places.len() == 3 && places.is_sorted(), "{text}");
    assert_eq!(output.status.code(), Some(1));

    let missing = check(&dir.path().join("missing.toml"));
    assert_eq!(missing.status.code(), Some(1));
    println!(
        "no file:\n  {}",
        String::from_utf8_lossy(&missing.stdout).trim().replace(&dir.path().display().to_string(), "")
    );
}

#[test]
fn check_is_content_with_what_ships() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("xvip.toml");
    let adapted = |index, name| config_of(index, name, "/run/s.sock".as_ref(), "/tmp/ca.pem".as_ref(), &[]).unwrap();
    for config in [include_str!("../../config/xvip.toml"), CONFIG, &adapted(0, "lb1"), &adapted(1, "lb2.example.net")] {
        fs::write(&file, config).unwrap();
        let output = check(&file);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn status_without_an_agent_ends_with_three() {
    let dir = tempfile::tempdir().unwrap();
    for words in [&["status"][..], &["status", "--json"]] {
        let socket = dir.path().join("admin.sock");
        let output = Command::new(find().unwrap()).args(words).arg("--socket").arg(socket).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
        println!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
}

#[test]
fn the_agent_does_not_start_with_a_bad_file_and_touches_nothing() {
    let mut topology = common::unstarted(
        1,
        &[("[\"192.0.2.100/24\"]", "[\"198.51.100.7/24\"]"), ("192.0.2.100:8443", "198.51.100.7:8443")],
    );
    let agent = &mut topology.balancers[0].agent;
    agent.start().unwrap();
    wait("its end", || !agent.is_running());
    let log = agent.log_tail(5);
    println!("{log}");
    let line = log.lines().find(|line| line.contains("is in no subnet of \"eth0\"")).unwrap_or_else(|| panic!("{log}"));
    assert!(position(line, &agent.config().display().to_string()).is_some(), "{line}");
    assert!(!agent.netns().ip("link show dev eth0").unwrap().contains("xdp"));
    end(topology);
}

/// A memory cgroup, of version 1 or 2; it goes with its value.
struct Limited(PathBuf);

impl Limited {
    /// `None`: this machine limits no memory.
    fn to(bytes: u64, name: &str) -> Option<Self> {
        let found = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        found.into_iter().find_map(|(root, limit)| {
            let limited = Self(Path::new(root).join(name));
            fs::create_dir(&limited.0).ok()?;
            fs::write(limited.0.join(limit), bytes.to_string()).ok().map(|()| limited)
        })
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let gone = || match fs::remove_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => None,
            _ => Some(()),
        };
        let _ = until("the cgroup to be empty", LIMIT, gone);
    }
}

#[test]
fn tables_for_which_there_is_no_memory_are_an_error_that_names_them() {
    let run = Run::start().unwrap();
    let Some(limited) = Limited::to(300 << 20, &run.named("limited")) else {
        panic!("no hierarchy of cgroups limits memory here");
    };
    // What it starts is in there from its first byte.
    let script = run.dir().join("limited");
    let (inside, xvip) = (limited.0.join("cgroup.procs"), find().unwrap());
    let text =
        format!("#!/bin/sh\n[ \"$1\" = run ] && echo $$ > {}\nexec {} \"$@\"\n", inside.display(), xvip.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let tables = ("interface = \"eth0\"", "interface = \"eth0\"\nmax_flows = 4194304");
    let plan = Plan { xvip: &script, sandbox: Path::new(SANDBOX), balancers: 1, changes: &[tables] };
    let mut topology = Topology::build(&run, &plan).unwrap();
    let agent = &mut topology.balancers[0].agent;
    agent.start().unwrap();
    wait("its end", || !agent.is_running());
    let log = agent.log_tail(5);
    println!("{log}");
    assert!(log.contains("no memory for table ESTABLISHED") && log.contains("lower node.max_flows"), "{log}");
    assert!(!agent.netns().ip("link show dev eth0").unwrap().contains("xdp"));

    // With smaller ones it serves within the same limit.
    let config = fs::read_to_string(agent.config()).unwrap().replace("max_flows = 4194304", "max_flows = 4096");
    agent.write_config(&config).unwrap();
    agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    // What the run has made goes with the last who knows it.
    drop(run);
    end(topology);
    drop(limited);
}

//! A running pair with haproxy and keepalived becomes one of xvip, node by node, by the steps of `docs/migration.md`, under load.
//! Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LIMIT, SANDBOX, served_more, settle, wait};
use nix::sys::signal::Signal;
use xvip_tests::agent::{self, Agent, adapt};
use xvip_tests::book;
use xvip_tests::client::Client;
use xvip_tests::deployment::Kind::{Balancer, Other, Server};
use xvip_tests::deployment::{Deployment, Plan};
use xvip_tests::process::{Process, find_program, output_within};

/// What the pair runs on until today.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lb-user/src/import/testdata/external-pair");

const PAIR: Plan = Plan {
    name: "external-pair",
    vip: "192.168.56.10:8443",
    everywhere: true,
    hosts: &[
        ("lb1", "192.168.56.11", Balancer),
        ("lb2", "192.168.56.12", Balancer),
        ("master1", "192.168.56.21", Server),
        ("master2", "192.168.56.22", Server),
        ("master3", "192.168.56.23", Server),
        ("client", "192.168.56.50", Other),
    ],
};
/// What the page has typed, in its order; what changes there has to change below.
const STEPS: [&str; 15] = [
    // Before, on each node: `import`.
    "install -m 755 xvip /usr/local/bin/xvip",
    "install -d /etc/xvip",
    "xvip import --haproxy /etc/haproxy/haproxy.cfg --keepalived /etc/keepalived/keepalived.conf --output /etc/xvip/xvip.toml",
    "xvip check --config /etc/xvip/xvip.toml",
    "xvip doctor --config /etc/xvip/xvip.toml",
    // The node without the VIP: `stop`, `start`.
    "systemctl disable --now keepalived haproxy",
    "systemctl enable --now xvip",
    "xvip status",
    // The node with the VIP: `import` without preemption, `stop` with a look in between, `start`.
    "sed -i 's/^preempt = true/preempt = false/' /etc/xvip/xvip.toml",
    "systemctl disable --now keepalived",
    "xvip status",
    "systemctl disable --now haproxy",
    "systemctl enable --now xvip",
    "xvip status",
    // When no keepalived is left.
    "xvip vrrp step-down",
];
const MASTER: usize = 0;
const BACKUP: usize = 1;

/// haproxy and keepalived on a node, and their files.
struct Incumbent {
    haproxy_cfg: PathBuf,
    keepalived_conf: PathBuf,
    haproxy: Process,
    keepalived: Process,
}

impl Incumbent {
    /// Starts both as their files say, but that the processes stay in the foreground.
    fn start(deployment: &Deployment, node: usize) -> Incumbent {
        let host = &deployment.hosts[node];
        let file = |suffix: &str| deployment.run.dir().join(format!("{}.{suffix}", host.name));
        let (haproxy_cfg, keepalived_conf) = (file("haproxy.cfg"), file("keepalived.conf"));
        // haproxy 2.5 and later know nbproc no more; 50,000 connections want more files than a test may open.
        let haproxy = fs::read_to_string(Path::new(FILES).join("haproxy.cfg")).unwrap();
        let changes = [("  nbproc 1\n", ""), ("err\n  maxconn 50000\n  user", "err\n  maxconn 4000\n  user")];
        fs::write(&haproxy_cfg, adapt(&haproxy, &changes).unwrap()).unwrap();
        let keepalived = fs::read_to_string(Path::new(FILES).join("keepalived.conf")).unwrap();
        // The script of the site is not on this machine; it starts haproxy again.
        let keepalived = adapt(&keepalived, &[("/data/keepalived/check_haproxy.sh", "/bin/true")]).unwrap();
        let backup = [("state MASTER", "state BACKUP"), ("priority 100", "priority 90"), ("haproxy1", "haproxy2")];
        let changes: &[_] = if node == MASTER { &[] } else { &backup };
        fs::write(&keepalived_conf, adapt(&keepalived, changes).unwrap()).unwrap();

        let run = &deployment.run;
        let mut command = host.netns.command(find_program("haproxy").unwrap());
        command.arg("-db").arg("-f").arg(&haproxy_cfg);
        let haproxy = Process::spawn(run, &format!("{}-haproxy", host.name), command).unwrap();
        let mut command = host.netns.command(find_program("keepalived").unwrap());
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(&keepalived_conf);
        command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp.pid"));
        let keepalived = Process::spawn(run, &format!("{}-keepalived", host.name), command).unwrap();
        Incumbent { haproxy_cfg, keepalived_conf, haproxy, keepalived }
    }

    /// `systemctl stop keepalived`, then `systemctl stop haproxy`.
    fn stop(mut self, between: impl FnOnce()) {
        self.keepalived.signal(Signal::SIGTERM).unwrap();
        self.keepalived.wait(LIMIT).unwrap();
        between();
        self.haproxy.signal(Signal::SIGTERM).unwrap();
        self.haproxy.wait(LIMIT).unwrap();
    }
}

/// `xvip import` and `xvip check`; the file is that of the node's agent, with what differs because all nodes share a machine.
#[track_caller]
fn import(deployment: &Deployment, node: usize, incumbent: &Incumbent, changes: &[(&str, &str)]) {
    let host = &deployment.hosts[node];
    let xvip = agent::find().unwrap();
    let output = deployment.run.dir().join(format!("{}.imported.toml", host.name));
    let mut import = host.netns.command(&xvip);
    import.arg("import").arg("--haproxy").arg(&incumbent.haproxy_cfg);
    import.arg("--keepalived").arg(&incumbent.keepalived_conf).arg("--output").arg(&output);
    let (status, _) = output_within(import, LIMIT).unwrap();
    assert!(status.success(), "{status}");
    let mut check = host.netns.command(&xvip);
    check.arg("check").arg("--config").arg(&output);
    let (status, said) = output_within(check, LIMIT).unwrap();
    assert!(status.success(), "{said}");

    let file = fs::read_to_string(&output).unwrap();
    let here = format!("name = \"{}\"\ncgroup = \"{}\"\n", host.netns.name(), host.cgroup.path().display());
    let file = adapt(&file, &[("# name = \"lb1\"\n", &here)]).unwrap();
    let file = adapt(&file, changes).unwrap();
    let file = format!("{file}\n[admin]\nsocket = \"{}\"\n", Agent::socket_of(&host.netns).display());
    host.agent.as_ref().unwrap().write_config(&file).unwrap();
}

/// Starts the agent of a node and waits until it is so, with every backend up.
#[track_caller]
fn start(deployment: &mut Deployment, node: usize, state: &str) {
    deployment.hosts[node].start_agent().unwrap();
    is(deployment, node, state);
}

#[track_caller]
fn is(deployment: &mut Deployment, node: usize, state: &str) {
    let agent = deployment.hosts[node].agent.as_mut().unwrap();
    let settled = agent.wait_for(state, LIMIT, |status| {
        let mut backends = status.services.iter().flat_map(|service| &service.backends);
        status.vrrp.iter().all(|router| router.state == state) && backends.all(|backend| backend.state == "up")
    });
    settled.unwrap_or_else(|err| panic!("{err:#}"));
}

/// Connections that failed of those that were begun from `from` until before `to`.
fn failed(load: &Client, from: Duration, to: Duration) -> Vec<String> {
    let attempts = load.attempts_since(from).into_iter().filter(|attempt| (from..to).contains(&attempt.began));
    attempts.filter(|attempt| attempt.outcome.is_err()).map(|attempt| format!("{attempt:?}")).collect()
}

#[test]
fn the_page_has_the_steps_that_are_taken() {
    let blocks = book::read("docs/migration.md").unwrap().blocks.into_iter();
    let text: String = blocks.filter(|block| block.language == "sh").map(|block| block.text).collect();
    let typed: Vec<_> = text.lines().map(|line| line.split("  #").next().unwrap_or_default().trim()).collect();
    assert_eq!(typed, STEPS);
}

#[test]
fn one_node_at_a_time() {
    let built = Deployment::build(&agent::find().unwrap(), Path::new(SANDBOX), &PAIR);
    let mut deployment = built.unwrap_or_else(|err| panic!("{err:#}"));
    let client = deployment.number("client").unwrap();
    let master = Incumbent::start(&deployment, MASTER);
    wait("keepalived to hold the VIP", || deployment.owners() == [MASTER].into());
    let backup = Incumbent::start(&deployment, BACKUP);
    let reaches = |node: usize| {
        deployment.dial(client, deployment.vip(), 3).is_ok_and(|of| of.failed.is_empty())
            && deployment.owners() == [node].into()
    };
    wait("haproxy to serve", || reaches(MASTER));
    let load = deployment.load(client, Duration::from_millis(20)).unwrap();
    served_more(&load, 20);

    // The backup, from which nobody is served.
    let from = load.now();
    import(&deployment, BACKUP, &backup, &[]);
    backup.stop(|| {});
    start(&mut deployment, BACKUP, "backup");
    assert_eq!(deployment.owners(), [MASTER].into(), "keepalived on the other node is heard, and prevails");
    served_more(&load, 50);
    let to = settle(&load);
    assert_eq!(failed(&load, from, to), [""; 0], "replacing the backup is noticed");

    // The holder. It must not take the VIP back at once, which would move it twice.
    import(&deployment, MASTER, &master, &[("\npreempt = true", "\npreempt = false")]);
    let from = to;
    master.stop(|| is(&mut deployment, BACKUP, "active"));
    assert_eq!(deployment.owners(), [BACKUP].into());
    let moved = load.now();
    served_more(&load, 50);
    start(&mut deployment, MASTER, "backup");
    assert_eq!(deployment.owners(), [BACKUP].into());
    served_more(&load, 50);
    let to = settle(&load);
    let broken = failed(&load, from, moved);
    println!(
        "while haproxy ended and the VIP moved, in {:.2?}: {} connections failed {broken:?}",
        moved - from,
        broken.len()
    );
    // One each 20 ms, a few of them under way at any time.
    assert!(broken.len() <= 10, "{broken:?}");
    assert_eq!(failed(&load, moved, to), [""; 0], "a failure after the VIP had moved");

    // And back, between two nodes of xvip that speak version 2 with each other.
    let from = load.now();
    let (status, said) = deployment.hosts[BACKUP].agent.as_ref().unwrap().step_down(&[]).unwrap();
    assert!(status.success(), "{said}");
    is(&mut deployment, MASTER, "active");
    served_more(&load, 50);
    let to = settle(&load);
    let broken = failed(&load, from, to);
    println!("stepping down: {} connections failed {broken:?}", broken.len());
    assert!(broken.len() <= 5, "{broken:?}");
}

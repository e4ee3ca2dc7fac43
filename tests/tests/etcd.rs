//! Three etcd members behind a VIP, while a member and a balancer are lost. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{LIMIT, OFTEN, end, unstarted, wait};
use xvip_tests::agent::adapt;
use xvip_tests::netns::Netns;
use xvip_tests::pki::KeyFiles;
use xvip_tests::process::{Process, output_within};
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::{SERVERS, Topology, VIP_ADDRESS, server_keys, sharing};

const ENDPOINT: &str = "https://192.0.2.100:2379";

/// A member; it keeps its data between its processes.
struct Member {
    netns: Netns,
    process: Process,
}

impl Member {
    fn start(netns: &Netns, index: usize, keys: &KeyFiles) -> Member {
        let dir = netns.run().dir();
        let (name, address) = SERVERS[index];
        let (client, peer) = (format!("https://{address}:2379"), format!("https://{address}:2380"));
        let all: Vec<_> = SERVERS.iter().map(|(name, address)| format!("{name}=https://{address}:2380")).collect();
        let mut etcd = netns.command("etcd");
        etcd.args(["--name", name, "--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        etcd.arg("--data-dir").arg(dir.join(format!("{name}.etcd")));
        for prefix in ["--", "--peer-"] {
            etcd.arg(format!("{prefix}client-cert-auth"));
            etcd.arg(format!("{prefix}trusted-ca-file")).arg(dir.join("ca.pem"));
            etcd.arg(format!("{prefix}cert-file")).arg(&keys.cert);
            etcd.arg(format!("{prefix}key-file")).arg(&keys.key);
        }
        let process = Process::spawn(netns.run(), &format!("etcd-{name}"), etcd);
        Member { netns: netns.clone(), process: process.expect("the program etcd is needed: package etcd-server") }
    }
}

/// `etcdctl` on the client, through the VIP, with a certificate.
#[derive(Clone)]
struct Control {
    netns: Netns,
    keys: KeyFiles,
}

impl Control {
    fn command(&self, words: &[&str]) -> Command {
        let mut etcdctl = self.netns.command("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args([
            "--endpoints",
            ENDPOINT,
            "--dial-timeout",
            "2s",
            "--command-timeout",
            "3s",
        ]);
        etcdctl.arg("--cacert").arg(self.netns.run().dir().join("ca.pem"));
        etcdctl.arg("--cert").arg(&self.keys.cert).arg("--key").arg(&self.keys.key).args(words);
        etcdctl
    }

    /// Its output, if it succeeds.
    fn run(&self, words: &[&str]) -> Option<String> {
        let ended = output_within(self.command(words), Duration::from_secs(10));
        ended.ok().filter(|(status, _)| status.success()).map(|(_, text)| text)
    }
}

/// Puts one key after the other and remembers which were acknowledged.
struct Writer {
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
    failed: Arc<Mutex<u32>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(control: &Control) -> Writer {
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let failed = Arc::new(Mutex::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (to, failures, end, control) = (acknowledged.clone(), failed.clone(), stop.clone(), control.clone());
        let thread = std::thread::spawn(move || {
            for serial in 0.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let (key, value) = (format!("k/{serial:06}"), format!("value-{serial}"));
                match control.run(&["put", &key, &value]) {
                    Some(text) if text.trim() == "OK" => {
                        to.lock().unwrap().insert(key, value);
                    }
                    _ => *failures.lock().unwrap() += 1,
                }
            }
        });
        Writer { acknowledged, failed, stop, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn last(&self) -> Option<String> {
        self.acknowledged.lock().unwrap().keys().next_back().cloned()
    }

    #[track_caller]
    fn more(&self, count: usize) {
        let before = self.count();
        wait(&format!("{count} more puts"), || self.count() >= before + count);
    }

    /// All that was acknowledged, and how many puts failed.
    fn end(mut self) -> (BTreeMap<String, String>, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (self.acknowledged.lock().unwrap().clone(), *self.failed.lock().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// `etcdctl watch`, started again if it ends, as an informer would.
struct Watcher {
    control: Control,
    process: Process,
    starts: u32,
}

impl Watcher {
    fn start(control: &Control) -> Watcher {
        Watcher { control: control.clone(), process: Self::watch(control), starts: 1 }
    }

    fn watch(control: &Control) -> Process {
        Process::spawn(control.netns.run(), "watch", control.command(&["watch", "--prefix", "k/"])).unwrap()
    }

    fn has_seen(&self, key: &str) -> bool {
        fs::read_to_string(self.process.log()).is_ok_and(|log| log.lines().any(|line| line == key))
    }

    /// Waits until it hears of something that is put from now on.
    #[track_caller]
    fn hears(&mut self, writer: &Writer) {
        let mut from = writer.last();
        wait("the watch to hear of a new key", || {
            if !self.process.is_running() {
                self.process = Self::watch(&self.control);
                self.starts += 1;
                from = writer.last();
            }
            let new: Vec<_> = writer.acknowledged.lock().unwrap().keys().cloned().collect();
            new.iter().rev().take_while(|key| Some(*key) > from.as_ref()).any(|key| self.has_seen(key))
        });
    }
}

/// The shipped configuration, for etcd instead of API servers.
fn point_at_etcd(topology: &Topology, keys: &KeyFiles) {
    let certificate = format!(
        "path = \"/health\"\nclient_certificate = \"{}\"\nclient_key = \"{}\"",
        keys.cert.display(),
        keys.key.display()
    );
    for balancer in &topology.balancers {
        let config = fs::read_to_string(balancer.agent.config()).unwrap();
        let changes = [
            ("listen = \"192.0.2.100:8443\"", "listen = \"192.0.2.100:2379\""),
            ("path = \"/readyz\"", &certificate),
            ("192.0.2.31:6443", "192.0.2.31:2379"),
            ("192.0.2.32:6443", "192.0.2.32:2379"),
            ("192.0.2.33:6443", "192.0.2.33:2379"),
        ];
        balancer.agent.write_config(&adapt(&config, &changes).unwrap()).unwrap();
    }
}

/// Two balancers that serve three members.
struct Cluster {
    topology: Topology,
    members: Vec<Member>,
    member_keys: Vec<KeyFiles>,
    control: Control,
}

impl Cluster {
    /// Starts it; `more` is for the configuration of both balancers.
    #[track_caller]
    fn start(more: impl Fn(&Topology) -> String) -> Cluster {
        let mut topology = unstarted(2, &[OFTEN]);
        let keys = topology.authority.client("etcd-client").unwrap();
        let mut members = Vec::new();
        let mut member_keys = Vec::new();
        for (index, server) in topology.servers.iter_mut().enumerate() {
            server.kill9().unwrap();
            let (name, address) = SERVERS[index];
            let keys = server_keys(&topology.authority, &format!("{name}-etcd"), address).unwrap();
            members.push(Member::start(server.netns(), index, &keys));
            member_keys.push(keys);
        }
        point_at_etcd(&topology, &keys);
        let more = more(&topology);
        for balancer in &mut topology.balancers {
            let config = fs::read_to_string(balancer.agent.config()).unwrap();
            balancer.agent.write_config(&(config + &more)).unwrap();
            balancer.agent.start().unwrap();
        }
        topology.wait_serving(LIMIT).unwrap_or_else(|err| {
            let logs: Vec<_> = members.iter().map(|member| member.process.log_tail(5)).collect();
            panic!("{err:#}\n{}", logs.join("\n"))
        });
        let control = Control { netns: topology.client.clone(), keys };
        wait("the first put", || control.run(&["put", "first", "1"]).is_some());
        assert_eq!(control.run(&["get", "first", "--print-value-only"]).as_deref(), Some("1\n"));
        Cluster { topology, members, member_keys, control }
    }

    /// A watch that has heard of its first key.
    #[track_caller]
    fn watch(&self) -> Watcher {
        let watcher = Watcher::start(&self.control);
        let put = || self.control.run(&["put", "k/open", "1"]).is_some();
        wait("the watch to be open", || put() && watcher.has_seen("k/open"));
        watcher
    }
}

#[test]
fn puts_and_watches_outlive_a_member_and_a_balancer() {
    let cluster = Cluster::start(|_| String::new());
    let mut watcher = cluster.watch();
    let Cluster { mut topology, mut members, member_keys, control } = cluster;
    let writer = Writer::start(&control);
    watcher.hears(&writer);
    writer.more(20);

    // A member dies: its balancers stop using it, and the other two are a quorum.
    members[1].process.kill9().unwrap();
    for balancer in &mut topology.balancers {
        balancer
            .agent
            .wait_for("the member to be down", LIMIT, |s| s.backend("master2").is_some_and(|b| b.state == "down"))
            .unwrap();
    }
    writer.more(20);
    watcher.hears(&writer);
    let netns = members[1].netns.clone();
    members[1] = Member::start(&netns, 1, &member_keys[1]);
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    // The holder's agent dies: the other balancer takes over.
    let holder = topology.owner().unwrap();
    topology.balancers[holder].agent.kill9().unwrap();
    topology.balancers[1 - holder].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    writer.more(20);
    watcher.hears(&writer);
    topology.balancers[holder].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    // Now its wire: nothing of it helps any more.
    let holder = topology.owner().unwrap();
    topology.balancers[holder].port.cut().unwrap();
    topology.balancers[1 - holder].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    writer.more(20);
    watcher.hears(&writer);

    let (acknowledged, failed) = writer.end();
    let mut found = None;
    wait("an answer to the last question", || {
        found = control.run(&["get", "--prefix", "k/"]);
        found.is_some()
    });
    let text = found.unwrap();
    let lines: Vec<_> = text.lines().collect();
    let stored: BTreeMap<_, _> = lines.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    for (key, value) in &acknowledged {
        assert_eq!(stored.get(key.as_str()), Some(&value.as_str()), "{key} was acknowledged");
    }
    let heard = fs::read_to_string(watcher.process.log()).unwrap();
    let heard: Vec<_> = heard.lines().collect();
    let unheard: Vec<_> = acknowledged.keys().filter(|key| !heard.contains(&key.as_str())).collect();
    println!(
        "{} puts acknowledged and stored, {failed} failed; the watch was started {} times and did not hear of {} keys",
        acknowledged.len(),
        watcher.starts,
        unheard.len()
    );
    if watcher.starts == 1 {
        assert!(unheard.is_empty(), "a watch that was resumed has heard of everything: {unheard:?}");
    }
    drop((watcher, control, members, netns));
    end(topology);
}

/// What SSH and the like are to a balancer: one side speaks when somebody types, the other answers.
const SESSIONS: &str = "192.0.2.100:22";

/// Answers each byte by itself, at port 22 of a server.
fn echo(netns: &Netns) {
    let serve = || {
        let listener = TcpListener::bind("0.0.0.0:22").unwrap();
        for session in listener.incoming() {
            let mut session = session.unwrap();
            std::thread::spawn(move || {
                let mut byte = [0];
                while session.read_exact(&mut byte).is_ok() && session.write_all(&byte).is_ok() {}
            });
        }
    };
    netns.spawn("echo", serve).unwrap();
}

/// Starts servers for these sessions; their service, and what makes connections live through a move.
fn sessions_and_sync(topology: &Topology) -> String {
    topology.servers.iter().for_each(|server| echo(server.netns()));
    let backends = SERVERS.map(|(name, address)| format!("{{ name = \"{name}\", address = \"{address}:22\" }}"));
    format!(
        "\n[[service]]\nname = \"sessions\"\nlisten = \"{SESSIONS}\"\nbackend = [{}]\n\n{}",
        backends.join(", "),
        sharing(topology.run.dir()).unwrap()
    )
}

/// The client's ports of the connections that a process has to the VIP.
fn ports_of(netns: &Netns, pid: u32) -> Vec<String> {
    let mut ss = netns.command("ss");
    ss.args(["-Htnp", "state", "established", "dst", VIP_ADDRESS]);
    let (status, text) = output_within(ss, Duration::from_secs(10)).unwrap();
    assert!(status.success(), "{text}");
    let its = text.lines().filter(|line| line.contains(&format!("pid={pid},")));
    its.filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect()
}

/// Lets the holder of the VIP fail, and puts it right when the other one has taken over.
#[track_caller]
fn fail(topology: &mut Topology, how: &str, meanwhile: &mut dyn FnMut()) {
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let holder = topology.owner().unwrap();
    let [failing, other] = [holder, 1 - holder];
    wait("the other one to be told everything", || {
        let scrape = |at: usize| Scrape::of(topology.balancers[at].agent.netns()).ok();
        let (Some(tells), Some(hears)) = (scrape(failing), scrape(other)) else { return false };
        let is_up = |of: &Scrape| of.value("xvip_sync_peer_up", &[]) == Some(1.0);
        // A table as a whole when they met, and each change since.
        let tables = hears.count("xvip_sync_tables_total", &[("direction", "received")]);
        is_up(&tells) && is_up(&hears) && tables >= 1.0 && tells.count("xvip_sync_backlog_datagrams", &[]) == 0.0
    });
    match how {
        "SIGTERM" => topology.balancers[failing].agent.terminate().unwrap(),
        "step-down" => assert!(topology.balancers[failing].agent.step_down(&[]).unwrap().0.success()),
        "kill -9" => topology.balancers[failing].agent.kill9().unwrap(),
        "SIGSTOP" => topology.balancers[failing].agent.freeze().unwrap(),
        "link cut" => topology.balancers[failing].port.cut().unwrap(),
        _ => panic!("what is {how}?"),
    }
    topology.balancers[other].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    meanwhile();
    match how {
        "SIGTERM" => drop(topology.balancers[failing].agent.stop(LIMIT).unwrap()),
        "SIGSTOP" => topology.balancers[failing].agent.thaw().unwrap(),
        "link cut" => topology.balancers[failing].port.mend().unwrap(),
        _ => {}
    }
    topology.balancers[failing].agent.start().unwrap();
}

#[test]
fn watches_and_idle_sessions_live_through_every_fault_of_the_holder() {
    let cluster = Cluster::start(sessions_and_sync);
    let mut watcher = cluster.watch();
    let Cluster { mut topology, members, control, .. } = cluster;
    let connect = || {
        let session = TcpStream::connect_timeout(&SESSIONS.parse().unwrap(), Duration::from_secs(1)).ok()?;
        session.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Some(session)
    };
    let mut sessions = Vec::new();
    wait("sessions with all servers", || {
        sessions.extend(topology.client.enter(connect).unwrap());
        sessions.len() == 6
    });
    let mut typed = 0_u8;
    let mut answered = |when: &str| {
        for session in &mut sessions {
            typed = typed.wrapping_add(1);
            let mut byte = [0];
            let exchanged = session.write_all(&[typed]).and_then(|()| session.read_exact(&mut byte));
            exchanged.unwrap_or_else(|error| panic!("a session ended {when}: {error}"));
            assert_eq!(byte, [typed]);
        }
    };
    answered("at once");
    let writer = Writer::start(&control);
    watcher.hears(&writer);
    let ports = ports_of(&topology.client, watcher.process.pid());
    assert!(!ports.is_empty(), "the watch has a connection");
    for how in ["SIGTERM", "step-down", "kill -9", "SIGSTOP", "link cut"] {
        fail(&mut topology, how, &mut || {
            answered(how);
            watcher.hears(&writer);
        });
        watcher.hears(&writer);
        answered(how);
        assert_eq!(ports_of(&topology.client, watcher.process.pid()), ports, "the same connection after {how}");
    }
    assert_eq!(watcher.starts, 1);
    writer.end();
    drop((sessions, watcher, control, members));
    end(topology);
}

//! Backends that die, vanish or shut down, and what their clients notice of it: nothing. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "real peers are measured against the real clock")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use common::{LIMIT, SANDBOX, end, plain, served_more, serving, unstarted, wait};
use xvip_tests::agent;
use xvip_tests::client::{Client, Options};
use xvip_tests::netns::Netns;
use xvip_tests::run::leftovers;
use xvip_tests::scrape::Scrape;
use xvip_tests::stacked::Stacked;
use xvip_tests::topology::{SERVERS, Topology, host};
use xvip_tests::until::until;

/// Ordinary checks say nothing within a test.
const SELDOM: (&str, &str) = ("interval = \"1s\"\ntimeout = \"500ms\"", "interval = \"60s\"\ntimeout = \"5s\"");
const TC: (&str, &str) = ("datapath = \"xdp\"", "datapath = \"tc\"");
/// A connection that took longer has waited for its client to send a SYN again.
const SLOW: Duration = Duration::from_millis(900);

/// A connection each 20 ms, none of which is given up soon.
fn load(netns: &Netns, topology: &Topology) -> Client {
    let options = Options::https(Topology::vip(), topology.authority.ca_file());
    let (every, timeout) = (Duration::from_millis(20), Duration::from_secs(8));
    Client::start(netns, Options { every, timeout, watches: 0, ..options }).unwrap()
}

/// Waits until all attempts that began before `to` have ended, of which one begins each 20 ms at most.
fn wait_for_the_last(load: &Client, to: Duration) {
    wait("attempts to end", || load.settled(to));
}

/// Failed and slow ones of the attempts that began from `from` until before `to`; prints them.
#[track_caller]
fn noticed(what: &str, load: &Client, from: Duration, to: Duration) -> (usize, usize) {
    wait_for_the_last(load, to);
    let attempts = load.attempts_since(from);
    let mine: Vec<_> = attempts.iter().filter(|attempt| (from..to).contains(&attempt.began)).collect();
    let failed: Vec<_> = mine.iter().filter(|attempt| attempt.outcome.is_err()).collect();
    let slow = mine.iter().filter(|attempt| attempt.took > SLOW).count();
    let worst = mine.iter().map(|attempt| attempt.took).max().unwrap_or_default();
    println!("{what}: {} attempts, {} failed, {slow} slow, the longest took {worst:?}", mine.len(), failed.len());
    for attempt in &failed {
        println!("  {:?} after the beginning, for {:?}: {:?}", attempt.began - from, attempt.took, attempt.outcome);
    }
    assert!(mine.len() > 50, "too few to say anything");
    (failed.len(), slow)
}

fn backend_state(topology: &Topology, name: &str) -> String {
    let status = topology.balancers[0].agent.status().unwrap();
    status.backend(name).map_or_else(String::new, |backend| backend.state.clone())
}

/// SYNs that went on from a backend to another one.
fn retries(netns: &Netns, backend: &str, reason: &str) -> f64 {
    let scrape = Scrape::of(netns).unwrap();
    scrape.count("xvip_backend_syn_retries_total", &[("backend", backend), ("reason", reason)])
}

fn cut(topology: &Topology, role: &str, up: bool) {
    let state = if up { "up" } else { "down" };
    topology.lan.netns().ip(&format!("link set {role}.eth0 {state}")).unwrap();
}

#[test]
fn a_dead_backend_costs_no_client_a_connection() {
    let mut topology = serving(1, &[]);
    let netns = topology.balancers[0].agent.netns().clone();
    let load = load(&topology.client.clone(), &topology);
    served_more(&load, 100);

    topology.servers[0].kill9().unwrap();
    let from = load.now();
    served_more(&load, 200);
    let to = load.now();
    assert_eq!(noticed("kill -9", &load, from, to), (0, 0));
    assert!(retries(&netns, "master1", "refused") > 0.0);
    wait("the killed server to be down", || backend_state(&topology, "master1") == "down");
    topology.servers[0].revive().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    let from = load.now();
    cut(&topology, "master2", false);
    served_more(&load, 200);
    wait("the lost server to be down", || backend_state(&topology, "master2") == "down");
    let to = load.now();
    let (failed, slow) = noticed("link cut", &load, from, to);
    assert_eq!(failed, 0);
    assert!(slow <= 10, "{slow}");
    assert!(retries(&netns, "master2", "unanswered") > 0.0);
    cut(&topology, "master2", true);
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    let from = load.now();
    topology.servers[2].terminate(LIMIT).unwrap();
    served_more(&load, 100);
    let to = load.now();
    assert_eq!(noticed("graceful shutdown", &load, from, to), (0, 0));

    let scrape = Scrape::of(&netns).unwrap();
    let labels = [("service", "apiserver"), ("backend", "master1")];
    let handshakes = scrape.count("xvip_backend_handshake_duration_seconds_count", &labels);
    let opened = scrape.count("xvip_backend_connections_total", &labels);
    assert!(handshakes >= opened && opened > 100.0, "{handshakes} handshakes, {opened} connections");
    let sum = scrape.count("xvip_backend_handshake_duration_seconds_sum", &labels);
    println!("{handshakes} handshakes with master1 of {:.0} us on average", sum / handshakes * 1e6);
    assert!(sum > 0.0 && sum / handshakes < 0.5);
    drop(load);
    drop(netns);
    end(topology);
}

#[test]
fn refusals_with_unfinished_checksums_go_on_by_tc() {
    let mut topology = serving(1, &[TC, SELDOM]);
    plain(&topology);
    let netns = topology.balancers[0].agent.netns().clone();
    let load = load(&topology.client.clone(), &topology);
    served_more(&load, 50);
    topology.servers[1].kill9().unwrap();
    let from = load.now();
    served_more(&load, 150);
    let to = load.now();
    assert_eq!(noticed("kill -9, by TC", &load, from, to), (0, 0));
    assert!(retries(&netns, "master2", "refused") > 0.0);
    wait("the killed server to be down long before its next check", || backend_state(&topology, "master2") == "down");
    drop(load);
    drop(netns);
    end(topology);
}

/// Where every server keeps connections and says nothing but one byte.
const IDLE_PORT: u16 = 7000;
const IDLE: usize = 240;

/// A server that keeps what it accepts; its connections end with its netns or when this is dropped.
struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Keeper {
    fn start(netns: &Netns, number: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let keep = move || {
            let listener = TcpListener::bind(("0.0.0.0", IDLE_PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let mut kept = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let _ = stream.write_all(&[number]);
                        kept.push(stream);
                    }
                    Err(_) => sleep(Duration::from_millis(2)),
                }
            }
        };
        Self { stop, thread: Some(netns.spawn("keeper", keep).unwrap()) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What has become of a connection that nobody sends anything on.
fn is_reset(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 8]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        other => panic!("an idle connection ended otherwise: {other:?}"),
    }
}

#[test]
fn idle_connections_of_a_vanished_backend_are_reset_and_no_others() {
    let mut topology = unstarted(1, &[]);
    let keepers: Vec<_> =
        topology.servers.iter().zip(0..).map(|(server, number)| Keeper::start(server.netns(), number)).collect();
    let agent = &topology.balancers[0].agent;
    let mut config = fs::read_to_string(agent.config()).unwrap();
    let backend = |(name, address): (&str, &str)| {
        format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:{IDLE_PORT}\"\n")
    };
    let backends: String = SERVERS.map(backend).concat();
    // Out of turn, checks make it down; in turn, lost.
    config += &format!(
        "\n[[service]]\nname = \"idle\"\nlisten = \"192.0.2.100:{IDLE_PORT}\"\n\
         [service.health_check]\ntype = \"tcp\"\ninterval = \"2s\"\ntimeout = \"500ms\"\nfall = 2\n{backends}"
    );
    agent.write_config(&config).unwrap();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    let vip = SocketAddr::from(([192, 0, 2, 100], IDLE_PORT));
    let connect = || {
        let mut stream = TcpStream::connect(vip).unwrap();
        let mut number = [0];
        stream.read_exact(&mut number).unwrap();
        stream.set_nonblocking(true).unwrap();
        (number[0], stream)
    };
    let connections: Vec<_> = topology.client.enter(|| (0..IDLE).map(|_| connect()).collect()).unwrap();
    let lost = connections.iter().filter(|(number, _)| *number == 0).count();
    assert!(lost > IDLE / 4, "{lost}");

    cut(&topology, "master1", false);
    let cut_at = Instant::now();
    // An error is told once.
    let mut reset = vec![false; IDLE];
    wait("the connections of the vanished server to be reset", || {
        for ((number, stream), reset) in connections.iter().zip(&mut reset) {
            if !*reset && is_reset(stream) {
                assert_eq!(*number, 0, "a connection with a server that lives was reset");
                *reset = true;
            }
        }
        reset.iter().filter(|reset| **reset).count() == lost
    });
    println!("{lost} of {IDLE} idle connections reset {:?} after the cut", cut_at.elapsed());
    for (number, stream) in &connections {
        let alive = (&*stream).write_all(b"still there?").is_ok();
        assert_eq!(alive, *number != 0, "server {number}");
    }
    drop(connections);
    drop(keepers);
    end(topology);
}

/// Not at all as deployed: connections are idle for hours.
const SILENCE: Duration = Duration::from_secs(4);

#[test]
fn a_connection_that_is_silent_for_too_long_is_reset_at_both_ends() {
    let mut topology = unstarted(1, &[]);
    let vip: SocketAddr = VIP.parse().unwrap();
    let servers: Vec<_> = topology.servers.iter().map(|server| server.netns().clone()).collect();
    // Beside the API servers, who would end connections themselves.
    let agent = &topology.balancers[0].agent;
    let at = SocketAddr::new(vip.ip(), IDLE_PORT);
    let backends = SERVERS.map(|(name, address)| {
        format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:{IDLE_PORT}\"\n")
    });
    let config = fs::read_to_string(agent.config()).unwrap()
        + &format!(
            "\n[[service]]\nname = \"idle\"\nlisten = \"{at}\"\nidle_timeout = \"4s\"\n\
             [service.health_check]\ntype = \"tcp\"\n{}",
            backends.concat()
        );
    agent.write_config(&config).unwrap();
    let listeners: Vec<_> = servers
        .iter()
        .map(|server| server.enter(|| TcpListener::bind(("0.0.0.0", IDLE_PORT)).unwrap()).unwrap())
        .collect();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    let connect = || topology.client.enter(|| TcpStream::connect(at).unwrap()).unwrap();
    let (silent, mut talking) = (connect(), connect());
    let [silent_port, talking_port] = [&silent, &talking].map(|stream| stream.local_addr().unwrap().port());
    assert_ne!(silent_port, talking_port);
    silent.set_nonblocking(true).unwrap();
    (&silent).write_all(b"silent").unwrap();
    talking.write_all(b"talks!").unwrap();
    let mut ends = std::collections::BTreeMap::new();
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
    }
    wait("both connections at their servers", || {
        for listener in &listeners {
            if let Ok((mut stream, _)) = listener.accept() {
                // Health checks say nothing.
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut word = [0; 6];
                if stream.read_exact(&mut word).is_ok() {
                    stream.set_nonblocking(true).unwrap();
                    ends.insert(word, stream);
                }
            }
        }
        ends.len() == 2
    });
    let began = Instant::now();
    let mut reset = [false, false];
    wait("the silent connection to be reset at both ends", || {
        talking.write_all(b".").unwrap();
        for (reset, stream) in reset.iter_mut().zip([&silent, &ends[b"silent"]]) {
            *reset = *reset || is_reset(stream);
        }
        reset == [true, true]
    });
    let after = began.elapsed();
    println!("a connection reset {after:?} after its last word, of {SILENCE:?} allowed");
    assert!(after + Duration::from_secs(2) > SILENCE, "{after:?}");
    talking.write_all(b"on").unwrap();
    let mut heard = vec![0; 1 << 16];
    wait("the other one to go on", || (&ends[b"talks!"]).read(&mut heard).is_ok_and(|bytes| bytes > 0));
    drop((silent, talking, ends, listeners, servers));
    end(topology);
}

#[test]
fn what_the_datapath_sees_shortens_detection() {
    let topology = serving(1, &[SELDOM]);
    let load = load(&topology.client.clone(), &topology);
    served_more(&load, 50);
    cut(&topology, "master3", false);
    let cut_at = Instant::now();
    wait("the vanished server to be down long before its next check", || backend_state(&topology, "master3") == "down");
    println!("down {:?} after the cut, checks come once a minute", cut_at.elapsed());
    let status = topology.balancers[0].agent.status().unwrap();
    let others_are_up = ["master1", "master2"].iter().all(|name| status.backend(name).is_some_and(|b| b.state == "up"));
    assert!(others_are_up);
    drop(load);
    end(topology);
}

/// Where the stacked nodes are found.
const VIP: &str = "192.0.2.100:8443";

#[test]
fn this_nodes_own_backend_refuses_and_another_serves() {
    let xvip = agent::find().unwrap();
    let built = Stacked::build(&xvip, Path::new(SANDBOX), &format!("\"{VIP}\""), "");
    let mut stacked = built.unwrap_or_else(|err| panic!("{err:#}"));
    stacked.start(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let (client, _) = host(&stacked.lan, &stacked.run, "client", "192.0.2.50").unwrap();
    let (holder, _) = stacked.holder().unwrap();
    let options = Options::https(VIP.parse().unwrap(), stacked.authority.ca_file());
    let (every, timeout) = (Duration::from_millis(20), Duration::from_secs(8));
    let load = Client::start(&client, Options { every, timeout, watches: 0, ..options }).unwrap();
    served_more(&load, 100);
    stacked.nodes[holder].server.kill9().unwrap();
    let from = load.now();
    served_more(&load, 200);
    let to = load.now();
    assert_eq!(noticed("kill -9 of the holder's own server", &load, from, to), (0, 0));
    let name = stacked.nodes[holder].server.name().to_owned();
    assert!(retries(&stacked.nodes[holder].netns, &name, "refused") > 0.0);
    let run = stacked.run.name().to_owned();
    drop(load);
    drop(client);
    drop(stacked);
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

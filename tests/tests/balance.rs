//! How connections are spread and limited, and what becomes of established ones when that changes. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, OFTEN, SANDBOX, curl, end, unstarted, wait};
use xvip::clock;
use xvip_tests::agent::adapt;
use xvip_tests::apiserver::ApiServer;
use xvip_tests::netns::Netns;
use xvip_tests::scrape::Scrape;
use xvip_tests::status::{Service, Status};
use xvip_tests::topology::{SERVERS, Topology};
use xvip_tests::until::until;

const VIP: &str = "192.0.2.100:9443";
/// How long connections stay at a backend that takes no new ones.
const DRAIN: Duration = Duration::from_secs(6);
/// Addresses of clients, beside the usual one.
const CLIENTS: u8 = 24;

/// The service of this test, before the one of all tests.
const SERVICE: &str = r#"
[[service]]
name = "long"
listen = "192.0.2.100:9443"
balance = "leastconn"
drain_timeout = "6s"
health_check = { type = "http", path = "/readyz", interval = "500ms", timeout = "450ms", rise = 2, fall = 3 }
backend = [
    { name = "master1", address = "192.0.2.31:7443" },
    { name = "master2", address = "192.0.2.32:7443" },
    { name = "master3", address = "192.0.2.33:7443" },
]

[[service]]
name = "apiserver""#;

struct World {
    topology: Topology,
    servers: Vec<ApiServer>,
}

impl World {
    fn serving() -> Self {
        let mut topology = unstarted(2, &[OFTEN, ("\n[[service]]\nname = \"apiserver\"", SERVICE)]);
        let start = |server: &ApiServer, (_, address): (&str, &str)| {
            ApiServer::start_plain(Path::new(SANDBOX), server.netns(), &format!("{address}:7443")).unwrap()
        };
        let servers = topology.servers.iter().zip(SERVERS).map(|(server, at)| start(server, at)).collect();
        for host in 0..CLIENTS {
            topology.client.ip(&format!("address add {} dev eth0", client(host))).unwrap();
        }
        for balancer in &mut topology.balancers {
            balancer.agent.start().unwrap();
        }
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        Self { topology, servers }
    }

    fn holder(&self) -> usize {
        self.topology.owner().unwrap()
    }

    fn status(&self) -> Status {
        let agent = &self.topology.balancers[self.holder()].agent;
        until("an answer", LIMIT, || agent.status().ok()).unwrap()
    }

    /// Connections of each backend of the service.
    fn connections(&self) -> Vec<u64> {
        self.status().services[0].backends.iter().map(|backend| backend.connections).collect()
    }

    #[track_caller]
    fn spread(&self, wanted: &[u64]) {
        let mut seen = Vec::new();
        let spread = until("connections to be spread", LIMIT, || {
            seen = self.connections();
            (seen == wanted).then_some(())
        });
        assert!(spread.is_ok(), "connections by backend are {seen:?}, not {wanted:?}");
    }

    /// A connection that stays; the peers of this client say nothing unless asked.
    fn open(&self) -> std::io::Result<TcpStream> {
        let at: SocketAddr = VIP.parse().unwrap();
        let stream = self.topology.client.enter(|| TcpStream::connect_timeout(&at, Duration::from_secs(5))).unwrap()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn hold(&self, count: usize) -> Vec<TcpStream> {
        (0..count).map(|_| self.open().unwrap()).collect()
    }

    /// Changes the configuration of all running balancers.
    #[track_caller]
    fn reload(&mut self, changes: &[(&str, &str)]) {
        for balancer in &mut self.topology.balancers {
            let agent = &mut balancer.agent;
            if !agent.is_running() {
                continue;
            }
            let config = adapt(&fs::read_to_string(agent.config()).unwrap(), changes).unwrap();
            let before = agent.wait_ready(LIMIT).unwrap().config.reloads;
            agent.write_config(&config).unwrap();
            agent.reload().unwrap();
            agent.wait_for("the reload", LIMIT, |status| status.config.reloads > before).unwrap();
        }
    }

    #[track_caller]
    fn set_ready(&mut self, server: usize, ready: bool) {
        self.servers[server].set_ready(ready).unwrap();
        let is_up = |service: &Service| service.backends[server].state == "up";
        let holder = self.holder();
        let agent = &mut self.topology.balancers[holder].agent;
        agent.wait_for("the check to notice", LIMIT, |status| is_up(&status.services[0]) == ready).unwrap();
    }

    /// Who answers each client's address.
    fn served(&self) -> BTreeMap<u8, String> {
        let whoami = |host: u8| {
            let netns: &Netns = &self.topology.client;
            let from = client(host).replace("/24", "");
            let answer = curl(
                netns,
                &self.topology.authority.ca_file(),
                &["--interface", &from],
                &format!("http://{VIP}/whoami"),
            );
            let name = SERVERS.iter().find(|(name, _)| answer.contains(&format!("\"{name}\"")));
            (host, name.unwrap_or_else(|| panic!("{answer}")).0.to_owned())
        };
        (0..CLIENTS).map(whoami).collect()
    }

    fn counted(&self, reason: &str) -> f64 {
        let agent = &self.topology.balancers[self.holder()].agent;
        Scrape::of(agent.netns()).unwrap().count("xvip_datapath_packets_total", &[("reason", reason)])
    }
}

fn client(host: u8) -> String {
    format!("192.0.2.{}/24", 150 + host)
}

/// Sends a byte of a request that never ends; what becomes of a connection shows in a moment.
fn prod(streams: &mut [TcpStream]) {
    for stream in streams {
        // A connection that was reset says so below.
        let _ = stream.write(b"G");
    }
}

/// How many of the connections are there: neither closed nor reset.
fn alive(streams: &mut [TcpStream]) -> usize {
    let is_alive = |stream: &mut &mut TcpStream| matches!(stream.read(&mut [0; 16]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    streams.iter_mut().filter_map(|mut stream| is_alive(&mut stream).then_some(())).count()
}

/// They stay for as long as it takes to be sure.
#[track_caller]
fn all_alive(streams: &mut [TcpStream]) {
    prod(streams);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(alive(streams), streams.len());
}

#[test]
fn connections_are_spread_limited_kept_and_given_up_as_configured() {
    let mut world = World::serving();

    // The fewest: whoever was away for a while catches up.
    let mut held = world.hold(12);
    world.spread(&[4, 4, 4]);
    world.set_ready(0, false);
    held.extend(world.hold(8));
    world.spread(&[4, 8, 8]);
    world.set_ready(0, true);
    held.extend(world.hold(4));
    world.spread(&[8, 8, 8]);
    println!("leastconn: 24 connections, one backend away in between: {:?}", world.connections());

    // Limits: the next one with room, then nobody.
    let limited = |name: &str| format!("{{ name = \"{name}\", max_connections = 9,");
    let named = |name: &str| format!("{{ name = \"{name}\",");
    let limits = ["master1", "master2"].map(|name| (named(name), limited(name)));
    let limits: Vec<_> = limits.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    world.reload(&limits);
    held.extend(world.hold(5));
    world.spread(&[9, 9, 11]);
    world.reload(&[("{ name = \"master3\",", "{ name = \"master3\", max_connections = 12,")]);
    held.extend(world.hold(1));
    assert_eq!(world.counted("backends_full"), 0.0);
    let refused = world.open().map_err(|error| error.kind()).unwrap_err();
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    wait("the refusal to be counted", || world.counted("backends_full") == 1.0);
    drop(held.pop());
    // Its end is counted before its status shows it.
    wait("room", || world.open().map(|stream| held.push(stream)).is_ok());
    world.reload(&[("balance = \"leastconn\"", "balance = \"leastconn\"\nmax_connections = 30")]);
    assert!(world.open().is_err());
    wait("the refusal to be counted", || world.counted("service_full") == 1.0);
    all_alive(&mut held);

    // Weights and ways of spreading change under established connections.
    let unlimited = |name: &str| {
        (format!("{{ name = \"{name}\", max_connections = 9,"), format!("{{ name = \"{name}\", weight = 3,"))
    };
    let changes = ["master1", "master2"].map(unlimited);
    let mut changes: Vec<_> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    changes.push(("balance = \"leastconn\"\nmax_connections = 30", "balance = \"source\""));
    changes.push(("{ name = \"master3\", max_connections = 12,", "{ name = \"master3\","));
    world.reload(&changes);
    all_alive(&mut held);
    assert_eq!(held.len(), 30);
    drop(held);

    // A client stays with its backend, on whichever node the VIP is, and whatever becomes of others.
    let first = world.served();
    let servers: BTreeSet<_> = first.values().collect();
    assert_eq!(servers.len(), 3, "{first:?}");
    assert_eq!(world.served(), first);
    let holder = world.holder();
    world.topology.balancers[holder].agent.stop(LIMIT).unwrap();
    wait("the other to take over", || world.topology.owner().is_ok_and(|owner| owner != holder));
    let elsewhere = world.served();
    assert_eq!(elsewhere, first, "the other balancer knows the same");
    println!("source: {} clients over {} backends, the same on both balancers", first.len(), servers.len());
    world.set_ready(2, false);
    let moved = world.served();
    for (client, server) in &first {
        assert!(
            server == "master3" || moved[client] == *server,
            "{client} has moved from {server} to {}",
            moved[client]
        );
        assert_ne!(moved[client], "master3");
    }
    world.set_ready(2, true);
    assert_eq!(world.served(), first, "and back");

    drains(&mut world);
    let World { topology, servers } = world;
    drop(servers);
    end(topology);
}

/// Connections of a backend that takes no new ones stay until the deadline, and are reset then.
fn drains(world: &mut World) {
    world.reload(&[("balance = \"source\"", "balance = \"leastconn\"")]);
    let mut held = world.hold(21);
    world.spread(&[9, 9, 3]);
    world.set_ready(0, false);
    let noticed = clock::now();
    all_alive(&mut held);
    let status = world.status();
    let master1 = &status.services[0].backends[0];
    assert!(master1.state == "draining" && master1.reason.contains("connections are reset in"), "{master1:?}");
    let deadline = Scrape::of(world.topology.balancers[world.holder()].agent.netns()).unwrap();
    let labels = [("service", "long"), ("backend", "master1")];
    assert!(deadline.value("xvip_backend_drain_deadline_timestamp_seconds", &labels).is_some());
    wait("the deadline", || {
        prod(&mut held);
        alive(&mut held) == 12
    });
    let after = noticed.elapsed();
    println!("drain: connections reset {after:?} after the backend said 500, of {DRAIN:?}");
    assert!(after + Duration::from_secs(1) > DRAIN, "{after:?}");
    world.set_ready(0, true);

    // The same for one that is removed.
    world.reload(&[("    { name = \"master3\", address = \"192.0.2.33:7443\" },\n", "")]);
    let removed = clock::now();
    prod(&mut held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(alive(&mut held), 12);
    let leaving = &world.status().services[0].leaving;
    assert_eq!(leaving.iter().map(|left| (left.name.as_str(), left.connections)).collect::<Vec<_>>(), [("master3", 3)]);
    wait("the deadline", || {
        prod(&mut held);
        alive(&mut held) == 9
    });
    let after = removed.elapsed();
    assert!(after + Duration::from_secs(1) > DRAIN, "{after:?}");
    println!("drain: connections of a removed backend reset after {after:?}");
    assert!(world.served().values().all(|server| server != "master3"));
}

//! Source addresses and ports towards a backend: all of them used, none twice, and what comes when none is left. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aya::{TestRun as _, TestRunOptions};
use common::{LIMIT, end, unstarted, wait};
use lb_ebpf::abi::Reason;
use lb_ebpf::cases::{Frame, World};
use lb_ebpf::net::header::flag::{ACK, SYN};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use xvip_tests::kernel::{Datapath, stay_on_cpu};
use xvip_tests::netns::Netns;
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::Topology;

const SERVICE: &str = "192.0.2.100:8443";
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const BACKEND: &str = "192.0.2.31:7000";

/// Half of these belong to the kernel's own range, so the agent has to keep them free.
const PORTS: std::ops::RangeInclusive<u16> = 32_718..=32_817;

const SERVICES: &str = r#"
[[service]]
name = "echo"
listen = "192.0.2.100:8443"
health_check = { type = "tcp", interval = "500ms", timeout = "450ms" }
backend = [{ name = "one", address = "192.0.2.31:7000" }]
"#;

/// One balancer in front of one server, with so many source ports and these addresses.
fn configured(topology: &Topology, ports: &str, sources: &[&str], services: &str) -> String {
    let config = std::fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let head = config.split("[[service]]").next().unwrap();
    let sources: Vec<_> = sources.iter().map(|source| format!("\"{source}\"")).collect();
    let node =
        format!("interface = \"eth0\"\nsource_ports = \"{ports}\"\nsource_addresses = [{}]\n", sources.join(","));
    let all = "virtual_addresses = [\"192.0.2.100/24\", \"192.0.2.110/24\"]";
    let head = head.lines().filter(|line| !line.starts_with("source_")).collect::<Vec<_>>().join("\n");
    let head = head.replacen("interface = \"eth0\"\n", &node, 1);
    let head = head.replacen("virtual_addresses = [\"192.0.2.100/24\"]", all, 1);
    format!("{head}\n{services}")
}

/// Sends back what it gets, to any number of clients, until the client is done.
fn echo(netns: &Netns, at: &'static str) {
    let (listening, seen) = std::sync::mpsc::channel();
    let serve = move || {
        let listener = TcpListener::bind(at).unwrap();
        listening.send(()).unwrap();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let serve = move || {
                let mut bytes = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..length]).is_err() {
                        return;
                    }
                }
            };
            // Each waits for its client alone.
            thread::Builder::new().stack_size(64 * 1024).spawn(serve).unwrap();
        }
    };
    // It goes with this process.
    drop(netns.spawn("echo", serve).unwrap());
    seen.recv_timeout(LIMIT).unwrap();
}

fn is_echoed(stream: &mut TcpStream, secret: u64) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(&secret.to_be_bytes())?;
    let mut back = [0; 8];
    stream.read_exact(&mut back)?;
    Ok(back == secret.to_be_bytes())
}

fn dial(at: &str) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(20))
}

/// The number in the status or metrics of the only backend.
fn ports_in(topology: &Topology, state: &str) -> f64 {
    let scrape = Scrape::of(topology.balancers[0].agent.netns()).unwrap();
    scrape.count("xvip_backend_source_ports", &[("backend", "one"), ("state", state)])
}

fn refused(topology: &Topology) -> f64 {
    let scrape = Scrape::of(topology.balancers[0].agent.netns()).unwrap();
    scrape.count("xvip_datapath_packets_total", &[("reason", "no_source_port")])
}

#[track_caller]
fn start(topology: &mut Topology) {
    topology.balancers[0].agent.start().unwrap();
    let agent = &mut topology.balancers[0].agent;
    agent.wait_for("to serve", LIMIT, |status| status.is_active() && status.all_up()).unwrap();
}

#[test]
fn the_last_port_serves_and_the_next_connection_is_refused_until_there_are_more() {
    let mut topology = unstarted(1, &[]);
    echo(topology.servers[0].netns(), "0.0.0.0:7000");
    let range = format!("{}-{}", PORTS.start(), PORTS.end());
    let one = configured(&topology, &range, &[], SERVICES);
    let two = configured(&topology, &range, &["192.0.2.110"], SERVICES);
    let agent = &topology.balancers[0].agent;
    agent.write_config(&one).unwrap();
    start(&mut topology);
    let client = topology.client.clone();
    let connect = || client.enter(|| dial(SERVICE)).unwrap();
    let open = |count: usize| (0..count).map(|_| connect().unwrap()).collect::<Vec<_>>();
    wait("all ports to be known", || ports_in(&topology, "free") as u32 == 100);
    let mut held = open(100);
    wait("all ports to be in use", || ports_in(&topology, "in_use") as u32 == 100);
    assert_eq!(ports_in(&topology, "free") as u32, 0);
    let reason = || topology.balancers[0].agent.status().unwrap().services[0].backends[0].reason.clone();
    wait("the status to say so", || reason().contains("100 of 100 source ports in use"));
    let error = connect().expect_err("no port is left");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    wait("the refusal to be counted", || refused(&topology) >= 1.0);

    // One that ends makes room for one, at once, and none of the others is touched.
    drop(held.pop());
    let mut again = None;
    wait("a port to come back", || {
        again = connect().ok();
        again.is_some()
    });
    held.extend(again);
    assert!(connect().is_err());
    for (stream, secret) in held.iter_mut().zip(1_000..) {
        assert!(is_echoed(stream, secret).unwrap());
    }

    // Another source address has as many again.
    let agent = &mut topology.balancers[0].agent;
    agent.write_config(&two).unwrap();
    agent.reload().unwrap();
    let all = || ["in_use", "resting", "free"].map(|state| ports_in(&topology, state)).iter().sum::<f64>();
    wait("the new address to be known", || all() > 199.0);
    held.extend(open(100));
    wait("all ports of both to be in use", || ports_in(&topology, "in_use") as u32 == 200);
    assert!(connect().is_err());
    for (stream, secret) in held.iter_mut().zip(2_000..) {
        assert!(is_echoed(stream, secret).unwrap());
    }
    let peers = topology.servers[0].netns().command("ss").args(["-Htn", "sport", "=", "7000"]).output().unwrap();
    let peers = String::from_utf8_lossy(&peers.stdout).into_owned();
    for address in ["192.0.2.100:", "192.0.2.110:"] {
        assert!(peers.matches(address).count() >= 100, "{address} in\n{peers}");
    }
    drop(held);
    // What rests is given back by the sweeps.
    wait("all ports to be free", || ports_in(&topology, "free") as u32 == 200);
    drop(client);
    end(topology);
}

/// A connection of the host itself from the VIP, as nothing keeps it from.
fn dial_from(source: IpAddr, to: &str) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let at = |address: SocketAddr| SockaddrStorage::from(address);
    bind(socket.as_raw_fd(), &at(SocketAddr::new(source, 0)))?;
    connect(socket.as_raw_fd(), &at(to.parse().unwrap()))?;
    Ok(TcpStream::from(socket))
}

#[test]
fn nobody_gets_what_was_said_to_another_while_few_ports_are_used_again_and_again() {
    /// Connections of clients, by several at once.
    const CONNECTIONS: u64 = 6_000;
    const AT_ONCE: u64 = 6;
    let mut topology = unstarted(1, &[]);
    echo(topology.servers[0].netns(), "0.0.0.0:7000");
    // All of it is the kernel's own range.
    let config = configured(&topology, "40000-40999", &[], SERVICES);
    topology.balancers[0].agent.write_config(&config).unwrap();
    start(&mut topology);
    let host = topology.balancers[0].agent.netns().clone();
    let (next, over) = (AtomicU64::new(1), AtomicBool::new(false));
    let used = thread::scope(|scope| {
        // The host's own connections to the same backend, from the same address.
        let own = scope.spawn(|| {
            let run = || {
                let mut ports = BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    let secret = u64::MAX - ports.len() as u64;
                    let mut stream = dial_from(VIP, BACKEND).unwrap();
                    ports.insert(stream.local_addr().unwrap().port());
                    assert!(is_echoed(&mut stream, secret).unwrap(), "the host got what was another's");
                    // Not all of the kernel's ports in one test.
                    thread::sleep(Duration::from_millis(2));
                }
                ports
            };
            host.enter(run).unwrap()
        });
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let run = || {
                        loop {
                            let secret = next.fetch_add(1, Ordering::Relaxed);
                            if secret > CONNECTIONS {
                                return;
                            }
                            let mut stream =
                                dial(SERVICE).unwrap_or_else(|error| panic!("connection {secret}: {error}"));
                            assert!(is_echoed(&mut stream, secret).unwrap(), "{secret} got what was another's");
                            // The client closes first, as most do.
                            let _ = stream.shutdown(Shutdown::Write);
                            let _ = stream.read(&mut [0; 8]);
                        }
                    };
                    topology.client.enter(run).unwrap();
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        let used = own.join().unwrap();
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        used
    });
    println!("{CONNECTIONS} connections over 1000 ports, beside {} of the host's own", used.len());
    assert!(used.len() > 50, "the host had too few connections to show anything");
    assert!(used.iter().all(|port| !(40_000..41_000).contains(port)), "{used:?}");
    drop(host);
    end(topology);
}

/// Runs a frame; what it became.
fn run(datapath: &Datapath, frame: &Frame) -> Vec<u8> {
    let (bytes, mut after) = (frame.bytes(), vec![0; 256]);
    let options = TestRunOptions { data_in: Some(&bytes), data_out: Some(&mut after), ..Default::default() };
    let result = datapath.program().unwrap().test_run(options).unwrap();
    after.truncate(result.data_size_out as usize);
    after
}

#[test]
fn seventy_thousand_connections_to_one_backend_at_once() {
    const FLOWS: u32 = 70_000;
    stay_on_cpu(0).unwrap();
    let mut datapath = Datapath::load(2 * FLOWS + 1000).unwrap();
    let world = World::standard().with(|world| {
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
        world.node.first_port = 1024;
        world.node.port_count = 64_512;
        world.node.port_jitter = 3;
        world.node.port_stride = 12_347;
        world.node.sources = [1, 0];
        world.sources = vec![IpAddr::from([192, 0, 2, 110]).into()];
    });
    datapath.write(&world).unwrap();
    datapath.know_ports(&world).unwrap();
    for number in 0..FLOWS {
        let client = |flags, acknowledgement| Frame {
            mac_to: world.node.mac,
            mac_from: [2, 0, 0, 0, 0, 0x22],
            from: Ipv4Addr::from(0x0a00_0000 + number).into(),
            to: VIP,
            from_port: 40_000,
            to_port: 8443,
            ttl: 64,
            identification: 1,
            fragment: 0x4000,
            sequence: if flags == SYN { 1000 } else { 1001 },
            acknowledgement,
            flags,
            window: 64_240,
            options: Vec::new(),
            payload: Vec::new(),
        };
        let syn = Frame::parse(&run(&datapath, &client(SYN, 0))).expect("a TCP packet");
        let answer = Frame { flags: SYN | ACK, sequence: 5000, ..syn.answered() };
        run(&datapath, &Frame { sequence: 5000, ..answer });
        run(&datapath, &client(ACK, 5001));
    }
    let packets = datapath.packets().unwrap();
    let counted = |reason: Reason| packets[reason as usize];
    assert_eq!(
        [counted(Reason::NewFlow), counted(Reason::Opened), counted(Reason::NoSourcePort)],
        [u64::from(FLOWS), u64::from(FLOWS), 0],
    );
    let mut by_address: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
    for key in datapath.established.keys() {
        let key = key.unwrap();
        if key.source_port.get() == 6443 {
            assert!(by_address.entry(key.destination).or_default().insert(key.destination_port.get()));
        }
    }
    let counts: Vec<_> = by_address.values().map(BTreeSet::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), FLOWS as usize);
    assert!(counts.len() == 2 && counts.iter().all(|count| *count > 34_000), "{counts:?}");
    assert!(by_address.values().flatten().all(|port| *port >= 1024));
    let of_vip = by_address.iter().find(|(address, _)| IpAddr::from(Ipv4Addr::from(**address)) == VIP);
    assert!(of_vip.is_some_and(|(_, ports)| !ports.contains(&8443)), "a service listens there");
}

//! What chance and hashes decide: whether it is spread evenly, and whether an outsider can tell.

use std::collections::BTreeSet;

use super::world::{FIRST_PORT, answer, request};
use super::{Executor as _, Frame, Model, World};
use crate::abi::{Balance, Reason};
use crate::datapath::balance::Hash;
use crate::net::Be32;
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// Pearson's statistic of counts that should be alike, as standard deviations from what chance gives (about normal with so
/// many degrees of freedom).
fn deviation(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
    let freedom = counts.len() as f64 - 1.0;
    (counts.iter().map(square).sum::<f64>() - freedom) / (2.0 * freedom).sqrt()
}

/// The source port of a SYN that has been rewritten.
fn source_port(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[34], frame[35]])
}

/// Ports as one backend sees them, of connections that it refuses, so that all ports are free again at once.
fn ports_used(seed: u64, count: u32) -> Vec<u16> {
    let mut model = Model::new(World::standard().with(|world| {
        world.node.port_jitter = 3;
        world.node.port_stride = 379;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
        // Chance decides, and no hint.
        world.hints = false;
    }));
    model.chance.set(Some(seed));
    let used = (0..count).map(|number| {
        let syn = Frame { from_port: 1024 + (number % 60_000) as u16, ..request(SYN) };
        let (reason, frame) = model.run(&syn.bytes());
        assert_eq!(reason, Reason::NewFlow);
        let port = source_port(&frame);
        assert_eq!(model.run(&answer(0, port, RST | ACK).bytes()).0, Reason::Handshake);
        port
    });
    used.collect()
}

#[test]
fn source_ports_are_used_evenly_and_the_next_is_nobodys_to_know() {
    for seed in 0..4 {
        let ports = ports_used(seed, 4000);
        let mut counts = vec![0; 100];
        let mut steps = [0; 4];
        for port in &ports {
            counts[usize::from(port - FIRST_PORT) / 10] += 1;
        }
        for pair in ports.windows(2) {
            // In turns, not in ports.
            let step = (1..=4)
                .find(|step| (u32::from(pair[0] - FIRST_PORT) + 379 * step) % 1000 + 20_000 == u32::from(pair[1]));
            steps[step.expect("one of four") as usize - 1] += 1;
        }
        // Turns are evener than chance; that is no fault.
        assert!(deviation(&counts) < 4.0, "seed {seed}: {}", deviation(&counts));
        assert!(deviation(&steps) < 4.0, "seed {seed}: steps of {steps:?}");
    }
    assert_ne!(ports_used(1, 100), ports_used(2, 100));
}

/// How many of these clients each of three backends gets, by a service's hash with this key.
fn backends(balance: Balance, key: [u32; 2], clients: impl Iterator<Item = (Be32, u16)>) -> [u32; 3] {
    let world = World::standard().with(|world| {
        let service = &mut world.services[0].1;
        (service.balance, service.key) = (balance as u16, key);
        // A round as long as one can be, so that its length divides nothing.
        world.rings = (0..509).map(|place| place % 3).collect();
        service.ring_length = 509;
    });
    let mut model = Model::new(world.clone());
    let mut counts = [0; 3];
    for (number, (from, port)) in clients.enumerate() {
        if number % 500 == 0 {
            // What it remembers slows it down.
            model.begin(&world);
        }
        let syn = Frame { from: std::net::Ipv4Addr::from(from).into(), from_port: port, ..request(SYN) };
        let (reason, frame) = model.run(&syn.bytes());
        assert_eq!(reason, Reason::NewFlow);
        let slot = frame[33] - 31;
        counts[usize::from(slot)] += 1;
        model.run(&answer(slot, source_port(&frame), RST | ACK).bytes());
    }
    counts
}

#[test]
fn clients_are_spread_evenly_and_who_knows_another_key_cannot_load_one_backend() {
    let neighbours = |number: u32| (Be32::new(0x0a00_0000 + number), 40_000);
    for balance in [Balance::Source, Balance::Maglev] {
        for key in [[1, 2], [0xdead_beef, 7]] {
            let counts = backends(balance, key, (0..30_000).map(neighbours));
            // One place of 509 more for one backend is no fault.
            assert!(deviation(&counts) < 5.0, "{balance:?}: {counts:?}");
        }
    }
    // All of these go to one backend by the key that somebody believes to know.
    let (known, secret) = ([1, 2], [0x5ec2_e700, 0x1234_5678]);
    let place = |key, address: Be32| Hash::new(key).address(address.into()).finish() % 509 % 3;
    let chosen: Vec<_> = (0..90_000).map(neighbours).filter(|(address, _)| place(known, *address) == 0).collect();
    let number = chosen.len() as u32;
    assert_eq!(backends(Balance::Source, known, chosen.iter().copied()), [number, 0, 0]);
    let counts = backends(Balance::Source, secret, chosen.into_iter());
    let even = f64::from(number) / 3.0;
    assert!(counts.iter().all(|count| (f64::from(*count) / even - 1.0).abs() < 0.05), "{counts:?}");
}

/// Without an agent that removes what is over.
#[test]
fn connections_come_and_go_for_hours_without_an_agent_and_what_is_open_stays() {
    // Just enough room for a flow by each source port.
    for (ports, capacity) in [(100, 260), (300, 2 * 330)] {
        let mut model = Model::new(World::standard().with(|world| {
            world.node.port_count = ports;
            // Without the agent nobody clears hints, and ports are tried at random.
            world.node.port_jitter = 3;
            world.capacity = capacity;
            world.services[0].1.idle_seconds = u32::MAX;
            world.rings = vec![0];
            world.services[0].1.ring_length = 1;
        }));
        model.chance.set(Some(1));
        let open = |model: &mut Model, client: u16, sequence: u32| {
            let syn = Frame { from_port: client, sequence, ..request(SYN) };
            let (reason, frame) = model.run(&syn.bytes());
            assert_eq!(reason, Reason::NewFlow, "client {client}");
            let port = source_port(&frame);
            let number = sequence.wrapping_add(1);
            let syn_ack = Frame { acknowledgement: number, ..answer(0, port, SYN | ACK) };
            assert_eq!(model.run(&syn_ack.bytes()).0, Reason::Handshake);
            let ack = Frame { from_port: client, sequence: number, ..request(ACK) };
            assert_eq!(model.run(&ack.bytes()).0, Reason::Opened, "client {client}");
            port
        };
        let stay: BTreeSet<_> =
            (0..30).map(|client| (60_000 + client, open(&mut model, 60_000 + client, 1000))).collect();
        // Ten times as many as there is room for, at two entries each.
        for turn in 0..5 * capacity {
            let client = 1024 + (turn % 50_000) as u16;
            let sequence = 1000 + (turn << 16);
            let port = open(&mut model, client, sequence);
            let number = sequence.wrapping_add(1);
            let fin = Frame { from_port: client, sequence: number, ..request(FIN | ACK) };
            assert_eq!(model.run(&fin.bytes()).0, Reason::ToBackend);
            let fin_back = Frame { acknowledgement: number.wrapping_add(1), ..answer(0, port, FIN | ACK) };
            assert_eq!(model.run(&fin_back.bytes()).0, Reason::ToClient);
            model.now.set(model.now.get() + 1);
        }
        for (client, port) in stay {
            let data = Frame { from_port: client, ..request(ACK) };
            let (reason, frame) = model.run(&data.bytes());
            assert_eq!((reason, source_port(&frame)), (Reason::ToBackend, port));
        }
        assert!(model.pairs_are_whole());
    }
}

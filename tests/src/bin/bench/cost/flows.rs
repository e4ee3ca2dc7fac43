//! Tables with flows, and packets of them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use lb_ebpf::abi::{Direction, Flow, FlowKey, split_mac};
use lb_ebpf::cases::{Frame, World};
use lb_ebpf::net::header::flag;
use lb_ebpf::net::{Be16, Be32};
use xvip_tests::kernel::Datapath;

use super::feeder::Feeder;

/// First of the source ports, and how many: as where the configuration says nothing.
pub(super) const PORTS: (u16, u16) = (1024, 31_744);
/// As the agent writes it.
const PORT_JITTER: u16 = 7;
/// Ports from one turn to the next; the agent makes such a number of the configuration.
const PORT_STRIDE: u16 = 12_347;
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
const BACKEND_PORT: u16 = 6443;

/// One service with so many backends.
pub(super) fn world(backends: u16) -> World {
    World::standard().with(|world| {
        (world.node.first_port, world.node.port_count) = PORTS;
        world.node.port_jitter = PORT_JITTER;
        world.node.port_stride = PORT_STRIDE;
        let pattern = world.backends.first().copied().unwrap_or_default();
        let slots = 0..backends;
        world.backends = slots
            .map(|slot| {
                let [high, low] = slot.to_be_bytes();
                let mut backend = pattern;
                backend.endpoint = SocketAddr::from(([192, 0, 3 + high, low], BACKEND_PORT)).into();
                backend.mac = [2, 0, 0, 1, high, low];
                backend
            })
            .collect();
        world.rings = (0..u32::from(backends)).collect();
        for (_, service) in &mut world.services {
            service.ring_length = backends;
        }
    })
}

/// What the clients of a world dial: the key of client `number`'s packets.
pub(super) fn from_client(world: &World, number: u32) -> Result<FlowKey> {
    let (listener, _) = world.services.first().context("no service")?;
    Ok(FlowKey {
        source: Be32::new(0x0a00_0000 + number),
        destination: listener.address.mapped().context("not IPv4")?,
        source_port: Be16::new(40_000),
        destination_port: listener.port,
    })
}

/// Writes established flows in both directions, and prepares a packet of each: those to backends in the first places, those
/// to clients behind them.
///
/// Neighbours in time are not neighbours in the table.
pub(super) fn establish(world: &World, datapath: &mut Datapath, count: u32, feeder: Option<&Feeder>) -> Result<()> {
    let (_, service) = world.services.first().context("no service")?;
    for number in 0..count {
        let slot = number as usize % world.backends.len();
        let backend = world.backends.get(slot).context("no backend")?;
        let client = from_client(world, number)?;
        let translated = FlowKey {
            source: client.destination,
            destination: backend.endpoint.address.mapped().context("not IPv4")?,
            source_port: Be16::new(PORTS.0 + u16::try_from(number as usize / world.backends.len())?),
            destination_port: backend.endpoint.port,
        };
        let there = Flow::new(&client, translated, Direction::ToBackend, 0);
        let back = Flow::new(&translated.reversed(), client.reversed(), Direction::ToClient, 0);
        // 61,803 is prime.
        let place = (u64::from(number) * 61_803 % u64::from(count)) as u32;
        for (key, flow, place, mac) in
            [(client, there, place, CLIENT_MAC), (translated.reversed(), back, count + place, backend.mac)]
        {
            let (mac_high, mac_low) = split_mac(CLIENT_MAC);
            let flow = Flow {
                backend: slot as u16,
                service: service.number,
                generation: backend.generation,
                idle_seconds: service.idle_seconds,
                mac_high,
                mac_low,
                ..flow
            };
            datapath.established.insert(key, flow, 0)?;
            if let Some(feeder) = feeder {
                feeder.put(place, &frame(&key, world.node.mac, mac).bytes())?;
            }
        }
    }
    Ok(())
}

/// A packet of 74 bytes, as the connections of most programs have them: with a timestamp, and little data.
pub(super) fn frame(key: &FlowKey, mac_to: [u8; 6], mac_from: [u8; 6]) -> Frame {
    Frame {
        mac_to,
        mac_from,
        from: Ipv4Addr::from(key.source).into(),
        to: Ipv4Addr::from(key.destination).into(),
        from_port: key.source_port.get(),
        to_port: key.destination_port.get(),
        ttl: 64,
        identification: 1,
        fragment: 0x4000,
        sequence: 1,
        acknowledgement: 1,
        flags: flag::ACK,
        window: 500,
        options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1],
        payload: b"a packet".to_vec(),
    }
}

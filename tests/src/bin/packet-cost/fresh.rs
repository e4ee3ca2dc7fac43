//! What the first packet of a connection costs while more or fewer source ports are taken.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, ensure};
use lb_ebpf::abi::{Direction, Flow, FlowKey, PortKey, Reason};
use lb_ebpf::cases::World;
use lb_ebpf::net::header::flag;
use lb_ebpf::net::{Be16, Be32, Be128};
use xvip_tests::bpf;
use xvip_tests::kernel::Datapath;

use super::programs::{self, Cursor, FED, action};
use super::{CLIENT_MAC, Feeder, Spread, frame, machine};

/// All ports there can be.
const FIRST_PORT: u16 = 1024;
const PORTS: u32 = 64_512;
/// Connections that open in one measurement, and before it to warm up.
const FRESH: u32 = 3000;
const WARM: u32 = 500;

/// How full it is.
struct Filling {
    name: &'static str,
    /// Source addresses besides the VIP.
    sources: u8,
    /// Entries there is room for.
    capacity: u32,
    /// Flows of each backend.
    flows: u32,
}

const FILLINGS: [Filling; 3] = [
    Filling { name: "no port in use", sources: 0, capacity: 524_288, flows: 0 },
    Filling { name: "half of the ports in use", sources: 0, capacity: 524_288, flows: PORTS / 2 },
    Filling { name: "90 % of the ports in use", sources: 0, capacity: 524_288, flows: PORTS / 10 * 9 },
];
const MILLION: [Filling; 2] = [
    Filling { name: "room for 1,048,576 flows, none", sources: 8, capacity: 2_097_152, flows: 0 },
    Filling { name: "1,000,000 flows", sources: 8, capacity: 2_097_152, flows: 333_334 },
];

/// A datapath that is as full as it says.
struct Full {
    filling: &'static Filling,
    datapath: Datapath,
    world: World,
    samples: Vec<f64>,
}

/// Measures all fillings in turn, and prints what they cost.
pub(crate) fn measure(rounds: usize, million: bool) -> anyhow::Result<()> {
    let headers = bpf::create_map(bpf::ARRAY, FED, WARM + FRESH)?;
    let feeder = Feeder::new(headers.as_fd())?;
    let drop = bpf::load(bpf::XDP, "drop", &programs::drop())?;
    println!("{}", machine());
    println!("Nanoseconds for a SYN net of XDP_DROP: median [least-most] of {rounds} rounds of {FRESH} connections");
    compare(&FILLINGS, &feeder, headers.as_fd(), drop.as_fd(), rounds)?;
    if million {
        compare(&MILLION, &feeder, headers.as_fd(), drop.as_fd(), rounds)?;
    }
    Ok(())
}

fn compare(
    fillings: &'static [Filling], feeder: &Feeder, headers: BorrowedFd<'_>, drop: BorrowedFd<'_>, rounds: usize,
) -> anyhow::Result<()> {
    let mut all = fillings.iter().map(Full::new).collect::<anyhow::Result<Vec<_>>>()?;
    for round in 0..rounds {
        let turn = round % all.len();
        all.rotate_left(turn);
        for full in &mut all {
            write_syns(headers, &full.world, round as u32)?;
            let floor = feeder.fresh(drop, action::DROP)?;
            let program = full.datapath.program()?.fd()?;
            let before = full.opened()?;
            let cost = feeder.fresh(program.as_fd(), action::TX)?;
            let opened = full.opened()? - before;
            ensure!(opened == u64::from(WARM + FRESH), "{opened} connections were opened: {}", full.filling.name);
            full.samples.push(f64::from(cost) - f64::from(floor));
            full.forget()?;
        }
    }
    let mut base = None;
    for filling in fillings {
        let Some(full) = all.iter().find(|full| full.filling.name == filling.name) else { continue };
        let cost = Spread::of(&full.samples);
        let ratio = cost.median / *base.get_or_insert(cost.median);
        println!("{:36}{:>20}   x {ratio:.2}", filling.name, cost.to_string());
    }
    Ok(())
}

impl Full {
    fn new(filling: &'static Filling) -> anyhow::Result<Self> {
        let mut datapath = Datapath::load(filling.capacity)?;
        let world = World::standard().with(|world| {
            world.node.first_port = FIRST_PORT;
            world.node.port_count = PORTS as u16;
            world.node.port_jitter = 3;
            world.node.port_stride = 12_347;
            world.node.sources = [filling.sources, 0];
            world.sources = (1..=filling.sources).map(|last| IpAddr::from([192, 0, 2, 100 + last]).into()).collect();
        });
        datapath.write(&world)?;
        let mut full = Self { filling, datapath, world, samples: Vec::new() };
        full.establish()?;
        full.know_ports()?;
        Ok(full)
    }

    /// Addresses towards backends.
    fn addresses(&self) -> Vec<Be128> {
        self.world.vips.iter().chain(&self.world.sources).copied().collect()
    }

    /// The address and port of a backend's flow: any order of them is as likely as another.
    fn source(&self, number: u32) -> (Be128, u16) {
        let addresses = self.addresses();
        let place = (u64::from(number / addresses.len() as u32) * 40_503 % u64::from(PORTS)) as u16;
        (addresses[number as usize % addresses.len()], FIRST_PORT + place)
    }

    fn establish(&mut self) -> anyhow::Result<()> {
        let (listener, service) = *self.world.services.first().context("no service")?;
        let vip = listener.address.mapped().context("not IPv4")?;
        for (slot, backend) in self.world.backends.iter().enumerate() {
            for number in 0..self.filling.flows {
                let client = FlowKey {
                    source: Be32::new(0x0a00_0000 + number),
                    destination: vip,
                    source_port: Be16::new(40_000 + slot as u16),
                    destination_port: listener.port,
                };
                let (address, port) = self.source(number);
                let translated = FlowKey {
                    source: address.mapped().context("not IPv4")?,
                    destination: backend.endpoint.address.mapped().context("not IPv4")?,
                    source_port: Be16::new(port),
                    destination_port: backend.endpoint.port,
                };
                let whole = |flow: Flow| Flow {
                    backend: slot as u16,
                    service: service.number,
                    generation: backend.generation,
                    idle_seconds: 1_000_000,
                    ..flow
                };
                let there = whole(Flow::new(&client, translated, Direction::ToBackend, 0));
                let answers = translated.reversed();
                let back = whole(Flow::new(&answers, client.reversed(), Direction::ToClient, 0));
                self.datapath.established.insert(client, there, 0)?;
                self.datapath.established.insert(answers, back, 0)?;
            }
        }
        Ok(())
    }

    /// Writes the sets of source ports as the agent's sweep would.
    fn know_ports(&mut self) -> anyhow::Result<()> {
        for slot in 0..self.world.backends.len() as u32 {
            let mut sets: Vec<_> =
                self.addresses().into_iter().map(|address| (address, self.world.no_port_taken())).collect();
            for number in 0..self.filling.flows {
                let (address, port) = self.source(number);
                if let Some((_, set)) = sets.iter_mut().find(|(of, _)| *of == address) {
                    set.add(port);
                }
            }
            for (address, set) in sets {
                self.datapath.ports.insert(PortKey { address, slot }, set.summed(), 0)?;
            }
        }
        Ok(())
    }

    fn opened(&self) -> anyhow::Result<u64> {
        Ok(self.datapath.packets()?.get(Reason::NewFlow as usize).copied().unwrap_or_default())
    }

    /// Forgets the connections that were opened.
    fn forget(&mut self) -> anyhow::Result<()> {
        let keys = self.datapath.half_open.keys().collect::<Result<Vec<_>, _>>()?;
        for key in keys {
            self.datapath.half_open.remove(&key)?;
        }
        self.know_ports()
    }
}

/// SYNs of clients that have no connection.
fn write_syns(headers: BorrowedFd<'_>, world: &World, round: u32) -> anyhow::Result<()> {
    let (listener, _) = *world.services.first().context("no service")?;
    for number in 0..WARM + FRESH {
        let client = FlowKey {
            source: Be32::from(Ipv4Addr::from(0x0b00_0000 + (round % 256) * 0x1_0000 + number)),
            destination: listener.address.mapped().context("not IPv4")?,
            source_port: Be16::new(50_000),
            destination_port: listener.port,
        };
        let mut syn = frame(&client, world.node.mac, CLIENT_MAC);
        syn.flags = flag::SYN;
        syn.acknowledgement = 0;
        let bytes = syn.bytes();
        bpf::update_map(headers, number, bytes.first_chunk::<FED>().context("the frame is shorter than its headers")?)?;
    }
    Ok(())
}

impl Feeder {
    /// Mean nanoseconds of a first packet, feeding included.
    fn fresh(&self, program: BorrowedFd<'_>, wanted: i32) -> anyhow::Result<u32> {
        let cursor = Cursor { next: 0, first: 0, end: WARM + FRESH };
        bpf::update_map(self.cursor.as_fd(), 0, &cursor)?;
        bpf::update_map(self.under_test.as_fd(), 0, &program.as_raw_fd())?;
        let frame = [0; 74];
        bpf::run(self.program.as_fd(), &frame, WARM)?;
        let ran = bpf::run(self.program.as_fd(), &frame, FRESH)?;
        ensure!(ran.action == wanted as u32, "a first packet ended with action {}, not {wanted}", ran.action);
        Ok(ran.nanoseconds)
    }
}

//! What a packet of an established flow costs in the kernel, beside programs that do less.
//!
//! Each program is entered by a tail call from a feeder that writes a fresh header into the frame, so that thousands
//! of runs can follow each other in one call of the kernel (BPF_PROG_TEST_RUN) and every one finds its flow. What
//! the feeder and the loop cost is in every figure alike; XDP_DROP measures it, and the table is net of that.
//! Programs take turns in every round, so that what else the machine does falls on all of them.

mod assembler;
mod fresh;
mod programs;

use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Parser;
use lb_ebpf::abi::{Direction, Flow, FlowKey, Reason, split_mac};
use lb_ebpf::cases::{Frame, World};
use lb_ebpf::net::header::flag;
use lb_ebpf::net::{Be16, Be32};
use programs::{Cursor, FED, action};
use xvip_tests::bpf;
use xvip_tests::kernel::{Datapath, Hook, stay_on_cpu};

/// Flows in the table.
const FLOWS: u32 = 100_000;
/// Room in the table: both directions.
const CAPACITY: u32 = 2 * FLOWS;
/// Runs of a program in one measurement.
const RUNS: u32 = 1_000_000;

/// Source ports from here on.
const FIRST_PORT: u16 = 20_000;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];

/// Which packets are fed.
struct Load {
    name: &'static str,
    flows: u32,
    direction: Direction,
}

const LOADS: [Load; 4] = [
    Load { name: "1 flow, to the backend", flows: 1, direction: Direction::ToBackend },
    Load { name: "1 flow, to the client", flows: 1, direction: Direction::ToClient },
    Load { name: "100,000 flows, to backends", flows: FLOWS, direction: Direction::ToBackend },
    Load { name: "100,000 flows, to clients", flows: FLOWS, direction: Direction::ToClient },
];

/// A program under test.
struct Contender<'a> {
    name: &'a str,
    program: BorrowedFd<'a>,
    action: i32,
    /// Where the program's packets are counted.
    datapath: Option<&'a Datapath>,
}

/// What feeds a program with packets.
struct Feeder {
    program: OwnedFd,
    cursor: OwnedFd,
    under_test: OwnedFd,
}

/// Measures what a packet of an established flow costs in the kernel, or the first of one. Needs root.
#[derive(Parser)]
struct Options {
    /// How often every program is measured.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Instead, what the first packet of a connection costs while none, half and 90 % of the source ports are in use.
    #[arg(long)]
    new_flows: bool,
    /// The same with 1,000,000 flows.
    #[arg(long, requires = "new_flows")]
    million: bool,
    /// Other builds of the datapath object to measure beside this one.
    objects: Vec<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    stay_on_cpu(0)?;
    if options.new_flows {
        return fresh::measure(options.rounds, options.million);
    }
    let headers = bpf::create_map(bpf::ARRAY, FED, 2 * FLOWS)?;
    let mut datapaths = vec![("xvip".to_owned(), established(Datapath::load(CAPACITY)?, headers.as_fd())?)];
    for path in &options.objects {
        let object = std::fs::read(path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        datapaths.push((name, established(Datapath::load_object(&object, CAPACITY, Hook::Xdp)?, headers.as_fd())?));
    }
    let (_, shipped) = datapaths.first().context("no datapath")?;
    let drop = bpf::load(bpf::XDP, "drop", &programs::drop())?;
    let swap = bpf::load(bpf::XDP, "swap", &programs::swap())?;
    let table = shipped.established_fd().as_raw_fd();
    let translate = bpf::load(bpf::XDP, "translate", &programs::translate(table))?;
    let mut contenders = vec![
        Contender { name: "XDP_DROP", program: drop.as_fd(), action: action::DROP, datapath: None },
        Contender { name: "XDP_TX", program: swap.as_fd(), action: action::TX, datapath: None },
        Contender { name: "bare translation", program: translate.as_fd(), action: action::TX, datapath: None },
    ];
    for (name, datapath) in &datapaths {
        let program = datapath.program()?.fd()?.as_fd();
        contenders.push(Contender { name, program, action: action::TX, datapath: Some(datapath) });
    }
    let feeder = Feeder::new(headers.as_fd())?;
    let mut samples = vec![vec![Vec::new(); contenders.len()]; LOADS.len()];
    for _ in 0..options.rounds {
        for (load, samples) in LOADS.iter().zip(&mut samples) {
            for (contender, samples) in contenders.iter().zip(samples) {
                samples.push(f64::from(contender.measure(&feeder, load)?));
            }
        }
    }
    report(&contenders, &samples, options.rounds);
    println!();
    for (name, datapath) in &datapaths {
        let info = datapath.program()?.info()?;
        let verified = info.verified_instruction_count().map_or("?".to_owned(), |count| count.to_string());
        let bytes = info.size_translated().map_or("?".to_owned(), |bytes| (bytes / 8).to_string());
        println!("{name}: {bytes} instructions, of which the verifier walked {verified}");
    }
    Ok(())
}

impl Contender<'_> {
    /// Mean nanoseconds of a run, feeding included.
    fn measure(&self, feeder: &Feeder, load: &Load) -> anyhow::Result<u32> {
        let Some(datapath) = self.datapath else {
            return feeder.run(self, load);
        };
        let reason = match load.direction {
            Direction::ToBackend => Reason::ToBackend,
            Direction::ToClient => Reason::ToClient,
        };
        let counted = || Ok::<_, anyhow::Error>(datapath.packets()?.get(reason as usize).copied().unwrap_or_default());
        let before = counted()?;
        let nanoseconds = feeder.run(self, load)?;
        let grown = counted()? - before;
        ensure!(grown == u64::from(RUNS + load.flows), "{grown} packets of {} were of an established flow", self.name);
        Ok(nanoseconds)
    }
}

/// The datapath with all flows in its table, and the header of a packet of each in both directions in `headers`.
fn established(mut datapath: Datapath, headers: BorrowedFd<'_>) -> anyhow::Result<Datapath> {
    let world = World::standard().with(|world| world.node.first_port = FIRST_PORT);
    datapath.write(&world)?;
    establish(&world, &mut datapath, headers)?;
    Ok(datapath)
}

/// Writes the flows, and the header of a packet of each in both directions.
fn establish(world: &World, datapath: &mut Datapath, headers: BorrowedFd<'_>) -> anyhow::Result<()> {
    let vip = world.vips.first().and_then(|vip| vip.mapped()).context("no VIP")?;
    let (listener, service) = world.services.first().context("no service")?;
    for number in 0..FLOWS {
        let slot = number as usize % world.backends.len();
        let backend = world.backends.get(slot).context("no backend")?;
        let client = FlowKey {
            source: Be32::new(0x0a00_0000 + number),
            destination: vip,
            source_port: Be16::new(40_000),
            destination_port: listener.port,
        };
        let translated = FlowKey {
            source: vip,
            destination: backend.endpoint.address.mapped().context("not IPv4")?,
            source_port: Be16::new(FIRST_PORT + (number as usize / world.backends.len()) as u16),
            destination_port: backend.endpoint.port,
        };
        let there = Flow::new(&client, translated, Direction::ToBackend, 0);
        let back = Flow::new(&translated.reversed(), client.reversed(), Direction::ToClient, 0);
        // Neighbours in the table's memory must not be neighbours in time: 61,803 has no factor in common with FLOWS.
        let place = (u64::from(number) * 61_803 % u64::from(FLOWS)) as u32;
        for (key, flow, place, mac) in
            [(client, there, place, CLIENT_MAC), (translated.reversed(), back, FLOWS + place, backend.mac)]
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
            let frame = frame(&key, world.node.mac, mac).bytes();
            let header = frame.first_chunk::<FED>().context("the frame is shorter than its headers")?;
            bpf::update_map(headers, place, header)?;
        }
    }
    Ok(())
}

/// A packet of 74 bytes, as the connections of most programs have them: with a timestamp, and little data.
fn frame(key: &FlowKey, mac_to: [u8; 6], mac_from: [u8; 6]) -> Frame {
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

impl Feeder {
    fn new(headers: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let cursor = bpf::create_map(bpf::ARRAY, size_of::<Cursor>(), 1)?;
        let under_test = bpf::create_map(bpf::PROGRAM_ARRAY, size_of::<u32>(), 1)?;
        let code = programs::feed(cursor.as_raw_fd(), headers.as_raw_fd(), under_test.as_raw_fd());
        Ok(Self { program: bpf::load(bpf::XDP, "feed", &code)?, cursor, under_test })
    }

    /// Warms up, then measures.
    fn run(&self, contender: &Contender<'_>, load: &Load) -> anyhow::Result<u32> {
        let first = if load.direction == Direction::ToClient { FLOWS } else { 0 };
        let cursor = Cursor { next: first, first, end: first + load.flows };
        bpf::update_map(self.cursor.as_fd(), 0, &cursor)?;
        bpf::update_map(self.under_test.as_fd(), 0, &contender.program.as_raw_fd())?;
        let frame = [0; 74];
        // One round through the flows to warm up what a running system has warm.
        bpf::run(self.program.as_fd(), &frame, load.flows)?;
        let ran = bpf::run(self.program.as_fd(), &frame, RUNS)?;
        let wanted = contender.action as u32;
        ensure!(ran.action == wanted, "{} ended with action {}, not {wanted}", contender.name, ran.action);
        Ok(ran.nanoseconds)
    }
}

fn report(contenders: &[Contender<'_>], samples: &[Vec<Vec<f64>>], rounds: usize) {
    println!("{}", machine());
    println!(
        "Nanoseconds per packet net of XDP_DROP: median [least-most] of {rounds} rounds of {RUNS} packets of 74 bytes\n"
    );
    print!("{:28}{:>16}", "established", "XDP_DROP, raw");
    for contender in contenders.iter().skip(1) {
        print!("{:>20}", contender.name);
    }
    println!();
    for (load, samples) in LOADS.iter().zip(samples) {
        let Some((floor, rest)) = samples.split_first() else { continue };
        let floor = Spread::of(floor);
        print!("{:28}{:>16}", load.name, floor.to_string());
        for samples in rest {
            let net: Vec<_> = samples.iter().map(|sample| sample - floor.median).collect();
            print!("{:>20}", Spread::of(&net).to_string());
        }
        println!();
    }
}

/// Median, least and most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Self { median: at(sorted.len() / 2), least: at(0), most: at(sorted.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} [{:.0}-{:.0}]", self.median, self.least, self.most)
    }
}

/// The line without which no figure means anything.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models: Vec<_> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name))
        .collect();
    format!(
        "{} x {}, Linux {}, load {}",
        models.len(),
        models.first().copied().unwrap_or("unknown CPU"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}

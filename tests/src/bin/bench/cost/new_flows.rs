//! The cost of the first packet of a flow, by how many of the source ports are in use.
//!
//! Tables are filled by packets alone, handshake by handshake: so ports are in use for whatever chooses among them.
//!
//! The table without flows that others are compared with has had flows. One that never had any is faster: the kernel gives
//! out the entries of an unused LRU table in their order in memory, and later in that of their use.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail, ensure};
use lb_ebpf::abi::{Direction, FlowKey, Reason};
use lb_ebpf::cases::{Frame, World};
use lb_ebpf::net::header::flag;
use xvip_tests::bpf;
use xvip_tests::figures::Spread;
use xvip_tests::kernel::{Datapath, stay_on_cpu};
use xvip_tests::stop;

use super::feeder::{Feed, Feeder};
use super::flows::{CLIENT_MAC, PORTS, frame, from_client, world};
use super::programs::{self, action};
use super::{Cost, Extent, Fill, Program, ProgramCost, middle, ratio};
use crate::phase::Phase;

/// Handshakes at a time: well below what the table of half-open flows holds.
const BATCH: u32 = 10_000;
/// Packets in front of a measurement, each of a new flow too.
const WARM: u32 = 50;
/// Packets in one measurement: few, because each takes a port.
const RUNS: u32 = 300;
/// Measurements in a row, of which the middle counts.
const REPEATS: usize = 3;
/// The client's and the server's first sequence numbers.
const NUMBERS: (u32, u32) = (1000, 5000);

/// A datapath, filled so far.
struct Filled {
    world: World,
    /// Source ports towards all backends.
    ports: u32,
    fill: Fill,
    datapath: Datapath,
    feeder: Feeder,
    /// How many clients there were.
    clients: u32,
    floor: Vec<f64>,
    measured: Vec<f64>,
    refused: u64,
}

/// Measures `rounds` times with no port in use, with half of them, with 90 %, and with very many flows.
pub(crate) fn new_flows(extent: Extent, rounds: usize) -> Result<Vec<Cost>> {
    stay_on_cpu(0)?;
    // An answer would cut the frame for all that follow it: whoever gets no port gets no answer either.
    let world_of = |backends| world(backends).with(|world| world.node.resets_per_second = 0);
    let drop = bpf::load(bpf::XDP, "drop", &programs::drop())?;
    let mut all = Vec::new();
    for fill in extent.fills.iter().copied() {
        let (world, ports) = (world_of(fill.backends), u32::from(PORTS.1) * u32::from(fill.backends));
        let mut datapath = Datapath::load(2 * ports + 1)?;
        datapath.write(&world)?;
        datapath.know_ports(&world)?;
        let feeder = Feeder::new(BATCH)?;
        let (floor, measured) = (Vec::new(), Vec::new());
        let mut filled = Filled { world, ports, fill, datapath, feeder, clients: 0, floor, measured, refused: 0 };
        filled.connect_share(fill.before)?;
        filled.datapath.end_flows(&filled.world)?;
        filled.connect_share(fill.percent)?;
        all.push(filled);
    }
    for _ in 0..rounds.max(extent.least_rounds) {
        for filled in &mut all {
            let both: Vec<_> = (0..REPEATS).map(|_| filled.measure(drop.as_fd())).collect::<Result<_>>()?;
            filled.floor.push(middle(both.iter().map(|(floor, _)| *floor)));
            filled.measured.push(middle(both.iter().map(|(_, measured)| *measured)));
        }
    }
    let mut costs: Vec<Cost> = Vec::new();
    for filled in all {
        let (Fill { percent, before, .. }, ports) = (filled.fill, filled.ports);
        let is_unused = before + percent == 0;
        let floor = Spread::of(&filled.floor).context("no round")?;
        let program = ProgramCost::new(Program::Xvip, &filled.measured, &floor).context("no round")?;
        let empty = costs.iter().find(|cost| cost.ports_used == Some(0)).and_then(|cost| cost.programs.first());
        let to_empty = empty.and_then(|empty| ratio(&program.samples, &empty.samples));
        costs.push(Cost {
            phase: Phase::NewFlows,
            what: format!("{percent} % of {ports} source ports in use{}", if is_unused { ", ever" } else { "" }),
            flows: u64::from(filled.clients),
            ports_used: (!is_unused).then_some(percent),
            programs: vec![program],
            floor,
            refused: filled.refused,
            to_empty,
        });
    }
    Ok(costs)
}

impl Filled {
    /// Lets clients connect until so many percent of the source ports have an established flow.
    fn connect_share(&mut self, percent: u32) -> Result<()> {
        let (flows, mut opened) = (u64::from(self.ports) * u64::from(percent) / 100, 0);
        while opened < flows {
            if stop::asked() {
                bail!("stopped");
            }
            let batch = u32::try_from(flows - opened)?.min(BATCH);
            let more = self.connect(batch)?;
            ensure!(more > 0, "no port is found any more with {opened} of {flows} in use");
            opened += more;
        }
        Ok(())
    }

    /// Lets so many clients connect; how many got through.
    fn connect(&mut self, batch: u32) -> Result<u64> {
        self.put_syns(batch)?;
        self.feed(batch)?;
        let half_open: BTreeMap<FlowKey, FlowKey> = self
            .datapath
            .half_open
            .iter()
            .filter(|entry| entry.as_ref().map_or(true, |(_, flow)| flow.direction == Direction::ToBackend as u16))
            .map(|entry| entry.map(|(key, flow)| (key, flow.translated)))
            .collect::<Result<_, _>>()?;
        let count = u32::try_from(half_open.len())?;
        let (client, server) = NUMBERS;
        let mac = |to: &FlowKey| {
            let backend =
                self.world.backends.iter().find(|backend| backend.endpoint.address.mapped() == Some(to.destination));
            backend.map(|backend| backend.mac).context("a flow to no backend")
        };
        for (place, translated) in (0..).zip(half_open.values()) {
            let answer = Frame {
                flags: flag::SYN | flag::ACK,
                sequence: server,
                acknowledgement: client + 1,
                ..frame(&translated.reversed(), self.world.node.mac, mac(translated)?)
            };
            self.feeder.put(place, &answer.bytes())?;
        }
        self.counting(Reason::Handshake, count)?;
        for (place, key) in (0..).zip(half_open.keys()) {
            let third = Frame {
                sequence: client + 1,
                acknowledgement: server + 1,
                ..frame(key, self.world.node.mac, CLIENT_MAC)
            };
            self.feeder.put(place, &third.bytes())?;
        }
        self.counting(Reason::Opened, count)?;
        Ok(u64::from(count))
    }

    /// Prepares the first packets of new clients.
    fn put_syns(&mut self, count: u32) -> Result<()> {
        for place in 0..count {
            let key = from_client(&self.world, self.clients)?;
            self.clients += 1;
            let syn = Frame {
                flags: flag::SYN,
                sequence: NUMBERS.0,
                acknowledgement: 0,
                // As Linux has them: MSS, SACK permitted, timestamp, window scale.
                options: vec![2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
                payload: Vec::new(),
                ..frame(&key, self.world.node.mac, CLIENT_MAC)
            };
            self.feeder.put(place, &syn.bytes())?;
        }
        Ok(())
    }

    fn feed(&self, count: u32) -> Result<()> {
        let feed = Feed { first: 0, count, runs: count };
        self.feeder.run(self.datapath.program()?.fd()?.as_fd(), None, feed).map(|_| ())
    }

    /// Feeds what is prepared; all of it has to end with this reason.
    fn counting(&self, reason: Reason, count: u32) -> Result<()> {
        let before = self.counted(reason)?;
        self.feed(count)?;
        let grown = self.counted(reason)? - before;
        ensure!(grown == u64::from(count), "{grown} of {count} packets ended with {reason:?}");
        Ok(())
    }

    fn counted(&self, reason: Reason) -> Result<u64> {
        Ok(self.datapath.packets()?.get(reason as usize).copied().unwrap_or_default())
    }

    /// Nanoseconds of XDP_DROP and of the datapath for the first packet of a flow.
    fn measure(&mut self, drop: std::os::fd::BorrowedFd<'_>) -> Result<(f64, f64)> {
        self.put_syns(WARM + RUNS)?;
        let warm = Feed { first: 0, count: WARM, runs: WARM };
        let counted = Feed { first: WARM, count: RUNS, runs: RUNS };
        self.feeder.run(drop, Some(action::DROP), warm)?;
        let floor = self.feeder.run(drop, Some(action::DROP), counted)?;
        let (new, refused) = (self.counted(Reason::NewFlow)?, self.counted(Reason::ResetLimit)?);
        let program = self.datapath.program()?.fd()?.as_fd();
        self.feeder.run(program, None, warm)?;
        let measured = self.feeder.run(program, None, counted)?;
        let new = self.counted(Reason::NewFlow)? - new;
        let refused = self.counted(Reason::ResetLimit)? - refused;
        ensure!(new + refused == u64::from(WARM + RUNS), "{new} packets began a flow, {refused} found no port");
        self.refused += refused;
        Ok((floor, measured))
    }
}

//! The cost of a packet of an established flow, by how many flows there are.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use lb_ebpf::abi::{Direction, Reason};
use xvip_tests::bpf;
use xvip_tests::figures::Spread;
use xvip_tests::kernel::{Datapath, Hook, stay_on_cpu};
use xvip_tests::stop;

use super::feeder::{Feed, Feeder};
use super::flows::{PORTS, establish, world};
use super::programs::{self, action};
use super::{Cost, Extent, Program, ProgramCost};
use crate::phase::Phase;

/// A program under test.
struct Contender<'a> {
    program: Option<Program>,
    code: BorrowedFd<'a>,
    action: i32,
    /// Where the program's packets are counted.
    datapath: Option<&'a Datapath>,
}

/// Measures each program `rounds` times; `objects` are other builds of the datapath to measure beside this one. What is said of
/// programs comes with it.
pub(crate) fn packets(extent: Extent, rounds: usize, objects: &[PathBuf]) -> Result<(Vec<Cost>, Vec<String>)> {
    stay_on_cpu(0)?;
    let mut costs = Vec::new();
    let mut remarks = Vec::new();
    for &(count, loads) in extent.tables {
        let (found, said) = with_flows(count, (loads, extent.runs), rounds, objects)?;
        costs.extend(found);
        remarks = said;
    }
    Ok((costs, remarks))
}

fn with_flows(
    count: u32, (loads, runs): (&[u32], u32), rounds: usize, objects: &[PathBuf],
) -> Result<(Vec<Cost>, Vec<String>)> {
    let feeder = Feeder::new(2 * count)?;
    let world = world(u16::try_from(count.div_ceil(u32::from(PORTS.1)))?);
    let mut shipped = Datapath::load(2 * count)?;
    shipped.write(&world)?;
    establish(&world, &mut shipped, count, Some(&feeder))?;
    let mut datapaths = vec![(Program::Xvip, shipped)];
    for path in objects {
        let object = std::fs::read(path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut other = Datapath::load_object(&object, 2 * count, Hook::Xdp)?;
        other.write(&world)?;
        establish(&world, &mut other, count, None)?;
        datapaths.push((Program::Object(name), other));
    }
    let (_, shipped) = datapaths.first().context("no datapath")?;
    let drop = bpf::load(bpf::XDP, "drop", &programs::drop())?;
    let swap = bpf::load(bpf::XDP, "swap", &programs::swap())?;
    let table = shipped.established_fd().as_raw_fd();
    let translate = bpf::load(bpf::XDP, "translate", &programs::translate(table))?;
    let plain = |program, code, action| Contender { program, code, action, datapath: None };
    let mut contenders = vec![
        plain(None, drop.as_fd(), action::DROP),
        plain(Some(Program::Tx), swap.as_fd(), action::TX),
        plain(Some(Program::Translation), translate.as_fd(), action::TX),
    ];
    for (name, datapath) in &datapaths {
        let code = datapath.program()?.fd()?.as_fd();
        contenders.push(Contender { program: Some(name.clone()), code, action: action::TX, datapath: Some(datapath) });
    }

    let directions = [Direction::ToBackend, Direction::ToClient];
    let loads: Vec<_> = loads.iter().flat_map(|flows| directions.map(|direction| (*flows, direction))).collect();
    let mut samples = vec![vec![Vec::new(); contenders.len()]; loads.len()];
    for _ in 0..rounds {
        for ((flows, direction), samples) in loads.iter().zip(&mut samples) {
            let first = if *direction == Direction::ToClient { count } else { 0 };
            for (contender, samples) in contenders.iter().zip(samples) {
                if stop::asked() {
                    bail!("stopped");
                }
                samples.push(contender.measure(&feeder, Feed { first, count: *flows, runs }, *direction)?);
            }
        }
    }
    let costs = loads.iter().zip(&samples).filter_map(|((flows, direction), samples)| {
        let (floor, rest) = samples.split_first()?;
        let floor = Spread::of(floor)?;
        let named = contenders.iter().skip(1).zip(rest);
        let programs =
            named.filter_map(|(contender, samples)| ProgramCost::new(contender.program.clone()?, samples, &floor));
        let to = if *direction == Direction::ToBackend { "backends" } else { "clients" };
        Some(Cost {
            phase: Phase::Packets,
            what: format!("{} to {to}", flows_in_words(*flows)),
            flows: u64::from(*flows),
            ports_used: None,
            programs: programs.collect(),
            floor,
            refused: 0,
            to_empty: None,
        })
    });
    let said = datapaths.iter().map(|(name, datapath)| described(name, datapath)).collect::<Result<_>>()?;
    Ok((costs.collect(), said))
}

fn flows_in_words(flows: u32) -> String {
    match flows {
        1 => "1 flow,".to_owned(),
        1_000_000 => "1,000,000 flows,".to_owned(),
        _ => format!("{},000 flows,", flows / 1000),
    }
}

fn described(name: &Program, datapath: &Datapath) -> Result<String> {
    let info = datapath.program()?.info()?;
    let number = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let instructions = number(info.size_translated().map(|bytes| bytes / 8));
    let walked = number(info.verified_instruction_count());
    Ok(format!("{name}: {instructions} instructions, of which the verifier walked {walked}"))
}

impl Contender<'_> {
    /// Warms up what a running system has warm by one packet of every flow, then measures.
    fn measure(&self, feeder: &Feeder, feed: Feed, direction: Direction) -> Result<f64> {
        let reason = if direction == Direction::ToBackend { Reason::ToBackend } else { Reason::ToClient };
        let counted = || match self.datapath {
            None => Ok::<_, anyhow::Error>(0),
            Some(datapath) => Ok(datapath.packets()?.get(reason as usize).copied().unwrap_or_default()),
        };
        let before = counted()?;
        feeder.run(self.code, Some(self.action), Feed { runs: feed.count, ..feed })?;
        let nanoseconds = feeder.run(self.code, Some(self.action), feed)?;
        let grown = counted()? - before;
        let wanted = if self.datapath.is_some() { u64::from(feed.count + feed.runs) } else { 0 };
        ensure!(grown == wanted, "{grown} of {wanted} packets were of an established flow");
        Ok(nanoseconds)
    }
}

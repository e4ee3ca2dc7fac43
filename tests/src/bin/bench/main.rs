//! xvip beside haproxy, nftables and no balancer at all, on the same wires in the same run; and what a packet costs inside it.
//!
//! Everything takes turns within a round, and what counts is the ratio within a round: so what else the machine does
//! falls on all.
#![allow(
    clippy::disallowed_methods,
    reason = "real balancers are measured against the real clock; nothing here decides for the agent"
)]

mod bounds;
mod cost;
mod cpu;
mod ground;
mod load;
mod phase;
mod report;
mod rivals;
mod sample;
mod server;
mod summary;
mod svg;
mod text;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use xvip_tests::agent;
use xvip_tests::machine::{Machine, load};
use xvip_tests::run::{Run, leftovers};
use xvip_tests::stop::{self, say};

use crate::cost::Extent;
use crate::cpu::Moment;
use crate::ground::Ground;
use crate::phase::{Balancer, Phase, Wire};
use crate::report::{Report, Table};
use crate::sample::Length;

/// The part of its processors' time that a machine with nothing else to do spends at most.
const BUSY: f64 = 0.1;
/// How long that is watched.
const WATCHED: Duration = Duration::from_millis(500);

/// Measures xvip beside haproxy, nftables and no balancer, in network namespaces made for it. Status 0 when nothing
/// failed and nothing is left behind; whether figures are as promised, the last table says.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// How often everything is measured, in turn [default: 5; 2 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// What is measured [default: everything].
    #[arg(long, value_name = "PHASE", num_args = 1.., value_delimiter = ',')]
    only: Vec<Phase>,
    /// Who is measured [default: everybody].
    #[arg(long, value_name = "WHO", num_args = 1.., value_delimiter = ',')]
    balancers: Vec<Balancer>,
    /// On which wires [default: both].
    #[arg(long, value_name = "WIRE", num_args = 1.., value_delimiter = ',')]
    wires: Vec<Wire>,
    /// How long each measurement counts [default: 1.5; 0.25 with --quick].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Short measurements, which only show that everything works.
    #[arg(long)]
    quick: bool,
    /// Writes everything found, every single value included.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a drawing.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Writes the tables for a document.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The agent to measure [default: the variable XVIP, else release/xvip in this program's target directory].
    #[arg(long, value_name = "FILE")]
    xvip: Option<PathBuf>,
    /// Other builds of the datapath object, whose cost of a packet is measured beside this one's.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    objects: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("bench: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when nothing failed and nothing is left behind.
fn bench(arguments: &Arguments) -> Result<bool> {
    stop::listen()?;
    let mut report = begin(arguments)?;
    report.warnings.extend(other_work(&report.machine)?);
    for line in text::about(&report) {
        say(line);
    }
    let mut is_clean = true;
    for wire in chosen(&arguments.wires) {
        is_clean &= on_wires(arguments, wire, &mut report)?;
    }
    let phases = chosen(&arguments.only);
    let extent = if arguments.quick { Extent::QUICK } else { Extent::FULL };
    if phases.contains(&Phase::Packets) {
        eprintln!("packets of established flows");
        let (costs, remarks) = apart(|| cost::packets(extent, report.rounds, &arguments.objects))?;
        report.costs.extend(costs);
        report.versions.extend(remarks);
    }
    if phases.contains(&Phase::NewFlows) {
        eprintln!("first packets of flows");
        report.costs.extend(apart(|| cost::new_flows(extent, report.rounds))?);
    }
    report.bounds = bounds::of(&report.tables, &report.costs);
    say("");
    say(text::render(&report));
    let write = |path: &Option<PathBuf>, text: String| match path {
        None => Ok(()),
        Some(path) => fs::write(path, text).with_context(|| format!("writing {}", path.display())),
    };
    write(&arguments.json, serde_json::to_string_pretty(&report)?)?;
    write(&arguments.svg, svg::render(&report))?;
    write(&arguments.markdown, summary::render(&report))?;
    Ok(is_clean && report.failed() == 0)
}

/// The report before anything is measured.
fn begin(arguments: &Arguments) -> Result<Report> {
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 5 });
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 0.25 } else { 1.5 });
    if rounds == 0 || !(0.01..=600.0).contains(&seconds) {
        bail!("at least one round, and from 0.01 to 600 seconds");
    }
    let machine = Machine::here();
    let versions = [Some(format!("xvip {}", env!("CARGO_PKG_VERSION")))]
        .into_iter()
        .chain([rivals::version("haproxy"), rivals::version("nft")]);
    Ok(Report {
        machine,
        load_at_start: load(),
        versions: versions.flatten().collect(),
        rounds,
        seconds,
        is_quick: arguments.quick,
        warnings: Vec::new(),
        tables: Vec::new(),
        costs: Vec::new(),
        bounds: Vec::new(),
    })
}

/// A warning where the machine has other things to do.
fn other_work(machine: &Machine) -> Result<Option<String>> {
    let before = Moment::now()?;
    thread::sleep(WATCHED);
    let after = Moment::now()?;
    let part = before.busy_until(&after) / before.seconds_until(&after) / machine.cores as f64;
    Ok((part > BUSY).then(|| format!("the machine was {:.0} % busy with something else", part * 100.0)))
}

/// What was asked for, or all there is.
fn chosen<T: clap::ValueEnum + Copy>(asked: &[T]) -> Vec<T> {
    if asked.is_empty() { T::value_variants().to_vec() } else { asked.to_vec() }
}

/// On a thread of its own, which may keep to one processor.
fn apart<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(body).join().map_err(|_| anyhow!("measuring panicked"))?)
}

/// Measures all that goes over wires of one kind; true when nothing is left behind.
fn on_wires(arguments: &Arguments, wire: Wire, report: &mut Report) -> Result<bool> {
    let phases: Vec<_> = chosen(&arguments.only).into_iter().filter(|phase| phase.work().is_some()).collect();
    if phases.is_empty() {
        return Ok(true);
    }
    let xvip = arguments.xvip.clone().map_or_else(agent::find, Ok)?;
    let xvip = xvip.canonicalize().with_context(|| format!("finding the agent {}", xvip.display()))?;
    let run = Run::start()?;
    let name = run.name().to_owned();
    let balancers = chosen(&arguments.balancers);
    let length = Duration::from_secs_f64(report.seconds);
    let length = Length { warm: length.mul_f64(0.2).max(Duration::from_millis(50)), counted: length };
    let ended =
        catch_unwind(AssertUnwindSafe(|| inside(&run, wire, &phases, &balancers, &xvip, report.rounds, length)))
            .unwrap_or_else(|_| Err(anyhow!("measuring panicked")));
    drop(run);
    let start = Instant::now();
    while !leftovers(&name).is_empty() && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    let left = leftovers(&name);
    if !left.is_empty() {
        say(format!("NOT clean, this is left: {}", left.join(", ")));
    }
    let tables = ended?;
    for table in &tables {
        // Of kept connections those to a quicker server are used more often.
        let least = if table.unit == phase::Unit::Requests { 0.02 } else { 0.2 };
        for row in &table.rows {
            if row.samples.iter().any(|sample| sample.is_lopsided(least)) {
                let (who, phase) = (row.balancer.name(), table.phase.name());
                report.warnings.push(format!("{who} did not use the servers evenly in {phase} on {}", wire.name()));
            }
        }
    }
    report.tables.extend(tables);
    Ok(left.is_empty())
}

/// Every phase with every balancer in every round.
fn inside(
    run: &Arc<Run>, wire: Wire, phases: &[Phase], balancers: &[Balancer], xvip: &Path, rounds: usize, length: Length,
) -> Result<Vec<Table>> {
    let mut ground = Ground::build(run, wire, balancers, xvip)?;
    ground.contenders.iter_mut().try_for_each(|contender| contender.set_awake(false))?;
    let count = ground.contenders.len();
    let mut samples = vec![vec![Vec::new(); count]; phases.len()];
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", wire.name(), round + 1);
        for (phase, samples) in phases.iter().zip(&mut samples) {
            let Some(work) = phase.work() else { continue };
            // Nobody always follows the same one.
            for place in 0..count {
                let place = (place + round) % count;
                let Some(samples) = samples.get_mut(place) else { continue };
                ground.set_awake(place, true)?;
                let Some(contender) = ground.contenders.get(place) else { continue };
                let sample = sample::take(&ground, contender, work, length, round);
                samples.push(sample.with_context(|| format!("{}: {}", phase.name(), contender.last_words()))?);
                ground.set_awake(place, false)?;
            }
        }
    }
    let tables = phases.iter().zip(samples).map(|(phase, samples)| {
        let rows = ground.contenders.iter().zip(samples);
        let rows = rows.map(|(contender, samples)| (contender.balancer, contender.datapath.clone(), samples));
        Table::new(wire, *phase, rows.collect())
    });
    Ok(tables.collect())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use xvip_tests::figures::Spread;

    use super::*;
    use crate::cost::{Cost, Program, ProgramCost};

    /// A report with a table and a cost of each kind.
    pub(crate) fn report() -> Report {
        let arguments = Arguments::try_parse_from(["bench", "--quick"]).unwrap();
        let mut report = begin(&arguments).unwrap();
        report.tables.push(report::tests::table());
        let program = |program, net: f64| {
            let net = Spread { median: net, least: net, most: net };
            ProgramCost { program, samples: vec![net.median], net }
        };
        let floor = Spread { median: 50.0, least: 49.0, most: 60.0 };
        let cost = Cost {
            phase: Phase::Packets,
            what: "1 flow, to backends".to_owned(),
            flows: 1,
            ports_used: None,
            floor,
            programs: vec![program(Program::Translation, 30.0), program(Program::Xvip, 60.0)],
            refused: 0,
            to_empty: None,
        };
        report.costs.push(cost.clone());
        report.costs.push(Cost { phase: Phase::NewFlows, ports_used: Some(50), to_empty: Some(floor), ..cost });
        report.bounds = bounds::of(&report.tables, &report.costs);
        report
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        let arguments =
            Arguments::try_parse_from(["bench", "--only", "connections", "bulk-4", "--wires", "wire", "--rounds", "3"]);
        let arguments = arguments.unwrap();
        assert_eq!(chosen(&arguments.only), [Phase::Connections, Phase::Bulk4]);
        assert_eq!(chosen(&arguments.wires), [Wire::Wire]);
        assert_eq!(chosen(&arguments.balancers).len(), Balancer::value_variants().len());
        let none = Arguments::try_parse_from(["bench", "--rounds", "0"]).unwrap();
        assert!(begin(&none).is_err());
    }

    #[test]
    fn a_report_can_be_read_again() {
        let report = report();
        let text = serde_json::to_string_pretty(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        let (row, read_row) = (&report.tables[0].rows[1], &read.tables[0].rows[1]);
        assert_eq!((read_row.balancer, &read_row.datapath), (row.balancer, &row.datapath));
        assert_eq!(read_row.figures.rate, row.figures.rate);
        assert_eq!(read.costs, report.costs);
        assert_eq!(read.machine, report.machine);
        assert!(text.contains("\"balancer\": \"xvip-xdp\""), "{text}");
    }
}

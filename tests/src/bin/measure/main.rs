//! Measures what xvip promises: outages, spread, bulk and memory, on the wire of the sandbox.
#![allow(
    clippy::disallowed_methods,
    reason = "real peers are measured against the real clock; nothing here decides for the agent"
)]

mod bulk;
mod fail_fast;
mod flood;
mod incumbent;
mod memory;
mod moves;
mod outage;
mod reload;
mod restart;
mod sharing;
mod spread;
mod streams;
mod table;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};
use xvip_tests::machine::{Machine, load};
use xvip_tests::run::{Run, leftovers};
use xvip_tests::stop::{self, say};
use xvip_tests::{agent, apiserver};

use crate::incumbent::Incumbent;
use crate::moves::Trouble;
use crate::world::{Fault, Ground, Xvip};

/// A planned hand-over is made before it is broken.
const HANDOVER_MS: f64 = 10.0;

/// Measures xvip in network namespaces made for it; status 0 only when every bound is kept.
#[derive(Debug, Parser)]
#[command(name = "measure", version)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// The agent to measure [default: the variable XVIP, else release/xvip in this program's target directory].
    #[arg(long, value_name = "FILE", global = true)]
    xvip: Option<PathBuf>,
    /// How many times each thing is measured [default: 20 for outages, 5 for bulk, 1 for the spread].
    #[arg(long, value_name = "N", global = true)]
    runs: Option<usize>,
    /// From one VRRP advert to the next.
    #[arg(long, value_name = "MILLISECONDS", default_value = "100ms", value_parser = milliseconds, global = true)]
    advert: Duration,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// How long no new connection is served after a fault.
    Outage {
        /// Of haproxy and keepalived instead, at a link cut, with adverts every second and every 100 ms.
        #[arg(long)]
        incumbent: bool,
    },
    /// What 200 watch streams and a new connection every 5 ms notice when the holder of the VIP fails in each way, and whether one
    /// host at a time answers ARP for it.
    Moves {
        /// In which ways [default: all].
        #[arg(long, value_name = "WAY", num_args = 1..)]
        only: Vec<Trouble>,
    },
    /// 700 connections, one each 20 ms, while one of three API servers is killed, cut off, or shuts down.
    FailFast,
    /// What is noticed when the agent on the holder of the VIP is restarted under load, 100 times.
    Restart {
        /// Another build of the agent, to alternate with.
        #[arg(long, value_name = "FILE")]
        other: Option<PathBuf>,
    },
    /// What is noticed when the configuration of the holder is reloaded under load, 1,000 times, half of the files broken.
    Reload,
    /// What sharing flows costs: at 1,000 new connections a second, and when a node joins that is told 100,000.
    Sharing,
    /// Whether 20,000 requests are served, and by whom.
    Spread,
    /// 200 MB in each direction through one connection.
    Bulk,
    /// 10,000,000 SYNs between 20,000 open connections, and handshakes during floods, without and with `allow` and
    /// `source_limit`; in the program alone, without an agent.
    Flood,
    /// Memory and processor time with 0 and 100,000 flows, and the size of the program.
    Memory,
    /// Everything that needs no incumbent.
    All,
    /// Serves as one of the API servers.
    #[command(hide = true)]
    Apiserver(apiserver::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.what {
        Some(What::Apiserver(options)) => serve(options.clone()).map(|()| true),
        what => measure(&arguments, &what.clone().unwrap_or(What::All)),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("measure: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: apiserver::Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(apiserver::serve(options))
}

/// `100ms`.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("ms").and_then(|number| number.parse().ok());
    number.filter(|ms| *ms > 0).map(Duration::from_millis).ok_or_else(|| "say it in milliseconds: 100ms".to_owned())
}

/// True when every bound is kept and nothing is left behind.
fn measure(arguments: &Arguments, what: &What) -> Result<bool> {
    let program = std::env::current_exe().context("finding this program")?;
    let xvip = arguments.xvip.clone().map_or_else(agent::find, Ok)?;
    let xvip = xvip.canonicalize().with_context(|| format!("finding the agent {}", xvip.display()))?;
    stop::listen()?;
    say(format!("machine: {}", Machine::here()));
    say(format!("load at the start: {}", load()));
    say("");
    let run = Run::start()?;
    let name = run.name().to_owned();
    let ended = catch_unwind(AssertUnwindSafe(|| inside(&run, &program, &xvip, arguments, what)))
        .unwrap_or_else(|_| Err(anyhow!("measuring panicked")));
    drop(run);
    let start = Instant::now();
    while !leftovers(&name).is_empty() && start.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = leftovers(&name);
    if !left.is_empty() {
        say(format!("NOT clean, this is left: {}", left.join(", ")));
    }
    say(format!("load at the end: {}", load()));
    ended.map(|kept| kept && left.is_empty())
}

fn inside(run: &Arc<Run>, program: &Path, xvip: &Path, arguments: &Arguments, what: &What) -> Result<bool> {
    let runs = |default: usize| arguments.runs.unwrap_or(default);
    if let What::Flood = what {
        return flood::measure();
    }
    let mut ground = Ground::build(run, program)?;
    if let What::Outage { incumbent: true } = what {
        for (words, advert_interval) in [("1 s", "1"), ("100 ms", "0.1")] {
            let mut pair = Incumbent::start(&ground, advert_interval)?;
            let title = format!("haproxy and keepalived, advert {words}");
            outage::measure(&title, &ground, &mut pair, &[(Fault::LinkCut, runs(5), None)])?;
        }
        return Ok(true);
    }
    let mut pair = Xvip::start(&ground, xvip, arguments.advert)?;
    let all = matches!(what, What::All);
    let mut kept = true;
    if all || matches!(what, What::Spread) {
        kept &= spread::measure(&ground, &mut pair, runs(1))?;
    }
    if all || matches!(what, What::Bulk) {
        kept &= bulk::measure(&ground, runs(5))?;
    }
    if all || matches!(what, What::Outage { .. }) {
        let runs = runs(20);
        let faults = [
            (Fault::Nothing, runs.min(5), None),
            (Fault::Terminated, runs, Some(HANDOVER_MS)),
            (Fault::SteppedDown, runs, Some(HANDOVER_MS)),
            (Fault::Killed, runs, Some(500.0)),
            (Fault::LinkCut, runs, Some(500.0)),
        ];
        kept &= outage::measure(&format!("xvip, advert {:?}", arguments.advert), &ground, &mut pair, &faults)?;
    }
    let ways = if let What::Moves { only } = what { Some(only.as_slice()) } else { all.then_some(&[][..]) };
    if let Some(ways) = ways {
        kept &= moves::measure(&ground, &mut pair, ways, runs(20), arguments.advert)?;
    }
    if all || matches!(what, What::Restart { .. }) {
        let other = match what {
            What::Restart { other: Some(other) } => other,
            _ => xvip,
        };
        kept &= restart::measure(&ground, &mut pair, [xvip, other], runs(100))?;
    }
    if all || matches!(what, What::Reload) {
        kept &= reload::measure(&ground, &mut pair, runs(1000))?;
    }
    if all || matches!(what, What::FailFast) {
        kept &= fail_fast::measure(&mut ground, &mut pair, runs(1))?;
    }
    // Last, because their flows stay.
    if matches!(what, What::Sharing) {
        kept &= sharing::measure(&ground, &mut pair, runs(3))?;
    }
    if all || matches!(what, What::Memory) {
        kept &= memory::measure(&mut pair, xvip)?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["measure", "outage", "--incumbent", "--runs", "3", "--xvip", "/x"]).is_ok());
        assert!(Arguments::try_parse_from(["measure"]).is_ok());
        let advert = |words: &[&str]| Arguments::try_parse_from(words).map(|arguments| arguments.advert).ok();
        assert_eq!(advert(&["measure", "moves", "--advert", "10ms"]), Some(Duration::from_millis(10)));
        assert_eq!(advert(&["measure", "--advert", "0ms"]), None);
        assert_eq!(advert(&["measure", "--advert", "10"]), None);
    }
}

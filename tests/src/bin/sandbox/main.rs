//! The sandbox: a control plane behind a VIP, in namespaces made for it.
#![allow(
    clippy::disallowed_methods,
    reason = "the sandbox measures real peers against the real clock; nothing here decides for the agent"
)]

mod bounds;
mod lines;
mod model;
mod observer;
mod screen;
mod tour;
mod view;
mod world;

use std::io::IsTerminal as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand};
use xvip_tests::run::{Run, leftovers};
use xvip_tests::{agent, apiserver, dial};

use crate::world::{Plan, World};
use xvip_tests::stop::{self, say};

/// A control plane behind a virtual IP, in network namespaces made for it and removed with it.
#[derive(Debug, Parser)]
#[command(name = "xvip-sandbox", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The agent to run on the balancers [default: the file `xvip` beside this program, else release/xvip in its target directory].
    #[arg(long, value_name = "FILE")]
    xvip: Option<PathBuf>,
    /// Instead of the live view, a scripted tour of all faults in about this time, e.g. 60s; it ends with a table of what a client
    /// noticed, and with status 0 only when all was as promised.
    #[arg(long = "for", value_name = "DURATION", value_parser = tour_length)]
    tour: Option<Duration>,
    /// From one VRRP advert to the next.
    #[arg(long, value_name = "DURATION", default_value = "100ms")]
    advert: String,
    /// Lines of text instead of the live view, as when the output is no terminal.
    #[arg(long)]
    plain: bool,
    /// Copies everybody's log and configuration there at the end.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
    /// Panics once everything is up: for the test of what that leaves.
    #[arg(long, hide = true)]
    panic: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as one of the API servers; the sandbox starts these itself.
    #[command(hide = true)]
    Apiserver(apiserver::Options),
    /// Connects as a client of a node and prints what became of it; tests start these.
    #[command(hide = true)]
    Dial(dial::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Some(Command::Apiserver(options)) => serve(options).map(|()| true),
        Some(Command::Dial(options)) => dialled(options).map(|()| true),
        None => sandbox(&arguments),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("xvip-sandbox: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: apiserver::Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(apiserver::serve(options))
}

fn dialled(options: dial::Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", serde_json::to_string(&runtime.block_on(dial::dial(options))?)?);
    Ok(())
}

/// True when all was as promised.
fn sandbox(arguments: &Arguments) -> Result<bool> {
    let sandbox = std::env::current_exe().context("finding this program")?;
    let xvip = agent_file(arguments.xvip.as_deref(), &sandbox)?;
    stop::listen()?;
    let run = Run::start()?;
    let name = run.name().to_owned();
    let plan = Plan { xvip: &xvip, sandbox: &sandbox, advert_interval: &arguments.advert };
    // A panic has been printed by then; what it leaves is looked for all the same.
    let ended = catch_unwind(AssertUnwindSafe(|| inside(&run, arguments, &plan)))
        .unwrap_or_else(|_| Err(anyhow!("the sandbox panicked")));
    if let Some(to) = &arguments.logs {
        World::copy_logs(&run, to).with_context(|| format!("copying the logs to {}", to.display()))?;
        say(format!("The logs are in {}.", to.display()));
    }
    drop(run);
    // A namespace is freed in the background; a process that was killed may take a moment to be gone.
    let start = Instant::now();
    while !leftovers(&name).is_empty() && start.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = leftovers(&name);
    if left.is_empty() {
        say("Clean: no namespace, link, process, pin or file of the sandbox is left.");
    } else {
        say(format!("NOT clean, this is left: {}", left.join(", ")));
    }
    ended.map(|kept| kept && left.is_empty())
}

fn inside(run: &Arc<Run>, arguments: &Arguments, plan: &Plan<'_>) -> Result<bool> {
    introduce(run.name());
    let start = Instant::now();
    let mut world = World::up(run, plan)?;
    say(format!("It is up after {:.1} s. Try it from another terminal:", start.elapsed().as_secs_f64()));
    say("");
    world.commands().iter().for_each(|command| say(format!("  {command}")));
    say("");
    if arguments.panic {
        #[expect(clippy::panic, reason = "it is what was asked for")]
        {
            panic!("as asked for by --panic");
        }
    }
    let ended = match arguments.tour {
        Some(length) => tour::run(&mut world, length),
        None if !arguments.plain && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() => {
            screen::run(&mut world).map(|()| true)
        }
        None => {
            say("Ctrl-C ends it.");
            lines::run(&mut world);
            Ok(true)
        }
    };
    say("Stopping.");
    ended
}

fn introduce(run: &str) {
    let text = "\
xvip sandbox: a Kubernetes control plane in miniature, built on this machine in network namespaces of its own.

  client                192.0.2.10        200 new HTTPS connections a second, and 8 watches held open
     |
  VIP                   192.0.2.100:8443  the one address the client knows; it lives on one of the balancers
     |
  lb1, lb2              192.0.2.21, .22   two balancers: xvip shares the VIP by VRRP and forwards in the kernel (XDP)
     |
  master1 to master3    192.0.2.31 to .33 three API servers: HTTPS on port 6443, checked by GET /readyz
";
    say(text);
    say(format!("Its namespaces are called {run}-client, {run}-lb1 and so on; they go away with it. Building."));
}

fn agent_file(named: Option<&Path>, sandbox: &Path) -> Result<PathBuf> {
    let beside = sandbox.with_file_name("xvip");
    let path = match named {
        Some(named) => named.to_owned(),
        None if beside.is_file() => beside,
        None => agent::find()?,
    };
    if !path.is_file() {
        bail!(
            "there is no agent at {}: build it with `cargo xtask build`, or name it with --xvip FILE",
            path.display()
        );
    }
    path.canonicalize().with_context(|| format!("finding {}", path.display()))
}

/// `60s` or `2m`, not shorter than a tour takes.
fn tour_length(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 60),
        (None, None) => return Err("a number with a unit is expected: 60s or 2m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a whole number with a unit is expected: 60s or 2m".to_owned())?;
    let length = Duration::from_secs(number.saturating_mul(seconds));
    if length < tour::SHORTEST {
        return Err(format!("the tour takes at least {} s", tour::SHORTEST.as_secs()));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tour_has_a_unit_and_a_least_length() {
        assert_eq!(tour_length("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(tour_length("2m"), Ok(Duration::from_secs(120)));
        assert!(tour_length("39s").is_err());
        assert!(tour_length("60").is_err());
        assert!(tour_length("-1s").is_err());
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["xvip-sandbox", "--for", "60s", "--plain", "--xvip", "/x"]).is_ok());
    }
}

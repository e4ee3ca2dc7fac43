//! `cargo xtask`: prepares, builds, checks and runs xvip.

mod audit;
mod bench;
mod bill;
mod dist;
mod docs;
mod fuzz;
mod lint;
mod measure;
mod notices;
mod package;
mod run;
mod setup;
mod step;
mod test;
mod tidy;
mod tool;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Prepares, builds, checks and runs xvip.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Finds or installs the compiler and linker for the kernel side (implied by the others)
    Setup,
    /// Builds target/release/xvip, one file with the kernel side inside
    Build,
    /// Runs the sandbox; with --config, the agent on this host
    Run(run::Options),
    /// Checks formatting, lints and house rules
    Lint,
    /// Writes docs/reference from the code
    Docs,
    /// Prepares, lints and runs every test
    Test(test::Options),
    /// Feeds hostile bytes to all that reads bytes, by libFuzzer
    Fuzz(fuzz::Options),
    /// Measures outages, spread, bulk and memory, on a machine with nothing else to do
    Measure(measure::Options),
    /// Measures xvip beside haproxy, nftables and no balancer, on a machine with nothing else to do
    Bench(bench::Options),
    /// Builds the Debian package of target/release/xvip
    Package(package::Options),
    /// Builds target/dist: what is released, without a trace of where it is built
    Dist(dist::Options),
    /// Checks the dependencies: licences, sources, duplicates, known vulnerabilities
    Audit(audit::Options),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Task::Setup => setup::toolchain(),
        Task::Build => run::build().map(|_| ()),
        Task::Run(options) => run::run(&options),
        Task::Lint => lint::lint(),
        Task::Docs => docs::docs(),
        Task::Test(options) => test::test(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Measure(options) => measure::measure(&options),
        Task::Bench(options) => bench::bench(&options),
        Task::Package(options) => package::package(&options).map(|_| ()),
        Task::Dist(options) => dist::dist(&options),
        Task::Audit(options) => audit::audit(&options),
    }
}

/// The root of the workspace, wherever cargo was called. Cargo says it: two checkouts that share a target directory run the
/// same build of this program.
fn workspace() -> PathBuf {
    let said = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = said.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map_or(here.clone(), PathBuf::from)
}

//! Builds the agent and the benchmark, and runs it.

use std::os::unix::process::CommandExt as _;

use crate::step::{cargo, command, run as run_command, say};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// --quick, --rounds N, --only PHASE..., --json, --svg and --markdown FILE, and others; -- --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Runs the benchmark in place of this process.
pub(crate) fn bench(options: &Options) -> anyhow::Result<()> {
    crate::setup::measured_programs()?;
    let binary = crate::run::build()?;
    say("Building the benchmark");
    run_command(
        cargo()
            .args(["build", "--release", "--locked", "--package", "xvip-tests", "--bin", "bench"])
            .args(["--target-dir", "target"]),
    )?;
    let mut bench = command(crate::workspace().join("target/release/bench"));
    bench.arg("--xvip").arg(&binary).args(&options.options);
    // Files are named as seen from where cargo was called.
    if let Ok(here) = std::env::current_dir() {
        bench.current_dir(here);
    }
    Err(bench.exec().into())
}

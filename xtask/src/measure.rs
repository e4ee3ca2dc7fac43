//! Builds the agent and the measurements, and runs them.

use std::os::unix::process::CommandExt as _;

use crate::step::{cargo, command, run as run_command, say};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// outage, restart, spread, bulk, flood, memory or all, and their options; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Runs the measurements in place of this process.
pub(crate) fn measure(options: &Options) -> anyhow::Result<()> {
    crate::setup::measured_programs()?;
    let binary = crate::run::build()?;
    say("Building the measurements");
    run_command(
        cargo()
            .args(["build", "--release", "--locked", "--package", "xvip-tests", "--bin", "measure"])
            .args(["--target-dir", "target"]),
    )?;
    let mut measure = command(crate::workspace().join("target/release/measure"));
    measure.args(&options.options).arg("--xvip").arg(&binary);
    Err(measure.exec().into())
}

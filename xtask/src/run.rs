//! Builds the binary and runs it: the agent on this host, or the sandbox.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::bail;

use crate::step::{cargo, command, now, run as run_command, say};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// --config FILE: run the agent on this host with this configuration.
    /// Anything else is for the sandbox, e.g. --for 60s; --help lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

impl Options {
    /// The agent's configuration, if it is the agent that shall run.
    fn config(&self) -> anyhow::Result<Option<PathBuf>> {
        let config = match self.options.as_slice() {
            [flag, file] if flag == "--config" => Some(file.as_str()),
            [both] => both.strip_prefix("--config="),
            _ => None,
        };
        if config.is_none() && self.options.iter().any(|option| option.starts_with("--config")) {
            bail!("--config takes one file and nothing beside it: cargo xtask run -- --config FILE");
        }
        Ok(config.map(PathBuf::from))
    }
}

/// Builds the agent; returns its path.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    crate::setup::toolchain()?;
    let started = now();
    say("Building xvip (the first time takes a few minutes)");
    run_command(cargo().args(["build", "--release", "--locked", "--package", "xvip", "--target-dir", "target"]))?;
    let binary = crate::workspace().join("target/release/xvip");
    let size = std::fs::metadata(&binary).map_or(0, |meta| meta.len());
    say(&format!("{} ({:.1} MB) in {} s", binary.display(), size as f64 / 1e6, started.elapsed().as_secs()));
    Ok(binary)
}

/// Runs the agent or the sandbox in place of this process.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.config()?;
    let binary = build()?;
    if let Some(config) = config {
        let config = std::path::absolute(config)?;
        say(&format!("Running the agent with {}; Ctrl-C stops it", config.display()));
        return Err(std::process::Command::new(&binary).arg("run").arg("--config").arg(config).exec().into());
    }
    say("Building the sandbox");
    run_command(
        cargo()
            .args(["build", "--release", "--locked", "--package", "xvip-tests", "--bin", "xvip-sandbox"])
            .args(["--target-dir", "target"]),
    )?;
    let mut sandbox = command(crate::workspace().join("target/release/xvip-sandbox"));
    sandbox.arg("--xvip").arg(&binary).args(&options.options).stdin(std::process::Stdio::inherit());
    Err(sandbox.exec().into())
}

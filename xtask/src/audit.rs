//! What the dependencies are: licences, where they come from, which are there twice, which are known to be bad.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::step::{command, now, run, run_quietly, say};
use crate::tool::Tool;

const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", options: &["--no-default-features"] };

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without known vulnerabilities and withdrawn versions, whose databases are fetched from the network
    #[arg(long)]
    offline: bool,
}

/// Checks them all by deny.toml, each check whatever the others say. What could not be looked at is a failure as well, unless that
/// was asked for: silence about vulnerabilities has to mean that there are none.
pub(crate) fn audit(options: &Options) -> anyhow::Result<()> {
    let started = now();
    let program = CARGO_DENY.program()?;
    let mut faults = Vec::new();
    say("Licences, sources, bans and duplicates");
    if run(deny(&program).args(["check", "licenses", "sources", "bans"])).is_err() {
        faults.push("licences, sources, bans or duplicates are not as config/deny.toml wants them");
    }
    if options.offline {
        say("Known vulnerabilities and withdrawn versions were NOT looked for (--offline)");
    } else {
        say("Known vulnerabilities and withdrawn versions");
        if run_quietly("fetching the database of RustSec", deny(&program).args(["fetch", "db"])).is_err() {
            faults.push(
                "known vulnerabilities and withdrawn versions were NOT looked for, because their database cannot be fetched; \
                 `cargo xtask audit --offline` does without",
            );
        } else if run(deny(&program).args(["check", "advisories"])).is_err() {
            faults.push("dependencies have known vulnerabilities, or were withdrawn");
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; and "));
    }
    say(&format!("The dependencies are in order, as far as looked at, in {} s", started.elapsed().as_secs()));
    Ok(())
}

fn deny(program: &Path) -> Command {
    let mut deny = command(program);
    deny.args(["--locked", "--config", "config/deny.toml"]);
    deny
}

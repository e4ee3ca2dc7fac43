//! What the dependencies are: licences, where they come from, which are there twice, which are known to be bad.

use crate::step::{command, run, say};
use crate::tool::Tool;

const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", options: &["--no-default-features"] };

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without known vulnerabilities, whose database is fetched from the network
    #[arg(long)]
    offline: bool,
}

/// Checks them all by deny.toml.
pub(crate) fn audit(options: &Options) -> anyhow::Result<()> {
    let program = CARGO_DENY.program()?;
    let deny = |checks: &[&str]| {
        run(command(&program).args(["--locked", "check", "--config", "config/deny.toml"]).args(checks))
    };
    say("Licences, sources, bans and duplicates");
    deny(&["licenses", "sources", "bans"])?;
    if options.offline {
        say("Known vulnerabilities were not looked for");
        return Ok(());
    }
    say("Known vulnerabilities");
    deny(&["advisories"])
}

//! `xvip doctor`: looks at a host before the agent runs there, or beside it, and says what it finds and what to do.
//!
//! ```text
//!  observe::* ──Facts──> judge ──findings──> print
//! ```
//! `observe` asks the kernel, the wire and the backends; it attaches nothing, adds no address, and sends only ARP probes,
//! neighbour solicitations, health checks and TLS handshakes. `judge` does no I/O. Which datapath suits a device is what
//! the agent itself would choose ([`crate::bpf::choose`]).

pub mod facts;
pub mod finding;
pub mod judge;
mod observe;
mod print;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use crate::{clock, config};
use finding::Severity;

/// Looks, prints, and returns the exit code: 0 when there is no problem, 1 otherwise. Without a configuration it looks at every
/// interface that is up.
pub async fn run(config: Option<PathBuf>, json: bool) -> u8 {
    let facts = match observe::facts(config.map(|path| config::load(&path))).await {
        Ok(facts) => facts,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xvip: {error}");
            return 1;
        }
    };
    // Whole seconds suffice for certificates.
    let findings = judge::judge(&facts, clock::unix(clock::wall()) as u64);
    let terminal = io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = if json { print::json(&findings) } else { print::text(&findings, colour) };
    // Whoever closed the output has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    u8::from(findings.iter().any(|finding| finding.severity == Severity::Problem))
}

//! Formatting, lints and house rules.

use crate::step::{cargo, run, say};

/// Checks everything that needs no test run.
pub(crate) fn lint() -> anyhow::Result<()> {
    crate::setup::components()?;
    say("Formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("House rules");
    crate::tidy::tidy()?;
    say("Clippy");
    run(cargo()
        .args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
        .env("XVIP_EBPF_STUB", "1")
        // A build of its own, or the stub would make every later build start again.
        .args(["--no-deps"]))
}

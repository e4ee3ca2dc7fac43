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
    // A stub in place of the kernel side, in a build of its own: the real one need not be made again afterwards.
    run(cargo()
        .args(["clippy", "--workspace", "--all-targets", "--locked", "--target-dir", "target/lint"])
        .args(["--", "-D", "warnings"])
        .env("XVIP_EBPF_STUB", "1"))
}

//! Writes the references in docs/reference anew; the tests that write them compare them otherwise.

use crate::step::{cargo, run, say};

pub(crate) fn docs() -> anyhow::Result<()> {
    crate::setup::toolchain()?;
    say("References of configuration, commands and metrics");
    run(cargo()
        .args(["test", "--locked", "--package", "xvip", "--lib", "reference::"])
        .env("XVIP_WRITE_REFERENCE", "1"))
}

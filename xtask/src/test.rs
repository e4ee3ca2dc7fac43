//! Everything CI runs.

use crate::step::{cargo, now, run, say};

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only what needs no root: lints and tests of pure logic
    #[arg(long)]
    host_only: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Prepares, lints and runs every test.
pub(crate) fn test(options: &Options) -> anyhow::Result<()> {
    let started = now();
    crate::setup::toolchain()?;
    if options.filter.is_none() {
        crate::lint::lint()?;
    }
    say("Tests on the host");
    let filter = options.filter.as_slice();
    run(cargo().args(["test", "--locked"]).args(filter))?;
    if options.host_only {
        return Ok(());
    }
    crate::setup::test_programs()?;
    let binary = crate::run::build()?;
    let package = crate::package::package(&crate::package::Options::of(binary.clone()))?;
    if options.filter.is_none() {
        crate::package::same_again(&binary, &package)?;
    }
    say("Tests in the kernel and in namespaces");
    run(cargo()
        .args(["test", "--release", "--locked", "--package", "xvip-tests", "--target-dir", "target"])
        .args(filter)
        // They share one kernel, two cores and the wall clock of the protocols under test.
        .args(["--", "--test-threads=1", "--nocapture"])
        .env("XVIP", &binary)
        .env("XVIP_PACKAGE", &package))?;
    say(&format!("All tests passed in {} s", started.elapsed().as_secs()));
    Ok(())
}

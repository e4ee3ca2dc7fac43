//! Builds the fuzz targets for libFuzzer, and runs them: with coverage by the compiler that is there, without a nightly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::step::{cargo, command, run, say};

/// What to feed, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One target; without it, all of them one after the other
    target: Option<String>,
    /// Seconds for each target, such as 60s
    #[arg(long = "for", default_value = "60s", value_name = "TIME")]
    time: String,
    /// Put what was found into tests/fuzz/corpus, as few inputs as reach as much
    #[arg(long)]
    keep: bool,
    /// Options for libFuzzer, such as -runs=1000000
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Targets, and bytes of their longest inputs: a longer one says nothing that a shorter one cannot.
const TARGETS: [(&str, u32); 12] = [
    ("admin", 6000),
    ("answer", 2000),
    ("config", 4000),
    ("datapath", 280),
    ("frame", 300),
    ("haproxy", 4000),
    ("keepalived", 3000),
    ("neighbour", 200),
    ("page", 4000),
    ("peer", 100),
    ("sync", 2000),
    ("vrrp", 1100),
];

/// Memory in MiB, and seconds for one input, beyond which something is wrong.
const LIMITS: [&str; 2] = ["-rss_limit_mb=2000", "-timeout=20"];

/// What libFuzzer needs to see which code an input reaches (`cargo fuzz` asks for the same), and no sanitizer: they need a
/// nightly compiler, and there is no unsafe code in what is fed.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Builds the targets and feeds them.
pub(crate) fn fuzz(options: &Options) -> anyhow::Result<()> {
    let seconds = options.time.strip_suffix('s').unwrap_or(&options.time);
    let seconds: u32 =
        seconds.parse().with_context(|| format!("--for {}: write seconds, such as 60s", options.time))?;
    let wanted = |name: &str| options.target.as_deref().is_none_or(|target| target == name);
    let targets: Vec<_> = TARGETS.into_iter().filter(|(name, _)| wanted(name)).collect();
    if targets.is_empty() {
        bail!("no such target; there are {}", TARGETS.map(|(name, _)| name).join(", "));
    }
    let binaries = build()?;
    for (name, longest) in targets {
        let fed = Fed::new(&binaries, name)?;
        say(&format!("Feeding {name} for {seconds} s"));
        let limits = [format!("-max_total_time={seconds}"), format!("-max_len={longest}")];
        let mut feed = fed.command();
        feed.arg(&fed.found).arg(&fed.corpus).args(limits).args(LIMITS).args(["-print_final_stats=1"]);
        feed.args(&options.options);
        if run(&mut feed).is_err() {
            bail!(
                "{name} fails: the input is {}*; mend what it shows and keep it in {}",
                fed.broke.display(),
                fed.corpus.display()
            );
        }
        if options.keep {
            fed.keep()?;
        }
    }
    Ok(())
}

/// Builds all targets; returns where they are.
fn build() -> anyhow::Result<PathBuf> {
    crate::setup::cplusplus()?;
    let version = command("rustc").arg("-vV").stderr(Stdio::inherit()).output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    say("Building the fuzz targets (the first time takes a few minutes)");
    // Named, so that build scripts get none of the flags.
    run(cargo()
        .args(["build", "--locked", "--profile", "fuzz", "--package", "xvip-fuzz", "--features", "libfuzzer", "--bins"])
        .args(["--target", host, "--target-dir", "target/fuzz"])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env("XVIP_EBPF_STUB", "1"))?;
    Ok(crate::workspace().join("target/fuzz").join(host).join("fuzz"))
}

/// A target, and the places of its inputs.
struct Fed<'a> {
    binary: PathBuf,
    name: &'a str,
    /// Committed.
    corpus: PathBuf,
    /// Found since.
    found: PathBuf,
    /// Begin of the names of those that broke something.
    broke: PathBuf,
}

impl<'a> Fed<'a> {
    fn new(binaries: &Path, name: &'a str) -> anyhow::Result<Self> {
        let here = crate::workspace();
        let found = here.join("target/fuzz/found").join(name);
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let corpus = here.join("tests/fuzz/corpus").join(name);
        Ok(Self { binary: binaries.join(name), name, corpus, found, broke: here.join("target/fuzz").join(name) })
    }

    fn command(&self) -> std::process::Command {
        let mut feed = command(&self.binary);
        feed.arg(format!("-artifact_prefix={}-", self.broke.display()));
        let words = crate::workspace().join("tests/fuzz/words").join(self.name);
        if words.is_file() {
            feed.arg(format!("-dict={}", words.display()));
        }
        feed
    }

    /// Makes the corpus anew of itself and what was found. What once broke something stays.
    fn keep(&self) -> anyhow::Result<()> {
        let least = self.found.with_extension("least");
        if least.exists() {
            fs::remove_dir_all(&least)?;
        }
        fs::create_dir_all(&least)?;
        // By code reached alone: how often it was would keep ten times as many.
        run(self.command().args(["-set_cover_merge=1", "-use_counters=0"]).args(LIMITS).args([
            &least,
            &self.corpus,
            &self.found,
        ]))?;
        for file in fs::read_dir(&self.corpus)? {
            let file = file?;
            if !file.file_name().to_string_lossy().starts_with("broke-") {
                fs::remove_file(file.path())?;
            }
        }
        for file in fs::read_dir(&least)? {
            let file = file?;
            fs::copy(file.path(), self.corpus.join(file.file_name()))?;
        }
        fs::remove_dir_all(&least).map_err(Into::into)
    }
}

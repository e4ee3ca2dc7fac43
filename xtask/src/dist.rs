//! What is released, made so that its bytes depend on the source and the compilers alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::step::{cargo, command, now, run, run_quietly, say};
use crate::tool::Tool;

const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.7", options: &[] };

/// Builds everything into target/dist.
pub(crate) fn dist() -> anyhow::Result<()> {
    let started = now();
    crate::setup::toolchain()?;
    crate::setup::packaging_programs()?;
    let epoch = crate::package::epoch()?;
    let dist = crate::workspace().join("target/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    fs::create_dir_all(&dist)?;

    let binary = build(epoch)?;
    names_no_directory_of_the_build(&binary)?;
    let name = format!("xvip-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    fs::copy(&binary, dist.join(&name))?;
    say("Debian package");
    crate::package::debian(&binary, &dist, epoch)?;
    say("Archive");
    archive(&binary, &dist, &name, epoch)?;
    say("Bill of materials");
    bill_of_materials(&dist.join("sbom.cdx.json"), epoch)?;
    sums(&dist)?;
    say(&format!("{} in {} s:", dist.display(), started.elapsed().as_secs()));
    run(command("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&dist))?;
    print!("{}", fs::read_to_string(dist.join("SHA256SUMS"))?);
    Ok(())
}

/// The binary, in a target directory of its own: its flags are not those of other builds.
fn build(epoch: u64) -> anyhow::Result<PathBuf> {
    say("Building xvip from scratch for release (some minutes)");
    let target = crate::workspace().join("target/reproducible");
    let home = ebpf_toolchain::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let flags = ebpf_toolchain::remapped(&crate::workspace(), &home);
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--package", "xvip", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("RUSTFLAGS");
    // What C files say of their places, in assertions.
    let maps = [(crate::workspace(), "/usr/src/xvip"), (home, "/usr/src/cargo")];
    let maps: Vec<_> = maps.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
    build.env("CFLAGS", maps.join(" "));
    run(&mut build)?;
    Ok(target.join("release/xvip"))
}

/// Fails where the binary, or the eBPF object inside it, says where it was built.
fn names_no_directory_of_the_build(binary: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(binary)?;
    let home = ebpf_toolchain::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    for directory in [crate::workspace(), home] {
        let name = directory.display().to_string();
        if let Some(at) = bytes.windows(name.len()).position(|window| window == name.as_bytes()) {
            let end = bytes.len().min(at + 100);
            bail!("{} has the path {:?}", binary.display(), String::from_utf8_lossy(&bytes[at..end]));
        }
    }
    Ok(())
}

/// Everything for a host without Debian's packages.
fn archive(binary: &Path, dist: &Path, name: &str, epoch: u64) -> anyhow::Result<()> {
    let stage = crate::package::stage(binary)?;
    let content = stage.join(name);
    fs::create_dir_all(&content)?;
    fs::copy(binary, content.join("xvip"))?;
    for directory in ["man", "completions"] {
        fs::rename(stage.join(directory), content.join(directory))?;
    }
    for file in
        ["config/xvip.toml", "config/xvip.service", "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]
    {
        let from = crate::workspace().join(file);
        let to = content.join(from.file_name().context("a path without a name")?);
        fs::copy(&from, to).with_context(|| file.to_owned())?;
    }
    let mut tar = command("tar");
    tar.current_dir(&stage).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.args(["--mode=go-w", &format!("--mtime=@{epoch}"), "--use-compress-program=gzip --no-name"]);
    tar.arg("--create").arg("--file").arg(dist.join(format!("{name}.tar.gz"))).arg(name);
    run_quietly("tar", &mut tar)
}

/// What the binary is made of, with versions and licences, in CycloneDX's JSON.
fn bill_of_materials(to: &Path, epoch: u64) -> anyhow::Result<()> {
    let mut tool = command(CYCLONEDX.program()?);
    // It writes beside the manifest of each package of the workspace; only that of the agent is wanted.
    tool.args(["cyclonedx", "--format", "json", "--manifest-path", "lb-user/Cargo.toml"]);
    tool.args(["--target", "x86_64-unknown-linux-gnu", "--no-build-deps", "--override-filename", "xvip-sbom"]);
    tool.env("SOURCE_DATE_EPOCH", epoch.to_string());
    run_quietly("cargo cyclonedx", &mut tool)?;
    let mut written = None;
    for package in packages()? {
        let file = package.join("xvip-sbom.json");
        if !file.exists() {
            continue;
        }
        if package.ends_with("lb-user") {
            written = Some(fs::read_to_string(&file)?);
        }
        fs::remove_file(&file)?;
    }
    let text = written.context("cargo cyclonedx wrote nothing for xvip")?;
    // Where the source was is nobody's business, and would differ from one build to the next.
    let text = text.replace(&crate::workspace().display().to_string(), "/usr/src/xvip");
    let bill: Value = serde_json::from_str(&text).context("cargo cyclonedx wrote no JSON")?;
    let components = bill["components"].as_array().map_or(0, Vec::len);
    if components < 50 {
        bail!("the bill of materials names only {components} components");
    }
    fs::write(to, text).map_err(Into::into)
}

/// The directories of the workspace's packages.
fn packages() -> anyhow::Result<Vec<PathBuf>> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
    let manifests = metadata["packages"].as_array().into_iter().flatten();
    Ok(manifests
        .filter_map(|package| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned()))
        .collect())
}

/// Writes SHA256SUMS of all that is in a directory.
fn sums(directory: &Path) -> anyhow::Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.insert(entry.file_name(), ());
    }
    let output = command("sha256sum").args(files.keys()).current_dir(directory).output()?;
    if !output.status.success() {
        bail!("sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(directory.join("SHA256SUMS"), output.stdout).map_err(Into::into)
}

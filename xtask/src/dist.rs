//! What is released, made so that its bytes depend on the source and the compilers alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::step::{cargo, command, now, run, run_quietly, say};

/// Variables that would make another binary of the same source, by their beginnings.
const UNWANTED: [&str; 6] =
    ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC_", "XVIP_EBPF_STUB", "CRATE_CC_"];

/// Others, by their names. Those of C compilers are also there for a target (`CFLAGS_x86_64_unknown_linux_gnu`), and for either
/// kind (`HOST_CFLAGS`).
const UNWANTED_NAMES: [&str; 21] = [
    "AR",
    "ARFLAGS",
    "CC",
    "CFLAGS",
    "COMPILER_PATH",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "CPPFLAGS",
    "CXX",
    "CXXFLAGS",
    "CXXSTDLIB",
    "C_INCLUDE_PATH",
    "GCC_EXEC_PREFIX",
    "LDFLAGS",
    "LD_RUN_PATH",
    "LIBRARY_PATH",
    "RANLIB",
    "RANLIBFLAGS",
    "RUSTC",
    "RUSTFLAGS",
    "SDKROOT",
];

/// How to release.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also of files that differ from the commit
    #[arg(long)]
    allow_dirty: bool,
}

/// Builds everything into target/dist.
pub(crate) fn dist(options: &Options) -> anyhow::Result<()> {
    let started = now();
    crate::setup::toolchain()?;
    crate::setup::packaging_programs()?;
    let epoch = crate::package::epoch_of_source()?;
    let epoch =
        epoch.context("this is no git repository: set SOURCE_DATE_EPOCH to the time of the source in seconds")?;
    // Elsewhere there is nothing to compare with.
    let changes = crate::package::git(&["status", "--porcelain"]).unwrap_or_default();
    if !changes.is_empty() && !options.allow_dirty {
        bail!(
            "these files are not those of the commit; commit them, or release them all the same by --allow-dirty:\n{changes}"
        );
    }
    let dist = crate::workspace().join("target/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    fs::create_dir_all(&dist)?;

    let binary = build(epoch)?;
    names_no_directory_of_the_build(&binary)?;
    fs::copy(&binary, dist.join(name()))?;
    say("Debian package");
    crate::package::debian(&binary, &dist, epoch)?;
    say("Archive");
    archive(&binary, &dist, epoch)?;
    for file in crate::notices::FILES {
        fs::copy(crate::workspace().join("target/package").join(file), dist.join(file))?;
    }
    say("Bill of materials");
    crate::bill::write(&dist.join("sbom.cdx.json"), epoch)?;
    fs::write(dist.join("built-with.txt"), built_with()?)?;
    sums(&dist)?;
    say(&format!("{} in {} s:", dist.display(), started.elapsed().as_secs()));
    run(command("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&dist))?;
    print!("{}", fs::read_to_string(dist.join("SHA256SUMS"))?);
    Ok(())
}

/// What binary and archive are called.
fn name() -> String {
    format!("xvip-{}-x86_64-linux", env!("CARGO_PKG_VERSION"))
}

/// The binary, in a target directory of its own: its flags are not those of other builds.
fn build(epoch: u64) -> anyhow::Result<PathBuf> {
    say("Building xvip from scratch for release (some minutes)");
    let target = crate::workspace().join("target/reproducible");
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| target.display().to_string())?;
    }
    let home = ebpf_toolchain::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let flags = ebpf_toolchain::remapped(&crate::workspace(), &home);
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--package", "xvip", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("CARGO_INCREMENTAL", "0");
    for (variable, _) in std::env::vars_os() {
        if is_unwanted(&variable.to_string_lossy()) {
            build.env_remove(variable);
        }
    }
    // What C files say of their places, in assertions.
    let maps = [(crate::workspace(), ebpf_toolchain::SOURCE), (home, ebpf_toolchain::CARGO)];
    let quoted = |(from, to): &(PathBuf, &str)| {
        format!("'-ffile-prefix-map={}={to}'", from.display().to_string().replace('\'', r"'\''"))
    };
    let maps: Vec<_> = maps.iter().map(quoted).collect();
    // Of the crate cc: directories may have spaces.
    build.env("CFLAGS", maps.join(" ")).env("CC_SHELL_ESCAPED_FLAGS", "1");
    run(&mut build)?;
    Ok(target.join("release/xvip"))
}

fn is_unwanted(variable: &str) -> bool {
    let name = variable.strip_prefix("HOST_").or_else(|| variable.strip_prefix("TARGET_")).unwrap_or(variable);
    let is =
        |unwanted: &&str| name.strip_prefix(*unwanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    UNWANTED.iter().any(|unwanted| variable.starts_with(unwanted)) || UNWANTED_NAMES.iter().any(is)
}

/// Fails where the binary, or the eBPF object inside it, says where it was built.
fn names_no_directory_of_the_build(binary: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(binary)?;
    let home = ebpf_toolchain::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    for directory in [crate::workspace(), home].into_iter().chain(rustup_home()) {
        let name = directory.display().to_string();
        if let Some(at) = bytes.windows(name.len()).position(|window| window == name.as_bytes()) {
            let end = bytes.len().min(at + 100);
            bail!("{} has the path {:?}", binary.display(), String::from_utf8_lossy(&bytes[at..end]));
        }
    }
    Ok(())
}

/// Where the tool chains of rustup are.
fn rustup_home() -> Option<PathBuf> {
    let named = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")))
}

/// Packs everything for a host without Debian's packages into `directory`.
pub(crate) fn archive(binary: &Path, directory: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    let stage = crate::package::stage(binary)?;
    let name = name();
    let content = stage.join(&name);
    fs::create_dir_all(&content)?;
    fs::copy(binary, content.join("xvip"))?;
    for directory in ["man", "completions"] {
        fs::rename(stage.join(directory), content.join(directory))?;
    }
    for file in crate::notices::FILES {
        fs::copy(stage.join(file), content.join(file))?;
    }
    for example in ["prometheus/alerts.yml", "grafana/xvip.json"] {
        let (from, to) = (crate::workspace().join("config").join(example), content.join("examples").join(example));
        fs::create_dir_all(to.parent().context("a path without a directory")?)?;
        fs::copy(&from, to).with_context(|| from.display().to_string())?;
    }
    for file in
        ["config/xvip.toml", "config/xvip.service", "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"]
    {
        let from = crate::workspace().join(file);
        let to = content.join(from.file_name().context("a path without a name")?);
        fs::copy(&from, to).with_context(|| file.to_owned())?;
    }
    let archive = directory.join(format!("{name}.tar.gz"));
    let mut tar = command("tar");
    tar.current_dir(&stage).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    // Whatever umask the source was fetched with.
    tar.args(["--mode=u=rwX,go=rX", &format!("--mtime=@{epoch}"), "--use-compress-program=gzip --no-name"]);
    tar.arg("--create").arg("--file").arg(&archive).arg(name).env("LC_ALL", "C").env_remove("GZIP");
    tar.env_remove("TAR_OPTIONS");
    run_quietly("tar", &mut tar)?;
    Ok(archive)
}

/// The programs on which the bytes depend, a line for each.
fn built_with() -> anyhow::Result<String> {
    let toolchain = ebpf_toolchain::find().map_err(anyhow::Error::msg)?;
    let kernel_side = match &toolchain.compiler {
        ebpf_toolchain::Compiler::Prebuilt { rustc } => version(rustc, &[])?,
        ebpf_toolchain::Compiler::BuildStd { toolchain } => version("rustup", &["run", toolchain, "rustc"])?,
    };
    let mut text = format!("agent: {}\n", version("rustc", &[])?);
    text += &format!("kernel side: {kernel_side}, {}\n", version(&toolchain.linker, &[])?);
    for program in ["cc", "ld", "tar", "gzip", "xz", "dpkg-deb"] {
        text += &format!("{program}: {}\n", version(program, &[])?);
    }
    for tool in [&crate::package::CARGO_DEB, &crate::bill::CYCLONEDX] {
        text += &format!("{} {}\n", tool.name, tool.version);
    }
    Ok(text)
}

/// The first line of what a program says its version is.
fn version(program: impl AsRef<OsStr>, before: &[&str]) -> anyhow::Result<String> {
    let program = program.as_ref();
    let failed = || format!("`{} --version` failed", program.display());
    let output = command(program).args(before).arg("--version").output().with_context(failed)?;
    if !output.status.success() {
        bail!(failed());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// Writes SHA256SUMS of all that is in a directory.
fn sums(directory: &Path) -> anyhow::Result<()> {
    let files: BTreeSet<_> = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    let output = command("sha256sum").args(files).current_dir(directory).output()?;
    if !output.status.success() {
        bail!("sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(directory.join("SHA256SUMS"), output.stdout).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_change_the_bytes_are_unwanted() {
        for unwanted in [
            "CC",
            "AR",
            "CFLAGS",
            "CFLAGS_x86_64_unknown_linux_gnu",
            "TARGET_CFLAGS",
            "HOST_CC",
            "CXXFLAGS_x86_64-unknown-linux-gnu",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_BUILD_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC",
            "XVIP_EBPF_STUB",
        ] {
            assert!(is_unwanted(unwanted), "{unwanted}");
        }
        for wanted in ["PATH", "HOME", "CARGO_HOME", "CARGO", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "ARCH", "CCACHE_DIR"] {
            assert!(!is_unwanted(wanted), "{wanted}");
        }
    }
}

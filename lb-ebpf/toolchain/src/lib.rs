//! Finds a compiler and a linker for the kernel side, and builds the datapath object with them.
//!
//! Used by the build script of the agent and by `cargo xtask`. What counts is whether a tool works, not what it is
//! called: a nightly toolchain without the sources of `core` is no help, a stable compiler with a prebuilt `core`
//! for BPF is.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target triple of the kernel side.
pub const TARGET: &str = "bpfel-unknown-none";

/// Name of the binary target in package `lb-ebpf`.
pub const OBJECT: &str = "xvip-datapath";

/// Where the source is, by what is built of it.
pub const SOURCE: &str = "/usr/src/xvip";

/// Where cargo's home is, by what is built.
pub const CARGO: &str = "/usr/src/cargo";

/// A compiler that can produce code for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// A `rustc` that ships a prebuilt `core` for the target.
    Prebuilt {
        /// Path of the compiler.
        rustc: PathBuf,
    },
    /// A rustup toolchain with the sources of `core`, which cargo builds on the way.
    BuildStd {
        /// Name of the toolchain.
        toolchain: String,
    },
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prebuilt { rustc } => write!(f, "{} with its prebuilt core", rustc.display()),
            Self::BuildStd { toolchain } => write!(f, "rustup toolchain {toolchain} with the sources of core"),
        }
    }
}

/// Everything needed to build the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Turns Rust into LLVM bitcode.
    pub compiler: Compiler,
    /// Turns bitcode into a BPF object.
    pub linker: PathBuf,
}

/// Finds a usable compiler.
///
/// `XVIP_EBPF_RUSTC` names one to try first.
#[must_use]
pub fn find_compiler() -> Option<Compiler> {
    let named = env::var_os("XVIP_EBPF_RUSTC").map(PathBuf::from);
    for rustc in named.into_iter().chain([PathBuf::from("/usr/bin/rustc")]) {
        if has_prebuilt_core(&rustc) {
            return Some(Compiler::Prebuilt { rustc });
        }
    }
    let list = output(Command::new("rustup").args(["toolchain", "list", "--quiet"]))?;
    for toolchain in list.lines().map(str::trim).filter(|name| name.starts_with("nightly")) {
        let sysroot = output(Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]));
        if let Some(sysroot) = sysroot
            && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
        {
            return Some(Compiler::BuildStd { toolchain: toolchain.to_owned() });
        }
    }
    None
}

/// Finds a `bpf-linker` that starts.
#[must_use]
pub fn find_linker() -> Option<PathBuf> {
    let cargo_bin = cargo_home().map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    cargo_bin
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("bpf-linker"))
        .find(|candidate| candidate.is_file() && output(Command::new(candidate).arg("--version")).is_some())
}

/// Finds both, or says what is missing.
///
/// # Errors
/// A sentence that names the missing part and the remedy.
pub fn find() -> Result<Toolchain, String> {
    let compiler = find_compiler().ok_or(
        "no Rust compiler here can build for the kernel; run `cargo xtask setup`, or install a nightly toolchain with rust-src",
    )?;
    let linker = find_linker().ok_or("bpf-linker is not installed; run `cargo xtask setup`")?;
    Ok(Toolchain { compiler, linker })
}

/// Builds the object from the workspace at `workspace` with intermediate files under `target_dir`.
///
/// Returns the path of the object.
///
/// # Errors
/// A sentence saying which step failed; the compiler's own messages have gone to standard error.
pub fn build(toolchain: &Toolchain, workspace: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let mut cargo = match &toolchain.compiler {
        Compiler::Prebuilt { rustc } => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
            clear_cargo_env(&mut cargo);
            // aya-ebpf asks for `asm_experimental_arch`, which this compiler has but hides.
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            cargo.arg("build");
            cargo
        }
        Compiler::BuildStd { toolchain } => {
            let mut cargo = Command::new("rustup");
            clear_cargo_env(&mut cargo);
            cargo.args(["run", toolchain.as_str(), "cargo", "build", "-Zbuild-std=core"]);
            cargo
        }
    };
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        // 32-bit registers and jumps; kernels know them since 5.1.
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ];
    // BTF has the names of source files, and the object is part of the agent: the same wherever it was built.
    flags.extend(cargo_home().map(|home| remapped(workspace, &home)).unwrap_or_default());
    let status = cargo
        .current_dir(workspace)
        .args(["--package", "lb-ebpf", "--bin", OBJECT, "--features", "kernel"])
        .args(["--release", "--target", TARGET, "--locked"])
        .arg("--target-dir")
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cargo for the kernel side did not start: {error}"))?;
    if !status.success() {
        return Err(format!("the kernel side did not build with {}", toolchain.compiler));
    }
    Ok(target_dir.join(TARGET).join("release").join(OBJECT))
}

/// Flags by which the compiler writes the same paths wherever workspace and cargo's home are.
#[must_use]
pub fn remapped(workspace: &Path, home: &Path) -> Vec<String> {
    let places = [(workspace, SOURCE), (home, CARGO)];
    places.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}

/// Cargo's home directory.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn has_prebuilt_core(rustc: &Path) -> bool {
    let libdir = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]));
    let Some(entries) = libdir.and_then(|dir| std::fs::read_dir(dir.trim()).ok()) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

/// A build inside a build must not inherit what cargo told the outer one.
fn clear_cargo_env(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("CARGO_") && text != "CARGO_HOME"
            || text.starts_with("RUSTC")
            || text == "RUSTFLAGS"
            || text == "RUSTUP_TOOLCHAIN"
            || text == "TARGET"
            || text == "HOST";
        if inherited {
            command.env_remove(&name);
        }
    }
}

fn output(command: &mut Command) -> Option<String> {
    // rustup sets these for its children, and then every compiler behaves as the one that is running.
    clear_cargo_env(command);
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

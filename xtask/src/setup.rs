//! Finds what the build and the tests need, and installs what is missing.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::step::{cargo, command, run, run_quietly, say};

/// The version of bpf-linker known to work with the packages below.
const BPF_LINKER: &str = "0.13.0";

/// Debian's packages for the kernel-side compiler and for building the linker.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const LINKER_PACKAGES: [&str; 4] = ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "g++"];

/// Programs the namespace tests talk to, and the Debian package each comes in.
const TEST_PROGRAMS: [(&str, &str); 17] = [
    ("ansible-playbook", "ansible-core"),
    ("ip", "iproute2"),
    ("bpftool", "bpftool"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("h2load", "nghttp2-client"),
    ("haproxy", "haproxy"),
    ("keepalived", "keepalived"),
    // It rotates the packaged agent's log.
    ("logrotate", "logrotate"),
    ("nft", "nftables"),
    // For what its groups of system calls are; it does not run here.
    ("systemd-analyze", "systemd"),
    // With it comes promtool.
    ("prometheus", "prometheus"),
    // The quick starts make their keys with it.
    ("openssl", "openssl"),
    ("tshark", "tshark"),
    // Its daemons are on nobody's path.
    ("vtysh", "frr"),
];

/// Programs that measurements compare with.
const MEASURED_PROGRAMS: [(&str, &str); 4] =
    [("haproxy", "haproxy"), ("ip", "iproute2"), ("keepalived", "keepalived"), ("nft", "nftables")];

/// Makes sure that the kernel side can be built.
pub(crate) fn toolchain() -> anyhow::Result<()> {
    // The sandbox makes its namespaces and links with `ip`.
    packages_for(&[("ip", "iproute2"), ("cc", "gcc")])?;
    if ebpf_toolchain::find_compiler().is_none() {
        say("No Rust compiler here can build for the kernel: installing Debian's");
        install(&COMPILER_PACKAGES)?;
    }
    let Some(compiler) = ebpf_toolchain::find_compiler() else {
        bail!("still no Rust compiler for the kernel side: install a nightly toolchain with rust-src");
    };
    if ebpf_toolchain::find_linker().is_none() {
        say("No bpf-linker here: building one (two to five minutes)");
        install(&LINKER_PACKAGES)?;
        let path = std::env::var("PATH").unwrap_or_default();
        run(cargo()
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked"])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_SYS_221_PREFIX", "/usr/lib/llvm-22")
            .env("PATH", format!("/usr/lib/llvm-22/bin:{path}")))?;
    }
    let Some(linker) = ebpf_toolchain::find_linker() else {
        bail!("bpf-linker was built but does not start: run `bpf-linker --version` to see why");
    };
    say(&format!("Kernel side: {compiler}, linked by {}", linker.display()));
    Ok(())
}

/// Makes sure that the peers of the namespace tests are there.
pub(crate) fn test_programs() -> anyhow::Result<()> {
    packages_for(&TEST_PROGRAMS)
}

/// Makes sure that what measurements compare with is there.
pub(crate) fn measured_programs() -> anyhow::Result<()> {
    packages_for(&MEASURED_PROGRAMS)
}

/// Makes sure that Debian packages can be made and looked through.
pub(crate) fn packaging_programs() -> anyhow::Result<()> {
    packages_for(&[("dpkg-shlibdeps", "dpkg-dev"), ("lintian", "lintian"), ("xz", "xz-utils")])
}

/// Makes sure that libFuzzer can be built.
pub(crate) fn cplusplus() -> anyhow::Result<()> {
    packages_for(&[("cc", "gcc"), ("c++", "g++")])
}

/// Makes sure that rustup's formatter and linter are there.
pub(crate) fn components() -> anyhow::Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let there = cargo()
            .args([subcommand, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !there {
            run_quietly(&format!("installing {component}"), command("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn packages_for(programs: &[(&str, &'static str)]) -> anyhow::Result<()> {
    let missing: Vec<_> =
        programs.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps administrators' programs out of ordinary users' search path.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

/// Installs Debian packages, or says in one sentence what to install.
fn install(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if !on_path("apt-get") {
        bail!("this is not a Debian-like system: install the equivalents of {list}, then run this again");
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root {
        bail!("installing needs root: run `sudo apt-get install {list}`, then run this again");
    }
    let _guard = ServicesStayDown::new()?;
    let apt = |arguments: &[&str]| {
        let mut apt = command("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    run_quietly("apt-get update", &mut apt(&["update", "-q"]))?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    run_quietly(&format!("apt-get install {list}"), &mut apt(&arguments))
        .with_context(|| format!("could not install {list}; install them by hand, then run this again"))
}

/// While this lives, Debian's packages do not start their services: nobody asked for a keepalived on this host.
struct ServicesStayDown {
    ours: bool,
}

impl ServicesStayDown {
    const POLICY: &str = "/usr/sbin/policy-rc.d";
    /// Recognised again where an earlier set-up was interrupted.
    const TEXT: &str =
        "#!/bin/sh\n# Written by `cargo xtask setup` of xvip, to be removed when it is done.\nexit 101\n";

    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let is_foreign = std::fs::read_to_string(Self::POLICY).is_ok_and(|text| text != Self::TEXT);
        if is_foreign {
            return Ok(Self { ours: false });
        }
        std::fs::write(Self::POLICY, Self::TEXT).with_context(|| format!("cannot write {}", Self::POLICY))?;
        std::fs::set_permissions(Self::POLICY, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", Self::POLICY))?;
        Ok(Self { ours: true })
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(Self::POLICY)
        {
            eprintln!("could not remove {}: {error}; remove it by hand", Self::POLICY);
        }
    }
}

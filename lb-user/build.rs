//! Builds the datapath object and puts its path into `XVIP_DATAPATH_OBJECT` for `include_bytes!`.
//!
//! `XVIP_EBPF_STUB=1` leaves the object empty, so that lints and documentation need no kernel-side compiler; an
//! agent built that way refuses to start its datapath.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=XVIP_EBPF_STUB");
    println!("cargo::rerun-if-env-changed=XVIP_EBPF_RUSTC");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not say where to build")?);
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not say where the package is")?);
    let workspace = here.parent().ok_or("the package has no workspace above it")?;
    let target = out.join("xvip-datapath.o");

    if env::var_os("XVIP_EBPF_STUB").is_some_and(|value| value == "1") {
        fs::write(&target, []).map_err(|error| format!("{}: {error}", target.display()))?;
    } else {
        for watched in ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
            println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
        }
        let toolchain = ebpf_toolchain::find()?;
        println!("cargo::rerun-if-changed={}", toolchain.linker.display());
        if let ebpf_toolchain::Compiler::Prebuilt { rustc } = &toolchain.compiler {
            println!("cargo::rerun-if-changed={}", rustc.display());
        }
        let object = ebpf_toolchain::build(&toolchain, workspace, &out.join("ebpf"))?;
        fs::copy(&object, &target).map_err(|error| format!("{}: {error}", object.display()))?;
    }
    println!("cargo::rustc-env=XVIP_DATAPATH_OBJECT={}", target.display());
    Ok(())
}

//! Programs that cargo builds for us, each at a version of its own choice of dependencies, below target/tools.

use std::fs;
use std::path::PathBuf;

use anyhow::bail;

use crate::step::{cargo, run_quietly, say};

/// A program from the registry.
pub(crate) struct Tool {
    /// Its package, and its program.
    pub(crate) name: &'static str,
    /// The version known to work here.
    pub(crate) version: &'static str,
    /// Options for `cargo install`.
    pub(crate) options: &'static [&'static str],
}

impl Tool {
    /// The program, built unless it is there at this version.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        let root = crate::workspace().join("target/tools");
        let program = root.join("bin").join(self.name);
        let wanted = format!("\"{} {} ", self.name, self.version);
        let installed = fs::read_to_string(root.join(".crates.toml")).is_ok_and(|list| list.contains(&wanted));
        if !installed || !program.is_file() {
            say(&format!("No {} {} here: building it (some minutes, once)", self.name, self.version));
            let mut install = cargo();
            install.args(["install", self.name, "--version", self.version, "--locked", "--force"]);
            install.args(self.options).arg("--root").arg(&root);
            install.arg("--target-dir").arg(root.join("build"));
            // Cheap to build is what counts for a program that runs for a second.
            install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
            install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            run_quietly(&format!("cargo install {}", self.name), &mut install)?;
        }
        if !program.is_file() {
            bail!("{} {} was installed without a program of that name", self.name, self.version);
        }
        Ok(program)
    }
}

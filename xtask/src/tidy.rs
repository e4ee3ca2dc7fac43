//! House rules a compiler does not check: which package may depend on which, and that every file says what it owns.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::step::cargo;

/// Packages that must stay pure, and all they may depend on.
const PURE: [(&str, &[&str]); 2] = [("lb-proto", &["lb-ebpf", "thiserror"]), ("lb-ebpf", &[])];

/// A file longer than this wants to be two.
const LONGEST: usize = 800;

/// How far above `unsafe` its reason may begin.
const ABOVE: usize = 6;

/// Checks them all.
pub(crate) fn tidy() -> anyhow::Result<()> {
    let mut faults = dependencies()?;
    for directory in ["lb-ebpf", "lb-user", "tests", "xtask"] {
        for file in rust_files(&crate::workspace().join(directory))? {
            faults.extend(of_file(&file)?);
        }
    }
    // Clippy sees the rest, and not what is built for the kernel alone.
    for file in rust_files(&crate::workspace().join("lb-ebpf/src/bin"))? {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        faults.extend(unexplained(&text).into_iter().map(|line| {
            format!("{}:{line}: `unsafe` without a line // SAFETY: within the {ABOVE} lines above", file.display())
        }));
    }
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{} house rules are broken", faults.len());
}

/// Ordinary dependencies of pure packages that are not on their list; optional ones are not part of the pure build.
fn dependencies() -> anyhow::Result<Vec<String>> {
    let output = cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
    let mut faults = Vec::new();
    for (name, allowed) in PURE {
        let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
        let package = packages.iter().find(|package| package["name"] == name);
        let package = package.with_context(|| format!("there is no package {name}"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let of = dependency["name"].as_str().unwrap_or_default();
            let is_plain = dependency["kind"].is_null() && dependency["optional"] == false;
            if is_plain && !allowed.contains(&of) {
                faults.push(format!("{name} decides and must not depend on {of}"));
            }
        }
    }
    Ok(faults)
}

fn of_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!("{}:1: the first line must say with //! what the file owns", path.display()));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        faults.push(format!("{}: {lines} lines; split it, {LONGEST} are the limit", path.display()));
    }
    Ok(faults)
}

/// Lines, from 1, with a block or an implementation that is `unsafe` and says not why.
fn unexplained(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let is_unsafe = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains("unsafe {") || code.contains("unsafe impl")
    };
    let says_why = |at: usize| lines[at.saturating_sub(ABOVE)..=at].iter().any(|line| line.contains("// SAFETY:"));
    let found = lines.iter().enumerate().filter(|(at, line)| is_unsafe(line) && !says_why(*at));
    found.map(|(at, _)| at + 1).collect()
}

fn rust_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unsafe_says_why() {
        let why = "// SAFETY: it is a number.\n";
        let far = "a();\n".repeat(ABOVE - 1);
        for (text, lines) in [
            (format!("{why}unsafe {{ f() }}\n"), vec![]),
            (format!("{why}{far}unsafe impl Pod for A {{}}\n"), vec![]),
            (format!("{why}{far}b();\nlet c = unsafe {{ f() }};\n"), vec![ABOVE + 2]),
            ("#[unsafe(no_mangle)]\n// unsafe { f() }\nunsafe { f() }\n".to_owned(), vec![3]),
        ] {
            assert_eq!(unexplained(&text), lines, "{text}");
        }
    }
}

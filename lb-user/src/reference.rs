//! The references in docs/reference, written from what the code is made of: the command line's definition, the metrics'
//! definitions, and the annotated configuration, which is compared with what the reader knows.
//!
//! These tests fail when a file there is not what they would write; with XVIP_WRITE_REFERENCE set they write it, which is what
//! `cargo xtask docs` does.

mod commands;
mod configuration;
mod metrics;
mod reasons;

use std::path::Path;

/// What is said at the beginning of each.
const MADE: &str = "<!-- Written by `cargo xtask docs`; a test compares it with the code. Change the code. -->";

/// Compares the file of this name with `text`, or writes it.
#[track_caller]
fn is_current(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("XVIP_WRITE_REFERENCE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let first = there.lines().zip(text.lines()).position(|(is, should)| is != should);
    let line = first.unwrap_or_else(|| there.lines().count().min(text.lines().count())) + 1;
    assert!(there == text, "docs/reference/{name} is stale from line {line} on: run `cargo xtask docs`");
}

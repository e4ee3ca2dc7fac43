//! Every input that is below `corpus/`, through its target: what once broke something, and what reaches most of the code.

use std::fs;
use std::path::{Path, PathBuf};

use xvip_fuzz::TARGETS;

/// Inputs that a corpus has at least; one that was emptied by mistake proves nothing.
const FEWEST: usize = 10;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

#[test]
fn every_input_holds() {
    for (name, target) in TARGETS {
        let directory = corpus(name);
        let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= FEWEST, "{} has {} inputs", directory.display(), files.len());
        for file in files {
            let input = fs::read(&file).unwrap();
            let result = std::panic::catch_unwind(|| target(&input));
            assert!(result.is_ok(), "{name} fails with {}", file.display());
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    for directory in fs::read_dir(corpus("")).unwrap() {
        let name = directory.unwrap().file_name();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{} feeds nothing", name.display());
    }
}

#[test]
fn the_smallest_inputs_hold() {
    for (_, target) in TARGETS {
        for length in [0, 1, 2, 3, 16, 24, 64] {
            for byte in [0, 1, 0x7f, 0xff] {
                target(&vec![byte; length]);
            }
        }
    }
}

//! What is made of the command line's definition: completion scripts and manual pages.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

/// Writes the completion script for a shell.
///
/// # Errors
/// When it cannot be written.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // The generator panics where its output fails, such as at a pipe that was closed.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "xvip", &mut script);
    out.write_all(&script)
}

/// Writes a manual page for the program and each of its commands into `directory`, `xvip.1`, `xvip-status.1` and so on.
///
/// # Errors
/// When one cannot be written.
pub fn pages(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            completions(*shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for word in ["status", "backend", "drain", "step-down", "completions", "log-format"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        pages(dir.path()).unwrap();
        for name in ["xvip", "xvip-run", "xvip-status", "xvip-backend", "xvip-backend-add", "xvip-vrrp-step-down"] {
            let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".TH"), "{name}: {page}");
        }
    }
}

//! docs/reference/commands.md: what `--help` says of each command.

use clap::CommandFactory as _;

use super::{MADE, is_current};
use crate::cli::Cli;

/// A terminal that everybody has; help is wrapped to it.
const COLUMNS: usize = 100;

fn written() -> String {
    let mut cli = Cli::command().term_width(COLUMNS);
    cli.build();
    let mut text = format!(
        "{MADE}\n\n# Commands\n\nWhat `--help` says of each; `-h` says it shorter. The same as manual pages: `xvip man-pages \
         DIRECTORY`. Completions: `xvip completions SHELL`.\n"
    );
    section(&mut cli, &mut text);
    text
}

fn section(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    text.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n")));
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        section(below, text);
    }
}

#[test]
fn the_reference_of_commands_is_current() {
    let text = written();
    for name in ["xvip", "xvip run", "xvip backend add", "xvip vrrp step-down", "xvip man-pages"] {
        assert!(text.contains(&format!("\n## `{name}`\n")), "{name}");
    }
    is_current("commands.md", &text);
}

//! Steps with a headline, and commands that fail in one sentence.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Prints a headline.
pub(crate) fn say(text: &str) {
    eprintln!("==> {text}");
}

/// The current time, for "how long did this take".
#[allow(clippy::disallowed_methods, reason = "progress is shown to people in wall time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A command in the workspace, without standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::workspace()).stdin(Stdio::null());
    command
}

/// Cargo, as the one that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a command whose output people want to see.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = display(command);
    let status = command.status().with_context(|| format!("`{shown}` did not start"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs a command whose output matters only when it fails, showing that time passes.
pub(crate) fn run_quietly(title: &str, command: &mut Command) -> anyhow::Result<()> {
    let shown = display(command);
    let started = now();
    let done = Arc::new(AtomicBool::new(false));
    let (wake, woken) = mpsc::channel::<()>();
    let ticker = {
        let (title, done) = (title.to_owned(), Arc::clone(&done));
        std::thread::spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = woken.recv_timeout(Duration::from_secs(10)) {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                eprintln!("    {title}: {} s so far", started.elapsed().as_secs());
            }
        })
    };
    eprintln!("    {title}");
    let result = command.output();
    done.store(true, Ordering::Relaxed);
    drop(wake);
    // The ticker cannot panic: it only waits and prints.
    let _ = ticker.join();
    let output = result.with_context(|| format!("`{shown}` did not start"))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("`{shown}` failed ({})", output.status);
    }
    Ok(())
}

fn display(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

//! Being asked to stop: Ctrl-C, SIGTERM, a closed terminal, or nobody left who reads what is printed.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// From now on the signals that end a program only ask for it.
pub fn listen() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Whether somebody asked.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Sleeps, but not past being asked; true when it slept to the end.
pub fn sleep(duration: Duration) -> bool {
    let step = Duration::from_millis(20);
    let mut left = duration;
    while !asked() && !left.is_zero() {
        std::thread::sleep(left.min(step));
        left = left.saturating_sub(step);
    }
    !asked()
}

/// Prints a line; when nobody reads any more, that is asking to stop.
pub fn say(line: impl fmt::Display) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        ASKED.store(true, Ordering::Relaxed);
    }
}

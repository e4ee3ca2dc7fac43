//! The sandbox as its users run it: the tour keeps its promises, and nothing stays however it ends. Needs root and the agent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xvip_tests::agent;
use xvip_tests::run::{leftovers, sweep};
use xvip_tests::until::until;

const LIMIT: Duration = Duration::from_secs(90);

/// They measure time, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A sandbox whose output is read from a file.
struct Sandbox {
    child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

impl Sandbox {
    fn start(arguments: &[&str]) -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("output");
        let file = File::create(&output).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xvip-sandbox"));
        command.arg("--xvip").arg(agent::find().unwrap()).args(arguments);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Sandbox { child: command.spawn().unwrap(), output, _dir: dir }
    }

    fn run(&self) -> String {
        format!("xv-{}", self.child.id())
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn wait_for(&self, text: &str) {
        until(text, LIMIT, || self.output().contains(text).then_some(()))
            .unwrap_or_else(|err| panic!("{err}\n{}", self.output()));
    }

    /// Waits for its end; its exit code.
    fn end(&mut self, limit: Duration) -> Option<i32> {
        let status = until("the end of the sandbox", limit, || self.child.try_wait().unwrap());
        status.unwrap_or_else(|err| panic!("{err}\n{}", self.output())).code()
    }

    #[track_caller]
    fn is_clean(&self) {
        assert!(self.output().contains("Clean: "), "{}", self.output());
        assert_eq!(leftovers(&self.run()), Vec::<String>::new());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_tour_keeps_its_promises() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sandbox = Sandbox::start(&["--for", "60s"]);
    let code = sandbox.end(Duration::from_secs(240));
    println!("{}", sandbox.output());
    sandbox.is_clean();
    assert!(sandbox.output().contains("Everything was as promised."));
    assert_eq!(code, Some(0));
}

#[test]
fn nothing_stays_after_a_signal() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut sandbox = Sandbox::start(&["--plain"]);
        sandbox.wait_for("Ctrl-C ends it.");
        assert!(!leftovers(&sandbox.run()).is_empty());
        sandbox.signal(signal);
        assert_eq!(sandbox.end(LIMIT), Some(0), "{}", sandbox.output());
        sandbox.is_clean();
    }
}

#[test]
fn nothing_stays_of_a_sandbox_stopped_while_it_is_built() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sandbox = Sandbox::start(&["--plain"]);
    sandbox.wait_for("Building.");
    sandbox.signal(Signal::SIGINT);
    sandbox.end(LIMIT);
    sandbox.is_clean();
}

#[test]
fn nothing_stays_after_a_panic() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sandbox = Sandbox::start(&["--plain", "--panic"]);
    assert_eq!(sandbox.end(LIMIT), Some(1), "{}", sandbox.output());
    assert!(sandbox.output().contains("as asked for by --panic"), "{}", sandbox.output());
    sandbox.is_clean();
}

#[test]
fn what_a_killed_sandbox_leaves_goes_with_the_next_run() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sandbox = Sandbox::start(&["--plain"]);
    sandbox.wait_for("Ctrl-C ends it.");
    sandbox.signal(Signal::SIGKILL);
    sandbox.end(LIMIT);
    let run = sandbox.run();
    assert!(!leftovers(&run).is_empty());
    until("an empty machine", LIMIT, || {
        sweep().unwrap();
        leftovers(&run).is_empty().then_some(())
    })
    .unwrap();
}

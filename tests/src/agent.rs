//! The shipped agent on one node: its configuration file, its process, and what it says of itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::netns::Netns;
use crate::process::{Process, output_within};
use crate::status::Status;
use crate::unit::Limits;
use crate::until::until;

/// The agent to test: the file named by the variable XVIP, else `release/xvip` in the target directory of this program.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("XVIP") {
        return Ok(PathBuf::from(named));
    }
    let program = std::env::current_exe().context("finding this program")?;
    let found = program.ancestors().map(|dir| dir.join("release/xvip")).find(|path| path.is_file());
    found
        .context("there is no release/xvip to test: build it with `cargo xtask build`, or name it in the variable XVIP")
}

/// `xvip` in a namespace.
#[derive(Debug)]
pub struct Agent {
    xvip: PathBuf,
    netns: Netns,
    process: Option<Process>,
    service_manager: Option<PathBuf>,
    limits: Option<Limits>,
}

impl Agent {
    /// Writes the configuration; starts nothing yet.
    pub fn new(xvip: &Path, netns: &Netns, config: &str) -> Result<Agent> {
        let agent =
            Agent { xvip: xvip.to_owned(), netns: netns.clone(), process: None, service_manager: None, limits: None };
        agent.write_config(config)?;
        Ok(agent)
    }

    /// The admin socket its configuration has to name: `<run>/<role>.sock`.
    pub fn socket_of(netns: &Netns) -> PathBuf {
        netns.run().dir().join(format!("{}.sock", netns.role()))
    }

    /// The node's role, e.g. `lb1`.
    pub fn name(&self) -> &str {
        self.netns.role()
    }

    /// The namespace it lives in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.netns.run().dir().join(format!("{}.toml", self.netns.role()))
    }

    /// Replaces the configuration file; it takes effect at the next start or [`Agent::reload`].
    pub fn write_config(&self, text: &str) -> Result<()> {
        fs::write(self.config(), text).with_context(|| format!("writing {}", self.config().display()))
    }

    /// Runs another build from the next start on.
    pub fn use_build(&mut self, xvip: &Path) {
        self.xvip = xvip.to_owned();
    }

    /// From the next start on it has a service manager that listens at this datagram socket.
    pub fn managed_by(&mut self, socket: &Path) {
        self.service_manager = Some(socket.to_owned());
    }

    /// From the next start on it is held to the limits of a unit.
    pub fn limited_by(&mut self, limits: &Limits) {
        self.limits = Some(limits.clone());
    }

    /// Starts `xvip run` unless it is running.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = self.netns.command(&self.xvip);
        command.arg("run").arg("--config").arg(self.config());
        command.envs(self.service_manager.iter().map(|socket| ("NOTIFY_SOCKET", socket)));
        if let Some(limits) = &self.limits {
            limits.lay_on(&mut command);
        }
        self.process = Some(Process::spawn(self.netns.run(), self.name(), command)?);
        Ok(())
    }

    /// Waits until it answers `xvip status`; an error with the end of its log when it does not.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<Status> {
        self.wait_for("an answer to `xvip status`", limit, |_| true)
    }

    /// Waits until its status is as wanted; an error with the end of its log when it never is.
    pub fn wait_for(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let what = format!("{what} on {}", self.name());
        let seen = until(&what, limit, || {
            if !self.is_running() {
                return Some(None);
            }
            self.status().ok().filter(|status| wanted(status)).map(Some)
        });
        match seen {
            Ok(Some(status)) => Ok(status),
            Ok(None) => {
                bail!("{} ended while waiting for {what}; its last words:\n{}", self.xvip.display(), self.log_tail(20))
            }
            Err(err) => Err(err.context(format!("the last words of {}:\n{}", self.name(), self.log_tail(20)))),
        }
    }

    /// What `xvip status --json` says; an error when nobody answers within a second.
    pub fn status(&self) -> Result<Status> {
        self.asker().ask()
    }

    /// Something that can ask for the status from another thread.
    pub fn asker(&self) -> Asker {
        Asker { xvip: self.xvip.clone(), netns: self.netns.clone() }
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Process id while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.process.as_mut().and_then(|process| process.is_running().then(|| process.pid()))
    }

    /// SIGHUP.
    pub fn reload(&mut self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// SIGKILL, and the corpse collected.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::kill9)
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGTERM, and its end waited for; `None` when it was not running.
    pub fn stop(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        if !self.is_running() {
            return Ok(None);
        }
        self.terminate()?;
        self.process.as_mut().map(|process| process.wait(limit)).transpose()
    }

    /// SIGUSR2, which leaves everything to the next one, and its end waited for.
    pub fn hand_over(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGUSR2)?;
        self.process.as_mut().context("it was never started")?.wait(limit)
    }

    /// `xvip vrrp step-down` with these words; its exit status, and what it said.
    pub fn step_down(&self, words: &[&str]) -> Result<(ExitStatus, String)> {
        let mut command = self.netns.command(&self.xvip);
        command.args(["vrrp", "step-down"]).args(words).arg("--socket").arg(Self::socket_of(&self.netns));
        output_within(command, Duration::from_secs(20))
    }

    /// A command of xvip to this agent; its exit status, and all that it said.
    pub fn command(&self, words: &[&str]) -> Result<(ExitStatus, String)> {
        output_within(self.saying(&[], words, &Self::socket_of(&self.netns)), Duration::from_secs(20))
    }

    /// The same by a user without rights.
    pub fn command_of_nobody(&self, words: &[&str]) -> Result<(ExitStatus, String)> {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        output_within(self.saying(&nobody, words, &Self::socket_of(&self.netns)), Duration::from_secs(20))
    }

    /// The command with its errors among its output.
    fn saying(&self, by: &[&str], words: &[&str], socket: &Path) -> Command {
        let mut command = self.netns.command("sh");
        command.args(["-c", "exec \"$@\" 2>&1", "sh"]).args(by).arg(&self.xvip).args(words).arg("--socket").arg(socket);
        command
    }

    /// SIGSTOP: alive for the kernel, deaf for everybody else.
    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.as_ref().map(|process| process.log_tail(lines)).unwrap_or_default()
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }
}

/// Asks one agent for its status.
#[derive(Debug, Clone)]
pub struct Asker {
    xvip: PathBuf,
    netns: Netns,
}

impl Asker {
    /// What `xvip status --json` says; an error when nobody answers within a second.
    pub fn ask(&self) -> Result<Status> {
        let mut command = self.netns.command(&self.xvip);
        command.args(["status", "--json", "--socket"]).arg(Agent::socket_of(&self.netns));
        let (exit, text) = output_within(command, Duration::from_secs(1))?;
        if !exit.success() {
            bail!("`xvip status` ended with {exit}");
        }
        serde_json::from_str(&text).context("reading what `xvip status --json` printed")
    }
}

/// Replaces each `from` by its `to` in a configuration that ships; an error unless every `from` is there exactly once.
pub fn adapt(config: &str, changes: &[(&str, &str)]) -> Result<String> {
    let mut text = config.to_owned();
    for (from, to) in changes {
        let found = text.matches(from).count();
        if found != 1 {
            bail!("`{from}` is {found} times in the configuration, not once");
        }
        text = text.replacen(from, to, 1);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapting_wants_every_line_once() {
        assert_eq!(adapt("a = 1\nb = 2\n", &[("a = 1", "a = 3")]).unwrap(), "a = 3\nb = 2\n");
        assert!(adapt("a = 1", &[("c = 1", "c = 2")]).is_err());
        assert!(adapt("a = 1\na = 1", &[("a = 1", "a = 2")]).is_err());
    }
}

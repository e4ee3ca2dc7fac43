//! An API server of ours: what a control plane's clients and health checks need of one, as a process in its own namespace.

mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

pub use serve::{Options, pattern, pattern_digest, serve, server_config};

use crate::netns::Netns;
use crate::pki::KeyFiles;
use crate::process::Process;

/// One API server: started, killed and revived at will.
#[derive(Debug)]
pub struct ApiServer {
    program: PathBuf,
    netns: Netns,
    listen: String,
    keys: Option<KeyFiles>,
    process: Option<Process>,
    ready: bool,
}

impl ApiServer {
    /// Starts `program apiserver` (the sandbox's binary) in `netns` under the namespace's role as its name.
    pub fn start(program: &Path, netns: &Netns, listen: &str, keys: &KeyFiles) -> Result<ApiServer> {
        Self::start_with(program, netns, listen, Some(keys))
    }

    /// The same without TLS.
    pub fn start_plain(program: &Path, netns: &Netns, listen: &str) -> Result<ApiServer> {
        Self::start_with(program, netns, listen, None)
    }

    fn start_with(program: &Path, netns: &Netns, listen: &str, keys: Option<&KeyFiles>) -> Result<ApiServer> {
        let (program, netns, listen) = (program.to_owned(), netns.clone(), listen.to_owned());
        let mut server = ApiServer { program, netns, listen, keys: keys.cloned(), process: None, ready: true };
        server.revive()?;
        Ok(server)
    }

    /// Name it gives in its answers.
    pub fn name(&self) -> &str {
        self.netns.role()
    }

    /// The namespace it lives in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Starts it again, ready, unless it is running.
    pub fn revive(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = self.netns.command(&self.program);
        command.arg("apiserver").args(["--listen", &self.listen, "--name", self.name()]);
        if let Some(keys) = &self.keys {
            command.arg("--cert").arg(&keys.cert).arg("--key").arg(&keys.key);
        }
        self.process = Some(Process::spawn(self.netns.run(), self.name(), command)?);
        self.ready = true;
        Ok(())
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// What it was last told to answer on /readyz.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Lets /readyz answer 200 or 500 from now on.
    pub fn set_ready(&mut self, ready: bool) -> Result<()> {
        self.ready = ready;
        self.signal(if ready { Signal::SIGUSR2 } else { Signal::SIGUSR1 })
    }

    /// SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::kill9)
    }

    /// SIGTERM, and its end waited for: /readyz answers 500 for the grace period, then it closes.
    pub fn terminate(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        self.signal(Signal::SIGTERM)?;
        self.process.as_mut().map(|process| process.wait(limit)).transpose()
    }

    /// The last lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.as_ref().map(|process| process.log_tail(lines)).unwrap_or_default()
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }
}

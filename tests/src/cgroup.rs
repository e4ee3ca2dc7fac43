//! Cgroups of version 2, one for each host of a test: a program attached to one sees the processes below it alone.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::Run;
use crate::until::until;

/// A cgroup named after its run; it goes with its value, once nobody is in it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Whose it is; of nobody's it is not ours to remove.
    run: Option<Arc<Run>>,
}

impl Cgroup {
    /// Makes `xv-<pid>-<role>` below the root of the hierarchy.
    pub fn create(run: &Arc<Run>, role: &str) -> Result<Cgroup> {
        let path = root()?.join(run.named(role));
        fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
        Ok(Cgroup { path, run: Some(run.clone()) })
    }

    /// One that somebody else removes.
    pub fn known(path: &Path) -> Cgroup {
        Cgroup { path: path.to_owned(), run: None }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a process in, with what it starts from now on.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("moving {pid} to {}", self.path.display()))
    }

    /// Lets a command begin inside.
    pub fn enter_at_exec(&self, command: &mut Command) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        let file =
            fs::OpenOptions::new().write(true).open(&procs).with_context(|| format!("opening {}", procs.display()))?;
        let enter = move || {
            let mut file: &File = &file;
            file.write_all(b"0")
        };
        // SAFETY: between fork and exec the closure makes one system call on an open descriptor and allocates nothing.
        unsafe {
            command.pre_exec(enter);
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.run.is_none() {
            return;
        }
        // A process that has just been killed is still in it.
        let gone = || match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => None,
            _ => Some(()),
        };
        let _ = until("the cgroup to be empty", Duration::from_secs(5), gone);
    }
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn root() -> Result<PathBuf> {
    xvip::bpf::cgroup_root().context("the tests need cgroup v2")
}

//! Named network namespaces that end with their value.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::run::{MARKER, NETNS_DIR, Run, remove_namespace};

/// A network namespace with a name under /run/netns and its loopback up; unnamed again when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Netns {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    role: String,
    file: Arc<File>,
    run: Arc<Run>,
}

impl Netns {
    /// Makes `xv-<pid>-<role>`.
    pub fn create(run: &Arc<Run>, role: &str) -> Result<Netns> {
        let name = run.named(role);
        let path = Path::new(NETNS_DIR).join(&name);
        make_namespace(&path).with_context(|| format!("making the namespace {name}"))?;
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let inner = Inner { name, role: role.to_owned(), file: Arc::new(file), run: run.clone() };
        let netns = Netns { inner: Arc::new(inner) };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Name under /run/netns, for `ip -n` and messages.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What it was made for: the name without the run.
    pub fn role(&self) -> &str {
        &self.inner.role
    }

    /// The run it belongs to.
    pub fn run(&self) -> &Arc<Run> {
        &self.inner.run
    }

    /// For `nsenter --net=…`.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.inner.name)
    }

    /// Runs `body` on a thread of its own inside the namespace and waits for it.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| -> Result<T> {
                setns(&*self.inner.file, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
                Ok(body())
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a thread that stays inside the namespace. A runtime built on it must be a current-thread one: other threads would not be inside.
    pub fn spawn<T: Send + 'static>(
        &self, name: &str, body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let file = self.inner.file.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            setns(&*file, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
            Ok(body())
        })?;
        Ok(thread)
    }

    /// A command that will run inside the namespace and still sees the host's mounts, /sys/fs/bpf included. Works for tokio by `.into()`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env(MARKER, self.inner.run.name());
        let file = self.inner.file.clone();
        // SAFETY: between fork and exec the closure makes one system call on an open descriptor and allocates nothing.
        unsafe {
            command.pre_exec(move || setns(&*file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        }
        command
    }

    /// Runs `ip` with these words inside the namespace and returns what it printed.
    pub fn ip(&self, words: &str) -> Result<String> {
        let output = self
            .command("ip")
            .args(words.split_whitespace())
            .output()
            .context("the program `ip` is needed: install the package iproute2")?;
        if !output.status.success() {
            bail!("`ip {words}` in {}: {}", self.inner.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets a value under /proc/sys as the namespace sees it; `key` with slashes.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(Path::new("/proc/sys").join(key), value))?
            .with_context(|| format!("setting {key} to {value} in {}", self.inner.name))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = remove_namespace(&self.name);
    }
}

/// What `ip netns add` does, without making /run/netns a mount point that would stay.
fn make_namespace(path: &Path) -> Result<()> {
    let create = || {
        fs::create_dir_all(NETNS_DIR)?;
        fs::OpenOptions::new().write(true).create_new(true).open(path)
    };
    match create() {
        // Another run has just removed the empty directory.
        Err(err) if err.kind() == io::ErrorKind::NotFound => create(),
        other => other,
    }?;
    let made = thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok(())
        });
        inside.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

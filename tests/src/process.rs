//! Child processes that cannot outlive this one.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::run::{MARKER, Run};
use crate::until::until;

/// A running child in a process group of its own; killed, with its group, when the value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with its output appended to `<name>.log` in the run's directory.
    pub fn spawn(run: &Arc<Run>, name: &str, mut command: Command) -> Result<Process> {
        let log = run.dir().join(format!("{name}.log"));
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        command
            .env(MARKER, run.name())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = spawn_bound(command).with_context(|| format!("starting {program}"))?;
        Ok(Process { name: name.to_owned(), child, log, ended: None })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone; nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_running() {
            kill(self.raw_pid(), signal).with_context(|| format!("sending {signal} to {}", self.name))?;
        }
        Ok(())
    }

    /// SIGKILL, and the corpse collected.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(5)).map(drop)
    }

    /// How it ended, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {} (pid {})", self.name, self.pid());
        until(&what, limit, || self.exit_status())
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default(), lines)
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = killpg(self.raw_pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// The kernel's number of a thread, by the first 15 bytes of its name; `None` where the process has none of that name.
#[must_use]
pub fn thread_of(pid: u32, name: &str) -> Option<u32> {
    let is_it = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().map(|entry| entry.path());
    threads.filter(|path| is_it(path)).find_map(|path| path.file_name()?.to_str()?.parse().ok())
}

/// A program that is installed, also where administrators' programs are not in the search path.
pub fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(Into::into));
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {name} to compare with: install it, as `cargo xtask measure` does"))
}

/// Runs a command to its end or to `limit`, whichever comes first, and returns its standard output; it must print little.
pub fn output_within(mut command: Command, limit: Duration) -> Result<(ExitStatus, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut stdout = child.stdout.take().context("no standard output")?;
    let reader = thread::spawn(move || io::read_to_string(&mut stdout));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() >= limit {
            let _ = child.kill();
            let _ = child.wait();
            return Err(anyhow!("no answer within {limit:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    Ok((status, text))
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The death signal is bound to the thread that forks, so one thread that never ends forks for all.
static FORKER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, answer) in inbox {
            let _ = answer.send(command.spawn());
        }
    });
    orders
});

fn spawn_bound(mut command: Command) -> Result<Child> {
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            if std::os::unix::process::parent_id() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let (answer, child) = mpsc::channel();
    FORKER.send((command, answer)).map_err(|_| anyhow!("the forking thread is gone"))?;
    Ok(child.recv().map_err(|_| anyhow!("the forking thread is gone"))??)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_takes_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn threads_are_found_by_name() {
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("some name".to_owned()).spawn(move || ended.recv()).unwrap();
        until("the thread", Duration::from_secs(10), || thread_of(std::process::id(), "some name")).unwrap();
        assert_eq!(thread_of(std::process::id(), "another name"), None);
        drop(end);
        assert!(thread.join().unwrap().is_err());
    }

    #[test]
    fn a_silent_command_is_given_up() {
        let mut sleep = Command::new("sleep");
        sleep.arg("30");
        assert!(output_within(sleep, Duration::from_millis(50)).is_err());
        let (status, text) = output_within(Command::new("pwd"), Duration::from_secs(10)).unwrap();
        assert!(status.success() && text.starts_with('/'));
    }
}

//! A run: the name and the directory under which everything made by the harness lives, and the sweep of what dead runs left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What every name made here starts with.
pub const PREFIX: &str = "xv-";
/// Every child of a run carries the run's name in this variable.
pub const MARKER: &str = "XV_RUN";
/// Where named network namespaces live, as iproute2 and nsenter expect them.
pub const NETNS_DIR: &str = "/run/netns";
/// Where agents pin their kernel objects, one directory per node.
pub const PIN_DIR: &str = "/sys/fs/bpf/xvip";
const RUN_DIR: &str = "/run";
/// Where agents keep the host's settings from before, one file per node.
const KEPT_DIR: &str = "/run/xvip";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The owner of a set of namespaces, processes and files; dropping the last handle removes the directory and the pins.
#[derive(Debug)]
pub struct Run {
    name: String,
    dir: PathBuf,
}

impl Run {
    /// Sweeps what dead runs left, then makes the directory of a new one. Needs root.
    pub fn start() -> Result<Arc<Run>> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces need root: run this as root, or with sudo");
        }
        sweep().context("removing what an earlier run left")?;
        let pid = std::process::id();
        let name = match COUNTER.fetch_add(1, Ordering::Relaxed) {
            0 => format!("{PREFIX}{pid}"),
            n => format!("{PREFIX}{pid}.{n}"),
        };
        // The owner is written before the directory gets its name: a sweep never meets one without.
        let dir = Path::new(RUN_DIR).join(&name);
        let unnamed = Path::new(RUN_DIR).join(format!(".{name}"));
        let _ = fs::remove_dir_all(&unnamed);
        fs::create_dir(&unnamed).with_context(|| format!("making {}", unnamed.display()))?;
        let started = start_time(pid).context("reading /proc/self/stat")?;
        fs::write(unnamed.join("owner"), started.to_string())?;
        fs::rename(&unnamed, &dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Arc::new(Run { name, dir }))
    }

    /// `xv-<pid>`, with `.<n>` behind it for the second and later runs of a process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Directory for sockets, configuration, certificates and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of something of this run: `xv-<pid>-<role>`.
    pub fn named(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remove_pins(&self.name);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What is still there of the run called `run`, in words; empty when it is clean.
pub fn leftovers(run: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in names_in(Path::new(NETNS_DIR)).filter(|name| belongs(name, run)) {
        found.push(format!("namespace {NETNS_DIR}/{name}"));
    }
    for name in names_in(Path::new(PIN_DIR)).filter(|name| belongs(&node_of(name), run)) {
        found.push(format!("pins {PIN_DIR}/{name}"));
    }
    for name in names_in(Path::new(KEPT_DIR)).filter(|name| belongs(name, run)) {
        found.push(format!("file {KEPT_DIR}/{name}"));
    }
    for name in names_in(&cgroups()).filter(|name| belongs(name, run)) {
        found.push(format!("cgroup {name}"));
    }
    let dir = Path::new(RUN_DIR).join(run);
    if dir.exists() {
        found.push(format!("directory {}", dir.display()));
    }
    for name in names_in(Path::new("/sys/class/net")).filter(|name| belongs(name, run)) {
        found.push(format!("link {name}"));
    }
    for mount in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        if mount.split(' ').nth(4).is_some_and(|at| at.rsplit('/').any(|part| belongs(part, run))) {
            found.push(format!("mount {mount}"));
        }
    }
    found.extend(marked_processes(run).into_iter().map(|pid| format!("process {pid}")));
    found
}

/// Removes everything of runs whose process is gone and returns their names.
pub fn sweep() -> Result<Vec<String>> {
    let named = names_in(Path::new(RUN_DIR))
        .chain(names_in(&cgroups()))
        .chain(names_in(Path::new(NETNS_DIR)))
        .chain(names_in(Path::new(PIN_DIR)).map(|name| node_of(&name)));
    let mut dead: Vec<String> = named.filter_map(|name| run_of(&name).map(str::to_owned)).collect();
    dead.sort();
    dead.dedup();
    dead.retain(|run| !is_alive(run));
    for run in &dead {
        for pid in marked_processes(run) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for name in names_in(Path::new(NETNS_DIR)).filter(|name| belongs(name, run)) {
            // Another run's sweep may have been quicker; so below.
            match remove_namespace(&name) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(err).with_context(|| format!("removing the namespace {name}"));
                }
                _ => {}
            }
        }
        remove_pins(run);
        for name in names_in(&cgroups()).filter(|name| belongs(name, run)) {
            // Busy while a killed process is still in it; the next sweep comes again.
            let _ = fs::remove_dir(cgroups().join(name));
        }
        let dir = Path::new(RUN_DIR).join(run);
        match fs::remove_dir_all(&dir) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("removing {}", dir.display()));
            }
            _ => {}
        }
    }
    Ok(dead)
}

/// Unmounts and unlinks a named namespace; the kernel frees it with the last process in it.
pub(crate) fn remove_namespace(name: &str) -> io::Result<()> {
    let path = Path::new(NETNS_DIR).join(name);
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    fs::remove_file(&path)?;
    // Only when it is empty and no mount point of iproute2's.
    let _ = fs::remove_dir(NETNS_DIR);
    Ok(())
}

fn remove_pins(run: &str) {
    remove_kept(|node| belongs(node, run));
}

/// Removes what the agent of a node, which has ended, pinned and kept: what does not survive the end of a machine.
pub fn forget_node(node: &str) {
    remove_kept(|name| name == node);
}

fn remove_kept(is_its: impl Fn(&str) -> bool) {
    for name in names_in(Path::new(PIN_DIR)).filter(|name| is_its(&node_of(name))) {
        let _ = fs::remove_dir_all(Path::new(PIN_DIR).join(name));
    }
    let _ = fs::remove_dir(PIN_DIR);
    for name in names_in(Path::new(KEPT_DIR)).filter(|name| is_its(name)) {
        let _ = fs::remove_file(Path::new(KEPT_DIR).join(name));
    }
    let _ = fs::remove_dir(KEPT_DIR);
}

/// Where cgroups of runs are, if there is such a place.
fn cgroups() -> PathBuf {
    xvip::bpf::cgroup_root().unwrap_or_else(|_| PathBuf::from("/nowhere"))
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// The node whose pins a directory holds: in their names colons stand for dots.
pub fn node_of(directory: &str) -> String {
    directory.replace(':', ".")
}

/// The run a name belongs to: `xv-12` of `xv-12-lb1`, `xv-12.1` of `xv-12.1`.
fn run_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX)?;
    let len = rest.find('-').unwrap_or(rest.len());
    let id = rest.get(..len)?;
    pid_of(id)?;
    name.get(..PREFIX.len() + len)
}

fn pid_of(id: &str) -> Option<u32> {
    let (pid, serial) = id.split_once('.').unwrap_or((id, "0"));
    serial.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn belongs(name: &str, run: &str) -> bool {
    run_of(name) == Some(run)
}

/// A run lives while the very process that made it does; without its directory, while any process has its number.
fn is_alive(run: &str) -> bool {
    let Some(pid) = run.strip_prefix(PREFIX).and_then(pid_of) else {
        return true;
    };
    let Some(started) = start_time(pid) else {
        return false;
    };
    match fs::read_to_string(Path::new(RUN_DIR).join(run).join("owner")) {
        Ok(owner) => owner.trim().parse() == Ok(started),
        Err(_) => true,
    }
}

/// Clock ticks between boot and the start of a process (proc(5), field 22 of stat); `None` when there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything, blanks and parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn marked_processes(run: &str) -> Vec<i32> {
    let marker = format!("{MARKER}={run}");
    names_in(Path::new("/proc"))
        .filter_map(|name| name.parse::<i32>().ok())
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_run() {
        assert_eq!(run_of("xv-12-lb1"), Some("xv-12"));
        assert_eq!(run_of("xv-12.3-lb1"), Some("xv-12.3"));
        assert_eq!(run_of("xv-12"), Some("xv-12"));
        assert_eq!(run_of("xv-some-lb1"), None);
        assert_eq!(run_of("eth0"), None);
        assert!(belongs("xv-12-a", "xv-12"));
        assert!(!belongs("xv-12.1-a", "xv-12"));
        assert!(!belongs("xv-123-a", "xv-12"));
    }

    #[test]
    fn own_process_is_alive_and_an_impossible_one_is_not() {
        assert!(is_alive(&format!("{PREFIX}{}", std::process::id())));
        assert!(!is_alive("xv-4294967295"));
        assert!(start_time(1).is_some());
    }
}

//! A copy of this machine's files to install packages into, in a mount namespace of its own: what is changed there is seen by
//! nobody else, and gone with it. Network and processes are those of whoever enters.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Netns;
use crate::process::{Process, output_within};
use crate::run::Run;
use crate::until::until;

/// Packages may take a while to unpack on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Makes the mounts, says so, and stays, as do they. `$1` is the directory for them, `$2` that of the run. The
/// file system of pins is a new one: those of others are out of reach for whatever a package does on purge.
const MOUNTS: &str = r#"
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /sys "$1/root/sys"
mount --rbind /dev "$1/root/dev"
mount -t bpf none "$1/root/sys/fs/bpf"
mount -t tmpfs none "$1/root/run"
mount -t tmpfs none "$1/root/tmp"
mkdir -p "$1/root/run/systemd/system" "$1/root$2"
mount --bind "$2" "$1/root$2"
touch "$1/made"
exec sleep infinity
"#;

/// The copy.
#[derive(Debug)]
pub struct Chroot {
    place: PathBuf,
    holder: Process,
}

impl Chroot {
    /// Makes it. Needs root and overlayfs.
    pub fn create(run: &Arc<Run>) -> Result<Chroot> {
        let place = run.dir().join("chroot");
        fs::create_dir(&place)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-c", MOUNTS, "sh"]).arg(&place).arg(run.dir());
        let mut chroot = Chroot { holder: Process::spawn(run, "chroot", command)?, place };
        let made = until("the copy of the machine's files", LIMIT, || {
            if !chroot.holder.is_running() {
                return Some(false);
            }
            chroot.outside("made").exists().then_some(true)
        })?;
        made.then_some(()).with_context(|| format!("making it failed: {}", chroot.holder.log_tail(5)))?;
        Ok(chroot)
    }

    /// A file of its root directory, as seen from here.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.outside("root").join(inside.trim_start_matches('/'))
    }

    /// Names of what is mounted there are reached by way of the process that holds the mounts.
    fn outside(&self, name: &str) -> PathBuf {
        let place = self.place.strip_prefix("/").unwrap_or(&self.place);
        PathBuf::from(format!("/proc/{}/root", self.holder.pid())).join(place).join(name)
    }

    /// A command in it, on the network of `netns`.
    pub fn command(&self, netns: &Netns, program: impl AsRef<OsStr>) -> Command {
        let mut command = netns.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()));
        command.arg("chroot").arg(self.place.join("root")).arg(program);
        command
    }

    /// Runs a shell's line in it; its exit status and all that it said.
    pub fn sh(&self, netns: &Netns, line: &str) -> Result<(ExitStatus, String)> {
        let mut command = self.command(netns, "sh");
        command.args(["-c", &format!("exec 2>&1; {line}")]).env("DEBIAN_FRONTEND", "noninteractive");
        output_within(command, LIMIT)
    }

    /// What is in it and differs from the machine's files, except what `known` holds the beginnings of.
    pub fn changes(&self, known: &[&str]) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        list(&self.outside("upper"), Path::new("/"), &mut found)?;
        for volatile in ["run", "sys/fs/bpf"] {
            list(&self.path(volatile), &Path::new("/").join(volatile), &mut found)?;
        }
        found.retain(|path| !known.iter().any(|known| path.starts_with(known)));
        Ok(found)
    }
}

/// All files and directories below one, by the names that they have below `as_seen`.
fn list(directory: &Path, as_seen: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let name = as_seen.join(entry.file_name());
        found.insert(name.display().to_string());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &name, found)?;
        }
    }
    Ok(())
}

//! A host as its user sees it: a name, files, mounts and a cgroup of its own, in which commands do what they do on a host.
//!
//! What is written to /etc, /usr/local and /var/lib, and all of /run and /sys/fs/bpf, is the host's alone and ends with it.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cgroup::{self, Cgroup};
use crate::netns::Netns;
use crate::process::{Process, output_within};
use crate::run::Run;
use crate::until::until;

/// Where commands begin.
pub const HOME: &str = "/srv";

/// Makes the host's own mounts: $1 is its name, $2 a directory, $3 the cgroup hierarchy, $4 where commands begin.
const MOUNTS: &str = r#"
set -e
echo "$1" > /proc/sys/kernel/hostname
mount -t tmpfs tmpfs "$2"
for of in etc usr/local var/lib; do
    mkdir -p "$2/$of" "$2/$of.work"
    mount -t overlay overlay -o "lowerdir=/$of,upperdir=$2/$of,workdir=$2/$of.work" "/$of"
done
mount -t tmpfs tmpfs "$4"
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
umount -l "$3"
mount -t cgroup2 cgroup2 "$3"
echo ready
exec sleep infinity
"#;
/// For each wait: far beyond what it takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A host; its mounts go with its first process, its cgroup last.
#[derive(Debug)]
pub struct Node {
    /// The agent of its service, while one was started.
    pub service: Option<Process>,
    init: Process,
    netns: Netns,
    run: Arc<Run>,
    cgroup: Cgroup,
}

impl Node {
    /// A host in this namespace, with the namespace's role for its name.
    pub fn start(netns: &Netns) -> Result<Node> {
        let run = netns.run().clone();
        let (name, cgroup) = (netns.role(), Cgroup::create(&run, netns.role())?);
        let own = run.dir().join(format!("{name}.files"));
        fs::create_dir(&own).with_context(|| format!("making {}", own.display()))?;
        let mut command = netns.command("unshare");
        command.args(["--mount", "--uts", "--cgroup", "sh", "-c", MOUNTS, "sh", name]);
        command.arg(&own).arg(cgroup::root()?).arg(HOME);
        cgroup.enter_at_exec(&mut command)?;
        let mut init = Process::spawn(&run, &format!("{name}-init"), command)?;
        let begun = until(&format!("the mounts of {name}"), LIMIT, || match init.log_tail(1).as_str() {
            "ready" => Some(true),
            _ => (!init.is_running()).then_some(false),
        })?;
        ensure!(begun, "the mounts of {name} cannot be made: {}", init.log_tail(5));
        Ok(Node { service: None, init, netns: netns.clone(), run, cgroup })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.netns.role()
    }

    /// Its network.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A command on the host.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.netns.command("nsenter");
        command.arg(format!("--target={}", self.init.pid())).args(["--mount", "--uts", "--cgroup"]);
        command.args(["--", program]);
        self.cgroup.enter_at_exec(&mut command)?;
        Ok(command)
    }

    /// Runs lines of shell as somebody types them, up to the first that fails; how that ended, and all that they said.
    pub fn shell(&self, lines: &str) -> Result<(ExitStatus, String)> {
        let mut command = self.command("sh")?;
        command.args(["-c", "exec 2>&1; set -e; cd \"$1\"; eval \"$2\"", "sh", HOME, lines]);
        output_within(command, LIMIT)
    }

    /// The same, which has to end well.
    pub fn succeed(&self, lines: &str) -> Result<String> {
        let (status, said) = self.shell(lines).with_context(|| format!("on {}: {lines}", self.name()))?;
        if !status.success() {
            bail!("on {}: {lines}\n{status}: {said}", self.name());
        }
        Ok(said)
    }

    /// Puts a file of this machine among those in [`HOME`].
    pub fn bring(&self, file: &Path) -> Result<()> {
        self.succeed(&format!("cp '{}' .", file.display())).map(drop)
    }

    /// `systemctl start NAME`: what the unit that is installed there says to run, until it answers as `ready` says.
    pub fn start_unit(&mut self, name: &str, ready: &str) -> Result<()> {
        let unit = self.succeed(&format!("cat /etc/systemd/system/{name}.service"))?;
        let settings = |key: &str| {
            let of_key = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
            unit.lines().filter_map(of_key).collect::<Vec<_>>()
        };
        for directory in settings("RuntimeDirectory") {
            self.succeed(&format!("mkdir -p /run/{directory}"))?;
        }
        for path in settings("ConditionPathExists") {
            self.succeed(&format!("test -e {path}"))?;
        }
        let starts = settings("ExecStart");
        let [start] = starts.as_slice() else { bail!("{name}.service has no ExecStart, or several: {starts:?}") };
        let mut words = start.split_whitespace();
        let mut command = self.command(words.next().context("ExecStart is empty")?)?;
        command.args(words);
        let mut service = Process::spawn(&self.run, self.name(), command)?;
        let answers = until(&format!("`{ready}` on {}", self.name()), LIMIT, || {
            let (status, _) = self.shell(ready).ok()?;
            (status.success() || !service.is_running()).then_some(status.success())
        })?;
        ensure!(answers, "{start} on {} ended: {}", self.name(), service.log_tail(20));
        self.service = Some(service);
        Ok(())
    }
}

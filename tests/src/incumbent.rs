//! haproxy and keepalived on the nodes of a deployment, by the files that `xvip import` is tried on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::agent::adapt;
use crate::deployment::{Deployment, Host};
use crate::process::{Process, find_program};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lb-user/src/import/testdata");
/// For either to end.
const LIMIT: Duration = Duration::from_secs(20);

/// What a node runs on before xvip.
#[derive(Debug)]
pub struct Incumbent {
    haproxy_cfg: Option<PathBuf>,
    keepalived_conf: PathBuf,
    haproxy: Option<Process>,
    keepalived: Option<Process>,
}

impl Incumbent {
    /// Starts both as the node's files say, but that the processes stay in the foreground; keepalived alone where there is no file
    /// for haproxy.
    pub fn start(deployment: &Deployment, node: usize) -> Result<Incumbent> {
        let haproxy_cfg = Some(files(deployment).join("haproxy.cfg")).filter(|path| path.is_file());
        let keepalived_conf = file(deployment, &deployment.hosts[node], "keepalived.conf");
        let mut incumbent = Incumbent { haproxy_cfg, keepalived_conf, haproxy: None, keepalived: None };
        incumbent.start_haproxy(deployment, node)?;
        incumbent.start_keepalived(deployment, node)?;
        Ok(incumbent)
    }

    /// `systemctl start haproxy`; nothing where there is no file for it.
    pub fn start_haproxy(&mut self, deployment: &Deployment, node: usize) -> Result<()> {
        let host = &deployment.hosts[node];
        let path = self.haproxy_cfg.as_deref();
        self.haproxy = path.map(|path| start_haproxy(deployment, host, path)).transpose()?;
        Ok(())
    }

    /// `systemctl start keepalived`, after haproxy, whose process its script asks for.
    pub fn start_keepalived(&mut self, deployment: &Deployment, node: usize) -> Result<()> {
        let host = &deployment.hosts[node];
        let (named, content) = script(deployment, self.haproxy.as_ref())?;
        let script = file(deployment, host, "check.sh");
        fs::write(&script, content)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let conf = adapt(&keepalived(deployment, node)?, &[(named, &script.display().to_string())])?;
        fs::write(&self.keepalived_conf, conf)?;
        let mut command = host.netns.command(find_program("keepalived")?);
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(&self.keepalived_conf);
        command.arg("--pid").arg(file(deployment, host, "pid"));
        command.arg("--vrrp_pid").arg(file(deployment, host, "vrrp.pid"));
        host.cgroup.enter_at_exec(&mut command)?;
        self.keepalived = Some(Process::spawn(&deployment.run, &format!("{}-keepalived", host.name), command)?);
        Ok(())
    }

    /// Whether keepalived has said since it was last started that it takes part, and is a backup.
    pub fn is_backup(&self) -> bool {
        let said = self.keepalived.as_ref().map(|process| process.log_tail(1000)).unwrap_or_default();
        said.rsplit("Starting Keepalived").next().is_some_and(|text| text.contains("Entering BACKUP STATE"))
    }

    /// Names the node's files to `xvip import`.
    pub fn name_files(&self, import: &mut Command) {
        if let Some(path) = &self.haproxy_cfg {
            import.arg("--haproxy").arg(path);
        }
        import.arg("--keepalived").arg(&self.keepalived_conf);
    }

    /// `systemctl stop keepalived`
    pub fn stop_keepalived(&mut self) -> Result<()> {
        let keepalived = self.keepalived.as_mut().context("there is no keepalived")?;
        keepalived.signal(Signal::SIGTERM)?;
        keepalived.wait(LIMIT).map(drop)
    }

    /// Whether there is more than keepalived.
    pub fn has_haproxy(&self) -> bool {
        self.haproxy.is_some()
    }

    /// `systemctl stop haproxy`
    pub fn stop_haproxy(&mut self) -> Result<()> {
        let haproxy = self.haproxy.as_mut().context("there is no haproxy")?;
        haproxy.signal(Signal::SIGTERM)?;
        haproxy.wait(LIMIT).map(drop)
    }
}

/// The directory with a deployment's files.
fn files(deployment: &Deployment) -> PathBuf {
    Path::new(FILES).join(deployment.plan.name)
}

/// A file of one host.
fn file(deployment: &Deployment, host: &Host, suffix: &str) -> PathBuf {
    deployment.run.dir().join(format!("{}.{suffix}", host.name))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn start_haproxy(deployment: &Deployment, host: &Host, path: &Path) -> Result<Process> {
    // haproxy 2.5 and later know nbproc no more.
    let text: String = read(path)?.lines().filter(|line| line.trim() != "nbproc 1").flat_map(|l| [l, "\n"]).collect();
    // 50,000 connections want more files than a test may open; the nodes of a test share /var/run.
    let socket = file(deployment, host, "haproxy.sock").display().to_string();
    let text = text.replace("maxconn 50000", "maxconn 4000").replace("/var/run/haproxy-admin.sock", &socket);
    let here = file(deployment, host, "haproxy.cfg");
    fs::write(&here, text)?;
    let mut command = host.netns.command(find_program("haproxy")?);
    command.arg("-db").arg("-f").arg(&here);
    host.cgroup.enter_at_exec(&mut command)?;
    Process::spawn(&deployment.run, &format!("{}-haproxy", host.name), command)
}

/// What keepalived's file calls its script, and what that does here.
fn script(deployment: &Deployment, haproxy: Option<&Process>) -> Result<(&'static str, String)> {
    let named = match deployment.plan.name {
        "external-pair" => "/data/keepalived/check_haproxy.sh",
        "stacked-workers" => "killall -0 haproxy",
        _ => "/etc/keepalived/check_apiserver.sh",
    };
    if named.contains("apiserver") {
        let vip = deployment.vip();
        let text = read(&Path::new(FILES).join("vip-only/check_apiserver.sh"))?;
        let text = text.replace("10.0.1.234", &vip.ip().to_string()).replace("6443", &vip.port().to_string());
        return Ok((named, text));
    }
    // The nodes of a test share the list of processes: a name would find the others' too.
    let haproxy = haproxy.context("the script asks for haproxy, and there is none")?;
    Ok((named, format!("#!/bin/sh\nkill -0 {}\n", haproxy.pid())))
}

/// keepalived.conf of a node: the published one is that of the first.
fn keepalived(deployment: &Deployment, node: usize) -> Result<String> {
    let own = files(deployment).join(format!("keepalived-{}.conf", deployment.hosts[node].name));
    if own.is_file() {
        return read(&own);
    }
    let changes: &[(&str, &str)] = match (deployment.plan.name, node) {
        ("external-pair", 1) => {
            &[("state MASTER", "state BACKUP"), ("priority 100", "priority 90"), ("haproxy1", "haproxy2")]
        }
        // With the comma the second node does not hear the first, and both have the VIP.
        ("stacked-nopreempt", 0) => &[("192.168.238.131, ", "192.168.238.131 ")],
        ("stacked-nopreempt", 1) => &[
            ("state MASTER", "state BACKUP"),
            ("priority 100 ", "priority 99 "),
            ("mcast_src_ip 192.168.238.130", "mcast_src_ip 192.168.238.131"),
            ("unicast_src_ip 192.168.238.130", "unicast_src_ip 192.168.238.131"),
            ("192.168.238.131, ", "192.168.238.130 "),
        ],
        ("stacked-nopreempt", 2) => &[
            ("state MASTER", "state BACKUP"),
            ("priority 100 ", "priority 98 "),
            ("mcast_src_ip 192.168.238.130", "mcast_src_ip 192.168.238.132"),
            ("unicast_src_ip 192.168.238.130", "unicast_src_ip 192.168.238.132"),
            ("192.168.238.131, ", "192.168.238.130 "),
            ("192.168.238.132\n", "192.168.238.131\n"),
        ],
        ("vip-only", 1) => &[("state MASTER", "state BACKUP"), ("priority 101", "priority 100")],
        ("vip-only", 2) => &[("state MASTER", "state BACKUP"), ("priority 101", "priority 99")],
        _ => &[],
    };
    adapt(&read(&files(deployment).join("keepalived.conf"))?, changes)
}

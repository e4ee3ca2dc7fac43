//! keepalived as the other router of a virtual address.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::process::Process;
use crate::until::until;

const LIMIT: Duration = Duration::from_secs(20);

/// How it takes part in the election.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// VRRP priority.
    pub priority: u8,
    /// Its own address and its peer's; none: multicast.
    pub unicast: Option<(&'a str, &'a str)>,
    /// What it holds, with prefix lengths; all of one family, which is that of its adverts.
    pub addresses: &'a [&'a str],
    /// Version 2 with this password and an advert a second, instead of version 3.
    pub password: Option<&'a str>,
}

/// A running keepalived that only does VRRP: version 3, an advert every 100 ms unless told otherwise, VRID 51.
#[derive(Debug)]
pub struct Keepalived {
    netns: Netns,
    process: Process,
}

impl Keepalived {
    /// Starts it in `netns`; it says what it does in the log of the run called `keepalived`.
    pub fn start(netns: &Netns, settings: Settings<'_>) -> Result<Keepalived> {
        let dir = netns.run().dir();
        let config = dir.join("keepalived.conf");
        fs::write(&config, text(settings))?;
        let mut command = netns.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"]).arg(&config);
        command.arg("--pid").arg(dir.join("keepalived.pid"));
        command.arg("--vrrp_pid").arg(dir.join("keepalived.vrrp.pid"));
        // Otherwise the last one's is read.
        let _ = fs::remove_file(dir.join("keepalived.vrrp.pid"));
        let process = Process::spawn(netns.run(), "keepalived", command)
            .context("the program `keepalived` is needed: install the package keepalived")?;
        let keepalived = Keepalived { netns: netns.clone(), process };
        until("keepalived's router to start", LIMIT, || keepalived.router().ok())
            .with_context(|| keepalived.process.log_tail(20))?;
        Ok(keepalived)
    }

    /// SIGTERM: it gives the addresses up by an advert of priority 0 and removes them.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(LIMIT)?;
        if !status.success() {
            bail!("keepalived ended with {status}:\n{}", self.process.log_tail(20));
        }
        Ok(())
    }

    /// SIGKILL to all its processes: it says nothing and removes nothing.
    pub fn kill9(mut self) -> Result<()> {
        let router = self.router()?;
        // Left alone, the parent would start the router again; and a router that loses its parent says goodbye.
        self.process.signal(Signal::SIGSTOP)?;
        kill(router, Signal::SIGKILL).context("killing keepalived's router")?;
        self.process.kill9()?;
        let gone = || (kill(router, None).is_err()).then_some(());
        until("keepalived's router to be gone", LIMIT, gone)
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// The process that speaks VRRP.
    fn router(&self) -> Result<Pid> {
        let file: PathBuf = self.netns.run().dir().join("keepalived.vrrp.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Pid::from_raw(text.trim().parse()?))
    }
}

fn text(Settings { priority, unicast, addresses, password }: Settings<'_>) -> String {
    let addresses: String = addresses.iter().map(|address| format!("        {address} dev eth0\n")).collect();
    let unicast = unicast.map_or(String::new(), |(own, peer)| {
        // Over IPv6 it would use 64, which says nothing of where an advert comes from.
        let hop_limit = if own.contains(':') { "    unicast_ttl 255\n" } else { "" };
        format!("    unicast_src_ip {own}\n{hop_limit}    unicast_peer {{\n        {peer}\n    }}\n")
    });
    let (version, interval) = if password.is_some() { (2, "1") } else { (3, "0.1") };
    let password = password.map_or(String::new(), |password| {
        format!("    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}\n")
    });
    format!(
        "global_defs {{
    vrrp_version {version}
}}
vrrp_instance k8s {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {interval}
{password}{unicast}    virtual_ipaddress {{
{addresses}    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_only_for_unicast() {
        let settings = Settings { priority: 150, unicast: None, addresses: &["192.0.2.100/24"], password: None };
        assert!(text(settings).contains("virtual_ipaddress {\n        192.0.2.100/24 dev eth0\n    }\n}"));
        assert!(text(settings).contains("priority 150") && !text(settings).contains("unicast"));
        let secret = Settings { password: Some("secret12"), ..settings };
        assert!(text(secret).contains("vrrp_version 2") && text(secret).contains("auth_pass secret12\n    }\n"));
        let unicast = Settings { unicast: Some(("192.0.2.22", "192.0.2.21")), ..settings };
        assert!(text(unicast).contains("unicast_src_ip 192.0.2.22\n    unicast_peer {\n        192.0.2.21\n"));
    }
}

//! FRR's vrrpd as the other router of a virtual address: with zebra, which it asks for interfaces, and a macvlan that carries
//! the addresses and the virtual router's own Ethernet address.

use std::fs;
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::User;
use tempfile::TempDir;

use crate::netns::Netns;
use crate::process::{Process, output_within};
use crate::until::until;

const LIMIT: Duration = Duration::from_secs(20);
/// Where Debian's package has its daemons.
const DAEMONS: &str = "/usr/lib/frr";
/// The macvlan, and its address for virtual router 51 (RFC 9568 section 7.3).
const MACVLAN: &str = "vrrp4-51";
const MAC: &str = "00:00:5e:00:01:33";

/// A running vrrpd: version 3, an advert every 100 ms, VRID 51, by multicast.
#[derive(Debug)]
pub struct Frr {
    netns: Netns,
    vrrpd: Process,
    _zebra: Process,
    dir: TempDir,
}

impl Frr {
    /// Starts it in `netns` with this priority for `vip`, an address with its prefix length.
    pub fn start(netns: &Netns, priority: u8, vip: &str) -> Result<Frr> {
        // What it had before, if it was killed.
        let _ = netns.ip(&format!("link del {MACVLAN}"));
        netns.ip(&format!("link add {MACVLAN} link eth0 address {MAC} type macvlan mode bridge"))?;
        netns.ip(&format!("address add {vip} dev {MACVLAN}"))?;
        netns.ip(&format!("link set {MACVLAN} up"))?;
        let address = vip.split('/').next().context("no address")?;
        let dir = tempfile::tempdir()?;
        // The daemons give up being root.
        let user = User::from_name("frr")?.context("there is no user frr: install the package frr")?;
        chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        let config = format!(
            "interface eth0\n vrrp 51 version 3\n vrrp 51 priority {priority}\n vrrp 51 advertisement-interval 100\n \
             vrrp 51 ip {address}\n"
        );
        let zebra = daemon(netns, &dir, "zebra", "")?;
        until("zebra to listen", LIMIT, || dir.path().join("zserv.api").exists().then_some(()))?;
        let vrrpd = daemon(netns, &dir, "vrrpd", &config)?;
        let frr = Frr { netns: netns.clone(), vrrpd, _zebra: zebra, dir };
        until("vrrpd to start", LIMIT, || frr.state().ok()).with_context(|| frr.vrrpd.log_tail(20))?;
        Ok(frr)
    }

    /// What it says of virtual router 51: `Master`, `Backup` or `Initialize`.
    pub fn state(&self) -> Result<String> {
        let mut vtysh = self.netns.command("vtysh");
        vtysh.arg("--vty_socket").arg(self.dir.path()).args(["-d", "vrrpd", "-c", "show vrrp 51"]);
        let (_, text) = output_within(vtysh, LIMIT)?;
        let status = text.lines().find(|line| line.trim_start().starts_with("Status (v4)"));
        let state = status.and_then(|line| line.split_whitespace().last());
        state.map(str::to_owned).with_context(|| format!("finding the state in {text:?}"))
    }

    /// SIGTERM.
    pub fn stop(mut self) -> Result<()> {
        self.vrrpd.signal(Signal::SIGTERM)?;
        let status = self.vrrpd.wait(LIMIT)?;
        if !status.success() {
            bail!("vrrpd ended with {status}:\n{}", self.vrrpd.log_tail(20));
        }
        self.netns.ip(&format!("link del {MACVLAN}")).map(|_| ())
    }

    /// SIGKILL, and the addresses go with the macvlan.
    pub fn kill9(mut self) -> Result<()> {
        self.vrrpd.kill9()?;
        self.netns.ip(&format!("link del {MACVLAN}")).map(|_| ())
    }
}

fn daemon(netns: &Netns, dir: &TempDir, name: &str, config: &str) -> Result<Process> {
    let file = |name: &str| dir.path().join(name);
    let config_file = file(&format!("{name}.conf"));
    fs::write(&config_file, config)?;
    let mut command = netns.command(format!("{DAEMONS}/{name}"));
    command.arg("-z").arg(file("zserv.api")).arg("--vty_socket").arg(dir.path());
    command.arg("-i").arg(file(&format!("{name}.pid"))).arg("-f").arg(config_file);
    command.args(["-P", "0", "--log", "stdout"]);
    Process::spawn(netns.run(), name, command)
        .with_context(|| format!("the daemon {name} is needed: install the package frr"))
}

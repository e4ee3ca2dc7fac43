//! The small world over IPv6 too: addresses beside those of IPv4, and a virtual router of that family.

use std::net::Ipv6Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::agent::adapt;
use crate::apiserver::ApiServer;
use crate::netns::Netns;
use crate::process::output_within;
use crate::status::{Status, Vrrp};
use crate::topology::{self, Topology};
use crate::version::Version;

/// The VIP.
pub const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
/// Name of the virtual router that has it.
pub const ROUTER: &str = "k8s6";
/// Of the client.
pub const CLIENT: &str = "2001:db8::10";
/// Of the balancers, in their order.
pub const BALANCERS: [&str; 2] = ["2001:db8::21", "2001:db8::22"];

/// Gives the client and the balancers their IPv6 addresses.
pub fn number(topology: &Topology) -> Result<()> {
    let balancers = topology.balancers.iter().map(|balancer| balancer.agent.netns());
    let addresses = topology::BALANCERS.iter().map(|(_, address, _)| *address);
    let mut hosts = balancers.zip(addresses).chain([(&topology.client, topology::CLIENT)]);
    hosts.try_for_each(|(netns, address)| Version::V6.equip(netns, address))
}

/// The API servers once more, at their hosts' IPv6 addresses, under their own names.
pub fn servers(topology: &Topology, sandbox: &Path) -> Result<Vec<ApiServer>> {
    let servers = topology.servers.iter().zip(topology::SERVERS).map(|(server, (name, address))| {
        Version::V6.equip(server.netns(), address)?;
        let address = Version::V6.text(address);
        let keys = topology.authority.server(&format!("{name}-ipv6"), &[name, &address, &VIP.to_string()])?;
        ApiServer::start(sandbox, server.netns(), &format!("[{address}]:6443"), &keys)
    });
    servers.collect()
}

/// A configuration with all it has for IPv4 once more for IPv6, under names of its own.
#[must_use]
pub fn doubled(config: &str) -> String {
    let shared = config.find("[[vrrp]]").unwrap_or(config.len());
    let (shared, own) = config.split_at(shared);
    let six = Version::V6.text(own).replace("name = \"k8s\"", &format!("name = \"{ROUTER}\""));
    let six = six.replace("name = \"apiserver\"", "name = \"apiserver6\"");
    format!("{shared}{own}\n{six}")
}

/// A configuration with a second virtual router, of IPv6 and with the VRID of the first. `keys` are lines of its own; its priority
/// is that of the first.
pub fn with_router(config: &str, keys: &str) -> Result<String> {
    let priority = config.lines().find(|line| line.starts_with("priority = ")).context("finding the priority")?;
    let router = format!(
        "\n[[vrrp]]\nname = \"{ROUTER}\"\nvirtual_router_id = 51\n{priority}\nadvert_interval = \"100ms\"\n{keys}\n\n[[service]]\n"
    );
    adapt(config, &[("\n[[service]]\n", &router)])
}

/// The virtual router of this name.
pub fn router<'a>(status: &'a Status, name: &str) -> Option<&'a Vrrp> {
    status.vrrp.iter().find(|router| router.name == name)
}

/// The line in which `ip` shows `address`, without prefix length, on `eth0`; `None` when it is not there.
pub fn shown(netns: &Netns, address: &str) -> Option<String> {
    let all = netns.ip("-o address show dev eth0").ok()?;
    all.lines().find(|line| line.contains(&format!(" {address}/"))).map(str::to_owned)
}

/// What tshark makes of a file: a row for each frame that passes `filter`, with these fields.
pub fn tshark(file: &std::path::Path, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-Y", filter, "-r"]).arg(file);
    fields.iter().for_each(|field| {
        tshark.args(["-e", field]);
    });
    let (status, text) = output_within(tshark, Duration::from_secs(60)).context("the program tshark is needed")?;
    if !status.success() {
        bail!("tshark ended with {status}");
    }
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

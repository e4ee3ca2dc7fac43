//! The small world that the sandbox shows and the tests use: one segment, a client, balancers and three API servers.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::programs::{SchedClassifier, TcAttachType};

use crate::agent::{Agent, adapt};
use crate::apiserver::ApiServer;
use crate::client::{Client, Options};
use crate::netns::Netns;
use crate::pki::{Authority, KeyFiles};
use crate::process::output_within;
use crate::run::Run;
use crate::status::Status;
use crate::until::until;
use crate::wire::{Lan, Port};

/// The configuration that ships.
pub const CONFIG: &str = include_str!("../../config/sandbox.toml");
/// Where clients find the control plane; as in the configuration.
pub const VIP: &str = "192.0.2.100:8443";
/// The same without the port.
pub const VIP_ADDRESS: &str = "192.0.2.100";
/// Address of the client.
pub const CLIENT: &str = "192.0.2.10";
/// Name, address, VRRP priority.
pub const BALANCERS: [(&str, &str, &str); 2] = [("lb1", "192.0.2.21", "110"), ("lb2", "192.0.2.22", "100")];
/// Name, address.
pub const SERVERS: [(&str, &str); 3] =
    [("master1", "192.0.2.31"), ("master2", "192.0.2.32"), ("master3", "192.0.2.33")];

/// How the world is made.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The agent.
    pub xvip: &'a Path,
    /// The sandbox's binary, for the API servers.
    pub sandbox: &'a Path,
    /// How many of the balancers run the agent, at most two.
    pub balancers: usize,
    /// What differs from the shipped configuration, on all of them; see [`adapt`].
    pub changes: &'a [(&'a str, &'a str)],
}

/// The world; it ends in the order of its fields.
#[derive(Debug)]
pub struct Topology {
    /// Agents and their wires; not started by [`Topology::build`].
    pub balancers: Vec<Balancer>,
    /// API servers, running.
    pub servers: Vec<ApiServer>,
    /// Where clients live.
    pub client: Netns,
    /// Who signed the servers' certificates.
    pub authority: Authority,
    /// The segment.
    pub lan: Lan,
    /// Whose all of this is.
    pub run: Arc<Run>,
}

/// An agent and its wire.
#[derive(Debug)]
pub struct Balancer {
    /// The agent.
    pub agent: Agent,
    /// Its wire.
    pub port: Port,
}

impl Topology {
    /// Makes everything and starts the API servers.
    pub fn build(run: &Arc<Run>, plan: &Plan<'_>) -> Result<Topology> {
        let lan = Lan::create(run, "lan")?;
        let (client, _) = host(&lan, run, "client", CLIENT)?;
        let authority = Authority::create(run.dir())?;
        let mut servers = Vec::new();
        for (name, address) in SERVERS {
            let (netns, _) = host(&lan, run, name, address)?;
            let keys = server_keys(&authority, name, address)?;
            servers.push(ApiServer::start(plan.sandbox, &netns, &format!("{address}:6443"), &keys)?);
        }
        let mut balancers = Vec::new();
        for (index, (name, address, _)) in BALANCERS.into_iter().enumerate().take(plan.balancers) {
            let (netns, port) = host(&lan, run, name, address)?;
            let socket = Agent::socket_of(&netns);
            let config = config_of(index, netns.name(), &socket, &authority.ca_file(), plan.changes)?;
            let agent = Agent::new(plan.xvip, &netns, &config)?;
            balancers.push(Balancer { agent, port });
        }
        Ok(Topology { balancers, servers, client, authority, lan, run: run.clone() })
    }

    /// Makes everything, starts it, and waits until it serves.
    pub fn serving(run: &Arc<Run>, plan: &Plan<'_>, limit: Duration) -> Result<Topology> {
        let mut topology = Topology::build(run, plan)?;
        for balancer in &mut topology.balancers {
            balancer.agent.start()?;
        }
        topology.wait_serving(limit)?;
        Ok(topology)
    }

    /// Where the service is.
    pub fn vip() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 100], 8443))
    }

    /// Waits until one agent is active, the others are its backups, every backend is up for all of them, and the VIP is where it
    /// should be.
    pub fn wait_serving(&mut self, limit: Duration) -> Result<()> {
        let mut why = String::new();
        let settled = until("the control plane to be served", limit, || {
            match unsettled(self.balancers.iter().map(|balancer| (balancer.agent.name(), balancer.agent.status().ok())))
            {
                Some(reason) => why = reason,
                None if self.owners().len() != 1 => why = "the VIP is not on one node".to_owned(),
                None => return Some(()),
            }
            None
        });
        settled.with_context(|| {
            let logs = self.balancers.iter().map(|b| format!("-- {} --\n{}", b.agent.name(), b.agent.log_tail(20)));
            format!("{why}\n{}", logs.collect::<Vec<_>>().join("\n"))
        })
    }

    /// The balancers whose interface has the VIP.
    pub fn owners(&self) -> Vec<usize> {
        let netns = self.balancers.iter().map(|balancer| balancer.agent.netns());
        netns.enumerate().filter(|(_, netns)| has_vip(netns)).map(|(index, _)| index).collect()
    }

    /// The only balancer whose interface has the VIP.
    pub fn owner(&self) -> Result<usize> {
        match self.owners().as_slice() {
            [owner] => Ok(*owner),
            owners => bail!("the VIP is on {} balancers, not on one", owners.len()),
        }
    }

    /// A load of HTTPS connections through the VIP, one each `every`, and `watches` streams.
    pub fn load(&self, every: Duration, watches: usize) -> Result<Client> {
        let options = Options::https(Self::vip(), self.authority.ca_file());
        Client::start(&self.client, Options { every, watches, ..options })
    }

    /// `curl` on the client with these words before the URL; its exit status and standard output.
    pub fn curl(&self, words: &[&str], path: &str) -> Result<(ExitStatus, String)> {
        let mut curl = self.client.command("curl");
        curl.args(["-s", "-S", "--max-time", "60", "--connect-timeout", "5", "--cacert"])
            .arg(self.authority.ca_file())
            .args(words)
            .arg(format!("https://{VIP}{path}"));
        output_within(curl, Duration::from_secs(70))
    }
}

/// Makes a namespace on the segment with one interface, `eth0`, and this address of the segment's /24.
pub fn host(lan: &Lan, run: &Arc<Run>, role: &str, address: &str) -> Result<(Netns, Port)> {
    let netns = Netns::create(run, role)?;
    let port = lan.attach(&netns, "eth0", &format!("{address}/24"))?;
    Ok((netns, port))
}

/// A certificate for a server behind the VIP.
pub fn server_keys(authority: &Authority, name: &str, address: &str) -> Result<KeyFiles> {
    authority
        .server(name, &[name, address, VIP_ADDRESS, "kubernetes", "kubernetes.default.svc", "localhost", "127.0.0.1"])
}

/// Whether `eth0` of this namespace has the VIP.
pub fn has_vip(netns: &Netns) -> bool {
    netns.ip("-o -4 address show dev eth0").is_ok_and(|text| text.contains(&format!(" {VIP_ADDRESS}/")))
}

/// The kernel's number of the XDP program on `eth0`, in whatever mode.
pub fn program(netns: &Netns) -> Result<Option<u32>> {
    let link = netns.ip("-d link show dev eth0")?;
    let id = link.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next());
    id.map(|id| id.parse().with_context(|| format!("finding the program in {link}"))).transpose()
}

/// The TC programs that see what enters `device`, in their order: number and name.
pub fn tc_programs(netns: &Netns, device: &str) -> Result<Vec<(u32, String)>> {
    let (_, programs) = netns.enter(|| SchedClassifier::query_tcx(device, TcAttachType::Ingress))??;
    Ok(programs.iter().map(|info| (info.id(), info.name_as_str().unwrap_or_default().to_owned())).collect())
}

/// The Ethernet address `netns` has for a neighbour, and how far it trusts it.
pub fn neighbour(netns: &Netns, address: impl Into<IpAddr>) -> Option<(String, String)> {
    let line = netns.ip(&format!("neigh show {} dev eth0", address.into())).ok()?;
    let mac = line.split("lladdr ").nth(1)?.split(' ').next()?;
    Some((mac.to_owned(), line.split_whitespace().last()?.to_owned()))
}

/// The Ethernet address of `eth0`, as `ip` shows it.
pub fn mac_of(netns: &Netns) -> Result<String> {
    Ok(mac(netns)?.map(|byte| format!("{byte:02x}")).join(":"))
}

/// The Ethernet address of `eth0`.
pub fn mac(netns: &Netns) -> Result<[u8; 6]> {
    let link = netns.ip("-o link show dev eth0")?;
    let text = link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    let bytes =
        text.map(|text| text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>());
    let mac = bytes.and_then(Result::ok).and_then(|bytes| bytes.try_into().ok());
    mac.with_context(|| format!("finding the Ethernet address in {link}"))
}

/// The shipped configuration, adapted to one node.
pub fn config_of(index: usize, node: &str, socket: &Path, ca_file: &Path, changes: &[(&str, &str)]) -> Result<String> {
    let (_, address, priority) = BALANCERS[index];
    let (_, peer, _) = BALANCERS[1 - index];
    let config = adapt(
        CONFIG,
        &[
            // The name also names the pins, which are the machine's: two sandboxes must differ.
            ("\nname = \"lb1\"", &format!("\nname = \"{node}\"")),
            ("\"/run/xvip/admin.sock\"", &format!("\"{}\"", socket.display())),
            ("\npriority = 110", &format!("\npriority = {priority}")),
            ("\nunicast_source = \"192.0.2.21\"", &format!("\nunicast_source = \"{address}\"")),
            ("\nunicast_peers = [\"192.0.2.22\"]", &format!("\nunicast_peers = [\"{peer}\"]")),
            ("\"/etc/kubernetes/pki/ca.crt\"", &format!("\"{}\"", ca_file.display())),
        ],
    )?;
    adapt(&config, changes)
}

/// The section `[sync]` of balancers that share their flows; writes their key there, for root's eyes only, unless it is there.
pub fn sharing(directory: &Path) -> Result<String> {
    let path = directory.join("sync.key");
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let mut key = [0_u8; 32];
            File::open("/dev/urandom")?.read_exact(&mut key)?;
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(file, "{key}")?;
        }
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
        Err(err) => return Err(err).with_context(|| format!("writing {}", path.display())),
    }
    Ok(format!("[sync]\nkey_file = \"{}\"\n", path.display()))
}

/// Why these balancers, each with what it last said of itself, are not in their best state: one active, the others its backups, every
/// backend up.
pub fn unsettled<'a>(balancers: impl Iterator<Item = (&'a str, Option<Status>)>) -> Option<String> {
    let mut active = 0;
    for (name, status) in balancers {
        let Some(status) = status else {
            return Some(format!("{name} does not answer"));
        };
        match status.vrrp_state() {
            "active" => active += 1,
            "backup" => {}
            other => return Some(format!("the VRRP state of {name} is {other:?}")),
        }
        if let Some(backend) = status.services.iter().flat_map(|service| &service.backends).find(|b| b.state != "up") {
            return Some(format!("to {name}, {} is {}: {}", backend.name, backend.state, backend.reason));
        }
        if status.services.is_empty() {
            return Some(format!("{name} has no service"));
        }
    }
    (active != 1).then(|| format!("{active} balancers hold the VIP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_has_the_addresses_of_this_world() {
        assert!(CONFIG.contains(&format!("listen = \"{VIP}\"")));
        assert_eq!(VIP, Topology::vip().to_string());
        for (name, address) in SERVERS {
            assert!(CONFIG.contains(&format!("name = \"{name}\"\naddress = \"{address}:6443\"")));
        }
        let (_, address, priority) = BALANCERS[0];
        let faster = [("advert_interval = \"100ms\"", "advert_interval = \"50ms\"")];
        let config = config_of(1, "n", Path::new("/s"), Path::new("/c"), &faster).unwrap();
        for line in [
            "name = \"n\"",
            "priority = 100",
            "unicast_peers = [\"192.0.2.21\"]",
            "socket = \"/s\"",
            "interval = \"50ms\"",
        ] {
            assert!(config.contains(line), "{line}");
        }
        assert!(CONFIG.contains(&format!("unicast_source = \"{address}\"")));
        assert!(CONFIG.contains(&format!("priority = {priority}")));
    }
}

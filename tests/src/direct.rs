//! Direct return: a pair of balancers, and three nodes whose agents only deliver to the API server beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray};

use crate::agent::Agent;
use crate::apiserver::ApiServer;
use crate::cgroup::Cgroup;
use crate::dial::{self, Dialled, Options};
use crate::netns::Netns;
use crate::pki::Authority;
use crate::process::output_within;
use crate::run::Run;
use crate::topology::{BALANCERS, CLIENT, SERVERS, VIP, VIP_ADDRESS, host, server_keys};
use crate::version::Version;
use crate::wire::{Lan, Port};

/// A node with an agent.
#[derive(Debug)]
pub struct Node {
    /// The agent.
    pub agent: Agent,
    /// Its wire.
    pub port: Port,
    /// Its namespace.
    pub netns: Netns,
    /// Where its own clients are.
    pub cgroup: Cgroup,
}

impl Node {
    fn create(run: &Arc<Run>, lan: &Lan, xvip: &Path, name: &str, address: &str) -> Result<Node> {
        let (netns, port) = host(lan, run, name, address)?;
        let agent = Agent::new(xvip, &netns, "")?;
        Ok(Node { agent, port, netns, cgroup: Cgroup::create(run, name)? })
    }

    /// Starts the agent in the node's cgroup.
    pub fn start(&mut self) -> Result<()> {
        self.agent.start()?;
        let pid = self.agent.pid().context("the agent has ended at once")?;
        self.cgroup.adopt(pid)
    }

    /// Packets of this node that ended so.
    pub fn packets(&self, reason: &str) -> Result<u64> {
        let status = self.agent.status()?;
        Ok(status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum())
    }

    /// Source ports tried so far, towards all backends.
    pub fn ports_taken(&self) -> Result<u64> {
        let pins = Path::new("/sys/fs/bpf/xvip").join(self.netns.name().replace('.', ":"));
        let map = MapData::from_pin(pins.join("PORT_CURSORS"))?;
        let cursors: PerCpuArray<_, u32> = Map::PerCpuArray(map).try_into()?;
        let mut sum = 0;
        for slot in 0..16 {
            sum += cursors.get(&slot, 0)?.iter().map(|taken| u64::from(*taken)).sum::<u64>();
        }
        Ok(sum)
    }

    /// Bytes that have gone to the node, and that have come from it.
    pub fn bytes(&self, lan: &Lan) -> Result<(u64, u64)> {
        let text = lan.netns().ip(&format!("-j -s link show dev {}", self.port.name()))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let count = |way: &str| links.pointer(&format!("/0/stats64/{way}/bytes")).and_then(serde_json::Value::as_u64);
        count("tx").zip(count("rx")).with_context(|| format!("reading {text}"))
    }
}

/// The world; it ends in the order of its fields.
#[derive(Debug)]
pub struct Direct {
    /// They forward.
    pub balancers: Vec<Node>,
    /// They deliver.
    pub nodes: Vec<Node>,
    /// API servers, running: one on each node for each IP version.
    pub servers: Vec<ApiServer>,
    /// Where clients live.
    pub client: Netns,
    /// Who signed the servers' certificates.
    pub authority: Authority,
    /// A router and the segment behind it, where some nodes are.
    pub behind: Option<(Netns, Lan)>,
    /// The segment.
    pub lan: Lan,
    /// Whose all of this is.
    pub run: Arc<Run>,
    /// The IP version that the client speaks.
    pub version: Version,
    sandbox: PathBuf,
}

impl Direct {
    /// Makes everything and starts the API servers, and no agent. If `far`, all nodes but the first are behind a router,
    /// and all of it is there for IPv6 once more.
    pub fn build(xvip: &Path, sandbox: &Path, far: bool) -> Result<Direct> {
        let run = Run::start()?;
        let lan = Lan::create(&run, "lan")?;
        let (client, _) = host(&lan, &run, "client", CLIENT)?;
        let behind = far.then(|| router(&run, &lan)).transpose()?;
        let versions = versions(far);
        let number = |netns: &Netns, address: &str, route: &str| {
            versions.iter().filter(|_| far).try_for_each(|version| {
                version.equip(netns, address)?;
                netns.ip(&version.text(route)).map(drop)
            })
        };
        let to_far = format!("route add {FAR}0/24 via {ROUTER}");
        number(&client, CLIENT, &to_far)?;
        let authority = Authority::create(run.dir())?;
        let (mut nodes, mut servers, mut balancers) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (name, _)) in SERVERS.into_iter().enumerate() {
            let address = &address_of(place, far);
            let node = Node::create(
                &run,
                behind.as_ref().filter(|_| place > 0).map_or(&lan, |(_, lan)| lan),
                xvip,
                name,
                address,
            )?;
            let to_lan = format!("route add 192.0.2.0/24 via {FAR}1");
            number(&node.netns, address, if place > 0 { &to_lan } else { &to_far })?;
            for version in versions {
                let keys = match version {
                    Version::V4 => server_keys(&authority, name, address)?,
                    Version::V6 => {
                        let names = [name, &version.text(address), &version.text(VIP_ADDRESS)];
                        authority.server(&format!("{name}-ipv6"), &names)?
                    }
                };
                let place = version.text(&format!("{address}:6443"));
                servers.push(ApiServer::start(sandbox, &node.netns, &place, &keys)?);
            }
            nodes.push(node);
        }
        for (name, address, _) in BALANCERS {
            let balancer = Node::create(&run, &lan, xvip, name, address)?;
            number(&balancer.netns, address, &to_far)?;
            balancers.push(balancer);
        }
        let (version, sandbox) = (Version::V4, sandbox.to_owned());
        let direct = Direct { balancers, nodes, servers, client, authority, behind, lan, run, version, sandbox };
        direct.configure("dsr")?;
        Ok(direct)
    }

    /// Writes every configuration, with this mode on the balancers.
    pub fn configure(&self, mode: &str) -> Result<()> {
        for (node, (_, address, priority)) in self.balancers.iter().zip(BALANCERS) {
            let peers: Vec<_> =
                BALANCERS.iter().map(|(_, other, _)| other).filter(|other| **other != address).collect();
            let router = format!(
                "[[vrrp]]\nname = \"k8s\"\nvirtual_router_id = 51\npriority = {priority}\nadvert_interval = \"100ms\"\n\
                 unicast_source = \"{address}\"\nunicast_peers = {peers:?}\nvirtual_addresses = [\"{VIP_ADDRESS}/24\"]\n"
            );
            node.agent.write_config(&self.config(node, "balancer", &router, mode))?;
        }
        for node in &self.nodes {
            node.agent.write_config(&self.config(node, "backend", "", "dsr"))?;
        }
        Ok(())
    }

    fn config(&self, node: &Node, role: &str, router: &str, mode: &str) -> String {
        // Both ways in, on both sides, near and far.
        let datapath =
            if [BALANCERS[0].0, SERVERS[0].0, SERVERS[2].0].contains(&node.netns.role()) { "xdp" } else { "tc" };
        let backend = |place: usize| {
            let (name, address) = (SERVERS[place].0, address_of(place, self.behind.is_some()));
            format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:6443\"\n")
        };
        let own = format!(
            "{router}[[service]]\nname = \"apiserver\"\nlisten = \"{VIP}\"\nmode = \"{mode}\"\n\
             [service.health_check]\ntype = \"https\"\nca_file = \"{}\"\ninterval = \"500ms\"\ntimeout = \"450ms\"\n{}",
            self.authority.ca_file().display(),
            (0..SERVERS.len()).map(backend).collect::<String>(),
        );
        let once_more = |version: &Version| match version {
            Version::V4 => own.clone(),
            Version::V6 => version
                .text(&own)
                .replace("name = \"k8s\"", "name = \"k8s6\"")
                .replace("\"apiserver\"", "\"apiserver6\""),
        };
        format!(
            "[node]\nname = \"{}\"\ninterface = \"eth0\"\ndatapath = \"{datapath}\"\ncgroup = \"{}\"\nrole = \"{role}\"\n\
             [metrics]\nlisten = \"127.0.0.1:9910\"\n[admin]\nsocket = \"{}\"\n{}",
            node.netns.name(),
            node.cgroup.path().display(),
            Agent::socket_of(&node.netns).display(),
            versions(self.behind.is_some()).iter().map(once_more).collect::<String>(),
        )
    }

    /// The balancer that holds the VIP, and the other.
    pub fn holder(&self) -> Result<(usize, usize)> {
        let is_active = |node: &Node| node.agent.status().is_ok_and(|status| status.holds_all());
        let holders: Vec<_> = (0..self.balancers.len()).filter(|node| is_active(&self.balancers[*node])).collect();
        ensure!(holders.len() == 1, "{} balancers hold the VIP", holders.len());
        Ok((holders[0], 1 - holders[0]))
    }

    /// Connections of a process to the VIP.
    pub fn dial(&self, netns: &Netns, cgroup: Option<&Cgroup>, count: usize, path: &str) -> Result<Dialled> {
        dial(&self.sandbox, &self.authority, netns, cgroup, &self.place(), count, path)
    }

    /// Who answers one more connection of the client, and whom it sees as its client.
    pub fn whoami(&self) -> Result<(String, String)> {
        whoami(&self.authority, &self.client, &self.place())
    }

    /// Where the service is, in the client's IP version.
    pub fn place(&self) -> String {
        self.version.text(VIP)
    }
}

/// Addresses behind the router begin so.
const FAR: &str = "198.51.100.";
/// Where the router is found.
const ROUTER: &str = "192.0.2.1";

/// A router to a segment of its own.
fn router(run: &Arc<Run>, lan: &Lan) -> Result<(Netns, Lan)> {
    let behind = Lan::create(run, "far")?;
    let netns = Netns::create(run, "router")?;
    lan.attach(&netns, "eth0", &format!("{ROUTER}/24"))?;
    behind.attach(&netns, "eth1", &format!("{FAR}1/24"))?;
    netns.sysctl("net/ipv4/ip_forward", "1")?;
    netns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    netns.ip(&Version::V6.text(&format!("address add {FAR}1/24 dev eth1 nodad")))?;
    Version::V6.equip(&netns, ROUTER)?;
    // What it forwards has the VIP for its source, which is on its other side.
    for interface in ["all", "eth0", "eth1"] {
        netns.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    Ok((netns, behind))
}

/// In which the world is made.
fn versions(far: bool) -> &'static [Version] {
    if far { &[Version::V4, Version::V6] } else { &[Version::V4] }
}

fn address_of(place: usize, far: bool) -> String {
    let address = SERVERS[place].1;
    if far && place > 0 { address.replace("192.0.2.", FAR) } else { address.to_owned() }
}

/// Connections of a process to a place.
pub fn dial(
    sandbox: &Path, authority: &Authority, netns: &Netns, cgroup: Option<&Cgroup>, place: &str, count: usize,
    path: &str,
) -> Result<Dialled> {
    let (target, ca_file) = (place.parse()?, authority.ca_file());
    let options = Options { target, ca_file, count, at_once: 8.min(count), path: path.to_owned() };
    dial::run(sandbox, netns, cgroup, &options, Duration::from_secs(240))
}

/// Who answers one more connection to a place, and whom it sees as its client: address and port.
pub fn whoami(authority: &Authority, client: &Netns, place: &str) -> Result<(String, String)> {
    let mut curl = client.command("curl");
    curl.args(["-s", "--max-time", "5", "--cacert"]).arg(authority.ca_file());
    curl.args(["-w", "\n%{local_port}"]).arg(format!("https://{place}/whoami"));
    let (status, text) = output_within(curl, Duration::from_secs(10))?;
    ensure!(status.success(), "curl ended with {status}: {text}");
    let field = |name: &str| {
        let rest = text.split(&format!("\"{name}\":\"")).nth(1)?;
        rest.split('"').next().map(str::to_owned)
    };
    field("server").zip(field("peer")).with_context(|| format!("reading {text}"))
}

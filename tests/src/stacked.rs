//! A stacked control plane: three nodes, each with an API server and an agent, and a cgroup for the node's own clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::Agent;
use crate::apiserver::ApiServer;
use crate::cgroup::Cgroup;
use crate::dial::{self, Dialled, Options};
use crate::netns::Netns;
use crate::pki::Authority;
use crate::run::Run;
use crate::topology::{VIP_ADDRESS, host, unsettled};
use crate::until::until;
use crate::version::Version;
use crate::wire::{Lan, Port};

/// Name, address, VRRP priority.
pub const NODES: [(&str, &str, u8); 3] =
    [("n1", "192.0.2.31", 110), ("n2", "192.0.2.32", 100), ("n3", "192.0.2.33", 90)];

/// The three nodes; they end in the order of the fields.
#[derive(Debug)]
pub struct Stacked {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Who signed the servers' certificates.
    pub authority: Authority,
    /// The segment.
    pub lan: Lan,
    /// Whose all of this is.
    pub run: Arc<Run>,
    sandbox: std::path::PathBuf,
}

/// A node; its cgroup goes last.
#[derive(Debug)]
pub struct Node {
    /// The agent.
    pub agent: Agent,
    /// The API server.
    pub server: ApiServer,
    /// Its wire.
    pub port: Port,
    /// The namespace of all of these.
    pub netns: Netns,
    /// Where its own clients are.
    pub cgroup: Cgroup,
}

impl Stacked {
    /// Makes everything and starts the API servers; `service` is added to the `[[service]]` table.
    pub fn build(xvip: &Path, sandbox: &Path, listen: &str, service: &str) -> Result<Stacked> {
        Self::over(Version::V4, xvip, sandbox, listen, service)
    }

    /// The same over an IP version; `listen` is written for IPv4.
    pub fn over(version: Version, xvip: &Path, sandbox: &Path, listen: &str, service: &str) -> Result<Stacked> {
        let run = Run::start()?;
        let lan = Lan::create(&run, "lan")?;
        let authority = Authority::create(run.dir())?;
        let addresses = NODES.map(|(_, address, _)| version.text(address));
        let names: Vec<_> =
            [VIP_ADDRESS, "127.0.0.1"].map(|name| version.text(name)).into_iter().chain(addresses.clone()).collect();
        let mut nodes = Vec::new();
        for (name, address, priority) in NODES {
            let (netns, port) = host(&lan, &run, name, address)?;
            version.equip(&netns, address)?;
            let cgroup = Cgroup::create(&run, name)?;
            // A connection to one node may end at another, and all certificates are good for all.
            let keys = authority.server(name, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
            let server = ApiServer::start(sandbox, &netns, &version.text(&format!("{address}:6443")), &keys)?;
            let peers: Vec<_> =
                NODES.iter().map(|(_, address, _)| address).filter(|other| **other != address).collect();
            let backends = NODES.map(|(name, address, _)| {
                format!("\n[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:6443\"\n")
            });
            // Everything with an address in it.
            let plan = format!(
                "[[vrrp]]\nname = \"k8s\"\nvirtual_router_id = 51\npriority = {priority}\nadvert_interval = \"100ms\"\n\
                 unicast_source = \"{address}\"\nunicast_peers = {peers:?}\nvirtual_addresses = [\"{VIP_ADDRESS}/24\"]\n\
                 [[service]]\nname = \"apiserver\"\nlisten = {listen}\n{service}\n",
            );
            let config = format!(
                "[node]\nname = \"{}\"\ninterface = \"eth0\"\ncgroup = \"{}\"\n\
                 [metrics]\nlisten = \"127.0.0.1:9910\"\n[admin]\nsocket = \"{}\"\n\
                 {}\
                 [service.health_check]\ntype = \"https\"\nca_file = \"{}\"\ninterval = \"500ms\"\ntimeout = \"450ms\"\n{}",
                netns.name(),
                cgroup.path().display(),
                Agent::socket_of(&netns).display(),
                version.text(&plan),
                authority.ca_file().display(),
                version.text(&backends.concat()),
            );
            let agent = Agent::new(xvip, &netns, &config)?;
            nodes.push(Node { agent, server, port, netns, cgroup });
        }
        Ok(Stacked { nodes, authority, lan, run, sandbox: sandbox.to_owned() })
    }

    /// Starts the agents, as processes of their nodes' cgroups, and waits until they serve.
    pub fn start(&mut self, limit: Duration) -> Result<()> {
        for node in &mut self.nodes {
            node.start_agent()?;
        }
        self.wait_serving(limit)
    }

    /// Waits until one agent is active, the others are its backups, and every backend is up for all of them.
    pub fn wait_serving(&self, limit: Duration) -> Result<()> {
        let mut why = String::new();
        let settled = until("the control plane to be served", limit, || {
            match unsettled(self.nodes.iter().map(|node| (node.agent.name(), node.agent.status().ok()))) {
                Some(reason) => why = reason,
                None => return Some(()),
            }
            None
        });
        settled.with_context(|| {
            let logs =
                self.nodes.iter().map(|node| format!("-- {} --\n{}", node.agent.name(), node.agent.log_tail(20)));
            format!("{why}\n{}", logs.collect::<Vec<_>>().join("\n"))
        })
    }

    /// The node that holds the VIP, and the others.
    pub fn holder(&self) -> Result<(usize, Vec<usize>)> {
        let is_active = |node: &Node| node.agent.status().is_ok_and(|status| status.is_active());
        let holder = self.nodes.iter().position(is_active).context("no node holds the VIP")?;
        Ok((holder, (0..self.nodes.len()).filter(|node| *node != holder).collect()))
    }

    /// Connections of a process on a node, in the node's cgroup.
    pub fn dial(&self, node: usize, target: SocketAddr, count: usize, path: &str) -> Result<Dialled> {
        let node = self.nodes.get(node).context("no such node")?;
        self.dial_from(&node.netns, Some(&node.cgroup), target, count, path)
    }

    /// Connections of a process anywhere.
    pub fn dial_from(
        &self, netns: &Netns, cgroup: Option<&Cgroup>, target: SocketAddr, count: usize, path: &str,
    ) -> Result<Dialled> {
        let options =
            Options { target, ca_file: self.authority.ca_file(), count, at_once: 8.min(count), path: path.to_owned() };
        dial::run(&self.sandbox, netns, cgroup, &options, Duration::from_secs(240))
    }
}

impl Node {
    /// Starts the agent in the node's cgroup: its own connections pass the hooks too.
    pub fn start_agent(&mut self) -> Result<()> {
        self.agent.start()?;
        let pid = self.agent.pid().context("the agent has ended at once")?;
        self.cgroup.adopt(pid)
    }
}

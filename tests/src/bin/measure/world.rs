//! The world that is measured: that of the sandbox, with the balancers left to whoever measures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xvip_tests::agent::{Agent, adapt};
use xvip_tests::apiserver::ApiServer;
use xvip_tests::netns::Netns;
use xvip_tests::pki::Authority;
use xvip_tests::run::Run;
use xvip_tests::wire::{Lan, Port};

use crate::stop;

/// The configuration of the sandbox.
const CONFIG: &str = include_str!("../../../../config/sandbox.toml");
/// Where the client finds the control plane; as in the configuration.
pub(crate) const VIP: &str = "192.0.2.100:8443";
const CLIENT: &str = "192.0.2.10";
/// Name, address, VRRP priority.
pub(crate) const BALANCERS: [(&str, &str, &str); 2] = [("lb1", "192.0.2.21", "110"), ("lb2", "192.0.2.22", "100")];
/// Name, address.
pub(crate) const SERVERS: [(&str, &str); 3] =
    [("master1", "192.0.2.31"), ("master2", "192.0.2.32"), ("master3", "192.0.2.33")];
/// How long anything may take to come to rest.
const REST_LIMIT: Duration = Duration::from_secs(40);
/// How long everything has to have been at rest.
const REST: Duration = Duration::from_secs(1);

/// A fault of the balancer that holds the VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None: what the measuring itself adds.
    Nothing,
    /// SIGTERM.
    Terminated,
    /// kill -9.
    Killed,
    /// The link loses its carrier.
    LinkCut,
}

impl Fault {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Fault::Nothing => "nothing is done",
            Fault::Terminated => "SIGTERM",
            Fault::Killed => "kill -9",
            Fault::LinkCut => "link cut",
        }
    }
}

/// Two balancers in front of the servers.
pub(crate) trait Pair {
    /// Who holds the VIP, when the pair is as it should be; else why it is not.
    fn holder(&mut self) -> Result<usize, String>;
    /// Does it to one of them.
    fn inflict(&mut self, fault: Fault, index: usize) -> Result<()>;
    /// Puts it right again.
    fn repair(&mut self, fault: Fault, index: usize) -> Result<()>;
    /// The last words of both.
    fn last_words(&self) -> String;
}

/// Waits until a pair has been as it should be, with the same holder, for a second; returns the holder.
pub(crate) fn at_rest(pair: &mut dyn Pair) -> Result<usize> {
    let start = Instant::now();
    let mut since: Option<(usize, Instant)> = None;
    loop {
        let found = pair.holder();
        since = match (&found, since) {
            (Ok(holder), Some((before, at))) if *holder == before => Some((before, at)),
            (Ok(holder), _) => Some((*holder, Instant::now())),
            (Err(_), _) => None,
        };
        match (found, since) {
            (Ok(holder), Some((_, at))) if at.elapsed() >= REST => return Ok(holder),
            (Err(why), _) if start.elapsed() > REST_LIMIT => {
                bail!("the balancers did not come to rest: {why}\n{}", pair.last_words())
            }
            _ => {}
        }
        if !stop::sleep(Duration::from_millis(100)) {
            bail!("stopped");
        }
    }
}

/// The segment, the client and the API servers.
pub(crate) struct Ground {
    /// Where the client lives.
    pub(crate) client: Netns,
    /// Where the VIP is.
    pub(crate) vip: SocketAddr,
    authority: Authority,
    servers: Vec<ApiServer>,
    lan: Lan,
    run: Arc<Run>,
}

impl Ground {
    /// Builds it; `program` is this one, which also serves as API server.
    pub(crate) fn build(run: &Arc<Run>, program: &Path) -> Result<Ground> {
        let lan = Lan::create(run, "lan")?;
        let authority = Authority::create(run.dir())?;
        let vip: SocketAddr = VIP.parse()?;
        let client = Netns::create(run, "client")?;
        lan.attach(&client, "eth0", &format!("{CLIENT}/24"))?;
        let mut servers = Vec::new();
        for (name, address) in SERVERS {
            let netns = Netns::create(run, name)?;
            lan.attach(&netns, "eth0", &format!("{address}/24"))?;
            let keys = authority.server(name, &[name, address, &vip.ip().to_string()])?;
            servers.push(ApiServer::start(program, &netns, &format!("{address}:6443"), &keys)?);
        }
        Ok(Ground { client, vip, authority, servers, lan, run: run.clone() })
    }

    /// The authority that signed the servers' certificates.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.authority.ca_file()
    }

    /// The owner of it all.
    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// A balancer's namespace and its wire.
    pub(crate) fn plug(&self, role: &str, address: &str) -> Result<(Netns, Port)> {
        let netns = Netns::create(&self.run, role)?;
        let port = self.lan.attach(&netns, "eth0", &format!("{address}/24"))?;
        Ok((netns, port))
    }

    /// The namespaces of the API servers.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Netns> {
        self.servers.iter().map(ApiServer::netns)
    }
}

/// Two nodes with xvip.
pub(crate) struct Xvip {
    nodes: Vec<(Agent, Port)>,
}

impl Xvip {
    /// Starts both and waits until they are at rest.
    pub(crate) fn start(ground: &Ground, xvip: &Path, advert_interval: &str) -> Result<Xvip> {
        let mut nodes = Vec::new();
        for (index, (name, address, priority)) in BALANCERS.into_iter().enumerate() {
            let (netns, port) = ground.plug(name, address)?;
            let (_, peer, _) = BALANCERS[1 - index];
            let config = adapt(
                CONFIG,
                &[
                    ("\nname = \"lb1\"", &format!("\nname = \"{}\"", netns.name())),
                    ("\"/run/xvip/admin.sock\"", &format!("\"{}\"", Agent::socket_of(&netns).display())),
                    ("\npriority = 110", &format!("\npriority = {priority}")),
                    ("\nadvert_interval = \"100ms\"", &format!("\nadvert_interval = \"{advert_interval}\"")),
                    ("\nunicast_source = \"192.0.2.21\"", &format!("\nunicast_source = \"{address}\"")),
                    ("\nunicast_peers = [\"192.0.2.22\"]", &format!("\nunicast_peers = [\"{peer}\"]")),
                    ("\"/etc/kubernetes/pki/ca.crt\"", &format!("\"{}\"", ground.ca_file().display())),
                ],
            )?;
            let mut agent = Agent::new(xvip, &netns, &config)?;
            agent.start()?;
            nodes.push((agent, port));
        }
        let mut pair = Xvip { nodes };
        at_rest(&mut pair).context("bringing up two nodes with xvip")?;
        Ok(pair)
    }

    /// An agent.
    pub(crate) fn agent(&mut self, index: usize) -> Result<&mut Agent> {
        self.nodes.get_mut(index).map(|(agent, _)| agent).context("no such node")
    }
}

impl Pair for Xvip {
    fn holder(&mut self) -> Result<usize, String> {
        let mut holder = None;
        for (index, (agent, _)) in self.nodes.iter_mut().enumerate() {
            let status = agent.status().map_err(|err| format!("{}: {err}", agent.name()))?;
            if !status.all_up() {
                return Err(format!("to {}, not every backend is up", agent.name()));
            }
            match status.vrrp_state() {
                "active" if holder.is_none() => holder = Some(index),
                "backup" => {}
                other => return Err(format!("{} is {other}", agent.name())),
            }
        }
        holder.ok_or_else(|| "nobody is active".to_owned())
    }

    fn inflict(&mut self, fault: Fault, index: usize) -> Result<()> {
        let (agent, port) = self.nodes.get_mut(index).context("no such node")?;
        match fault {
            Fault::Nothing => Ok(()),
            Fault::Terminated => agent.terminate(),
            Fault::Killed => agent.kill9(),
            Fault::LinkCut => port.cut(),
        }
    }

    fn repair(&mut self, fault: Fault, index: usize) -> Result<()> {
        let (agent, port) = self.nodes.get_mut(index).context("no such node")?;
        match fault {
            Fault::Nothing => Ok(()),
            Fault::Terminated => {
                agent.stop(Duration::from_secs(10))?;
                agent.start()
            }
            Fault::Killed => agent.start(),
            Fault::LinkCut => port.mend(),
        }
    }

    fn last_words(&self) -> String {
        let words = self.nodes.iter().map(|(agent, _)| format!("-- {} --\n{}", agent.name(), agent.log_tail(15)));
        words.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Xvip {
    /// As their users would, so that they can put everything back.
    fn drop(&mut self) {
        for (agent, _) in &mut self.nodes {
            let _ = agent.terminate();
        }
        for (agent, _) in &mut self.nodes {
            let _ = agent.stop(Duration::from_secs(5));
        }
    }
}

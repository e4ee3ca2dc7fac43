//! The world that is measured: that of the sandbox, with the balancers left to whoever measures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xvip_tests::agent::Agent;
use xvip_tests::apiserver::ApiServer;
use xvip_tests::netns::Netns;
use xvip_tests::run::{Run, forget_node};
use xvip_tests::status::Status;
use xvip_tests::stop;
use xvip_tests::topology::{BALANCERS, Plan, Topology, config_of, host, sharing, unsettled};
use xvip_tests::until::until;
use xvip_tests::wire::Port;

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
    /// `xvip vrrp step-down`.
    SteppedDown,
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
            Fault::SteppedDown => "step-down",
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

/// The world without balancers.
pub(crate) struct Ground {
    topology: Topology,
}

impl Ground {
    /// Builds it; `program` is this one, which also serves as API server.
    pub(crate) fn build(run: &Arc<Run>, program: &Path) -> Result<Ground> {
        let plan = Plan { xvip: program, sandbox: program, balancers: 0, changes: &[] };
        Ok(Ground { topology: Topology::build(run, &plan)? })
    }

    /// Where the client lives.
    pub(crate) fn client(&self) -> &Netns {
        &self.topology.client
    }

    /// Where the client finds the control plane.
    pub(crate) fn vip(&self) -> SocketAddr {
        Topology::vip()
    }

    /// The authority that signed the servers' certificates.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.topology.authority.ca_file()
    }

    /// The owner of it all.
    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.topology.run
    }

    /// A balancer's namespace and its wire.
    pub(crate) fn plug(&self, role: &str, address: &str) -> Result<(Netns, Port)> {
        host(&self.topology.lan, self.run(), role, address)
    }

    /// Whether there is a wire to a host of this role.
    fn has_wire(&self, role: &str) -> bool {
        self.topology.lan.netns().ip(&format!("link show {role}.eth0")).is_ok()
    }

    /// The API servers.
    pub(crate) fn api_servers(&mut self) -> &mut [ApiServer] {
        &mut self.topology.servers
    }

    /// Lets the link of an API server down, or up again, at its other end; nobody is told.
    pub(crate) fn set_link(&self, server: usize, up: bool) -> Result<()> {
        let role = self.topology.servers.get(server).context("no such server")?.name();
        let state = if up { "up" } else { "down" };
        self.topology.lan.netns().ip(&format!("link set {role}.eth0 {state}")).map(|_| ())
    }

    /// The namespaces of the API servers.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Netns> {
        self.topology.servers.iter().map(ApiServer::netns)
    }
}

/// Two nodes with xvip, which share their flows.
pub(crate) struct Xvip {
    nodes: Vec<(Agent, Port)>,
    xvip: PathBuf,
    advert_interval: Duration,
}

impl Xvip {
    /// Starts both and waits until they are at rest.
    pub(crate) fn start(ground: &Ground, xvip: &Path, advert_interval: Duration) -> Result<Xvip> {
        let mut pair = Xvip { nodes: Vec::new(), xvip: xvip.to_owned(), advert_interval };
        for index in 0..BALANCERS.len() {
            pair.rebuild(ground, index)?;
        }
        at_rest(&mut pair).context("bringing up two nodes with xvip")?;
        Ok(pair)
    }

    /// Deletes a node with everything in it, as if its machine had lost its power. [`Xvip::rebuild`] has to follow.
    pub(crate) fn destroy(&mut self, index: usize) -> Result<()> {
        if index >= self.nodes.len() {
            bail!("no such node");
        }
        let (mut agent, _) = self.nodes.remove(index);
        agent.kill9()
    }

    /// Makes a node that is not there, and starts its agent.
    pub(crate) fn rebuild(&mut self, ground: &Ground, index: usize) -> Result<()> {
        let (name, address, _) = BALANCERS.get(index).context("no such node")?;
        // While anything of an earlier node is there, its datapath is: without it, its stack would refuse what still arrives.
        until("the wire of an earlier node to be gone", REST_LIMIT, || (!ground.has_wire(name)).then_some(()))?;
        let (netns, port) = ground.plug(name, address)?;
        forget_node(netns.name());
        let advert = format!("\nadvert_interval = \"{}ms\"", self.advert_interval.as_millis());
        let sync = format!("\n{}\n[admin]", sharing(ground.run().dir())?);
        let changes = [("\nadvert_interval = \"100ms\"", &*advert), ("\n[admin]", &*sync)];
        let config = config_of(index, netns.name(), &Agent::socket_of(&netns), &ground.ca_file(), &changes)?;
        let mut agent = Agent::new(&self.xvip, &netns, &config)?;
        agent.start()?;
        self.nodes.insert(index.min(self.nodes.len()), (agent, port));
        Ok(())
    }

    /// An agent.
    pub(crate) fn agent(&mut self, index: usize) -> Result<&mut Agent> {
        self.nodes.get_mut(index).map(|(agent, _)| agent).context("no such node")
    }
}

impl Pair for Xvip {
    fn holder(&mut self) -> Result<usize, String> {
        let said: Vec<_> = self.nodes.iter().map(|(agent, _)| (agent.name(), agent.status().ok())).collect();
        let holder = said.iter().position(|(_, status)| status.as_ref().is_some_and(Status::is_active));
        match unsettled(said.into_iter()) {
            Some(why) => Err(why),
            None => holder.ok_or_else(|| "nobody is active".to_owned()),
        }
    }

    fn inflict(&mut self, fault: Fault, index: usize) -> Result<()> {
        let (agent, port) = self.nodes.get_mut(index).context("no such node")?;
        match fault {
            Fault::Nothing => Ok(()),
            Fault::Terminated => agent.terminate(),
            Fault::SteppedDown => agent.step_down(&[]).map(|_| ()),
            Fault::Killed => agent.kill9(),
            Fault::LinkCut => port.cut(),
        }
    }

    fn repair(&mut self, fault: Fault, index: usize) -> Result<()> {
        let (agent, port) = self.nodes.get_mut(index).context("no such node")?;
        match fault {
            Fault::Nothing | Fault::SteppedDown => Ok(()),
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

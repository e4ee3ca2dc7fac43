//! A deployment as its user writes it down: hosts on one segment, agents with the files of `tests/deployments`, and API servers
//! that listen at all addresses, as kube-apiserver does.

pub mod plans;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xvip::config::{Config, Env, Service, Vrrp, parse};

use crate::agent::{Agent, adapt};
use crate::apiserver::ApiServer;
use crate::cgroup::Cgroup;
use crate::client::{Client, Options};
use crate::dial::{self, Dialled};
use crate::netns::Netns;
use crate::pki::Authority;
use crate::run::Run;
use crate::topology::unsettled;
use crate::until::until;
use crate::wire::{Lan, Port};

/// Port of the API servers.
const API_PORT: u16 = 6443;
/// For any one connection: far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What lives on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An agent, by the file with the host's name.
    Balancer,
    /// An API server.
    Server,
    /// Both.
    Stacked,
    /// Neither: a worker, or a client from outside.
    Other,
}

/// The hosts of a deployment, and what they are promised.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Directory below `tests/deployments`.
    pub name: &'static str,
    /// Where everybody finds the API servers.
    pub vip: &'static str,
    /// Whether a host with an agent finds them at the same port of 127.0.0.1 and of its own address, too.
    pub everywhere: bool,
    /// Name, address in one /24, what lives there; the first is of a kind with an agent.
    pub hosts: &'static [(&'static str, &'static str, Kind)],
}

impl Plan {
    /// The configuration file of a host, as its user has it.
    pub fn file(&self, host: &str) -> Result<String> {
        let path = directory().join(self.name).join(format!("{host}.toml"));
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Where the files are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deployments")
}

/// A deployment; it ends in the order of its fields.
#[derive(Debug)]
pub struct Deployment {
    /// The hosts, in the order of the plan.
    pub hosts: Vec<Host>,
    /// What it was built by.
    pub plan: Plan,
    /// What the first host's file says.
    pub config: Config,
    /// Who signed the servers' certificates.
    pub authority: Authority,
    /// The segment.
    pub lan: Lan,
    /// Whose all of this is.
    pub run: Arc<Run>,
    sandbox: PathBuf,
}

/// A host; its cgroup goes last.
#[derive(Debug)]
pub struct Host {
    /// Name.
    pub name: &'static str,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The agent, if any; not started by [`Deployment::build`].
    pub agent: Option<Agent>,
    /// The API server, if any.
    pub server: Option<ApiServer>,
    /// Its wire.
    pub port: Port,
    /// The namespace of all of these.
    pub netns: Netns,
    /// Where its own clients are.
    pub cgroup: Cgroup,
}

impl Deployment {
    /// Makes everything and starts the API servers.
    pub fn build(xvip: &Path, sandbox: &Path, plan: &Plan) -> Result<Deployment> {
        let run = Run::start()?;
        let lan = Lan::create(&run, "lan")?;
        let authority = Authority::create(run.dir())?;
        let (first, ..) = plan.hosts.first().context("no hosts")?;
        let config = parse(&plan.file(first)?, first, &Env::default())?.config;
        ensure!(config.vrrp.len() == 1 && !config.services.is_empty(), "not one virtual router, or no service");
        let vip = plan.vip.parse::<SocketAddr>()?.ip().to_string();
        let mut names = vec![vip.as_str(), "127.0.0.1"];
        names.extend(plan.hosts.iter().map(|(_, address, _)| *address));
        let mut hosts = Vec::new();
        for &(name, address, kind) in plan.hosts {
            let netns = Netns::create(&run, name)?;
            let port = lan.attach(&netns, &config.node.interface, &format!("{address}/24"))?;
            let cgroup = Cgroup::create(&run, name)?;
            let agent = match kind {
                Kind::Balancer | Kind::Stacked => {
                    Some(Agent::new(xvip, &netns, &on_this_machine(&plan.file(name)?, name, &netns, &cgroup)?)?)
                }
                Kind::Server | Kind::Other => None,
            };
            let server = match kind {
                Kind::Server | Kind::Stacked => {
                    let keys = authority.server(name, &names)?;
                    Some(ApiServer::start(sandbox, &netns, &format!("0.0.0.0:{API_PORT}"), &keys)?)
                }
                Kind::Balancer | Kind::Other => None,
            };
            hosts.push(Host { name, address: address.parse()?, agent, server, port, netns, cgroup });
        }
        Ok(Deployment { hosts, plan: *plan, config, authority, lan, run, sandbox: sandbox.to_owned() })
    }

    /// Starts the agents.
    pub fn start(&mut self) -> Result<()> {
        self.hosts.iter_mut().try_for_each(Host::start_agent)
    }

    /// Another server on a host, of the host's name: by TLS, or by plain HTTP.
    pub fn serve(&self, host: &str, port: u16, tls: bool) -> Result<ApiServer> {
        let host = &self.hosts[self.number(host)?];
        let listen = format!("0.0.0.0:{port}");
        if !tls {
            return ApiServer::start_plain(&self.sandbox, &host.netns, &listen);
        }
        let name = format!("{}-{port}", host.name);
        let keys = self.authority.server(&name, &[&self.vip().ip().to_string(), &host.address.to_string()])?;
        ApiServer::start(&self.sandbox, &host.netns, &listen, &keys)
    }

    /// The first virtual router.
    pub fn router(&self) -> &Vrrp {
        &self.config.vrrp[0]
    }

    /// The API servers' service.
    pub fn service(&self) -> &Service {
        &self.config.services[0]
    }

    /// Where clients find the API servers.
    pub fn vip(&self) -> SocketAddr {
        self.plan.vip.parse().expect("parsed when it was built")
    }

    /// The host of this name.
    pub fn number(&self, name: &str) -> Result<usize> {
        self.hosts.iter().position(|host| host.name == name).with_context(|| format!("there is no host {name}"))
    }

    /// Everywhere the clients of a host find the API servers.
    pub fn places(&self, host: usize) -> Vec<SocketAddr> {
        let host = &self.hosts[host];
        let port = self.vip().port();
        let own =
            [IpAddr::from(Ipv4Addr::LOCALHOST), host.address.into()].map(|address| SocketAddr::new(address, port));
        let own = own.into_iter().filter(|_| self.plan.everywhere && host.agent.is_some());
        [self.vip()].into_iter().chain(own).collect()
    }

    /// Connections of a host's own process.
    pub fn dial(&self, host: usize, target: SocketAddr, count: usize) -> Result<Dialled> {
        let host = &self.hosts[host];
        let (ca_file, path) = (self.authority.ca_file(), "/whoami".to_owned());
        let options = dial::Options { target, ca_file, count, at_once: 8.min(count), path };
        dial::run(&self.sandbox, &host.netns, Some(&host.cgroup), &options, Duration::from_secs(120))
    }

    /// A load of HTTPS connections from a host to the VIP, one each `every`.
    pub fn load(&self, host: usize, every: Duration) -> Result<Client> {
        let options = Options::https(self.vip(), self.authority.ca_file());
        Client::start(&self.hosts[host].netns, Options { every, watches: 0, timeout: PATIENCE, ..options })
    }

    /// The hosts whose interface has the VIP.
    pub fn owners(&self) -> BTreeSet<usize> {
        let shown = format!(" {}/", self.vip().ip());
        let has = |host: &Host| {
            let text = host.netns.ip(&format!("-o -4 address show dev {}", self.config.node.interface));
            text.is_ok_and(|text| text.contains(&shown))
        };
        (0..self.hosts.len()).filter(|host| has(&self.hosts[*host])).collect()
    }

    /// Waits until one agent holds the VIP, that of `holder` if it matters, the others are its backups, and every backend is up for all
    /// of them; which host it is.
    pub fn wait_settled(&self, holder: Option<usize>, limit: Duration) -> Result<usize> {
        let mut why = String::new();
        let agents = || self.hosts.iter().filter_map(|host| host.agent.as_ref());
        let settled = until("the deployment to be settled", limit, || {
            let owners = self.owners();
            match unsettled(agents().map(|agent| (agent.name(), agent.status().ok()))) {
                Some(reason) => why = reason,
                None if owners.len() != 1 => why = format!("the VIP is on {} hosts", owners.len()),
                None if holder.is_some_and(|holder| !owners.contains(&holder)) => {
                    why = format!("the VIP is on host {owners:?}");
                }
                None => return owners.first().copied(),
            }
            None
        });
        settled.with_context(|| {
            let logs = agents().map(|agent| format!("-- {} --\n{}", agent.name(), agent.log_tail(20)));
            format!("{why}\n{}", logs.collect::<Vec<_>>().join("\n"))
        })
    }
}

impl Host {
    /// Starts the agent, if there is one, in the host's cgroup: its own connections pass the hooks too.
    pub fn start_agent(&mut self) -> Result<()> {
        let Some(agent) = &mut self.agent else {
            return Ok(());
        };
        agent.start()?;
        self.cgroup.adopt(agent.pid().context("the agent has ended at once")?)
    }

    /// Whether its API server runs.
    pub fn serves(&mut self) -> bool {
        self.server.as_mut().is_some_and(ApiServer::is_running)
    }

    /// What this host's agent says of a backend of any service.
    pub fn backend_state(&self, backend: &str) -> Option<String> {
        let status = self.agent.as_ref()?.status().ok()?;
        let mut backends = status.services.into_iter().flat_map(|service| service.backends);
        backends.find(|of| of.name == backend).map(|of| of.state)
    }
}

/// All hosts of a test share one kernel: names of pins, the cgroup and the admin socket must differ. Nothing else of the file changes.
fn on_this_machine(file: &str, host: &str, netns: &Netns, cgroup: &Cgroup) -> Result<String> {
    let node = format!("[node]\nname = \"{host}\"\n");
    let here = format!("[node]\nname = \"{}\"\ncgroup = \"{}\"\n", netns.name(), cgroup.path().display());
    let file = adapt(file, &[(&node, &here)])?;
    Ok(format!("{file}\n[admin]\nsocket = \"{}\"\n", Agent::socket_of(netns).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file below `tests/deployments`.
    fn files() -> Vec<PathBuf> {
        let entries = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let mut files: Vec<_> = entries(&directory()).iter().flat_map(|path| entries(path)).collect();
        files.sort();
        files
    }

    #[test]
    fn the_files_are_good_and_those_of_one_deployment_agree() {
        let mut before: Option<(PathBuf, Config)> = None;
        assert_eq!(files().len(), 11);
        for file in files() {
            let config = parse(&fs::read_to_string(&file).unwrap(), &file.display().to_string(), &Env::default());
            let config = config.unwrap_or_else(|faults| panic!("{faults}")).config;
            assert_eq!(Some(config.node.name.as_str()), file.file_stem().and_then(|stem| stem.to_str()));
            let directory = file.parent().unwrap().to_owned();
            if let Some((_, first)) = before.as_ref().filter(|(of, _)| *of == directory) {
                let mut alike = config.clone();
                alike.node.name.clone_from(&first.node.name);
                for (router, of_first) in alike.vrrp.iter_mut().zip(&first.vrrp) {
                    assert!(router.priority < of_first.priority, "{}", file.display());
                    router.priority = of_first.priority;
                    router.unicast_source = of_first.unicast_source;
                    router.unicast_peers.clone_from(&of_first.unicast_peers);
                }
                assert_eq!(alike, *first, "{}", file.display());
            } else {
                before = Some((directory, config));
            }
        }
    }
}

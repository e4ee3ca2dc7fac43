//! One segment with a client, three servers, and every balancer on a node of its own with a VIP of its own.
//!
//! All of them are there at the same time, so that they can take turns; the processes of whoever is not measured stand still,
//! so that what they do beside their packets (health checks, going over tables) counts for nobody else.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use rustls::ClientConfig;
use rustls::server::NoServerSessionStorage;
use xvip_tests::agent::Agent;
use xvip_tests::apiserver::server_config;
use xvip_tests::client::connector;
use xvip_tests::foreign::Foreign;
use xvip_tests::netns::Netns;
use xvip_tests::pki::Authority;
use xvip_tests::process::Process;
use xvip_tests::run::Run;
use xvip_tests::topology::{CLIENT, SERVERS, host};
use xvip_tests::until::until;
use xvip_tests::wire::{Lan, Port, leave_frames, single_packets};

use crate::load::{Exchanges, Span};
use crate::phase::{Balancer, Wire};
use crate::rivals;
use crate::server::Server;

/// Where servers listen.
pub(crate) const PORT: u16 = 6443;
/// Where balancers do.
const VIP_PORT: u16 = 8443;
/// How long anything may take to begin.
const LIMIT: Duration = Duration::from_secs(30);

/// The world; it ends in the order of its fields.
pub(crate) struct Ground {
    /// Who is measured, in the order of the tables.
    pub(crate) contenders: Vec<Contender>,
    _servers: Vec<Server>,
    /// Where the load comes from.
    pub(crate) client: Netns,
    /// How the client verifies servers.
    pub(crate) tls: Arc<ClientConfig>,
    received: Arc<AtomicU64>,
    lan: Lan,
}

/// Who is measured.
pub(crate) struct Contender {
    /// Who.
    pub(crate) balancer: Balancer,
    /// How it handles packets, in words.
    pub(crate) datapath: String,
    /// Where the client finds the service: in turn.
    pub(crate) targets: Vec<SocketAddrV4>,
    kept: Kept,
    _port: Option<(Netns, Port)>,
}

/// What has to go on for a balancer to work.
enum Kept {
    Nothing,
    Haproxy(Process),
    Xvip(Agent, #[expect(dead_code, reason = "attached as long as it lives")] Option<Foreign>),
}

impl Ground {
    /// Makes everything and waits until every balancer serves.
    pub(crate) fn build(run: &Arc<Run>, wire: Wire, balancers: &[Balancer], xvip: &Path) -> Result<Ground> {
        let lan = Lan::create(run, "lan")?;
        let (client, _) = plug(&lan, wire, "client", CLIENT)?;
        rivals::more_ports(&client)?;
        let authority = Authority::create(run.dir())?;
        let received: Arc<AtomicU64> = Arc::default();
        let names: Vec<String> = addresses(balancers.len()).map(|(_, vip)| vip.to_string()).collect();
        let mut servers = Vec::new();
        let mut targets = Vec::new();
        for (number, (name, address)) in SERVERS.into_iter().enumerate() {
            let (netns, _) = plug(&lan, wire, name, address)?;
            let alternatives: Vec<&str> = names.iter().map(String::as_str).chain([address]).collect();
            let keys = authority.server(name, &alternatives)?;
            let mut config = server_config(&keys.cert, &keys.key)?;
            // Every handshake shall be a full one.
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            let at = SocketAddrV4::new(address.parse()?, PORT);
            let number = u8::try_from(number)?;
            servers.push(Server::start(&netns, number, at.into(), Arc::new(config), received.clone())?);
            targets.push(at);
        }
        let tls = connector(&authority.ca_file())?.config().clone();
        let mut ground = Ground { contenders: Vec::new(), _servers: servers, client, tls, received, lan };
        for (balancer, (address, vip)) in balancers.iter().zip(addresses(balancers.len())) {
            let contender = if *balancer == Balancer::Direct {
                let targets = targets.clone();
                Contender { balancer: *balancer, datapath: String::new(), targets, kept: Kept::Nothing, _port: None }
            } else {
                let (netns, port) = plug(&ground.lan, wire, &balancer.name(), &address.to_string())?;
                netns.ip(&format!("address add {vip}/32 dev eth0"))?;
                let vip = SocketAddrV4::new(vip, VIP_PORT);
                let (datapath, kept) = ground.equip(*balancer, wire, &netns, &port, vip, xvip)?;
                Contender { balancer: *balancer, datapath, targets: vec![vip], kept, _port: Some((netns, port)) }
            };
            ground.contenders.push(contender);
        }
        ground.wait()?;
        Ok(ground)
    }

    fn equip(
        &self, balancer: Balancer, wire: Wire, netns: &Netns, port: &Port, vip: SocketAddrV4, xvip: &Path,
    ) -> Result<(String, Kept)> {
        let wanted = match (balancer, wire) {
            (Balancer::Direct, _) => return Ok((String::new(), Kept::Nothing)),
            (Balancer::Haproxy, _) => {
                let threads = thread::available_parallelism().map_or(1, usize::from);
                let process = rivals::haproxy(netns, vip, threads)?;
                return Ok((format!("nbthread {threads}"), Kept::Haproxy(process)));
            }
            (Balancer::Nftables, _) => {
                rivals::nftables(netns, vip)?;
                return Ok(("conntrack".to_owned(), Kept::Nothing));
            }
            (Balancer::XvipXdp, _) => "xdp",
            (Balancer::XvipTc, Wire::Wire) => "tc",
            (Balancer::XvipTc, Wire::Plain) => "auto",
        };
        let mut remark = String::new();
        let mut other_end = None;
        if balancer == Balancer::XvipXdp {
            // What XDP redirects out of a veth is taken by a program at its other end, or by GRO.
            match wire {
                Wire::Wire => other_end = Some(Foreign::attach(self.lan.netns(), port.name(), false)?),
                Wire::Plain => {
                    xvip_tests::wire::finish_frames(self.lan.netns(), port.name())?;
                    remark = "; tx off, gro on".to_owned();
                }
            }
        }
        let mut agent = Agent::new(xvip, netns, &xvip_config(netns, vip, wanted))?;
        agent.start()?;
        let status = agent.wait_for("its backends to be up", LIMIT, |status| status.all_up())?;
        let mode = status.datapath.mode;
        if balancer.name() != format!("xvip-{mode}") {
            bail!("datapath = \"{wanted}\" became {mode}: {}", status.datapath.reason);
        }
        let datapath = if wanted == mode { mode } else { format!("{wanted}: {mode}") };
        Ok((format!("{datapath}{remark}"), Kept::Xvip(agent, other_end)))
    }

    /// Waits until every contender has each server answer.
    fn wait(&mut self) -> Result<()> {
        for contender in &mut self.contenders {
            let what = format!("every server to answer through {}", contender.balancer.name());
            let answered = until(&what, LIMIT, || {
                let span = Span::after(Duration::ZERO, Duration::from_millis(50));
                let (targets, rate) = (contender.targets.clone(), None);
                let tally = Exchanges { targets, is_kept: false, rate, tls: None, span }.run(&self.client).ok()?;
                (tally.failures.is_empty() && tally.served.iter().all(|served| *served > 0)).then_some(())
            });
            answered.with_context(|| contender.last_words())?;
        }
        Ok(())
    }

    /// Lets the processes of one contender stand still, or go on.
    pub(crate) fn set_awake(&mut self, place: usize, is_awake: bool) -> Result<()> {
        self.contenders.get_mut(place).map_or(Ok(()), |contender| contender.set_awake(is_awake))
    }

    /// Bytes that the servers have received in streams.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Contender {
    /// Lets its processes stand still, or go on.
    pub(crate) fn set_awake(&mut self, is_awake: bool) -> Result<()> {
        match &mut self.kept {
            Kept::Nothing => Ok(()),
            Kept::Haproxy(process) => process.signal(if is_awake { Signal::SIGCONT } else { Signal::SIGSTOP }),
            Kept::Xvip(agent, _) if is_awake => agent.thaw(),
            Kept::Xvip(agent, _) => agent.freeze(),
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let words = match &self.kept {
            Kept::Nothing => String::new(),
            Kept::Haproxy(process) => process.log_tail(15),
            Kept::Xvip(agent, _) => agent.log_tail(15),
        };
        format!("{}: {words}", self.balancer.name())
    }
}

impl Drop for Contender {
    /// An agent puts everything back when it is asked to end.
    fn drop(&mut self) {
        let _ = self.set_awake(true);
        if let Kept::Xvip(agent, _) = &mut self.kept {
            let _ = agent.stop(Duration::from_secs(10));
        }
    }
}

/// A host on the segment, with wires of this kind.
fn plug(lan: &Lan, wire: Wire, role: &str, address: &str) -> Result<(Netns, Port)> {
    let (netns, port) = host(lan, lan.netns().run(), role, address)?;
    match wire {
        Wire::Wire => {
            single_packets(lan.netns(), port.name())?;
            single_packets(&netns, "eth0")?;
        }
        Wire::Plain => leave_frames(lan.netns(), port.name())?,
    }
    Ok((netns, port))
}

/// Addresses of the balancers' nodes, and their VIPs.
fn addresses(count: usize) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    (0..count).map(|index| {
        let host = |first: usize| Ipv4Addr::new(192, 0, 2, u8::try_from(first + index).unwrap_or(u8::MAX));
        (host(41), host(101))
    })
}

fn xvip_config(netns: &Netns, vip: SocketAddrV4, datapath: &str) -> String {
    let backends: String = SERVERS
        .iter()
        .map(|(name, address)| format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}:{PORT}\"\n"))
        .collect();
    format!(
        r#"[node]
name = "{}"
interface = "eth0"
datapath = "{datapath}"
[admin]
socket = "{}"
[[service]]
name = "apiserver"
listen = "{vip}"
{backends}"#,
        netns.name(),
        Agent::socket_of(netns).display()
    )
}

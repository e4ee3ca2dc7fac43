//! Looking at the host and its network, without changing either. What may not be seen is reported as such; everything that takes
//! time is waited for at once.

mod advert;
mod backends;
mod certificate;
mod ethtool;
mod host;
mod page;
mod programs;
mod wire;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use lb_proto::family::Family;
use lb_proto::units::Version;
use tokio::task::JoinHandle;

use super::facts::{Answer, Configuration, Device, Facts, Other, Router, Seen, Subnet, Vip};
use crate::bpf::{self, choose};
use crate::clock;
use crate::config::{Config, Faults, Listen, Loaded, Vrrp};
use crate::netlink::{Detail, Interfaces, Link, Netlink, NetlinkError};
use crate::privileges;

/// Three intervals of a router that keeps the default of one second, and a little.
const LISTEN_LEAST: Duration = Duration::from_millis(3200);
/// Routers that speak less often are not waited for.
const LISTEN_MOST: Duration = Duration::from_secs(15);

/// Looks at everything.
///
/// # Errors
/// The kernel's links or addresses could not be listed.
pub(super) async fn facts(configuration: Option<Result<Loaded, Faults>>) -> Result<Facts, NetlinkError> {
    let netlink = Netlink::connect()?;
    let interfaces = netlink.interfaces().await?;
    let details = netlink.details().await?;
    let (configuration, config) = settle(configuration, &interfaces);
    let routers: &[Vrrp] = config.as_ref().map_or(&[], |config| &config.vrrp);
    let links = links(config.as_ref(), &interfaces);

    let listened = listening_time(routers);
    let deadline = clock::now() + listened;
    let heard: Vec<_> = links
        .iter()
        .filter(|link| link.up && link.mac.is_some())
        .flat_map(|link| families(link, routers).into_iter().map(|family| (link.clone(), family)))
        .map(|(link, family)| (link.name.clone(), tokio::spawn(wire::adverts(link, family, deadline))))
        .collect();
    let services = config.iter().flat_map(|config| config.services.clone());
    let services: Vec<_> = services
        .map(|service| tokio::spawn(backends::service(netlink, interfaces.clone(), service, vips(routers))))
        .collect();
    let view = View { interfaces: &interfaces, vips: vips(routers) };
    let asked: Vec<_> = routers.iter().map(|router| view.ask(router)).collect();

    let names = programs::Names::look();
    let mut devices = Vec::new();
    for link in &links {
        let detail = details.iter().find(|detail| detail.index == link.index).cloned();
        let detail = detail.unwrap_or(Detail { index: link.index, ..Detail::default() });
        devices.push(device(netlink, link, &detail, &interfaces, &names).await);
    }
    let mut facts = Facts {
        configuration,
        keys: config.as_ref().map(|config| as_the_agent(|| host::keys(config))).unwrap_or_default(),
        page: config.as_ref().map(|config| as_the_agent(|| page::look(&config.metrics))).unwrap_or_default(),
        host: host::look(),
        devices,
        others: others(&interfaces, &links),
        routers: Vec::new(),
        adverts: Vec::new(),
        deaf: Vec::new(),
        listened,
        vips: Vec::new(),
        services: Vec::new(),
        listeners: host::listeners(&ports(config.as_ref())),
    };
    for (router, asked) in routers.iter().zip(asked) {
        let (router, vips) = view.router(router, asked).await;
        facts.routers.push(router);
        facts.vips.extend(vips);
    }
    for service in services {
        facts.services.extend(service.await.ok());
    }
    for (interface, heard) in heard {
        match heard.await.map_err(|error| error.to_string()).flatten() {
            Ok(adverts) => facts.adverts.extend(adverts),
            Err(why) => facts.deaf.push((interface, why)),
        }
    }
    Ok(facts)
}

/// Looks with no more rights than the agent will have: root, but for capabilities, may not read what is another user's.
fn as_the_agent<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    // Capabilities are a thread's own.
    let looked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Where they cannot be given up, what is seen with them is still worth telling.
            let _ = privileges::reduce();
            look()
        });
        thread.join()
    });
    looked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
}

/// The configuration as a fact, and itself where it can be used.
fn settle(given: Option<Result<Loaded, Faults>>, interfaces: &Interfaces) -> (Configuration, Option<Config>) {
    match given {
        None => (Configuration::None, None),
        Some(Err(faults)) => (Configuration::Wrong(faults), None),
        Some(Ok(loaded)) => {
            let host_lacks = loaded.check_host(&interfaces.host_facts()).err();
            let config = loaded.config;
            let good = Configuration::Good {
                host_lacks,
                datapath: config.node.datapath,
                interface: config.node.interface.clone(),
                source_ports: config.node.source_ports.clone(),
                metrics: config.metrics.listen,
            };
            (good, Some(config))
        }
    }
}

/// The interfaces to look at: those that the configuration names and the host has; without one, all that are up but loopback.
fn links(config: Option<&Config>, interfaces: &Interfaces) -> Vec<Link> {
    let Some(config) = config else {
        return interfaces.links.iter().filter(|link| link.up && link.name != "lo").cloned().collect();
    };
    let routers = config.vrrp.iter().map(|router| &router.interface);
    let mut names: Vec<_> = std::iter::once(&config.node.interface).chain(routers).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names.into_iter().filter_map(|name| interfaces.link(name).cloned()).collect()
}

fn listening_time(routers: &[Vrrp]) -> Duration {
    let longest = routers.iter().map(|router| router.advert_interval).max().unwrap_or_default();
    (longest * 3 + Duration::from_millis(200)).clamp(LISTEN_LEAST, LISTEN_MOST)
}

/// Ports at which the agent or its services are reached.
fn ports(config: Option<&Config>) -> Vec<u16> {
    let Some(config) = config else { return Vec::new() };
    let services = config.services.iter().flat_map(|service| &service.listen).flat_map(Listen::ports);
    services.chain([config.metrics.listen.port()]).collect()
}

fn vips(routers: &[Vrrp]) -> Vec<IpAddr> {
    routers.iter().flat_map(|router| &router.virtual_addresses).map(|vip| vip.address).collect()
}

async fn device(
    netlink: Netlink, link: &Link, detail: &Detail, interfaces: &Interfaces, names: &programs::Names,
) -> Device {
    let programs = programs::on(netlink, &link.name, detail, names).await;
    let driver = crate::ethtool::driver(&link.name).map(|driver| driver.name).map_err(|error| error.to_string());
    let traits = traits(link, names).await;
    let offloads = ethtool::offloads(&link.name, traits.joins_for_good).map_err(|error| error.to_string());
    let master = detail.master.and_then(|index| interfaces.links.iter().find(|link| link.index == index));
    Device {
        name: link.name.clone(),
        traits,
        up: link.up,
        ethernet: link.mac.is_some(),
        mtu: link.mtu,
        master: master.map(|master| (master.name.clone(), master.kind.clone())),
        vlan: detail.vlan,
        driver,
        queues: ethtool::receive_queues(&link.name).map_err(|error| error.to_string()),
        offloads,
        programs,
        rp_filter: host::setting(&link.name, "rp_filter"),
        arp_ignore: host::setting(&link.name, "arp_ignore"),
    }
}

/// What the agent would know of a link before it chooses. Programs whose names may not be seen count as ours.
async fn traits(link: &Link, names: &programs::Names) -> choose::Facts {
    let device = bpf::Device { name: link.name.clone(), index: link.index, kind: link.kind.clone() };
    let names = names.clone();
    let looked = tokio::task::spawn_blocking(move || bpf::facts(&device, |id| names.is_ours(id))).await;
    looked.unwrap_or_default()
}

fn others(interfaces: &Interfaces, links: &[Link]) -> Vec<Other> {
    let served = |link: &Link| link.name == "lo" || links.iter().any(|served| served.index == link.index);
    let other = |link: &Link| Other {
        name: link.name.clone(),
        subnets: interfaces.addresses_of(link.index).map(|a| Subnet::from(a.net)).collect(),
        arp_ignore: host::setting(&link.name, "arp_ignore"),
    };
    interfaces.links.iter().filter(|link| link.up && !served(link)).map(other).collect()
}

/// What is known of interfaces when virtual routers are looked at.
struct View<'i> {
    interfaces: &'i Interfaces,
    /// Those of all routers.
    vips: Vec<IpAddr>,
}

/// A question to the network, and who it is about.
type Asked = (IpAddr, JoinHandle<Seen<Answer>>);

impl View<'_> {
    /// The subnets of an interface itself, VIPs left out.
    fn subnets(&self, link: &Link) -> Vec<Subnet> {
        let addresses = self.interfaces.addresses_of(link.index).filter(|address| !address.ours);
        let subnets = addresses.map(|address| Subnet::from(address.net));
        subnets.filter(|subnet| !self.vips.contains(&subnet.address)).collect()
    }

    /// An address of IPv6 that an interface always has, where it has IPv6.
    fn link_local(&self, link: &Link) -> Option<Ipv6Addr> {
        self.interfaces.addresses_of(link.index).find_map(|address| match address.net.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
    }

    /// Begins to ask for the peers and the VIPs of a router.
    fn ask(&self, router: &Vrrp) -> (Vec<Asked>, Vec<Asked>) {
        let link = self.interfaces.link(&router.interface).filter(|link| link.up);
        let subnets = link.map(|link| self.subnets(link)).unwrap_or_default();
        let local = link.and_then(|link| self.link_local(link));
        let ask = |address: IpAddr| {
            let near = subnets.iter().any(|subnet| subnet.contains(address));
            let link = link.cloned();
            let task = tokio::spawn(async move {
                match link {
                    Some(link) if near => wire::who_has(link, local, address).await,
                    Some(_) => Ok(Answer::Elsewhere),
                    None => Ok(Answer::NoWire),
                }
            });
            (address, task)
        };
        let peers = router.unicast_peers.iter().map(|peer| ask(*peer)).collect();
        let vips = router.virtual_addresses.iter().map(|vip| ask(vip.address)).collect();
        (peers, vips)
    }

    async fn router(&self, router: &Vrrp, (peers, vips): (Vec<Asked>, Vec<Asked>)) -> (Router, Vec<Vip>) {
        let link = self.interfaces.link(&router.interface);
        let subnets = link.map(|link| self.subnets(link)).unwrap_or_default();
        let peers = answered(peers).await;
        let mut all = Vec::new();
        for (address, answers) in answered(vips).await {
            let holds = |holder: &&crate::netlink::Address| holder.net.address == address;
            let held = self.interfaces.addresses.iter().find(holds).map(|held| {
                let link = self.interfaces.links.iter().find(|link| link.index == held.ifindex);
                (link.map_or_else(String::new, |link| link.name.clone()), held.ours)
            });
            let (router, interface) = (router.name.clone(), router.interface.clone());
            all.push(Vip { router, address, interface, subnets: subnets.clone(), held, answers });
        }
        let facts = Router {
            name: router.name.clone(),
            interface: router.interface.clone(),
            vrid: router.virtual_router_id.get(),
            version: match router.version {
                Version::V2 => 2,
                Version::V3 => 3,
            },
            interval: router.advert_interval,
            addresses: router.virtual_addresses.iter().map(|vip| vip.address).collect(),
            peers,
        };
        (facts, all)
    }
}

async fn answered(asked: Vec<Asked>) -> Vec<(IpAddr, Seen<Answer>)> {
    let mut answers = Vec::new();
    for (address, task) in asked {
        answers.push((address, task.await.unwrap_or_else(|error| Err(error.to_string()))));
    }
    answers
}

/// In which families adverts are listened for on a link: IPv6 needs an address there, and so a reason.
fn families(link: &Link, routers: &[Vrrp]) -> Vec<Family> {
    let six = routers.iter().any(|router| router.interface == link.name && router.family() == Family::V6);
    [Family::V4].into_iter().chain(six.then_some(Family::V6)).collect()
}

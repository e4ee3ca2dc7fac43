//! The control loop's body: observe, compare, apply. One pass makes the kernel what the snapshots say it should be.
//!
//! ```text
//!  Config, VrrpSnapshot, HealthSnapshot, Sweep ──> desired ──┐
//!  addresses, neighbours, routes, tables ──observe───────────┴─> difference ──> addresses, ARP and ND, tables
//! ```
//! Addresses come first, because a VIP that moves is what clients wait for. A pass that fails changes nothing it has
//! not changed yet, and the next one starts from what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_ebpf::abi::{MAX_FELLOWS, MAX_TUNNELS};
use lb_ebpf::net::Be128;
use lb_proto::health::State as Health;
use lb_proto::health::policy::Member;
use lb_proto::pace::Paces;
use lb_proto::plan::{Place, Plan, TooMuch, plan};
use lb_proto::vrrp::State;
use tracing::{debug, info, warn};

use crate::bpf::{Attachment, Datapath, DatapathError, PortLayout, Sweep, TableError, Tables};
use crate::config::{Backend, Config, IpNet, Role, Service};
use crate::desired::{Desired, Ends, Interface, Way, World, desired};
use crate::drivers::garp::GarpHandle;
use crate::drivers::health::HealthSnapshot;
use crate::drivers::vrrp::VrrpSnapshot;
use crate::leaving::{Leaving, Left};
use crate::naming::{Named, Naming};
use crate::netlink::{Added, Addresses, Interfaces, Link, Netlink, NetlinkError, Observed};

/// How often an unresolved next hop is asked for.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);
/// How long a route is believed without news.
const ROUTE_LIFETIME: Duration = Duration::from_secs(5);

/// How long frames of a node that is no fellow any more are still taken as forwarded: longer than its agent, or ours,
/// takes to start again.
const FELLOWS_LINGER: Duration = Duration::from_secs(60);

/// What a pass could not do.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The network configuration.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The datapath's tables.
    #[error(transparent)]
    Table(#[from] TableError),
    /// More than the tables hold.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// What its own backends answer cannot be translated.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// A setting of the host.
    #[error("cannot read {path}: {source}")]
    Setting {
        /// Where it is.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The interface has no Ethernet address.
    #[error("{0} has no Ethernet address")]
    NoMac(String),
}

/// Everything a pass decides from.
pub struct Snapshots<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Virtual routers.
    pub vrrp: &'a VrrpSnapshot,
    /// Backends.
    pub health: &'a HealthSnapshot,
    /// Connections.
    pub sweep: &'a Sweep,
    /// Nodes with an agent that may forward to this one.
    pub fellows: &'a BTreeSet<IpAddr>,
}

/// Keeps what must be remembered between passes.
pub struct Reconciler {
    netlink: Netlink,
    addresses: Addresses,
    garp: GarpHandle,
    /// Where this node begins among the source ports; chance, so that nodes differ.
    port_offset: u32,
    /// Addresses that are there and announced, by instance.
    announced: BTreeMap<String, BTreeMap<IpAddr, Due>>,
    /// Where each backend's packets go, and when that was asked.
    routes: BTreeMap<IpAddr, (Instant, NextHop)>,
    /// Where outer packets come from.
    tunnel_sources: Ends,
    resolved: BTreeMap<IpAddr, Instant>,
    /// Ethernet addresses of next hops; the last one known stays until there is another.
    macs: BTreeMap<IpAddr, [u8; 6]>,
    /// Backends reported as reached by another interface.
    elsewhere: BTreeSet<IpAddr>,
    /// VIPs reported as somebody else's.
    foreign: BTreeSet<IpNet>,
    /// Places by service and backend name.
    places: BTreeMap<(String, String), Place>,
    /// Sets of source ports, by the tables as they are.
    port_layout: Arc<PortLayout>,
    /// Places of backends that were removed, by service and address.
    left_places: BTreeMap<(String, SocketAddr), Place>,
    fail_open: BTreeMap<String, bool>,
    /// Shares that grow back, and deadlines of connections.
    paces: Paces<PaceKey>,
    /// Backends that were removed from the configuration.
    leaving: Leaving,
    /// What this node does for others, by the tables as they are.
    service_of_others: (BTreeSet<String>, BTreeSet<IpAddr>),
    /// Fellows that are none any more, on the link and behind routers, and since when.
    lingering: (BTreeMap<[u8; 6], Instant>, BTreeMap<Be128, Instant>),
}

/// The number of an announcement, and how often carrier has come and gone by then: switches that have seen it go forget where
/// addresses are.
type Due = (u64, u32);

/// Those of a virtual router's addresses that have not been announced yet as is due, of those that are there. They count as
/// announced from now on, and those that are not there do not.
fn unannounced(announced: &mut BTreeMap<IpAddr, Due>, there: &[IpAddr], due: Due) -> Vec<IpAddr> {
    announced.retain(|address, _| there.contains(address));
    there.iter().copied().filter(|address| announced.insert(*address, due) != Some(due)).collect()
}

/// Service, name and address of a backend: one that has moved is another.
type PaceKey = (String, String, SocketAddr);

fn pace_key(service: &Service, backend: &Backend) -> PaceKey {
    (service.name.clone(), backend.name.clone(), backend.address)
}

#[derive(Debug, Clone, Copy)]
struct NextHop {
    ifindex: u32,
    address: IpAddr,
    /// The address of ours that the kernel would speak with.
    source: Option<IpAddr>,
}

impl Reconciler {
    /// Nothing done yet.
    #[must_use]
    pub fn new(netlink: Netlink, addresses: Addresses, garp: GarpHandle) -> Self {
        Self {
            netlink,
            addresses,
            garp,
            port_offset: RandomState::new().hash_one(0u8) as u32,
            announced: BTreeMap::new(),
            routes: BTreeMap::new(),
            tunnel_sources: Ends::default(),
            resolved: BTreeMap::new(),
            macs: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            foreign: BTreeSet::new(),
            places: BTreeMap::new(),
            port_layout: Arc::default(),
            left_places: BTreeMap::new(),
            fail_open: BTreeMap::new(),
            paces: Paces::default(),
            leaving: Leaving::default(),
            service_of_others: Default::default(),
            lingering: Default::default(),
        }
    }

    /// Services with a backend on this node, and addresses of nodes whose frames count as forwarded, both by the tables
    /// as they were last written.
    #[must_use]
    pub fn service_of_others(&self) -> &(BTreeSet<String>, BTreeSet<IpAddr>) {
        &self.service_of_others
    }

    /// The router towards a backend that is behind one, where nothing gets there as the client sent it.
    #[must_use]
    pub fn router_to(&self, backend: IpAddr) -> Option<IpAddr> {
        let hop = self.routes.get(&backend).map(|(_, hop)| hop.address)?;
        (self.way_to(backend) == Way::Beyond).then_some(hop)
    }

    fn way_to(&self, node: IpAddr) -> Way {
        match self.routes.get(&node) {
            Some((_, hop)) if hop.address != node => match hop.source {
                // All outer packets of an IP version come from one address, by which the other end knows this node.
                Some(source) if self.tunnel_sources.contains(source) => Way::Tunnel,
                _ => Way::Beyond,
            },
            Some(_) => Way::Link,
            // Sent to where the last route led, it could come back from there.
            None => Way::Beyond,
        }
    }

    /// Finds the addresses of ours that outer packets come from: of each IP version, the one that is spoken with to the
    /// first backend behind a router. The last one stays while there is none: packets of its flows are on the way.
    fn find_tunnel_sources(&mut self, config: &Config, interface: Option<u32>) {
        let backends = config.direct_services().flat_map(|service| &service.backends);
        let nodes: BTreeSet<_> = backends.map(|backend| backend.address.ip()).collect();
        let hops = nodes.iter().filter_map(|node| Some((node, &self.routes.get(node)?.1)));
        let far = hops.filter(|(node, hop)| hop.address != **node && Some(hop.ifindex) == interface);
        self.tunnel_sources = Ends::first(far.filter_map(|(_, hop)| hop.source)).or(self.tunnel_sources);
    }

    /// Nodes behind routers that may forward to this one.
    fn far_fellows(&self, fellows: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let is_far = |node: &&IpAddr| self.routes.get(node).is_some_and(|(_, hop)| hop.address != **node);
        fellows.iter().filter(is_far).copied().collect()
    }

    /// The place of a backend, once a pass has given it one.
    #[must_use]
    pub fn place(&self, service: &str, backend: &str) -> Option<Place> {
        self.places.get(&(service.to_owned(), backend.to_owned())).copied()
    }

    /// What all places are called, those of backends that are leaving as well.
    #[must_use]
    pub fn naming(&self) -> Naming {
        let entry = |place: Place, service: &str, backend: &str| {
            let named = Named { service: service.to_owned(), backend: backend.to_owned() };
            Some(((u16::try_from(place.slot).ok()?, place.generation), named))
        };
        let here = self.places.iter().filter_map(|((service, backend), place)| entry(*place, service, backend));
        let left = self.left_places.iter().filter_map(|((service, address), place)| {
            let left = self.leaving.of(service).find(|left| left.backend.address == *address)?;
            entry(*place, service, &left.backend.name)
        });
        left.chain(here).collect()
    }

    /// Service and name of the backend at a place.
    #[must_use]
    pub fn backend_at(&self, place: Place) -> Option<(&str, &str)> {
        let mut found = self.places.iter().filter(|(_, at)| **at == place);
        found.next().map(|((service, backend), _)| (service.as_str(), backend.as_str()))
    }

    /// Whether all backends of a service fail and are used all the same.
    #[must_use]
    pub fn fail_open(&self, service: &str) -> bool {
        self.fail_open.get(service).copied().unwrap_or_default()
    }

    /// How much of its weight a backend has at `now`, in hundredths.
    #[must_use]
    pub fn percent(&self, service: &Service, backend: &Backend, now: Instant) -> u16 {
        self.paces.percent(&pace_key(service, backend), service.slow_start, now)
    }

    /// When the connections of a backend that takes no new ones are given up.
    #[must_use]
    pub fn deadline(&self, service: &Service, backend: &Backend) -> Option<Instant> {
        self.paces.deadline(&pace_key(service, backend), service.drain_timeout)
    }

    /// Backends of a service that were removed from the configuration and keep their connections, with their places.
    pub fn leaving<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (&'a Left, Option<Place>)> {
        let place = |left: &Left| self.left_places.get(&(service.to_owned(), left.backend.address)).copied();
        self.leaving.of(service).map(move |left| (left, place(left)))
    }

    /// Takes in who takes connections, and who is configured.
    fn follow(&mut self, snapshots: &Snapshots<'_>, now: Instant) {
        let of = |service: &Service| {
            let member = |backend: &Backend| {
                let state = snapshots.health.state(&service.name, &backend.name);
                (pace_key(service, backend), Member { weight: backend.taken_weight(), state })
            };
            service.backends.iter().map(member).collect()
        };
        self.paces.observe(&snapshots.config.services.iter().map(of).collect::<Vec<_>>(), now);
        self.leaving.observe(snapshots.config, now);
    }

    /// Makes the VIPs' addresses what the virtual routers say, and announces them.
    ///
    /// # Errors
    /// When the kernel cannot be asked or refuses.
    pub async fn addresses(&mut self, snapshots: &Snapshots<'_>) -> Result<(), PassError> {
        let interfaces = self.netlink.interfaces().await?;
        // One address that cannot be moved must not keep the others.
        let removed = self.remove(surplus(snapshots.vrrp, &interfaces)).await;
        let mut outcome = removed;
        let active = snapshots.vrrp.instances.iter().filter(|instance| instance.state == State::Active);
        for instance in active {
            let Some(link) = interfaces.link(&instance.interface) else {
                continue;
            };
            let mut announced = self.announced.remove(&instance.name).unwrap_or_default();
            let mut there = Vec::new();
            for net in &instance.virtual_addresses {
                let was_there = interfaces.addresses_of(link.index).any(|address| address.net == *net && address.ours);
                if was_there {
                    there.push(net.address);
                } else {
                    announced.remove(&net.address);
                    match self.add(link, *net).await {
                        Ok(()) => there.push(net.address),
                        Err(error) => outcome = outcome.and(Err(error)),
                    }
                    if let (Some(_), IpAddr::V6(vip)) = (&snapshots.config.sync, net.address) {
                        let renewed = self.netlink.renew_routes_to(link.index, vip).await;
                        outcome = outcome.and(renewed.map_err(PassError::from));
                    }
                }
            }
            match link.mac {
                Some(mac) => {
                    let addresses = unannounced(&mut announced, &there, (instance.announce, link.flaps));
                    if !addresses.is_empty() {
                        self.garp.announce(&instance.name, link.index, mac, &addresses);
                    }
                }
                // Whoever gets one has it announced.
                None => announced.clear(),
            }
            self.announced.insert(instance.name.clone(), announced);
        }
        outcome
    }

    /// Has the next pass announce the addresses of this virtual router, if it is Active then.
    pub fn announce_again(&mut self, instance: &str) {
        self.announced.remove(instance);
    }

    async fn add(&mut self, link: &Link, net: IpNet) -> Result<(), PassError> {
        match self.addresses.add(link.index, net).await? {
            Added::Now => info!(%net, interface = link.name, "VIP added"),
            Added::Before => {}
            Added::Foreign if self.foreign.insert(net) => {
                warn!(%net, interface = link.name, "the VIP was on the interface already, added by somebody else; it will stay here even when another node holds it: remove it with `ip address del`");
            }
            Added::Foreign => {}
        }
        Ok(())
    }

    async fn remove(&mut self, surplus: Vec<(u32, IpNet)>) -> Result<(), PassError> {
        let mut outcome = Ok(());
        for (ifindex, net) in surplus {
            self.garp.cancel(ifindex, &[net.address]);
            match self.addresses.remove(ifindex, net).await {
                Ok(()) => info!(%net, ifindex, "VIP removed"),
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }

    /// Removes every VIP of ours.
    ///
    /// # Errors
    /// When the kernel cannot be asked or refuses.
    pub async fn withdraw(&mut self) -> Result<(), PassError> {
        let interfaces = self.netlink.interfaces().await?;
        self.remove(surplus(&VrrpSnapshot::default(), &interfaces)).await
    }

    /// Makes the datapath's tables what the configuration, the backends' health and the neighbours say.
    ///
    /// # Errors
    /// When something cannot be observed, or the kernel refuses.
    pub async fn tables(
        &mut self, snapshots: &Snapshots<'_>, datapath: &mut Datapath, tables: &mut Tables, now: Instant,
    ) -> Result<(), PassError> {
        let observed = self.netlink.observe().await?;
        let forwards = forwards(&datapath.attachment().device.name, |path| std::fs::read_to_string(path))?;
        self.follow(snapshots, now);
        self.next_hops(snapshots, &observed, now).await;
        let mut desired = self.desired(snapshots, datapath.attachment(), &observed, forwards, now)?;
        let before = tables.observe()?;
        linger(&mut self.lingering.0, &mut desired.wanted.fellows, &before.fellows, MAX_FELLOWS, now);
        linger(&mut self.lingering.1, &mut desired.wanted.tunnels, &before.tunnels, MAX_TUNNELS, now);
        desired.limit_segments();
        let Plan { ops, places } = plan(&desired.wanted, &before)?;
        // Answers must be met before there are any.
        let has_own = desired.has_own();
        if has_own {
            datapath.answer_for_own(true)?;
        }
        for op in &ops {
            debug!(?op, "applying");
            tables.apply(op)?;
        }
        datapath.answer_for_own(has_own)?;
        let near =
            self.routes.iter().filter(|(node, (_, hop))| hop.address == **node && snapshots.fellows.contains(node));
        let far = desired.wanted.tunnels.iter().map(|node| IpAddr::from(*node));
        let is_fellow = |(_, mac): &(&IpAddr, &[u8; 6])| desired.wanted.fellows.contains(*mac);
        let own = observed.interfaces.addresses.iter().map(|address| address.net.address);
        let known = match snapshots.config.node.role {
            // A router's Ethernet address is nobody's.
            Role::Balancer => self.macs.iter().filter(is_fellow).map(|(address, _)| *address).collect::<BTreeSet<_>>(),
            Role::Backend => near.map(|(node, _)| *node).chain(far).collect(),
        };
        let known = known.into_iter().chain(own).collect();
        self.service_of_others = (desired.own_services(snapshots.config), known);
        self.report_fail_open(&desired.fail_open);
        self.fail_open = desired.fail_open;
        let layout = PortLayout::new(&desired.wanted, &places);
        if layout != *self.port_layout {
            self.port_layout = Arc::new(layout);
        }
        self.places.clear();
        self.left_places.clear();
        for (service, places) in snapshots.config.services.iter().zip(places) {
            let mut places = places.into_iter();
            for (backend, place) in service.backends.iter().zip(&mut places) {
                self.places.insert((service.name.clone(), backend.name.clone()), place);
            }
            for (left, place) in self.leaving.of(&service.name).zip(places) {
                self.left_places.insert((service.name.clone(), left.backend.address), place);
            }
        }
        Ok(())
    }

    fn desired(
        &self, snapshots: &Snapshots<'_>, attachment: &Attachment, observed: &Observed, forwards: bool, now: Instant,
    ) -> Result<Desired, PassError> {
        let device = &attachment.device;
        let link = observed.interfaces.link(&device.name);
        let mac = link.and_then(|link| link.mac);
        let interface = Interface {
            index: device.index,
            mac: mac.ok_or_else(|| PassError::NoMac(device.name.clone()))?,
            redirect: attachment.redirect,
            forwards,
            port_offset: self.port_offset,
            mtu: link.map_or(0, |link| u16::try_from(link.mtu).unwrap_or(u16::MAX)),
            ends: match snapshots.config.node.role {
                Role::Balancer => self.tunnel_sources,
                // Where others find the backend.
                Role::Backend => own_backends(snapshots.config, observed),
            },
        };
        let own = observed.interfaces.addresses.iter().filter(|address| !address.ours);
        let own = own.map(|address| address.net.address).collect();
        let known = Known { reconciler: self, snapshots, own, now };
        Ok(desired(snapshots.config, interface, &known))
    }

    fn report_fail_open(&self, now: &BTreeMap<String, bool>) {
        for (service, open) in now {
            match (self.fail_open(service), *open) {
                (false, true) => {
                    warn!(service, "EVERY backend fails its checks: new connections go to all of them all the same")
                }
                (true, false) => info!(service, "a backend is ready again: new connections go to ready backends only"),
                _ => {}
            }
        }
    }

    /// Learns the Ethernet address towards each backend and fellow, and asks the kernel to resolve what it does not know.
    async fn next_hops(&mut self, snapshots: &Snapshots<'_>, observed: &Observed, now: Instant) {
        let config = snapshots.config;
        let named = config.services.iter().flat_map(|service| &service.backends);
        let left = self.leaving.addresses();
        let named: BTreeSet<_> = named.map(|backend| backend.address).chain(left).map(|at| at.ip()).collect();
        let backends: BTreeSet<_> = named.union(snapshots.fellows).copied().collect();
        let interface = observed.interfaces.link(&config.node.interface).map(|link| link.index);
        self.routes.retain(|backend, _| backends.contains(backend));
        self.macs.retain(|backend, _| backends.contains(backend));
        for backend in backends {
            if observed.interfaces.addresses.iter().any(|own| own.net.address == backend) {
                continue;
            }
            let Some(hop) = self.route(backend, now).await else {
                continue;
            };
            if Some(hop.ifindex) != interface {
                if named.contains(&backend) && self.elsewhere.insert(backend) {
                    warn!(%backend, interface = config.node.interface, "the route to this backend leaves by another interface, where its answers would not be seen; it gets no connections until that changes");
                }
                self.macs.remove(&backend);
                continue;
            }
            self.elsewhere.remove(&backend);
            let neighbour = observed.neighbour(hop.ifindex, hop.address);
            match neighbour {
                Some(neighbour) if neighbour.is_usable() => {
                    if let Some(mac) = neighbour.mac {
                        self.macs.insert(backend, mac);
                    }
                }
                _ => self.resolve(hop, now).await,
            }
        }
        self.find_tunnel_sources(config, interface);
    }

    async fn route(&mut self, backend: IpAddr, now: Instant) -> Option<NextHop> {
        if let Some((asked, hop)) = self.routes.get(&backend)
            && now.saturating_duration_since(*asked) < ROUTE_LIFETIME
        {
            return Some(*hop);
        }
        match self.netlink.route_to(backend).await {
            Ok(route) => {
                let hop = NextHop { ifindex: route.ifindex, address: route.next_hop(backend), source: route.source };
                self.routes.insert(backend, (now, hop));
                Some(hop)
            }
            Err(error) => {
                debug!(%backend, %error, "no route");
                self.routes.remove(&backend);
                None
            }
        }
    }

    async fn resolve(&mut self, hop: NextHop, now: Instant) {
        let due = self.resolved.get(&hop.address).is_none_or(|at| now.saturating_duration_since(*at) >= RESOLVE_EVERY);
        if due {
            self.resolved.insert(hop.address, now);
            // One neighbour that cannot be asked for must not keep the tables from being right for the others.
            if let Err(error) = self.netlink.resolve(hop.ifindex, hop.address).await {
                debug!(neighbour = %hop.address, %error, "cannot be resolved");
            }
        }
    }

    /// The sets of source ports that the datapath looks for.
    #[must_use]
    pub fn port_layout(&self) -> &Arc<PortLayout> {
        &self.port_layout
    }

    /// Routes may have changed.
    pub fn forget_routes(&mut self) {
        self.routes.clear();
    }
}

/// What the reconciler knows, for the pure part.
struct Known<'a> {
    reconciler: &'a Reconciler,
    snapshots: &'a Snapshots<'a>,
    own: BTreeSet<IpAddr>,
    now: Instant,
}

impl World for Known<'_> {
    fn health(&self, service: &str, backend: &str) -> Health {
        self.snapshots.health.state(service, backend)
    }

    fn percent(&self, service: &Service, backend: &Backend) -> u16 {
        self.reconciler.percent(service, backend, self.now)
    }

    fn is_drained(&self, service: &Service, backend: &Backend) -> bool {
        self.reconciler.deadline(service, backend).is_some_and(|deadline| deadline <= self.now)
    }

    fn leaving(&self, service: &str) -> Vec<Backend> {
        self.reconciler.leaving.of(service).map(|left| left.backend.clone()).collect()
    }

    fn next_hop(&self, address: IpAddr) -> Option<[u8; 6]> {
        self.reconciler.macs.get(&address).copied()
    }

    fn delivers(&self, service: &str, backend: &str) -> bool {
        self.snapshots.health.delivers(service, backend)
    }

    fn way_to(&self, address: IpAddr) -> Way {
        self.reconciler.way_to(address)
    }

    fn tunnels(&self) -> BTreeSet<IpAddr> {
        self.reconciler.far_fellows(self.snapshots.fellows)
    }

    fn fellows(&self) -> BTreeSet<[u8; 6]> {
        let neighbours = self.snapshots.fellows.iter().filter(|address| self.way_to(**address) == Way::Link);
        neighbours.filter_map(|address| self.next_hop(*address)).collect()
    }

    fn own_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.own
    }
}

/// Lets those that were fellows be some a little longer: what they have on the way must not be forwarded again, nor left
/// lying while an agent starts anew.
fn linger<T: Ord + Copy>(
    lingering: &mut BTreeMap<T, Instant>, wanted: &mut BTreeSet<T>, known: &BTreeSet<T>, most: u32, now: Instant,
) {
    lingering.retain(|fellow, _| known.contains(fellow) && !wanted.contains(fellow));
    let gone: Vec<_> = known.difference(wanted).copied().collect();
    for fellow in gone {
        let since = *lingering.entry(fellow).or_insert(now);
        if now.saturating_duration_since(since) < FELLOWS_LINGER && wanted.len() < most as usize {
            wanted.insert(fellow);
        }
    }
}

/// The first backends of services with direct return that are this node itself.
fn own_backends(config: &Config, observed: &Observed) -> Ends {
    let backends = config.direct_services().flat_map(|service| &service.backends);
    let is_own =
        |address: &IpAddr| observed.interfaces.addresses.iter().any(|own| !own.ours && own.net.address == *address);
    Ends::first(backends.map(|backend| backend.address.ip()).filter(is_own))
}

/// Addresses of ours that no virtual router of this node holds.
fn surplus(vrrp: &VrrpSnapshot, interfaces: &Interfaces) -> Vec<(u32, IpNet)> {
    let held: BTreeSet<_> = vrrp
        .instances
        .iter()
        .filter(|instance| instance.holds())
        .filter_map(|instance| Some((interfaces.link(&instance.interface)?.index, instance)))
        .flat_map(|(index, instance)| instance.virtual_addresses.iter().map(move |net| (index, *net)))
        .collect();
    let ours = interfaces.addresses.iter().filter(|address| address.ours);
    ours.map(|address| (address.ifindex, address.net)).filter(|address| !held.contains(address)).collect()
}

/// Whether the kernel forwards what enters by this interface, of either IP version; only then does it answer the
/// datapath's questions for next hops. Not to know is not to forward nothing: an error, but where there is no IPv6.
fn forwards(interface: &str, read: impl Fn(&str) -> io::Result<String>) -> Result<bool, PassError> {
    for version in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{version}/conf/{interface}/forwarding");
        match read(&path) {
            Ok(value) if value.trim() == "1" => return Ok(true),
            Ok(_) => {}
            Err(error) if version == "ipv6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PassError::Setting { path, source }),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_announced_once_for_each_time_it_is_due() {
        let (a, b) = (IpAddr::from([192, 0, 2, 100]), IpAddr::from([192, 0, 2, 101]));
        let mut announced = BTreeMap::new();
        let mut after = |there: &[IpAddr], due| unannounced(&mut announced, there, due);
        // The second one could not be added, and then could.
        assert_eq!(after(&[a], (1, 0)), [a]);
        assert!(after(&[a], (1, 0)).is_empty());
        assert_eq!(after(&[a, b], (1, 0)), [b]);
        assert!(after(&[a, b], (1, 0)).is_empty());
        // Active again, carrier back.
        assert_eq!(after(&[a, b], (2, 0)), [a, b]);
        assert_eq!(after(&[b], (2, 2)), [b]);
        // Somebody had taken it away.
        assert_eq!(after(&[a, b], (2, 2)), [a]);
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_not_one_that_is_off() {
        let of = |four: Result<&str, i32>, six: Result<&str, i32>| {
            let read = |path: &str| {
                let value = match path {
                    "/proc/sys/net/ipv4/conf/eth0.7/forwarding" => four,
                    "/proc/sys/net/ipv6/conf/eth0.7/forwarding" => six,
                    other => panic!("{other}"),
                };
                value.map(str::to_owned).map_err(io::Error::from_raw_os_error)
            };
            forwards("eth0.7", read).map_err(|error| error.to_string())
        };
        assert_eq!(of(Ok("0\n"), Ok("0\n")), Ok(false));
        assert_eq!(of(Ok("1\n"), Err(libc::EMFILE)), Ok(true));
        assert_eq!(of(Ok("0\n"), Ok("1\n")), Ok(true));
        assert_eq!(of(Ok("0\n"), Err(libc::ENOENT)), Ok(false), "there is no IPv6");
        for (four, six) in
            [(Ok("0\n"), Err(libc::EMFILE)), (Err(libc::EACCES), Ok("1\n")), (Err(libc::ENOENT), Ok("0\n"))]
        {
            assert!(of(four, six).unwrap_err().starts_with("cannot read /proc/sys/net/ipv"));
        }
    }

    #[test]
    fn fellows_linger_for_a_minute_and_not_without_room() {
        let start = crate::clock::now();
        let mut lingering = BTreeMap::new();
        let mut after = |wanted: &[u8], known: &[u8], seconds| {
            let mut wanted: BTreeSet<_> = wanted.iter().copied().collect();
            linger(
                &mut lingering,
                &mut wanted,
                &known.iter().copied().collect(),
                3,
                start + Duration::from_secs(seconds),
            );
            wanted.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(after(&[1], &[1, 2], 0), [1, 2]);
        assert_eq!(after(&[1], &[1, 2], 59), [1, 2]);
        assert_eq!(after(&[1], &[1, 2], 60), [1]);
        assert_eq!(after(&[1, 2], &[1, 2], 61), [1, 2]);
        assert_eq!(after(&[1], &[1, 2], 119), [1, 2], "it was wanted in between");
        assert_eq!(after(&[3, 4, 5], &[1, 2], 120), [3, 4, 5]);
    }
}

//! Comparing a configuration with the host it is for. Pure: the caller brings the facts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_proto::family::Family;

use super::report::Report;
use super::{Config, Fault, Faults, IpNet, node, sync, values, vrrp};

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Every interface by name, with its addresses; VIPs may be among them.
    pub interfaces: Vec<(String, Vec<IpNet>)>,
}

/// A good configuration, and where its parts stand in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// Its text.
    pub text: String,
    pub(super) places: Places,
}

/// Line and column, from 1.
type Place = (usize, usize);

/// Where the file says what depends on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) file: String,
    node_interface: Place,
    /// As many as `Config::vrrp`.
    routers: Vec<RouterPlaces>,
    sync_peers: Place,
    sync_source: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RouterPlaces {
    interface: Place,
    source: Place,
    /// As many as `Vrrp::virtual_addresses`.
    addresses: Vec<Place>,
}

impl Places {
    pub(super) fn new(node: &node::Draft, routers: &[vrrp::Draft], sync: &sync::Draft, report: &Report<'_>) -> Self {
        let router = |router: &vrrp::Draft| RouterPlaces {
            interface: report.place(router.interface.as_ref().map_or(router.at, |interface| interface.at)),
            source: report.place(router.source.map_or(router.at, |source| source.at)),
            addresses: (router.addresses.items.iter()).map(|vip| report.place(vip.at)).collect(),
        };
        Self {
            file: String::new(),
            node_interface: report.place(node.interface.as_ref().map_or(0, |interface| interface.at)),
            routers: routers.iter().map(router).collect(),
            sync_peers: report.place(sync.peers_at()),
            sync_source: report.place(sync.source_at()),
        }
    }
}

impl Loaded {
    /// Whether this configuration can serve on a host with these facts: its interfaces exist and have an address of their
    /// own in each family they are used for, each VIP lies in a subnet of its interface, each `unicast_source` is an address of its interface.
    ///
    /// # Errors
    /// Every fault, at the place in the file that names what the host lacks.
    pub fn check_host(&self, host: &HostFacts) -> Result<(), Faults> {
        let Self { config, places, .. } = self;
        let vips: BTreeSet<IpAddr> =
            (config.vrrp.iter()).flat_map(|router| router.virtual_addresses.iter().map(|vip| vip.address)).collect();
        let own = |interface: &str, family| Own::find(host, interface, family, &vips);
        let mut faults = Vec::new();
        // Of traffic towards the backends.
        let listens = config.services.iter().flat_map(|service| &service.listen);
        let families: BTreeSet<Family> = listens.map(|listen| Family::of(listen.address)).collect();
        let mut said = Vec::new();
        for family in families {
            if let Err(what_and_remedy) = own(&config.node.interface, family)
                && !said.contains(&what_and_remedy)
            {
                said.push(what_and_remedy.clone());
                faults.push(fault(places.node_interface, what_and_remedy));
            }
        }
        for (router, place) in config.vrrp.iter().zip(&places.routers) {
            let own = match own(&router.interface, router.family()) {
                Ok(own) => own,
                // Said above.
                Err(what_and_remedy)
                    if router.interface == config.node.interface && said.contains(&what_and_remedy) =>
                {
                    continue;
                }
                Err(what_and_remedy) => {
                    faults.push(fault(place.interface, what_and_remedy));
                    continue;
                }
            };
            if let Some(source) = router.unicast_source
                && !own.addresses.iter().any(|address| address.address == source)
            {
                let what = format!("unicast_source {source} is not an address of {:?}", router.interface);
                let remedy = format!("use {} or leave unicast_source out", own.list());
                faults.push(fault(place.source, (what, remedy)));
            }
            for (vip, place) in router.virtual_addresses.iter().zip(&place.addresses) {
                if !own.addresses.iter().any(|subnet| subnet.contains(vip.address)) {
                    let what = format!("virtual address {vip} is in no subnet of {:?}", router.interface);
                    let remedy = format!("choose one in the subnet of {} or another interface", own.list());
                    faults.push(fault(*place, (what, remedy)));
                }
            }
        }
        faults.extend(self.sync_faults(host));
        faults.sort_by_key(|fault| (fault.line, fault.column));
        match Faults::new(&places.file, faults) {
            Some(faults) => Err(faults),
            None => Ok(()),
        }
    }
}

impl Loaded {
    /// Peers are other hosts, sources this one.
    fn sync_faults(&self, host: &HostFacts) -> Vec<Fault> {
        let Some(sync) = &self.config.sync else {
            return Vec::new();
        };
        let own = host.interfaces.iter().flat_map(|(_, addresses)| addresses).map(|net| net.address);
        let own: BTreeSet<IpAddr> = own.collect();
        let peers = sync.peers.iter().filter(|peer| own.contains(peer)).map(|peer| {
            let what = format!("peer {peer} is an address of this host");
            fault(self.places.sync_peers, (what, "name only the other balancers".to_owned()))
        });
        let named = sync.sources.iter().filter(|source| !own.contains(source));
        // That of adverts was found missing above.
        let named =
            named.filter(|source| !self.config.vrrp.iter().any(|router| router.unicast_source == Some(**source)));
        let sources = named.map(|source| {
            let what = format!("source {source} is not an address of this host");
            fault(self.places.sync_source, (what, "name one that is, or leave it out".to_owned()))
        });
        peers.chain(sources).collect()
    }
}

type WhatAndRemedy = (String, String);

fn fault((line, column): Place, (what, remedy): WhatAndRemedy) -> Fault {
    Fault { line, column, what, remedy }
}

/// Addresses of an interface, of one family, that are no VIPs; at least one.
struct Own {
    addresses: Vec<IpNet>,
}

impl Own {
    fn find(host: &HostFacts, interface: &str, family: Family, vips: &BTreeSet<IpAddr>) -> Result<Self, WhatAndRemedy> {
        let Some((_, addresses)) = host.interfaces.iter().find(|(name, _)| name == interface) else {
            let others = host.interfaces.iter().map(|(name, _)| name.as_str());
            let others: Vec<_> = others.filter(|name| *name != "lo").take(8).collect();
            let remedy = match others.is_empty() {
                true => "create it first".into(),
                false => format!("create it or use {}", values::any_of(others)),
            };
            return Err((format!("interface {interface:?} is not on this host"), remedy));
        };
        let own = |address: &&IpNet| address.family() == family && !vips.contains(&address.address);
        let addresses: Vec<_> = addresses.iter().filter(own).copied().collect();
        if addresses.is_empty() {
            let what = format!("interface {interface:?} has no {family} address of its own");
            return Err((what, "give it one in the subnet of the VIPs".into()));
        }
        Ok(Self { addresses })
    }

    fn list(&self) -> String {
        let list: Vec<_> = self.addresses.iter().take(4).map(IpNet::to_string).collect();
        list.join(" or ")
    }
}

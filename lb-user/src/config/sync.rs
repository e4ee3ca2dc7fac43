//! The keys of `[sync]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_proto::family::Family;

use super::reader::{List, Section};
use super::report::{At, Report, wrong};
use super::{Role, Sync, node, values, vrrp};

const PORT: u16 = 9912;
const MOST_PEERS: usize = 16;
const PEERS: &str = r#"peers = ["192.0.2.22"]"#;

/// `[sync]`, with what is compared with other sections.
pub(super) struct Draft {
    at: usize,
    is_there: bool,
    port: Option<At<u16>>,
    peers: List<IpAddr>,
    sources: List<IpAddr>,
    key_file: Option<std::path::PathBuf>,
    peers_given: Option<usize>,
}

impl Draft {
    /// Where the file names the peers, or would.
    pub(super) fn peers_at(&self) -> usize {
        self.peers_given.unwrap_or(self.at)
    }

    /// Where it names the source.
    pub(super) fn source_at(&self) -> usize {
        self.sources.at
    }
}

pub(super) fn read(section: &Section<'_>, is_there: bool) -> Draft {
    const EXAMPLE: &str = "/etc/xvip/sync.key";
    let key_file = section.key("key_file", r#""/etc/xvip/sync.key""#);
    let key_file = if is_there { key_file.required() } else { key_file };
    let key_file = key_file.text(|text| values::path(text, 4095, EXAMPLE)).value();
    let port = section.key("port", "9912").integer(1..=u16::MAX).or(PORT);
    let peers = section.key("peers", r#"["192.0.2.22"]"#);
    let peers_given = peers.given();
    let peers = peers.texts(values::host_address);
    let sources = section.key("source", r#""192.0.2.21""#).text_or_texts(values::host_address);
    section.finish();
    Draft { at: section.at, is_there, port, peers, sources, key_file: key_file.map(|file| file.value), peers_given }
}

/// What `[sync]` means among the others. `None`: a fault was reported; `Some(None)`: flows are not shared.
pub(super) fn check(
    draft: &Draft, node: &node::Draft, routers: &[vrrp::Draft], report: &Report<'_>,
) -> Option<Option<Sync>> {
    if !draft.is_there {
        return Some(None);
    }
    if node.role.is_some_and(|role| role.value == Role::Backend) {
        let what = "[sync] shares flows between balancers, and a node with role \"backend\" is none";
        report.add(draft.at, wrong(what, "remove it, or the role"));
        return None;
    }
    let before = report.count();
    let peers = peers(draft, routers, report);
    let sources = sources(draft, routers, report);
    if let (Some(port), Some(built)) = (draft.port, &node.built)
        && port.value == built.peer_port
    {
        let what = format!("port {} is node.peer_port", port.value);
        report.add(port.at, wrong(what, "choose another for one of the two"));
    }
    if report.count() > before {
        return None;
    }
    let port = draft.port?.value;
    Some(Some(Sync { key_file: draft.key_file.clone()?, port, peers: peers?, sources: sources? }))
}

/// Those that are named, or those of the virtual routers.
fn peers(draft: &Draft, routers: &[vrrp::Draft], report: &Report<'_>) -> Option<BTreeSet<IpAddr>> {
    let of_routers = || routers.iter().flat_map(|router| &router.peers.items);
    let named: Vec<&At<IpAddr>> = match draft.peers_given {
        Some(_) => draft.peers.items.iter().collect(),
        None => of_routers().collect(),
    };
    let whole = match draft.peers_given {
        Some(_) => draft.peers.whole,
        None => routers.iter().all(|router| router.peers.whole),
    };
    if !whole {
        return None;
    }
    let mut seen = BTreeMap::new();
    for peer in &named {
        if draft.peers_given.is_some()
            && let Some(first) = vrrp::earlier(&mut seen, peer.value, peer.at)
        {
            let what = format!("peer {} is listed before in line {}", peer.value, report.line(first));
            report.add(peer.at, wrong(what, "list it once"));
        }
        seen.entry(peer.value).or_insert(peer.at);
    }
    let at = draft.peers_at();
    for (peer, its) in &seen {
        if let IpAddr::V6(six) = peer
            && six.is_unicast_link_local()
        {
            let (what, at) = match draft.peers_given {
                Some(_) => (format!("peer {peer} is link-local, which is no address without an interface"), *its),
                None => (format!("[sync] has no peers, and unicast_peers has {peer}, which is link-local"), at),
            };
            report.add(at, wrong(what, r#"add peers with other addresses of the other balancers"#));
        }
        let vips = routers.iter().flat_map(|router| &router.addresses.items);
        if let Some(vip) = vips.filter(|_| draft.peers_given.is_some()).find(|vip| vip.value.address == *peer) {
            let what = format!("peer {peer} is a virtual address in line {}", report.line(vip.at));
            report.add(*its, wrong(what, "write the other balancer's own address"));
        }
        let mut own = routers.iter().filter_map(|router| router.source).map(|source| source.value);
        if draft.peers_given.is_some() && own.any(|own| own == *peer) {
            report.add(
                *its,
                wrong(format!("peer {peer} is this node's unicast_source"), "list only the other balancers"),
            );
        }
    }
    if seen.is_empty() {
        let what = match draft.peers_given {
            Some(_) => "peers is empty",
            None => "[sync] has no peers, and no [[vrrp]] has unicast_peers",
        };
        report.add(at, wrong(what, format!("name the other balancers such as {PEERS}")));
    } else if seen.len() > MOST_PEERS {
        report.add(at, wrong(format!("[sync] has more than {MOST_PEERS} peers"), "name fewer"));
    }
    Some(seen.into_keys().collect())
}

/// Those that are named; else each family's first source of adverts.
fn sources(draft: &Draft, routers: &[vrrp::Draft], report: &Report<'_>) -> Option<Vec<IpAddr>> {
    if !draft.sources.whole {
        return None;
    }
    let mut first: BTreeMap<Family, IpAddr> = BTreeMap::new();
    for source in &draft.sources.items {
        let family = Family::of(source.value);
        if let Some(other) = first.get(&family) {
            let what = format!("source {} is a second address of {family} besides {other}", source.value);
            report.add(source.at, wrong(what, "name one for each IP version"));
        }
        let vips = routers.iter().flat_map(|router| &router.addresses.items);
        if vips.into_iter().any(|vip| vip.value.address == source.value) {
            let what = format!("source {} is a virtual address, which is not always here", source.value);
            report.add(source.at, wrong(what, "write this node's own address"));
        }
        first.entry(family).or_insert(source.value);
    }
    for source in routers.iter().filter_map(|router| router.source).map(|source| source.value) {
        let is_link_local = matches!(source, IpAddr::V6(six) if six.is_unicast_link_local());
        if !is_link_local {
            first.entry(Family::of(source)).or_insert(source);
        }
    }
    Some(first.into_values().collect())
}

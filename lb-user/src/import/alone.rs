//! Services where haproxy is not: those of keepalived's own balancer, and the API servers behind VIPs that carry none.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::keepalived::{Router, VirtualServer};
use super::name::Names;
use super::note::Notes;
use super::service::{API_PORT, Backend, Check, Service, Source, is_path, stand_ins};

/// API servers of a control plane, where nobody says how many there are.
const USUAL_NODES: usize = 3;

pub(super) fn services(routers: &[Router], servers: &[VirtualServer], notes: &mut Notes) -> Vec<Service> {
    let vips: BTreeSet<IpAddr> = routers.iter().flat_map(Router::vips).collect();
    let mut names = Names::default();
    let mut balanced = BTreeSet::new();
    let mut services = Vec::new();
    for server in servers {
        services.extend(by_ipvs(server, &vips, &mut names, notes));
        balanced.insert(server.address);
    }
    for four in [true, false] {
        let wanted = |vip: &IpAddr| vip.is_ipv4() == four && !is_link_local(*vip) && !balanced.contains(vip);
        services.extend(of_nodes(routers, four, &wanted, &mut names));
    }
    services
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The service of VIPs of one IP version: the API servers of the nodes themselves.
fn of_nodes(routers: &[Router], four: bool, wanted: &dyn Fn(&IpAddr) -> bool, names: &mut Names) -> Option<Service> {
    let router = routers.iter().find(|router| router.vips().any(|vip| wanted(&vip)))?;
    let listens = routers.iter().flat_map(|router| &router.addresses).filter(|(_, vip, _)| wanted(vip));
    let at_port = |address: IpAddr| SocketAddr::new(address, API_PORT).to_string();
    let listen = listens.map(|(place, vip, _)| (at_port(*vip), Some(place.clone()))).collect();
    let own = router.source.map(|own| (None, own));
    let peers = router.peers.iter().map(|(place, peer)| (Some(place.clone()), *peer));
    let nodes: Vec<_> = own.into_iter().chain(peers).filter(|(_, node)| node.is_ipv4() == four).collect();
    // Without peers, nobody says which nodes there are.
    let unknown = if router.peers.is_empty() { USUAL_NODES.saturating_sub(nodes.len()) } else { 0 };
    let unknown = if nodes.is_empty() { USUAL_NODES } else { unknown };
    let taken = |address: &IpAddr| {
        routers.iter().any(|router| router.vips().any(|vip| vip == *address))
            || nodes.iter().any(|(_, node)| node == address)
    };
    let stand_ins: Vec<_> = stand_ins(four).filter(|address| !taken(address)).take(unknown).collect();
    let what = "the address of a control-plane node, and a [[service.backend]] for each of them";
    let known = nodes.into_iter().map(|(place, address)| (place, address, None));
    let stand_ins = stand_ins.into_iter().map(|address| (None, address, Some(what.to_owned())));
    let backends = known.chain(stand_ins).enumerate().map(|(number, (place, address, open))| Backend {
        place,
        name: format!("master{}", number + 1),
        address: at_port(address),
        weight: None,
        max_connections: None,
        remarks: Vec::new(),
        open,
    });
    Some(Service {
        source: Source::Vips,
        place: router.place.clone(),
        name: names.unique(if four { "apiserver" } else { "apiserver-v6" }, "apiserver"),
        listen,
        balance: "roundrobin",
        max_connections: None,
        idle: None,
        slow_start: None,
        check: Check::default(),
        backends: backends.collect(),
        remarks: Vec::new(),
        open: vec!["the port of the API servers, here and below, where it is another than 6443".to_owned()],
    })
}

/// The service of a `virtual_server`.
fn by_ipvs(server: &VirtualServer, vips: &BTreeSet<IpAddr>, names: &mut Names, notes: &mut Notes) -> Option<Service> {
    let place = &server.place;
    let at = SocketAddr::new(server.address, server.port);
    let title = format!("virtual_server {} {}", server.address, server.port);
    if !vips.contains(&server.address) {
        notes.lost(place, title, "no vrrp_instance carries this address");
        return None;
    }
    let mut backends: Vec<Backend> = Vec::new();
    for real in &server.servers {
        let address = SocketAddr::new(real.address, real.port).to_string();
        let what = if vips.contains(&real.address) {
            "is at a VIP: connections would come back"
        } else if backends.iter().any(|backend| backend.address == address) {
            "is in this virtual_server already"
        } else {
            backends.push(Backend {
                place: Some(real.place.clone()),
                name: format!("server{}", backends.len() + 1),
                address,
                weight: Some(real.weight).filter(|weight| *weight != 1),
                max_connections: None,
                remarks: Vec::new(),
                open: None,
            });
            continue;
        };
        notes.mistake(&real.place, format!("real_server {} {} {what}; left out", real.address, real.port));
    }
    if backends.iter().all(|backend| backend.weight == Some(0)) {
        notes.lost(place, title, "none of its servers takes connections");
        return None;
    }
    let usual = Check::default();
    let check = match &server.request {
        Some(request) => Check {
            kind: if request.tls { "https" } else { "http" },
            path: request.path.clone().filter(|path| is_path(path)).or(usual.path),
            statuses: vec![request.status.unwrap_or(200)],
            ..usual
        },
        None => {
            let better = "Better: type = \"https\" and path = \"/readyz\", which says whether an API server is ready.";
            let remarks = if server.port == API_PORT { vec![better.to_owned()] } else { Vec::new() };
            Check { kind: "tcp", path: None, remarks, ..usual }
        }
    };
    let name = if server.port == API_PORT { "apiserver".to_owned() } else { format!("port-{}", server.port) };
    let suffix = if at.is_ipv4() { "" } else { "-v6" };
    Some(Service {
        source: Source::Ipvs,
        place: place.clone(),
        name: names.unique(&format!("{name}{suffix}"), "service"),
        listen: vec![(at.to_string(), Some(place.clone()))],
        balance: server.balance,
        max_connections: None,
        idle: None,
        slow_start: None,
        check,
        backends,
        remarks: vec!["Checks and the way of packets are xvip's; those of IPVS differ.".to_owned()],
        open: Vec::new(),
    })
}

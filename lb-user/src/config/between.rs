//! What holds between sections of different kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{MAX_BACKENDS, MAX_LISTENERS, MAX_VIPS};

use super::listen::Listen;
use super::report::{At, Report, wrong};
use super::{node, service, vrrp};

pub(super) fn check(
    node: &node::Draft, metrics: Option<&At<SocketAddr>>, routers: &[vrrp::Draft], services: &[service::Draft],
    report: &Report<'_>,
) {
    let carried: BTreeMap<IpAddr, usize> =
        (routers.iter()).flat_map(|router| &router.addresses.items).map(|vip| (vip.value.address, vip.at)).collect();
    let listens = || services.iter().flat_map(|service| &service.listen.items);
    let own: BTreeSet<IpAddr> = routers.iter().filter_map(|router| router.source.map(|own| own.value)).collect();
    // Packets from outside arrive there, or would if everything were right.
    let is_vip = |listen: &Listen| !listen.is_loopback() && !listen.is_everywhere() && !own.contains(&listen.address);

    // With a bad address among them nobody knows what the routers carry.
    if !routers.is_empty() && routers.iter().all(|router| router.addresses.whole) {
        for listen in listens().filter(|listen| is_vip(&listen.value) && !carried.contains_key(&listen.value.address)) {
            let what = format!("no [[vrrp]] carries {}", listen.value.address);
            let remedy = "add it to virtual_addresses, or listen at one of them or, for this node's own clients, at \
                          127.0.0.1, 0.0.0.0 or the unicast_source";
            report.add(listen.at, wrong(what, remedy));
        }
    }
    for listen in listens() {
        // Towards backends the source is VIP:port with a port of this range. The default range leaves out the ports of
        // services by itself.
        let of_packets = is_vip(&listen.value) || listen.value.is_everywhere();
        if let Some(ports) = node.chosen_ports.as_ref().filter(|_| of_packets)
            && let Some(port) = listen.value.ports().find(|port| ports.value.contains(port))
        {
            let line = report.line(listen.at);
            let what = format!("source_ports contains port {port} of the service in line {line}");
            report.add(ports.at, wrong(what, "choose a range without it"));
        }
        if let Some(metrics) = metrics
            && hides(&listen.value, metrics.value, is_vip(&listen.value))
        {
            let what = format!("listen {} is a service's in line {}", metrics.value, report.line(listen.at));
            report.add(metrics.at, wrong(what, "choose another port or address"));
        }
    }

    let mut vips = carried;
    for listen in listens().filter(|listen| is_vip(&listen.value)) {
        vips.entry(listen.value.address).or_insert(listen.at);
    }
    capacity(&vips, services, is_vip, report);
    let backends = services.iter().flat_map(|service| &service.backends);
    for address in backends.filter_map(|backend| backend.address.as_ref()) {
        if let Some(vip) = vips.get(&address.value.ip()) {
            let (ip, line) = (address.value.ip(), report.line(*vip));
            let what = format!("address {ip} is a VIP (line {line}), packets would come back to us");
            report.add(address.at, wrong(what, "write the backend's own address"));
        }
    }
    reachable(services, &own, report);
}

/// Whether this node's own clients, asking for the metrics, would get the service.
fn hides(listen: &Listen, metrics: SocketAddr, is_vip: bool) -> bool {
    // Metrics at every address are not meant for the VIP.
    let meet = metrics.ip() == listen.address || listen.is_everywhere() || (metrics.ip().is_unspecified() && !is_vip);
    meet && listen.has(metrics.port())
}

/// This node's own connections to a place where a service listens are translated; those to a backend, and to where its
/// health is asked, must arrive.
fn reachable(services: &[service::Draft], own: &BTreeSet<IpAddr>, report: &Report<'_>) {
    let listens = || services.iter().flat_map(|service| &service.listen.items);
    let listened = |at: SocketAddr| {
        listens()
            .find(|listen| listen.value.address == at.ip() && own.contains(&at.ip()) && listen.value.has(at.port()))
    };
    let mut backends = BTreeSet::new();
    for address in services.iter().flat_map(|service| &service.backends).filter_map(|backend| backend.address) {
        backends.insert(address.value);
        if let Some(listen) = listened(address.value) {
            let (at, line) = (address.value, report.line(listen.at));
            let what = format!("address {at} is where the service in line {line} listens");
            report.add(address.at, wrong(what, "let the service listen at another port"));
        }
    }
    for service in services {
        let Some(port) = service.check_port else {
            continue;
        };
        // Who asks for a backend gets it, whoever else listens everywhere at its port; one without a port is at every port.
        let checked = service.backends.iter().filter_map(|backend| backend.address);
        let checked = checked.map(|address| SocketAddr::new(address.value.ip(), port.value));
        let named = |at: &SocketAddr| backends.contains(at) || backends.contains(&SocketAddr::new(at.ip(), 0));
        let foreign = checked.filter(|at| !named(at));
        let everywhere = || listens().find(|listen| listen.value.is_everywhere() && listen.value.has(port.value));
        if let Some(listen) = foreign.filter_map(|at| listened(at).or_else(everywhere)).next() {
            let (port_number, line) = (port.value, report.line(listen.at));
            let what = format!("port {port_number} of health checks is one where the service in line {line} listens");
            report.add(port.at, wrong(what, "choose another, or let the service listen at another"));
        }
    }
}

/// The datapath's tables have room for so many backends, and places to listen at, on so many addresses.
fn capacity(
    vips: &BTreeMap<IpAddr, usize>, services: &[service::Draft], is_vip: impl Fn(&Listen) -> bool, report: &Report<'_>,
) {
    let backends = services.iter().flat_map(|service| &service.backends);
    if let Some(first_too_many) = backends.filter_map(|backend| backend.address.as_ref()).nth(MAX_BACKENDS as usize) {
        let what = format!("more than {MAX_BACKENDS} backends in all services together");
        report.add(first_too_many.at, wrong(what, "spread the services over more nodes"));
    }
    let mut seen = BTreeSet::new();
    let mut places = 0_usize;
    for listen in services.iter().flat_map(|service| &service.listen.items) {
        // Everywhere is at every VIP, and once for all of the node's own addresses.
        let addresses = if listen.value.is_everywhere() { 1 + vips.len() } else { 1 };
        let before = places;
        places = places.saturating_add(listen.value.len().saturating_mul(addresses));
        if before <= MAX_LISTENERS as usize && places > MAX_LISTENERS as usize {
            let what = format!("more than {MAX_LISTENERS} listen addresses in all services together");
            let remedy = "list fewer ports, each of a range counts, or spread the services over more nodes";
            report.add(listen.at, wrong(what, remedy));
        }
        let fresh = is_vip(&listen.value) && seen.insert(listen.value.address);
        if fresh && seen.len() == MAX_VIPS as usize + 1 {
            let what = format!("more than {MAX_VIPS} VIPs in all services together");
            report.add(listen.at, wrong(what, "spread the services over more nodes"));
        }
    }
}

//! What holds between sections of different kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{MAX_LISTENERS, MAX_VIPS};

use super::report::{At, Report, wrong};
use super::{node, service, vrrp};

pub(super) fn check(
    node: &node::Draft, metrics: Option<&At<SocketAddr>>, routers: &[vrrp::Draft], services: &[service::Draft],
    report: &Report<'_>,
) {
    let carried: BTreeMap<IpAddr, usize> =
        (routers.iter()).flat_map(|router| &router.addresses.items).map(|vip| (vip.value.address, vip.at)).collect();
    let listens = || services.iter().flat_map(|service| &service.listen.items);

    // With a bad address among them nobody knows what the routers carry.
    if !routers.is_empty() && routers.iter().all(|router| router.addresses.whole) {
        for listen in listens().filter(|listen| !carried.contains_key(&listen.value.ip())) {
            let what = format!("no [[vrrp]] carries {}", listen.value.ip());
            report.add(listen.at, wrong(what, "add it to virtual_addresses or listen at one of them"));
        }
    }
    for listen in listens() {
        // Towards backends the source is VIP:port with a port of this range. The default range leaves out the ports of
        // services by itself.
        if let Some(ports) = &node.chosen_ports
            && ports.value.contains(&listen.value.port())
        {
            let (port, line) = (listen.value.port(), report.line(listen.at));
            let what = format!("source_ports contains port {port} of the service in line {line}");
            report.add(ports.at, wrong(what, "choose a range without it"));
        }
        if let Some(metrics) = metrics
            && metrics.value == listen.value
        {
            let what = format!("listen {} is a service's in line {}", metrics.value, report.line(listen.at));
            report.add(metrics.at, wrong(what, "choose another port or address"));
        }
    }

    let mut vips = carried;
    for listen in listens() {
        vips.entry(listen.value.ip()).or_insert(listen.at);
    }
    capacity(services, report);
    let backends = services.iter().flat_map(|service| &service.backends);
    for address in backends.filter_map(|backend| backend.address.as_ref()) {
        if let Some(vip) = vips.get(&address.value.ip()) {
            let (ip, line) = (address.value.ip(), report.line(*vip));
            let what = format!("address {ip} is a VIP (line {line}), packets would come back to us");
            report.add(address.at, wrong(what, "write the backend's own address"));
        }
    }
}

/// The datapath's tables have room for so many places to listen at, on so many addresses.
fn capacity(services: &[service::Draft], report: &Report<'_>) {
    let mut vips = BTreeSet::new();
    let listens = services.iter().flat_map(|service| &service.listen.items);
    for (before, listen) in listens.enumerate() {
        let fresh = vips.insert(listen.value.ip());
        if before == MAX_LISTENERS as usize {
            let what = format!("more than {MAX_LISTENERS} listen addresses in all services together");
            report.add(listen.at, wrong(what, "spread the services over more nodes"));
        }
        if fresh && vips.len() == MAX_VIPS as usize + 1 {
            let what = format!("more than {MAX_VIPS} VIPs in all services together");
            report.add(listen.at, wrong(what, "spread the services over more nodes"));
        }
    }
}

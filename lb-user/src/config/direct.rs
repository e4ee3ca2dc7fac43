//! What direct return asks of a configuration, and what a node that only delivers can have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::report::{Report, wrong};
use super::{Role, ServiceMode, node, service, vrrp};

pub(super) fn check(node: &node::Draft, routers: &[vrrp::Draft], services: &[service::Draft], report: &Report<'_>) {
    let is_direct = |service: &&service::Draft| service.mode.is_some_and(|mode| mode.value == ServiceMode::Dsr);
    for service in services.iter().filter(is_direct) {
        one_backend_each(service, report);
        let inside = service.listen.items.iter().all(|listen| listen.value.is_loopback());
        if let Some(mode) = service.mode.filter(|_| inside && service.listen.whole && !service.listen.items.is_empty())
        {
            let what = "mode \"dsr\" is for packets, and this service is found by this node's own clients alone";
            report.add(mode.at, wrong(what, "listen at a VIP, or leave mode out"));
        }
    }
    let Some(role) = node.role.filter(|role| role.value == Role::Backend) else {
        return;
    };
    for router in routers {
        let what = "[[vrrp]] elects who holds VIPs, and a node with role \"backend\" holds none";
        report.add(router.at, wrong(what, "remove it, or the role"));
    }
    let known = services.iter().all(|service| service.mode.is_some());
    if known && !services.is_empty() && !services.iter().any(|service| is_direct(&service)) {
        let what = "role is \"backend\", and no service has mode \"dsr\": there is nothing to deliver";
        report.add(role.at, wrong(what, "set mode = \"dsr\" where the balancers do, or remove the role"));
    }
    let mut listens = services.iter().filter(is_direct).flat_map(|service| &service.listen.items);
    let everywhere = listens.clone().find(|listen| listen.value.is_everywhere());
    if let Some(listen) = everywhere
        && listens.all(|listen| listen.value.is_everywhere() || listen.value.is_loopback())
    {
        let what =
            format!("listen {} names no VIP, and a node with role \"backend\" has no [[vrrp]] that does", listen.value);
        report.add(listen.at, wrong(what, "list the VIPs, such as [\"192.0.2.100:8443\"]"));
    }
}

/// A packet that is forwarded as it came says VIP:port alone, so a node can have one backend for it.
fn one_backend_each(service: &service::Draft, report: &Report<'_>) {
    let mut first: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for address in service.backends.iter().filter_map(|backend| backend.address) {
        let ip = address.value.ip();
        if let Some(first) = first.get(&ip) {
            let line = report.line(*first);
            let what =
                format!("address {} is on the node of the backend in line {line}, and mode is \"dsr\"", address.value);
            let remedy = "a packet forwarded there does not say for which of the two: keep one, or use mode = \"snat\"";
            report.add(address.at, wrong(what, remedy));
        }
        first.entry(ip).or_insert(address.at);
    }
}

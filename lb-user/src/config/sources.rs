//! What `source_addresses` asks of a configuration: answers to them have to come to the node that holds the VIPs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_ebpf::abi::MAX_SOURCES;
use lb_proto::family::Family;

use super::report::{Report, wrong};
use super::{Role, node, service, vrrp};

pub(super) fn check(node: &node::Draft, routers: &[vrrp::Draft], services: &[service::Draft], report: &Report<'_>) {
    if let Some(first) = node.source_addresses.items.first()
        && node.role.as_ref().is_some_and(|role| role.value == Role::Backend)
    {
        let what = "source_addresses are for what is forwarded, and a node with role \"backend\" forwards nothing";
        report.add(first.at, wrong(what, "remove them"));
        return;
    }
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for address in &node.source_addresses.items {
        let (ip, family) = (address.value, Family::of(address.value));
        if seen.contains_key(&ip) {
            report.add(address.at, wrong(format!("source address {ip} is listed twice"), "list it once"));
            continue;
        }
        seen.insert(ip, address.at);
        if seen.keys().filter(|other| Family::of(**other) == family).count() == MAX_SOURCES as usize + 1 {
            let what = format!("source_addresses has more than {MAX_SOURCES} of {family}");
            report.add(address.at, wrong(what, "remove some"));
        }
        let mut listens = services.iter().flat_map(|service| &service.listen.items);
        if let Some(listen) = listens.find(|listen| listen.value.address == ip) {
            let line = report.line(listen.at);
            let what = format!("source address {ip} is where the service in line {line} listens");
            report.add(address.at, wrong(what, "choose an address besides the VIPs, which are used anyway"));
        }
        let mut backends = services.iter().flat_map(|service| &service.backends).filter_map(|backend| backend.address);
        if let Some(backend) = backends.find(|backend| backend.value.ip() == ip) {
            let line = report.line(backend.at);
            let what = format!("source address {ip} is the backend's in line {line}");
            report.add(address.at, wrong(what, "choose an address of its own"));
        }
        carried(ip, address.at, routers, report);
    }
}

/// Where there are virtual routers, it moves with the VIPs: their only router of that family carries it.
fn carried(ip: IpAddr, at: usize, routers: &[vrrp::Draft], report: &Report<'_>) {
    // With a bad address among them nobody knows what the routers carry.
    if routers.is_empty() || !routers.iter().all(|router| router.addresses.whole) {
        return;
    }
    let carries = |router: &&vrrp::Draft| router.addresses.items.iter().any(|net| net.value.address == ip);
    let Some(carrier) = routers.iter().find(carries) else {
        let what = format!("no [[vrrp]] carries the source address {ip}");
        report.add(at, wrong(what, "add it to virtual_addresses, so that it is where the VIPs are"));
        return;
    };
    let others = |router: &&vrrp::Draft| {
        router.at != carrier.at && router.addresses.items.iter().any(|net| net.value.address.is_ipv4() == ip.is_ipv4())
    };
    if let Some(other) = routers.iter().find(others) {
        let what = format!(
            "source address {ip} is not where the VIPs of the [[vrrp]] in line {} are while another node holds those",
            report.line(other.at)
        );
        let remedy = "move all VIPs of its family to one [[vrrp]], or remove it";
        report.add(at, wrong(what, remedy));
    }
}

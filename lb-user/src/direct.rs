//! Direct return: what nodes ask each other about, and what this node does for others. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lb_proto::family::Family;
use lb_proto::peer::{Ports, Post};

use crate::config::{Config, Listen, Role, Service, ServiceMode};
use crate::desired::vips;

/// Listeners of one service that are asked about at most: a question each, at every check of every backend.
const MOST_ASKED: usize = 16;

/// The families of nodes that ask and are asked.
#[must_use]
pub fn families(config: &Config) -> BTreeSet<Family> {
    let backends = config.direct_services().flat_map(|service| &service.backends);
    backends.map(|backend| Family::of(backend.address.ip())).collect()
}

/// What the agents of a service's backends are asked about: a port of each of its places. Nothing where packets are
/// not forwarded as they came.
#[must_use]
pub fn asked(config: &Config, service: &Service) -> Vec<SocketAddr> {
    if service.mode != ServiceMode::Dsr || config.node.role != Role::Balancer {
        return Vec::new();
    }
    let ports = places(service, &vips(config));
    ports.into_iter().map(|ports| SocketAddr::new(ports.address, ports.first)).take(MOST_ASKED).collect()
}

/// What this node does for others, with backends of the services named in `own`, and nodes that it knows to forward.
#[must_use]
pub fn post(config: &Config, own: &BTreeSet<String>, known: BTreeSet<IpAddr>, ready: bool) -> Post {
    let vips = vips(config);
    let of = |wanted: &dyn Fn(&&Service) -> bool| {
        config.direct_services().filter(wanted).flat_map(|service| places(service, &vips)).collect()
    };
    Post { configured: of(&|_| true), own: of(&|service| own.contains(&service.name)), ready, known, leaving: false }
}

/// Where packets to a service arrive.
fn places(service: &Service, vips: &BTreeSet<IpAddr>) -> Vec<Ports> {
    let of = |listen: &Listen, address: IpAddr| Ports { address, first: listen.first, last: listen.last };
    let everywhere = |listen: &Listen| {
        let family = Family::of(listen.address);
        let vips = vips.iter().filter(move |vip| listen.is_everywhere() && Family::of(**vip) == family);
        vips.map(|vip| of(listen, *vip)).collect::<Vec<_>>()
    };
    let itself = |listen: &Listen| vips.contains(&listen.address).then(|| of(listen, listen.address));
    service.listen.iter().flat_map(|listen| itself(listen).into_iter().chain(everywhere(listen))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    const FILE: &str = r#"
        [node]
        interface = "eth0"
        [[vrrp]]
        name = "k"
        virtual_router_id = 1
        unicast_source = "192.0.2.31"
        virtual_addresses = ["192.0.2.100/24", "192.0.2.101/24"]
        [[service]]
        name = "a"
        listen = ["192.0.2.100:8443", "0.0.0.0:4300-4309", "127.0.0.1:8443", "192.0.2.31:8443"]
        mode = "dsr"
        backend = [{ name = "m", address = "192.0.2.31:6443" }]
        [[service]]
        name = "b"
        listen = "192.0.2.101:1"
        backend = [{ name = "m", address = "192.0.2.31:1" }]
        [[service]]
        name = "c"
        listen = "192.0.2.101:2"
        mode = "dsr"
        backend = [{ name = "m", address = "192.0.2.32:1" }]
    "#;

    fn config(text: &str) -> Config {
        let env = Env { host_name: "n".to_owned(), memory: 0 };
        parse(text, "xvip.toml", &env).unwrap_or_else(|faults| panic!("{faults}")).config
    }

    #[test]
    fn one_port_of_each_place_is_asked_about() {
        let config = config(FILE);
        let asked: Vec<_> = config.services.iter().map(|service| asked(&config, service)).collect();
        let shown: Vec<Vec<String>> = asked.iter().map(|a| a.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(shown[0], ["192.0.2.100:8443", "192.0.2.100:4300", "192.0.2.101:4300"]);
        assert_eq!(shown[1], Vec::<String>::new(), "snat");
        assert_eq!(shown[2], ["192.0.2.101:2"]);
        assert_eq!(families(&config), [Family::V4].into());
    }

    #[test]
    fn a_node_answers_for_its_own_backends() {
        let config = config(FILE);
        let known: BTreeSet<IpAddr> = [[192, 0, 2, 32].into()].into();
        let post = post(&config, &["a".to_owned()].into(), known.clone(), true);
        assert_eq!((post.configured.len(), post.own.len(), post.known), (4, 3, known));
        let (head, tail) = (FILE.find("[[vrrp]]").unwrap(), FILE.find("[[service]]").unwrap());
        let text = format!("{}{}", &FILE[..head], &FILE[tail..]).replace("[node]", "[node]\nrole = \"backend\"");
        let config = super::tests::config(&text.replace(", \"192.0.2.31:8443\"", ""));
        assert!(asked_of_all(&config).is_empty());
    }

    fn asked_of_all(config: &Config) -> Vec<SocketAddr> {
        config.services.iter().flat_map(|service| asked(config, service)).collect()
    }
}

//! The comparison with a host.

use super::*;

const TEXT: &str = r#"[node]
interface = "eth0"
[[vrrp]]
name = "a"
virtual_router_id = 1
unicast_source = "192.0.2.21"
virtual_addresses = ["192.0.2.100/24", "198.51.100.7/24"]
[[vrrp]]
name = "b"
interface = "eth1"
virtual_router_id = 2
virtual_addresses = ["198.51.100.8/24"]
[[service]]
name = "s"
listen = "192.0.2.100:1"
[[service.backend]]
name = "b"
address = "192.0.2.31:1"
"#;

fn host(interfaces: &[(&str, &[&str])]) -> HostFacts {
    let net = |text: &&str| values::vip_net(text).unwrap();
    let interface = |(name, nets): &(&str, &[&str])| (name.to_string(), nets.iter().map(net).collect());
    HostFacts { interfaces: interfaces.iter().map(interface).collect() }
}

fn faults(facts: &HostFacts) -> String {
    match accept(TEXT).check_host(facts) {
        Ok(()) => String::new(),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn a_host_that_has_everything_is_good() {
    let eth1: (&str, &[&str]) = ("eth1", &["198.51.100.2/25"]);
    let both: (&str, &[&str]) = ("eth0", &["192.0.2.21/24", "198.51.100.3/24"]);
    assert_eq!(faults(&host(&[both, eth1])), "");
}

#[test]
fn what_the_host_lacks_is_named_where_the_file_asks_for_it() {
    assert_eq!(
        faults(&HostFacts::default()),
        "xvip.toml:2:13: interface \"eth0\" is not on this host, create it first\n\
         xvip.toml:10:13: interface \"eth1\" is not on this host, create it first"
    );
    assert_eq!(
        faults(&host(&[("lo", &[]), ("ens3", &["192.0.2.21/24"]), ("eth1", &["198.51.100.8/24"])])),
        "xvip.toml:2:13: interface \"eth0\" is not on this host, create it or use \"ens3\" or \"eth1\"\n\
         xvip.toml:10:13: interface \"eth1\" has no IPv4 address of its own, give it one in the subnet of the VIPs"
    );
    // The VIPs of the other network are there already and do not count.
    let left_over = ["192.0.2.22/24", "198.51.100.7/24", "198.51.100.8/24"];
    assert_eq!(
        faults(&host(&[("eth0", &left_over), ("eth1", &["203.0.113.1/24", "203.0.113.2/32"])])),
        "xvip.toml:6:18: unicast_source 192.0.2.21 is not an address of \"eth0\", use 192.0.2.22/24 or leave unicast_source out\n\
         xvip.toml:7:40: virtual address 198.51.100.7/24 is in no subnet of \"eth0\", choose one in the subnet of 192.0.2.22/24 or another interface\n\
         xvip.toml:12:22: virtual address 198.51.100.8/24 is in no subnet of \"eth1\", choose one in the subnet of 203.0.113.1/24 or 203.0.113.2/32 or another interface"
    );
}

#[test]
fn nets_know_their_bounds() {
    let net = |prefix| Ipv4Net { address: [192, 0, 2, 100].into(), prefix };
    assert_eq!(net(26).network(), std::net::Ipv4Addr::new(192, 0, 2, 64));
    assert_eq!(net(26).broadcast(), std::net::Ipv4Addr::new(192, 0, 2, 127));
    assert!(net(26).contains([192, 0, 2, 65].into()) && !net(26).contains([192, 0, 2, 128].into()));
    assert!(net(0).contains([1, 2, 3, 4].into()));
    assert!(net(32).contains(net(32).address) && !net(32).contains([192, 0, 2, 101].into()));
    assert_eq!(net(200).network(), net(32).network());
}

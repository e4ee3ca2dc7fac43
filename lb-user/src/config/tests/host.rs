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
fn each_family_needs_an_address_of_its_own() {
    let text = TEXT.replace(
        "[[service]]",
        "[[vrrp]]\nname = \"c\"\nvirtual_router_id = 1\nvirtual_addresses = [\"2001:db8::100/64\"]\n[[service]]",
    );
    let faults = |eth0: &[&str]| {
        let eth1: (&str, &[&str]) = ("eth1", &["198.51.100.2/25"]);
        accept(&text).check_host(&host(&[("eth0", eth0), eth1])).map_err(|faults| faults.to_string())
    };
    let of_ipv4 = ["192.0.2.21/24", "198.51.100.3/24"];
    assert_eq!(
        faults(&of_ipv4).unwrap_err(),
        "xvip.toml:13:1: interface \"eth0\" has no IPv6 address of its own, give it one in the subnet of the VIPs"
    );
    assert_eq!(
        faults(&[&of_ipv4[..], &["2001:db8::100/64", "fe80::1/64"]].concat()).unwrap_err(),
        "xvip.toml:16:22: virtual address 2001:db8::100/64 is in no subnet of \"eth0\", choose one in the subnet of fe80::1/64 or another interface"
    );
    assert_eq!(faults(&[&of_ipv4[..], &["2001:db8::21/64", "fe80::1/64"]].concat()), Ok(()));
    let of_ipv6 = faults(&["2001:db8::21/64"]).unwrap_err();
    assert!(of_ipv6.starts_with("xvip.toml:2:13: interface \"eth0\" has no IPv4 address of its own"), "{of_ipv6}");
    assert_eq!(of_ipv6.lines().count(), 1, "said once: {of_ipv6}");
}

#[test]
fn nets_know_their_bounds() {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let net = |prefix| IpNet { address: [192, 0, 2, 100].into(), prefix };
    assert_eq!(net(26).network(), ip("192.0.2.64"));
    assert_eq!(net(26).last(), ip("192.0.2.127"));
    assert!(net(26).contains(ip("192.0.2.65")) && !net(26).contains(ip("192.0.2.128")));
    assert!(net(0).contains(ip("1.2.3.4")) && !net(0).contains(ip("::1.2.3.4")));
    assert!(net(32).contains(net(32).address) && !net(32).contains(ip("192.0.2.101")));
    assert_eq!(net(200).network(), net(32).network());

    let net = |prefix| IpNet { address: ip("2001:db8::100"), prefix };
    assert_eq!(net(64).network(), ip("2001:db8::"));
    assert_eq!(net(64).last(), ip("2001:db8::ffff:ffff:ffff:ffff"));
    assert!(net(64).contains(ip("2001:db8::1:0:0:1")) && !net(64).contains(ip("2001:db8:0:1::1")));
    assert!(net(0).contains(ip("fe80::1")) && !net(0).contains(ip("1.2.3.4")));
    assert!(net(128).contains(ip("2001:db8::100")) && !net(128).contains(ip("2001:db8::101")));
    assert_eq!(
        (net(200).network(), net(0).last()),
        (net(128).network(), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
    );
}

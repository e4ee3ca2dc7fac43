//! `[sync]`: its defaults, and every refusal.

use std::net::IpAddr;

use super::*;

const SYNC: &str = "[sync]\nkey_file = \"/etc/xvip/sync.key\"\n";

fn with(router: &str, sync: &str) -> String {
    changed("virtual_router_id = 51\n", &format!("virtual_router_id = 51\n{router}")) + sync
}

fn sync(text: &str) -> Sync {
    accept(text).config.sync.unwrap()
}

#[test]
fn peers_and_source_are_those_of_the_virtual_routers() {
    let address = |last| IpAddr::from([192, 0, 2, last]);
    let routers = "unicast_source = \"192.0.2.21\"\nunicast_peers = [\"192.0.2.22\", \"192.0.2.23\"]\n";
    let expected = Sync {
        key_file: "/etc/xvip/sync.key".into(),
        port: 9912,
        peers: [address(22), address(23)].into(),
        sources: vec![address(21)],
    };
    assert_eq!(sync(&with(routers, SYNC)), expected);
    let more = format!("{SYNC}port = 700\npeers = [\"192.0.2.29\", \"2001:db8::2\"]\nsource = \"2001:db8::1\"\n");
    let other = Sync {
        port: 700,
        peers: [address(29), "2001:db8::2".parse().unwrap()].into(),
        sources: vec![address(21), "2001:db8::1".parse().unwrap()],
        ..expected
    };
    assert_eq!(sync(&with(routers, &more)), other);
    assert_eq!(accept(&with(routers, "")).config.sync, None);
    let by_multicast = sync(&with("", &format!("{SYNC}peers = [\"192.0.2.22\"]\n")));
    assert_eq!((by_multicast.peers, by_multicast.sources), ([address(22)].into(), vec![]));
}

#[test]
fn each_fault_has_its_place_and_remedy() {
    let routers = "unicast_source = \"192.0.2.21\"\nunicast_peers = [\"192.0.2.22\"]\n";
    let six = "unicast_peers = [\"fe80::2\"]\n";
    let cases: [(&str, String, &str); 13] = [
        (
            "",
            SYNC.into(),
            "20:1: [sync] has no peers, and no [[vrrp]] has unicast_peers, \
             name the other balancers such as peers = [\"192.0.2.22\"]",
        ),
        (routers, "[sync]\n".into(), "22:1: [sync] has no key_file, add key_file = \"/etc/xvip/sync.key\""),
        (
            routers,
            "[sync]\nkey_file = \"sync.key\"\n".into(),
            "23:12: key_file \"sync.key\" is a relative path, write the whole path such as \"/etc/xvip/sync.key\"",
        ),
        (
            routers,
            format!("{SYNC}port = 9911\n"),
            "24:8: port 9911 is node.peer_port, choose another for one of the two",
        ),
        (routers, format!("{SYNC}port = 0\n"), "24:8: port is 0, write a whole number from 1 to 65535"),
        (
            routers,
            format!("{SYNC}keyfile = 1\n"),
            "24:1: unknown key \"keyfile\" in [sync], did you mean \"key_file\"?",
        ),
        (
            routers,
            format!("{SYNC}peers = []\n"),
            "24:9: peers is empty, name the other balancers such as peers = [\"192.0.2.22\"]",
        ),
        (
            routers,
            format!("{SYNC}peers = [\"192.0.2.22\", \"192.0.2.22\"]\n"),
            "24:24: peer 192.0.2.22 is listed before in line 24, list it once",
        ),
        (
            routers,
            format!("{SYNC}peers = [\"192.0.2.21\"]\n"),
            "24:10: peer 192.0.2.21 is this node's unicast_source, list only the other balancers",
        ),
        (
            routers,
            format!("{SYNC}peers = [\"192.0.2.100\"]\n"),
            "24:10: peer 192.0.2.100 is a virtual address in line 10, write the other balancer's own address",
        ),
        (
            routers,
            format!("{SYNC}source = [\"192.0.2.21\", \"192.0.2.24\"]\n"),
            "24:25: source 192.0.2.24 is a second address of IPv4 besides 192.0.2.21, name one for each IP version",
        ),
        (
            routers,
            format!("{SYNC}source = \"192.0.2.100\"\n"),
            "24:10: source 192.0.2.100 is a virtual address, which is not always here, write this node's own address",
        ),
        (
            "",
            format!("{SYNC}peers = [\"fe80::2\"]\n"),
            "22:10: peer fe80::2 is link-local, which is no address without an interface, \
             add peers with other addresses of the other balancers",
        ),
    ];
    for (router, sync, fault) in cases {
        let text = with(router, &sync);
        assert_eq!(refuse(&text).replace("xvip.toml:", ""), fault, "{text}");
    }
    let linked = with(six, SYNC).replace("192.0.2.100", "2001:db8::100").replace("/24", "/64");
    let linked = linked.replace("2001:db8::100:8443", "[2001:db8::100]:8443").replace("192.0.2.31:", "[2001:db8::31]:");
    assert_eq!(
        refuse(&linked).replace("xvip.toml:", ""),
        "21:1: [sync] has no peers, and unicast_peers has fe80::2, which is link-local, \
         add peers with other addresses of the other balancers"
    );
    let backend = BASE.replace("interface = \"eth0\"\n", "interface = \"eth0\"\nrole = \"backend\"\n");
    let (head, tail) = backend.split_once("[[vrrp]]").unwrap();
    let (_, services) = tail.split_once("[[service]]").unwrap();
    let text = format!("{head}[[service]]\nmode = \"dsr\"{services}{SYNC}peers = [\"192.0.2.22\"]\n");
    assert_eq!(
        refuse(&text).replace("xvip.toml:", ""),
        "17:1: [sync] shares flows between balancers, and a node with role \"backend\" is none, remove it, or the role"
    );
}

#[test]
fn peers_are_other_hosts_and_the_source_is_this_one() {
    let text = with("", &format!("{SYNC}peers = [\"192.0.2.21\"]\nsource = \"192.0.2.29\"\n"));
    let own = values::vip_net("192.0.2.21/24").unwrap();
    let host = HostFacts { interfaces: vec![("eth0".to_owned(), vec![own])] };
    assert_eq!(
        accept(&text).check_host(&host).unwrap_err().to_string(),
        "xvip.toml:22:9: peer 192.0.2.21 is an address of this host, name only the other balancers\n\
         xvip.toml:23:10: source 192.0.2.29 is not an address of this host, name one that is, or leave it out"
    );
}

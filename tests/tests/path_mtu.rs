//! What routers say, and what is said as by a router: a narrow link between clients and the VIP, of which the servers hear,
//! and packets with no hop left at the balancer, of which their senders hear. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use common::{OFTEN, curl, end, serving_both, wait};
use xvip_tests::netns::Netns;
use xvip_tests::topology::{Topology, VIP, host};
use xvip_tests::version::Version;

/// Bytes of the largest packet towards the client.
const NARROW: u32 = 1300;

#[test]
fn much_data_passes_a_narrow_link_by_xdp() {
    passes_a_narrow_link("xdp");
}

#[test]
fn much_data_passes_a_narrow_link_by_tc() {
    passes_a_narrow_link("tc");
}

/// A client behind a router; the client itself does not know how narrow the link is.
fn behind_a_router(topology: &Topology) -> (Netns, Netns) {
    let (router, _) = host(&topology.lan, &topology.run, "router", "192.0.2.1").unwrap();
    Version::V6.equip(&router, "192.0.2.1").unwrap();
    let far = Netns::create(&topology.run, "far").unwrap();
    router.ip(&format!("link add eth1 type veth peer name eth0 netns {}", far.path().display())).unwrap();
    router.ip(&format!("link set eth1 up mtu {NARROW}")).unwrap();
    far.ip("link set eth0 up").unwrap();
    for (netns, device, four, six) in [
        (&router, "eth1", "198.51.100.1/24", "2001:db8:1::1/64"),
        (&far, "eth0", "198.51.100.7/24", "2001:db8:1::7/64"),
    ] {
        netns.ip(&format!("address add {four} dev {device}")).unwrap();
        netns.ip(&format!("-6 address add {six} dev {device} nodad")).unwrap();
    }
    far.ip("route add default via 198.51.100.1").unwrap();
    far.ip("-6 route add default via 2001:db8:1::1").unwrap();
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    router.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    let hosts = topology.servers.iter().map(|server| server.netns());
    for netns in hosts.chain(topology.balancers.iter().map(|balancer| balancer.agent.netns())) {
        netns.ip("route add 198.51.100.0/24 via 192.0.2.1").unwrap();
        netns.ip("-6 route add 2001:db8:1::/64 via 2001:db8::1").unwrap();
    }
    (router, far)
}

fn passes_a_narrow_link(datapath: &str) {
    let datapath = format!("datapath = \"{datapath}\"");
    let (topology, servers) = serving_both(1, &[OFTEN, ("datapath = \"xdp\"", &datapath)]);
    let (router, far) = behind_a_router(&topology);
    let ca = topology.authority.ca_file();
    let counted = |reason: &str| -> u64 {
        let status = topology.balancers[0].agent.status().unwrap();
        status.datapath.packets.iter().filter(|row| row.reason == reason).map(|row| row.packets).sum()
    };
    let errors = || counted("icmp_error");
    let mut before = 0;
    for version in [Version::V4, Version::V6] {
        let place = version.at(VIP).unwrap();
        let bytes = 5_000_000;
        let body = topology.run.dir().join("body");
        // Once from each server: each has to learn of the link.
        for _ in 0..3 {
            curl(&far, &ca, &["-o", &body.display().to_string()], &format!("https://{place}/bytes?n={bytes}"));
            assert_eq!(std::fs::metadata(&body).unwrap().len(), bytes);
        }
        wait("the errors to be counted", || errors() > before);
        before = errors();
    }
    // As traceroute does: the second hop is the balancer, the third the server.
    let mut told = 0;
    for version in [Version::V4, Version::V6] {
        let place = version.at(VIP).unwrap();
        let connect = |hops: &str| {
            far.sysctl("net/ipv4/ip_default_ttl", hops).unwrap();
            far.sysctl("net/ipv6/conf/eth0/hop_limit", hops).unwrap();
            far.enter(|| TcpStream::connect_timeout(&place, Duration::from_secs(20))).unwrap().map(drop)
        };
        let error = connect("2").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{place}: {error}");
        wait("the packet without a hop to be counted", || counted("time_exceeded") > told);
        told = counted("time_exceeded");
        connect("3").unwrap();
    }
    drop((far, router, servers));
    end(topology);
}

//! Orders to virtual routers, and what becomes of them.

use std::num::NonZeroU8;
use std::time::Duration;

use super::config::Place;
use super::*;
use crate::clock;
use crate::config::ChecksumForm;
use crate::netlink::{Address, Link};
use lb_proto::units::Version;

fn net(text: &str) -> IpNet {
    let (address, prefix) = text.split_once('/').unwrap();
    IpNet { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

pub(super) fn vrrp(name: &str, interface: &str, id: u8, vips: &[&str]) -> Vrrp {
    Vrrp {
        name: name.to_owned(),
        interface: interface.to_owned(),
        virtual_router_id: NonZeroU8::new(id).unwrap(),
        priority: 100,
        advert_interval: Duration::from_millis(100),
        preempt: false,
        preempt_delay: Duration::ZERO,
        unicast_source: None,
        unicast_peers: Vec::new(),
        virtual_addresses: vips.iter().map(|vip| net(vip)).collect(),
        checksum: ChecksumForm::Rfc5798,
        version: Version::V3,
        password: None,
        auth: None,
        tracks: Vec::new(),
        notify: Vec::new(),
        sync_group: None,
    }
}

fn interfaces() -> Interfaces {
    let address = |text: &str| {
        let global = !text.starts_with("fe80:");
        Address { ifindex: 7, net: net(text), secondary: false, global, usable: true, ours: false }
    };
    Interfaces {
        links: vec![Link { index: 7, name: "eth0".to_owned(), mac: None, up: true, flaps: 0, mtu: 1500, kind: None }],
        addresses: [
            "192.0.2.101/24",
            "192.0.2.21/24",
            "198.51.100.21/24",
            "2001:db8::100/64",
            "2001:db8::21/64",
            "fe80::21/64",
        ]
        .map(address)
        .to_vec(),
    }
}

#[test]
fn no_router_sends_from_a_vip_not_even_from_anothers() {
    let configs = [vrrp("a", "eth0", 51, &["192.0.2.100/24"]), vrrp("b", "eth1", 52, &["192.0.2.101/24"])];
    let orders = Order::all(&configs);
    let place = Place::of(&orders[0], &interfaces());
    assert_eq!(place, Some(Place { ifindex: 7, up: true, primary: Some([192, 0, 2, 21].into()) }));
    assert_eq!(Place::of(&orders[1], &interfaces()), None, "there is no eth1");
}

#[test]
fn a_source_that_is_named_must_be_there() {
    let mut config = vrrp("a", "eth0", 51, &["192.0.2.100/24"]);
    for (source, primary) in [("198.51.100.21", true), ("198.51.100.22", false)] {
        config.unicast_source = Some(source.parse().unwrap());
        let place = Place::of(&Order::all(std::slice::from_ref(&config))[0], &interfaces()).unwrap();
        assert_eq!(place.primary, config.unicast_source.filter(|_| primary), "{source}");
    }
}

#[test]
fn siblings_share_the_interface() {
    let vip = ["192.0.2.100/24"];
    let configs = [vrrp("a", "eth0", 51, &vip), vrrp("b", "eth0", 52, &vip), vrrp("c", "eth1", 53, &vip)];
    let siblings: Vec<Vec<u8>> =
        Order::all(&configs).iter().map(|order| order.siblings.iter().map(|vrid| vrid.get()).collect()).collect();
    assert_eq!(siblings, [vec![52], vec![51], vec![]]);
}

#[test]
fn over_ipv6_the_source_is_of_the_kind_by_which_peers_know_it() {
    // Listed by the kernel from the newest to the oldest, the VIP would be first.
    let mut config = vrrp("a", "eth0", 51, &["2001:db8::100/64"]);
    for (peers, primary) in [
        (&[][..], "fe80::21"),
        (&["fe80::22"], "fe80::21"),
        (&["2001:db8::22"], "2001:db8::21"),
        (&["fe80::22", "2001:db8::23"], "2001:db8::21"),
    ] {
        config.unicast_peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        let order = &Order::all(std::slice::from_ref(&config))[0];
        assert_eq!(Place::of(order, &interfaces()).unwrap().primary, Some(primary.parse().unwrap()), "{peers:?}");
    }
    config.unicast_source = Some("fe80::21".parse().unwrap());
    let mut unproven = interfaces();
    for usable in [true, false] {
        unproven.addresses.iter_mut().for_each(|address| address.usable = usable);
        let order = &Order::all(std::slice::from_ref(&config))[0];
        assert_eq!(Place::of(order, &unproven).unwrap().primary.is_some(), usable);
    }
}

#[test]
fn families_with_one_vrid_are_two_routers() {
    let (four, six) = (vrrp("a", "eth0", 51, &["192.0.2.100/24"]), vrrp("a", "eth0", 51, &["2001:db8::100/64"]));
    assert_ne!(key(&four), key(&six));
    let third = vrrp("b", "eth0", 52, &["fe80::7/64"]);
    let siblings = |order: &Order| order.siblings.iter().map(|vrid| vrid.get()).collect::<Vec<_>>();
    let orders = Order::all(&[four, six, third]);
    assert_eq!(orders.iter().map(siblings).collect::<Vec<_>>(), [vec![], vec![52], vec![51]], "who overhears whom");
    let machine = orders[1].machine(Some("fe80::21".parse().unwrap())).unwrap();
    assert_eq!(machine.family(), Family::V6);
}

#[test]
fn the_state_machine_gets_what_the_file_says() {
    let mut config = vrrp("a", "eth0", 51, &["192.0.2.100/24", "192.0.2.101/32"]);
    config.unicast_peers = vec![[192, 0, 2, 22].into()];
    let order = &Order::all(std::slice::from_ref(&config))[0];
    assert!(!order.multicast());
    let machine = order.machine(None).unwrap();
    assert_eq!((machine.vrid.get(), machine.priority.get(), machine.advert_interval.get()), (51, 100, 10));
    assert_eq!(machine.addresses.as_slice(), [IpAddr::from([192, 0, 2, 100]), IpAddr::from([192, 0, 2, 101])]);
    assert_eq!(*machine.peers, config.unicast_peers);

    config.virtual_addresses.clear();
    assert!(Order::all(&[config])[0].machine(None).is_err());
}

fn instance(name: &str, vrid: u8) -> InstanceSnapshot {
    InstanceSnapshot {
        name: name.to_owned(),
        interface: "eth0".to_owned(),
        vrid,
        priority: 100,
        sync_group: None,
        state: State::Initialize,
        why: Why::New,
        reason: String::new(),
        since: clock::now(),
        virtual_addresses: Vec::new(),
        announce: 0,
        active_router: None,
        lingers: false,
    }
}

#[test]
fn a_snapshot_wakes_only_for_news() {
    let mut all = VrrpSnapshot::default();
    let first = instance("a", 51);
    assert!(all.put(first.clone()));
    assert!(!all.put(first.clone()));
    assert!(all.put(instance("a", 52)), "another VRID is another router");
    assert!(all.put(InstanceSnapshot { announce: 1, ..first }));
    assert_eq!(all.instances.len(), 2);
    assert_eq!(all.instance("a").map(|instance| instance.announce), Some(1));
}

/// Gives up where the driver should have acted and has not.
const PATIENCE: Duration = Duration::from_secs(20);

async fn wait(snapshot: &mut watch::Receiver<VrrpSnapshot>, what: impl FnMut(&VrrpSnapshot) -> bool) -> VrrpSnapshot {
    tokio::time::timeout(PATIENCE, snapshot.wait_for(what)).await.expect("in time").unwrap().clone()
}

/// Needs no rights: an interface that is not there needs no socket.
#[tokio::test]
async fn routers_without_an_interface_say_so_and_follow_the_configuration() {
    let config = |name| vrrp(name, "not-there", 51, &["192.0.2.100/24"]);
    let handle = VrrpDriver::spawn(vec![config("b"), config("a")], Metrics::new(), Leases::default(), false).unwrap();
    let mut snapshot = handle.subscribe();
    let faulty = |all: &VrrpSnapshot| {
        all.instances.len() == 2 && all.instances.iter().all(|instance| instance.state == State::Fault)
    };
    let all = wait(&mut snapshot, faulty).await;
    let names: Vec<&str> = all.instances.iter().map(|instance| instance.name.as_str()).collect();
    assert_eq!(names, ["b", "a"], "in the order of the file");
    assert_eq!(all.instances[0].reason, r#"interface "not-there" does not exist"#);

    let mut changed = config("a");
    changed.priority = 7;
    handle.reconfigure(vec![changed, config("c")]);
    let all = wait(&mut snapshot, |all| {
        let names: Vec<&str> = all.instances.iter().map(|instance| instance.name.as_str()).collect();
        names == ["a", "c"] && all.instances[0].priority == 7
    })
    .await;
    assert_eq!(all.instances[0].virtual_addresses, [net("192.0.2.100/24")]);

    tokio::time::timeout(PATIENCE, handle.stop()).await.expect("stops");
    assert!(snapshot.borrow().instances.iter().all(|instance| instance.state == State::Initialize));
}

//! Links, addresses and neighbours read from messages.

use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link_bytes(flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(attributes.concat());
    bytes
}

#[test]
fn a_link_is_read_past_what_is_not_understood() {
    let info = [attribute(libc::IFLA_INFO_KIND, b"veth\0"), attribute(99, b"x")].concat();
    let attributes = [
        attribute(libc::IFLA_IFNAME, b"eth0\0"),
        attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
        attribute(libc::IFLA_MTU, &1500_u32.to_ne_bytes()),
        attribute(libc::IFLA_CARRIER_CHANGES, &3_u32.to_ne_bytes()),
        attribute(12345, b"from the future"),
        attribute(libc::IFLA_LINKINFO, &info),
    ];
    let expected = Link {
        index: 7,
        name: "eth0".to_owned(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        up: true,
        flaps: 3,
        mtu: 1500,
        kind: Some("veth".to_owned()),
    };
    assert_eq!(link(&link_bytes(libc::IFF_UP | libc::IFF_LOWER_UP, &attributes)).unwrap(), expected);
    for flags in [0, libc::IFF_UP, libc::IFF_LOWER_UP] {
        assert!(!link(&link_bytes(flags, &attributes)).unwrap().up, "{flags:#x}");
    }
}

#[test]
fn a_link_cut_short_is_an_error() {
    let bytes = link_bytes(0, &[attribute(libc::IFLA_IFNAME, b"eth0-long\0")]);
    assert!(link(&bytes[..10]).is_err());
    assert!(link(&bytes[..22]).is_err());
    // Neither tunnels nor the loopback have an Ethernet address.
    let tunnel = link(&link_bytes(0, &[attribute(libc::IFLA_ADDRESS, &[1, 2, 3, 4])])).unwrap();
    let loopback = link(&link_bytes(0, &[attribute(libc::IFLA_ADDRESS, &[0; 6])])).unwrap();
    assert_eq!((tunnel.mac, loopback.mac), (None, None));
}

fn on(ifindex: u32, net: &str, change: impl Fn(&mut Address)) -> Address {
    let (address, prefix) = net.split_once('/').unwrap();
    let net = IpNet { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() };
    let mut address = Address { ifindex, net, secondary: false, global: true, usable: true, ours: false };
    change(&mut address);
    address
}

fn interfaces_with(addresses: Vec<Address>) -> Interfaces {
    let link =
        |index, name: &str| Link { index, name: name.to_owned(), mac: None, up: true, flaps: 0, mtu: 1500, kind: None };
    Interfaces { links: vec![link(1, "lo"), link(2, "eth0")], addresses }
}

#[test]
fn the_primary_address_is_nobodys_vip() {
    let vip = IpAddr::from([192, 0, 2, 100]);
    let interfaces = interfaces_with(vec![
        on(1, "192.0.2.1/32", |_| {}),
        on(2, "169.254.0.1/16", |a| a.global = false),
        on(2, "192.0.2.100/24", |_| {}),
        on(2, "192.0.2.101/32", |a| a.ours = true),
        on(2, "192.0.2.20/24", |a| a.secondary = true),
        on(2, "192.0.2.21/24", |_| {}),
        on(2, "198.51.100.21/24", |_| {}),
    ]);
    assert_eq!(interfaces.primary_address(2, Speaker::Ipv4, &[vip]), Some([192, 0, 2, 21].into()));
    assert_eq!(interfaces.primary_address(2, Speaker::Ipv4, &[]), Some(vip));
    assert_eq!(interfaces.primary_address(3, Speaker::Ipv4, &[]), None);
}

#[test]
fn over_ipv6_it_is_the_oldest_that_is_good_to_speak_with() {
    let link = |text, change: fn(&mut Address)| {
        on(2, text, |a| {
            a.global = false;
            change(a);
        })
    };
    let interfaces = interfaces_with(vec![
        on(2, "192.0.2.21/24", |_| {}),
        // As the kernel lists them: by scope, the newest first.
        on(2, "2001:db8::9/64", |a| a.usable = false),
        on(2, "2001:db8::100/64", |a| a.ours = true),
        on(2, "2001:db8::22/64", |_| {}),
        on(2, "2001:db8::21/64", |_| {}),
        on(2, "2001:db8::1234/64", |a| a.secondary = true),
        link("fe80::2/64", |_| {}),
        link("fe80::1/64", |_| {}),
        link("fe80::100/64", |a| a.ours = true),
        link("fe80::9/64", |a| a.usable = false),
    ]);
    let primary = |want, excluding: &[&str]| {
        let excluding: Vec<IpAddr> = excluding.iter().map(|text| text.parse().unwrap()).collect();
        interfaces.primary_address(2, want, &excluding).map(|address| address.to_string())
    };
    assert_eq!(primary(Speaker::Ipv6, &[]).as_deref(), Some("2001:db8::21"));
    assert_eq!(primary(Speaker::Ipv6, &["2001:db8::21"]).as_deref(), Some("2001:db8::22"));
    assert_eq!(primary(Speaker::Ipv6LinkLocal, &[]).as_deref(), Some("fe80::1"));
    assert_eq!(primary(Speaker::Ipv4, &[]).as_deref(), Some("192.0.2.21"));
}

fn address_message(family: i32, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let mut bytes = vec![u8::try_from(family).unwrap(), 64, flags, 0];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)));
    bytes
}

#[test]
fn ipv6_addresses_are_read_with_what_they_are_fit_for() {
    let (one, two) = ([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0x20; 16]);
    let read = |flags, attributes: &[(u16, &[u8])]| {
        let bytes = address_message(libc::AF_INET6, flags, attributes);
        address(&AddressMessage::parse(bytes.as_slice()).unwrap()).unwrap()
    };
    let plain = read(0x80, &[(1, &one)]);
    assert_eq!((plain.net.to_string().as_str(), plain.usable, plain.ours), ("2001:db8::1/64", true, false));
    // The other end's address is not ours.
    assert_eq!(read(0x80, &[(1, &two), (2, &one)]).net, plain.net);
    for (flags, usable, secondary) in
        [(0x40, false, false), (0x44, true, false), (0x48, false, false), (0x20, false, false), (0x01, true, true)]
    {
        let address = read(flags, &[(1, &one)]);
        assert_eq!((address.usable, address.secondary), (usable, secondary), "{flags:#x}");
    }
    assert!(read(0xa2, &[(1, &one), (11, &[ours::PROTOCOL])]).ours);
    assert!(!is_ip(&address_message(libc::AF_BRIDGE, 0, &[])) && !is_ip(&[]));
}

#[test]
fn host_facts_leave_our_own_addresses_out() {
    let interfaces = interfaces_with(vec![
        on(2, "192.0.2.100/24", |a| a.ours = true),
        on(1, "127.0.0.1/8", |_| {}),
        on(2, "192.0.2.21/24", |_| {}),
    ]);
    let facts = interfaces.host_facts();
    let found: Vec<(&str, String)> =
        facts.interfaces.iter().map(|(name, nets)| (name.as_str(), format!("{nets:?}"))).collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].0, "lo");
    assert!(found[0].1.contains("127.0.0.1"));
    assert_eq!(found[1].0, "eth0");
    assert!(found[1].1.contains("192.0.2.21") && !found[1].1.contains("192.0.2.100"));
}

#[tokio::test]
async fn the_loopback_is_observed() {
    let observed = Netlink::connect().unwrap().observe().await.unwrap();
    let lo = observed.interfaces.link("lo").unwrap();
    assert!(observed.interfaces.addresses_of(lo.index).all(|a| !a.ours));
    assert_eq!(lo.mac, None);
}

#[test]
fn neighbours_of_both_families_are_read() {
    let read = |family: i32, state: u16, address: &[u8]| {
        // struct ndmsg: family, padding, interface, state, flags, type.
        let mut bytes = vec![u8::try_from(family).unwrap(), 0, 0, 0];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(state.to_ne_bytes());
        bytes.extend([0, 1]);
        bytes.extend(attribute(1, address));
        bytes.extend(attribute(2, &[2, 0, 0, 0, 0, 1]));
        neighbour(&NeighbourMessage::parse(bytes.as_slice()).unwrap())
    };
    let six = "2001:db8::31".parse::<std::net::Ipv6Addr>().unwrap();
    let (reachable, incomplete) = (0x02, 0x01);
    let found = read(libc::AF_INET6, reachable, &six.octets()).unwrap();
    assert_eq!((found.address, found.is_usable(), found.ifindex), (six.into(), true, 7));
    assert!(!read(libc::AF_INET6, incomplete, &six.octets()).unwrap().is_usable());
    assert_eq!(read(libc::AF_INET, reachable, &[192, 0, 2, 31]).unwrap().address, IpAddr::from([192, 0, 2, 31]));
}

#[tokio::test]
async fn the_way_to_the_loopback_is_local_in_both_families() {
    let netlink = Netlink::connect().unwrap();
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse().unwrap();
        let route = netlink.route_to(address).await.unwrap();
        assert!(route.local, "{route:?}");
        assert_eq!(route.next_hop(address), address);
    }
}

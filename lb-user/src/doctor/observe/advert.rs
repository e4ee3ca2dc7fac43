//! Reading adverts of either version of VRRP, as a bystander: who says what, whether or not we would believe it. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_proto::wire::ipv4::TTL;
use lb_proto::wire::{Packet, WireError, vrrp};

use crate::doctor::facts::Advert;

/// Version, type and the six octets that follow them (RFC 3768 section 5.1).
const HEADER: usize = 8;
/// Version 2, type 1.
const VERSION_2_ADVERT: u8 = 0x21;

/// What a packet says; `None` where it is no advert, or has crossed a router, so that no router heeds it.
pub(super) fn read(packet: Packet<'_>, interface: &str) -> Option<Advert> {
    let source = packet.src;
    if packet.ttl != TTL {
        return None;
    }
    match vrrp::Advert::parse(packet.payload, packet.src, packet.dst) {
        Ok((advert, _)) => Some(Advert {
            interface: interface.to_owned(),
            source,
            version: 3,
            vrid: advert.vrid.get(),
            priority: advert.priority.get(),
            interval: advert.interval.duration(),
            addresses: advert.addresses.as_slice().to_vec(),
        }),
        Err(WireError::Version(2)) if source.is_ipv4() => version_2(packet.payload, source, interface),
        Err(_) => None,
    }
}

fn version_2(payload: &[u8], source: IpAddr, interface: &str) -> Option<Advert> {
    let (header, rest) = payload.split_first_chunk::<HEADER>()?;
    let [VERSION_2_ADVERT, vrid @ 1..=255, priority, count, _authentication, seconds, _, _] = *header else {
        return None;
    };
    let (addresses, _) = rest.get(..usize::from(count) * 4)?.as_chunks::<4>();
    Some(Advert {
        interface: interface.to_owned(),
        source,
        version: 2,
        vrid,
        priority,
        interval: Duration::from_secs(seconds.into()),
        addresses: addresses.iter().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use lb_proto::units::{Centis, Vrid, WirePriority};
    use lb_proto::wire::vrrp::{Addresses, ChecksumForm};

    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 22);
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

    fn packet(ttl: u8, payload: &[u8]) -> Packet<'_> {
        Packet { src: SOURCE.into(), dst: GROUP.into(), ttl, payload }
    }

    #[test]
    fn both_versions_say_the_same() {
        let three = vrrp::Advert {
            vrid: Vrid::new(51).unwrap(),
            priority: WirePriority::new(120),
            interval: Centis::new(100).unwrap(),
            addresses: Addresses::new([VIP]).unwrap(),
        };
        let three = three.emit(SOURCE, GROUP, ChecksumForm::Rfc5798);
        let two = [&[0x21, 51, 120, 1, 1, 1, 0, 0], VIP.octets().as_slice(), b"password"].concat();
        for (version, payload) in [(3, &three), (2, &two)] {
            let expected = Advert {
                interface: "eth0".to_owned(),
                source: SOURCE.into(),
                version,
                vrid: 51,
                priority: 120,
                interval: Duration::from_secs(1),
                addresses: vec![VIP.into()],
            };
            assert_eq!(read(packet(255, payload), "eth0"), Some(expected));
            assert_eq!(read(packet(254, payload), "eth0"), None, "it has crossed a router");
            for length in 0..HEADER + 4 {
                assert_eq!(read(packet(255, &payload[..length]), "eth0"), None, "cut to {length}");
            }
        }
        let mut nobody = two;
        nobody[1] = 0;
        assert_eq!(read(packet(255, &nobody), "eth0"), None, "VRID 0");
    }
}

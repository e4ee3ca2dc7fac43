//! Adverts against bytes written out by hand, and against themselves.

use proptest::prelude::*;

use super::*;
use crate::wire::ipv4::MULTICAST;
use crate::wire::ipv6;

const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 21);

/// VRID 51, priority 150, one second, 192.0.2.100, from 192.0.2.21 to 224.0.0.18, as keepalived 2.2 sends it.
///
/// Message words:   3133 9601 0064 0000 c000 0264 = 189fc, folded 89fd
/// Pseudo-header:   c000 0215 e000 0012 0070 000c = 1a2a3, folded a2a4
/// Together:        89fd + a2a4 = 12ca1, folded 2ca2, complement d35d
/// Message alone:   complement of 89fd = 7602
const KEEPALIVED: [u8; 12] = [0x31, 0x33, 0x96, 0x01, 0x00, 0x64, 0xd3, 0x5d, 0xc0, 0x00, 0x02, 0x64];

fn advert() -> Advert {
    Advert {
        vrid: Vrid::new(51).unwrap(),
        priority: WirePriority::new(150),
        interval: Centis::new(100).unwrap(),
        addresses: Addresses::new([Ipv4Addr::new(192, 0, 2, 100)]).unwrap(),
    }
}

/// The message with one byte changed and, unless that byte is part of it, a checksum that fits.
fn altered(at: usize, value: u8) -> Vec<u8> {
    let mut bytes = KEEPALIVED.to_vec();
    bytes[at] = value;
    if !CHECKSUM.contains(&at) {
        bytes[CHECKSUM].fill(0);
        let checksum = sum(&bytes, SRC.into(), MULTICAST.into(), ChecksumForm::Rfc5798).checksum();
        bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

#[test]
fn reads_and_writes_the_form_with_a_pseudo_header() {
    assert_eq!(Advert::parse(&KEEPALIVED, SRC, MULTICAST), Ok((advert(), ChecksumForm::Rfc5798)));
    assert_eq!(advert().emit(SRC, MULTICAST, ChecksumForm::Rfc5798), KEEPALIVED);
}

#[test]
fn reads_and_writes_the_form_without() {
    let mut bytes = KEEPALIVED;
    bytes[CHECKSUM].copy_from_slice(&[0x76, 0x02]);
    assert_eq!(Advert::parse(&bytes, SRC, MULTICAST), Ok((advert(), ChecksumForm::Rfc9568)));
    assert_eq!(advert().emit(SRC, MULTICAST, ChecksumForm::Rfc9568), bytes);
}

#[test]
fn the_pseudo_header_binds_the_addresses() {
    let other = Ipv4Addr::new(192, 0, 2, 22);
    assert_eq!(Advert::parse(&KEEPALIVED, other, MULTICAST), Err(WireError::Checksum));
    assert_eq!(Advert::parse(&KEEPALIVED, SRC, other), Err(WireError::Checksum));
}

#[test]
fn names_every_refusal() {
    for (bytes, error) in [
        (Vec::new(), WireError::Truncated),
        (KEEPALIVED[..7].to_vec(), WireError::Truncated),
        (KEEPALIVED[..11].to_vec(), WireError::Truncated),
        (altered(0, 0x21), WireError::Version(2)),
        (altered(0, 0x41), WireError::Version(4)),
        (altered(0, 0x30), WireError::Type(0)),
        (altered(0, 0x32), WireError::Type(2)),
        (altered(1, 0), WireError::VridZero),
        (altered(3, 0), WireError::CountZero),
        (altered(3, 2), WireError::Truncated),
        (altered(3, 255), WireError::Truncated),
        (altered(5, 0), WireError::IntervalZero),
        (altered(6, 0), WireError::Checksum),
    ] {
        assert_eq!(Advert::parse(&bytes, SRC, MULTICAST), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn tolerates_padding_and_reserved_bits() {
    let mut padded = KEEPALIVED.to_vec();
    padded.extend([0x5a; 34]);
    assert_eq!(Advert::parse(&padded, SRC, MULTICAST).unwrap().0, advert());
    let reserved = altered(4, 0xf0);
    assert_eq!(Advert::parse(&reserved, SRC, MULTICAST).unwrap().0, advert());
}

#[test]
fn priorities_zero_and_255_are_ordinary_bytes() {
    for priority in [WirePriority::RELEASE, WirePriority::OWNER] {
        let parsed = Advert::parse(&altered(2, priority.get()), SRC, MULTICAST).unwrap().0;
        assert_eq!(parsed.priority, priority);
    }
}

#[test]
fn address_lists_compare_as_sets() {
    let list = |last: &[u8]| Addresses::new(last.iter().map(|n| Ipv4Addr::new(192, 0, 2, *n)).collect::<Vec<_>>());
    assert!(list(&[1, 2]).unwrap().same_set(&list(&[2, 1]).unwrap()));
    assert!(list(&[1, 2]).unwrap().same_set(&list(&[2, 1, 2]).unwrap()));
    assert!(!list(&[1, 2]).unwrap().same_set(&list(&[1, 3]).unwrap()));
    assert!(!list(&[1, 2]).unwrap().same_set(&list(&[1]).unwrap()));
    let mixed = [SRC_V6.into(), IpAddr::V4(SRC)];
    assert_eq!(Addresses::new(mixed), Err(AddressesError::Mixed));
    assert_eq!(list(&[]), Err(AddressesError::Empty));
    assert_eq!(list(&[7; 256]), Err(AddressesError::TooMany(256)));
    assert!(list(&[7; 255]).is_ok());
}

#[test]
fn one_wrong_byte_is_never_taken_for_the_same_advert() {
    for at in 0..KEEPALIVED.len() {
        for value in 0..=255 {
            let mut bytes = KEEPALIVED;
            if bytes[at] == value {
                continue;
            }
            bytes[at] = value;
            assert!(Advert::parse(&bytes, SRC, MULTICAST).is_err(), "byte {at} = {value:#04x}");
        }
    }
}

fn any_address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        Family::V6 => prop_oneof![
            3 => any::<[u8; 16]>().prop_map(IpAddr::from),
            1 => any::<[u16; 4]>().prop_map(|[a, b, c, d]| Ipv6Addr::new(0xfe80, 0, 0, 0, a, b, c, d).into()),
        ]
        .boxed(),
    }
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

/// An advert, and the addresses it travels between.
fn any_advert() -> impl Strategy<Value = (Advert, IpAddr, IpAddr)> {
    let of = |family| {
        let addresses = prop::collection::vec(any_address(family), 1..=255);
        let fields = (1..=255u8, any::<u8>(), 1..=4095u16, addresses);
        let advert = fields.prop_map(|(vrid, priority, interval, addresses)| Advert {
            vrid: Vrid::new(vrid).unwrap(),
            priority: WirePriority::new(priority),
            interval: Centis::new(interval).unwrap(),
            addresses: Addresses::new(addresses).unwrap(),
        });
        (advert, any_address(family), any_address(family))
    };
    any_family().prop_flat_map(of)
}

/// VRID 51, priority 150, one second, fe80::100 and 2001:db8::100, from fe80::21 to ff02::12.
///
/// Message words:   3133 9602 0064 0000 fe80 0100 2001 0db8 0100 = 1f5d2, folded f5d3
/// Pseudo-header:   fe80 0021 ff02 0012 0028 0070 = 1fe4d, folded fe4e
/// Together:        f5d3 + fe4e = 1f421, folded f422, complement 0bdd
const OVER_IPV6: [u8; 40] = [
    0x31, 0x33, 0x96, 0x02, 0x00, 0x64, 0x0b, 0xdd, // header
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x00, // fe80::100
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x00, // 2001:db8::100
];
const SRC_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x21);

fn advert_v6() -> Advert {
    let global: Ipv6Addr = "2001:db8::100".parse().unwrap();
    let link_local: Ipv6Addr = "fe80::100".parse().unwrap();
    Advert { addresses: Addresses::new([global, link_local]).unwrap(), ..advert() }
}

#[test]
fn over_ipv6_the_link_local_address_is_first_and_the_checksum_has_a_pseudo_header() {
    assert_eq!(Advert::parse(&OVER_IPV6, SRC_V6, ipv6::MULTICAST), Ok((advert_v6(), ChecksumForm::Rfc5798)));
    for form in [ChecksumForm::Rfc5798, ChecksumForm::Rfc9568] {
        assert_eq!(advert_v6().emit(SRC_V6, ipv6::MULTICAST, form), OVER_IPV6, "there is but one form");
    }
    let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x22);
    assert_eq!(Advert::parse(&OVER_IPV6, other, ipv6::MULTICAST), Err(WireError::Checksum));
    let mut without = OVER_IPV6;
    without[CHECKSUM].copy_from_slice(&[0x0a, 0x2c]);
    assert_eq!(
        Advert::parse(&without, SRC_V6, ipv6::MULTICAST),
        Err(WireError::Checksum),
        "the sum of the message alone"
    );
}

#[test]
fn over_ipv6_addresses_are_sixteen_bytes() {
    assert_eq!(Advert::parse(&OVER_IPV6[..39], SRC_V6, ipv6::MULTICAST), Err(WireError::Truncated));
    let mut padded = OVER_IPV6.to_vec();
    padded.extend([0; 7]);
    assert_eq!(Advert::parse(&padded, SRC_V6, ipv6::MULTICAST).unwrap().0, advert_v6());
    // The same bytes over IPv4 list two addresses of four bytes, and another checksum.
    assert_eq!(Advert::parse(&OVER_IPV6, SRC, MULTICAST), Err(WireError::Checksum));
}

proptest! {
    #[test]
    fn what_is_emitted_parses_to_the_same(
        (advert, src, dst) in any_advert(), pseudo in any::<bool>(), padding in 0..64usize,
    ) {
        let form = if pseudo { ChecksumForm::Rfc5798 } else { ChecksumForm::Rfc9568 };
        let mut bytes = advert.emit(src, dst, form);
        let family = advert.addresses.family();
        prop_assert_eq!(bytes.len(), 8 + width(family) * advert.addresses.as_slice().len());
        bytes.resize(bytes.len() + padding, 0);
        let (parsed, seen) = Advert::parse(&bytes, src, dst).unwrap();
        prop_assert_eq!(parsed, advert);
        // Over IPv6, and where the pseudo-header sums to nothing, both forms are one.
        let length = (bytes.len() - padding) as u32;
        let one = family == Family::V6 || Sum::pseudo_header(src, dst, PROTOCOL_VRRP, length).fold() == 0xffff;
        prop_assert!(seen == form || one);
    }

    #[test]
    fn any_bytes_are_classified(
        bytes in prop::collection::vec(any::<u8>(), 0..4200),
        (src, dst) in any_family().prop_flat_map(|family| (any_address(family), any_address(family))),
    ) {
        if let Err(error) = Advert::parse(&bytes, src, dst) {
            prop_assert!(!error.reason().is_empty());
        }
    }

    #[test]
    fn damaged_adverts_are_classified(
        (advert, src, dst) in any_advert(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = advert.emit(src, dst, ChecksumForm::Rfc5798);
        for (at, flip) in hits {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let _ = Advert::parse(&bytes, src, dst);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(Advert::parse(&bytes, src, dst).is_err());
    }

    #[test]
    fn link_local_addresses_come_first_and_nothing_else_moves(list in prop::collection::vec(any_address(Family::V6), 1..40)) {
        let link_local = |address: &&IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let mut expected: Vec<IpAddr> = list.iter().filter(link_local).copied().collect();
        expected.extend(list.iter().filter(|address| !link_local(address)));
        let addresses = Addresses::new(list).unwrap();
        prop_assert_eq!(addresses.as_slice(), expected.as_slice());
    }
}

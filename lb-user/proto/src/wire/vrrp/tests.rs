//! Adverts against bytes written out by hand, and against themselves.

use proptest::prelude::*;

use super::*;
use crate::wire::ipv4::MULTICAST;

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
        let checksum = sum(&bytes, SRC, MULTICAST, ChecksumForm::Rfc5798).checksum();
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

fn any_address() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>().prop_map(Ipv4Addr::from)
}

fn any_advert() -> impl Strategy<Value = Advert> {
    (1..=255u8, any::<u8>(), 1..=4095u16, prop::collection::vec(any_address(), 1..=255)).prop_map(
        |(vrid, priority, interval, addresses)| Advert {
            vrid: Vrid::new(vrid).unwrap(),
            priority: WirePriority::new(priority),
            interval: Centis::new(interval).unwrap(),
            addresses: Addresses::new(addresses).unwrap(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_emitted_parses_to_the_same(
        advert in any_advert(), src in any_address(), dst in any_address(), pseudo in any::<bool>(), padding in 0..64usize,
    ) {
        let form = if pseudo { ChecksumForm::Rfc5798 } else { ChecksumForm::Rfc9568 };
        let mut bytes = advert.emit(src, dst, form);
        prop_assert_eq!(bytes.len(), 8 + 4 * advert.addresses.as_slice().len());
        bytes.resize(bytes.len() + padding, 0);
        let (parsed, seen) = Advert::parse(&bytes, src, dst).unwrap();
        prop_assert_eq!(parsed, advert);
        // Where the pseudo-header sums to nothing both forms are one.
        prop_assert!(seen == form || Sum::pseudo_header(src, dst, PROTOCOL_VRRP, (bytes.len() - padding) as u16).fold() == 0xffff);
    }

    #[test]
    fn any_bytes_are_classified(bytes in prop::collection::vec(any::<u8>(), 0..1200), src in any_address(), dst in any_address()) {
        if let Err(error) = Advert::parse(&bytes, src, dst) {
            prop_assert!(!error.reason().is_empty());
        }
    }

    #[test]
    fn damaged_adverts_are_classified(
        advert in any_advert(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = advert.emit(SRC, MULTICAST, ChecksumForm::Rfc5798);
        for (at, flip) in hits {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let _ = Advert::parse(&bytes, SRC, MULTICAST);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(Advert::parse(&bytes, SRC, MULTICAST).is_err());
    }
}

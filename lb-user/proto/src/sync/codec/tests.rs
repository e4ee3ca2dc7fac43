//! What is written is read as the same, and whatever bytes come are read or refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    (ip(), any::<u16>()).prop_map(SocketAddr::from)
}

fn key() -> impl Strategy<Value = Key> {
    (socket(), socket()).prop_map(|(client, listener)| Key { client, listener })
}

fn path() -> impl Strategy<Value = Path> {
    prop_oneof![
        socket().prop_map(Path::Translated),
        (ip(), any::<u16>()).prop_map(|(node, port)| Path::OnNode { node, port }),
        Just(Path::Direct),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let hop = prop_oneof![Just([0; 6]), any::<[u8; 6]>()];
    let record = (key(), socket(), path(), hop, prop_oneof![0..300_u32, any::<u32>()]).prop_map(
        |(key, backend, path, next_hop, silent_seconds)| Record { key, backend, path, next_hop, silent_seconds },
    );
    prop_oneof![record.prop_map(Change::Opened), key().prop_map(Change::Closed)]
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        8 => change().prop_map(Item::Change),
        1 => (any::<bool>(), any::<bool>(), any::<u64>())
            .prop_map(|(whole, complete, received)| Item::Begin { whole, complete, received }),
        1 => ip().prop_map(Item::Held),
        1 => any::<bool>().prop_map(|still| Item::End { still }),
    ]
}

proptest! {
    #[test]
    fn items_are_read_as_they_were_written(written in prop::collection::vec(item(), 0..40)) {
        let mut bytes = Vec::new();
        written.iter().for_each(|item| item.emit(&mut bytes));
        prop_assert_eq!(items(&bytes), Ok(written));
        let chunk = Body::Chunk(7, &bytes).emit();
        prop_assert_eq!(Body::parse(&chunk), Ok(Body::Chunk(7, &bytes)));
    }

    #[test]
    fn what_is_cut_short_is_refused(item in item(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        item.emit(&mut bytes);
        let cut = cut.index(bytes.len());
        if cut > 0 {
            prop_assert_eq!(items(&bytes[..cut]), Err(Refusal::Malformed));
        }
    }

    #[test]
    fn what_is_read_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = items(&bytes) {
            let mut written = Vec::new();
            read.iter().for_each(|item| item.emit(&mut written));
            prop_assert_eq!(written, bytes);
        }
    }

    #[test]
    fn receipts_and_hellos_are_read_as_they_were_written(
        asks: bool, received: u64, beyond: u128, own: Nonce, other: Nonce, is_open: bool,
    ) {
        let receipt = Receipt { asks, received, beyond };
        let written = Body::Receipt(receipt).emit();
        prop_assert_eq!(Body::parse(&written), Ok(Body::Receipt(receipt)));
        let hello = Hello { is_open, own, other };
        let mut bytes = hello.emit();
        let signed = bytes.clone();
        bytes.extend([9; PROOF]);
        prop_assert_eq!(Datagram::parse(&mut bytes), Ok(Datagram::Hello(hello, &signed, &[9; PROOF])));
    }
}

#[test]
fn a_translated_flow_of_ipv4_takes_32_bytes() {
    let at = |last, port| SocketAddr::from(([192, 0, 2, last], port));
    let record = Record {
        key: Key { client: at(1, 40000), listener: at(100, 8443) },
        backend: at(31, 6443),
        path: Path::Translated(at(100, 1024)),
        next_hop: [2, 0, 0, 0, 0, 1],
        silent_seconds: 3,
    };
    let mut bytes = Vec::new();
    Item::Change(Change::Opened(record)).emit(&mut bytes);
    assert_eq!(bytes.len(), 32);
    let mut bytes = Vec::new();
    Item::Change(Change::Closed(record.key)).emit(&mut bytes);
    assert_eq!(bytes.len(), 13);
}

#[test]
fn each_refusal_has_its_cause() {
    let mut good = Hello { is_open: false, own: [1; NONCE], other: [0; NONCE] }.emit();
    good.extend([0; PROOF]);
    let with = |at: usize, byte| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Datagram::parse(&mut bytes).map(|_| ())
    };
    assert_eq!(with(0, b'x'), Ok(()));
    assert_eq!(with(0, b'X'), Err(Refusal::Malformed));
    assert_eq!(with(3, 2), Err(Refusal::Form));
    assert_eq!(with(4, 3), Err(Refusal::Malformed));
    assert_eq!(with(5, 2), Err(Refusal::Malformed));
    let mut long = vec![0; LONGEST + 1];
    long[..5].copy_from_slice(b"xvs\x01\x02");
    assert_eq!(Datagram::parse(&mut long).map(|_| ()), Err(Refusal::Malformed));
    let labels: std::collections::BTreeSet<_> = Refusal::ALL.map(Refusal::reason).into();
    assert_eq!(labels.len(), Refusal::ALL.len());
    // A number that is written longer than it need be, and one that is too large.
    assert_eq!(silence(&mut &[0x80, 0][..]), Err(Refusal::Malformed));
    assert_eq!(silence(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), Err(Refusal::Malformed));
    assert_eq!(silence(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Ok(u32::MAX));
}

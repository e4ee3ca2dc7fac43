//! Records and entries there and back.

use lb_ebpf::abi::Direction;
use lb_ebpf::net::Be32;
use proptest::prelude::*;

use super::*;

const NOW: u32 = 10_000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn record_by(path: Path) -> Record {
    Record {
        key: Key { client: at("198.51.100.7:40000"), listener: at("192.0.2.100:8443") },
        backend: at("192.0.2.32:6443"),
        path,
        next_hop: MAC,
        silent_seconds: 7,
    }
}

fn place(delivery: Delivery) -> Place {
    Place {
        service: Service { number: 3, idle_seconds: 60, ..Service::default() },
        slot: 5,
        backend: Backend {
            endpoint: at("192.0.2.32:6443").into(),
            generation: 2,
            service: 3,
            delivery: delivery as u16,
            ..Backend::default()
        },
    }
}

/// The client's entry of a record on a node, and what that node says of it in turn.
fn adopted(path: Path, delivery: Delivery) -> (Flow, Option<FlowKey>, Option<Record>) {
    let place = place(delivery);
    let adoption = adoption(&record_by(path), &place, NOW).unwrap();
    let ((key, there), back) = adoption.entries::<Be32>();
    assert_eq!((there.backend, there.generation, there.service, there.idle_seconds), (5, 2, 3, 60));
    assert_eq!((there.seen, there.mac()), (NOW - 7, MAC));
    if let Some((answers, back)) = &back {
        assert_eq!((*answers, back.other()), (there.other(), key), "each points to the other");
        assert_eq!(back.direction, Direction::ToClient as u16);
        assert_eq!(record(answers, back, &place.backend, NOW), None, "one record for a flow");
    }
    (there, back.map(|(answers, _)| answers), record(&key, &there, &place.backend, NOW))
}

#[test]
fn what_a_node_takes_in_it_tells_as_it_heard_it() {
    let translated = Path::Translated(at("192.0.2.100:20000"));
    let on_node = Path::OnNode { node: at("192.0.2.32:0").ip(), port: 30_000 };
    for (path, delivery, becomes, answers_at) in [
        (translated, Delivery::Translated, Delivery::Translated, Some(20_000)),
        // The node that has the VIP now translates, whatever new flows get.
        (translated, Delivery::Direct, Delivery::Translated, Some(20_000)),
        // The hard case: its server is on this node.
        (translated, Delivery::Local, Delivery::Local, Some(20_000)),
        (on_node, Delivery::Translated, Delivery::Direct, None),
        (on_node, Delivery::Tunnelled, Delivery::Tunnelled, None),
        (on_node, Delivery::Local, Delivery::Local, Some(30_000)),
        (Path::Direct, Delivery::Direct, Delivery::Direct, None),
        (Path::Direct, Delivery::Translated, Delivery::Direct, None),
        (Path::Direct, Delivery::Tunnelled, Delivery::Tunnelled, None),
    ] {
        let (there, answers, told) = adopted(path, delivery);
        assert_eq!(there.delivery, becomes as u16, "{path:?} {delivery:?}");
        assert_eq!(answers.map(|key| key.destination_port.get()), answers_at, "{path:?} {delivery:?}");
        assert_eq!(told, Some(record_by(path)), "{path:?} {delivery:?}");
    }
}

#[test]
fn a_server_on_this_node_sees_whom_it_saw() {
    let (home, _, _) = adopted(Path::Translated(at("192.0.2.100:20000")), Delivery::Local);
    let key = narrow::<Be32>(&key_of(&record_by(Path::Direct).key).unwrap());
    assert!(home.is_homed(&key));
    let (own, ..) = adopted(Path::OnNode { node: at("192.0.2.32:0").ip(), port: 30_000 }, Delivery::Local);
    assert!(!own.is_homed(&key));
    assert_eq!(own.translated.source, key.source);
}

#[test]
fn what_cannot_be_is_skipped() {
    let skipped = |record: &Record, delivery| adoption(record, &place(delivery), NOW).unwrap_err();
    assert_eq!(skipped(&record_by(Path::Direct), Delivery::Local), Skipped::NotHere);
    let six = Path::Translated(at("[2001:db8::100]:20000"));
    assert_eq!(skipped(&record_by(six), Delivery::Translated), Skipped::Refused);
    let mut mixed = record_by(Path::Direct);
    mixed.key.client = at("[2001:db8::7]:40000");
    assert_eq!(skipped(&mixed, Delivery::Direct), Skipped::Refused);
    assert_eq!(key_of(&mixed.key), None);
    mixed.key.listener = at("[2001:db8::100]:8443");
    assert_eq!(skipped(&mixed, Delivery::Direct), Skipped::Refused, "the backend is of the other version");
}

#[test]
fn what_is_over_is_told_by_no_record() {
    let place = place(Delivery::Translated);
    let adoption = adoption(&record_by(Path::Translated(at("192.0.2.100:20000"))), &place, NOW).unwrap();
    let ((key, there), _) = adoption.entries::<Be32>();
    let told = |flow: &Flow, backend: &Backend| record(&key, flow, backend, NOW);
    assert!(told(&there, &place.backend).is_some());
    assert_eq!(told(&Flow { state: lb_ebpf::abi::state::RESET, ..there }, &place.backend), None);
    assert_eq!(told(&there, &Backend { generation: 3, ..place.backend }), None);
    assert_eq!(told(&there, &Backend { gone: 1, ..place.backend }), None);
}

proptest! {
    /// Whatever another node says becomes entries that belong together, or none.
    #[test]
    fn any_record_becomes_a_whole_flow_or_none(
        client in any::<SocketAddr>(), listener in any::<SocketAddr>(), backend in any::<SocketAddr>(),
        source in any::<SocketAddr>(), port in any::<u16>(), kind in 0..3u8, to in 0..4u16, silent in any::<u32>(),
    ) {
        let path = match kind {
            0 => Path::Translated(source),
            1 => Path::OnNode { node: backend.ip(), port },
            _ => Path::Direct,
        };
        let record = Record { key: Key { client, listener }, backend, path, next_hop: MAC, silent_seconds: silent };
        let deliveries = [Delivery::Translated, Delivery::Local, Delivery::Direct, Delivery::Tunnelled];
        if let Ok(adoption) = adoption(&record, &place(deliveries[to as usize]), NOW) {
            let ((key, there), back) = adoption.entries::<Be128>();
            // An interface and a flow label are no part of a flow.
            let plain = |end: SocketAddr| SocketAddr::new(end.ip(), end.port());
            prop_assert_eq!(ends(&key), Key { client: plain(client), listener: plain(listener) });
            prop_assert!(there.is_from_client() && there.seen <= NOW);
            prop_assert_eq!(back.is_none(), there.is_direct());
            if let Some((answers, back)) = back {
                prop_assert_eq!((answers, back.other()), (there.other(), key));
            }
        }
    }
}

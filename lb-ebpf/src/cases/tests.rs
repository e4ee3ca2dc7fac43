//! The cases on the host, and what holds for every packet.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::{CLIENT, CLIENT_PORT, PORT, VIP, answer, request, reset};
use super::*;
use crate::abi::{FlowKey, Sharing, Told, told};
use crate::datapath::tables::Note;
use crate::net::header::flag::{ACK, FIN, RST, SYN};
use crate::net::{Be16, Be32, V4};

#[test]
fn every_case_on_the_host() {
    let mut model = Model::new(World::standard());
    let failures: Vec<_> = all().iter().filter_map(|case| play(case, &mut model).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_cases_of_ipv4_hold_for_ipv6() {
    let (six, four): (Vec<_>, Vec<_>) = all().into_iter().partition(|case| case.version == 6);
    let missing: BTreeSet<_> =
        four.iter().map(|case| case.name).filter(|name| !six.iter().any(|case| case.name == *name)).collect();
    // What only IPv4 has.
    let expected = [
        "ARP",
        "IP options",
        "IP version 6 under IPv4's EtherType",
        "IPv4 under IPv6's EtherType",
        "UDP to the service's port",
        "VRRP",
        "a packet that is too long for an outer one, and may be fragmented, is not",
        "a wrong IP checksum",
        "an IP header of four words",
        "every IP option",
        "every bit of the IP header",
        "every bit of the fragment field",
        "from nowhere before from nobody",
        "ping to the VIP",
        "shorter than the headers",
        "the host's own fragments",
        "the host's own packets with IP options",
        "the host's own packets with a wrong IP checksum",
        "what is no question by ARP is none of ours",
    ];
    assert_eq!(missing, expected.into());
}

#[test]
fn the_agent_is_told_of_claims_that_are_none_of_this_nodes_own() {
    let mut told = 0;
    for case in all() {
        let mut model = Model::new(case.world.clone());
        play(&case, &mut model).unwrap();
        let claims = model.claims.into_inner();
        let is_claim = |step: &&Step| matches!(step, Step::Arrives { reason: Reason::VipClaimed, .. });
        assert_eq!(claims.len(), case.steps.iter().filter(is_claim).count(), "{}", case.name);
        for (address, mac) in claims {
            assert!(case.world.vips.contains(&address) && mac == [2, 0, 0, 0, 0, 0x99]);
            told += 1;
        }
    }
    assert!(told > 0);
}

#[test]
fn every_reason_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in all() {
        for step in &case.steps {
            if let Step::Arrives { reason, .. } | Step::Leaves { reason, .. } = step {
                seen.insert(*reason);
            }
        }
    }
    // A device that cannot cut a frame and a full LRU table are the kernel's to produce; silence has a test of its own.
    let out_of_reach = [Reason::CannotReply, Reason::HalfOpenFull, Reason::IcmpLimit, Reason::StaleFlow];
    let missing: Vec<_> =
        Reason::ALL.iter().filter(|reason| !seen.contains(reason) && !out_of_reach.contains(reason)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_closed_flow_gives_its_port_back_only_after_a_rest() {
    let world = World::standard().with(|world| {
        world.node.port_count = 1;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    });
    let mut model = Model::new(world);
    let send = |model: &mut Model, frame: Frame| model.run(&frame.bytes()).0;
    send(&mut model, request(SYN));
    send(&mut model, answer(0, 20_000, SYN | ACK));
    assert_eq!(send(&mut model, request(ACK)), Reason::Opened);
    let other = Frame { from_port: 41_000, ..request(SYN) };
    assert_eq!(send(&mut model, other.clone()), Reason::NoSourcePort, "in use");
    assert_eq!(model.entries(), (2, 0));

    send(&mut model, request(FIN | ACK));
    send(&mut model, answer(0, 20_000, FIN | ACK));
    model.now.set(model.now.get() + 30);
    assert_eq!(send(&mut model, other), Reason::NewFlow, "over and rested");
    assert_eq!(model.entries(), (0, 2), "the old flow has gone with its port");
}

#[test]
fn a_port_rests_for_as_long_as_the_backend_waits() {
    let world = World::standard().with(|world| {
        world.node.port_count = 2;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    });
    let client = request(FIN | ACK);
    let knowing = Frame { acknowledgement: 1002, ..answer(0, 20_000, FIN | ACK) };
    let unknowing = answer(0, 20_000, FIN | ACK);
    // Whoever closes first waits; after a simultaneous close both do.
    for (closing, free_again) in [
        ([client.clone(), knowing.clone()], 20_000),
        ([unknowing.clone(), client.clone()], 20_001),
        ([client, unknowing], 20_001),
    ] {
        let mut model = Model::new(world.clone());
        let send = |model: &mut Model, frame: &Frame| model.run(&frame.bytes()).0;
        for frame in [request(SYN), answer(0, 20_000, SYN | ACK), request(ACK)].iter().chain(&closing) {
            send(&mut model, frame);
        }
        let refused = Frame { from_port: 41_000, ..request(SYN) };
        assert_eq!(send(&mut model, &refused), Reason::NewFlow);
        assert_eq!(send(&mut model, &answer(0, 20_001, RST | ACK)), Reason::Handshake);
        model.now.set(model.now.get() + 30);
        assert_eq!(send(&mut model, &Frame { from_port: 41_001, ..request(SYN) }), Reason::NewFlow);
        assert_eq!(send(&mut model, &answer(0, free_again, SYN | ACK)), Reason::Handshake, "{closing:?}");
    }
}

#[test]
fn a_port_rests_although_the_client_uses_its_own_again() {
    let world = World::standard().with(|world| {
        world.node.port_count = 4;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    });
    let mut model = Model::new(world);
    let send = |model: &mut Model, frame: &Frame| model.run(&frame.bytes()).0;
    let open = |model: &mut Model, port: u16| {
        assert_eq!(send(model, &request(SYN)), Reason::NewFlow);
        assert_eq!(send(model, &answer(0, port, SYN | ACK)), Reason::Handshake, "it is port {port}");
        assert_eq!(send(model, &request(ACK)), Reason::Opened);
    };
    let refused = |model: &mut Model, client: u16, port: u16| {
        assert_eq!(send(model, &Frame { from_port: client, ..request(SYN) }), Reason::NewFlow);
        assert_eq!(send(model, &answer(0, port, RST | ACK)), Reason::Handshake, "it is port {port}");
    };
    open(&mut model, 20_000);
    send(&mut model, &answer(0, 20_000, FIN | ACK));
    send(&mut model, &request(FIN | ACK));
    open(&mut model, 20_001);
    assert_eq!(model.entries(), (3, 0), "the entry of port 20000 rests");
    assert!(model.pairs_are_whole());

    refused(&mut model, 41_000, 20_002);
    refused(&mut model, 41_001, 20_003);
    refused(&mut model, 41_002, 20_002);
    send(&mut model, &answer(0, 20_000, RST));
    assert_eq!(
        send(&mut model, &request(SYN)),
        Reason::ToBackend,
        "what comes late of the old flow does not end the new"
    );

    model.now.set(model.now.get() + 100);
    for (client, port) in [(41_003, 20_002), (41_004, 20_002), (41_005, 20_003), (41_006, 20_000)] {
        refused(&mut model, client, port);
    }
    assert_eq!(model.entries(), (2, 0), "it has rested");
    assert_eq!(send(&mut model, &request(ACK)), Reason::ToBackend, "and the new flow goes on");
}

#[test]
fn a_flow_that_went_on_elsewhere_is_not_taken_for_its_successor() {
    let mut model = Model::new(World::standard());
    let send = |model: &mut Model, frame: &Frame| model.run(&frame.bytes()).0;
    for frame in [request(SYN), answer(0, 20_000, SYN | ACK), request(ACK)] {
        send(&mut model, &frame);
    }
    let successor = Frame { sequence: 3_000_000_000, acknowledgement: 2_000_000_000, ..request(ACK) };
    let of_predecessor = Frame { sequence: 9_001 + (1 << 30), ..answer(0, 20_000, ACK) };
    assert_eq!(send(&mut model, &successor), Reason::ToBackend, "nobody judges a flow in full run");

    model.now.set(model.now.get() + 5);
    let (reason, reply) = model.run(&successor.bytes());
    assert_eq!((reason, reply), (Reason::StaleFlow, reset(&successor).bytes()));
    assert_eq!(send(&mut model, &of_predecessor), Reason::StaleFlow);
    assert_eq!(send(&mut model, &Frame { acknowledgement: 0, ..successor.clone() }), Reason::StaleFlow);
    let rst = Frame { flags: RST, ..successor.clone() };
    assert_eq!(send(&mut model, &rst), Reason::ToBackend, "a RST is not answered with one");
    let keepalive = Frame { sequence: request(ACK).sequence.wrapping_sub(1), ..request(ACK) };
    model.now.set(model.now.get() + 5);
    assert_eq!(send(&mut model, &keepalive), Reason::ToBackend, "the flow itself goes on");
    assert_eq!(send(&mut model, &answer(0, 20_000, ACK)), Reason::ToClient);
}

#[test]
fn a_flow_that_went_on_elsewhere_and_came_back_with_the_vip_is_believed_once() {
    let mut model = Model::new(World::standard());
    let send = |model: &mut Model, frame: &Frame| model.run(&frame.bytes()).0;
    for frame in [request(SYN), answer(0, 20_000, SYN | ACK), request(ACK)] {
        send(&mut model, &frame);
    }
    let seen = model.now.get();
    let later = Frame { sequence: 3_000_000_000, acknowledgement: 2_000_000_000, ..request(ACK) };
    let reply = Frame { sequence: 2_000_000_000, acknowledgement: 3_000_000_000, ..answer(0, 20_000, ACK) };
    let far = Frame { sequence: 1, acknowledgement: 1, ..request(ACK) };
    model.now.set(seen + 5);
    let shares =
        |gained| World::standard().with(|world| world.sharing = Sharing { is_on: 1, gained, patient_until: 0 });
    model.change(&shares(seen - 1));
    assert_eq!(send(&mut model, &later), Reason::StaleFlow, "it was seen here since");
    for first in [&later, &reply] {
        model.change(&shares(model.now.get() - 1));
        model.now.set(model.now.get() + 5);
        let other = if first == &later { (&reply, Reason::ToClient) } else { (&later, Reason::ToBackend) };
        assert_ne!(send(&mut model, first), Reason::StaleFlow);
        model.now.set(model.now.get() + 5);
        model.change(&shares(1));
        assert_eq!(send(&mut model, other.0), other.1);
        model.now.set(model.now.get() + 5);
        assert_eq!(send(&mut model, &far), Reason::StaleFlow, "believed once");
    }
    model.change(&World::standard());
    assert_eq!(send(&mut model, &far), Reason::StaleFlow);
}

#[test]
fn who_shares_flows_hears_of_those_that_open_and_close() {
    let shares = World::standard().with(|world| world.sharing.is_on = 1);
    let story = |world: &World| {
        let mut model = Model::new(world.clone());
        for frame in [request(SYN), answer(0, 20_000, SYN | ACK), request(ACK), request(ACK)] {
            model.run(&frame.bytes());
        }
        let opened = model.told.borrow().clone();
        model.run(&request(FIN | ACK).bytes());
        let fin = Frame { acknowledgement: 1002, ..answer(0, 20_000, FIN | ACK) };
        model.run(&fin.bytes());
        model.run(&fin.bytes());
        (opened, model.told.take())
    };
    let client = FlowKey {
        source: CLIENT.into(),
        destination: VIP.into(),
        source_port: Be16::new(CLIENT_PORT),
        destination_port: Be16::new(PORT),
    };
    let (opened, closed) = (Told { client, what: told::OPENED }, Told { client, what: told::CLOSED });
    assert_eq!(story(&shares), (vec![opened], vec![opened, closed]));
    assert_eq!(story(&World::standard()), (vec![], vec![]), "without sharing nobody is told");
}

#[test]
fn a_stale_handshake_gives_its_port_back() {
    let world = World::standard().with(|world| {
        world.node.port_count = 1;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    });
    let mut model = Model::new(world);
    assert_eq!(model.run(&request(SYN).bytes()).0, Reason::NewFlow);
    let other = Frame { from_port: 41_000, ..request(SYN) }.bytes();
    assert_eq!(model.run(&other).0, Reason::NoSourcePort);
    model.now.set(model.now.get() + 11);
    assert_eq!(model.run(&other).0, Reason::NewFlow);
    assert!(model.pairs_are_whole());
}

#[test]
fn the_kernels_fib_finds_the_next_hop() {
    let world = World::standard().with(|world| {
        world.node.flags = crate::abi::node_flag::FIB;
        world.backends.iter_mut().for_each(|backend| backend.mac = [0; 6]);
    });
    let mut model = Model::new(world);
    assert_eq!(model.run(&request(SYN).bytes()).0, Reason::NoNeighbour);
    model.neighbours.borrow_mut().insert(super::world::backend(1).into(), [9; 6]);
    let (reason, frame) = model.run(&request(SYN).bytes());
    assert_eq!(reason, Reason::NewFlow);
    assert_eq!(frame[..6], [9; 6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_end_with_a_reason_and_pass_unchanged(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut model = Model::new(World::standard());
        let (reason, after) = model.run(&bytes);
        if reason.verdict() == Verdict::Pass {
            prop_assert_eq!(bytes, after);
        }
    }

    #[test]
    fn stories_keep_pairs_whole_and_checksums_as_they_were(
        story in any_story(80), pauses in proptest::collection::vec(0u32..4, 80),
    ) {
        let mut model = Model::new(story.world.clone());
        let mut hosts = Hosts::default();
        for (event, seconds) in story.events.iter().zip(pauses) {
            model.now.set(model.now.get() + seconds);
            if let Event::Agent(world) = event {
                model.change(world);
            }
            let Some(passing) = hosts.frame(event) else { continue };
            let (reason, after) = passing.run(&mut model);
            // A refusal becomes the SYN that it answers, which may have been wrong.
            let is_new = matches!(reason, Reason::NewFlow | Reason::NewLocal);
            let is_another = is_new && Frame::parse(&passing.frame).is_some_and(|frame| frame.flags & RST != 0);
            let before = checksums_are_right(if is_another { &after } else { &passing.frame });
            match reason.verdict() {
                Verdict::Pass => prop_assert_eq!(&passing.frame, &after),
                Verdict::Forward | Verdict::Deliver => prop_assert_eq!(before, checksums_are_right(&after), "{:?}", reason),
                Verdict::Reply => prop_assert_eq!((true, true), checksums_are_right(&after)),
                Verdict::Drop => {}
            }
            hosts.receive(&passing, reason, &after);
            prop_assert!(model.pairs_are_whole(), "after {:?}", reason);
        }
    }
}

#[test]
fn half_a_half_open_flow_starts_again() {
    let mut model = Model::new(World::standard());
    assert_eq!(model.run(&request(SYN).bytes()).0, Reason::NewFlow);
    // The entry for answers is pushed out alone.
    let answers = crate::abi::FlowKey {
        source: Be32::from_wire([192, 0, 2, 31]),
        destination: Be32::from_wire([192, 0, 2, 100]),
        source_port: crate::net::Be16::new(6443),
        destination_port: crate::net::Be16::new(20_000),
    };
    crate::datapath::tables::Tables::<V4>::remove_half_open(&model, &answers);
    assert_eq!(model.run(&answer(0, 20_000, SYN | ACK).bytes()).0, Reason::NoFlow);
    assert_eq!(model.run(&request(SYN).bytes()).0, Reason::NewFlow, "not forwarded to where no answer comes back from");
    assert!(model.pairs_are_whole());
}

#[test]
fn a_syn_is_kept_until_it_is_answered() {
    let mut model = Model::new(World::standard());
    assert_eq!(model.run(&request(SYN).bytes()).0, Reason::NewFlow);
    let [_, half_open] = model.flows::<V4>();
    let client = half_open.keys().copied().find(|key| key.source_port.get() != 6443).unwrap();
    let is_kept = |model: &Model| crate::datapath::tables::Tables::<V4>::syn(model, &client).is_some();
    assert!(is_kept(&model));
    assert_eq!(model.run(&answer(0, 20_000, SYN | ACK).bytes()).0, Reason::Handshake);
    assert!(!is_kept(&model));
}

#[test]
fn resets_to_every_port_by_someone_who_guesses_end_nothing() {
    let mut model = Model::new(World::standard());
    for number in 0..300 {
        let syn = Frame { from_port: 30_000 + number, ..request(SYN) };
        let (reason, there) = model.run(&syn.bytes());
        assert_eq!(reason, Reason::NewFlow);
        let answered = Frame::parse(&there).unwrap().answered();
        let (_, back) = model.run(&Frame { flags: SYN | ACK, sequence: 5000, ..answered }.bytes());
        let ack = Frame { flags: ACK, ..Frame::parse(&back).unwrap().answered() };
        assert_eq!(model.run(&ack.bytes()).0, Reason::Opened);
    }
    let states = |model: &Model| model.flows::<V4>().map(|table| table.into_values().map(|flow| flow.state).collect());
    let before: [Vec<_>; 2] = states(&model);
    let mut random = 1_u32;
    for port in 0..=u16::MAX {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for slot in 0..3 {
            model.run(&Frame { sequence: random, ..answer(slot, port, RST) }.bytes());
            model.run(&Frame { sequence: random, acknowledgement: random, ..answer(slot, port, FIN | ACK) }.bytes());
        }
    }
    assert_eq!(states(&model), before);
    assert!(model.notes.borrow().iter().all(|note| *note == Note::Opened));
}

#[test]
fn a_clock_that_goes_back_ends_nothing() {
    let mut model = Model::new(World::standard());
    let send = |model: &mut Model, frame: &Frame| model.run(&frame.bytes()).0;
    for frame in [request(SYN), answer(0, 20_000, SYN | ACK), request(ACK)] {
        send(&mut model, &frame);
    }
    for now in [99_000, 0, u32::MAX, 100_000] {
        model.now.set(now);
        assert_eq!(send(&mut model, &request(ACK)), Reason::ToBackend);
        assert_eq!(send(&mut model, &answer(0, 20_000, ACK)), Reason::ToClient);
    }
}

#[test]
fn a_reset_has_the_class_of_what_it_answers_without_what_routers_say() {
    let stray = request(ACK);
    let four = stray.bytes_with(|bytes| bytes[15] = 0xab);
    let mut six = stray.clone().in_ipv6().bytes();
    (six[14], six[15], six[16]) = (0x6a, 0xbf, 0xff);
    let mut model = Model::new(World::standard());
    assert_eq!(model.run(&four), (Reason::NoFlow, reset(&stray).bytes_with(|bytes| bytes[15] = 0xa8)));
    let mut model = Model::new(World::standard().in_ipv6());
    let mut expected = reset(&stray).in_ipv6().bytes();
    (expected[14], expected[15]) = (0x6a, 0x80);
    assert_eq!(model.run(&six), (Reason::NoFlow, expected));
}

/// The source ports of half-open flows to the backend in slot 0, by address.
fn taken(model: &Model) -> Vec<(Be32, u16)> {
    let [established, half_open] = model.flows::<V4>();
    let all = established.keys().chain(half_open.keys());
    let answers = all.filter(|key| key.source_port.get() == 6443);
    answers.map(|key| (key.destination, key.destination_port.get())).collect()
}

fn one_backend(ports: u16) -> World {
    World::standard().with(|world| {
        world.node.port_count = ports;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    })
}

#[test]
fn all_ports_of_all_addresses_are_used_in_turn_by_any_stride() {
    for (count, stride, offset) in [(100, 1, 0), (100, 33, 7), (997, 500, 123_456), (1000, 999, u32::MAX - 50)] {
        let world = one_backend(count).with(|world| {
            world.sources = vec![core::net::IpAddr::from([192, 0, 2, 110]).into()];
            world.node.sources = [1, 0];
            world.node.port_stride = stride;
            world.node.port_offset = offset;
        });
        let mut model = Model::new(world);
        for client in 0..2 * count {
            let syn = Frame { from_port: 10_000 + client, ..request(SYN) };
            assert_eq!(model.run(&syn.bytes()).0, Reason::NewFlow, "{client} of {count} by {stride}");
        }
        let taken: BTreeSet<_> = taken(&model).into_iter().collect();
        assert_eq!(taken.len(), 2 * count as usize, "each is used once");
        assert_eq!(model.run(&request(SYN).bytes()).0, Reason::NoSourcePort);
    }
}

#[test]
fn a_port_rests_until_all_others_have_had_their_turn() {
    let mut model = Model::new(one_backend(100).with(|world| {
        world.node.port_stride = 37;
        // As when hints are of no use.
        world.hints = false;
    }));
    let mut last: std::collections::BTreeMap<u16, u32> = Default::default();
    for turn in 0..1000_u32 {
        let syn = Frame { from_port: 10_000 + turn as u16, ..request(SYN) };
        let (reason, frame) = model.run(&syn.bytes());
        assert_eq!(reason, Reason::NewFlow);
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        if let Some(before) = last.insert(port, turn) {
            assert_eq!(turn - before, 100, "port {port}");
        }
        // Refused, so that nothing but turns keeps it from being used.
        assert_eq!(model.run(&answer(0, port, RST | ACK).bytes()).0, Reason::Handshake);
    }
}

#[test]
fn hints_that_are_wrong_cost_tries_and_no_connection() {
    // All say free, half of the ports are taken.
    let world = one_backend(64);
    let mut model = Model::new(world.clone());
    for client in 0..32 {
        assert_eq!(model.run(&Frame { from_port: 10_000 + client, ..request(SYN) }.bytes()).0, Reason::NewFlow);
    }
    let before: BTreeSet<_> = taken(&model).into_iter().collect();
    model.forget_hints();
    for client in 0..32 {
        assert_eq!(model.run(&Frame { from_port: 20_000 + client, ..request(SYN) }.bytes()).0, Reason::NewFlow);
    }
    let after: BTreeSet<_> = taken(&model).into_iter().collect();
    assert!(before.len() == 32 && after.len() == 64 && after.is_superset(&before));
}

proptest! {
    #[test]
    fn no_port_is_given_twice_whatever_comes_and_goes(
        ports in 1_u16..40, stride in 0_u16..40, sources in 0_u8..3,
        events in proptest::collection::vec((0_u16..60, any::<bool>(), any::<bool>(), 0_u32..3), 1..200),
    ) {
        let world = one_backend(ports).with(|world| {
            world.node.port_stride = stride;
            world.node.sources = [sources, 0];
            world.sources = (0..sources).map(|last| core::net::IpAddr::from([192, 0, 2, 110 + last]).into()).collect();
        });
        let mut model = Model::new(world.clone());
        for (client, refuses, forgets, seconds) in events {
            model.now.set(model.now.get() + seconds);
            if forgets {
                model.forget_hints();
            }
            let syn = Frame { from_port: 10_000 + client, ..request(SYN) };
            let (reason, frame) = model.run(&syn.bytes());
            let used = taken(&model);
            let distinct: BTreeSet<_> = used.iter().copied().collect();
            prop_assert_eq!(used.len(), distinct.len());
            match reason {
                Reason::NewFlow | Reason::Handshake => {
                    let source = Be32::from_wire([frame[26], frame[27], frame[28], frame[29]]);
                    let port = u16::from_be_bytes([frame[34], frame[35]]);
                    prop_assert!((20_000..20_000 + ports).contains(&port) && distinct.contains(&(source, port)));
                    if refuses {
                        let to = core::net::Ipv4Addr::from(source).into();
                        model.run(&Frame { to, ..answer(0, port, RST | ACK) }.bytes());
                    }
                }
                Reason::NoSourcePort => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert!(model.pairs_are_whole());
    }
}

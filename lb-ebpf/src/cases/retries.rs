//! Cases of backends that refuse a connection or do not answer.

use std::collections::BTreeSet;

use super::admission::limiting;
use super::delivery::{FELLOW_MAC, direct, forwarded, from_vip, leaves, own_answer, stacked, to_own};
use super::table::{case, turns};
use super::world::{CLIENT_PORT, FIRST_PORT, NODE_MAC, answer, backend_mac, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::{Delivery, Reason, node_flag};
use crate::net::header::flag::{ACK, RST, SYN};

/// The RST of a backend where nobody listens.
fn refusal(slot: u8, source_port: u16) -> Frame {
    Frame { sequence: 0, window: 0, ..answer(slot, source_port, RST | ACK) }
}

fn own_refusal() -> Frame {
    Frame { sequence: 0, window: 0, ..own_answer(RST | ACK) }
}

/// The SYN of another client.
fn client(number: u16) -> Frame {
    Frame { from_port: CLIENT_PORT + number, ..request(SYN) }
}

fn drops(frame: &Frame, reason: Reason) -> Step {
    turns(frame, reason, frame)
}

/// Whoever sends a SYN again has waited for long enough.
fn impatient(world: World) -> World {
    world.with(|world| world.node.syn_patience = 0)
}

fn in_round(world: World, slots: &[u32]) -> World {
    world.with(|world| {
        world.rings = slots.to_vec();
        world.services[0].1.ring_length = slots.len() as u16;
    })
}

fn in_world(name: &'static str, world: World, steps: Vec<Step>) -> Case {
    Case { world, ..case(name, steps) }
}

/// All of them.
pub(super) fn retries() -> Vec<Case> {
    let mut cases = refused();
    cases.extend(unanswered());
    cases.extend(own());
    cases.extend(suspects());
    cases.into_iter().map(|case| Case { world: with_set(case.world), ..case }).collect()
}

/// Each backend of the round once, behind it, as the agent lays it out.
fn with_set(world: World) -> World {
    world.with(|world| {
        let set: BTreeSet<_> = world.rings.iter().copied().collect();
        world.services[0].1.set_length = set.len() as u16;
        world.rings.extend(set);
    })
}

fn refused() -> Vec<Case> {
    let (syn, ack) = (request(SYN), request(ACK));
    // Largest segment, SACK permitted, timestamps, window scale, and so many more that the header is as long as can be.
    let mut options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    options.extend([254, 20, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let long = Frame { options, window: 29_200, identification: 0xbeef, ttl: 33, ..request(SYN) };
    let bare = Frame { options: Vec::new(), ..request(SYN) };
    let with_data = Frame { payload: b"early".to_vec(), ..request(SYN) };
    let syn_ack = answer(1, FIRST_PORT, SYN | ACK);
    let first_syn_ack = answer(0, FIRST_PORT, SYN | ACK);
    let not_its = Frame { acknowledgement: 9, ..refusal(0, FIRST_PORT) };
    let unnumbered = Frame { acknowledgement: 0, flags: RST, ..refusal(0, FIRST_PORT) };
    let late = refusal(0, FIRST_PORT);
    let again = |syn: &Frame| {
        vec![
            turns(syn, Reason::NewFlow, &to_backend(syn, 0, FIRST_PORT)),
            turns(&refusal(0, FIRST_PORT), Reason::NewFlow, &to_backend(syn, 1, FIRST_PORT)),
        ]
    };
    let then = |mut steps: Vec<Step>, more: Vec<Step>| {
        steps.extend(more);
        steps
    };
    vec![
        case(
            "a refused connection goes on to the next backend at once",
            then(
                again(&syn),
                vec![
                    turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                    turns(&ack, Reason::Opened, &to_backend(&ack, 1, FIRST_PORT)),
                    drops(&late, Reason::StrayReset),
                ],
            ),
        ),
        in_world(
            "it was let in already, and counts once",
            limiting(1, 32),
            then(again(&syn), vec![drops(&client(1), Reason::SourceLimit)]),
        ),
        case("it takes all options along", again(&long)),
        case("it takes no options along where there are none", again(&bare)),
        case(
            "every backend refuses a connection once, then its client is refused",
            then(
                again(&syn),
                vec![
                    turns(&refusal(1, FIRST_PORT), Reason::NewFlow, &to_backend(&syn, 2, FIRST_PORT)),
                    turns(&refusal(2, FIRST_PORT), Reason::Handshake, &to_client(&refusal(2, FIRST_PORT))),
                    turns(&syn, Reason::NewFlow, &to_backend(&syn, 1, FIRST_PORT + 1)),
                ],
            ),
        ),
        in_world(
            "the only backend refuses",
            in_round(World::standard(), &[0]),
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&refusal(0, FIRST_PORT), Reason::Handshake, &to_client(&refusal(0, FIRST_PORT))),
            ],
        ),
        case(
            "a RST that acknowledges another number is the client's to judge",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&not_its, Reason::Handshake, &to_client(&not_its)),
            ],
        ),
        case(
            "a RST that acknowledges nothing is too",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&unnumbered, Reason::Handshake, &to_client(&unnumbered)),
            ],
        ),
        case(
            "a RST after the answer is no refusal",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&first_syn_ack, Reason::Handshake, &to_client(&first_syn_ack)),
                turns(&late, Reason::Handshake, &to_client(&late)),
            ],
        ),
        in_world(
            "a refused SYN with data goes on when the client sends it again",
            impatient(World::standard()),
            vec![
                turns(&with_data, Reason::NewFlow, &to_backend(&with_data, 0, FIRST_PORT)),
                drops(&refusal(0, FIRST_PORT), Reason::Refused),
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 2, FIRST_PORT)),
            ],
        ),
    ]
}

fn unanswered() -> Vec<Case> {
    let (syn, ack) = (request(SYN), request(ACK));
    let (tardy, last) = (answer(0, FIRST_PORT, SYN | ACK), answer(2, FIRST_PORT, SYN | ACK));
    let other_number = Frame { sequence: 7000, ..request(SYN) };
    let direct = in_round(impatient(direct()), &[1, 2]);
    let to_direct = |number: u16, slot: u8| turns(&client(number), Reason::NewFlow, &forwarded(&client(number), slot));
    let three_wait = || (0..5).map(|number| to_direct(number, 1 + (number % 2) as u8)).collect::<Vec<_>>();
    let mut silent = three_wait();
    silent.push(turns(&client(0), Reason::NewFlow, &forwarded(&client(0), 2)));
    let mut answers = three_wait();
    let third = Frame { from_port: CLIENT_PORT + 2, ..request(ACK) };
    answers.push(turns(&third, Reason::Opened, &forwarded(&third, 1)));
    answers.push(turns(&client(0), Reason::Handshake, &forwarded(&client(0), 1)));
    vec![
        in_world(
            "a SYN sent again goes on to another backend, and to each once",
            impatient(World::standard()),
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 1, FIRST_PORT)),
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 2, FIRST_PORT)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 2, FIRST_PORT)),
                turns(&tardy, Reason::NoFlow, &reset(&tardy)),
                turns(&last, Reason::Handshake, &to_client(&last)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 2, FIRST_PORT)),
                turns(&ack, Reason::Opened, &to_backend(&ack, 2, FIRST_PORT)),
            ],
        ),
        in_world(
            "a SYN sent again after the answer keeps its backend",
            impatient(World::standard()),
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&tardy, Reason::Handshake, &to_client(&tardy)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 0, FIRST_PORT)),
            ],
        ),
        in_world(
            "another SYN from the same port keeps its backend, which may remember the port",
            impatient(World::standard()),
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&other_number, Reason::Handshake, &to_backend(&other_number, 0, FIRST_PORT)),
            ],
        ),
        in_world(
            "a silent node that answers clients itself loses the SYNs that are sent again",
            direct.clone(),
            silent,
        ),
        in_world("one that opened a connection since keeps them", direct, answers),
    ]
}

fn own() -> Vec<Case> {
    let syn = request(SYN);
    let by_fellow = Frame { mac_from: FELLOW_MAC, ..request(SYN) };
    let refused = own_refusal();
    vec![
        in_world(
            "this node's own backend refuses, and another gets the connection",
            stacked(),
            vec![
                turns(&syn, Reason::NewLocal, &to_own(&syn)),
                leaves(&refused, Reason::NewFlow, &to_backend(&syn, 1, FIRST_PORT)),
                turns(
                    &answer(1, FIRST_PORT, SYN | ACK),
                    Reason::Handshake,
                    &to_client(&answer(1, FIRST_PORT, SYN | ACK)),
                ),
            ],
        ),
        in_world(
            "another refuses, and this node's own backend gets the connection",
            in_round(stacked(), &[1, 0]),
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 1, FIRST_PORT)),
                turns(&refusal(1, FIRST_PORT), Reason::NewLocal, &to_own(&syn)),
                leaves(&own_answer(SYN | ACK), Reason::LocalHandshake, &from_vip(&own_answer(SYN | ACK))),
            ],
        ),
        in_world(
            "this node's own backend refuses, and there is no other",
            in_round(stacked(), &[0]),
            vec![
                turns(&syn, Reason::NewLocal, &to_own(&syn)),
                leaves(&refused, Reason::LocalHandshake, &from_vip(&refused)),
                turns(&request(ACK), Reason::NoFlow, &reset(&request(ACK))),
            ],
        ),
        in_world(
            "what another balancer has chosen this node for is refused here",
            direct(),
            vec![
                turns(&by_fellow, Reason::NewLocal, &to_own(&by_fellow)),
                leaves(&refused, Reason::LocalHandshake, &from_vip(&refused)),
            ],
        ),
    ]
}

/// The third backend takes nothing.
fn no_third(world: World) -> World {
    world.with(|world| world.backends[2].share = 0)
}

fn suspects() -> Vec<Case> {
    let opens = |number: u16, slot: u8, port: u16| {
        turns(&client(number), Reason::NewFlow, &to_backend(&client(number), slot, FIRST_PORT + port))
    };
    let answers = |number: u16, slot: u8, port: u16| {
        let frame = answer(slot, FIRST_PORT + port, SYN | ACK);
        turns(&frame, Reason::Handshake, &Frame { to_port: CLIENT_PORT + number, ..to_client(&frame) })
    };
    let begun = || vec![opens(0, 0, 0), opens(1, 1, 0), opens(2, 0, 1), opens(3, 1, 1), opens(4, 0, 2), opens(5, 1, 2)];
    let quick = in_round(World::standard(), &[0, 1]).with(|world| world.node.suspect_after = 0);
    let mut passed_over = begun();
    passed_over.extend([
        answers(5, 1, 2),
        // The turn of backend 0, twice: looking for another takes one too.
        opens(6, 1, 3),
        opens(7, 1, 4),
        opens(8, 1, 5),
        answers(2, 0, 1),
        opens(9, 0, 3),
        opens(10, 0, 4),
    ]);
    let refused = |number: u16| {
        let to_the_other = to_backend(&client(number), 1, FIRST_PORT + number);
        let refuses = turns(&refusal(0, FIRST_PORT + number), Reason::NewFlow, &to_the_other);
        [opens(number, 0, number), refuses, answers(number, 1, number)]
    };
    let mut refusing: Vec<_> = (0..3).flat_map(refused).collect();
    refusing.push(opens(3, 0, 3));
    let mut all = begun();
    all.extend([opens(6, 0, 3), opens(7, 0, 4)]);
    // Two have a source port each, the third answers its clients by itself and needs none.
    let few = quick.clone().with(|world| {
        world.node.port_count = 1;
        world.backends[1].delivery = Delivery::Direct as u16;
    });
    let round = |slot: u32| {
        few.clone().with(|world| {
            world.rings = vec![slot, 0, 1, 2];
            (world.services[0].1.ring_length, world.services[0].1.set_length) = (1, 3);
        })
    };
    let straight = |number: u16| {
        let syn = client(number);
        let there = Frame { mac_to: backend_mac(1), mac_from: NODE_MAC, ttl: syn.ttl - 1, ..syn.clone() };
        turns(&syn, Reason::NewFlow, &there)
    };
    // What never went there was not left unanswered.
    let mut not_asked = vec![opens(0, 0, 0), answers(0, 0, 0)];
    not_asked.extend((1..4).map(straight));
    not_asked.extend([Step::Agent(round(0).with(|world| world.node.port_count = 2)), opens(4, 0, 1)]);
    let delivers = |world: &World| world.clone().with(|world| world.node.flags = node_flag::DELIVERS_ONLY);
    let two = in_round(World::standard(), &[0, 1]);
    let refuses = refusal(0, FIRST_PORT);
    let now_delivers =
        vec![opens(0, 0, 0), Step::Agent(delivers(&two)), turns(&refuses, Reason::Handshake, &to_client(&refuses))];
    vec![
        in_world("a node that only delivers by now forwards no SYN", two, now_delivers),
        in_world("a backend without a port left has not been asked", no_third(round(0)), not_asked),
        in_world(
            "a backend that leaves several SYNs unanswered is passed over until it answers",
            quick.clone(),
            passed_over,
        ),
        in_world("where all are suspect none is", quick.clone(), all),
        in_world("one that refuses connections lives, and is not suspect", quick, refusing),
    ]
}

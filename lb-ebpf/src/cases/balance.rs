//! Which backend a connection gets, and how many a backend and a service may have.

use core::net::IpAddr;

use super::frame::sixth;
use super::table::turns;
use super::world::{CLIENT, CLIENT_PORT, FIRST_PORT, PORT, answer, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::{Balance, Reason, Service};
use crate::datapath::balance::Hash;
use crate::net::Be16;
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// A client from this port.
fn of_port(port: u16, frame: &Frame) -> Frame {
    Frame { from_port: port, ..frame.clone() }
}

/// What the client at this port gets.
fn at_port(port: u16, frame: &Frame) -> Frame {
    Frame { to_port: port, ..to_client(frame) }
}

/// The client at this port begins, and its connection goes to a backend from one of our ports.
fn begins(port: u16, slot: u8, source_port: u16) -> Step {
    let syn = of_port(port, &request(SYN));
    turns(&syn, Reason::NewFlow, &to_backend(&syn, slot, source_port))
}

/// The rest of its handshake.
fn completes(port: u16, slot: u8, source_port: u16) -> Vec<Step> {
    let (syn_ack, ack) = (answer(slot, source_port, SYN | ACK), of_port(port, &request(ACK)));
    vec![
        turns(&syn_ack, Reason::Handshake, &at_port(port, &syn_ack)),
        turns(&ack, Reason::Opened, &to_backend(&ack, slot, source_port)),
    ]
}

fn opens(port: u16, slot: u8, source_port: u16) -> Vec<Step> {
    let mut steps = vec![begins(port, slot, source_port)];
    steps.extend(completes(port, slot, source_port));
    steps
}

/// The client closes, then the backend.
fn closes(port: u16, slot: u8, source_port: u16) -> Vec<Step> {
    let fin = of_port(port, &request(FIN | ACK));
    let fin_back = Frame { acknowledgement: 1002, ..answer(slot, source_port, FIN | ACK) };
    vec![
        turns(&fin, Reason::ToBackend, &to_backend(&fin, slot, source_port)),
        turns(&fin_back, Reason::ToClient, &at_port(port, &fin_back)),
    ]
}

fn refused(port: u16, reason: Reason) -> Step {
    let syn = of_port(port, &request(SYN));
    turns(&syn, reason, &reset(&syn))
}

/// The standard world, balanced like this; behind its round stands each backend once.
fn world(balance: Balance, change: impl FnOnce(&mut World, &mut Service)) -> World {
    World::standard().with(|world| {
        world.rings = vec![0, 1, 2, 0, 1, 2];
        let (listener, mut service) = world.services[0];
        (service.set_length, service.balance) = (3, balance as u16);
        change(world, &mut service);
        world.services = vec![(listener, service)];
    })
}

fn case(name: &'static str, world: World, steps: impl IntoIterator<Item = Vec<Step>>) -> Case {
    Case { version: 4, name, world, steps: steps.into_iter().flatten().collect() }
}

const A: u16 = CLIENT_PORT;
const P: u16 = FIRST_PORT;

pub(super) fn balance() -> Vec<Case> {
    let mut cases = fewest();
    cases.extend(limits());
    cases.extend(hashed());
    cases
}

fn fewest() -> Vec<Case> {
    let plain = || world(Balance::LeastConn, |_, _| {});
    let weighted = world(Balance::LeastConn, |world, _| world.backends[2].share = 3);
    let drained = world(Balance::LeastConn, |world, _| world.backends[0].share = 0);
    let gone = world(Balance::LeastConn, |world, _| world.backends[0].gone = 1);
    let (answers, again) = (answer(1, P, SYN | ACK), Frame { sequence: 0, ..answer(1, P, RST | ACK) });
    let reset_by_client = of_port(A + 1, &Frame { acknowledgement: 0, sequence: 1001, ..request(RST) });
    let knows = answer(1, P, ACK);
    vec![
        case(
            "the backend with the fewest connections is next, and equals take turns",
            plain(),
            [
                opens(A, 0, P),
                opens(A + 1, 1, P),
                opens(A + 2, 2, P),
                opens(A + 3, 0, P + 1),
                opens(A + 4, 1, P + 1),
                closes(A + 1, 1, P),
                closes(A + 4, 1, P + 1),
                opens(A + 5, 1, P + 2),
                opens(A + 6, 1, P + 3),
                opens(A + 7, 2, P + 1),
            ],
        ),
        case(
            "a backend with three times the share has three times the connections",
            weighted,
            [
                opens(A, 2, P),
                opens(A + 1, 2, P + 1),
                opens(A + 2, 2, P + 2),
                opens(A + 3, 0, P),
                opens(A + 4, 1, P),
                opens(A + 5, 2, P + 3),
            ],
        ),
        case(
            "handshakes under way count, until they are given up",
            plain(),
            [
                vec![begins(A, 0, P), begins(A + 1, 1, P), begins(A + 2, 2, P)],
                completes(A, 0, P),
                vec![
                    turns(&answers, Reason::Handshake, &at_port(A + 1, &answers)),
                    turns(&again, Reason::Handshake, &at_port(A + 1, &again)),
                    begins(A + 3, 1, P + 1),
                ],
            ],
        ),
        case(
            "a connection that is reset counts no more",
            plain(),
            [
                opens(A, 0, P),
                opens(A + 1, 1, P),
                opens(A + 2, 2, P),
                vec![turns(&knows, Reason::ToClient, &at_port(A + 1, &knows))],
                vec![turns(&reset_by_client, Reason::ToBackend, &to_backend(&reset_by_client, 1, P))],
                opens(A + 3, 1, P + 1),
            ],
        ),
        case(
            "a backend without a share gets nothing",
            drained,
            [opens(A, 1, P), opens(A + 1, 2, P), opens(A + 2, 2, P + 1)],
        ),
        case("nor does one that is gone", gone, [opens(A, 1, P), opens(A + 1, 2, P), opens(A + 2, 2, P + 1)]),
    ]
}

fn limits() -> Vec<Case> {
    let limited = |balance, limits: [u32; 3]| {
        world(balance, |world, _| {
            for (backend, limit) in world.backends.iter_mut().zip(limits) {
                backend.max_connections = limit;
            }
        })
    };
    let mut all_full = opens(A, 0, P);
    all_full.extend(opens(A + 1, 1, P));
    all_full.extend(opens(A + 2, 2, P));
    all_full.push(refused(A + 3, Reason::BackendsFull));
    let of_service = world(Balance::RoundRobin, |_, service| service.max_connections = 2);
    let only = world(Balance::RoundRobin, |world, service| {
        world.rings = vec![0, 0];
        (service.ring_length, service.set_length) = (1, 1);
        world.backends[0].max_connections = 1;
    });
    vec![
        case(
            "a full backend is passed over, and taken again when a connection ends",
            limited(Balance::RoundRobin, [1, 0, 0]),
            [
                opens(A, 0, P),
                opens(A + 1, 1, P),
                opens(A + 2, 2, P),
                opens(A + 3, 1, P + 1),
                closes(A, 0, P),
                opens(A + 4, 1, P + 2),
                opens(A + 5, 2, P + 1),
                opens(A + 6, 0, P + 1),
            ],
        ),
        case(
            "where every backend is full, connections are refused until one ends",
            limited(Balance::RoundRobin, [1, 1, 1]),
            [all_full, closes(A + 1, 1, P), opens(A + 4, 1, P + 1), vec![refused(A + 5, Reason::BackendsFull)]],
        ),
        case(
            "handshakes under way fill nothing, so that who only begins them keeps nobody out",
            only,
            [
                vec![begins(A, 0, P), begins(A + 1, 0, P + 1)],
                completes(A, 0, P),
                vec![refused(A + 2, Reason::BackendsFull)],
                completes(A + 1, 0, P + 1),
            ],
        ),
        case(
            "the fewest connections are looked for where there is room",
            limited(Balance::LeastConn, [0, 1, 1]),
            [opens(A, 0, P), opens(A + 1, 1, P), opens(A + 2, 2, P), opens(A + 3, 0, P + 1), opens(A + 4, 0, P + 2)],
        ),
        case(
            "a service has at most as many connections as it may",
            of_service,
            [
                opens(A, 0, P),
                opens(A + 1, 1, P),
                vec![refused(A + 2, Reason::ServiceFull)],
                closes(A, 0, P),
                opens(A + 3, 0, P + 1),
                vec![refused(A + 4, Reason::ServiceFull)],
            ],
        ),
    ]
}

/// A key by which the hash of both IP versions' client picks the second place.
fn suits(hash: impl Fn(Hash, IpAddr) -> u32) -> [u32; 2] {
    let picks = |key, client| hash(Hash::new(key), client) % 3;
    let good = |key: &[u32; 2]| [CLIENT, sixth(CLIENT).into()].iter().all(|client| picks(*key, *client) == 1);
    (0..).map(|number| [number, 1]).find(good).unwrap_or_default()
}

fn hashed() -> Vec<Case> {
    let source_key = suits(|hash, client| hash.address(client.into()).finish());
    let by_source = |limit| {
        world(Balance::Source, move |world, service| {
            service.key = source_key;
            world.backends[1].max_connections = limit;
        })
    };
    let ports = |port: u16| (Be16::new(port).raw() as u32) << 16 | Be16::new(PORT).raw() as u32;
    let flow_key = suits(|hash, client| hash.address(client.into()).word(ports(A)).finish());
    let by_flow = world(Balance::Maglev, move |_, service| service.key = flow_key);
    let (answers, refuses) = (answer(1, P, SYN | ACK), Frame { sequence: 0, ..answer(1, P, RST | ACK) });
    vec![
        case(
            "a client stays with its backend from whatever port",
            by_source(0),
            (0..4).map(|turn| opens(A + turn, 1, P + turn)),
        ),
        case(
            "while that is full, it gets another",
            by_source(1),
            [opens(A, 1, P), vec![begins(A + 1, 2, P)], closes(A, 1, P), opens(A + 2, 1, P + 1)],
        ),
        case(
            "a connection goes to the same backend whichever balancer sees it",
            by_flow,
            [
                vec![begins(A, 1, P)],
                vec![turns(&answers, Reason::Handshake, &at_port(A, &answers))],
                vec![turns(&refuses, Reason::Handshake, &at_port(A, &refuses))],
                vec![begins(A, 1, P + 1)],
            ],
        ),
    ]
}

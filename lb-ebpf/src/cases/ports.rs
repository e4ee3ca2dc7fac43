//! Source addresses and ports: more than one address, and none left.

use core::net::IpAddr;

use super::world::{CLIENT_PORT, FIRST_PORT, answer, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::Reason;
use crate::net::header::flag::{ACK, RST, SYN};

/// Another source address.
pub(super) const SOURCE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 110));

/// So many source ports, and one backend.
fn few(ports: u16) -> World {
    World::standard().with(|world| {
        world.node.port_count = ports;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    })
}

/// The same with another source address.
pub(super) fn two_addresses(ports: u16) -> World {
    few(ports).with(|world| {
        world.sources = vec![SOURCE.into()];
        world.node.sources = [1, 0];
    })
}

fn turns(frame: &Frame, reason: Reason, into: &Frame) -> Step {
    Step::Arrives { frame: frame.bytes(), reason, becomes: into.bytes() }
}

/// From one of several clients.
fn client(number: u16, flags: u8) -> Frame {
    Frame { from_port: CLIENT_PORT + number, ..request(flags) }
}

/// A SYN of one of several clients that gets this port to the first backend.
fn gets(number: u16, port: u16) -> Step {
    let syn = client(number, SYN);
    turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, port))
}

fn refused(number: u16) -> Step {
    let syn = client(number, SYN);
    turns(&syn, Reason::NoSourcePort, &reset(&syn))
}

/// As it goes to the backend from the other address.
pub(super) fn from_source(frame: &Frame, port: u16) -> Frame {
    Frame { from: SOURCE, ..to_backend(frame, 0, port) }
}

pub(super) fn ports() -> Vec<Case> {
    let case = |name, world, steps| Case { version: 4, name, world, steps };
    let refusal = answer(0, FIRST_PORT, RST | ACK);
    let told = Frame { to_port: CLIENT_PORT + 1, ..to_client(&refusal) };
    let (first, second) = (client(1, SYN), client(2, SYN));
    let answered = Frame { to: SOURCE, ..answer(0, FIRST_PORT, SYN | ACK) };
    let seen = Frame { to_port: CLIENT_PORT + 2, ..to_client(&answered) };
    let second_ack = client(2, ACK);
    let stray = Frame { to: SOURCE, ..answer(0, FIRST_PORT + 1, ACK) };
    let ssh = Frame { to: SOURCE, to_port: 22, ..client(2, SYN) };
    let elsewhere = to_backend(&second, 1, FIRST_PORT);
    let mut cases = vec![
        case(
            "each port is used once, and then none is left",
            few(3),
            vec![gets(1, FIRST_PORT), gets(2, FIRST_PORT + 1), gets(3, FIRST_PORT + 2), refused(4), refused(5)],
        ),
        case(
            "a port that came back serves again at once where it is the last",
            few(2),
            vec![
                gets(1, FIRST_PORT),
                gets(2, FIRST_PORT + 1),
                refused(3),
                turns(&refusal, Reason::Handshake, &told),
                gets(4, FIRST_PORT),
                refused(5),
            ],
        ),
        case(
            "a connection without a port goes to another backend of the service",
            few(1).with(|world| {
                world.rings = vec![0, 0, 0, 1, 0, 1];
                (world.services[0].1.ring_length, world.services[0].1.set_length) = (4, 2);
            }),
            vec![
                gets(1, FIRST_PORT),
                turns(&second, Reason::NewFlow, &elsewhere),
                refused(3),
                turns(&second, Reason::Handshake, &elsewhere),
            ],
        ),
        case(
            "another source address has all ports once more",
            two_addresses(2),
            vec![
                gets(1, FIRST_PORT),
                turns(&second, Reason::NewFlow, &from_source(&second, FIRST_PORT)),
                turns(&answered, Reason::Handshake, &seen),
                turns(&second_ack, Reason::Opened, &from_source(&second_ack, FIRST_PORT)),
                gets(3, FIRST_PORT + 1),
                turns(&client(4, SYN), Reason::NewFlow, &from_source(&client(4, SYN), FIRST_PORT + 1)),
                refused(5),
                turns(&first, Reason::Handshake, &to_backend(&first, 0, FIRST_PORT)),
            ],
        ),
        case(
            "answers to another source address that belong to no flow are refused, and the host's own packets pass",
            two_addresses(2),
            vec![turns(&stray, Reason::NoFlow, &reset(&stray)), turns(&ssh, Reason::NotService, &ssh)],
        ),
    ];
    // Without hints ports are tried one by one.
    cases.push(case(
        "ports are found without hints",
        two_addresses(1).with(|world| world.hints = false),
        vec![gets(1, FIRST_PORT), turns(&second, Reason::NewFlow, &from_source(&second, FIRST_PORT)), refused(3)],
    ));
    cases
}

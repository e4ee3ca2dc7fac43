//! Services over several ports, with backends that keep the port the client asked for.

use core::net::{IpAddr, SocketAddr};

use super::world::{FIRST_PORT, VIP, answer, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::{Backend, Endpoint, Reason, Service};
use crate::net::header::flag::{ACK, SYN};

const FIRST: u16 = 30_000;
const LAST: u16 = 30_001;

/// One service at two ports; its first backend has no port, the others have the standard one.
fn world() -> World {
    World::standard().with(|world| {
        let service = Service { ring_length: 3, idle_seconds: 7200, ..Service::default() };
        world.services = (FIRST..=LAST).map(|port| (SocketAddr::new(VIP, port).into(), service)).collect();
        if let Some(first) = world.backends.first_mut() {
            *first = Backend { endpoint: Endpoint { port: Default::default(), ..first.endpoint }, ..*first };
        }
    })
}

fn turns(frame: &Frame, reason: Reason, into: &Frame) -> Step {
    Step::Arrives { frame: frame.bytes(), reason, becomes: into.bytes() }
}

/// A handshake with the first backend at this port.
fn kept(port: u16, source_port: u16) -> Vec<Step> {
    let asked = |flags| Frame { to_port: port, ..request(flags) };
    let reached = |frame: &Frame| Frame { to_port: port, ..to_backend(frame, 0, source_port) };
    let (syn, ack) = (asked(SYN), asked(ACK));
    let syn_ack = Frame { from_port: port, ..answer(0, source_port, SYN | ACK) };
    let told = Frame { from_port: port, ..to_client(&syn_ack) };
    vec![
        turns(&syn, Reason::NewFlow, &reached(&syn)),
        turns(&syn_ack, Reason::Handshake, &told),
        turns(&ack, Reason::Opened, &reached(&ack)),
    ]
}

pub(super) fn ranges() -> Vec<Case> {
    let other = Frame { to_port: LAST, ..request(SYN) };
    let beyond = Frame { to_port: LAST + 1, ..request(SYN) };
    // Nothing is known of this one: it must not reach the host's stack, which would answer in the VIP's name.
    let stray = Frame { from_port: LAST, ..answer(0, FIRST_PORT + 7, ACK) };
    let stranger = Frame { from: IpAddr::from([192, 0, 2, 99]), ..stray.clone() };
    let passes = |frame: &Frame, reason| turns(frame, reason, frame);
    vec![
        Case {
            version: 4,
            name: "a backend without a port keeps the client's",
            world: world(),
            steps: kept(FIRST, FIRST_PORT),
        },
        Case { version: 4, name: "at the last port of a range as well", world: world(), steps: kept(LAST, FIRST_PORT) },
        Case {
            version: 4,
            name: "a backend with a port gets every port of the range there",
            world: world().with(|world| world.rings = vec![1, 1, 1]),
            steps: vec![turns(&other, Reason::NewFlow, &to_backend(&other, 1, FIRST_PORT))],
        },
        Case {
            version: 4,
            name: "a range ends where it ends, and answers from any port of a backend without one are known",
            world: world(),
            steps: vec![
                passes(&beyond, Reason::NotService),
                turns(&stray, Reason::NoFlow, &reset(&stray)),
                passes(&stranger, Reason::NotService),
            ],
        },
    ]
}

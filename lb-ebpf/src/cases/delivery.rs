//! Cases of backends that answer the client themselves: this node's own, and those behind nodes that translate.

use super::table::{case, stays, turns};
use super::world::{
    BACKEND_PORT, CLIENT, CLIENT_PORT, FIRST_PORT, NODE_MAC, PORT, VIP, answer, backend, backend_mac, request, reset,
    to_backend,
};
use super::{Case, Frame, Step, World};
use crate::abi::{Delivery, Reason, node_flag};
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// Another balancer.
pub(super) const FELLOW_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

/// A frame that leaves the host's own stack and becomes another.
pub(super) fn leaves(frame: &Frame, reason: Reason, into: &Frame) -> Step {
    Step::Leaves { frame: frame.bytes(), reason, becomes: into.bytes() }
}

/// The client's frame as this node's own stack gets it.
pub(super) fn to_own(frame: &Frame) -> Frame {
    Frame { to: backend(0), to_port: BACKEND_PORT, from_port: FIRST_PORT, ..frame.clone() }
}

/// From this node's own backend, as it leaves the stack.
pub(super) fn own_answer(flags: u8) -> Frame {
    Frame {
        mac_to: [2, 0, 0, 0, 0, 0x22],
        mac_from: NODE_MAC,
        to: CLIENT,
        to_port: FIRST_PORT,
        ..answer(0, FIRST_PORT, flags)
    }
}

/// The same as the client gets it.
pub(super) fn from_vip(frame: &Frame) -> Frame {
    Frame { from: VIP, from_port: PORT, to_port: CLIENT_PORT, ..frame.clone() }
}

/// The client's frame as it goes on to a node that translates for itself.
pub(super) fn forwarded(frame: &Frame, slot: u8) -> Frame {
    Frame { mac_to: backend_mac(slot), mac_from: NODE_MAC, ttl: frame.ttl - 1, ..frame.clone() }
}

/// The first backend is this node itself.
pub(super) fn stacked() -> World {
    World::standard().with(|world| {
        world.backends[0].delivery = Delivery::Local as u16;
        world.services[0].1.own = 1;
    })
}

/// The same, and the others' nodes translate for themselves; another balancer may forward to this one.
pub(super) fn direct() -> World {
    stacked().with(|world| {
        for backend in &mut world.backends[1..] {
            backend.delivery = Delivery::Direct as u16;
        }
        world.fellows = vec![FELLOW_MAC];
    })
}

fn in_world(name: &'static str, world: World, steps: Vec<Step>) -> Case {
    Case { world, ..case(name, steps) }
}

pub(super) fn own_handshake() -> Vec<Step> {
    let (syn, ack, syn_ack) = (request(SYN), request(ACK), own_answer(SYN | ACK));
    vec![
        turns(&syn, Reason::NewLocal, &to_own(&syn)),
        leaves(&syn_ack, Reason::LocalHandshake, &from_vip(&syn_ack)),
        turns(&ack, Reason::LocalOpened, &to_own(&ack)),
    ]
}

fn after_own_handshake(name: &'static str, more: Vec<Step>) -> Case {
    let mut steps = own_handshake();
    steps.extend(more);
    in_world(name, stacked(), steps)
}

/// All of them.
pub(super) fn delivery() -> Vec<Case> {
    let mut cases = own();
    cases.extend(to_fellows());
    cases
}

fn own() -> Vec<Case> {
    let data = Frame { payload: b"GET /readyz".to_vec(), ..request(ACK) };
    let reply = Frame { payload: b"HTTP/1.1 200 OK\r\n".to_vec(), ..own_answer(ACK) };
    let syn = request(SYN);
    let fin = request(FIN | ACK);
    let fin_back = Frame { acknowledgement: 1002, ..own_answer(FIN | ACK) };
    let next = Frame { sequence: 90_000, ..request(SYN) };
    let elsewhere = Frame { from: [198, 51, 100, 8].into(), ..next.clone() };
    let alike = Frame { to_port: PORT + 1, ..syn.clone() };
    let theirs = Frame { to_port: CLIENT_PORT, ..own_answer(SYN | ACK) };
    let two_listeners = stacked().with(|world| {
        let (mut at, service) = world.services[0];
        at.port = crate::net::Be16::new(PORT + 1);
        world.services.push((at, service));
        world.rings = vec![0];
        world.services.iter_mut().for_each(|(_, service)| service.ring_length = 1);
    });
    vec![
        after_own_handshake(
            "this node's own backend is served inside and answers as the VIP",
            vec![turns(&data, Reason::ToLocal, &to_own(&data)), leaves(&reply, Reason::FromLocal, &from_vip(&reply))],
        ),
        after_own_handshake(
            "answers of this node's own backend do not arrive from outside",
            vec![stays(Frame { mac_to: NODE_MAC, ..reply.clone() }.bytes(), Reason::NotVip)],
        ),
        after_own_handshake(
            "what leaves for others is left alone",
            vec![leaves(
                &Frame { to: [198, 51, 100, 8].into(), ..reply.clone() },
                Reason::NotVip,
                &Frame { to: [198, 51, 100, 8].into(), ..reply.clone() },
            )],
        ),
        after_own_handshake(
            "both sides close, and the client uses its port again",
            vec![
                turns(&fin, Reason::ToLocal, &to_own(&fin)),
                leaves(&fin_back, Reason::FromLocal, &from_vip(&fin_back)),
                turns(&next, Reason::NewFlow, &to_backend(&next, 1, FIRST_PORT)),
                turns(&elsewhere, Reason::NewFlow, &to_backend(&elsewhere, 2, FIRST_PORT)),
            ],
        ),
        in_world(
            "a client's second flow from the same port gets another port, and its own connection to the backend none",
            two_listeners,
            vec![
                turns(&syn, Reason::NewLocal, &to_own(&syn)),
                turns(&alike, Reason::NewLocal, &Frame { from_port: FIRST_PORT + 1, ..to_own(&alike) }),
                leaves(&theirs, Reason::NotVip, &theirs),
            ],
        ),
        in_world(
            "a client that gives up on this node's own backend is forgotten",
            stacked(),
            vec![
                turns(&syn, Reason::NewLocal, &to_own(&syn)),
                leaves(&own_answer(SYN | ACK), Reason::LocalHandshake, &from_vip(&own_answer(SYN | ACK))),
                turns(&request(RST), Reason::LocalHandshake, &to_own(&request(RST))),
                leaves(&reply, Reason::NotVip, &reply),
            ],
        ),
    ]
}

fn to_fellows() -> Vec<Case> {
    let (syn, ack) = (request(SYN), request(ACK));
    let data = Frame { payload: b"GET /readyz".to_vec(), ..request(ACK) };
    let fin = Frame { sequence: 1001 + data.payload.len() as u32, ..request(FIN | ACK) };
    let next = Frame { sequence: 90_000, ..request(SYN) };
    let returned = |frame: &Frame| Frame { mac_from: backend_mac(1), ..frame.clone() };
    let guessed = |flags| Frame { sequence: 0x4000_0000, ..request(flags) };
    let by_fellow = |frame: &Frame| Frame { mac_from: FELLOW_MAC, ..frame.clone() };
    let others_only = direct().with(|world| world.rings = vec![1, 2, 1]);
    let unknown_there = Frame { sequence: 1, ..own_answer(RST) };
    let beside = Frame { from: backend(1), ..syn.clone() };
    let no_own = others_only.clone().with(|world| {
        world.services[0].1.own = 0;
        world.backends[0].delivery = Delivery::Translated as u16;
    });
    let delivers_only = others_only.clone().with(|world| {
        world.node.flags = node_flag::DELIVERS_ONLY;
        world.fellows = vec![];
    });
    let routed = others_only.clone().with(|world| world.node.flags = node_flag::FIB);
    vec![
        in_world(
            "a node that translates for itself gets the client's own packets",
            others_only.clone(),
            vec![
                turns(&syn, Reason::NewFlow, &forwarded(&syn, 1)),
                turns(&syn, Reason::Handshake, &forwarded(&syn, 1)),
                turns(&ack, Reason::Opened, &forwarded(&ack, 1)),
                turns(&data, Reason::ToBackend, &forwarded(&data, 1)),
                turns(&fin, Reason::ToBackend, &forwarded(&fin, 1)),
                turns(&ack, Reason::ToBackend, &forwarded(&ack, 1)),
                turns(&next, Reason::NewFlow, &forwarded(&next, 2)),
            ],
        ),
        in_world(
            "what another balancer has forwarded is for this node's own backend",
            others_only.clone(),
            vec![
                turns(&by_fellow(&syn), Reason::NewLocal, &to_own(&by_fellow(&syn))),
                leaves(&own_answer(SYN | ACK), Reason::LocalHandshake, &from_vip(&own_answer(SYN | ACK))),
                turns(&by_fellow(&ack), Reason::LocalOpened, &to_own(&by_fellow(&ack))),
                turns(&by_fellow(&data), Reason::ToLocal, &to_own(&by_fellow(&data))),
            ],
        ),
        in_world(
            "a flow that this node forwarded before another did so is not forwarded back, but answered by its own server's stack",
            others_only.clone(),
            vec![
                turns(&syn, Reason::NewFlow, &forwarded(&syn, 1)),
                turns(&ack, Reason::Opened, &forwarded(&ack, 1)),
                turns(&by_fellow(&data), Reason::NewLocal, &to_own(&by_fellow(&data))),
                leaves(&unknown_there, Reason::LocalHandshake, &from_vip(&unknown_there)),
                leaves(&own_answer(ACK), Reason::NotVip, &own_answer(ACK)),
                turns(
                    &by_fellow(&next),
                    Reason::NewLocal,
                    &Frame { from_port: FIRST_PORT + 1, ..to_own(&by_fellow(&next)) },
                ),
            ],
        ),
        in_world(
            "a handshake that this node forwarded before another did so is not forwarded back",
            others_only.clone(),
            vec![
                turns(&syn, Reason::NewFlow, &forwarded(&syn, 1)),
                turns(&by_fellow(&syn), Reason::NewLocal, &to_own(&by_fellow(&syn))),
            ],
        ),
        in_world(
            "what comes back from where it was sent is not sent there again",
            others_only.clone().with(|world| world.fellows = vec![]),
            vec![
                turns(&syn, Reason::NewFlow, &forwarded(&syn, 1)),
                turns(&ack, Reason::Opened, &forwarded(&ack, 1)),
                turns(&returned(&data), Reason::BackendGone, &Frame { mac_to: backend_mac(1), ..reset(&data) }),
                turns(&returned(&next), Reason::NewFlow, &forwarded(&next, 2)),
            ],
        ),
        in_world(
            "a RST or FIN with an outsider's numbers ends no flow whose backend answers by itself",
            others_only.clone(),
            vec![
                turns(&syn, Reason::NewFlow, &forwarded(&syn, 1)),
                turns(&ack, Reason::Opened, &forwarded(&ack, 1)),
                turns(&guessed(RST), Reason::ToBackend, &forwarded(&guessed(RST), 1)),
                turns(&guessed(FIN | ACK), Reason::ToBackend, &forwarded(&guessed(FIN | ACK), 1)),
                turns(&next, Reason::ToBackend, &forwarded(&next, 1)),
            ],
        ),
        in_world(
            "a node that only delivers forwards nothing, whoever sends it",
            delivers_only,
            vec![
                turns(&syn, Reason::NewLocal, &to_own(&syn)),
                leaves(&own_answer(SYN | ACK), Reason::LocalHandshake, &from_vip(&own_answer(SYN | ACK))),
                turns(&ack, Reason::LocalOpened, &to_own(&ack)),
            ],
        ),
        in_world(
            "a client on the node of its backend gets no packet from itself",
            others_only.clone(),
            vec![
                turns(&beside, Reason::NewFlow, &to_backend(&beside, 1, FIRST_PORT)),
                turns(
                    &Frame { from_port: 5, ..beside.clone() },
                    Reason::NewFlow,
                    &forwarded(&Frame { from_port: 5, ..beside.clone() }, 2),
                ),
            ],
        ),
        in_world(
            "what another balancer has forwarded to a node without a backend is refused",
            no_own,
            vec![turns(&by_fellow(&syn), Reason::NoBackend, &Frame { mac_to: FELLOW_MAC, ..reset(&syn) })],
        ),
        in_world(
            "without a route to ask, what comes from another balancer counts as forwarded",
            routed,
            vec![turns(&by_fellow(&syn), Reason::NewLocal, &to_own(&by_fellow(&syn)))],
        ),
    ]
}

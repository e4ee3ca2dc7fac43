//! Cases of flows that other nodes have or had: adopted by their word, gone elsewhere and come back, or unknown here.

use super::delivery::{FELLOW_MAC, direct, forwarded, from_vip, leaves, own_answer, own_handshake, stacked, to_own};
use super::table::{case, handshake, stays, turns};
use super::world::{
    BACKEND_PORT, CLIENT, CLIENT_MAC, CLIENT_PORT, FIRST_PORT, NODE_MAC, PORT, VIP, answer, backend, request, reset,
    to_backend, to_client,
};
use super::{Case, Frame, Step, World};
use crate::abi::{Adoption, Balance, Delivery, Endpoint, FlowKey, Reason, Sharing};
use crate::net::header::flag::{ACK, FIN, RST, SYN};
use crate::net::{Be16, Be128};
use core::net::{IpAddr, SocketAddr};

/// A source port that the node had taken which opened the flow.
const THEIR_PORT: u16 = 23_456;

/// The standard client's flow to a backend, as another node tells of it.
fn flow(slot: u8, delivery: Delivery, seen_as: (IpAddr, u16)) -> Adoption {
    Adoption {
        client: FlowKey {
            source: CLIENT.into(),
            destination: VIP.into(),
            source_port: Be16::new(CLIENT_PORT),
            destination_port: Be16::new(PORT),
        },
        backend: SocketAddr::new(backend(slot), BACKEND_PORT).into(),
        seen_as: Endpoint::new(Be128::from(seen_as.0), Be16::new(seen_as.1)),
        delivery,
        slot: slot.into(),
        generation: 1,
        service: 0,
        idle_seconds: 7200,
        mac: CLIENT_MAC,
        seen: 1,
        server_port: 0,
    }
}

fn in_world(name: &'static str, world: World, steps: Vec<Step>) -> Case {
    Case { world, ..case(name, steps) }
}

fn sharing(world: World, patient_until: u64) -> World {
    world.with(|world| world.sharing = Sharing { is_on: 1, gained: 0, patient_until })
}

/// A frame in the middle of a connection, with numbers that are nowhere near those of the handshakes.
fn later(frame: Frame, from_client: bool) -> Frame {
    let (client, server) = (0x8000_0000, 0x4000_0000);
    let (sequence, acknowledgement) = if from_client { (client, server) } else { (server, client) };
    Frame { sequence, acknowledgement, ..frame }
}

fn far(frame: &Frame) -> Frame {
    Frame { sequence: frame.sequence.wrapping_add(0x4000_0000), ..frame.clone() }
}

fn home(frame: &Frame, reason: Reason, into: &Frame) -> Step {
    Step::LeavesHome { frame: frame.bytes(), reason, becomes: into.bytes() }
}

/// All of them.
pub(super) fn shared() -> Vec<Case> {
    let mut cases = adopted();
    cases.extend(at_home());
    cases.extend(unknown());
    cases
}

fn adopted() -> Vec<Case> {
    let data = Frame { payload: b"GET /watch".to_vec(), ..later(request(ACK), true) };
    let event = Frame { payload: b"ADDED".to_vec(), ..later(answer(1, THEIR_PORT, ACK), false) };
    let fin = later(request(FIN | ACK), true);
    let fin_back = Frame { acknowledgement: 0x8000_0001, ..later(answer(1, THEIR_PORT, FIN | ACK), false) };
    let next = Frame { sequence: 90_000, ..request(SYN) };
    let abort = later(answer(1, THEIR_PORT, RST), false);
    let translated = || Step::Adopts(flow(1, Delivery::Translated, (VIP, THEIR_PORT)));
    let by_fellow = |frame: &Frame| Frame { mac_from: FELLOW_MAC, ..frame.clone() };
    let unsure = Frame { from_port: THEIR_PORT, ..to_own(&data) };
    vec![
        case(
            "an adopted flow goes on where it was, its server first",
            vec![
                translated(),
                turns(&event, Reason::ToClient, &to_client(&event)),
                turns(&data, Reason::ToBackend, &to_backend(&data, 1, THEIR_PORT)),
            ],
        ),
        case(
            "an adopted flow goes on where it was, its client first",
            vec![
                translated(),
                turns(&data, Reason::ToBackend, &to_backend(&data, 1, THEIR_PORT)),
                turns(&event, Reason::ToClient, &to_client(&event)),
            ],
        ),
        case(
            "an adopted flow is closed by the first packets that are seen of it, and its client's port is used again",
            vec![
                translated(),
                turns(&fin, Reason::ToBackend, &to_backend(&fin, 1, THEIR_PORT)),
                turns(&fin_back, Reason::ToClient, &to_client(&fin_back)),
                turns(&next, Reason::NewFlow, &to_backend(&next, 0, FIRST_PORT)),
            ],
        ),
        case(
            "an outsider's packet is believed of an adopted flow until its server has answered",
            vec![
                translated(),
                turns(&far(&data), Reason::ToBackend, &to_backend(&far(&data), 1, THEIR_PORT)),
                turns(&event, Reason::ToClient, &to_client(&event)),
                turns(&abort, Reason::ToClient, &to_client(&abort)),
                turns(&next, Reason::NewFlow, &to_backend(&next, 0, FIRST_PORT)),
            ],
        ),
        in_world(
            "a flow that another node's own server has goes to that node as it is",
            World::standard(),
            vec![
                Step::Adopts(flow(1, Delivery::Direct, (CLIENT, THEIR_PORT))),
                turns(&data, Reason::ToBackend, &forwarded(&data, 1)),
                turns(&fin, Reason::ToBackend, &forwarded(&fin, 1)),
                turns(&next, Reason::NewFlow, &to_backend(&next, 0, FIRST_PORT)),
            ],
        ),
        in_world(
            "what another node forwards of a flow with this node's own server is delivered, whoever has the VIP",
            stacked().with(|world| world.fellows = vec![FELLOW_MAC]),
            {
                let mut steps = own_handshake();
                let near = Frame { payload: b"GET /watch".to_vec(), ..request(ACK) };
                let reply = own_answer(ACK);
                steps.push(turns(&by_fellow(&near), Reason::ToLocal, &to_own(&by_fellow(&near))));
                steps.push(leaves(&reply, Reason::FromLocal, &from_vip(&reply)));
                steps
            },
        ),
        in_world(
            "a flow with this node's own server that only others have kept",
            stacked(),
            vec![
                Step::Adopts(flow(0, Delivery::Local, (CLIENT, THEIR_PORT))),
                turns(&data, Reason::ToLocal, &unsure),
                leaves(
                    &Frame { to_port: THEIR_PORT, ..later(own_answer(ACK), false) },
                    Reason::FromLocal,
                    &from_vip(&later(own_answer(ACK), false)),
                ),
            ],
        ),
    ]
}

/// The server of a flow that another node opened is on this one, which has the VIP now.
fn at_home() -> Vec<Case> {
    let data = Frame { payload: b"GET /watch".to_vec(), ..later(request(ACK), true) };
    let delivered = Frame { from: VIP, from_port: THEIR_PORT, to: backend(0), to_port: BACKEND_PORT, ..data.clone() };
    // As the stack sends to itself: no Ethernet addresses.
    let event = Frame {
        mac_to: [0; 6],
        mac_from: [0; 6],
        payload: b"ADDED".to_vec(),
        ..later(answer(0, THEIR_PORT, ACK), false)
    };
    let to_client = Frame { from: VIP, from_port: PORT, to: CLIENT, to_port: CLIENT_PORT, ..event.clone() };
    let fin = Frame { payload: Vec::new(), flags: FIN | ACK, ..event.clone() };
    let fin_out = Frame { payload: Vec::new(), flags: FIN | ACK, ..to_client.clone() };
    let fin_in = Frame { payload: Vec::new(), flags: FIN | ACK, acknowledgement: 0x4000_0001, ..data.clone() };
    let fin_delivered =
        Frame { payload: Vec::new(), flags: FIN | ACK, acknowledgement: 0x4000_0001, ..delivered.clone() };
    let other = Frame { to_port: THEIR_PORT + 1, ..event.clone() };
    let next = Frame { sequence: 90_000, ..request(SYN) };
    let own = |frame: &Frame| Frame { mac_to: CLIENT_MAC, mac_from: NODE_MAC, ..frame.clone() };
    let adopts = || Step::Adopts(flow(0, Delivery::Local, (VIP, THEIR_PORT)));
    vec![
        in_world(
            "a server on this node keeps a client that it knows as the VIP, which is this node's own now",
            stacked(),
            vec![
                adopts(),
                home(&event, Reason::FromLocal, &to_client),
                turns(&data, Reason::ToLocal, &delivered),
                home(&event, Reason::FromLocal, &to_client),
                home(&other, Reason::NotVip, &other),
            ],
        ),
        in_world(
            "its server closes such a connection first",
            stacked(),
            vec![
                adopts(),
                home(&fin, Reason::FromLocal, &fin_out),
                turns(&fin_in, Reason::ToLocal, &fin_delivered),
                turns(&next, Reason::NewLocal, &to_own(&next)),
            ],
        ),
        in_world(
            "when the VIP has gone elsewhere again, answers to it are left alone on their way there",
            stacked(),
            vec![adopts(), leaves(&own(&event), Reason::NotVip, &own(&event))],
        ),
        in_world("what a node says to itself is left alone", stacked(), {
            let mut steps = own_handshake();
            let reply = own_answer(ACK);
            steps.push(home(&reply, Reason::NotVip, &reply));
            steps
        }),
    ]
}

fn unknown() -> Vec<Case> {
    let data = Frame { payload: b"GET /watch".to_vec(), ..request(ACK) };
    let syn_ack = answer(1, FIRST_PORT, SYN | ACK);
    let shares = sharing(World::standard(), 0);
    let just_gained = sharing(World::standard(), u64::MAX);
    let hashed = |balance: Balance| {
        sharing(direct(), 0).with(|world| {
            world.rings = vec![1, 1, 1];
            world.services[0].1.balance = balance as u16;
        })
    };
    let own_chosen = hashed(Balance::Maglev).with(|world| world.rings = vec![0, 0, 0]);
    let translated = sharing(World::standard(), 0).with(|world| world.services[0].1.balance = Balance::Source as u16);
    let forwards = |balance| {
        vec![
            turns(&data, Reason::NewFlow, &forwarded(&data, 1)),
            turns(&data, Reason::Opened, &forwarded(&data, 1)),
            turns(&data, Reason::ToBackend, &forwarded(&data, 1)),
            Step::Agent(hashed(balance).with(|world| world.backends[1].gone = 1)),
            turns(&data, Reason::BackendGone, &reset(&data)),
        ]
    };
    vec![
        in_world(
            "where flows are shared, a packet of none is answered with RST",
            shares.clone(),
            vec![turns(&data, Reason::NoFlow, &reset(&data))],
        ),
        in_world(
            "word of a flow may be under way where the VIP has just arrived",
            just_gained.clone(),
            vec![
                stays(data.bytes(), Reason::Awaited),
                stays(answer(1, FIRST_PORT, ACK).bytes(), Reason::Awaited),
                Step::Agent(shares.clone()),
                turns(&data, Reason::NoFlow, &reset(&data)),
            ],
        ),
        in_world(
            "new connections and RSTs do not wait for word of others",
            just_gained,
            handshake(0, FIRST_PORT)
                .into_iter()
                .chain([stays(Frame { from_port: 5, ..request(RST) }.bytes(), Reason::StrayReset)])
                .collect(),
        ),
        in_world(
            "an answer to a SYN that another node may have sent is not refused where flows are shared",
            shares,
            vec![stays(syn_ack.bytes(), Reason::AnswerElsewhere)],
        ),
        in_world(
            "without a flow the backend follows from the hash of the client, and its node may have the flow (source)",
            hashed(Balance::Source),
            forwards(Balance::Source),
        ),
        in_world(
            "without a flow the backend follows from the hash of the client, and its node may have the flow (maglev)",
            hashed(Balance::Maglev),
            forwards(Balance::Maglev),
        ),
        in_world(
            "a flow that follows from the hash and would be this node's own is none",
            own_chosen,
            vec![turns(&data, Reason::NoFlow, &reset(&data))],
        ),
        in_world(
            "a hash says nothing about a source port",
            translated,
            vec![turns(&data, Reason::NoFlow, &reset(&data))],
        ),
    ]
}

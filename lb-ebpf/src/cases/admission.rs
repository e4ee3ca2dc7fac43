//! Allow lists and limits of sources.

use core::net::IpAddr;

use super::delivery::{FELLOW_MAC, direct};
use super::table::{handshake, stays, turns};
use super::world::{CLIENT_PORT, FIRST_PORT, PORT, answer, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::{Backend, Reason, SourceLimit, mask};
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// A limit that lets nobody forget within a story: nobody's bucket gets fuller.
const HOUR: u64 = 3_600_000_000_000;

/// The standard world with an allow list, of IPv4 prefixes.
fn allowing(prefixes: &[([u8; 4], u8)]) -> World {
    World::standard().with(|world| {
        world.services[0].1.allow = 1;
        world.allowed = prefixes.iter().map(|(at, bits)| (1, IpAddr::from(*at).into(), 96 + bits)).collect();
    })
}

/// The standard world where sources of so many bits may open `burst` connections in an hour.
pub(super) fn limiting(burst: u64, bits: u8) -> World {
    World::standard().with(|world| {
        world.services[0].1.is_limited = 1;
        let (interval, tolerance) = (HOUR, HOUR * (burst - 1));
        world.limits = vec![(0, SourceLimit { interval, tolerance, mask: mask(96 + bits), ..SourceLimit::default() })];
    })
}

fn case(name: &'static str, world: World, steps: Vec<Step>) -> Case {
    Case { name, version: 4, world, steps }
}

pub(super) fn admission() -> Vec<Case> {
    let mut cases = lists();
    cases.extend(limits());
    cases.extend(full());
    cases
}

/// The standard world where sources may have so many connections, and the client has them until then.
fn full_until(connections: u32, until: u64) -> World {
    World::standard().with(|world| {
        world.services[0].1.is_limited = 1;
        world.limits = vec![(0, SourceLimit { connections, mask: mask(128), ..SourceLimit::default() })];
        world.full = vec![(0, super::world::CLIENT.into(), until)];
    })
}

fn full() -> Vec<Case> {
    let syn = request(SYN);
    let neighbour = Frame { from: [198, 51, 100, 8].into(), ..syn.clone() };
    let next = Frame { from_port: CLIENT_PORT + 1, ..syn.clone() };
    let data = Frame { payload: b"GET /".to_vec(), ..request(ACK) };
    let opens = |frame: &Frame| turns(frame, Reason::NewFlow, &to_backend(frame, 0, FIRST_PORT));
    let refused = |frame: &Frame| turns(frame, Reason::SourceFull, &reset(frame));
    let both = full_until(2, u64::MAX).with(|world| world.limits[0].1.interval = HOUR);
    let mut flow = handshake(0, FIRST_PORT);
    flow.extend([
        Step::Agent(full_until(1, u64::MAX)),
        turns(&data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)),
        refused(&next),
    ]);
    vec![
        case(
            "who has as many connections as it may is refused",
            full_until(2, u64::MAX),
            vec![refused(&syn), opens(&neighbour)],
        ),
        case("as long as the agent vouches for it", full_until(2, 1), vec![opens(&syn)]),
        case("where connections are counted", full_until(0, u64::MAX), vec![opens(&syn)]),
        case("what it has stays", World::standard(), flow),
        case(
            "a refused connection is none that was opened",
            both.clone(),
            vec![
                refused(&syn),
                Step::Agent(both.with(|world| world.full.clear())),
                opens(&syn),
                stays(next.bytes(), Reason::SourceLimit),
            ],
        ),
    ]
}

fn lists() -> Vec<Case> {
    let syn = request(SYN);
    let refused = |frame: &Frame| stays(frame.bytes(), Reason::NotAllowed);
    let opens = |frame: &Frame| turns(frame, Reason::NewFlow, &to_backend(frame, 0, FIRST_PORT));
    let data = Frame { payload: b"GET /".to_vec(), ..request(ACK) };
    let reply = Frame { payload: b"HTTP/1.1 200 OK".to_vec(), ..answer(0, FIRST_PORT, ACK) };
    let other_client = Frame { from: [198, 51, 101, 7].into(), ..syn.clone() };
    let nobodys = allowing(&[([203, 0, 113, 0], 24)]);
    let mut stay = handshake(0, FIRST_PORT);
    stay.extend([
        Step::Agent(nobodys.clone()),
        turns(&data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)),
        turns(&reply, Reason::ToClient, &to_client(&reply)),
        refused(&Frame { from_port: CLIENT_PORT + 1, ..syn.clone() }),
    ]);
    let mut halfway = handshake(0, FIRST_PORT);
    halfway.insert(2, Step::Agent(nobodys.clone()));
    let rst = Frame { acknowledgement: 0, ..request(RST) };
    let mut again = handshake(0, FIRST_PORT);
    again.extend([
        turns(&rst, Reason::ToBackend, &to_backend(&rst, 0, FIRST_PORT)),
        Step::Agent(nobodys.clone()),
        refused(&Frame { sequence: 77_000, ..syn.clone() }),
    ]);
    let backend = answer(0, FIRST_PORT + 7, ACK);
    let forwarded = Frame { mac_from: FELLOW_MAC, ..syn.clone() };
    let direct = direct().with(|world| {
        world.services[0].1.allow = 1;
        world.allowed = nobodys.allowed.clone();
    });
    vec![
        case("who is on the list may connect", allowing(&[([198, 51, 100, 0], 24)]), handshake(0, FIRST_PORT)),
        case("one host on the list", allowing(&[([198, 51, 100, 7], 32)]), vec![opens(&syn), refused(&other_client)]),
        case("everyone by a prefix of no bits", allowing(&[([0; 4], 0)]), vec![opens(&syn)]),
        case(
            "one of several, of any length",
            allowing(&[([10, 0, 0, 0], 8), ([198, 48, 0, 0], 13), ([198, 51, 100, 0], 25)]),
            vec![opens(&syn)],
        ),
        case(
            "who is on no list gets no answer, whatever it sends",
            allowing(&[([198, 51, 101, 0], 24), ([198, 51, 100, 8], 29)]),
            [SYN, ACK, FIN | ACK, RST, RST | ACK, 0, SYN | ACK].map(|flags| refused(&request(flags))).into(),
        ),
        case(
            "a list is a service's own",
            nobodys.clone().with(|world| {
                let (mut at, mut service) = world.services[0];
                at.port = crate::net::Be16::new(PORT + 1);
                (service.number, service.allow) = (1, 0);
                (service.ring_start, service.ring_length) = (world.rings.len() as u32, 1);
                world.rings.push(world.backends.len() as u32);
                world.backends.push(Backend { service: 1, ..world.backends[0] });
                world.services.push((at, service));
            }),
            vec![refused(&syn), {
                let other = Frame { to_port: PORT + 1, ..syn.clone() };
                turns(&other, Reason::NewFlow, &to_backend(&other, 0, FIRST_PORT))
            }],
        ),
        case(
            "what answers is not asked for",
            allowing(&[([198, 51, 100, 0], 24)]),
            vec![turns(&backend, Reason::NoFlow, &reset(&backend))],
        ),
        case(
            "who is on the list gets the answers of everyone",
            allowing(&[([198, 51, 100, 0], 24)]),
            vec![
                turns(&data, Reason::NoFlow, &reset(&data)),
                stays(request(RST).bytes(), Reason::StrayReset),
                stays(request(FIN).bytes(), Reason::TcpFlags),
            ],
        ),
        case("a connection stays when its client is taken off the list", World::standard(), stay),
        case("and so does a handshake under way", World::standard(), halfway),
        case("a new connection from the same port does not", World::standard(), again),
        case("what another node has forwarded is looked at too", direct, vec![refused(&forwarded)]),
        case(
            "from nowhere before from nobody",
            allowing(&[([0; 4], 0)]),
            vec![stays(Frame { from: super::world::VIP, from_port: PORT, ..syn.clone() }.bytes(), Reason::Martian)],
        ),
        case(
            "with flags of nobody before from nobody",
            nobodys,
            vec![stays(Frame { flags: SYN | FIN, ..syn }.bytes(), Reason::TcpFlags)],
        ),
    ]
}

fn limits() -> Vec<Case> {
    let nth = |number: u16| Frame { from_port: CLIENT_PORT + number, ..request(SYN) };
    let neighbour = |number: u16| Frame { from: [198, 51, 100, 8].into(), ..nth(number) };
    let stranger = |number: u16| Frame { from: [198, 51, 101, 7].into(), ..nth(number) };
    let opens = |frame: &Frame, turn: u16| {
        turns(frame, Reason::NewFlow, &to_backend(frame, (turn % 3) as u8, FIRST_PORT + turn / 3))
    };
    let refused = |frame: &Frame| stays(frame.bytes(), Reason::SourceLimit);
    let repeated = |frame: &Frame, turn: u16| {
        turns(frame, Reason::Handshake, &to_backend(frame, (turn % 3) as u8, FIRST_PORT + turn / 3))
    };
    let data = Frame { payload: b"GET /".to_vec(), ..request(ACK) };
    let mut flow = handshake(0, FIRST_PORT);
    flow.extend([
        refused(&nth(1)),
        turns(&data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)),
        turns(&request(SYN), Reason::ToBackend, &to_backend(&request(SYN), 0, FIRST_PORT)),
    ]);
    let stray = Frame { from_port: CLIENT_PORT + 9, ..request(ACK) };
    let forwarded = |number: u16| Frame { mac_from: FELLOW_MAC, ..nth(number) };
    let to_own = |frame: &Frame, turn: u16| {
        let to = super::delivery::to_own(frame);
        turns(frame, Reason::NewLocal, &Frame { from_port: FIRST_PORT + turn, ..to })
    };
    let direct = direct().with(|world| {
        world.services[0].1.is_limited = 1;
        world.limits = limiting(1, 32).limits;
    });
    vec![
        case(
            "a source opens a burst, and others theirs",
            limiting(3, 32),
            vec![
                opens(&nth(0), 0),
                opens(&nth(1), 1),
                opens(&nth(2), 2),
                refused(&nth(3)),
                refused(&nth(4)),
                opens(&neighbour(5), 3),
                opens(&stranger(6), 4),
            ],
        ),
        case(
            "addresses of one prefix are one source",
            limiting(2, 24),
            vec![
                opens(&nth(0), 0),
                opens(&neighbour(1), 1),
                refused(&nth(2)),
                refused(&neighbour(3)),
                opens(&stranger(4), 2),
            ],
        ),
        case(
            "a repeated SYN is no new connection",
            limiting(1, 32),
            vec![opens(&nth(0), 0), repeated(&nth(0), 0), repeated(&nth(0), 0), refused(&nth(1))],
        ),
        case("a limit is about new connections alone", limiting(1, 32), flow),
        case(
            "what opens none is not counted",
            limiting(1, 32),
            vec![turns(&stray, Reason::NoFlow, &reset(&stray)), opens(&nth(0), 0)],
        ),
        case(
            "a limit that comes later begins then, and goes when it is lifted",
            World::standard(),
            vec![
                opens(&nth(0), 0),
                Step::Agent(limiting(1, 32)),
                opens(&nth(1), 1),
                refused(&nth(2)),
                Step::Agent(World::standard()),
                opens(&nth(3), 2),
            ],
        ),
        case(
            "what another node forwards was counted there",
            direct,
            vec![to_own(&forwarded(0), 0), to_own(&forwarded(1), 1), to_own(&forwarded(2), 2)],
        ),
    ]
}

//! Stories by chance: what a fixed table does not think of, the likely events likely.

use core::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::world::{CLIENT_PORT, FIRST_PORT, PORT, VIP, answer, request};
use super::{Executor, Frame, World};
use crate::abi::{Backend, Balance, Delivery, Reason, Service, SourceLimit, Verdict, mask, node_flag};
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// Ports on the client's side, and first source ports towards backends, that packets use.
const PORTS: u16 = 4;

/// Another sender than the usual one, which may be a node that forwards to this one.
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x33];

/// Shares all but the last two bits with the usual client.
const OTHER_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 4));

/// Something that happens, without saying what must come of it.
#[derive(Debug, Clone)]
pub enum Event {
    /// A frame arrives.
    Arrives(Vec<u8>),
    /// The host that received a frame answers it.
    Answers {
        /// How many frames ago it was received.
        ago: usize,
        /// TCP flags of the answer.
        flags: u8,
        /// Data in it.
        payload: Vec<u8>,
    },
    /// The agent writes other tables; connections stay.
    Agent(Box<World>),
}

/// The tables at the beginning, and what happens then.
#[derive(Debug, Clone)]
pub struct Story {
    /// The tables.
    pub world: World,
    /// What happens.
    pub events: Vec<Event>,
}

/// Clients, backends and this node's own stack: what they have received, for them to answer.
#[derive(Debug, Default)]
pub struct Hosts {
    received: Vec<Passing>,
}

/// A frame on its way past the datapath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// The frame.
    pub frame: Vec<u8>,
    /// Whether this node's own stack sends it, or gets it.
    pub inside: bool,
}

impl Hosts {
    /// What became of a frame that passed.
    pub fn receive(&mut self, before: &Passing, reason: Reason, after: &[u8]) {
        let inside = match reason.verdict() {
            Verdict::Forward => false,
            // What came from outside goes in, what came from inside goes out.
            Verdict::Deliver => !before.inside,
            Verdict::Pass | Verdict::Reply | Verdict::Drop => return,
        };
        self.received.push(Passing { frame: after.to_vec(), inside });
    }

    /// The frame that an event brings, if it brings one.
    #[must_use]
    pub fn frame(&self, event: &Event) -> Option<Passing> {
        match event {
            Event::Arrives(frame) => Some(Passing { frame: frame.clone(), inside: false }),
            Event::Answers { ago, flags, payload } => {
                let received = self.received.iter().rev().nth(*ago)?;
                let answer = Frame::parse(&received.frame)?.answered();
                let frame = Frame { flags: *flags, payload: payload.clone(), ..answer }.bytes();
                Some(Passing { frame, inside: received.inside })
            }
            Event::Agent(_) => None,
        }
    }
}

impl Passing {
    /// Passes it on; the reason and the frame afterwards.
    pub fn run(&self, executor: &mut impl Executor) -> (Reason, Vec<u8>) {
        if self.inside { executor.leave(&self.frame) } else { executor.run(&self.frame) }
    }
}

/// A packet a client or a backend could send, or nearly, of IPv6 if `six`.
pub fn any_packet(six: bool) -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![
        6 => Just(SYN), 1 => Just(SYN | ACK), 3 => Just(ACK), 1 => Just(FIN | ACK), 1 => Just(RST), 1 => any::<u8>(),
    ];
    let numbers = prop_oneof![8 => Just(None), 1 => any::<(u32, u32)>().prop_map(Some)];
    let ends = (0u8..4, 0..PORTS, prop_oneof![6 => Just(PORT), 2 => Just(PORT + 1), 1 => Just(22)], any::<bool>());
    let spoil = prop_oneof![8 => Just(None), 1 => any::<(u16, u8)>().prop_map(Some)];
    let sender = prop_oneof![9 => Just(None), 1 => Just(Some(OTHER_MAC))];
    (flags, numbers, ends, sender, proptest::collection::vec(any::<u8>(), 0..20), spoil).prop_map(
        move |(flags, numbers, (slot, port, to_port, from_client), sender, payload, spoil)| {
            let mut frame = if from_client {
                Frame { payload, from_port: CLIENT_PORT + port, to_port, ..request(flags) }
            } else {
                Frame { payload, ..answer(slot, FIRST_PORT + port, flags) }
            };
            if let Some((sequence, acknowledgement)) = numbers {
                frame = Frame { sequence, acknowledgement, ..frame };
            }
            if let Some(mac_from) = sender {
                frame = Frame { mac_from, ..frame };
            }
            if six {
                frame = frame.in_ipv6();
            }
            let Some((at, bit)) = spoil else {
                return frame.bytes();
            };
            let mut bytes = frame.bytes();
            let at = usize::from(at) % bytes.len();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
            bytes
        },
    )
}

fn any_answer() -> impl Strategy<Value = Event> {
    let flags = prop_oneof![
        4 => Just(SYN | ACK), 8 => Just(ACK), 2 => Just(FIN | ACK), 1 => Just(RST), 1 => Just(RST | ACK), 1 => any::<u8>(),
    ];
    let ago = prop_oneof![3 => Just(0usize), 1 => 1usize..10];
    (ago, flags, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(ago, flags, payload)| Event::Answers {
        ago,
        flags,
        payload,
    })
}

/// Tables an agent could write, with room for `capacity` established entries.
fn any_world(capacity: u32) -> impl Strategy<Value = World> {
    let ports = prop_oneof![1 => 0u16..2, 3 => 2u16..8, 3 => Just(1000)];
    let resets = prop_oneof![4 => Just(1_000_000), 1 => Just(0)];
    let flags = prop_oneof![2 => Just(0), 1 => Just(node_flag::REDIRECT), 1 => Just(node_flag::FIB)];
    let delivery =
        prop_oneof![6 => Just(Delivery::Translated), 2 => Just(Delivery::Local), 2 => Just(Delivery::Direct)];
    let backend = (prop_oneof![6 => Just(1u32), 1 => Just(2)], 0u8..12, 0u8..12, delivery);
    let offset = prop_oneof![3 => Just(0), 1 => any::<u32>()];
    let silent = prop_oneof![40 => Just(false), 1 => Just(true)];
    // A list of everyone, of half of everyone, of the client alone, of nobody who sends; a burst.
    let list = prop_oneof![6 => Just(None), 1 => (0u8..=32).prop_map(Some)];
    let admission = (list, prop_oneof![6 => Just(0u64), 1 => 1u64..8]);
    let balance = || {
        let balances = [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Maglev];
        proptest::sample::select(balances.to_vec())
    };
    let limit = prop_oneof![3 => Just(0u32), 1 => 1u32..4];
    let shares = |limit| proptest::array::uniform6((limit, prop_oneof![1 => Just(0u16), 5 => 1u16..4]));
    let limits = prop_oneof![2 => shares(limit.boxed()), 1 => shares(Just(1u32).boxed())];
    // Boxed, as worlds below: what is on the stack otherwise is too much for a test's.
    let spreading = (balance(), balance(), limits, prop_oneof![4 => Just(0u32), 1 => 1u32..3]).boxed();
    let lengths = (0u16..4, 0u16..4);
    let backends = [backend.clone(), backend.clone(), backend];
    ((ports, offset), resets, flags, backends, lengths, (silent, admission), spreading).prop_map(
        move |(
            (port_count, port_offset),
            resets_per_second,
            flags,
            backends,
            (first, second),
            (silent, (list, burst)),
            spreading,
        )| {
            let (first_balance, second_balance, limits, most) = spreading;
            World::standard().with(|world| {
                world.capacity = capacity;
                world.node.port_count = port_count;
                world.node.port_offset = port_offset;
                world.node.resets_per_second = resets_per_second;
                world.node.flags = flags;
                if silent {
                    world.node.version = 0;
                }
                for (backend, (generation, gone, unresolved, delivery)) in world.backends.iter_mut().zip(backends) {
                    backend.delivery = delivery as u16;
                    backend.generation = generation;
                    backend.gone = u16::from(gone == 0);
                    if unresolved == 0 {
                        backend.mac = [0; 6];
                    }
                }
                // The second service has slots of its own for the same machines.
                let others: Vec<_> = world.backends.iter().map(|backend| Backend { service: 1, ..*backend }).collect();
                world.backends.extend(others);
                for (backend, (limit, share)) in world.backends.iter_mut().zip(limits) {
                    backend.max_connections = limit;
                    backend.share = share;
                }
                let own = world.backends.iter().position(|backend| backend.delivery == Delivery::Local as u16);
                if own.is_some() {
                    world.fellows = vec![OTHER_MAC];
                }
                let round = |first: u32, length: u16| (first..first + u32::from(length)).chain(first..first + 3);
                world.rings = round(0, first).collect();
                let (listener, service) = world.services[0];
                let service = |number: u16, ring_start, ring_length, balance: Balance| Service {
                    number,
                    ring_start,
                    ring_length,
                    set_length: 3,
                    balance: balance as u16,
                    key: [7, number.into()],
                    max_connections: most,
                    own: own.map_or(0, |slot| slot as u32 + 3 * u32::from(number) + 1),
                    ..service
                };
                let second =
                    Service { idle_seconds: 60, ..service(1, world.rings.len() as u32, second, second_balance) };
                world.rings.extend(round(3, second.ring_length));
                world.services = vec![
                    (listener, service(0, 0, first, first_balance)),
                    (core::net::SocketAddr::new(VIP, PORT + 1).into(), second),
                ];
                if let Some(bits) = list {
                    world.services[0].1.allow = 1;
                    world.allowed = vec![(1, OTHER_CLIENT.into(), 96 + bits)];
                }
                // Within a story nobody's bucket gets fuller: the two clocks need not agree.
                if burst != 0 {
                    world.services[0].1.is_limited = 1;
                    let (interval, tolerance) = (1 << 42, (burst - 1) << 42);
                    world.limits =
                        vec![(0, SourceLimit { interval, tolerance, mask: mask(128), ..SourceLimit::default() })];
                }
            })
        },
    )
}

/// A story of up to `length` events, in one IP version or the other.
pub fn any_story(length: usize) -> impl Strategy<Value = Story> {
    let capacity = prop_oneof![1 => 1u32..4, 1 => Just(1024)];
    (capacity, any::<bool>()).prop_flat_map(move |(capacity, six)| {
        let world =
            move || any_world(capacity).prop_map(move |world| if six { world.in_ipv6() } else { world }).boxed();
        let event = prop_oneof![
            20 => any_packet(six).prop_map(Event::Arrives),
            30 => any_answer(),
            1 => world().prop_map(|world| Event::Agent(Box::new(world))),
        ];
        let events = proptest::collection::vec(event, 1..length);
        (world(), events).prop_map(|(world, events)| Story { world, events })
    })
}

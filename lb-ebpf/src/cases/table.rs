//! The cases.

use core::net::IpAddr;

use super::delivery::delivery;
use super::world::{CLIENT_PORT, FIRST_PORT, PORT, VIP, answer, backend, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World, six};
use crate::abi::Reason;
use crate::net::header::flag::{ACK, FIN, RST, SYN};

const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const ECE_CWR: u8 = 0xc0;

/// A frame that leaves as it came.
pub(super) fn stays(frame: Vec<u8>, reason: Reason) -> Step {
    Step::Arrives { becomes: frame.clone(), frame, reason }
}

/// A frame that becomes another.
pub(super) fn turns(frame: &Frame, reason: Reason, into: &Frame) -> Step {
    Step::Arrives { frame: frame.bytes(), reason, becomes: into.bytes() }
}

/// The three packets of a handshake by the standard client with a backend.
pub(super) fn handshake(slot: u8, source_port: u16) -> Vec<Step> {
    let (syn, ack) = (request(SYN), request(ACK));
    let syn_ack = answer(slot, source_port, SYN | ACK);
    vec![
        turns(&syn, Reason::NewFlow, &to_backend(&syn, slot, source_port)),
        turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
        turns(&ack, Reason::Opened, &to_backend(&ack, slot, source_port)),
    ]
}

pub(super) fn case(name: &'static str, steps: Vec<Step>) -> Case {
    Case { name, version: 4, world: World::standard(), steps }
}

fn after_handshake(name: &'static str, more: Vec<Step>) -> Case {
    let mut steps = handshake(0, FIRST_PORT);
    steps.extend(more);
    case(name, steps)
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = flows();
    cases.extend(endings());
    cases.extend(answers());
    cases.extend(not_ours());
    cases.extend(malformed());
    cases.extend(super::ranges::ranges());
    cases.extend(super::ports::ports());
    cases.extend(delivery());
    cases.extend(super::admission::admission());
    cases.extend(super::balance::balance());
    cases.extend(super::retries::retries());
    cases.extend(super::shared::shared());
    let six: Vec<_> = cases.iter().filter_map(six::translated).collect();
    cases.extend(six);
    cases.extend(six::own());
    cases.extend(super::errors::errors());
    cases.extend(super::hostile::hostile());
    cases.extend(super::hops::hops());
    cases.extend(super::tunnels::tunnels());
    cases.extend(super::leases::leases());
    cases
}

fn flows() -> Vec<Case> {
    let data = Frame { payload: b"GET /readyz".to_vec(), ..request(ACK | PSH) };
    let reply = Frame { payload: b"HTTP/1.1 200 OK\r\n".to_vec(), ..answer(0, FIRST_PORT, ACK | PSH) };
    let padded = |frame: &Frame, byte: u8| {
        let mut bytes = frame.bytes();
        bytes.resize(60, byte);
        bytes
    };
    let mut round = Vec::new();
    for (turn, slot) in [0u8, 1, 2, 0, 1, 2].into_iter().enumerate() {
        let syn = Frame { from_port: CLIENT_PORT + turn as u16, ..request(SYN) };
        let port = FIRST_PORT + turn as u16 / 3;
        round.push(turns(&syn, Reason::NewFlow, &to_backend(&syn, slot, port)));
    }
    let wrong_ack = Frame { acknowledgement: 9, ..request(ACK) };
    let moved = Frame { mac_from: [2, 0, 0, 0, 0, 0x33], ..data.clone() };
    let to_moved = Frame { mac_to: moved.mac_from, ..to_client(&reply) };
    let syn = request(SYN);
    let syn_ecn = request(SYN | ECE_CWR);
    let fast_open = Frame { payload: b"early".to_vec(), ..request(SYN) };
    let ack_with_data = Frame { payload: b"hello".to_vec(), ..request(ACK | PSH) };
    let ping_of_life = Frame { sequence: 1000, ..request(ACK) };
    let syn_ack = answer(0, FIRST_PORT, SYN | ACK);
    vec![
        after_handshake(
            "a handshake, then data both ways",
            vec![
                turns(&data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)),
                turns(&reply, Reason::ToClient, &to_client(&reply)),
            ],
        ),
        case("new flows take turns", round),
        case(
            "a repeated SYN keeps its backend and port",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 0, FIRST_PORT)),
            ],
        ),
        case(
            "an ACK of something else does not establish",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                turns(&wrong_ack, Reason::Handshake, &to_backend(&wrong_ack, 0, FIRST_PORT)),
                turns(&request(ACK), Reason::Opened, &to_backend(&request(ACK), 0, FIRST_PORT)),
            ],
        ),
        case(
            "an ACK before the answer does not establish",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&request(ACK), Reason::Handshake, &to_backend(&request(ACK), 0, FIRST_PORT)),
            ],
        ),
        case(
            "the first ACK may carry data",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                turns(&ack_with_data, Reason::Opened, &to_backend(&ack_with_data, 0, FIRST_PORT)),
            ],
        ),
        case(
            "a SYN with ECN flags opens",
            vec![turns(&syn_ecn, Reason::NewFlow, &to_backend(&syn_ecn, 0, FIRST_PORT))],
        ),
        case("a SYN with data opens", vec![turns(&fast_open, Reason::NewFlow, &to_backend(&fast_open, 0, FIRST_PORT))]),
        after_handshake(
            "padding to the minimum frame stays out of the checksum",
            vec![Step::Arrives {
                frame: padded(&request(ACK), 0xaa),
                reason: Reason::ToBackend,
                becomes: padded(&to_backend(&request(ACK), 0, FIRST_PORT), 0xaa),
            }],
        ),
        after_handshake(
            "a wrong TCP checksum stays as wrong as it was",
            vec![Step::Arrives {
                frame: data.bytes_with(|bytes| bytes[60] ^= 0x40),
                reason: Reason::ToBackend,
                becomes: to_backend(&data, 0, FIRST_PORT).bytes_with(|bytes| bytes[60] ^= 0x40),
            }],
        ),
        after_handshake(
            "a SYN on a living flow follows the flow",
            vec![
                turns(&syn, Reason::ToBackend, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&reply, Reason::ToClient, &to_client(&reply)),
            ],
        ),
        after_handshake(
            "flags that mean nothing follow a living flow",
            vec![turns(&request(0), Reason::ToBackend, &to_backend(&request(0), 0, FIRST_PORT))],
        ),
        after_handshake(
            "answers go to where the client's packets come from now",
            vec![
                turns(&moved, Reason::ToBackend, &to_backend(&moved, 0, FIRST_PORT)),
                turns(&reply, Reason::ToClient, &to_moved),
            ],
        ),
        after_handshake(
            "a keep-alive probe follows its flow",
            vec![turns(&ping_of_life, Reason::ToBackend, &to_backend(&ping_of_life, 0, FIRST_PORT))],
        ),
        after_handshake(
            "a backend taken out of the round keeps its flows",
            vec![
                Step::Agent(World::standard().with(|world| {
                    world.services[0].1.ring_length = 2;
                    world.rings = vec![1, 2];
                })),
                turns(&data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)),
                turns(&reply, Reason::ToClient, &to_client(&reply)),
            ],
        ),
        Case {
            version: 4,
            name: "a service's own port is not a source port",
            world: World::standard().with(|world| world.node.first_port = PORT),
            steps: vec![turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, PORT + 1))],
        },
    ]
}

fn endings() -> Vec<Case> {
    let syn = request(SYN);
    let fin = request(FIN | ACK);
    let fin_back = Frame { acknowledgement: 1002, ..answer(0, FIRST_PORT, FIN | ACK) };
    let last = Frame { sequence: 1002, acknowledgement: 5002, ..request(ACK) };
    let half_closed = Frame { payload: b"more".to_vec(), acknowledgement: 1002, ..answer(0, FIRST_PORT, ACK) };
    let again = Frame { sequence: 77_000, ..request(SYN) };
    let rst = Frame { acknowledgement: 0, sequence: 1001, ..request(RST) };
    let rst_aside = Frame { sequence: 900, ..rst.clone() };
    let given_up = Frame { acknowledgement: 0, ..request(RST) };
    let late = answer(0, FIRST_PORT, ACK);
    let syn_ack = answer(0, FIRST_PORT, SYN | ACK);
    let remembers = Frame { sequence: 70_000, acknowledgement: 90_000, ..answer(0, FIRST_PORT, ACK) };
    vec![
        after_handshake(
            "both sides close, and the client's port opens a flow of its own",
            vec![
                turns(&fin, Reason::ToBackend, &to_backend(&fin, 0, FIRST_PORT)),
                turns(&fin_back, Reason::ToClient, &to_client(&fin_back)),
                turns(&last, Reason::ToBackend, &to_backend(&last, 0, FIRST_PORT)),
                turns(&again, Reason::NewFlow, &to_backend(&again, 1, FIRST_PORT)),
            ],
        ),
        after_handshake(
            "a half-closed flow goes on in the other direction",
            vec![
                turns(&fin, Reason::ToBackend, &to_backend(&fin, 0, FIRST_PORT)),
                turns(&half_closed, Reason::ToClient, &to_client(&half_closed)),
                turns(&again, Reason::ToBackend, &to_backend(&again, 0, FIRST_PORT)),
            ],
        ),
        after_handshake(
            "a reset flow gives way to a new one",
            vec![
                turns(&late, Reason::ToClient, &to_client(&late)),
                turns(&rst, Reason::ToBackend, &to_backend(&rst, 0, FIRST_PORT)),
                turns(&again, Reason::NewFlow, &to_backend(&again, 1, FIRST_PORT)),
            ],
        ),
        after_handshake(
            "a RST outside the window is forwarded and changes nothing",
            vec![
                turns(&late, Reason::ToClient, &to_client(&late)),
                turns(&rst_aside, Reason::ToBackend, &to_backend(&rst_aside, 0, FIRST_PORT)),
                turns(&again, Reason::ToBackend, &to_backend(&again, 0, FIRST_PORT)),
            ],
        ),
        case(
            "a client that gives up is forgotten",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                turns(&given_up, Reason::Handshake, &to_backend(&given_up, 0, FIRST_PORT)),
                turns(&late, Reason::NoFlow, &reset(&late)),
            ],
        ),
        case(
            "a backend that remembers the source port is told otherwise, and then serves",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&remembers, Reason::Handshake, &to_client(&remembers)),
                turns(&given_up, Reason::Handshake, &to_backend(&given_up, 0, FIRST_PORT)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                turns(&request(ACK), Reason::Opened, &to_backend(&request(ACK), 0, FIRST_PORT)),
            ],
        ),
    ]
}

fn answers() -> Vec<Case> {
    let syn = request(SYN);
    let data = Frame { payload: b"GET /".to_vec(), ..request(ACK | PSH) };
    let fin = Frame { payload: b"bye".to_vec(), ..request(FIN | ACK) };
    let late = Frame { payload: b"late".to_vec(), ..answer(1, FIRST_PORT + 7, ACK) };
    let gone = World::standard().with(|world| world.backends[0].gone = 1);
    let replaced = World::standard().with(|world| world.backends[0].generation = 2);
    let unresolved = World::standard().with(|world| world.backends.iter_mut().for_each(|backend| backend.mac = [0; 6]));
    let nobody = World::standard().with(|world| world.services[0].1.ring_length = 0);
    let no_ports = World::standard().with(|world| world.node.port_count = 0);
    let tight = World::standard().with(|world| world.capacity = 1);
    let one_port = World::standard().with(|world| {
        world.node.port_count = 1;
        world.rings = vec![0];
        world.services[0].1.ring_length = 1;
    });
    let mute = World::standard().with(|world| world.node.resets_per_second = 0);
    let second = Frame { from_port: CLIENT_PORT + 1, ..syn.clone() };
    let syn_ack = answer(0, FIRST_PORT, SYN | ACK);
    let backend_is_gone = |name, world: &World| {
        after_handshake(
            name,
            vec![
                Step::Agent(world.clone()),
                turns(&data, Reason::BackendGone, &reset(&data)),
                turns(&data, Reason::NoFlow, &reset(&data)),
            ],
        )
    };
    vec![
        case("a packet of no flow is reset", vec![turns(&data, Reason::NoFlow, &reset(&data))]),
        case("a FIN of no flow is reset", vec![turns(&fin, Reason::NoFlow, &reset(&fin))]),
        case("a backend's packet of no flow is reset", vec![turns(&late, Reason::NoFlow, &reset(&late))]),
        case("a RST of no flow is not answered", vec![stays(request(RST).bytes(), Reason::StrayReset)]),
        case("a RST with ACK of no flow is not answered", vec![stays(request(RST | ACK).bytes(), Reason::StrayReset)]),
        backend_is_gone("a flow whose backend is gone is reset", &gone),
        backend_is_gone("a flow whose backend's place has another is reset", &replaced),
        case(
            "a repeated SYN goes on when its backend is gone",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                Step::Agent(gone.clone()),
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 1, FIRST_PORT)),
            ],
        ),
        case(
            "a handshake whose backend is gone is reset",
            vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                Step::Agent(gone.clone()),
                turns(&request(ACK), Reason::BackendGone, &reset(&request(ACK))),
            ],
        ),
        Case {
            version: 4,
            name: "no backend",
            world: nobody,
            steps: vec![turns(&syn, Reason::NoBackend, &reset(&syn))],
        },
        Case {
            version: 4,
            name: "no source ports at all",
            world: no_ports,
            steps: vec![turns(&syn, Reason::NoSourcePort, &reset(&syn))],
        },
        Case {
            version: 4,
            name: "the last source port is taken",
            world: one_port,
            steps: vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&second, Reason::NoSourcePort, &reset(&second)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 0, FIRST_PORT)),
            ],
        },
        Case {
            version: 4,
            name: "no room for an established flow",
            world: tight,
            steps: vec![
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
                turns(&request(ACK), Reason::TableFull, &reset(&request(ACK))),
                turns(&request(ACK), Reason::NoFlow, &reset(&request(ACK))),
            ],
        },
        Case {
            version: 4,
            name: "a next hop nobody knows",
            world: unresolved,
            steps: vec![stays(syn.bytes(), Reason::NoNeighbour)],
        },
        Case {
            version: 4,
            name: "this second's answers are spent",
            world: mute,
            steps: vec![stays(data.bytes(), Reason::ResetLimit)],
        },
    ]
}

fn not_ours() -> Vec<Case> {
    let own = IpAddr::from([192, 0, 2, 21]);
    let plain = Frame { to: own, to_port: 22, ..request(SYN) };
    let passes = |name, frame: Vec<u8>, reason| case(name, vec![stays(frame, reason)]);
    let mut cases = vec![
        passes("the host's own ssh", plain.bytes(), Reason::NotVip),
        passes("the host's own fragments", Frame { fragment: 0x2000, ..plain.clone() }.bytes(), Reason::NotVip),
        passes("the host's own packets with IP options", plain.bytes_with(|bytes| bytes[14] = 0x46), Reason::NotVip),
        passes(
            "the host's own packets with a wrong IP checksum",
            {
                let mut bytes = plain.bytes();
                bytes[24] ^= 1;
                bytes
            },
            Reason::NotVip,
        ),
        passes("the host's own packets with nonsense for TCP", plain.bytes_with(|bytes| bytes[46] = 0), Reason::NotVip),
        passes("the host's own packets with no hop left", plain.bytes_with(|bytes| bytes[22] = 0), Reason::NotVip),
        passes("another host's", Frame { mac_to: [2, 0, 0, 0, 0, 0x99], ..request(SYN) }.bytes(), Reason::OtherMac),
        passes("broadcast", Frame { mac_to: [0xff; 6], ..request(SYN) }.bytes(), Reason::OtherMac),
        passes("ssh to the VIP", Frame { to_port: 22, ..request(SYN) }.bytes(), Reason::NotService),
        passes(
            "a stranger to a source port",
            Frame { to_port: FIRST_PORT + 1, ..request(ACK) }.bytes(),
            Reason::NotService,
        ),
        passes(
            "a backend to a port that is not one of ours",
            Frame { to_port: FIRST_PORT - 1, ..answer(0, 0, ACK) }.bytes(),
            Reason::NotService,
        ),
        passes("ping to the VIP", request(SYN).bytes_with(|bytes| bytes[23] = 1), Reason::NotTcp),
        passes(
            "a large ping to the VIP",
            request(SYN).bytes_with(|bytes| {
                bytes[23] = 1;
                bytes[20] = 0x20;
            }),
            Reason::NotTcp,
        ),
        passes(
            "VRRP",
            Frame { to: IpAddr::from([224, 0, 0, 18]), ..request(0) }.bytes_with(|bytes| {
                bytes[0..6].copy_from_slice(&[0x01, 0, 0x5e, 0, 0, 0x12]);
                bytes[23] = 112;
            }),
            Reason::OtherMac,
        ),
        passes("UDP to the service's port", request(SYN).bytes_with(|bytes| bytes[23] = 17), Reason::NotTcp),
        passes("ARP", request(SYN).bytes_with(|bytes| bytes[12..14].copy_from_slice(&[0x08, 0x06])), Reason::NotIp),
        passes(
            "IPv4 under IPv6's EtherType",
            request(SYN).bytes_with(|bytes| bytes[12..14].copy_from_slice(&[0x86, 0xdd])),
            Reason::NotVip,
        ),
        passes(
            "a VLAN tag",
            {
                let mut bytes = request(SYN).bytes();
                bytes.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
                bytes
            },
            Reason::NotIp,
        ),
        passes("a frame without an IP header", request(SYN).bytes()[..20].to_vec(), Reason::Runt),
        Case {
            version: 4,
            name: "before the agent has spoken",
            world: World::standard().with(|world| world.node.version = 0),
            steps: vec![stays(request(SYN).bytes(), Reason::NotConfigured)],
        },
    ];
    for protocol in [0u8, 2, 4, 47, 50, 89, 112, 132, 255] {
        cases.push(passes(
            "another protocol to the VIP",
            request(SYN).bytes_with(|bytes| bytes[23] = protocol),
            Reason::NotTcp,
        ));
    }
    cases
}

fn malformed() -> Vec<Case> {
    let drops = |name, frame: Vec<u8>, reason| case(name, vec![stays(frame, reason)]);
    let syn = request(SYN);
    let mut cases = vec![
        drops("IP version 6 under IPv4's EtherType", syn.bytes_with(|bytes| bytes[14] = 0x65), Reason::IpVersion),
        drops("an IP header of four words", syn.bytes_with(|bytes| bytes[14] = 0x44), Reason::IpHeaderLength),
        drops("IP options", syn.bytes_with(|bytes| bytes[14] = 0x46), Reason::IpOptions),
        drops("a first fragment", syn.bytes_with(|bytes| bytes[20] = 0x20), Reason::IpFragment),
        drops("a later fragment", syn.bytes_with(|bytes| bytes[21] = 0x09), Reason::IpFragment),
        drops(
            "a wrong IP checksum",
            {
                let mut bytes = syn.bytes();
                bytes[25] ^= 0x10;
                bytes
            },
            Reason::IpChecksum,
        ),
        drops("longer than the frame", syn.bytes_with(|bytes| bytes[17] = 200), Reason::IpTotalLength),
        drops("shorter than the headers", syn.bytes_with(|bytes| bytes[17] = 39), Reason::IpTotalLength),
        drops("a TCP header of four words", syn.bytes_with(|bytes| bytes[46] = 0x40), Reason::TcpDataOffset),
        drops("a TCP header beyond the packet", syn.bytes_with(|bytes| bytes[46] = 0xf0), Reason::TcpDataOffset),
        drops("SYN and FIN", request(SYN | FIN).bytes(), Reason::TcpFlags),
        drops("SYN and RST", request(SYN | RST).bytes(), Reason::TcpFlags),
        drops("no flags at all", request(0).bytes(), Reason::TcpFlags),
        drops("all the wrong flags", request(FIN | PSH | URG).bytes(), Reason::TcpFlags),
        drops("from the VIP itself", Frame { from: VIP, from_port: PORT, ..syn.clone() }.bytes(), Reason::Martian),
    ];
    for from in [[0, 0, 0, 1], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]] {
        cases.push(drops("from nowhere", Frame { from: from.into(), ..syn.clone() }.bytes(), Reason::Martian));
    }
    for length in 14..54 {
        let (name, reason) = if length < 34 {
            ("cut in the IP header", Reason::Runt)
        } else {
            ("cut in the TCP header", Reason::TcpTruncated)
        };
        cases.push(drops(name, syn.bytes()[..length].to_vec(), reason));
    }
    let from_backend = Frame { from: backend(0), ..request(SYN) };
    cases.push(case(
        "a backend is a client like any other",
        vec![turns(&from_backend, Reason::NewFlow, &to_backend(&from_backend, 0, FIRST_PORT))],
    ));
    cases
}

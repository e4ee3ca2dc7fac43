//! IPv6: the cases of IPv4 between hosts with IPv6 addresses, and what only IPv6 has.

use core::net::{IpAddr, Ipv6Addr};

use super::frame::{in_ipv6, sixth};
use super::table::stays;
use super::world::{FIRST_PORT, VIP, answer, request, to_backend};
use super::{Case, Frame, Step, World};
use crate::abi::{Adoption, Reason};
use crate::net::Be128;
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// Where fields are in a frame.
const NEXT_HEADER: usize = 20;
const HOP_LIMIT: usize = 21;
const TCP: usize = 54;

/// The same case between hosts with IPv6 addresses, if every frame in it is one that both versions have.
pub(super) fn translated(case: &Case) -> Option<Case> {
    let step = |step: &Step| match step {
        Step::Arrives { frame, reason, becomes } => {
            Some(Step::Arrives { frame: in_ipv6(frame)?, reason: *reason, becomes: in_ipv6(becomes)? })
        }
        Step::Leaves { frame, reason, becomes } => {
            Some(Step::Leaves { frame: in_ipv6(frame)?, reason: *reason, becomes: in_ipv6(becomes)? })
        }
        Step::LeavesHome { frame, reason, becomes } => {
            Some(Step::LeavesHome { frame: in_ipv6(frame)?, reason: *reason, becomes: in_ipv6(becomes)? })
        }
        Step::Agent(world) => Some(Step::Agent(world.clone().in_ipv6())),
        Step::Adopts(flow) => Some(Step::Adopts(adopted(*flow))),
    };
    let steps = case.steps.iter().map(step).collect::<Option<Vec<_>>>()?;
    // Which addresses no host has differs.
    let is_martian = |step: &Step| matches!(step, Step::Arrives { reason: Reason::Martian, .. });
    let world = case.world.clone().in_ipv6();
    (!steps.iter().any(is_martian)).then_some(Case { version: 6, name: case.name, world, steps })
}

fn adopted(mut flow: Adoption) -> Adoption {
    let six = |address: &mut Be128| *address = sixth(IpAddr::from(*address)).into();
    [&mut flow.client.source, &mut flow.client.destination].into_iter().for_each(six);
    [&mut flow.backend.address, &mut flow.seen_as.address].into_iter().for_each(six);
    flow
}

fn case(name: &'static str, steps: Vec<Step>) -> Case {
    Case { version: 6, name, world: World::standard().in_ipv6(), steps }
}

fn one(name: &'static str, frame: Vec<u8>, reason: Reason) -> Case {
    case(name, vec![stays(frame, reason)])
}

/// What only IPv6 has, or has in its own way.
pub(super) fn own() -> Vec<Case> {
    let mut cases = not_ours();
    cases.extend(malformed());
    cases
}

fn syn() -> Frame {
    request(SYN).in_ipv6()
}

/// The SYN with a header between IPv6 and TCP.
fn with_extension(next_header: u8, header: &[u8]) -> Vec<u8> {
    let mut bytes = syn().bytes();
    bytes[NEXT_HEADER] = next_header;
    bytes.splice(TCP..TCP, header.iter().copied());
    let length = bytes.len() - TCP;
    bytes[18..20].copy_from_slice(&(length as u16).to_be_bytes());
    bytes
}

fn not_ours() -> Vec<Case> {
    let own: IpAddr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x21).into();
    let plain = Frame { to: own, to_port: 22, ..syn() };
    // To the group that every host with such an address joins (RFC 4291 section 2.7.1).
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x64);
    let solicitation = Frame { mac_to: [0x33, 0x33, 0xff, 0, 0, 0x64], to: solicited.into(), ..syn() };
    let unicast = |kind: u8| {
        let mut bytes = syn().bytes();
        bytes[NEXT_HEADER] = 58;
        bytes[HOP_LIMIT] = 255;
        bytes[TCP] = kind;
        bytes
    };
    let mut cases = vec![
        one("the host's own ssh", plain.bytes(), Reason::NotVip),
        one("the host's own packets with no hop left", Frame { ttl: 0, ..plain.clone() }.bytes(), Reason::NotVip),
        one(
            "the host's own packets with extension headers",
            plain.bytes_with(|bytes| bytes[NEXT_HEADER] = 0),
            Reason::NotVip,
        ),
        one(
            "the host's own packets with nonsense for TCP",
            plain.bytes_with(|bytes| bytes[TCP + 12] = 0),
            Reason::NotVip,
        ),
        one("a neighbour solicitation", solicitation.bytes_with(|bytes| bytes[NEXT_HEADER] = 58), Reason::OtherMac),
        one("a frame without an IP header", syn().bytes()[..30].to_vec(), Reason::Runt),
        one(
            "a VLAN tag",
            {
                let mut bytes = syn().bytes();
                bytes.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
                bytes
            },
            Reason::NotIp,
        ),
        case("from a host on the link, by its link-local address", {
            let frame = Frame { from: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7).into(), ..syn() };
            let becomes = Frame { from: VIP, to: super::world::backend(0), ..to_backend(&frame, 0, FIRST_PORT) };
            vec![Step::Arrives { frame: frame.bytes(), reason: Reason::NewFlow, becomes: becomes.in_ipv6().bytes() }]
        }),
    ];
    // IPv4's addresses are not to be had by IPv6.
    let mapped = |address: [u8; 4]| IpAddr::V6(core::net::Ipv4Addr::from(address).to_ipv6_mapped());
    let four = Frame { to: mapped([192, 0, 2, 100]), ..syn() };
    for frame in [four.bytes(), four.bytes_with(|bytes| bytes[NEXT_HEADER] = 60)] {
        let world = World::standard();
        let name = "to a VIP of IPv4 as a mapped address";
        cases.push(Case { version: 6, name, world, steps: vec![stays(frame, Reason::NotVip)] });
    }
    for (name, frame) in [
        ("a large ping to the VIP", with_extension(44, &[58, 0, 0, 1, 0, 0, 0, 9])),
        ("ICMPv6 behind destination options", with_extension(60, &[58, 0, 1, 4, 0, 0, 0, 0])),
        ("ESP behind a routing header", with_extension(43, &[50, 0, 0, 0, 0, 0, 0, 0])),
    ] {
        cases.push(one(name, frame, Reason::NotTcp));
    }
    // Destination unreachable, packet too big, echo request, unicast neighbour solicitation and advertisement.
    for kind in [1, 2, 128, 135, 136] {
        cases.push(one("ICMPv6 to the VIP", unicast(kind), Reason::NotTcp));
    }
    for next_header in [17u8, 4, 41, 47, 50, 59, 89, 112, 132, 255] {
        let bytes = syn().bytes_with(|bytes| bytes[NEXT_HEADER] = next_header);
        cases.push(one("another protocol to the VIP", bytes, Reason::NotTcp));
    }
    cases
}

fn malformed() -> Vec<Case> {
    let wrong = |at: usize, byte: u8| syn().bytes_with(|bytes| bytes[at] = byte);
    let mut cases = vec![
        one("IP version 4 under IPv6's EtherType", wrong(14, 0x40), Reason::IpVersion),
        one("longer than the frame", wrong(19, 200), Reason::IpTotalLength),
        one("shorter than a TCP header", wrong(19, 19), Reason::IpTotalLength),
        one("a jumbogram's length (RFC 2675)", wrong(19, 0), Reason::IpTotalLength),
        one("a TCP header of four words", wrong(TCP + 12, 0x40), Reason::TcpDataOffset),
        one("a TCP header beyond the packet", wrong(TCP + 12, 0xf0), Reason::TcpDataOffset),
        one("SYN and FIN", request(SYN | FIN).in_ipv6().bytes(), Reason::TcpFlags),
        one("SYN and RST", request(SYN | RST).in_ipv6().bytes(), Reason::TcpFlags),
        one("from the VIP itself", Frame { from: VIP, ..request(SYN) }.in_ipv6().bytes(), Reason::Martian),
        one("hop-by-hop options", with_extension(0, &[6, 0, 1, 4, 0, 0, 0, 0]), Reason::IpOptions),
        one("destination options", with_extension(60, &[6, 0, 1, 4, 0, 0, 0, 0]), Reason::IpOptions),
        one("a routing header", with_extension(43, &[6, 0, 0, 0, 0, 0, 0, 0]), Reason::IpOptions),
        one("an authentication header", with_extension(51, &[6, 4, 0, 0, 0, 0, 0, 0]), Reason::IpOptions),
        one("options behind options", with_extension(0, &[60, 0, 1, 4, 0, 0, 0, 0]), Reason::IpOptions),
        one("a first fragment", with_extension(44, &[6, 0, 0, 1, 0, 0, 0, 9]), Reason::IpFragment),
        one("a later fragment", with_extension(44, &[6, 0, 1, 0x68, 0, 0, 0, 9]), Reason::IpFragment),
    ];
    let nobodys: [Ipv6Addr; 5] = [
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xc633, 0x6407),
    ];
    for from in nobodys {
        cases.push(one("from nowhere", Frame { from: from.into(), ..syn() }.bytes(), Reason::Martian));
    }
    for length in 14..74 {
        let (name, reason) = if length < 54 {
            ("cut in the IP header", Reason::Runt)
        } else {
            ("cut in the TCP header", Reason::TcpTruncated)
        };
        cases.push(one(name, syn().bytes()[..length].to_vec(), reason));
    }
    let handshake = [
        (request(SYN), Reason::NewFlow, to_backend(&request(SYN), 0, FIRST_PORT)),
        (
            answer(0, FIRST_PORT, SYN | ACK),
            Reason::Handshake,
            super::world::to_client(&answer(0, FIRST_PORT, SYN | ACK)),
        ),
        (request(ACK), Reason::Opened, to_backend(&request(ACK), 0, FIRST_PORT)),
    ];
    let mut steps: Vec<_> = handshake
        .into_iter()
        .map(|(frame, reason, becomes)| {
            let (frame, becomes) = (frame.in_ipv6().bytes(), becomes.in_ipv6().bytes());
            Step::Arrives { frame, reason, becomes }
        })
        .collect();
    let data = Frame { payload: b"GET /readyz".to_vec(), ..request(ACK) };
    let spoilt = |frame: Frame| frame.in_ipv6().bytes_with(|bytes| bytes[80] ^= 0x40);
    steps.push(Step::Arrives {
        frame: spoilt(data.clone()),
        reason: Reason::ToBackend,
        becomes: spoilt(to_backend(&data, 0, FIRST_PORT)),
    });
    cases.push(case("a wrong TCP checksum stays as wrong as it was", steps));
    cases
}

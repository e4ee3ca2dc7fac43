//! Packets with no hop left: who is told, and who is not.

use super::delivery::{FELLOW_MAC, direct};
use super::frame::{self, checksum, pseudo_header};
use super::table::{handshake, stays, turns};
use super::world::{FIRST_PORT, NODE_MAC, OWN, VIP, answer, request, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::{Reason, node_flag};
use crate::net::header::flag::{ACK, RST, SYN};

/// What the sender of a frame is told when that had no hop left: by where it was sent, about as much as there has to be.
pub(super) fn exceeded(frame: &[u8]) -> Vec<u8> {
    let is_six = frame[12] == 0x86;
    let (packet, addresses) = (&frame[14..], if is_six { 8..40 } else { 12..20 });
    let (to, from) = packet[addresses.clone()].split_at(addresses.len() / 2);
    let (kind, protocol, about) = if is_six { ([3, 0], 58, 60) } else { ([11, 0], 1, 28) };
    let mut icmp = [&kind[..], &[0; 6], &packet[..about]].concat();
    let pseudo_header = if is_six { pseudo_header(from, to, icmp.len(), protocol) } else { Vec::new() };
    let sum = checksum(&[&pseudo_header, &icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let [high, low] = (if is_six { icmp.len() } else { 20 + icmp.len() } as u16).to_be_bytes();
    let mut ip = match is_six {
        true => vec![0x60, 0, 0, 0, high, low, protocol, 64],
        false => vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0],
    };
    ip.extend(from);
    ip.extend(to);
    if !is_six {
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    [&frame[6..12], &NODE_MAC, &frame[12..14], &ip, &icmp].concat()
}

fn told(frame: &Frame) -> Step {
    let frame = frame.bytes();
    Step::Arrives { becomes: exceeded(&frame), frame, reason: Reason::TimeExceeded }
}

/// All of them.
pub(super) fn hops() -> Vec<Case> {
    let four = in_ipv4();
    let six: Vec<_> = four.iter().filter_map(in_ipv6).collect();
    four.into_iter().chain(six).collect()
}

/// The same case between hosts with IPv6 addresses: errors are made anew, because their lengths differ.
fn in_ipv6(case: &Case) -> Option<Case> {
    let step = |step: &Step| match step {
        Step::Arrives { frame, reason: Reason::TimeExceeded, .. } => {
            let frame = frame::in_ipv6(frame)?;
            Some(Step::Arrives { becomes: exceeded(&frame), frame, reason: Reason::TimeExceeded })
        }
        Step::Arrives { frame, reason, becomes } => {
            Some(Step::Arrives { frame: frame::in_ipv6(frame)?, reason: *reason, becomes: frame::in_ipv6(becomes)? })
        }
        _ => None,
    };
    let steps = case.steps.iter().map(step).collect::<Option<_>>()?;
    Some(Case { name: case.name, version: 6, world: case.world.clone().in_ipv6(), steps })
}

fn in_ipv4() -> Vec<Case> {
    let case = |name, world: World, steps| Case { name, version: 4, world, steps };
    let standard = World::standard;
    let with = |ttl: u8, frame: &Frame| Frame { ttl, ..frame.clone() };
    let (syn, ack) = (request(SYN), request(ACK));
    let data = Frame { payload: b"GET /readyz".to_vec(), ..request(ACK) };
    let reply = Frame { payload: vec![7; 1000], ..answer(0, FIRST_PORT, ACK) };
    let mut of_a_flow = handshake(0, FIRST_PORT);
    for ttl in [0, 1] {
        of_a_flow.extend([told(&with(ttl, &data)), told(&with(ttl, &reply)), told(&with(ttl, &request(RST)))]);
    }
    for ttl in [2, 255] {
        let (data, reply) = (with(ttl, &data), with(ttl, &reply));
        of_a_flow.push(turns(&data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)));
        of_a_flow.push(turns(&reply, Reason::ToClient, &to_client(&reply)));
    }
    // Shorter than the error, as long, and longer; of even and of odd length.
    let of_any_length =
        (0..80).map(|length| told(&Frame { ttl: 1, payload: vec![7; length], ..ack.clone() })).collect();
    let nobodys = standard().with(|world| {
        world.services[0].1.allow = 1;
        world.allowed = vec![(1, core::net::IpAddr::from([203, 0, 113, 0]).into(), 96 + 24)];
    });
    let delivers = standard().with(|world| world.node.flags = node_flag::DELIVERS_ONLY);
    let by_a_fellow = Frame { mac_from: FELLOW_MAC, ..with(1, &syn) };
    let silent = |name, world, frame: &Frame, reason| case(name, world, vec![stays(frame.bytes(), reason)]);
    vec![
        case(
            "who opens a connection with no hop left is told, and it is not opened",
            standard(),
            vec![
                told(&with(0, &syn)),
                told(&with(1, &syn)),
                turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                told(&with(1, &syn)),
                turns(&syn, Reason::Handshake, &to_backend(&syn, 0, FIRST_PORT)),
            ],
        ),
        case("both ends of a flow are told, which goes on", standard(), of_a_flow),
        case("of any length", standard(), of_any_length),
        silent(
            "no hop left, and from nobody: nobody is told",
            standard(),
            &Frame { from: VIP, ..with(1, &syn) },
            Reason::Martian,
        ),
        silent(
            "no hop left, and from this node itself: nobody is told",
            standard(),
            &Frame { from: OWN, ..with(1, &syn) },
            Reason::Martian,
        ),
        silent("no hop left, and not allowed: nobody is told", nobodys, &with(1, &syn), Reason::NotAllowed),
        silent("no hop left of what another node has forwarded", direct(), &by_a_fellow, Reason::Ttl),
        silent("no hop left at a node that only delivers", delivers, &with(1, &syn), Reason::Ttl),
        silent(
            "no hop left for ssh to the VIP, which is the host's",
            standard(),
            &Frame { to_port: 22, ..with(1, &syn) },
            Reason::NotService,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Executor as _, Model, sixth};
    use super::*;
    use crate::abi::ERRORS_PER_SECOND;

    #[test]
    fn errors_are_told_so_many_a_second() {
        let mut model = Model::new(World::standard());
        let frame = Frame { ttl: 1, ..request(SYN) }.bytes();
        for second in 0..3 {
            for told in 0..ERRORS_PER_SECOND {
                assert_eq!(model.run(&frame).0, Reason::TimeExceeded, "{told} in second {second}");
            }
            for _ in 0..10 {
                assert_eq!(model.run(&frame), (Reason::IcmpLimit, frame.clone()));
            }
            model.now.set(model.now.get() + 1);
        }
    }

    #[test]
    fn an_error_is_as_the_specification_says() {
        let frame = Frame { ttl: 1, ..request(SYN) };
        let told = exceeded(&frame.bytes());
        assert_eq!((told.len(), &told[23..24], &told[34..36]), (70, &[1][..], &[11, 0][..]));
        assert_eq!(told[42..70], frame.bytes()[14..42], "the header and eight bytes");
        let told = exceeded(&frame.clone().in_ipv6().bytes());
        assert_eq!((told.len(), &told[20..21], &told[54..56]), (122, &[58][..], &[3, 0][..]));
        assert_eq!(sixth(VIP).octets(), told[22..38]);
    }
}

//! What nobody sends who means well: every length, version, flag and number there is, with what must come of each.
//!
//! What is expected follows from the specifications alone, so the same mistake would have to be made twice.

use core::net::{IpAddr, Ipv6Addr};

use super::table::{stays, turns};
use super::world::{FIRST_PORT, PORT, VIP, answer, request, reset, to_backend, to_client};
use super::{Case, Frame, Step, World};
use crate::abi::Reason;
use crate::net::header::flag::{ACK, FIN, RST, SYN};

/// The version and the protocols of a frame.
const ETHERNET: usize = 14;

pub(super) fn hostile() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in [4, 6] {
        cases.extend(cut(version));
        cases.extend(first_bytes(version));
        cases.extend(lengths(version));
        cases.extend(data_offsets(version));
        cases.extend(flags(version));
        cases.extend(protocols(version));
        cases.extend(sources(version));
        cases.extend(endings(version));
    }
    cases.extend(fragments());
    cases.extend(options());
    cases.extend(header_checksums());
    cases
}

fn of(version: u8, frame: Frame) -> Frame {
    if version == 6 { frame.in_ipv6() } else { frame }
}

fn world(version: u8) -> World {
    if version == 6 { World::standard().in_ipv6() } else { World::standard() }
}

fn case(version: u8, name: &'static str, steps: Vec<Step>) -> Case {
    Case { name, version, world: world(version), steps }
}

/// Length of the IP header.
const fn ip(version: u8) -> usize {
    if version == 6 { 40 } else { 20 }
}

/// A step of a frame of this version.
fn becomes(version: u8, frame: &Frame, reason: Reason, into: &Frame) -> Step {
    turns(&of(version, frame.clone()), reason, &of(version, into.clone()))
}

fn opened(version: u8) -> Vec<Step> {
    let (syn, ack) = (request(SYN), request(ACK));
    let syn_ack = answer(0, FIRST_PORT, SYN | ACK);
    vec![
        becomes(version, &syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
        becomes(version, &syn_ack, Reason::Handshake, &to_client(&syn_ack)),
        becomes(version, &ack, Reason::Opened, &to_backend(&ack, 0, FIRST_PORT)),
    ]
}

/// To the VIP, with enough behind the headers that all of 14 to 74 bytes are cuts.
fn long_syn() -> Frame {
    Frame { payload: vec![0xa5; 12], ..request(SYN) }
}

/// Frames that end at every byte; to the VIP, to another host, and with a VLAN tag.
fn cut(version: u8) -> Vec<Case> {
    let ours = of(version, long_syn());
    let elsewhere: IpAddr = if version == 6 { Ipv6Addr::LOCALHOST.into() } else { [192, 0, 2, 21].into() };
    let anothers = Frame { to: elsewhere, ..ours.clone() }.bytes();
    let (whole, headers) = (ours.bytes(), ETHERNET + ip(version));
    let mut tagged = whole.clone();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    let mut cases = Vec::new();
    for length in ETHERNET..whole.len() {
        let reason = match length {
            _ if length < headers => Reason::Runt,
            _ if length < headers + 20 => Reason::TcpTruncated,
            _ => Reason::IpTotalLength,
        };
        cases.push(case(version, "cut short", vec![stays(whole[..length].to_vec(), reason)]));
        let reason = if length < headers { Reason::Runt } else { Reason::NotVip };
        cases.push(case(version, "cut short", vec![stays(anothers[..length].to_vec(), reason)]));
        cases.push(case(version, "cut short", vec![stays(tagged[..length].to_vec(), Reason::NotIp)]));
    }
    cases
}

/// Every version and header length there is, in a frame that is long enough for any.
fn first_bytes(version: u8) -> Vec<Case> {
    let long = of(version, Frame { payload: vec![0; 60], ..request(SYN) });
    let elsewhere = of(version, Frame { to: [192, 0, 2, 21].into(), ..request(SYN) });
    let mut cases = Vec::new();
    for byte in 0..=255_u8 {
        let with_byte = |frame: &Frame| frame.bytes_with(|bytes| bytes[ETHERNET] = byte);
        let reason = match (version, byte >> 4, byte & 0xf) {
            (4, 4, 5) | (6, 6, _) => continue,
            (4, 4, 0..5) => Reason::IpHeaderLength,
            (4, 4, _) => Reason::IpOptions,
            _ => Reason::IpVersion,
        };
        cases.push(case(version, "every first byte", vec![stays(with_byte(&long), reason)]));
        cases.push(case(version, "every first byte", vec![stays(with_byte(&elsewhere), Reason::NotVip)]));
    }
    cases
}

/// Every length that the IP header can claim, in a frame with eight bytes behind the packet.
fn lengths(version: u8) -> Vec<Case> {
    let syn = request(SYN);
    let tcp = 28_u16;
    let whole = of(version, syn.clone()).bytes();
    let claim = |frame: &Frame, claimed: u16| {
        let mut bytes = of(version, frame.clone()).bytes_with(|bytes| match version {
            6 => bytes[18..20].copy_from_slice(&claimed.to_be_bytes()),
            _ => bytes[16..18].copy_from_slice(&(claimed + 20).to_be_bytes()),
        });
        bytes.extend([0xee; 8]);
        bytes
    };
    let mut cases = Vec::new();
    for claimed in 0..=tcp + 40 {
        let reason = match claimed {
            0..20 => Reason::IpTotalLength,
            20..28 => Reason::TcpDataOffset,
            28..=36 => Reason::NewFlow,
            _ => Reason::IpTotalLength,
        };
        let becomes = match reason {
            // The sum covers the claimed length, which changes on neither side.
            Reason::NewFlow => claim(&to_backend(&syn, 0, FIRST_PORT), claimed),
            _ => claim(&syn, claimed),
        };
        let frame = claim(&syn, claimed);
        assert_eq!(frame.len(), whole.len() + 8);
        cases.push(case(version, "every length", vec![Step::Arrives { frame, reason, becomes }]));
    }
    cases
}

/// Every length that the TCP header can claim, with options that lie about theirs.
fn data_offsets(version: u8) -> Vec<Case> {
    let at = ETHERNET + ip(version) + 12;
    let mut cases = Vec::new();
    for (option, words) in [(0, 0), (2, 0), (2, 1), (2, 255), (254, 2)]
        .into_iter()
        .flat_map(|(kind, length)| (0..16_u8).map(move |words| ([kind, length], words)))
    {
        let syn = Frame { options: Vec::new(), payload: option.repeat(16), ..request(SYN) };
        let with = |frame: &Frame| of(version, frame.clone()).bytes_with(|bytes| bytes[at] = words << 4);
        // 52 bytes of TCP in all.
        let reason = if (5..=13).contains(&words) { Reason::NewFlow } else { Reason::TcpDataOffset };
        let becomes = if reason == Reason::NewFlow { with(&to_backend(&syn, 0, FIRST_PORT)) } else { with(&syn) };
        cases.push(case(version, "every data offset", vec![Step::Arrives { frame: with(&syn), reason, becomes }]));
    }
    cases
}

/// All nine flags in all ways: of no flow, during a handshake, of an established flow.
fn flags(version: u8) -> Vec<Case> {
    let at = ETHERNET + ip(version) + 12;
    let mut cases = Vec::new();
    let data = Frame { payload: b"on".to_vec(), ..request(ACK) };
    let reply = Frame { payload: b"and on".to_vec(), ..answer(0, FIRST_PORT, ACK) };
    for (flags, ninth) in (0..=255_u8).flat_map(|flags| [(flags, 0), (flags, 1)]) {
        let frame = Frame { flags, ..request(flags) };
        // Neither side's checksum covers the ninth.
        let with = |frame: &Frame| of(version, frame.clone()).bytes_with(|bytes| bytes[at] |= ninth);
        let arrives = |reason: Reason, into: &Frame| {
            let becomes = match reason {
                Reason::NoFlow => of(version, into.clone()).bytes(),
                _ => with(into),
            };
            Step::Arrives { frame: with(&frame), reason, becomes }
        };
        let there = to_backend(&frame, 0, FIRST_PORT);
        let is_nonsense = flags & SYN != 0 && flags & (FIN | RST) != 0;
        let alone = match flags & (SYN | ACK | RST) {
            _ if is_nonsense => arrives(Reason::TcpFlags, &frame),
            SYN => arrives(Reason::NewFlow, &there),
            _ if flags & RST != 0 => arrives(Reason::StrayReset, &frame),
            0 => arrives(Reason::TcpFlags, &frame),
            _ => arrives(Reason::NoFlow, &reset(&frame)),
        };
        cases.push(case(version, "every flag of no flow", vec![alone]));
        let syn = request(SYN);
        let during = match is_nonsense {
            true => arrives(Reason::TcpFlags, &frame),
            false => arrives(Reason::Handshake, &there),
        };
        let first = becomes(version, &syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT));
        cases.push(case(version, "every flag during a handshake", vec![first, during]));
        let mut flow = opened(version);
        flow.push(match is_nonsense {
            true => arrives(Reason::TcpFlags, &frame),
            false => arrives(Reason::ToBackend, &there),
        });
        flow.push(becomes(version, &data, Reason::ToBackend, &to_backend(&data, 0, FIRST_PORT)));
        flow.push(becomes(version, &reply, Reason::ToClient, &to_client(&reply)));
        cases.push(case(version, "every flag of an established flow", flow));
    }
    cases
}

/// Every protocol above IP; IPv6's extension headers have cases of their own.
fn protocols(version: u8) -> Vec<Case> {
    let syn = of(version, request(SYN));
    let at = if version == 6 { 20 } else { 23 };
    let others = (0..=255_u8).filter(|protocol| *protocol != 6);
    let extensions = [0, 43, 44, 51, 60];
    let others = others.filter(|protocol| version == 4 || !extensions.contains(protocol));
    others
        .map(|protocol| {
            let frame = syn.bytes_with(|bytes| bytes[at] = protocol);
            case(version, "every other protocol", vec![stays(frame, Reason::NotTcp)])
        })
        .collect()
}

/// Sources that nobody has, in the first and the last address of each prefix, and their neighbours that somebody may have.
fn sources(version: u8) -> Vec<Case> {
    let nobody: &[&str] = match version {
        6 => &["::", "::1", "ff00::", "ff02::1", "ffff::1", "2001:db8::c0:0:2:64", "2001:db8::c0:0:2:15"],
        _ => &[
            "0.0.0.0",
            "0.255.255.255",
            "127.0.0.0",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "192.0.2.100",
            "192.0.2.21",
        ],
    };
    let somebody: &[&str] = match version {
        6 => &["::2", "fe80::1", "fe7f:ffff::1", "fec0::1", "feff::1", "2001:db8::1", "fc00::1"],
        _ => &[
            "1.0.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "223.255.255.255",
            "10.0.0.1",
        ],
    };
    let syn = |from: &str| Frame { from: from.parse().expect("an address"), ..of(version, request(SYN)) };
    let mut cases: Vec<_> = nobody
        .iter()
        .map(|from| case(version, "sources that nobody has", vec![stays(syn(from).bytes(), Reason::Martian)]))
        .collect();
    for from in somebody {
        let frame = syn(from);
        let there = of(version, to_backend(&request(SYN), 0, FIRST_PORT));
        cases.push(case(version, "sources that somebody has", vec![turns(&frame, Reason::NewFlow, &there)]));
    }
    // LAND: the listener to itself; and a source port to itself, where answers arrive.
    let land = Frame { from: VIP, from_port: PORT, ..request(SYN) };
    cases.push(case(version, "from the listener to itself", vec![stays(of(version, land).bytes(), Reason::Martian)]));
    let loop_back = Frame { from: VIP, from_port: FIRST_PORT, to_port: FIRST_PORT, ..request(ACK) };
    let loop_back = stays(of(version, loop_back).bytes(), Reason::NotService);
    cases.push(case(version, "from a source port to itself", vec![loop_back]));
    cases
}

/// Each bit of the fragment field: all but two of them make a fragment, whatever its bytes look like.
fn fragments() -> Vec<Case> {
    (0..16)
        .map(|bit| {
            let syn = Frame { fragment: 1 << bit, ..request(SYN) };
            let step = match bit {
                14 | 15 => turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT)),
                _ => stays(syn.bytes(), Reason::IpFragment),
            };
            case(4, "every bit of the fragment field", vec![step])
        })
        .collect()
}

/// Loose and strict source routes, recorded routes, timestamps, padding, and lengths of nothing.
fn options() -> Vec<Case> {
    let mut cases = Vec::new();
    for option in [[131, 7], [137, 7], [7, 7], [68, 8], [1, 1], [0, 0], [130, 0], [148, 255]] {
        for words in [1_u8, 10] {
            let with = |to: IpAddr| {
                let mut bytes = Frame { to, ..request(SYN) }.bytes();
                bytes.splice(34..34, option.repeat(2 * usize::from(words)));
                bytes[14] = 0x45 + words;
                let length = bytes.len() as u16 - 14;
                bytes[16..18].copy_from_slice(&length.to_be_bytes());
                bytes[24..26].copy_from_slice(&[0, 0]);
                let sum = super::frame::checksum(&[&bytes[14..34 + 4 * usize::from(words)]]);
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
                bytes
            };
            cases.push(case(4, "every IP option", vec![stays(with(VIP), Reason::IpOptions)]));
            cases.push(case(4, "every IP option", vec![stays(with([192, 0, 2, 21].into()), Reason::NotVip)]));
        }
    }
    cases
}

/// Each single bit of the IP header wrong, and nothing put right: the packet goes nowhere as a sound one.
fn header_checksums() -> Vec<Case> {
    let mut cases = Vec::new();
    for bit in 0..160 {
        let mut frame = request(SYN).bytes();
        frame[ETHERNET + bit / 8] ^= 0x80 >> (bit % 8);
        let reason = match bit {
            0..4 => Reason::IpVersion,
            // A longer header comes before its checksum, a shorter one before that.
            5 => Reason::IpHeaderLength,
            4 | 6 => Reason::IpOptions,
            7 => Reason::IpHeaderLength,
            // The packet is as long as the frame, and not long enough without its third word.
            16..32 => Reason::IpTotalLength,
            48 | 49 => Reason::IpChecksum,
            50..64 => Reason::IpFragment,
            72..80 => Reason::NotTcp,
            128..160 => Reason::NotVip,
            _ => Reason::IpChecksum,
        };
        cases.push(case(4, "every bit of the IP header", vec![stays(frame, reason)]));
    }
    cases
}

/// How a connection can end, and what looks like an end and is none.
fn endings(version: u8) -> Vec<Case> {
    let client = |flags: u8, sequence: u32, acknowledgement: u32| {
        let frame = Frame { sequence, acknowledgement, ..request(flags) };
        becomes(version, &frame, Reason::ToBackend, &to_backend(&frame, 0, FIRST_PORT))
    };
    let backend = |flags: u8, sequence: u32, acknowledgement: u32| {
        let frame = Frame { sequence, acknowledgement, ..answer(0, FIRST_PORT, flags) };
        becomes(version, &frame, Reason::ToClient, &to_client(&frame))
    };
    let sent = |sequence: u32, length: usize| {
        let frame = Frame { sequence, payload: vec![7; length], ..answer(0, FIRST_PORT, ACK) };
        becomes(version, &frame, Reason::ToClient, &to_client(&frame))
    };
    let again = Frame { sequence: 77_000, ..request(SYN) };
    let opens = || becomes(version, &again, Reason::NewFlow, &to_backend(&again, 1, FIRST_PORT));
    let follows = || becomes(version, &again, Reason::ToBackend, &to_backend(&again, 0, FIRST_PORT));
    // The client's next number is 1001, the backend's 5001.
    let (fin, ack) = (FIN | ACK, ACK);
    let over = [
        (
            "the client closes first",
            vec![client(fin, 1001, 5001), backend(ack, 5001, 1002), backend(fin, 5001, 1002), client(ack, 1002, 5002)],
        ),
        (
            "the client closes, both in one",
            vec![client(fin, 1001, 5001), backend(fin, 5001, 1002), client(ack, 1002, 5002)],
        ),
        (
            "the backend closes first",
            vec![backend(fin, 5001, 1001), client(ack, 1001, 5002), client(fin, 1001, 5002), backend(ack, 5002, 1002)],
        ),
        (
            "the backend closes, both in one",
            vec![backend(fin, 5001, 1001), client(fin, 1001, 5002), backend(ack, 5002, 1002)],
        ),
        (
            "both close at once",
            vec![client(fin, 1001, 5001), backend(fin, 5001, 1001), client(ack, 1002, 5002), backend(ack, 5002, 1002)],
        ),
        (
            "a FIN is sent again",
            vec![client(fin, 1001, 5001), client(fin, 1001, 5001), backend(fin, 5001, 1002), backend(fin, 5001, 1002)],
        ),
        ("the client closes and does not read on", vec![client(fin, 1001, 5001), sent(5001, 9), client(RST, 1002, 0)]),
        ("the client resets what the backend closed", vec![backend(fin, 5001, 1001), client(RST | ACK, 1001, 5002)]),
        ("the backend resets", vec![backend(RST, 5001, 0)]),
        ("the client resets", vec![client(RST | ACK, 1001, 5001)]),
        ("a RST behind data that nobody has acknowledged", vec![sent(5001, 100), backend(RST | ACK, 5101, 1001)]),
        (
            "a RST that answers old data",
            vec![sent(5001, 100), client(ack, 1001, 5101), sent(5101, 50), backend(RST, 5101, 0)],
        ),
        (
            "a FIN before data that was lost",
            vec![client(fin, 1501, 5001), backend(ack, 5001, 1001), backend(fin, 5001, 1502)],
        ),
    ];
    let not_over = [
        (
            "the client's half",
            vec![client(fin, 1001, 5001), sent(5001, 1000), client(ack, 1002, 6001), sent(6001, 1000)],
        ),
        ("the backend's half", vec![backend(fin, 5001, 1001), client(ack, 1001, 5002), client(ack, 1001, 5002)]),
        ("a RST one before", vec![backend(RST, 5000, 0), client(RST, 1000, 0)]),
        ("a RST one behind", vec![backend(RST, 5002, 0), client(RST, 1002, 0)]),
        (
            "a RST within any window",
            vec![backend(RST | ACK, 5001 + 60_000, 1001), client(RST | ACK, 1001 + 60_000, 5001)],
        ),
        ("RSTs of any number", (1..8).map(|at| backend(RST, 5001 + (at << 29), 0)).collect()),
        ("FINs from afar", vec![client(fin, 1001 + (1 << 21), 5001), backend(fin, 5001 + (1 << 21), 1001)]),
        (
            "FINs that acknowledge what nobody sent",
            vec![client(fin, 1001, 5001 + (1 << 21)), backend(fin, 5001, 1001_u32.wrapping_sub(1 << 21))],
        ),
        ("FINs that acknowledge nothing", vec![client(FIN, 1001, 0), backend(FIN, 5001, 0)]),
        (
            "a RST where a guess has been",
            vec![
                client(ack, 1001 + (1 << 30), 5001),
                client(RST, 1001 + (1 << 30), 0),
                backend(ack, 5001 + (1 << 30), 1001),
                backend(RST, 5001 + (1 << 30), 0),
            ],
        ),
        ("a RST where half a guess has been", vec![client(ack, 2001, 5001 + (1 << 30)), client(RST, 2001, 0)]),
        ("a SYN from nowhere", vec![client(SYN, 1 << 31, 0), backend(SYN | ACK, 1 << 31, 3)]),
    ];
    let mut cases = Vec::new();
    for (name, steps) in over {
        let steps = opened(version).into_iter().chain(steps).chain([opens()]).collect();
        cases.push(case(version, name, steps));
    }
    for (name, steps) in not_over {
        let steps = opened(version).into_iter().chain(steps).chain([follows(), sent(5001, 3)]).collect();
        cases.push(case(version, name, steps));
    }
    cases
}

//! ICMP errors about packets of flows, in both IP versions.

use core::net::IpAddr;

use super::delivery::{direct, from_vip, own_answer, own_handshake, stacked};
use super::frame::{checksum, in_ipv6, pseudo_header, sixth};
use super::ports::{SOURCE, from_source, two_addresses};
use super::table::{handshake, stays};
use super::world::{
    CLIENT_MAC, FIRST_PORT, NODE_MAC, VIP, answer, backend, backend_mac, request, to_backend, to_client,
};
use super::{Case, Frame, Step, World};
use crate::abi::Reason;
use crate::net::header::flag::{ACK, SYN};

/// An ICMP error.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) mac_to: [u8; 6],
    pub(super) mac_from: [u8; 6],
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) ttl: u8,
    /// Type and code, of IPv4 and of IPv6.
    pub(super) kinds: [[u8; 2]; 2],
    /// The packet it is about, and how many bytes behind its IP header are in it.
    pub(super) about: Frame,
    pub(super) bytes: usize,
    /// The MTU of the next hop, where an error tells it.
    pub(super) mtu: u32,
}

/// "Fragmentation needed" and "packet too big".
const TOO_BIG: [[u8; 2]; 2] = [[3, 4], [2, 0]];
/// Nobody at the port.
const UNREACHABLE: [[u8; 2]; 2] = [[3, 3], [1, 4]];
/// What links have.
const MTU: u32 = 1300;
/// Ports and sequence number; and up to the end of the TCP header.
const SHORT: usize = 8;
pub(super) const LONG: usize = 20;

impl Failure {
    pub(super) fn bytes_in(&self, version: u8) -> Vec<u8> {
        let [four, six] = self.kinds;
        let (about, kind) = if version == 6 { (self.about.clone().in_ipv6(), six) } else { (self.about.clone(), four) };
        let (ip, protocol) = if version == 6 { (40, 58) } else { (20, 1) };
        let inner = about.bytes()[14..].iter().take(ip + self.bytes).copied().collect::<Vec<_>>();
        let mut icmp = kind.to_vec();
        icmp.extend([0, 0]);
        icmp.extend(self.mtu.to_be_bytes());
        icmp.extend(inner);
        let (from, to) = (sixth(self.from).octets(), sixth(self.to).octets());
        let pseudo = if version == 6 { pseudo_header(&from, &to, icmp.len(), protocol) } else { Vec::new() };
        let sum = checksum(&[&pseudo, &icmp]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        // A frame's own headers, with another protocol above them.
        let carrier = Frame {
            mac_to: self.mac_to,
            mac_from: self.mac_from,
            from: self.from,
            to: self.to,
            ttl: self.ttl,
            payload: vec![0; icmp.len() - 20],
            ..request(0)
        };
        let carrier = if version == 6 { carrier.in_ipv6() } else { carrier };
        let protocol_at = if version == 6 { 20 } else { 23 };
        let mut bytes = carrier.bytes_with(|bytes| bytes[protocol_at] = protocol);
        bytes[14 + ip..].copy_from_slice(&icmp);
        bytes
    }
}

/// From a router on the client's side, about a packet that the client did not get.
pub(super) fn from_router(about: &Frame, bytes: usize) -> Failure {
    let from = IpAddr::from([198, 51, 100, 1]);
    let about = about.clone();
    Failure { mac_to: NODE_MAC, mac_from: CLIENT_MAC, from, to: VIP, ttl: 60, kinds: TOO_BIG, about, bytes, mtu: MTU }
}

/// From a backend's host, about a packet that it refuses.
fn from_host(about: &Frame, bytes: usize) -> Failure {
    let (mac_from, from) = (backend_mac(0), backend(0));
    let about = about.clone();
    Failure { mac_to: NODE_MAC, mac_from, from, to: VIP, ttl: 64, kinds: UNREACHABLE, about, bytes, mtu: MTU }
}

/// As it leaves for the sender of the packet it is about.
fn forwarded(failure: &Failure, mac_to: [u8; 6], to: IpAddr, about: Frame) -> Failure {
    Failure { mac_to, mac_from: NODE_MAC, from: VIP, to, ttl: failure.ttl - 1, about, ..failure.clone() }
}

fn turns(version: u8, failure: &Failure, reason: Reason, into: &Failure) -> Step {
    Step::Arrives { frame: failure.bytes_in(version), reason, becomes: into.bytes_in(version) }
}

/// All of them.
pub(super) fn errors() -> Vec<Case> {
    [4, 6].into_iter().flat_map(of_version).collect()
}

fn of_version(version: u8) -> Vec<Case> {
    let case = |name, world: World, before: Vec<Step>, steps: Vec<Step>| {
        let translated = |step| match step {
            Step::Arrives { frame, reason, becomes } if version == 6 => {
                Step::Arrives { frame: six(&frame), reason, becomes: six(&becomes) }
            }
            Step::Leaves { frame, reason, becomes } if version == 6 => {
                Step::Leaves { frame: six(&frame), reason, becomes: six(&becomes) }
            }
            step => step,
        };
        let world = if version == 6 { world.in_ipv6() } else { world };
        Case { name, version, world, steps: before.into_iter().map(translated).chain(steps).collect() }
    };
    let open = || handshake(0, FIRST_PORT);
    let with_data = |frame: Frame| Frame { payload: b"too much".to_vec(), ..frame };
    // What arrives at a router has one hop less.
    let (reply, data) = (with_data(answer(0, FIRST_PORT, ACK)), with_data(request(ACK)));
    let (to_them, to_it) = (to_client(&reply), to_backend(&data, 0, FIRST_PORT));
    let sent = |frame: &Frame| Frame { ttl: frame.ttl - 1, ..frame.clone() };
    let stays = |failure: &Failure, reason| stays(failure.bytes_in(version), reason);

    let mut cases = Vec::new();
    // Of half a checksum nothing can be told.
    for bytes in (SHORT..=LONG + 8).filter(|bytes| *bytes != 17) {
        let big = from_router(&to_them, bytes);
        let refused = from_host(&to_it, bytes);
        cases.push(case(
            "errors about a flow's packets reach their senders, as about what these sent",
            World::standard(),
            open(),
            vec![
                turns(version, &big, Reason::IcmpError, &forwarded(&big, backend_mac(0), backend(0), sent(&reply))),
                turns(version, &refused, Reason::IcmpError, &forwarded(&refused, CLIENT_MAC, data.from, sent(&data))),
            ],
        ));
        let own_reply = with_data(own_answer(ACK));
        let to_own = Failure { to: backend(0), about: own_reply.clone(), ..from_router(&own_reply, bytes) };
        cases.push(case(
            "errors about what this node's own backend sent are delivered to it",
            stacked(),
            own_handshake(),
            vec![turns(version, &from_router(&from_vip(&own_reply), bytes), Reason::IcmpErrorLocal, &to_own)],
        ));
    }
    let syn = request(SYN);
    let half = || vec![super::table::turns(&syn, Reason::NewFlow, &to_backend(&syn, 0, FIRST_PORT))];
    let refused = from_host(&to_backend(&syn, 0, FIRST_PORT), SHORT);
    let to_sender = || forwarded(&refused, CLIENT_MAC, syn.from, sent(&syn));
    cases.push(case(
        "that a backend is out of reach of a SYN stays from its client, who can have another",
        World::standard(),
        half(),
        vec![stays(&refused, Reason::Refused)],
    ));
    let too_big = Failure { kinds: TOO_BIG, ..refused.clone() };
    let to_sender_too_big = Failure { kinds: TOO_BIG, ..to_sender() };
    cases.push(case(
        "another error about a SYN reaches the client",
        World::standard(),
        half(),
        vec![turns(version, &too_big, Reason::IcmpError, &to_sender_too_big)],
    ));
    let alone = World::standard().with(|world| {
        world.node.syn_patience = 0;
        world.services[0].1.ring_length = 1;
    });
    let mut twice = half();
    twice.push(super::table::turns(&syn, Reason::Handshake, &to_backend(&syn, 0, FIRST_PORT)));
    cases.push(case(
        "an error about a SYN reaches the client when there is no other backend",
        alone,
        twice,
        vec![turns(version, &refused, Reason::IcmpError, &to_sender())],
    ));

    // By another source address, each end is told by whom it believes to speak with.
    let to_source = Frame { to: SOURCE, ..reply.clone() };
    let (syn, ack, syn_ack) = (request(SYN), request(ACK), Frame { to: SOURCE, ..answer(0, FIRST_PORT, SYN | ACK) });
    let before = vec![
        super::table::turns(&syn, Reason::NewFlow, &from_source(&syn, FIRST_PORT)),
        super::table::turns(&syn_ack, Reason::Handshake, &to_client(&syn_ack)),
        super::table::turns(&ack, Reason::Opened, &from_source(&ack, FIRST_PORT)),
    ];
    let big = from_router(&to_them, LONG);
    let refused = Failure { to: SOURCE, ..from_host(&from_source(&data, FIRST_PORT), LONG) };
    let to_backend = Failure { from: SOURCE, ..forwarded(&big, backend_mac(0), backend(0), sent(&to_source)) };
    cases.push(case(
        "errors about a flow by another source address reach their senders",
        two_addresses(2).with(|world| world.node.port_offset = 1),
        before,
        vec![
            turns(version, &big, Reason::IcmpError, &to_backend),
            turns(version, &refused, Reason::IcmpError, &forwarded(&refused, CLIENT_MAC, data.from, sent(&data))),
        ],
    ));

    let others_only = direct().with(|world| world.rings = vec![1, 2, 1]);
    let straight = Frame { mac_to: backend_mac(1), mac_from: NODE_MAC, ttl: syn.ttl - 1, ..syn.clone() };
    let answered = Frame { from: VIP, to: syn.from, from_port: syn.to_port, to_port: syn.from_port, ..syn.clone() };
    let big = from_router(&answered, LONG);
    let on = Failure { mac_to: backend_mac(1), mac_from: NODE_MAC, ttl: big.ttl - 1, ..big.clone() };
    cases.push(case(
        "errors about what a backend answered by itself go on to its node",
        others_only,
        vec![super::table::turns(&syn, Reason::NewFlow, &straight)],
        vec![turns(version, &big, Reason::IcmpError, &on)],
    ));

    let big = from_router(&to_them, LONG);
    let stranger = Frame { to_port: to_them.to_port + 1, ..to_them.clone() };
    let elsewhere = IpAddr::from([192, 0, 2, 21]);
    let mut of_nobody = vec![
        stays(&from_router(&stranger, LONG), Reason::NotTcp),
        stays(&Failure { to: elsewhere, ..big.clone() }, Reason::NotVip),
        stays(&Failure { mac_to: [2, 9, 9, 9, 9, 9], ..big.clone() }, Reason::OtherMac),
        // Echo request, and what no error is.
        stays(&Failure { kinds: [[8, 0], [128, 0]], ..big.clone() }, Reason::NotTcp),
        stays(&Failure { kinds: [[5, 1], [137, 0]], ..big.clone() }, Reason::NotTcp),
        stays(&Failure { ttl: 1, ..big.clone() }, Reason::Ttl),
    ];
    let spoilt = |failure: &Failure, at: usize| {
        let mut bytes = failure.bytes_in(version);
        bytes[at] ^= 0x20;
        bytes
    };
    let with = |failure: &Failure, at: usize, change: &dyn Fn(u8) -> u8| {
        let mut bytes = failure.bytes_in(version);
        bytes[at] = change(bytes[at]);
        bytes
    };
    let (icmp, inner) = if version == 6 { (54, 62) } else { (34, 42) };
    let protocol = inner + if version == 6 { 6 } else { 9 };
    of_nobody.push(super::table::stays(spoilt(&big, protocol), Reason::NotTcp));
    cases.push(case("what is no error about a flow's packet passes", World::standard(), open(), of_nobody));
    let padded = |bytes: usize| {
        let mut frame = from_router(&to_them, bytes).bytes_in(version);
        frame.extend([0; SHORT]);
        frame
    };
    let mut cut: Vec<_> = (0..SHORT).map(|bytes| stays(&from_router(&to_them, bytes), Reason::IcmpInner)).collect();
    cut.extend((0..SHORT).map(|bytes| super::table::stays(padded(bytes), Reason::IcmpInner)));
    cases.push(case("what an error is about is cut too short", World::standard(), open(), cut));
    let from_another = Failure { about: Frame { from: elsewhere, ..to_them.clone() }, ..big.clone() };
    let other_version = if version == 6 { 0x20 } else { 0x10 };
    let mut never_sent = vec![
        stays(&from_another, Reason::IcmpInner),
        super::table::stays(with(&big, inner, &|byte| byte ^ other_version), Reason::IcmpInner),
    ];
    if version == 4 {
        // Every header length but the one there is, and every bit of the fragment field that makes a fragment.
        let others = (0..16_u8).filter(|words| *words != 5);
        never_sent
            .extend(others.map(|words| super::table::stays(with(&big, inner, &|_| 0x40 | words), Reason::IcmpInner)));
        let bits = (0..14).map(|bit| 1_u16 << bit);
        never_sent.extend(bits.map(|bit| {
            let about = Frame { fragment: bit, ..to_them.clone() };
            stays(&Failure { about, ..big.clone() }, Reason::IcmpInner)
        }));
    }
    cases.push(case("errors about what no VIP has sent", World::standard(), open(), never_sent));
    let whole = big.bytes_in(version);
    let least = if version == 6 { 14 + 40 } else { 14 + 20 };
    cases.push(case(
        "an error whose frame ends before its packet does",
        World::standard(),
        open(),
        (least..whole.len()).map(|length| super::table::stays(whole[..length].to_vec(), Reason::NotTcp)).collect(),
    ));
    let least = if version == 6 { 1280 } else { 552 };
    let named = |mtu: u32| Failure { mtu, ..big.clone() };
    let on = |failure: &Failure| forwarded(failure, backend_mac(0), backend(0), sent(&reply));
    let mut mtus: Vec<_> = [0, 1, 68, least - 1].map(|mtu| stays(&named(mtu), Reason::IcmpForged)).into();
    mtus.extend([least, 1500, 65_535].map(|mtu| turns(version, &named(mtu), Reason::IcmpError, &on(&named(mtu)))));
    // Where an error names no MTU, anything may stand there.
    let unreachable = Failure { kinds: UNREACHABLE, mtu: 0, ..big.clone() };
    mtus.push(turns(version, &unreachable, Reason::IcmpError, &on(&unreachable)));
    cases.push(case("errors name an MTU that a path can have", World::standard(), open(), mtus));
    let guesses = (1..16_u32).map(|at| Frame { sequence: to_them.sequence.wrapping_add(at << 28), ..to_them.clone() });
    let mut blind: Vec<_> = guesses.map(|about| stays(&from_router(&about, LONG), Reason::IcmpForged)).collect();
    blind.push(turns(version, &big, Reason::IcmpError, &on(&big)));
    cases.push(case("errors about what was never under way go no further", World::standard(), open(), blind));
    let into = forwarded(&big, backend_mac(0), backend(0), sent(&reply));
    cases.push(case(
        "a wrong ICMP checksum stays as wrong as it was",
        World::standard(),
        open(),
        vec![Step::Arrives {
            frame: spoilt(&big, icmp + 7),
            reason: Reason::IcmpError,
            becomes: spoilt(&into, icmp + 7),
        }],
    ));
    cases
}

/// The same frame in IPv6; all that come before an error are sound.
fn six(frame: &[u8]) -> Vec<u8> {
    in_ipv6(frame).unwrap_or_default()
}

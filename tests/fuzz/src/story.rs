//! Stories out of bytes: 16 bytes say what tables the agent has written, each 8 more say what happens next.
//!
//! Whole events have fixed places, so that changed bytes change one of them and the others keep their meaning.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_ebpf::abi::{Balance, Delivery, Service, SourceLimit, mask, node_flag};
use lb_ebpf::cases::{Frame, Passing, World, sixth};
use lb_ebpf::net::Be16;

use crate::bytes::{Bytes, pick};
use crate::sound::{set_icmp_checksum, set_ipv4_checksum};

/// Bytes that describe the tables.
pub(crate) const HEAD: usize = 16;
/// Bytes of an event.
pub(crate) const EVENT: usize = 8;

/// TCP flags.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const ACK: u8 = 16;
}
use flag::{ACK, FIN, RST, SYN};

pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
pub(crate) const PORT: u16 = 8443;
const FIRST_PORT: u16 = 20_000;
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 21);
/// Another balancer, which may be behind a router.
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 21);
const CLIENTS: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    ALLOWED,
    // The first backend's node, and nobody.
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 31)),
    VIP,
    // Nobody either: a source address, and this node.
    IpAddr::V4(SOURCES[0]),
    IpAddr::V4(NODE),
    IpAddr::V4(Ipv4Addr::new(198, 51, 101, 8)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
];
/// Who is on the list, where there is one; others are by its length.
const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 8));
/// Source addresses besides the VIP.
const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 110), Ipv4Addr::new(192, 0, 2, 111)];
/// Nanoseconds for which a connection counts where there is a limit: longer than most stories.
const INTERVAL: u64 = 1 << 42;
const CLIENT_PORT: u16 = 40_000;
pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
/// Who may be a node that forwards to this one.
pub(crate) const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x33];

/// Something that happens.
pub(crate) enum Event {
    /// A frame is on its way past the datapath.
    Passes(Passing),
    /// The agent writes other tables.
    Agent(Box<World>),
    /// Seconds pass.
    Time(u32),
    /// What it refers to has not happened.
    Nothing,
}

/// The address of a backend's host.
fn backend(slot: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 31 + slot % 4))
}

/// Where the hosts are that the kernel's FIB may know: by address, with the Ethernet address of the next hop.
pub(crate) fn neighbours() -> impl Iterator<Item = (IpAddr, [u8; 6])> {
    let backends = (0..3).map(|slot| (backend(slot), [2, 0, 0, 0, 2, slot]));
    let clients = CLIENTS.into_iter().take(2).map(|address| (address, [2, 0, 0, 0, 0, 0x44]));
    backends.chain(clients).flat_map(|(address, mac)| [(address, mac), (sixth(address).into(), mac)])
}

/// Tables that an agent could write.
pub(crate) fn world(bytes: [u8; HEAD]) -> World {
    let [flags, capacity, ports, limits, b0, b1, b2, first, second, r0, r1, r2, r3, r4, r5, mtu] = bytes;
    let set = |bit: u8| flags & (1 << bit) != 0;
    let balance =
        |byte: u8| pick(&[Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Maglev], byte >> 2) as u16;
    let is_six = set(0);
    let world = World::standard().with(|world| {
        world.capacity = pick(&[1024, 1024, 2, 6], capacity);
        world.node.port_count = pick(&[1000, 1000, 4, 1, 0], ports);
        world.node.port_offset = pick(&[0, 0, 7, u32::MAX - 1], ports >> 4);
        world.node.resets_per_second = pick(&[1_000_000, 1_000_000, 2, 0], limits);
        world.node.mtu = pick(&[0, 1500, 1280], mtu);
        world.node.mss = pick(&[0, 1440, 1220], mtu >> 4);
        if set(1) {
            world.node.flags |= node_flag::FIB;
        }
        if set(2) {
            world.node.flags |= node_flag::REDIRECT;
        }
        if set(3) {
            world.node.flags |= node_flag::DELIVERS_ONLY;
        }
        if flags == 0xff {
            world.node.version = 0;
        }
        if set(5) {
            world.node.address = NODE.into();
            world.tunnels = vec![IpAddr::V4(FAR).into()];
        }
        let sources = usize::from(capacity >> 5 & 3).min(SOURCES.len());
        world.sources = SOURCES[..sources].iter().map(|address| IpAddr::V4(*address).into()).collect();
        world.node.sources = [sources as u8, 0];
        world.hints = capacity & 0x10 == 0;
        for (backend, byte) in world.backends.iter_mut().zip([r0, r1, r2]) {
            backend.max_connections = pick(&[0, 0, 1, 2], byte >> 4);
            backend.share = pick(&[1, 1, 3, 0], byte >> 6);
        }
        for (backend, byte) in world.backends.iter_mut().zip([b0, b1, b2]) {
            let delivery = match byte & 7 {
                0..=2 => Delivery::Translated,
                3 | 4 => Delivery::Local,
                5 => Delivery::Direct,
                _ if set(5) => Delivery::Tunnelled,
                _ => Delivery::Direct,
            };
            backend.delivery = delivery as u16;
            backend.gone = u16::from(byte & 0x18 == 0x18);
            backend.generation = 1 + u32::from(byte & 0x20 != 0);
            if byte & 0x40 != 0 {
                backend.mac = [0; 6];
            }
            if byte & 0x80 != 0 {
                backend.endpoint.port = Be16::default();
            }
        }
        let own = world.backends.iter().position(|backend| backend.delivery == Delivery::Local as u16);
        let own = own.map_or(0, |slot| slot as u32 + 1);
        world.services[0].1.own = own;
        if set(4) {
            world.fellows = vec![OTHER_MAC];
        }
        // The second service's set is behind its round.
        world.rings = [r0, r1, r2, r3, r4, r5, 0, 1, 2].map(|slot| u32::from(slot % 3)).to_vec();
        let set_length = if first & 0x10 != 0 { 3 } else { 0 };
        let service = &mut world.services[0].1;
        service.ring_length = pick(&[3, 3, 1, 0], first);
        service.set_length = set_length;
        service.balance = balance(first);
        service.max_connections = pick(&[0, 0, 1, 3], r3 >> 4);
        if first & 0x20 != 0 {
            world.node.syn_patience = 700;
        }
        if first & 0x40 != 0 {
            world.node.suspect_after = 0;
        }
        if limits & 0x10 != 0 {
            service.allow = 1;
            world.allowed = vec![(1, ALLOWED.into(), 96 + pick(&[32, 24, 16, 0, 31, 23, 8, 1], limits >> 5))];
        }
        let burst = pick(&[0, 1, 2, 5], limits >> 2);
        if burst != 0 {
            service.is_limited = 1;
            let mask = mask(if first & 0x80 == 0 { 128 } else { 96 + 24 });
            let (interval, tolerance) = (INTERVAL, INTERVAL * (burst - 1));
            world.limits = vec![(0, SourceLimit { interval, tolerance, mask, ..SourceLimit::default() })];
        }
        world.services.push((
            SocketAddr::new(VIP, PORT + 1).into(),
            Service {
                ring_length: pick(&[3, 1, 0, 3], second),
                ring_start: 3,
                set_length,
                balance: balance(second),
                idle_seconds: 60,
                own,
                ..Service::default()
            },
        ));
    });
    if is_six { world.in_ipv6() } else { world }
}

/// What an event says, after what has passed so far; `received` are the frames that hosts got.
pub(crate) fn event(bytes: [u8; EVENT], is_six: bool, received: &[Passing], more: &mut Bytes<'_>) -> Event {
    let [kind, who, flags, length, n1, n2, at, spoil] = bytes;
    let ago = |byte: u8| received.iter().rev().nth(usize::from(byte & 0x1f));
    let payload = vec![n1; usize::from(length) * if length >= 0xf0 { 6 } else { usize::from(length < 0xc0) }];
    let odd = |frame: &Frame| Passing { frame: spoilt(written(frame, is_six), at, spoil), inside: false };
    match kind % 16 {
        0..=2 => {
            let flags = if kind & 0x80 == 0 { pick(&[SYN, SYN, SYN, ACK, FIN | ACK, RST], flags) } else { flags };
            let frame = request(who, flags, payload);
            Event::Passes(odd(&numbered(frame, n1, n2)))
        }
        3..=8 => {
            let Some(received) = ago(who) else { return Event::Nothing };
            let flags =
                if kind & 0x80 == 0 { pick(&[ACK, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK], flags) } else { flags };
            let Some(answer) = Frame::parse(&received.frame).map(Frame::answered) else { return Event::Nothing };
            let answer = numbered(Frame { flags, payload, ..answer }, n1 & 0x0f, n2);
            let frame = spoilt(written(&answer, is_six), at, spoil);
            Event::Passes(Passing { frame, inside: received.inside != (who & 0xe0 == 0xe0) })
        }
        9 => {
            let mut head = [0; HEAD];
            head[..EVENT].copy_from_slice(&bytes);
            head[EVENT..].copy_from_slice(&more.array::<EVENT>());
            head[0] = head[0] & 0xfe | u8::from(is_six);
            Event::Agent(Box::new(world(head)))
        }
        10 => Event::Time(pick(&[1, 2, 3, 10, 11, 60, 61, 7200, 7201], who)),
        11 => {
            let Some(about) = ago(who) else { return Event::Nothing };
            let frame = error(about, flags, usize::from(length), n1);
            Event::Passes(Passing { frame: frame_of_error(frame, at, spoil), inside: false })
        }
        12 => {
            let frame = Frame {
                mac_from: [2, 0, 0, 0, 1, who & 3],
                from: backend(who),
                from_port: 6443,
                to_port: FIRST_PORT + u16::from(n1 & 7),
                flags: if kind & 0x80 == 0 { ACK } else { flags },
                ..request(0, ACK, payload)
            };
            Event::Passes(odd(&frame))
        }
        13 => {
            // Comes back, or goes round once more.
            let Some(again) = ago(who) else { return Event::Nothing };
            let mut frame = again.frame.clone();
            if let (true, Some(mac)) = (flags & 1 != 0, frame.first_chunk_mut()) {
                *mac = NODE_MAC;
            }
            if let (true, Some(mac)) = (flags & 2 != 0, frame.get_mut(6..12)) {
                mac.copy_from_slice(&OTHER_MAC);
            }
            Event::Passes(Passing { frame: spoilt(frame, at, spoil), inside: flags & 4 != 0 })
        }
        14 => {
            let flags = pick(&[SYN, ACK, FIN | ACK, RST], flags);
            let inner = written(&numbered(request(who, flags, payload), n1, n2), is_six);
            let inner = spoilt(inner, at, spoil);
            Event::Passes(Passing { frame: outer(&inner), inside: false })
        }
        _ => {
            let frame = more.slice(usize::from(length) + 14);
            Event::Passes(Passing { frame: frame.to_vec(), inside: who & 1 != 0 })
        }
    }
}

/// From a client to the service, or nearly.
fn request(who: u8, flags: u8, payload: Vec<u8>) -> Frame {
    let opens = flags & SYN != 0;
    Frame {
        mac_to: NODE_MAC,
        mac_from: if who & 0x10 != 0 { OTHER_MAC } else { CLIENT_MAC },
        from: pick(&CLIENTS, who >> 5),
        to: VIP,
        from_port: CLIENT_PORT + u16::from(who & 3),
        to_port: pick(&[PORT, PORT, PORT + 1, 22], who >> 2),
        ttl: 64,
        identification: 0x1234,
        fragment: 0x4000,
        sequence: if opens { 1000 } else { 1001 },
        acknowledgement: if flags & ACK != 0 { 5001 } else { 0 },
        flags,
        window: 64_240,
        options: if opens { vec![2, 4, 5, 0xb4, 1, 3, 3, 7] } else { Vec::new() },
        payload,
    }
}

/// With other numbers than expected: a little off, or anywhere.
fn numbered(frame: Frame, n1: u8, n2: u8) -> Frame {
    let off = |number: u32, by: u8| match by {
        0..0x80 => number.wrapping_add(u32::from(by)),
        0x80..0xc0 => number.wrapping_sub(u32::from(by & 0x3f)),
        0xc0.. => number.wrapping_add(u32::from(by & 0x3f) << 26),
    };
    Frame { sequence: off(frame.sequence, n1), acknowledgement: off(frame.acknowledgement, n2), ..frame }
}

fn written(frame: &Frame, is_six: bool) -> Vec<u8> {
    if is_six { frame.clone().in_ipv6().bytes() } else { frame.bytes() }
}

/// With one byte changed, or cut, or padded; the upper bit of `at` puts an IPv4 header's checksum right again.
fn spoilt(mut frame: Vec<u8>, at: u8, spoil: u8) -> Vec<u8> {
    let place = usize::from(at & 0x7f);
    match (spoil, at) {
        (0, 0) => {}
        (0, _) if at & 0x80 != 0 => frame.resize(frame.len() + place, 0xa5),
        (0, _) => frame.truncate(place),
        _ => {
            if let Some(byte) = frame.get_mut(place) {
                *byte ^= spoil;
            }
            if at & 0x80 != 0 && frame.get(12..14) == Some(&[8, 0]) {
                set_ipv4_checksum(&mut frame, 14);
            }
        }
    }
    frame
}

/// An ICMP error about a frame that a host has got, from that host.
fn error(about: &Passing, kind: u8, length: usize, hops: u8) -> Vec<u8> {
    let frame = &about.frame;
    let is_six = frame.get(12..14) == Some(&[0x86, 0xdd]);
    let (ip, protocol) = if is_six { (40, 58) } else { (20, 1) };
    let Some((ethernet, packet)) = frame.split_at_checked(14).filter(|(_, packet)| packet.len() >= ip) else {
        return Vec::new();
    };
    let packet = &packet[..packet.len().min(ip + 8 + length)];
    let kinds: [[u8; 2]; 8] = if is_six {
        [[2, 0], [1, 4], [3, 0], [4, 0], [128, 0], [1, 0], [2, 1], [0, 0]]
    } else {
        [[3, 4], [3, 3], [11, 0], [12, 0], [8, 0], [5, 1], [3, 1], [0, 0]]
    };
    let mut error = [&ethernet[6..12], &ethernet[..6], &ethernet[12..]].concat();
    let total = ip + 8 + packet.len();
    if is_six {
        error.extend([0x60, 0, 0, 0]);
        error.extend(((total - 40) as u16).to_be_bytes());
        error.extend([protocol, hops.max(1)]);
        error.extend(&packet[24..40]);
        error.extend(&packet[8..24]);
    } else {
        error.extend([0x45, 0]);
        error.extend((total as u16).to_be_bytes());
        error.extend([0, 0, 0x40, 0, hops.max(1), protocol, 0, 0]);
        error.extend(&packet[16..20]);
        error.extend(&packet[12..16]);
        set_ipv4_checksum(&mut error, 14);
    }
    error.extend(pick(&kinds, kind));
    error.extend([0, 0, 0, 0, 5, 0x14]);
    error.extend(packet);
    set_icmp_checksum(&mut error, 14 + ip);
    error
}

fn frame_of_error(error: Vec<u8>, at: u8, spoil: u8) -> Vec<u8> {
    if error.is_empty() { error } else { spoilt(error, at, spoil) }
}

/// A frame inside an outer packet from another balancer to the first backend, which may be on this node.
fn outer(inner: &[u8]) -> Vec<u8> {
    let (ethernet, packet) = inner.split_at(inner.len().min(14));
    let mut bytes = ethernet.to_vec();
    if ethernet.get(12..) == Some(&[0x86, 0xdd]) {
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend((packet.len() as u16).to_be_bytes());
        bytes.extend([41, 64]);
        bytes.extend(sixth(FAR.into()).octets());
        bytes.extend(sixth(backend(0)).octets());
        bytes.extend(packet);
        return bytes;
    }
    bytes.extend([0x45, 0]);
    bytes.extend(((packet.len() + 20) as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 4, 0, 0]);
    bytes.extend(FAR.octets());
    bytes.extend([192, 0, 2, 31]);
    set_ipv4_checksum(&mut bytes, 14);
    bytes.extend(packet);
    bytes
}

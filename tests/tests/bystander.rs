//! The host's own traffic while the agent is attached: it arrives as it was sent, byte for byte, however odd it is. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, OFTEN, end, serving, unstarted, wait};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use xvip_tests::apiserver::pattern;
use xvip_tests::capture::{Capture, Sender};
use xvip_tests::netns::Netns;
use xvip_tests::topology::{Topology, VIP_ADDRESS, mac};
use xvip_tests::until::until;
use xvip_tests::wire::{finish_frames, set_gro};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// What is odd about a frame that only its tag keeps from being the service's.
const TAGGED: &str = "a VLAN tag, and TCP to the service";
/// The balancer's own address.
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 21);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

#[test]
fn in_the_driver() {
    arrives_unchanged(&[OFTEN], "xdp");
}

#[test]
fn in_the_stack() {
    arrives_unchanged(&[OFTEN, ("datapath = \"xdp\"", "datapath = \"xdp-generic\"")], "xdp-generic");
}

#[test]
fn in_tc() {
    arrives_unchanged(&[OFTEN, ("datapath = \"xdp\"", "datapath = \"tc\"")], "tc");
}

fn arrives_unchanged(changes: &[(&str, &str)], mode: &str) {
    let mut topology = unstarted(1, changes);
    let balancer = topology.balancers[0].agent.netns().clone();
    // What the client's stack hands out and what the balancer's takes in are to be the frames of the wire.
    finish_frames(&topology.client, "eth0").unwrap();
    set_gro(&balancer, "eth0", false).unwrap();
    let (from, to) = (mac(&topology.client).unwrap(), mac(&balancer).unwrap());
    let sender = Sender::open(&topology.client, "eth0").unwrap();
    let mut odd = odd_frames(from, to);
    if mode != "tc" {
        // The bridge takes the tag out of the frame, where XDP cannot see it.
        odd.retain(|(what, _)| what != TAGGED);
    }
    let send = || {
        for (what, frame) in &odd {
            sender.send(frame).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        }
    };
    let of_client = |frame: &Vec<u8>| frame.get(6..12) == Some(&from);
    // Flooded frames too, those for others included.
    let heard = |capture: &Capture| capture.frames(false).into_iter().filter(of_client).collect::<Vec<_>>();

    // Not every wire carries every frame; what arrives without the agent is what has to arrive with it.
    let before = Capture::start(&balancer, "eth0").unwrap();
    send();
    let (_, last) = odd.last().unwrap();
    wait("the last of the odd frames", || heard(&before).contains(last));
    sleep(Duration::from_millis(300));
    let arrived = heard(&before);
    drop(before);
    let (carried, lost): (Vec<_>, Vec<_>) = odd.iter().partition(|(_, frame)| arrived.contains(frame));
    println!(
        "without the agent {} odd frames arrive, these do not: {:?}",
        carried.len(),
        lost.iter().map(|(what, _)| what).collect::<Vec<_>>()
    );
    assert!(lost.len() < 5);

    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert_eq!(topology.balancers[0].agent.status().unwrap().datapath.mode, mode);
    set_gro(&balancer, "eth0", false).unwrap();
    let dropped = drops(&topology);
    let with = Capture::start(&balancer, "eth0").unwrap();
    send();
    let missing = || {
        let arrived = heard(&with);
        let missing = carried.iter().filter(|(_, frame)| !arrived.contains(frame));
        missing.map(|(what, _)| what.as_str()).collect::<Vec<_>>()
    };
    let _ = until("the odd frames", LIMIT, || missing().is_empty().then_some(()));
    assert_eq!(missing(), Vec::<&str>::new(), "arrive without the agent and do not with it");
    drop(with);

    // And what ordinary programs make, frame by frame.
    let sent = Capture::start(&topology.client, "eth0").unwrap();
    let received = Capture::start(&balancer, "eth0").unwrap();
    by_the_stack(&topology.client, &balancer);
    let (mut out, mut come) = (Vec::new(), Vec::new());
    let all = until("all frames to arrive", Duration::from_secs(10), || {
        come = heard(&received);
        out = sent.frames(true);
        (come.len() >= out.len()).then_some(())
    });
    out.sort();
    come.sort();
    let known: HashSet<_> = come.iter().collect();
    let changed: Vec<_> = out.iter().filter(|frame| !known.contains(frame)).collect();
    let beginnings: Vec<_> = changed.iter().take(3).map(|frame| &frame[..frame.len().min(60)]).collect();
    assert!(changed.is_empty(), "{} frames did not arrive as they were sent: {beginnings:02x?}", changed.len());
    assert_eq!(out.len(), come.len(), "each arrived once: {all:?}");
    println!("{mode}: {} odd frames and {} others arrived byte for byte", carried.len(), out.len());
    assert_eq!(drops(&topology), dropped, "nothing of it was dropped");
    assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
    drop((sent, received, sender, balancer));
    end(topology);
}

/// Packets that the datapath has dropped, by reason.
fn drops(topology: &Topology) -> Vec<(String, u64)> {
    let status = topology.balancers[0].agent.status().unwrap();
    let rows = status.datapath.packets.into_iter().filter(|row| row.verdict == "drop");
    rows.map(|row| (row.reason, row.packets)).collect()
}

/// What a host's programs send, and what they get back.
fn by_the_stack(client: &Netns, balancer: &Netns) {
    // TCP to a port of the host, at its own address and at the VIP, where no service listens.
    let listener = balancer.enter(|| TcpListener::bind("0.0.0.0:22").unwrap()).unwrap();
    let echo = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut data = Vec::new();
            stream.read_to_end(&mut data).unwrap();
            stream.write_all(&data).unwrap();
        }
    });
    for address in [OWN, VIP] {
        let mut data = vec![0; 3_000_000];
        pattern(0, &mut data);
        let back = client.enter(|| {
            let mut stream = TcpStream::connect((address, 22)).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.write_all(&data).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            back
        });
        assert!(back.unwrap() == data, "TCP to {address}:22 and back");
    }
    echo.join().unwrap();
    for address in [OWN, VIP] {
        // Fragmented both ways.
        for size in [8, 56, 1472, 4000, 20_000] {
            assert!(client.enter(|| echoes(address, size)).unwrap(), "ping of {size} bytes to {address}");
            let back = udp_echo(client, balancer, address, size);
            assert_eq!(back, size, "UDP of {size} bytes to {address}");
        }
        // Ports where nobody listens: the host says so itself.
        let refused = client.enter(|| TcpStream::connect((address, 9)).unwrap_err().kind()).unwrap();
        assert_eq!(refused, ErrorKind::ConnectionRefused, "TCP to {address}:9");
        // The kernel answers odd packets too, and tells one host no more than about one a second.
        wait(&format!("UDP to {address}:9 to be refused"), || client.enter(|| is_refused(address)).unwrap());
    }
}

/// Sends a datagram to a server on the balancer and returns how many of its bytes came back as they were.
fn udp_echo(client: &Netns, balancer: &Netns, address: Ipv4Addr, size: usize) -> usize {
    let server = balancer.enter(|| UdpSocket::bind((address, 7000)).unwrap()).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let mut data = vec![0; size];
    pattern(0, &mut data);
    client
        .enter(|| {
            let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket.send_to(&data, (address, 7000)).unwrap();
            let mut buffer = vec![0; 65_536];
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], peer).unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            buffer[..length].iter().zip(&data).take_while(|(got, sent)| got == sent).count()
        })
        .unwrap()
}

/// Whether a datagram to a port without a listener is answered by an ICMP error soon.
fn is_refused(address: Ipv4Addr) -> bool {
    let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect((address, 9)).unwrap();
    socket.send(b"anybody?").unwrap();
    socket.recv(&mut [0; 8]).is_err_and(|err| err.kind() == ErrorKind::ConnectionRefused)
}

/// Whether an echo request of `size` data bytes is answered with the same bytes.
fn echoes(to: Ipv4Addr, size: usize) -> bool {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).unwrap();
    let mut packet = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let mut data = vec![0; size];
    pattern(0, &mut data);
    packet.extend(data);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    let address = SockaddrIn::from(SocketAddrV4::new(to, 0));
    sendto(socket.as_raw_fd(), &packet, &address, MsgFlags::empty()).unwrap();
    let mut buffer = vec![0; 65_536];
    // Everybody's ICMP is heard here.
    for _ in 0..50 {
        let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
            return false;
        };
        let answer = buffer.get(20..length).unwrap_or_default();
        if answer.first() == Some(&0) && answer.get(4..) == packet.get(4..) {
            return true;
        }
    }
    false
}

/// Frames that no well-behaved program sends, none of them TCP to the VIP, with what is odd about them.
fn odd_frames(from: [u8; 6], to: [u8; 6]) -> Vec<(String, Vec<u8>)> {
    let ethernet = |to: [u8; 6], kind: u16, rest: &[u8]| [&to[..], &from, &kind.to_be_bytes(), rest].concat();
    let ip = |header: Ip, payload: &[u8]| ethernet(to, 0x0800, &header.bytes(payload));
    let plain = Ip { to: OWN, ..Ip::default() };
    let tcp = |port: u16, checksum: u16| {
        let mut bytes = vec![0x9c, 0x40, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
        bytes
    };
    let mut frames = vec![
        ("a wrong TCP checksum".to_owned(), ip(plain, &tcp(22, 0xbad0))),
        ("TCP to the service's port at the own address".to_owned(), ip(plain, &tcp(8443, 0xbad1))),
        ("a wrong IP checksum".to_owned(), ip(Ip { spoil: true, ..plain }, &tcp(22, 0xbad2))),
        ("a TTL of 1".to_owned(), ip(Ip { ttl: 1, ..plain }, &tcp(22, 0xbad3))),
        ("a TTL of 0".to_owned(), ip(Ip { ttl: 0, ..plain }, &tcp(22, 0xbad4))),
        ("IP version 5".to_owned(), ip(Ip { version: 5, ..plain }, &tcp(22, 0xbad5))),
        ("a header length of 4 words".to_owned(), ip(Ip { words: Some(4), ..plain }, &tcp(22, 0xbad6))),
        ("a header longer than the packet".to_owned(), ip(Ip { words: Some(15), ..plain }, b"short")),
        ("a total length beyond the frame".to_owned(), ip(Ip { length: Some(1400), ..plain }, &tcp(22, 0xbad7))),
        ("a total length of less than its header".to_owned(), ip(Ip { length: Some(10), ..plain }, &tcp(22, 0xbad8))),
        (
            "bytes behind the packet".to_owned(),
            ip(Ip { length: Some(40), ..plain }, &[&tcp(22, 0xbad9)[..], &[0xee; 30]].concat()),
        ),
        ("a TCP header cut off".to_owned(), ip(plain, &tcp(22, 0xbada)[..7])),
        (
            "all TCP flags at once".to_owned(),
            ip(plain, &{
                let mut all = tcp(22, 0xbadb);
                all[13] = 0xff;
                all
            }),
        ),
        ("the VIP as the source".to_owned(), ip(Ip { from: VIP, ..plain }, &tcp(22, 0xbadc))),
        (
            "a backend as the source".to_owned(),
            ip(Ip { from: Ipv4Addr::new(192, 0, 2, 31), ..plain }, &tcp(40_000, 0xbadd)),
        ),
        ("the sender as the source and the destination".to_owned(), ip(Ip { from: OWN, ..plain }, &tcp(22, 0xbade))),
        (
            "a broadcast".to_owned(),
            ethernet([0xff; 6], 0x0800, &Ip { to: Ipv4Addr::BROADCAST, protocol: 17, ..plain }.bytes(b"everybody")),
        ),
        (
            "an advert of another virtual router".to_owned(),
            ethernet(
                [1, 0, 0x5e, 0, 0, 18],
                0x0800,
                &Ip { to: Ipv4Addr::new(224, 0, 0, 18), protocol: 112, ttl: 255, ..plain }
                    .bytes(&[0x31, 77, 1, 1, 0, 10, 0xba, 0xad, 198, 51, 100, 7]),
            ),
        ),
        (
            "an advert with the wrong TTL, of our router".to_owned(),
            ethernet(
                [1, 0, 0x5e, 0, 0, 18],
                0x0800,
                &Ip { to: Ipv4Addr::new(224, 0, 0, 18), protocol: 112, ttl: 64, ..plain }
                    .bytes(&[0x31, 51, 1, 1, 0, 10, 0xba, 0xad, 192, 0, 2, 100]),
            ),
        ),
        ("a VLAN tag".to_owned(), ethernet(to, 0x8100, &[&[0, 7, 8, 0][..], &plain.bytes(&tcp(22, 0xbae4))].concat())),
        (
            TAGGED.to_owned(),
            ethernet(to, 0x8100, &[&[0, 7, 8, 0][..], &Ip { to: VIP, ..plain }.bytes(&tcp(8443, 0xbae6))].concat()),
        ),
        (
            "two VLAN tags".to_owned(),
            ethernet(to, 0x88a8, &[&[0, 7, 0x81, 0, 0, 8, 8, 0][..], &plain.bytes(&tcp(22, 0xbae5))].concat()),
        ),
        ("an ARP request".to_owned(), ethernet([0xff; 6], 0x0806, &arp(1, from, CLIENT, [0; 6], OWN))),
        ("an ARP request for the VIP".to_owned(), ethernet([0xff; 6], 0x0806, &arp(1, from, CLIENT, [0; 6], VIP))),
        ("an ARP reply".to_owned(), ethernet(to, 0x0806, &arp(2, from, CLIENT, to, OWN))),
        ("a gratuitous ARP request".to_owned(), ethernet([0xff; 6], 0x0806, &arp(1, from, CLIENT, [0; 6], CLIENT))),
        ("LLDP".to_owned(), ethernet(to, 0x88cc, &[2, 7, 4, 1, 2, 3, 4, 5, 6, 0, 0])),
        ("an EtherType for experiments".to_owned(), ethernet(to, 0x88b5, b"what is this?")),
        ("IEEE 802.3 with a length".to_owned(), ethernet(to, 3, &[0x42, 0x42, 3])),
        (
            "IPv6".to_owned(),
            ethernet(
                to,
                0x86dd,
                &[&[0x60, 0, 0, 0, 0, 8, 17, 64][..], &[0xfd; 32], &[0, 7, 0, 7, 0, 8, 0xba, 0xad]].concat(),
            ),
        ),
        ("IPv4 that says IPv6".to_owned(), ethernet(to, 0x86dd, &plain.bytes(&tcp(22, 0xbadf)))),
        (
            "IPv6 that says IPv4".to_owned(),
            ethernet(to, 0x0800, &[&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0xfd; 32]].concat()),
        ),
        ("half an IP header".to_owned(), ethernet(to, 0x0800, &plain.bytes(b"")[..10])),
        ("a byte of an IP header".to_owned(), ethernet(to, 0x0800, &[0x45])),
        (
            "a frame for somebody else".to_owned(),
            ethernet(
                [2, 2, 2, 2, 2, 2],
                0x0800,
                &Ip { to: Ipv4Addr::new(192, 0, 2, 77), ..plain }.bytes(&tcp(22, 0xbae0)),
            ),
        ),
        (
            "TCP to the VIP for somebody else's Ethernet address".to_owned(),
            ethernet([2, 2, 2, 2, 2, 3], 0x0800, &Ip { to: VIP, ..plain }.bytes(&tcp(8443, 0xbae1))),
        ),
        ("a frame as long as they get".to_owned(), ip(Ip { protocol: 17, ..plain }, &[0x5a; 1480])),
    ];
    for (what, options) in [
        ("no-operation", vec![1, 1, 1, 1]),
        ("record route", [&[7, 39, 4][..], &[0; 36], &[0]].concat()),
        ("timestamp", vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("loose source route", vec![131, 7, 4, 192, 0, 2, 33, 0]),
        ("an unknown kind", vec![0x9e, 4, 0xff, 0xff]),
    ] {
        let words = u8::try_from(5 + options.len() / 4).unwrap();
        for (protocol, to) in [(6, OWN), (17, OWN), (1, VIP)] {
            let payload = [&options[..], &tcp(22, 0xbae2)].concat();
            let header = Ip { words: Some(words), protocol, to, ..plain };
            frames.push((format!("the IP option {what}, protocol {protocol}, to {to}"), ip(header, &payload)));
        }
    }
    for to in [OWN, VIP] {
        for protocol in [0, 1, 2, 4, 17, 41, 47, 50, 51, 89, 112, 132, 255] {
            let frame = ip(Ip { protocol, to, ttl: 63, ..plain }, &[0xa5; 24]);
            frames.push((format!("protocol {protocol} to {to}"), frame));
            for (part, field) in [("first", 0x2000), ("middle", 0x2003), ("last", 0x0006), ("overlapping", 0x2002)] {
                let frame = ip(Ip { protocol, to, fragment: field, ..plain }, &[0xc3; 24]);
                frames.push((format!("the {part} fragment of protocol {protocol} to {to}"), frame));
            }
        }
    }
    for (part, field) in [("first", 0x2000), ("last", 0x0003)] {
        frames.push((format!("the {part} fragment of TCP"), ip(Ip { fragment: field, ..plain }, &tcp(22, 0xbae3))));
    }
    frames
}

/// Fields of an IPv4 header; what is `None` is as it should be.
#[derive(Clone, Copy)]
struct Ip {
    version: u8,
    words: Option<u8>,
    length: Option<u16>,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    from: Ipv4Addr,
    to: Ipv4Addr,
    spoil: bool,
}

impl Default for Ip {
    fn default() -> Self {
        Self {
            version: 4,
            words: None,
            length: None,
            fragment: 0,
            ttl: 64,
            protocol: 6,
            from: CLIENT,
            to: OWN,
            spoil: false,
        }
    }
}

impl Ip {
    /// Header and payload; the payload begins with the options, if there are any.
    fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let length = self.length.unwrap_or(20 + u16::try_from(payload.len()).unwrap());
        let words = self.words.unwrap_or(5);
        let mut bytes = vec![self.version << 4 | words, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0x77, 0x88]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.from.octets());
        bytes.extend(self.to.octets());
        bytes.extend(payload);
        let header = usize::from(words) * 4;
        let sum = checksum(&bytes[..header.clamp(20, bytes.len())]) ^ u16::from(self.spoil);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

fn arp(operation: u16, from: [u8; 6], sender: Ipv4Addr, to: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(from);
    bytes.extend(sender.octets());
    bytes.extend(to);
    bytes.extend(target.octets());
    bytes
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn the_vip_is_an_address_of_the_host_like_any_other() {
    let topology = serving(1, &[OFTEN]);
    assert_eq!(VIP.to_string(), VIP_ADDRESS);
    assert!(topology.client.enter(|| echoes(VIP, 56)).unwrap(), "ping");
    let balancer = topology.balancers[0].agent.netns().clone();
    let refused = topology
        .client
        .enter(|| TcpStream::connect_timeout(&(VIP, 8444).into(), Duration::from_secs(10)).unwrap_err().kind());
    assert_eq!(refused.unwrap(), ErrorKind::ConnectionRefused);
    wait("UDP to the VIP to be refused", || topology.client.enter(|| is_refused(VIP)).unwrap());
    // The host itself asks for its service, too: that does not pass the wire, but its connect(2) is translated.
    let own = balancer.enter(|| {
        TcpStream::connect_timeout(&(VIP, 8443).into(), Duration::from_secs(10)).and_then(|stream| stream.peer_addr())
    });
    assert_eq!(own.unwrap().unwrap(), (VIP, 8443).into());
    drop(balancer);
    end(topology);
}

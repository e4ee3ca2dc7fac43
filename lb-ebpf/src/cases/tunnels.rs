//! Packets inside others, in both IP versions.

use core::net::{IpAddr, Ipv4Addr};

use super::delivery::{forwarded, from_vip, own_answer, to_own};
use super::errors::{Failure, LONG, from_router};
use super::frame::{checksum, pseudo_header, sixth};
use super::table::stays;
use super::world::{CLIENT, CLIENT_MAC, NODE_MAC, backend, backend_mac, request};
use super::{Case, Frame, Step, World};
use crate::abi::{Delivery, Reason, node_flag};
use crate::net::header::flag::{ACK, SYN};

/// This node's own address where it forwards to others.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 21);
/// Address of another balancer, which is behind a router; and of nobody's.
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 21);
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 22);
/// The router.
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const MTU: u16 = 1500;

/// All of them.
pub(super) fn tunnels() -> Vec<Case> {
    [4, 6].into_iter().flat_map(|version| Told { version }.cases()).collect()
}

/// The stories in one IP version; addresses are written as IPv4's.
#[derive(Clone, Copy)]
struct Told {
    version: u8,
}

impl Told {
    fn bytes(self, frame: &Frame) -> Vec<u8> {
        if self.version == 6 { frame.clone().in_ipv6().bytes() } else { frame.bytes() }
    }

    /// Length of an IP header.
    fn header(self) -> usize {
        if self.version == 6 { 40 } else { 20 }
    }

    /// An IP header with right checksum, in front of `length` bytes.
    fn outer(self, class: u8, length: usize, protocol: u8, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        if self.version == 6 {
            let [high, low] = (length as u16).to_be_bytes();
            let mut ip = vec![0x60 | class >> 4, class << 4, 0, 0, high, low, protocol, 64];
            ip.extend(sixth(from.into()).octets());
            ip.extend(sixth(to.into()).octets());
            return ip;
        }
        let [high, low] = (20 + length as u16).to_be_bytes();
        let mut ip = vec![0x45, class, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        ip.extend(from.octets());
        ip.extend(to.octets());
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }

    /// A frame inside an outer packet.
    fn inside(self, frame: &[u8], class: u8, macs: [[u8; 6]; 2], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let (ethertype, inner) = frame[12..].split_at(2);
        let protocol = if self.version == 6 { 41 } else { 4 };
        [&macs.concat(), ethertype, &self.outer(class, inner.len(), protocol, from, to), inner].concat()
    }

    /// What a backend's node behind a router is sent.
    fn to_far(self, frame: &[u8], class: u8, slot: u8) -> Vec<u8> {
        self.inside(frame, class, [backend_mac(slot), NODE_MAC], NODE, v4(backend(slot)))
    }

    /// The ICMP error about a frame that is too long, as it leaves for the next hop.
    fn too_long(self, frame: &Frame) -> Vec<u8> {
        let inner = &self.bytes(frame)[14..];
        let mtu = MTU - self.header() as u16;
        let (kind, protocol, about) = if self.version == 6 { ([2, 0], 58, 60) } else { ([3, 4], 1, 28) };
        let mut icmp = [&kind[..], &[0; 4], &mtu.to_be_bytes(), &inner[..about]].concat();
        let (from, to) = (sixth(NODE.into()).octets(), sixth(CLIENT).octets());
        let pseudo_header =
            if self.version == 6 { pseudo_header(&from, &to, icmp.len(), protocol) } else { Vec::new() };
        let sum = checksum(&[&pseudo_header, &icmp]);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let ethertype = if self.version == 6 { [0x86, 0xdd] } else { [8, 0] };
        let header = self.outer(0, icmp.len(), protocol, NODE, v4(CLIENT));
        [&CLIENT_MAC[..], &NODE_MAC, &ethertype, &header, &icmp].concat()
    }

    fn arrives(self, frame: &Frame, reason: Reason, becomes: Vec<u8>) -> Step {
        Step::Arrives { frame: self.bytes(frame), reason, becomes }
    }

    fn wraps(self, frame: &Frame, reason: Reason, slot: u8) -> Step {
        self.arrives(frame, reason, self.to_far(&self.bytes(&forwarded(frame, slot)), 0, slot))
    }

    /// The same of a packet with a class, and a flow label.
    fn wraps_with_class(self, frame: &Frame) -> Step {
        let with_class = |frame: &Frame| {
            let frame = if self.version == 6 { frame.clone().in_ipv6() } else { frame.clone() };
            frame.bytes_with(|bytes| {
                let class = if self.version == 6 { [0x6a, 0xbc] } else { [0x45, 0xab] };
                bytes[14..16].copy_from_slice(&class);
            })
        };
        let becomes = self.to_far(&with_class(&forwarded(frame, 0)), 0xa8, 0);
        Step::Arrives { frame: with_class(frame), reason: Reason::ToBackend, becomes }
    }

    /// What another balancer sends by way of the router.
    fn by_far(self, frame: &Frame, from: Ipv4Addr, to: IpAddr) -> Vec<u8> {
        self.relayed(&self.bytes(frame), from, to)
    }

    fn relayed(self, frame: &[u8], from: Ipv4Addr, to: IpAddr) -> Vec<u8> {
        self.inside(frame, 0, [NODE_MAC, ROUTER_MAC], from, v4(to))
    }

    /// The same, and this node's own backend gets it.
    fn comes(self, frame: &Frame, reason: Reason) -> Step {
        let inner = Frame { mac_from: ROUTER_MAC, ..frame.clone() };
        let frame = self.by_far(frame, FAR, backend(0));
        Step::Arrives { frame, reason, becomes: self.bytes(&to_own(&inner)) }
    }

    fn cases(self) -> Vec<Case> {
        let case = |name, world: World, steps| {
            let world = if self.version == 6 { world.in_ipv6() } else { world };
            Case { name, version: self.version, world, steps }
        };
        let (syn, ack) = (request(SYN), request(ACK));
        // Two IP headers, and TCP's.
        let room = usize::from(MTU) - 2 * self.header() - 20;
        let most = Frame { payload: vec![7; room], ..request(ACK) };
        let longer = Frame { payload: vec![7; room + 1], ..request(ACK) };
        let may_be_cut = Frame { fragment: 0, ..longer.clone() };
        let far = World::standard().with(|world| {
            world.node.address = NODE.into();
            world.node.mtu = MTU;
            world.backends.iter_mut().for_each(|backend| backend.delivery = Delivery::Tunnelled as u16);
        });
        let silent = far.clone().with(|world| world.node.resets_per_second = 0);
        let near = World::standard().with(|world| {
            world.backends[0].delivery = Delivery::Local as u16;
            world.services[0].1.own = 1;
            world.node.flags = node_flag::DELIVERS_ONLY;
            world.node.address = v4(backend(0)).into();
            world.tunnels = vec![FAR.into()];
        });
        let passes = |frame: Vec<u8>| stays(frame, Reason::NotVip);
        let whole = self.by_far(&syn, FAR, backend(0));
        let spoilt = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            bytes
        };
        let protocol = if self.version == 6 { 6 } else { 9 };
        let own = own_answer(SYN | ACK);
        let answers = Step::Leaves {
            frame: self.bytes(&own),
            reason: Reason::LocalHandshake,
            becomes: self.bytes(&from_vip(&own)),
        };
        let opens = || vec![self.wraps(&syn, Reason::NewFlow, 0), self.wraps(&ack, Reason::Opened, 0)];
        let mut steps = opens();
        steps.insert(1, self.wraps(&syn, Reason::Handshake, 0));
        steps.push(self.wraps(&most, Reason::ToBackend, 0));
        steps.push(self.wraps_with_class(&ack));
        // A router on the client's side, about what the backend has sent.
        let big = from_router(&from_vip(&Frame { payload: vec![7; 100], ..own_answer(ACK) }), LONG);
        let on = Failure { mac_to: backend_mac(0), mac_from: NODE_MAC, ttl: big.ttl - 1, ..big.clone() };
        steps.push(Step::Arrives {
            frame: big.bytes_in(self.version),
            reason: Reason::IcmpError,
            becomes: self.to_far(&on.bytes_in(self.version), 0, 0),
        });
        let refused = self.too_long(&forwarded(&longer, 0));
        steps.push(self.arrives(&longer, Reason::FragmentationNeeded, refused));
        let sent = Frame { payload: vec![7; 100], ..own_answer(ACK) };
        let to_server =
            Failure { mac_from: ROUTER_MAC, to: backend(0), about: sent.clone(), ..from_router(&sent, LONG) };
        let of_others = from_router(&Frame { from_port: 1, ..from_vip(&sent) }, LONG);
        let astray = Failure { to: backend(0), ..big.clone() };
        let mut cases =
            vec![case("a node behind a router gets the client's own packets inside outer ones", far.clone(), steps)];
        let mut steps = opens();
        steps.push(self.arrives(&longer, Reason::TunnelTooBig, Vec::new()));
        cases.push(case("senders are told of the length within this second's budget", silent, steps));
        if self.version == 4 {
            let mut steps = opens();
            steps.push(self.arrives(&may_be_cut, Reason::TunnelTooBig, Vec::new()));
            cases.push(case("a packet that is too long for an outer one, and may be fragmented, is not", far, steps));
        }
        cases.push(case(
            "what comes inside outer packets is taken out for this node's own backend",
            near.clone(),
            vec![
                self.comes(&syn, Reason::NewLocal),
                answers,
                self.comes(&ack, Reason::LocalOpened),
                self.comes(&most, Reason::ToLocal),
                Step::Arrives {
                    frame: self.relayed(&big.bytes_in(self.version), FAR, backend(0)),
                    reason: Reason::IcmpErrorLocal,
                    becomes: to_server.bytes_in(self.version),
                },
            ],
        ));
        cases.push(case(
            "outer packets of others, for others, or about other services stay whole",
            near.clone(),
            vec![
                passes(self.by_far(&syn, STRANGER, backend(0))),
                passes(self.by_far(&syn, FAR, backend(1))),
                passes(self.by_far(&Frame { to_port: 1, ..syn.clone() }, FAR, backend(0))),
                passes(self.relayed(&big.bytes_in(self.version), STRANGER, backend(0))),
                passes(self.relayed(&big.bytes_in(self.version), FAR, backend(1))),
                passes(self.relayed(&of_others.bytes_in(self.version), FAR, backend(0))),
                passes(self.relayed(&astray.bytes_in(self.version), FAR, backend(0))),
                // UDP, and nothing that can be told.
                passes(spoilt(14 + self.header() + protocol, 17)),
                passes(spoilt(14 + protocol, 47)),
                passes(whole[..14 + 2 * self.header() + 2].to_vec()),
                passes(whole[..14 + self.header() + 16].to_vec()),
            ],
        ));
        cases.push(case(
            "a node that forwards takes nothing out",
            near.with(|world| world.node.flags = 0),
            vec![passes(whole.clone())],
        ));
        cases
    }
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("the stories are told in IPv4"),
    }
}

//! Leases of virtual addresses: who is answered, what is announced, and what others claim.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frame::{checksum, pseudo_header, sixth};
use super::table::{handshake, stays};
use super::world::{CLIENT_MAC, NODE_MAC, VIP};
use super::{Case, Step, World, six};
use crate::abi::{Lease, Reason, lease_flag};

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const NOBODY: [u8; 6] = [0; 6];
const BROADCAST: [u8; 6] = [0xff; 6];
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// How the lease of the VIP stands.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// It is over.
    Over,
    /// It lasts.
    Lasts,
    /// It lasts until another claims the VIP.
    Yields,
    /// There is none: whoever has the address, it is not for this node to say.
    Never,
}

/// One step of ARP, or the same of neighbour discovery.
#[derive(Debug, Clone, Copy)]
enum Said {
    /// Another host asks for the VIP.
    Asks,
    /// Another host says that it has the VIP and asks who else does: gratuitous ARP by a request; over IPv6 as [`Self::Tells`].
    AsksForItsOwn,
    /// Another host says that it has the VIP.
    Tells,
    /// The same, sent by this node, and come back.
    Echo,
    /// Another host says where it is itself.
    TellsOfItself,
}

fn vip() -> Ipv4Addr {
    match VIP {
        IpAddr::V4(vip) => vip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// A frame of ARP (RFC 826).
fn arp(
    mac_to: [u8; 6], operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr), changed: &[(usize, u8)],
) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(mac_to);
    frame.extend(sender.0);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(sender.0);
    frame.extend(sender.1.octets());
    frame.extend(target.0);
    frame.extend(target.1.octets());
    for (at, byte) in changed {
        frame[*at] = *byte;
    }
    // As drivers hand frames over that were padded.
    frame.resize(60, 0);
    frame
}

/// A frame of neighbour discovery with one option, the sender's Ethernet address.
fn discovery(mac_to: [u8; 6], kind: u8, source: Ipv6Addr, target: Ipv6Addr, mac: [u8; 6], hops: u8) -> Vec<u8> {
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut icmp = vec![kind, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend(target.octets());
    icmp.extend([if kind == SOLICITATION { 1 } else { 2 }, 1]);
    icmp.extend(mac);
    let sum = checksum(&[&pseudo_header(&source.octets(), &to.octets(), icmp.len(), 58), &icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::new();
    frame.extend(mac_to);
    frame.extend(mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([58, hops]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend(icmp);
    frame
}

fn world(held: Held) -> World {
    let lease = |until, flags| vec![(VIP.into(), Lease { until, router: 51, flags })];
    World::standard().with(|world| {
        world.leases = match held {
            Held::Over => lease(1, 0),
            Held::Lasts => lease(u64::MAX, 0),
            Held::Yields => lease(u64::MAX, lease_flag::YIELDS),
            Held::Never => Vec::new(),
        }
    })
}

/// The frame of either version.
fn frame(said: Said, version: u8) -> Vec<u8> {
    if version == 4 {
        return match said {
            Said::Asks => arp(BROADCAST, REQUEST, (CLIENT_MAC, HOST), (NOBODY, vip()), &[]),
            Said::AsksForItsOwn => arp(BROADCAST, REQUEST, (OTHER, vip()), (NOBODY, vip()), &[]),
            Said::Tells => arp(BROADCAST, REPLY, (OTHER, vip()), (BROADCAST, vip()), &[]),
            Said::Echo => arp(BROADCAST, REPLY, (NODE_MAC, vip()), (BROADCAST, vip()), &[]),
            Said::TellsOfItself => arp(NODE_MAC, REPLY, (CLIENT_MAC, HOST), (NODE_MAC, vip()), &[]),
        };
    }
    let (vip, host) = (sixth(VIP), sixth(HOST.into()));
    let group = [0x33, 0x33, 0xff, 0, 0, 100];
    match said {
        Said::Asks => discovery(group, SOLICITATION, host, vip, CLIENT_MAC, 255),
        Said::AsksForItsOwn | Said::Tells => discovery(group, ADVERTISEMENT, vip, vip, OTHER, 255),
        Said::Echo => discovery(group, ADVERTISEMENT, vip, vip, NODE_MAC, 255),
        Said::TellsOfItself => discovery(NODE_MAC, ADVERTISEMENT, host, host, CLIENT_MAC, 255),
    }
}

/// A frame of another kind, or to another Ethernet address, in which nothing was found.
fn passing(said: Said, version: u8) -> Reason {
    match (version, said) {
        (4, _) => Reason::NotIp,
        (_, Said::TellsOfItself) => Reason::NotVip,
        _ => Reason::OtherMac,
    }
}

/// What comes in.
fn arrives(said: Said, held: Held, version: u8) -> Step {
    let passes = passing(said, version);
    let reason = match (said, held) {
        (Said::Asks, Held::Over) => Reason::LeaseOver,
        (Said::Tells | Said::AsksForItsOwn, Held::Lasts) => Reason::VipClaimed,
        _ => passes,
    };
    stays(frame(said, version), reason)
}

fn leaves(frame: Vec<u8>, reason: Reason) -> Step {
    Step::Leaves { becomes: frame.clone(), frame, reason }
}

/// What this node's own stack says: it answers, announces, asks for another host as the VIP, and as itself.
fn own(version: u8, held: Held) -> Vec<Step> {
    let mine = if matches!(held, Held::Over) { Reason::LeaseOverOut } else { Reason::NotVip };
    let own = Ipv4Addr::new(192, 0, 2, 21);
    let (frames, innocent) = if version == 4 {
        (
            vec![
                arp(CLIENT_MAC, REPLY, (NODE_MAC, vip()), (CLIENT_MAC, HOST), &[]),
                arp(BROADCAST, REQUEST, (NODE_MAC, vip()), (NOBODY, vip()), &[]),
                arp(BROADCAST, REQUEST, (NODE_MAC, vip()), (NOBODY, HOST), &[]),
            ],
            arp(BROADCAST, REQUEST, (NODE_MAC, own), (NOBODY, vip()), &[]),
        )
    } else {
        let (vip, host, own) = (sixth(VIP), sixth(HOST.into()), sixth(own.into()));
        (
            vec![
                discovery(CLIENT_MAC, ADVERTISEMENT, own, vip, NODE_MAC, 255),
                discovery(BROADCAST, ADVERTISEMENT, vip, vip, NODE_MAC, 255),
                discovery(BROADCAST, SOLICITATION, vip, host, NODE_MAC, 255),
            ],
            discovery(BROADCAST, SOLICITATION, own, vip, NODE_MAC, 255),
        )
    };
    let mut steps: Vec<_> = frames.into_iter().map(|frame| leaves(frame, mine)).collect();
    steps.push(leaves(innocent, Reason::NotVip));
    steps
}

/// All of them, of both versions.
pub(super) fn leases() -> Vec<Case> {
    let all = [Said::Asks, Said::AsksForItsOwn, Said::Tells, Said::Echo, Said::TellsOfItself];
    let mut cases = Vec::new();
    for version in [4, 6] {
        let world = |held| if version == 4 { world(held) } else { world(held).in_ipv6() };
        let case = |name, held, steps| Case { name, version, world: world(held), steps };
        for (name, held) in [
            ("past the lease nobody is answered", Held::Over),
            ("during the lease others are answered, and their claims told", Held::Lasts),
            ("an address without a lease is left alone", Held::Never),
        ] {
            let mut steps: Vec<_> = all.map(|said| arrives(said, held, version)).into();
            steps.extend(own(version, held));
            cases.push(case(name, held, steps));
        }
        let answered = |held| arrives(Said::Asks, held, version);
        let claimed = stays(frame(Said::Tells, version), passing(Said::Tells, version));
        cases.push(case(
            "who gives an address up is silent once another claims it",
            Held::Yields,
            vec![answered(Held::Yields), claimed, answered(Held::Over)],
        ));
    }
    // Clients that know the way go on.
    let steps = handshake(0, super::world::FIRST_PORT);
    let forwarded = Case { name: "past the lease packets are forwarded", version: 4, world: world(Held::Over), steps };
    cases.extend(six::translated(&forwarded));
    cases.push(forwarded);
    let broken = |at, byte| arp(BROADCAST, REQUEST, (CLIENT_MAC, HOST), (NOBODY, vip()), &[(at, byte)]);
    let steps = vec![
        stays(broken(15, 6), Reason::NotIp),
        stays(broken(16, 0x86), Reason::NotIp),
        stays(broken(18, 8), Reason::NotIp),
        stays(broken(21, 3), Reason::NotIp),
        stays(broken(0, 0)[..41].to_vec(), Reason::NotIp),
    ];
    cases.push(Case {
        name: "what is no question by ARP is none of ours",
        version: 4,
        world: world(Held::Over),
        steps,
    });
    let far = discovery([0x33; 6], SOLICITATION, sixth(HOST.into()), sixth(VIP), CLIENT_MAC, 64);
    let steps = vec![stays(far, Reason::OtherMac)];
    let world = world(Held::Over).in_ipv6();
    cases.push(Case { name: "a solicitation from beyond a router is none", version: 6, world, steps });
    cases
}

//! Protocols whose messages are datagrams: VRRP, ARP and neighbour discovery, and the agents' own.

use std::net::{IpAddr, Ipv6Addr};

use lb_proto::wire::arp::Arp;
use lb_proto::wire::vrrp::Advert;
use lb_proto::wire::{ipv4, ipv6, neighbour as discovery, peer as agents};

use crate::bytes::Bytes;
use lb_ebpf::cases::checksum;

/// An advert as a raw socket delivers it, over either family.
///
/// What is read can be written, and is then read as the same. One that was spoilt in one bit is refused or means the same.
pub fn vrrp(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let how = bytes.byte();
    let spoilt = bytes.short();
    let mut message = bytes.rest().to_vec();
    if how & 1 == 0 {
        if how & 2 != 0 {
            make_ipv4(&mut message);
        }
        let Ok(packet) = ipv4::parse_ipv4_packet(&message) else { return };
        assert!(packet.payload.len() <= message.len() - 20, "a payload is within its packet");
        let (src, dst) = (packet.src, packet.dst);
        advert(&mut packet.payload.to_vec(), src, dst, how, spoilt);
    } else {
        advert(&mut message, Ipv6Addr::LOCALHOST.into(), ipv6::MULTICAST.into(), how, spoilt);
    }
}

/// Makes the header of an IPv4 packet right where it decides whether what is behind it is looked at.
fn make_ipv4(packet: &mut [u8]) {
    let length = packet.len() as u16;
    if let Some(header) = packet.first_chunk_mut::<20>() {
        header[0] = 0x45;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[6..8].fill(0);
        header[9] = ipv4::PROTOCOL_VRRP;
    }
}

fn advert(message: &mut [u8], src: IpAddr, dst: IpAddr, how: u8, spoilt: u16) {
    if how & 4 != 0 {
        make_right(message, src, dst);
    }
    let Ok((advert, form)) = Advert::parse(message, src, dst) else { return };
    let count = advert.addresses.as_slice().len();
    assert!(count >= 1 && count <= usize::from(message[3]));
    let written = advert.emit(src, dst, form);
    assert_eq!(Advert::parse(&written, src, dst), Ok((advert.clone(), form)), "what is written is read");

    let bits = written.len() * 8;
    let mut other = written;
    match usize::from(spoilt) % bits / 8 {
        // Another count is another message, whose sum may be right.
        3 => return,
        at => other[at] ^= 1 << (spoilt % 8),
    }
    // One bit is a difference that no sum of 16-bit words misses; the other form has another sum to begin with.
    let read = Advert::parse(&other, src, dst);
    assert!(read.as_ref().map_or(true, |(_, other)| *other != form), "{read:?} was spoilt");
}

/// Puts a right checksum into a message, as long as its count field says, so that what is behind that is looked at.
fn make_right(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    let width = if src.is_ipv4() { 4 } else { 16 };
    let Some(count) = message.get(3) else { return };
    let length = 8 + usize::from(*count) * width;
    let Some(counted) = message.get_mut(..length) else { return };
    counted[6..8].fill(0);
    let pseudo = match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            [&src.octets()[..], &dst.octets(), &(length as u32).to_be_bytes(), &[0, 0, 0, 112]].concat()
        }
        _ => Vec::new(),
    };
    let sum = checksum(&[&pseudo, counted]);
    counted[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// ARP packets and neighbour advertisements, as a packet socket delivers them.
///
/// What is read of ARP can be written, and is then what was read. An advertisement names a host's own address.
pub fn neighbour(data: &[u8]) {
    let (how, frame) = data.split_first().map_or((0, data), |(how, rest)| (*how, rest));
    let mut frame = frame.to_vec();
    if how & 1 != 0 {
        make_advertisement(&mut frame);
    }
    if let Ok(arp) = Arp::parse(&frame) {
        let written = arp.emit();
        assert!(frame.starts_with(&written), "nothing of the packet is lost");
        assert_eq!(Arp::parse(&written), Ok(arp));
        assert_eq!(arp.is_gratuitous(), arp.sender == arp.target);
    }
    if let Some((target, mac)) = discovery::advertisement(&frame) {
        assert!(!target.is_multicast(), "no host has a group's address");
        let named = frame.windows(6).any(|bytes| bytes == mac.0);
        assert!(named, "an Ethernet address is one that was said");
        assert!(frame.len() >= 14 + 40 + 24);
    }
}

/// Makes the headers and the checksum right that decide whether the options of an advertisement are looked at.
fn make_advertisement(frame: &mut [u8]) {
    let Some(length) = frame.len().checked_sub(54) else { return };
    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    frame[18..20].copy_from_slice(&(length as u16).to_be_bytes());
    frame[20..22].copy_from_slice(&[58, 255]);
    if let Some(kind) = frame.get_mut(54..56) {
        kind.copy_from_slice(&[136, 0]);
    }
    let Some(field) = frame.get_mut(56..58) else { return };
    field.fill(0);
    let (header, message) = frame.split_at(54);
    let sum = checksum(&[&header[22..54], &(length as u32).to_be_bytes(), &[0, 0, 0, 58], message]);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
}

/// Questions and answers between agents.
///
/// What is read can be written, and is then read as the same; an answer is never longer than its question.
pub fn peer(data: &[u8]) {
    let (how, bytes) = data.split_first().map_or((0, data), |(how, rest)| (*how, rest));
    let mut bytes = bytes.to_vec();
    if how & 1 != 0 {
        bytes.resize(agents::LENGTH, 0);
        bytes[..5].copy_from_slice(b"xvip\x01");
    }
    let Ok(message) = agents::Message::parse(&bytes) else { return };
    assert_eq!(bytes.len(), agents::LENGTH);
    let written = message.emit();
    assert_eq!(agents::Message::parse(&written), Ok(message));
    assert_eq!(written[..6], bytes[..6]);
    assert_eq!(written[8..16], bytes[8..16], "the nonce");
    assert_eq!(written[32..], bytes[32..], "the port");
    let is_mapped = |ip: IpAddr| matches!(ip, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
    assert!(!is_mapped(message.listener.ip()), "an IPv4 address is one");
    for word in [agents::Word::Delivers, agents::Word::NotYet, agents::Word::NotServed, agents::Word::Leaving] {
        let answer = message.answered(word);
        assert_eq!(agents::Message::parse(&answer.emit()), Ok(answer));
    }
}

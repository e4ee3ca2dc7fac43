//! What a frame says of itself, in a line. Frames are whatever came over the wire: nothing here believes them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
/// Tags of VLANs, 802.1Q and 802.1ad.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const ETHERNET: usize = 14;

// IANA protocol numbers.
const ICMP: u8 = 1;
const IPV4_INSIDE: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_INSIDE: u8 = 41;
const ICMPV6: u8 = 58;

/// A packet may be in another one, and that in a third; deeper nobody looks.
const DEPTH: usize = 3;

/// TCP's flags (RFC 9293 section 3.1), the lowest bit first.
const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// The IP packet in a frame, or in another packet.
struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Of a fragment that is not the first one there is no more to tell.
    is_later_fragment: bool,
    /// Bytes above IP, as the header says.
    length: usize,
    payload: &'a [u8],
}

/// Addresses that a frame's packet comes from and goes to; none for what is not IP.
pub(super) fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (kind, payload) = ethernet(frame)?;
    ip(kind, payload).map(|ip| (ip.source, ip.destination))
}

/// A frame in words.
pub(super) fn words(frame: &[u8]) -> String {
    let Some((kind, payload)) = ethernet(frame) else {
        return format!("a frame of {} bytes", frame.len());
    };
    if kind == ARP {
        return arp(payload);
    }
    match ip(kind, payload) {
        Some(ip) => ip_words(&ip, DEPTH),
        None => format!("ethertype 0x{kind:04x}"),
    }
}

fn ip_words(ip: &Ip<'_>, depth: usize) -> String {
    let Ip { source, destination, protocol, payload, .. } = ip;
    let inner = match *protocol {
        IPV4_INSIDE => Some(IPV4),
        IPV6_INSIDE => Some(IPV6),
        _ => None,
    };
    if ip.is_later_fragment {
        return format!("{source} > {destination} fragment");
    }
    if let Some(inner) = inner.filter(|_| depth > 0).and_then(|kind| self::ip(kind, payload)) {
        return format!("{source} > {destination} [{}]", ip_words(&inner, depth - 1));
    }
    let ports = || Some((number(payload, 0)?, number(payload, 2)?));
    match (*protocol, ports()) {
        (TCP, Some((from, to))) => {
            format!("{} > {} {}", with_port(*source, from), with_port(*destination, to), tcp(payload, ip.length))
        }
        (UDP, Some((from, to))) => format!("{} > {} UDP", with_port(*source, from), with_port(*destination, to)),
        (ICMP | ICMPV6, Some(_)) => {
            format!("{source} > {destination} ICMP type {} code {}", payload[0], payload[1])
        }
        _ => format!("{source} > {destination} protocol {protocol}"),
    }
}

fn with_port(address: IpAddr, port: u16) -> std::net::SocketAddr {
    (address, port).into()
}

fn tcp(segment: &[u8], length: usize) -> String {
    let Some(&[offset, flags]) = segment.get(12..14) else {
        return "TCP".to_owned();
    };
    let set = FLAGS.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, name)| *name);
    let mut text = set.collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text.push_str("no flags");
    }
    let bytes = length.saturating_sub(4 * usize::from(offset >> 4));
    if bytes > 0 {
        let _ = write!(text, ", {bytes} bytes");
    }
    text
}

fn arp(payload: &[u8]) -> String {
    let address = |at: usize| payload.get(at..at + 4)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    match (number(payload, 6), address(14), address(24)) {
        (Some(1), Some(source), Some(target)) => format!("ARP {source} asks for {target}"),
        (Some(2), Some(source), Some(target)) => format!("ARP {source} answers {target}"),
        _ => "ARP".to_owned(),
    }
}

/// EtherType and payload, behind tags of VLANs.
fn ethernet(frame: &[u8]) -> Option<(u16, &[u8])> {
    let mut at = ETHERNET;
    let mut kind = number(frame, at - 2)?;
    while TAGS.contains(&kind) && at < ETHERNET + 8 {
        kind = number(frame, at + 2)?;
        at += 4;
    }
    Some((kind, &frame[at..]))
}

fn ip(kind: u16, packet: &[u8]) -> Option<Ip<'_>> {
    match kind {
        IPV4 => {
            let head: &[u8; 20] = packet.first_chunk()?;
            let header = 4 * usize::from(head[0] & 0xf);
            let address = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            Some(Ip {
                source: address(12),
                destination: address(16),
                protocol: head[9],
                is_later_fragment: u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0,
                length: usize::from(u16::from_be_bytes([head[2], head[3]])).saturating_sub(header),
                payload: packet.get(header..)?,
            })
        }
        IPV6 => {
            let head: &[u8; 40] = packet.first_chunk()?;
            let address = |at: usize| head[at..].first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into());
            Some(Ip {
                source: address(8)?,
                destination: address(24)?,
                protocol: head[6],
                is_later_fragment: false,
                length: usize::from(u16::from_be_bytes([head[4], head[5]])),
                payload: &packet[40..],
            })
        }
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|number| u16::from_be_bytes(*number))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A TCP segment over IPv4 with 3 bytes of data.
    pub(in crate::capture) fn segment(source: [u8; 4], destination: [u8; 4], flags: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 43, 0, 0, 0, 0, 64, TCP, 0, 0];
        frame.extend(source.iter().chain(&destination));
        frame.extend([0x9c, 0x40, 0x20, 0xfb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        frame
    }

    #[test]
    fn packets_in_words() {
        let syn = segment([192, 0, 2, 10], [192, 0, 2, 100], 0x02);
        assert_eq!(words(&syn), "192.0.2.10:40000 > 192.0.2.100:8443 SYN, 3 bytes");
        assert_eq!(addresses(&syn), Some(([192, 0, 2, 10].into(), [192, 0, 2, 100].into())));
        assert!(words(&segment([1, 1, 1, 1], [2, 2, 2, 2], 0x11)).ends_with("FIN ACK, 3 bytes"));
        assert!(words(&segment([1, 1, 1, 1], [2, 2, 2, 2], 0)).ends_with("no flags, 3 bytes"));

        let mut tagged = syn.clone();
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        assert_eq!(words(&tagged), words(&syn));

        // In another packet, as between a balancer and a backend's node.
        let mut outer = syn[..14].to_vec();
        outer.extend([0x45, 0, 0, 63, 0, 0, 0, 0, 64, IPV4_INSIDE, 0, 0, 192, 0, 2, 1, 192, 0, 2, 21]);
        outer.extend(&syn[14..]);
        assert_eq!(words(&outer), "192.0.2.1 > 192.0.2.21 [192.0.2.10:40000 > 192.0.2.100:8443 SYN, 3 bytes]");

        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        arp[20..22].copy_from_slice(&[0, 1]);
        arp[28..32].copy_from_slice(&[192, 0, 2, 1]);
        arp[38..42].copy_from_slice(&[192, 0, 2, 100]);
        assert_eq!(words(&arp), "ARP 192.0.2.1 asks for 192.0.2.100");
        assert_eq!(words(&[0; 3]), "a frame of 3 bytes");
        assert_eq!(words(&[0xff; 20]), "ethertype 0xffff");
    }

    #[test]
    fn six() {
        let mut frame = vec![0; 14 + 40 + 20];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        (frame[19], frame[20], frame[21]) = (20, TCP, 64);
        (frame[37], frame[53]) = (1, 2);
        (frame[66], frame[67]) = (0x50, 0x04);
        assert_eq!(words(&frame), "[::1]:0 > [::2]:0 RST");
    }

    proptest! {
        #[test]
        fn any_bytes_have_words(mut frame in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..4u8, protocol: u8) {
            if frame.len() > 23 {
                let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]];
                frame[12..14].copy_from_slice(&kinds[usize::from(kind)]);
                frame[if kind == 1 { 20 } else { 23 }] = protocol;
            }
            prop_assert!(!words(&frame).is_empty());
            addresses(&frame);
        }

        #[test]
        fn a_packet_cut_anywhere_has_words(length in 0..57usize) {
            let frame = segment([1, 2, 3, 4], [5, 6, 7, 8], 0x12);
            prop_assert!(!words(&frame[..length]).is_empty());
        }
    }
}

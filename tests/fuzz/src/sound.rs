//! Whether checksums are right, by the plain sum over what they cover.

use lb_ebpf::cases::checksum;

const ETHERNET: usize = 14;
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TCP: u8 = 6;

/// A frame's packet, and what is in it, from the outside to the inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layers {
    /// Whether the packet is in an outer one, and that one's header is right.
    pub(crate) outer: Option<bool>,
    /// Whether the IP header's checksum is right; IPv6 has none.
    pub(crate) ip: bool,
    /// Whether the checksum of TCP or ICMP is right.
    pub(crate) above: Option<bool>,
    /// Whether the header's checksum of the packet that an ICMP error is about is right.
    pub(crate) about: Option<bool>,
    /// Where the header above IP begins in the frame.
    pub(crate) at: usize,
}

/// What there is of a frame's layers; `None` where it is no plain IP.
pub(crate) fn layers(frame: &[u8]) -> Option<Layers> {
    match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => {
            let layers = ipv4(frame, ETHERNET)?;
            if frame[ETHERNET + 9] != IPV4 {
                return Some(layers);
            }
            let inner = ipv4(frame, ETHERNET + 20)?;
            Some(Layers { outer: Some(layers.ip), ..inner })
        }
        [0x86, 0xdd] => {
            let layers = ipv6(frame, ETHERNET)?;
            if frame[ETHERNET + 6] != IPV6 {
                return Some(layers);
            }
            // An outer header has nothing that could be wrong.
            Some(Layers { outer: Some(true), ..ipv6(frame, ETHERNET + 40)? })
        }
        _ => None,
    }
}

fn ipv4(frame: &[u8], at: usize) -> Option<Layers> {
    let header = frame.get(at..at + 20)?;
    if header[0] != 0x45 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let above = frame.get(at + 20..at + total);
    let pseudo = |segment: &[u8]| [&header[12..20], &[0, header[9]], &(segment.len() as u16).to_be_bytes()].concat();
    let inner = at + 28;
    let is_inner = header[9] == ICMP && frame.get(inner) == Some(&0x45);
    Some(Layers {
        outer: None,
        ip: checksum(&[header]) == 0,
        above: match header[9] {
            TCP => above.map(|segment| checksum(&[&pseudo(segment), segment]) == 0),
            ICMP => above.map(|message| checksum(&[message]) == 0),
            _ => None,
        },
        about: frame.get(inner..inner + 20).filter(|_| is_inner).map(|header| checksum(&[header]) == 0),
        at: at + 20,
    })
}

fn ipv6(frame: &[u8], at: usize) -> Option<Layers> {
    let header = frame.get(at..at + 40)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let at = at + 40;
    let pseudo = |above: &[u8]| [&header[8..40], &(above.len() as u32).to_be_bytes(), &[0, 0, 0, header[6]]].concat();
    let above = frame.get(at..at + length).filter(|_| [TCP, ICMPV6].contains(&header[6]));
    let above = above.map(|bytes| checksum(&[&pseudo(bytes), bytes]) == 0);
    Some(Layers { outer: None, ip: true, above, about: None, at })
}

/// Puts a right checksum into the header of an IPv4 packet that begins there.
pub(crate) fn set_ipv4_checksum(frame: &mut [u8], at: usize) {
    if let Some(header) = frame.get_mut(at..at + 20) {
        header[10..12].fill(0);
        let sum = checksum(&[header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Puts a right checksum into an ICMP message that begins there, of a packet whose header is right.
pub(crate) fn set_icmp_checksum(frame: &mut [u8], at: usize) {
    let Some(message) = frame.get_mut(at..) else { return };
    message[2..4].fill(0);
    let is_ipv6 = at == ETHERNET + 40;
    let (header, message) = frame.split_at(at);
    let pseudo = if is_ipv6 {
        [&header[22..54], &(message.len() as u32).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat()
    } else {
        Vec::new()
    };
    let sum = checksum(&[&pseudo, message]);
    frame[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
}

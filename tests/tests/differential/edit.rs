//! Frames taken apart and changed, with sums computed the plain way.

use lb_ebpf::cases::checksum;

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// What a frame carries above IP, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: u8,
    pub(crate) protocol: u8,
    pub(crate) at: usize,
    /// Where the packet ends.
    pub(crate) end: usize,
}

/// RFC 1624 equation 3.
fn updated(sum: u16, from: u16, to: u16) -> u16 {
    let mut new = u32::from(!sum) + u32::from(!from) + u32::from(to);
    while new > 0xffff {
        new = (new & 0xffff) + (new >> 16);
    }
    !(new as u16)
}

pub(crate) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

pub(crate) fn set_short(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(pair) = bytes.get_mut(at..at + 2) {
        pair.copy_from_slice(&value.to_be_bytes());
    }
}

/// What is above the IP header of the packet that begins there; options are stepped over, fragments but the first are not
/// looked into.
pub(crate) fn above(frame: &[u8], at: usize) -> Option<Place> {
    let first = *frame.get(at)?;
    match first >> 4 {
        4 => {
            let is_first = short(frame, at + 6)? & 0x1fff == 0;
            let end = at + usize::from(short(frame, at + 2)?);
            let place = Place { version: 4, protocol: *frame.get(at + 9)?, at: at + usize::from(first & 0xf) * 4, end };
            is_first.then_some(place)
        }
        6 => {
            let end = at + 40 + usize::from(short(frame, at + 4)?);
            Some(Place { version: 6, protocol: *frame.get(at + 6)?, at: at + 40, end })
        }
        _ => None,
    }
}

/// What is above IP in a frame.
pub(crate) fn carried(frame: &[u8]) -> Option<Place> {
    match frame.get(12..14)? {
        [8, 0] | [0x86, 0xdd] => above(frame, 14),
        _ => None,
    }
}

/// Whether a frame is ICMP of its version.
pub(crate) fn is_icmp(place: Place) -> bool {
    matches!((place.version, place.protocol), (4, 1) | (6, 58))
}

/// The packet that an ICMP message is about.
pub(crate) fn inner(frame: &[u8]) -> Option<Place> {
    let place = carried(frame).filter(|place| is_icmp(*place))?;
    let inner = above(frame, place.at + 8)?;
    Some(Place { end: inner.end.min(place.end), ..inner })
}

/// Gives one end of a frame of TCP another port where it has this one; of the packet that an ICMP error is about, the other
/// end. What was wrong with checksums stays as wrong as it was.
pub(crate) fn rename(frame: &mut [u8], end: End, from: u16, to: u16) {
    let Some(place) = carried(frame) else { return };
    if place.protocol == 6 {
        rename_tcp(frame, place, end, from, to, place.end);
        return;
    }
    let Some(about) = inner(frame).filter(|inner| inner.protocol == 6) else { return };
    let end = if end == End::Source { End::Destination } else { End::Source };
    let before = short(frame, about.at + 16);
    if !rename_tcp(frame, about, end, from, to, place.end) {
        return;
    }
    let at = place.at + 2;
    let Some(sum) = short(frame, at) else { return };
    let sum = updated(sum, from, to);
    let has_checksum = about.at + 18 <= place.end.min(frame.len());
    let sum = match (before, short(frame, about.at + 16)) {
        (Some(before), Some(after)) if has_checksum => updated(sum, before, after),
        _ => sum,
    };
    set_short(frame, at, sum);
}

fn rename_tcp(frame: &mut [u8], place: Place, end: End, from: u16, to: u16, limit: usize) -> bool {
    let at = place.at + if end == End::Source { 0 } else { 2 };
    if short(frame, at) != Some(from) {
        return false;
    }
    set_short(frame, at, to);
    if place.at + 18 <= limit
        && let Some(sum) = short(frame, place.at + 16)
    {
        set_short(frame, place.at + 16, updated(sum, from, to));
    }
    true
}

/// Puts the right checksum into an IPv4 header, as long as it says it is.
pub(crate) fn right_ip(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&[8, 0]) {
        return;
    }
    let length = usize::from(frame[14] & 0xf) * 4;
    if let Some(header) = frame.get_mut(14..14 + length).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = checksum(&[header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Puts the right checksum into what is above IP: TCP, or ICMP.
pub(crate) fn right_above(frame: &mut [u8]) {
    let Some(place) = carried(frame) else { return };
    let field = place.at + if place.protocol == 6 { 16 } else { 2 };
    let Some(above) = frame.get(place.at..place.end) else { return };
    if field + 2 > place.end {
        return;
    }
    let length = (above.len() as u32).to_be_bytes();
    let addresses = if place.version == 4 { 26..34 } else { 22..54 };
    let has_pseudo = place.protocol != 1;
    set_short(frame, field, 0);
    let pseudo = [&frame[addresses], &length, &[0, 0, 0, place.protocol]].concat();
    let sum = checksum(&[if has_pseudo { &pseudo } else { &[] }, &frame[place.at..place.end]]);
    set_short(frame, field, sum);
}

/// An ICMP error about a frame that a host has got, from somewhere on that host's side.
pub(crate) fn error_about(frame: &[u8], from: std::net::IpAddr, kind: [u8; 2], word: [u8; 4], bytes: usize) -> Vec<u8> {
    let is_six = frame[12] == 0x86;
    let ip = if is_six { 40 } else { 20 };
    let packet = &frame[14..frame.len().min(14 + ip + bytes)];
    let mut error = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
    let total = ip + 8 + packet.len();
    match from {
        std::net::IpAddr::V4(from) => {
            error.extend([0x45, 0xc0]);
            error.extend((total as u16).to_be_bytes());
            error.extend([0x12, 0x34, 0, 0, 61, 1, 0, 0]);
            error.extend(from.octets());
            error.extend(&packet[12..16]);
        }
        std::net::IpAddr::V6(from) => {
            error.extend([0x60, 0, 0, 0]);
            error.extend(((total - 40) as u16).to_be_bytes());
            error.extend([58, 61]);
            error.extend(from.octets());
            error.extend(&packet[8..24]);
        }
    }
    error.extend(kind);
    error.extend([0, 0]);
    error.extend(word);
    error.extend(packet);
    right_ip(&mut error);
    right_above(&mut error);
    error
}

//! Frames made from their fields, with checksums computed the plain way, as an oracle for the incremental one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::header::flag;

/// Ethernet, IP of either version, and TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet destination.
    pub mac_to: [u8; 6],
    /// Ethernet source.
    pub mac_from: [u8; 6],
    /// Source address; of the same version as the destination's.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// IPv4 identification; of IPv6, lower part of the flow label.
    pub identification: u16,
    /// IPv4 flags and fragment offset; IPv6 has none.
    pub fragment: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// TCP flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// TCP options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The bytes, with right lengths and checksums.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.from_port.to_be_bytes());
        tcp.extend(self.to_port.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.push(((20 + self.options.len()) / 4 * 16) as u8);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let sum = checksum(&[&self.pseudo_header(tcp.len()), &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());

        let (ethertype, ip) = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ([0x08, 0x00], self.ipv4(from, to, tcp.len())),
            (from, to) => ([0x86, 0xdd], self.ipv6(sixth(from), sixth(to), tcp.len())),
        };
        let mut bytes = Vec::new();
        bytes.extend(self.mac_to);
        bytes.extend(self.mac_from);
        bytes.extend(ethertype);
        bytes.extend(ip);
        bytes.extend(tcp);
        bytes
    }

    fn ipv4(&self, from: Ipv4Addr, to: Ipv4Addr, length: usize) -> Vec<u8> {
        let mut ip = vec![0x45, 0];
        ip.extend(((20 + length) as u16).to_be_bytes());
        ip.extend(self.identification.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, 6, 0, 0]);
        ip.extend(from.octets());
        ip.extend(to.octets());
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }

    fn ipv6(&self, from: Ipv6Addr, to: Ipv6Addr, length: usize) -> Vec<u8> {
        let mut ip = vec![0x60, 0];
        ip.extend(self.identification.to_be_bytes());
        ip.extend((length as u16).to_be_bytes());
        ip.extend([6, self.ttl]);
        ip.extend(from.octets());
        ip.extend(to.octets());
        ip
    }

    /// The same from and to hosts with IPv6 addresses.
    #[must_use]
    pub fn in_ipv6(self) -> Self {
        Self { from: sixth(self.from).into(), to: sixth(self.to).into(), ..self }
    }

    /// The bytes after a change that makes them wrong; the IPv4 header checksum is put right again.
    #[must_use]
    pub fn bytes_with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.bytes();
        change(&mut bytes);
        if let (true, Some(header)) = (self.to.is_ipv4(), bytes.get_mut(14..34)) {
            header[10..12].copy_from_slice(&[0, 0]);
            let sum = checksum(&[header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The fields of a frame of at least the fixed headers; options and data are left behind.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (from, to, ttl, identification, fragment, tcp) = match bytes.get(12..14)? {
            [0x86, 0xdd] => {
                let ip = bytes.get(14..)?.first_chunk::<40>()?;
                let address = |at: usize| ip[at..].first_chunk::<16>().map(|octets| IpAddr::V6((*octets).into()));
                (address(8)?, address(24)?, ip[7], u16::from_be_bytes([ip[2], ip[3]]), 0, 54)
            }
            _ => {
                let ip = bytes.get(14..)?.first_chunk::<20>()?;
                let address = |at: usize| ip[at..].first_chunk::<4>().map(|octets| IpAddr::V4((*octets).into()));
                let short = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
                (address(12)?, address(16)?, ip[8], short(4), short(6), 34)
            }
        };
        let tcp = bytes.get(tcp..)?.first_chunk::<20>()?;
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        Some(Self {
            mac_to: *bytes.first_chunk()?,
            mac_from: *bytes[6..].first_chunk()?,
            from,
            to,
            from_port: short(0),
            to_port: short(2),
            ttl,
            identification,
            fragment,
            sequence: long(4),
            acknowledgement: long(8),
            flags: tcp[13],
            window: short(14),
            options: Vec::new(),
            payload: Vec::new(),
        })
    }

    /// What its receiver sends back, with the flags and data of this frame.
    ///
    /// It acknowledges a SYN or FIN and no data, as if that were still under way.
    #[must_use]
    pub fn answered(self) -> Self {
        let taken = u32::from(self.flags & (flag::SYN | flag::FIN) != 0);
        Self {
            mac_to: self.mac_from,
            mac_from: self.mac_to,
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            ttl: 64,
            sequence: self.acknowledgement,
            acknowledgement: self.sequence.wrapping_add(taken),
            ..self
        }
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => pseudo_header(&from.octets(), &to.octets(), length, 6),
            (from, to) => pseudo_header(&sixth(from).octets(), &sixth(to).octets(), length, 6),
        }
    }
}

/// The IPv6 address of a host that has this one.
#[must_use]
pub fn sixth(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets().map(u16::from);
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, a, b, c, d)
        }
        IpAddr::V6(address) => address,
    }
}

/// RFC 9293 section 3.1 and RFC 8200 section 8.1, which differ in nothing that a sum sees but the addresses.
pub(super) fn pseudo_header(from: &[u8], to: &[u8], length: usize, protocol: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from);
    bytes.extend(to);
    bytes.extend([0, protocol]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

/// Whether both checksums are right of a frame of IP without options or extension headers, and TCP or ICMP; IPv6 has but one.
#[must_use]
pub fn checksums_are_right(frame: &[u8]) -> (bool, bool) {
    let is_ipv6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
    let (length, addresses) = if is_ipv6 { (40, 8) } else { (20, 12) };
    let Some(header) = frame.get(14..14 + length) else {
        return (false, false);
    };
    let short = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let total = if is_ipv6 { 40 + short(4) } else { short(2) };
    let header_is_right = is_ipv6 || checksum(&[header]) == 0;
    let Some(tcp) = frame.get(14 + length..14 + total) else {
        return (header_is_right, false);
    };
    let (from, to) = header[addresses..].split_at((length - addresses) / 2);
    let pseudo_header = match header[if is_ipv6 { 6 } else { 9 }] {
        1 if !is_ipv6 => Vec::new(),
        58 if is_ipv6 => pseudo_header(from, to, tcp.len(), 58),
        _ => pseudo_header(from, to, tcp.len(), 6),
    };
    (header_is_right, checksum(&[&pseudo_header, tcp]) == 0)
}

/// The same frame between hosts with IPv6 addresses; `None` where it is not sound IPv4 and TCP to begin with.
#[must_use]
pub(super) fn in_ipv6(bytes: &[u8]) -> Option<Vec<u8>> {
    let ip = bytes.get(14..34)?;
    let is_plain = bytes[12..14] == [0x08, 0x00] && ip[0] == 0x45 && ip[9] == 6 && ip[6..8] == [0x40, 0];
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if !is_plain || total < 40 || checksums_are_right(bytes) != (true, true) {
        return None;
    }
    let segment = bytes.get(34..14 + total)?;
    let header = usize::from(segment[12] >> 4) * 4;
    let (options, payload) = (segment.get(20..header)?.to_vec(), segment.get(header..)?.to_vec());
    let mut six = Frame { options, payload, ..Frame::parse(bytes)?.in_ipv6() }.bytes();
    // Reserved bits and the urgent pointer are none of a frame's fields here.
    if segment[12] & 0xf != 0 || segment[18..20] != [0, 0] {
        return None;
    }
    six.extend(&bytes[14 + total..]);
    Some(six)
}

/// RFC 1071, over parts of which all but the last have even length.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

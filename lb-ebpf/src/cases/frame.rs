//! Frames made from their fields, with checksums computed the plain way, as an oracle for the incremental one.

use core::net::Ipv4Addr;

use crate::net::header::flag;

/// Ethernet, IPv4 and TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet destination.
    pub mac_to: [u8; 6],
    /// Ethernet source.
    pub mac_from: [u8; 6],
    /// Source address.
    pub from: Ipv4Addr,
    /// Destination address.
    pub to: Ipv4Addr,
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// Time to live.
    pub ttl: u8,
    /// IPv4 identification.
    pub identification: u16,
    /// IPv4 flags and fragment offset.
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

        let mut ip = vec![0x45, 0];
        ip.extend(((20 + tcp.len()) as u16).to_be_bytes());
        ip.extend(self.identification.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, 6, 0, 0]);
        ip.extend(self.from.octets());
        ip.extend(self.to.octets());
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut bytes = Vec::new();
        bytes.extend(self.mac_to);
        bytes.extend(self.mac_from);
        bytes.extend([0x08, 0x00]);
        bytes.extend(ip);
        bytes.extend(tcp);
        bytes
    }

    /// The bytes after a change that makes them wrong; the IPv4 header checksum is put right again.
    #[must_use]
    pub fn bytes_with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.bytes();
        change(&mut bytes);
        if let Some(header) = bytes.get_mut(14..34) {
            header[10..12].copy_from_slice(&[0, 0]);
            let sum = checksum(&[header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The fields of a frame of at least the fixed headers; options and data are left behind.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<54>()?;
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        Some(Self {
            mac_to: *bytes.first_chunk()?,
            mac_from: *bytes[6..].first_chunk()?,
            from: long(26).into(),
            to: long(30).into(),
            from_port: short(34),
            to_port: short(36),
            ttl: bytes[22],
            identification: short(18),
            fragment: short(20),
            sequence: long(38),
            acknowledgement: long(42),
            flags: bytes[47],
            window: short(48),
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
        pseudo_header(self.from.octets(), self.to.octets(), length)
    }
}

fn pseudo_header(from: [u8; 4], to: [u8; 4], length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from);
    bytes.extend(to);
    bytes.extend([0, 6]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

/// Whether both checksums of an IPv4 and TCP frame without IP options are right.
#[must_use]
pub fn checksums_are_right(frame: &[u8]) -> (bool, bool) {
    let Some(header) = frame.get(14..34) else {
        return (false, false);
    };
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let Some(tcp) = frame.get(34..14 + total) else {
        return (checksum(&[header]) == 0, false);
    };
    let (mut from, mut to) = ([0; 4], [0; 4]);
    from.copy_from_slice(&header[12..16]);
    to.copy_from_slice(&header[16..20]);
    (checksum(&[header]) == 0, checksum(&[&pseudo_header(from, to, tcp.len()), tcp]) == 0)
}

/// RFC 1071, over parts of which all but the last have even length.
fn checksum(parts: &[&[u8]]) -> u16 {
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

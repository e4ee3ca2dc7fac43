//! The IPv4 header as a raw socket delivers it: found, measured and stepped over, never trusted.

use std::net::Ipv4Addr;

use super::{Packet, WireError};

/// IP protocol number of VRRP (RFC 9568 section 5.1.1.4).
pub const PROTOCOL_VRRP: u8 = 112;
/// The only TTL a VRRP packet may arrive with: it has not crossed a router (RFC 9568 section 5.1.1.3).
pub const TTL: u8 = 255;
/// Where adverts go when no peers are named (RFC 9568 section 5.1.1.2).
pub const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Length of a header without options.
const HEADER: usize = 20;
/// "More fragments" and the offset.
const FRAGMENT_BITS: u16 = 0x3fff;

/// Reads a packet of protocol 112 as a raw IPv4 socket delivers it; the payload ends with the packet's own total length. The
/// kernel has verified the header's checksum.
///
/// # Errors
/// A [`WireError`] with an `Ipv4` name: header short or impossible, lengths that do not fit, a fragment, another protocol.
pub fn parse_ipv4_packet(bytes: &[u8]) -> Result<Packet<'_>, WireError> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(WireError::Ipv4Truncated)?;
    let [first, _tos, t0, t1, _, _, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let version = first >> 4;
    if version != 4 {
        return Err(WireError::Ipv4Version(version));
    }
    let header_length = usize::from(first & 0x0f) * 4;
    if header_length < HEADER || header_length > bytes.len() {
        return Err(WireError::Ipv4HeaderLength(header_length));
    }
    let total = usize::from(u16::from_be_bytes([t0, t1]));
    let payload = bytes.get(header_length..total).ok_or(WireError::Ipv4TotalLength(total))?;
    if u16::from_be_bytes([f0, f1]) & FRAGMENT_BITS != 0 {
        return Err(WireError::Ipv4Fragment);
    }
    if protocol != PROTOCOL_VRRP {
        return Err(WireError::Ipv4Protocol(protocol));
    }
    let (src, dst) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    Ok(Packet { src: src.into(), dst: dst.into(), ttl, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: usize, payload: &[u8], padding: usize) -> Vec<u8> {
        let header = HEADER + options;
        let total = u16::try_from(header + payload.len()).unwrap();
        let mut bytes = vec![0x40 | u8::try_from(header / 4).unwrap(), 0xc0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1, 0x40, 0, 255, 112, 0, 0, 192, 0, 2, 1, 224, 0, 0, 18]);
        bytes.resize(header, 1);
        bytes.extend(payload);
        bytes.resize(bytes.len() + padding, 0xee);
        bytes
    }

    #[test]
    fn steps_over_options_and_leaves_padding_out() {
        for options in [0, 4, 40] {
            for padding in [0, 1, 14] {
                let bytes = packet(options, b"payload", padding);
                let parsed = parse_ipv4_packet(&bytes).unwrap();
                assert_eq!(parsed.payload, b"payload");
                assert_eq!(parsed.src, Ipv4Addr::new(192, 0, 2, 1));
                assert_eq!((parsed.dst, parsed.ttl), (MULTICAST.into(), TTL));
            }
        }
        assert!(parse_ipv4_packet(&packet(0, b"", 0)).unwrap().payload.is_empty());
    }

    #[test]
    fn names_every_refusal() {
        let with = |at: usize, value: u8| {
            let mut bytes = packet(0, b"payload", 0);
            bytes[at] = value;
            bytes
        };
        for (bytes, error) in [
            (Vec::new(), WireError::Ipv4Truncated),
            (packet(0, b"", 0)[..19].to_vec(), WireError::Ipv4Truncated),
            (with(0, 0x65), WireError::Ipv4Version(6)),
            (with(0, 0x44), WireError::Ipv4HeaderLength(16)),
            (with(0, 0x4f), WireError::Ipv4HeaderLength(60)),
            (with(3, 19), WireError::Ipv4TotalLength(19)),
            (with(3, 28), WireError::Ipv4TotalLength(28)),
            (with(2, 0xff), WireError::Ipv4TotalLength(0xff1b)),
            (with(6, 0x20), WireError::Ipv4Fragment),
            (with(7, 1), WireError::Ipv4Fragment),
            (with(9, 6), WireError::Ipv4Protocol(6)),
        ] {
            assert_eq!(parse_ipv4_packet(&bytes), Err(error), "{bytes:?}");
        }
        assert!(parse_ipv4_packet(&with(6, 0x40)).is_ok(), "don't fragment is no fragment");
    }
}

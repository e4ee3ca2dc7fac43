//! A RST (RFC 9293 section 3.5.2) as a whole IP packet, in the name of one end of a connection to the other.

use std::net::SocketAddr;

use super::checksum::Sum;

const TCP: u8 = 6;
const HOPS: u8 = 64;
const RST: u8 = 0x04;
/// Bytes of a TCP header.
const LENGTH: u8 = 20;

/// The packet that ends the connection between `from` and `to` at `to`, which expects `sequence` next and believes no
/// other number (RFC 5961 section 3.2). `None`: the two are of different IP versions.
#[must_use]
pub fn reset(from: SocketAddr, to: SocketAddr, sequence: u32) -> Option<Vec<u8>> {
    let mut tcp = Vec::with_capacity(usize::from(LENGTH));
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0, 0, 0, 0, (LENGTH / 4) << 4, RST, 0, 0, 0, 0, 0, 0]);
    let sum = Sum::pseudo_header(from.ip(), to.ip(), TCP, LENGTH.into()).bytes(&tcp).checksum();
    let mut packet = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let mut ip = vec![0x45, 0, 0, 20 + LENGTH, 0, 0, 0x40, 0, HOPS, TCP, 0, 0];
            ip.extend(from.ip().octets());
            ip.extend(to.ip().octets());
            let sum = Sum::default().bytes(&ip).checksum();
            put(&mut ip, 10, sum);
            ip
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let mut ip = vec![0x60, 0, 0, 0, 0, LENGTH, TCP, HOPS];
            ip.extend(from.ip().octets());
            ip.extend(to.ip().octets());
            ip
        }
        _ => return None,
    };
    put(&mut tcp, 16, sum);
    packet.extend(tcp);
    Some(packet)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn both_versions_have_right_checksums_and_the_number_asked_for() {
        for (from, to, header) in
            [("192.0.2.100:8443", "198.51.100.7:40000", 20), ("[2001:db8::100]:8443", "[2001:db8::7]:40000", 40)]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let packet = reset(from, to, 0xdead_beef).unwrap();
            let (ip, tcp) = packet.split_at(header);
            assert_eq!(tcp.len(), 20);
            if header == 20 {
                assert!(Sum::default().bytes(ip).is_valid());
                assert_eq!(ip[2..4], 40_u16.to_be_bytes());
            } else {
                assert_eq!(ip[4..6], 20_u16.to_be_bytes());
            }
            assert!(Sum::pseudo_header(from.ip(), to.ip(), 6, 20).bytes(tcp).is_valid());
            assert_eq!(tcp[..4], [0x20, 0xfb, 0x9c, 0x40]);
            assert_eq!(tcp[4..8], 0xdead_beef_u32.to_be_bytes());
            assert_eq!(tcp[12..14], [0x50, 0x04]);
        }
        let other: IpAddr = "::1".parse().unwrap();
        assert_eq!(reset("192.0.2.1:1".parse().unwrap(), SocketAddr::new(other, 2), 0), None);
    }
}

//! What authenticates an advert between nodes that share a key: 36 octets behind the message of version 3, which others ignore
//! or refuse. All numbers are big-endian.
//!
//! ```text
//! |      'X'      |      'V'      |   format: 1   |    key id     |
//! |                           sequence (8)                        |
//! |                      reserved, zero (8)                       |
//! |            HMAC-SHA256, its first 16 octets (16)              |
//! ```
//! The code covers a name of this format, source and destination, the message, and the trailer up to the code.

use std::net::IpAddr;

use super::{HEADER, width};
use crate::family::Family;

/// Octets of a trailer.
pub const LENGTH: usize = 36;
/// Octets of its code.
pub const CODE: usize = 16;
const SIGNED: usize = LENGTH - CODE;
const MAGIC: [u8; 3] = [b'X', b'V', 1];
/// No other use of the key signs anything that begins like this.
const CONTEXT: &[u8] = b"xvip vrrp advert 1";

/// A trailer as received, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Which key it claims to be made with.
    pub key_id: u8,
    /// Grows with every advert of its sender.
    pub sequence: u64,
    /// To be compared with the code of [`Self::signed`].
    pub code: [u8; CODE],
    /// What the code is of.
    pub signed: Vec<u8>,
}

impl Trailer {
    /// Takes the trailer of a packet apart; `None` where there is none, or anything else behind the message.
    #[must_use]
    pub fn read(payload: &[u8], src: IpAddr, dst: IpAddr) -> Option<Self> {
        let count = usize::from(*payload.get(3)?);
        let message = payload.get(..HEADER + count * width(Family::of(src)))?;
        let trailer = payload.get(message.len()..)?;
        let (head, code) = trailer.split_at_checked(SIGNED)?;
        let code = code.try_into().ok()?;
        let [m0, m1, m2, key_id, s0, s1, s2, s3, s4, s5, s6, s7, reserved @ ..] = head else { return None };
        if [*m0, *m1, *m2] != MAGIC || reserved.iter().any(|octet| *octet != 0) {
            return None;
        }
        Some(Self {
            key_id: *key_id,
            sequence: u64::from_be_bytes([*s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7]),
            code,
            signed: signed(message, head, src, dst),
        })
    }

    /// Puts a trailer behind a message; `code` makes the code of what it is given.
    pub fn append(
        message: &mut Vec<u8>, key_id: u8, sequence: u64, src: IpAddr, dst: IpAddr,
        code: impl FnOnce(&[u8]) -> [u8; CODE],
    ) {
        let mut head = [0; SIGNED];
        let fields = MAGIC.into_iter().chain([key_id]).chain(sequence.to_be_bytes());
        for (octet, field) in head.iter_mut().zip(fields) {
            *octet = field;
        }
        let code = code(&signed(message, &head, src, dst));
        message.extend(head);
        message.extend(code);
    }
}

fn signed(message: &[u8], head: &[u8], src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CONTEXT.len() + 32 + message.len() + head.len());
    bytes.extend(CONTEXT);
    for address in [src, dst] {
        bytes.extend(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        });
    }
    bytes.extend(message);
    bytes.extend(head);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vrrp::{Addresses, Advert, ChecksumForm};

    const SRC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 21));
    const DST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 18));

    fn message() -> Vec<u8> {
        let advert = Advert {
            vrid: crate::units::Vrid::new(51).unwrap(),
            priority: crate::units::WirePriority::new(100),
            interval: crate::units::Centis::SECOND,
            addresses: Addresses::new([std::net::Ipv4Addr::new(192, 0, 2, 100)]).unwrap(),
        };
        advert.emit(SRC, DST, ChecksumForm::Rfc5798)
    }

    /// Stands in for the code: says whether anything that is signed has changed.
    fn toy(signed: &[u8]) -> [u8; CODE] {
        let sum = signed.iter().fold(0_u128, |sum, octet| sum.wrapping_mul(257).wrapping_add((*octet).into()));
        sum.to_be_bytes()
    }

    #[test]
    fn a_trailer_is_read_as_written_and_the_message_stays() {
        let mut bytes = message();
        Trailer::append(&mut bytes, 7, 0x0102_0304_0506_0708, SRC, DST, toy);
        assert_eq!(bytes.len(), message().len() + LENGTH);
        assert_eq!(bytes[..message().len()], message());
        let trailer = Trailer::read(&bytes, SRC, DST).unwrap();
        assert_eq!((trailer.key_id, trailer.sequence), (7, 0x0102_0304_0506_0708));
        assert_eq!(toy(&trailer.signed), trailer.code);
        assert!(Advert::parse(&bytes, SRC, DST).is_ok(), "others may ignore it");
    }

    #[test]
    fn every_bit_is_covered() {
        let mut bytes = message();
        Trailer::append(&mut bytes, 7, 9, SRC, DST, toy);
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let believed = Trailer::read(&bent, SRC, DST).is_some_and(|trailer| toy(&trailer.signed) == trailer.code);
            assert!(!believed, "bit {bit}");
        }
        let elsewhere = Trailer::read(&bytes, SRC, SRC).unwrap();
        assert_ne!(toy(&elsewhere.signed), elsewhere.code, "the destination too");
        for length in 0..bytes.len() {
            assert_eq!(Trailer::read(&bytes[..length], SRC, DST), None);
        }
        bytes.push(0);
        assert_eq!(Trailer::read(&bytes, SRC, DST), None, "nothing behind it");
    }
}

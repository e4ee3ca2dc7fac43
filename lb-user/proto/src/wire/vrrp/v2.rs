//! The advertisement of version 2, RFC 3768 section 5 and RFC 2338 section 5.3.6 for passwords: IPv4 alone, whole seconds.
//!
//! ```text
//! |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
//! |   Auth Type   |   Adver Int   |           Checksum            |
//! |                        IP Address(es)                         |
//! |                  Authentication Data (8 octets)               |
//! ```

use std::net::Ipv4Addr;

use super::{ADVERTISEMENT, Addresses, Advert, CHECKSUM, HEADER};
use crate::units::{Centis, Vrid, WirePriority};
use crate::wire::checksum::Sum;
use crate::wire::{WireError, take};

const VERSION: u8 = 2;
/// `Auth Type` of no authentication and of a password in the clear (RFC 2338 section 5.3.6).
const NONE: u8 = 0;
const SIMPLE: u8 = 1;

/// A password as it travels: 8 octets, filled up with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password([u8; 8]);

impl Password {
    /// Octets there is room for.
    pub const LONGEST: usize = 8;

    /// Of a longer text the first 8 octets count, as with everybody else.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut octets = [0; Self::LONGEST];
        for (octet, byte) in octets.iter_mut().zip(text.bytes()) {
            *octet = byte;
        }
        Self(octets)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Reads a message of version 2, with the password it carries, if it does. Bytes behind it are ignored.
///
/// # Errors
/// The first check of RFC 3768 section 7.1 that fails, except those on TTL, peer and password.
pub fn parse(bytes: &[u8]) -> Result<(Advert, Option<Password>), WireError> {
    let mut rest = bytes;
    let [kind, vrid, priority, count, auth_type, seconds, _, _] =
        *take::<HEADER>(&mut rest).ok_or(WireError::Truncated)?;
    if kind >> 4 != VERSION {
        return Err(WireError::Version(kind >> 4));
    }
    if kind & 0x0f != ADVERTISEMENT {
        return Err(WireError::Type(kind & 0x0f));
    }
    if count == 0 {
        return Err(WireError::CountZero);
    }
    let length = HEADER + usize::from(count) * 4 + Password::LONGEST;
    let message = bytes.get(..length).ok_or(WireError::Truncated)?;
    if !Sum::default().bytes(message).is_valid() {
        return Err(WireError::Checksum);
    }
    let mut addresses = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        addresses.push(Ipv4Addr::from(*take::<4>(&mut rest).ok_or(WireError::Truncated)?));
    }
    let data = Password(*take::<{ Password::LONGEST }>(&mut rest).ok_or(WireError::Truncated)?);
    let password = match auth_type {
        NONE => None,
        SIMPLE => Some(data),
        other => return Err(WireError::AuthType(other)),
    };
    if seconds == 0 {
        return Err(WireError::IntervalZero);
    }
    let advert = Advert {
        vrid: Vrid::new(vrid).ok_or(WireError::VridZero)?,
        priority: WirePriority::new(priority),
        interval: Centis::saturating(u16::from(seconds) * Centis::SECOND.get()),
        addresses: Addresses::new(addresses).map_err(|_| WireError::CountZero)?,
    };
    Ok((advert, password))
}

/// The message; the interval is rounded up to whole seconds.
#[must_use]
pub fn emit(advert: &Advert, password: Option<Password>) -> Vec<u8> {
    let seconds = u8::try_from(advert.interval.get().div_ceil(Centis::SECOND.get())).unwrap_or(u8::MAX);
    let (auth_type, data) = match password {
        Some(Password(data)) => (SIMPLE, data),
        None => (NONE, [0; Password::LONGEST]),
    };
    let addresses = &advert.addresses;
    let mut bytes = Vec::with_capacity(HEADER + addresses.as_slice().len() * 4 + Password::LONGEST);
    bytes.extend([VERSION << 4 | ADVERTISEMENT, advert.vrid.get(), advert.priority.get(), addresses.count()]);
    bytes.extend([auth_type, seconds, 0, 0]);
    bytes.extend(addresses.octets());
    bytes.extend(data);
    let checksum = Sum::default().bytes(&bytes).checksum();
    if let Some(field) = bytes.get_mut(CHECKSUM) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert(priority: u8, seconds: u16) -> Advert {
        Advert {
            vrid: Vrid::new(51).unwrap(),
            priority: WirePriority::new(priority),
            interval: Centis::new(seconds * 100).unwrap(),
            addresses: Addresses::new([Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 101)]).unwrap(),
        }
    }

    /// Taken from the wire: keepalived 2.2.7, virtual_router_id 51, priority 150, auth_pass secret12, one address.
    #[test]
    fn the_layout_is_that_of_the_specification() {
        let bytes = emit(&advert(150, 2), Some(Password::new("secret")));
        assert_eq!(bytes[..6], [0x21, 51, 150, 2, 1, 2]);
        assert_eq!(bytes[8..16], [192, 0, 2, 100, 192, 0, 2, 101]);
        assert_eq!(bytes[16..], *b"secret\0\0");
        assert_eq!(emit(&advert(150, 2), None)[16..], [0; 8]);
    }

    #[test]
    fn what_is_emitted_parses_to_the_same() {
        for password in [None, Some(Password::new("")), Some(Password::new("12345678")), Some(Password::new("é"))] {
            for priority in [0, 1, 100, 255] {
                for seconds in [1, 3, 40] {
                    let mut bytes = emit(&advert(priority, seconds), password);
                    bytes.extend([0xff; 3]);
                    assert_eq!(parse(&bytes), Ok((advert(priority, seconds), password)));
                }
            }
        }
        assert_eq!(Password::new("12345678"), Password::new("123456789"), "the first eight count");
    }

    #[test]
    fn damaged_adverts_are_classified() {
        let good = emit(&advert(100, 1), Some(Password::new("secret")));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes[CHECKSUM].fill(0);
            let checksum = Sum::default().bytes(&bytes).checksum();
            bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
            parse(&bytes)
        };
        assert_eq!(with(0, 0x31), Err(WireError::Version(3)));
        assert_eq!(with(0, 0x22), Err(WireError::Type(2)));
        assert_eq!(with(1, 0), Err(WireError::VridZero));
        assert_eq!(with(3, 0), Err(WireError::CountZero));
        assert_eq!(with(3, 3), Err(WireError::Truncated));
        assert_eq!(with(4, 2), Err(WireError::AuthType(2)), "the authentication header of RFC 2338");
        assert_eq!(with(5, 0), Err(WireError::IntervalZero));
        assert_eq!(with(5, 255).unwrap().0.interval, Centis::MAX, "longer than ours can be");
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), Err(WireError::Truncated));
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            assert!(parse(&bytes).is_err(), "{at}");
        }
    }
}

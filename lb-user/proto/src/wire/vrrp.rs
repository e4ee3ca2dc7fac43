//! The VRRPv3 advertisement over IPv4, RFC 9568 section 5.
//!
//! ```text
//!  0               1               2               3
//! |Version| Type  | Virtual Rtr ID|   Priority    |  IPvX Count   |
//! |Resrv. |  Max Advertise Int    |           Checksum            |
//! |                       IPvX Address(es)                        |
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::checksum::Sum;
use super::ipv4::PROTOCOL_VRRP;
use super::{WireError, take};
use crate::units::{Centis, Vrid, WirePriority};

/// The version spoken here.
const VERSION: u8 = 3;
/// The one message type there is.
const ADVERTISEMENT: u8 = 1;
/// Bytes before the addresses.
const HEADER: usize = 8;
/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 6..8;

/// How the checksum of an advert over IPv4 is computed; the specifications differ and so do the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumForm {
    /// With the IPv4 pseudo-header (RFC 5798 section 5.2.8; keepalived 2.2 and FRR 8 accept only this).
    Rfc5798,
    /// Over the VRRP message alone (RFC 9568 section 5.2.8).
    Rfc9568,
}

impl ChecksumForm {
    /// Label for counters and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rfc5798 => "rfc5798",
            Self::Rfc9568 => "rfc9568",
        }
    }
}

/// An advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// The virtual router it speaks for.
    pub vrid: Vrid,
    /// The sender's priority; zero releases the addresses.
    pub priority: WirePriority,
    /// How often the sender says this.
    pub interval: Centis,
    /// The virtual addresses.
    pub addresses: Addresses,
}

impl Advert {
    /// Reads a VRRP message that came from `src` to `dst`, and tells which form of the checksum it carries (RFC 5798
    /// if both fit). Bytes after the last counted address are ignored.
    ///
    /// # Errors
    /// The first check of RFC 9568 section 7.1 that fails, except those on TTL and peer, which are the state machine's.
    pub fn parse(bytes: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> Result<(Self, ChecksumForm), WireError> {
        let mut rest = bytes;
        let [kind, vrid, priority, count, i0, i1, _, _] = *take::<HEADER>(&mut rest).ok_or(WireError::Truncated)?;
        if kind >> 4 != VERSION {
            return Err(WireError::Version(kind >> 4));
        }
        if kind & 0x0f != ADVERTISEMENT {
            return Err(WireError::Type(kind & 0x0f));
        }
        if count == 0 {
            return Err(WireError::CountZero);
        }
        let message = bytes.get(..HEADER + usize::from(count) * 4).ok_or(WireError::Truncated)?;
        let form = checksum_form(message, src, dst).ok_or(WireError::Checksum)?;
        let mut addresses = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let octets = take::<4>(&mut rest).ok_or(WireError::Truncated)?;
            addresses.push(Ipv4Addr::from(*octets));
        }
        let advert = Self {
            vrid: Vrid::new(vrid).ok_or(WireError::VridZero)?,
            priority: WirePriority::new(priority),
            interval: Centis::new(u16::from_be_bytes([i0, i1]) & Centis::MAX.get()).ok_or(WireError::IntervalZero)?,
            addresses: Addresses::new(addresses).map_err(|_| WireError::CountZero)?,
        };
        Ok((advert, form))
    }

    /// The message for one destination; the checksum may depend on both addresses.
    #[must_use]
    pub fn emit(&self, src: Ipv4Addr, dst: Ipv4Addr, form: ChecksumForm) -> Vec<u8> {
        let [i0, i1] = self.interval.get().to_be_bytes();
        let mut bytes = Vec::with_capacity(HEADER + self.addresses.as_slice().len() * 4);
        bytes.extend([VERSION << 4 | ADVERTISEMENT, self.vrid.get(), self.priority.get(), self.addresses.count()]);
        bytes.extend([i0, i1, 0, 0]);
        for address in self.addresses.as_slice() {
            bytes.extend(address.octets());
        }
        let checksum = sum(&bytes, src, dst, form).checksum();
        if let Some(field) = bytes.get_mut(CHECKSUM) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }
}

fn checksum_form(message: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> Option<ChecksumForm> {
    [ChecksumForm::Rfc5798, ChecksumForm::Rfc9568].into_iter().find(|form| sum(message, src, dst, *form).is_valid())
}

fn sum(message: &[u8], src: Ipv4Addr, dst: Ipv4Addr, form: ChecksumForm) -> Sum {
    let start = match form {
        // The longest message, with 255 addresses, has 1028 bytes.
        ChecksumForm::Rfc5798 => {
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
            Sum::pseudo_header(src, dst, PROTOCOL_VRRP, length)
        }
        ChecksumForm::Rfc9568 => Sum::default(),
    };
    start.bytes(message)
}

/// The virtual addresses of a router: 1 to 255, in the order of the configuration or the wire. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Arc<[Ipv4Addr]>);

/// A list of virtual addresses that no advert can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressesError {
    /// None at all.
    #[error("a virtual router needs an address")]
    Empty,
    /// More than the count field holds.
    #[error("a virtual router has at most 255 addresses, not {0}")]
    TooMany(usize),
}

impl Addresses {
    /// Takes 1 to 255 addresses.
    ///
    /// # Errors
    /// None, or more than 255.
    pub fn new(addresses: impl Into<Arc<[Ipv4Addr]>>) -> Result<Self, AddressesError> {
        let addresses = addresses.into();
        match addresses.len() {
            0 => Err(AddressesError::Empty),
            1..=255 => Ok(Self(addresses)),
            more => Err(AddressesError::TooMany(more)),
        }
    }

    /// In order.
    #[must_use]
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        &self.0
    }

    /// Whether both name the same addresses, in whatever order.
    #[must_use]
    pub fn same_set(&self, other: &Self) -> bool {
        self == other || self.sorted() == other.sorted()
    }

    fn sorted(&self) -> Vec<Ipv4Addr> {
        let mut sorted = self.0.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        sorted
    }

    /// As the count field has it.
    fn count(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests;

//! The VRRPv3 advertisement, RFC 9568 section 5: the same over both families but for the width of the addresses and, over IPv6,
//! a checksum that always covers the pseudo-header.
//!
//! ```text
//!  0               1               2               3
//! |Version| Type  | Virtual Rtr ID|   Priority    |  IPvX Count   |
//! |Resrv. |  Max Advertise Int    |           Checksum            |
//! |                       IPvX Address(es)                        |
//! ```

pub mod trailer;
pub mod v2;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::checksum::Sum;
use super::ipv4::PROTOCOL_VRRP;
use super::{WireError, take};
use crate::family::Family;
use crate::units::{Centis, Vrid, WirePriority};

/// The version spoken here.
const VERSION: u8 = 3;
/// The one message type there is.
const ADVERTISEMENT: u8 = 1;
/// Bytes before the addresses.
const HEADER: usize = 8;
/// Where the checksum is.
const CHECKSUM: std::ops::Range<usize> = 6..8;

/// How the checksum of an advert over IPv4 is computed; the specifications differ and so do the peers. Over IPv6 there is but
/// one, with the pseudo-header.
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
    /// if both fit, and always over IPv6). The family of `src` is that of the virtual addresses. Bytes after the last counted
    /// address are ignored.
    ///
    /// # Errors
    /// The first check of RFC 9568 section 7.1 that fails, except those on TTL and peer, which are the state machine's.
    pub fn parse(
        bytes: &[u8], src: impl Into<IpAddr>, dst: impl Into<IpAddr>,
    ) -> Result<(Self, ChecksumForm), WireError> {
        let (src, dst) = (src.into(), dst.into());
        let family = Family::of(src);
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
        let message = bytes.get(..HEADER + usize::from(count) * width(family)).ok_or(WireError::Truncated)?;
        let form = checksum_form(message, src, dst).ok_or(WireError::Checksum)?;
        let mut addresses = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let address = match family {
                Family::V4 => take(&mut rest).map(|octets| Ipv4Addr::from(*octets).into()),
                Family::V6 => take(&mut rest).map(|octets| Ipv6Addr::from(*octets).into()),
            };
            addresses.push(address.ok_or(WireError::Truncated)?);
        }
        let advert = Self {
            vrid: Vrid::new(vrid).ok_or(WireError::VridZero)?,
            priority: WirePriority::new(priority),
            interval: Centis::new(u16::from_be_bytes([i0, i1]) & Centis::MAX.get()).ok_or(WireError::IntervalZero)?,
            addresses: Addresses::new::<IpAddr>(addresses).map_err(|_| WireError::CountZero)?,
        };
        Ok((advert, form))
    }

    /// The message for one destination; the checksum may depend on both addresses, which are of the family of the virtual
    /// ones.
    #[must_use]
    pub fn emit(&self, src: impl Into<IpAddr>, dst: impl Into<IpAddr>, form: ChecksumForm) -> Vec<u8> {
        let [i0, i1] = self.interval.get().to_be_bytes();
        let mut bytes = Vec::with_capacity(HEADER + self.addresses.as_slice().len() * width(self.addresses.family()));
        bytes.extend([VERSION << 4 | ADVERTISEMENT, self.vrid.get(), self.priority.get(), self.addresses.count()]);
        bytes.extend([i0, i1, 0, 0]);
        bytes.extend(self.addresses.octets());
        let checksum = sum(&bytes, src.into(), dst.into(), form).checksum();
        if let Some(field) = bytes.get_mut(CHECKSUM) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }
}

/// Bytes of an address.
const fn width(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

fn checksum_form(message: &[u8], src: IpAddr, dst: IpAddr) -> Option<ChecksumForm> {
    [ChecksumForm::Rfc5798, ChecksumForm::Rfc9568].into_iter().find(|form| sum(message, src, dst, *form).is_valid())
}

fn sum(message: &[u8], src: IpAddr, dst: IpAddr, form: ChecksumForm) -> Sum {
    let start = match (form, Family::of(src)) {
        (ChecksumForm::Rfc9568, Family::V4) => Sum::default(),
        // The longest message, with 255 IPv6 addresses, has 4088 bytes.
        (ChecksumForm::Rfc5798, Family::V4) | (_, Family::V6) => {
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
            Sum::pseudo_header(src, dst, PROTOCOL_VRRP, length)
        }
    };
    start.bytes(message)
}

/// The virtual addresses of a router: 1 to 255 of one family, in the order of the configuration or the wire, except that over
/// IPv6 link-local addresses come first, where RFC 9568 section 5.2.9 wants one. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    family: Family,
    list: Arc<[IpAddr]>,
}

/// A list of virtual addresses that no advert can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressesError {
    /// None at all.
    #[error("a virtual router needs an address")]
    Empty,
    /// More than the count field holds.
    #[error("a virtual router has at most 255 addresses, not {0}")]
    TooMany(usize),
    /// Both IPv4 and IPv6.
    #[error("the addresses of a virtual router are IPv4 or IPv6, not both")]
    Mixed,
}

impl Addresses {
    /// Takes 1 to 255 addresses of one family.
    ///
    /// # Errors
    /// None, more than 255, or of both families.
    pub fn new<A: Into<IpAddr>>(addresses: impl IntoIterator<Item = A>) -> Result<Self, AddressesError> {
        let mut list: Vec<IpAddr> = addresses.into_iter().map(Into::into).collect();
        let family = Family::of(*list.first().ok_or(AddressesError::Empty)?);
        if list.len() > 255 {
            return Err(AddressesError::TooMany(list.len()));
        }
        if list.iter().any(|address| Family::of(*address) != family) {
            return Err(AddressesError::Mixed);
        }
        // Stable: the order among themselves stays.
        list.sort_by_key(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()));
        Ok(Self { family, list: list.into() })
    }

    /// The family of all of them.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// In order.
    #[must_use]
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.list
    }

    /// Whether both name the same addresses, in whatever order.
    #[must_use]
    pub fn same_set(&self, other: &Self) -> bool {
        self == other || self.sorted() == other.sorted()
    }

    fn sorted(&self) -> Vec<IpAddr> {
        let mut sorted = self.list.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        sorted
    }

    /// As they are on the wire.
    fn octets(&self) -> Vec<u8> {
        let octets = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        self.list.iter().flat_map(octets).collect()
    }

    /// As the count field has it.
    fn count(&self) -> u8 {
        u8::try_from(self.list.len()).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests;

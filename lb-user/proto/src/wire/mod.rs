//! Bytes: what xvip reads from and writes to the wire. Parsers are total; every refusal has its own name.

use std::net::IpAddr;

pub mod arp;
mod checksum;
pub mod ipv4;
pub mod ipv6;
pub mod ndisc;
pub mod neighbour;
pub mod peer;
pub mod reset;
pub mod vrrp;

/// Why bytes were refused. Each cause is also a counter: [`WireError::reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than an IPv4 header.
    #[error("the IPv4 header is cut short")]
    Ipv4Truncated,
    /// The version field is not 4.
    #[error("the IP version is {0}, not 4")]
    Ipv4Version(u8),
    /// The header claims less than 20 bytes, or more than there are.
    #[error("the IPv4 header length of {0} bytes is impossible")]
    Ipv4HeaderLength(usize),
    /// The packet claims less than its header, or more than there is.
    #[error("the IPv4 total length of {0} bytes is impossible")]
    Ipv4TotalLength(usize),
    /// Part of a packet.
    #[error("the IPv4 packet is a fragment")]
    Ipv4Fragment,
    /// Not VRRP.
    #[error("the IP protocol is {0}, not 112")]
    Ipv4Protocol(u8),
    /// Fewer bytes than the VRRP header and the addresses it counts.
    #[error("the advert is cut short")]
    Truncated,
    /// Another VRRP version (RFC 9568 section 7.1).
    #[error("the VRRP version is {0}, which is not this virtual router's")]
    Version(u8),
    /// Not an advertisement (section 5.2.2).
    #[error("the VRRP type is {0}, not 1")]
    Type(u8),
    /// No address (section 5.2.5).
    #[error("the advert lists no address")]
    CountZero,
    /// Neither form of the checksum fits (section 5.2.8).
    #[error("the checksum is wrong")]
    Checksum,
    /// Neither no authentication nor a password (RFC 3768 section 5.3.6).
    #[error("the authentication type is {0}")]
    AuthType(u8),
    /// Another password than ours, or none, or one where we have none.
    #[error("the password is another")]
    Password,
    /// Virtual router 0 does not exist (section 5.2.3).
    #[error("the virtual router identifier is 0")]
    VridZero,
    /// "Send without pause" (section 5.2.7).
    #[error("the advertisement interval is 0")]
    IntervalZero,
    /// Fewer bytes than an Ethernet frame with ARP.
    #[error("the ARP frame is cut short")]
    ArpTruncated,
    /// Another EtherType.
    #[error("the EtherType is {0:#06x}, not ARP")]
    ArpEtherType(u16),
    /// Not Ethernet and IPv4, or lengths that do not fit them.
    #[error("the ARP packet is not for IPv4 over Ethernet")]
    ArpFormat,
    /// Neither request nor reply.
    #[error("the ARP operation is {0}")]
    ArpOperation(u16),
}

impl WireError {
    /// Label for counters and logs; a closed set that never changes meaning.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ipv4Truncated => "ipv4_truncated",
            Self::Ipv4Version(_) => "ipv4_version",
            Self::Ipv4HeaderLength(_) => "ipv4_header_length",
            Self::Ipv4TotalLength(_) => "ipv4_total_length",
            Self::Ipv4Fragment => "ipv4_fragment",
            Self::Ipv4Protocol(_) => "ipv4_protocol",
            Self::Truncated => "truncated",
            Self::Version(_) => "version",
            Self::Type(_) => "type",
            Self::CountZero => "count_zero",
            Self::Checksum => "checksum",
            Self::AuthType(_) => "auth_type",
            Self::Password => "auth_failed",
            Self::VridZero => "vrid_zero",
            Self::IntervalZero => "interval_zero",
            Self::ArpTruncated => "arp_truncated",
            Self::ArpEtherType(_) => "arp_ethertype",
            Self::ArpFormat => "arp_format",
            Self::ArpOperation(_) => "arp_operation",
        }
    }
}

/// A VRRP packet, whichever family carried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Sender.
    pub src: IpAddr,
    /// Destination, of the same family: the group, or us.
    pub dst: IpAddr,
    /// Time to live or hop limit, as received.
    pub ttl: u8,
    /// What follows the header, without link padding.
    pub payload: &'a [u8],
}

/// Splits `N` bytes off the front; `None` when there are fewer.
fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(head)
}

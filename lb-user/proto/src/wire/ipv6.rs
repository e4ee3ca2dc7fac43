//! What VRRP and neighbour discovery need to know of IPv6. A raw IPv6 socket delivers what follows the header and tells the
//! addresses and the hop limit beside it, so there is no header to be read here.

use std::net::Ipv6Addr;

/// Where adverts go when no peers are named (RFC 9568 section 5.1.2.2).
pub const MULTICAST: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// Every node of the link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The only hop limit a VRRP packet (RFC 9568 section 5.1.2.3) or one of neighbour discovery (RFC 4861 section 7.1.2) may
/// arrive with.
pub const HOP_LIMIT: u8 = 255;

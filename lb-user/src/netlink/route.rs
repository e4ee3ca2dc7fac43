//! Where the kernel would send a packet.

use std::net::IpAddr;

use rtnetlink::packet_core::Parseable;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::exchange::{self, malformed};
use super::{Netlink, NetlinkError};

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Out of this interface.
    pub ifindex: u32,
    /// By this router, which may be an IPv6 one for IPv4 too (RFC 8950); `None`: the destination is a neighbour.
    pub gateway: Option<IpAddr>,
    /// The address the kernel would speak with.
    pub source: Option<IpAddr>,
    /// The destination is an address of this host.
    pub local: bool,
}

impl Route {
    /// The neighbour that packets for `destination` are handed to.
    #[must_use]
    pub fn next_hop(&self, destination: IpAddr) -> IpAddr {
        self.gateway.unwrap_or(destination)
    }
}

const FIND_ROUTE: &str = "find a route";

impl Netlink {
    /// How packets reach `destination`.
    ///
    /// # Errors
    /// No route, among others; [`NetlinkError::refused_with`] has `ENETUNREACH` or the like.
    pub async fn route_to(&self, destination: IpAddr) -> Result<Route, NetlinkError> {
        Self::run(move || {
            let mut request = RouteMessage::default();
            let (family, prefix) = match destination {
                IpAddr::V4(_) => (AddressFamily::Inet, 32),
                IpAddr::V6(_) => (AddressFamily::Inet6, 128),
            };
            request.header.address_family = family;
            request.header.destination_prefix_length = prefix;
            request.attributes.push(RouteAttribute::Destination(destination.into()));
            let reply = exchange::ask(FIND_ROUTE, &RouteNetlinkMessage::GetRoute(request))?;
            let message = RouteMessage::parse(reply.body.as_slice()).map_err(|e| malformed(FIND_ROUTE, e))?;
            route(&message)
        })
        .await
    }
}

fn route(message: &RouteMessage) -> Result<Route, NetlinkError> {
    let mut route = Route { ifindex: 0, gateway: None, source: None, local: message.header.kind == RouteType::Local };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => route.ifindex = *ifindex,
            RouteAttribute::Gateway(gateway) => route.gateway = ip(gateway),
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => route.gateway = Some((*gateway).into()),
            _ => {}
        }
    }
    match route {
        Route { ifindex: 0, .. } => Err(malformed(FIND_ROUTE, "it names no interface")),
        route => Ok(route),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

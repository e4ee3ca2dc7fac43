//! Where the kernel would send a packet.

use std::net::Ipv4Addr;

use rtnetlink::packet_core::Parseable;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::exchange::{self, malformed};
use super::{Netlink, NetlinkError};

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Out of this interface.
    pub ifindex: u32,
    /// By this router; `None`: the destination is a neighbour.
    pub gateway: Option<Ipv4Addr>,
    /// The address the kernel would speak with.
    pub source: Option<Ipv4Addr>,
    /// The destination is an address of this host.
    pub local: bool,
}

impl Route {
    /// The neighbour that packets for `destination` are handed to.
    #[must_use]
    pub fn next_hop(&self, destination: Ipv4Addr) -> Ipv4Addr {
        self.gateway.unwrap_or(destination)
    }
}

const FIND_ROUTE: &str = "find a route";

impl Netlink {
    /// How packets reach `destination`.
    ///
    /// # Errors
    /// No route, among others; [`NetlinkError::refused_with`] has `ENETUNREACH` or the like.
    pub async fn route_to(&self, destination: Ipv4Addr) -> Result<Route, NetlinkError> {
        Self::run(move || {
            let mut request = RouteMessage::default();
            request.header.address_family = AddressFamily::Inet;
            request.header.destination_prefix_length = 32;
            request.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
            let reply = exchange::ask(FIND_ROUTE, &RouteNetlinkMessage::GetRoute(request))?;
            let message = RouteMessage::parse(reply.body.as_slice()).map_err(|e| malformed(FIND_ROUTE, e))?;
            route(&message)
        })
        .await
    }
}

fn route(message: &RouteMessage) -> Result<Route, NetlinkError> {
    let mut route = Route { ifindex: 0, gateway: None, source: None, local: message.header.kind == RouteType::Local };
    let mut via = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => route.ifindex = *ifindex,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => route.gateway = Some(*gateway),
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => route.source = Some(*source),
            RouteAttribute::Via(_) => via = true,
            _ => {}
        }
    }
    match route {
        Route { ifindex: 0, .. } => Err(malformed(FIND_ROUTE, "it names no interface")),
        Route { ifindex, .. } if via => Err(NetlinkError::Ipv6Gateway { ifindex }),
        route => Ok(route),
    }
}

//! Where the kernel would send a packet.

use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};
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
const RENEW_ROUTES: &str = "have sockets find their route anew";

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

impl Netlink {
    /// Has sockets that speak with an IPv6 address find their way anew, once the host itself has that address.
    ///
    /// A new address is a route of the local table, and says nothing to sockets whose route is of the main table (Linux
    /// looks at what has changed there alone, `fib6_add` and `rt6_check`): what they send would go on to the host that had
    /// the address before. A route to the address in the main table does, for the moment that it is there; over IPv4 a new
    /// address is enough (`fib_add_ifaddr`).
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn renew_routes_to(&self, ifindex: u32, address: Ipv6Addr) -> Result<(), NetlinkError> {
        Self::run(move || {
            let mut route = RouteMessage::default();
            route.header.address_family = AddressFamily::Inet6;
            route.header.destination_prefix_length = 128;
            route.header.table = RouteHeader::RT_TABLE_MAIN;
            route.header.protocol = RouteProtocol::Kernel;
            route.header.scope = RouteScope::Universe;
            route.header.kind = RouteType::Unicast;
            route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(address)));
            route.attributes.push(RouteAttribute::Oif(ifindex));
            let add = RouteNetlinkMessage::NewRoute(route.clone());
            match exchange::act(RENEW_ROUTES, &add, NLM_F_CREATE | NLM_F_EXCL) {
                Ok(()) => exchange::act(RENEW_ROUTES, &RouteNetlinkMessage::DelRoute(route), 0),
                // Somebody's own, which sockets follow all the same once the local table has the address.
                Err(error) if error.refused_with() == Some(libc::EEXIST) => Ok(()),
                Err(error) => Err(error),
            }
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

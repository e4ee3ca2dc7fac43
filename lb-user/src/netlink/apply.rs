//! Changes: addresses of ours come and go, neighbours get resolved. An object that is already as wanted is no error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nix::net::if_::if_indextoname;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use tokio::time::timeout;

use super::{Netlink, NetlinkError, exchange, ours};
use crate::config::IpNet;

/// How an address came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was added.
    Now,
    /// It was there, and ours.
    Before,
    /// It was there and somebody else's. It stays as it is, and is not ours to remove.
    Foreign,
}

const ADD_ADDRESS: &str = "add an address";
const REMOVE_ADDRESS: &str = "remove an address";
const RESOLVE: &str = "resolve a neighbour";

/// How long a request may take: the kernel may first have to wait for its own locks.
const PATIENCE: Duration = Duration::from_secs(5);

/// Adds and removes addresses. Needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Addresses {
    handle: rtnetlink::Handle,
    netlink: Netlink,
}

impl Addresses {
    /// Opens a connection of its own and serves it on the current runtime.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn connect(netlink: Netlink) -> Result<Self, NetlinkError> {
        Ok(Self { handle: serve_connection()?, netlink })
    }

    /// The outcome of a request, within the time one may take. A connection that gives no answer is replaced for the next.
    async fn outcome(
        &mut self, doing: &'static str, request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), NetlinkError> {
        let error = match timeout(PATIENCE, request).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(rtnetlink::Error::NetlinkError(refusal))) => {
                return Err(NetlinkError::Refused { doing, source: refusal.to_io() });
            }
            Ok(Err(other)) => NetlinkError::Malformed { doing, what: other.to_string() },
            Err(_) => NetlinkError::Timeout { doing },
        };
        self.handle = serve_connection()?;
        Err(error)
    }

    /// Adds `net` to an interface, marked as ours. It brings no route: the network is already reachable through the interface's
    /// own address, and must stay so when `net` goes. Over IPv6 it can be used at once, and the host does not speak with it
    /// unless a program asks to: see [`without_ado`].
    ///
    /// # Errors
    /// No such interface, or another refusal.
    pub async fn add(&mut self, ifindex: u32, net: IpNet) -> Result<Added, NetlinkError> {
        let refused = |errno: nix::Error| NetlinkError::Refused { doing: ADD_ADDRESS, source: errno.into() };
        let name = if_indextoname(ifindex).map_err(refused)?;
        let mut request = self.handle.address().add(ifindex, net.address, net.prefix);
        let message = request.message_mut();
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        match net.address {
            IpAddr::V4(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute)),
            IpAddr::V6(_) => without_ado(message),
        }
        message.attributes.extend(ours::mark(&name.to_string_lossy(), net.family()));
        match self.outcome(ADD_ADDRESS, request.execute()).await {
            Ok(()) => Ok(Added::Now),
            Err(error) if error.refused_with() == Some(libc::EEXIST) => {
                let interfaces = self.netlink.interfaces().await?;
                // To the kernel an IPv6 address is the same one with whatever prefix.
                let same = |there: IpNet| there == net || net.address.is_ipv6() && there.address == net.address;
                let there = interfaces.addresses_of(ifindex).find(|address| same(address.net));
                match there {
                    Some(address) if address.ours => Ok(Added::Before),
                    Some(_) => Ok(Added::Foreign),
                    // Gone again: the next round adds it.
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes `net` from an interface. That it, or the interface, is not there is fine.
    ///
    /// # Errors
    /// Any other refusal.
    pub async fn remove(&mut self, ifindex: u32, net: IpNet) -> Result<(), NetlinkError> {
        let message = match net.address {
            IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(ifindex).address(v4, net.prefix).build(),
            IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new().index(ifindex).address(v6, net.prefix).build(),
        };
        let request = self.handle.address().del(message);
        match self.outcome(REMOVE_ADDRESS, request.execute()).await {
            Err(error) if matches!(error.refused_with(), Some(libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL)) => {
                Ok(())
            }
            result => result,
        }
    }
}

/// What an IPv6 VIP needs to be used by everybody but its host.
///
/// - No duplicate address detection (`IFA_F_NODAD`): it would keep the address from answering for a second, and fail where the node
///   before still has it. Virtual routers agree on who has it by other means.
/// - No route for its network (`IFA_F_NOPREFIXROUTE`), as over IPv4: the VIP must neither bring a second route nor take one along
///   when it moves.
/// - A preferred lifetime of zero, so deprecated from the start: source address selection (RFC 6724 section 5, rule 3) then
///   takes the host's own address for connections the host opens, which would break when the VIP moves. IPv4 does the same by
///   order of age. Sockets bound to the VIP, and answers to what was sent to it, use it all the same. It is valid for ever.
fn without_ado(message: &mut AddressMessage) {
    let mut lifetimes = CacheInfo::default();
    (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
    let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
    message.attributes.extend([AddressAttribute::Flags(flags), AddressAttribute::CacheInfo(lifetimes)]);
}

fn serve_connection() -> Result<rtnetlink::Handle, NetlinkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| NetlinkError::Socket { doing: "open", source })?;
    tokio::spawn(connection);
    Ok(handle)
}

impl Netlink {
    /// Has the kernel find out, or confirm, the Ethernet address of a neighbour. Returns at once; the answer shows in a later
    /// observation. Cheap, and without effect on an entry that is confirmed.
    ///
    /// # Errors
    /// No such interface, or one without neighbours.
    pub async fn resolve(&self, ifindex: u32, neighbour: IpAddr) -> Result<(), NetlinkError> {
        Self::run(move || {
            let mut request = NeighbourMessage::default();
            let (family, destination) = match neighbour {
                IpAddr::V4(neighbour) => (AddressFamily::Inet, NeighbourAddress::Inet(neighbour)),
                IpAddr::V6(neighbour) => (AddressFamily::Inet6, NeighbourAddress::Inet6(neighbour)),
            };
            request.header.family = family;
            request.header.ifindex = ifindex;
            request.header.flags = NeighbourFlags::Use;
            request.attributes.push(NeighbourAttribute::Destination(destination));
            exchange::act(RESOLVE, &RouteNetlinkMessage::NewNeighbour(request), NLM_F_CREATE)
        })
        .await
    }
}

//! Records and entries, each in terms of the other. Pure.

use std::net::{IpAddr, SocketAddr};

use lb_ebpf::abi::{Adoption, Backend, Delivery, Endpoint, Flow, FlowKey, Service};
use lb_ebpf::net::{Address, Be16, Be128};
use lb_proto::sync::{Key, Path, Record};

/// Why a record became no flow of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// No service listens there, as far as this node is configured.
    NoService,
    /// The service has no such backend here, or that is gone.
    NoBackend,
    /// The backend sees a source address that this node would not have with the VIP.
    NoSource,
    /// The backend is this node itself, and answers clients that it has a flow of; of this one it has none.
    NotHere,
    /// This node has another flow under these addresses, of which packets were seen later.
    Newer,
    /// The table of flows is full.
    Full,
    /// The record contradicts itself, or a table cannot be read or written.
    Refused,
}

impl Skipped {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::NoService, Self::NoBackend, Self::NoSource, Self::NotHere, Self::Newer, Self::Full, Self::Refused];

    /// The metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoService => "no_service",
            Self::NoBackend => "no_backend",
            Self::NoSource => "no_source",
            Self::NotHere => "not_here",
            Self::Newer => "newer",
            Self::Full => "full",
            Self::Refused => "refused",
        }
    }
}

/// What a record's addresses are on this node.
pub(super) struct Place {
    pub(super) service: Service,
    pub(super) slot: u16,
    pub(super) backend: Backend,
}

/// Key of the client's packets; `None` where the two ends are of different IP versions, or IPv4 addresses in IPv6's clothes.
pub(in crate::bpf) fn key_of(key: &Key) -> Option<FlowKey<Be128>> {
    let is_plain =
        |end: &SocketAddr| matches!(end.ip(), IpAddr::V6(six) if six.to_ipv4_mapped().is_none()) || end.is_ipv4();
    let is_one = key.client.is_ipv4() == key.listener.is_ipv4() && is_plain(&key.client) && is_plain(&key.listener);
    is_one.then(|| FlowKey {
        source: key.client.ip().into(),
        destination: key.listener.ip().into(),
        source_port: Be16::new(key.client.port()),
        destination_port: Be16::new(key.listener.port()),
    })
}

/// The ends of a flow by the key of the client's packets.
pub(in crate::bpf) fn ends<A: Address>(key: &FlowKey<A>) -> Key {
    Key { client: socket(key.source, key.source_port), listener: socket(key.destination, key.destination_port) }
}

/// The same key in a table of one IP version.
pub(in crate::bpf) fn narrow<A: Address>(key: &FlowKey<Be128>) -> FlowKey<A> {
    FlowKey {
        source: A::of(key.source),
        destination: A::of(key.destination),
        source_port: key.source_port,
        destination_port: key.destination_port,
    }
}

fn socket<A: Address>(address: A, port: Be16) -> SocketAddr {
    let address: Be128 = address.into();
    SocketAddr::new(IpAddr::from(address), port.get())
}

/// The address that a record's backend must find at this node.
pub(super) fn source(record: &Record) -> Option<IpAddr> {
    match record.path {
        Path::Translated(source) => Some(source.ip()),
        Path::OnNode { .. } | Path::Direct => None,
    }
}

/// An entry of the client's packets as a record; `None` for answers, for what is over, and for backends that are gone.
pub(super) fn record<A: Address>(key: &FlowKey<A>, flow: &Flow<A>, backend: &Backend, now: u32) -> Option<Record> {
    let is_its = backend.generation == flow.generation && backend.gone == 0;
    if !flow.is_from_client() || flow.is_closed() || !is_its {
        return None;
    }
    let reached: SocketAddr = backend.endpoint.reached_for(key.destination_port).into();
    let seen_as = || socket(flow.translated.source, flow.translated.source_port);
    // Of a flow that another node's own server has, `routed` keeps the port that the server sees.
    let port = u16::try_from(flow.routed).unwrap_or_default();
    let path = if flow.is_direct() && port != 0 {
        Path::OnNode { node: reached.ip(), port }
    } else if flow.is_direct() {
        Path::Direct
    } else if flow.is_local() && !flow.is_homed(key) {
        Path::OnNode { node: reached.ip(), port: flow.translated.source_port.get() }
    } else {
        Path::Translated(seen_as())
    };
    Some(Record {
        key: ends(key),
        backend: reached,
        path,
        next_hop: flow.mac(),
        silent_seconds: now.saturating_sub(flow.seen),
    })
}

/// A record as entries of this node, whose clock says `now`.
///
/// # Errors
/// Why it cannot be any.
pub(super) fn adoption(record: &Record, place: &Place, now: u32) -> Result<Adoption, Skipped> {
    let client = key_of(&record.key).ok_or(Skipped::Refused)?;
    if record.backend.is_ipv4() != record.key.client.is_ipv4() {
        return Err(Skipped::Refused);
    }
    let there =
        if place.backend.delivery == Delivery::Tunnelled as u16 { Delivery::Tunnelled } else { Delivery::Direct };
    let is_here = place.backend.delivery == Delivery::Local as u16;
    let (delivery, seen_as, routed) = match record.path {
        Path::Translated(source) if source.is_ipv4() != record.key.client.is_ipv4() => return Err(Skipped::Refused),
        Path::Translated(source) => (if is_here { Delivery::Local } else { Delivery::Translated }, source, 0),
        Path::OnNode { port, .. } if is_here => (Delivery::Local, SocketAddr::new(record.key.client.ip(), port), 0),
        Path::OnNode { port, .. } => (there, record.key.client, port),
        Path::Direct if is_here => return Err(Skipped::NotHere),
        Path::Direct => (there, record.key.client, 0),
    };
    Ok(Adoption {
        client,
        backend: record.backend.into(),
        seen_as: Endpoint::from(seen_as),
        delivery,
        slot: place.slot,
        generation: place.backend.generation,
        service: place.service.number,
        idle_seconds: place.service.idle_seconds,
        mac: record.next_hop,
        seen: now.saturating_sub(record.silent_seconds),
        server_port: routed,
    })
}

#[cfg(test)]
mod tests;

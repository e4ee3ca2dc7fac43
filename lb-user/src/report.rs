//! The status, put together from what everybody knows.

pub mod sync;

use std::net::IpAddr;
use std::time::Instant;

use lb_ebpf::abi::{HANDSHAKE_BOUNDS, MAX_ALLOWED, Pulse, map};
use lb_proto::health::State;
use lb_proto::pace::WHOLE;
use lb_proto::plan::Place;

use crate::agent::{Claims, NO_BACKEND_HERE};
use crate::bpf::{Attachment, Entries, FULL, LIMITED, PortUse, Sweep, TableError, Tables};
use crate::clock::{self, unix_of};
use crate::config::{Backend, Config, Duty, Role, Service, ServiceMode};
use crate::drivers::health::HealthSnapshot;
use crate::drivers::vrrp::VrrpSnapshot;
use crate::reconcile::Reconciler;
use crate::status::words::since;
use crate::status::{
    BackendStatus, ConfigStatus, DatapathStatus, Event, HandshakeBucket, Handshakes, LeavingStatus, LocalStatus,
    PacketCount, ServiceStatus, SourcePorts, Status, SyncStatus, TableStatus, VrrpStatus,
};

/// How many events a status has at most.
pub const EVENTS: usize = 100;

/// Where the parts of a status come from.
pub struct Sources<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// When the agent started, in seconds since the Unix epoch: found out once, for others tell agents apart by it.
    pub started_at: f64,
    /// Whether health checks are still being made ready.
    pub starting: bool,
    /// What became of configurations.
    pub config_status: ConfigStatus,
    /// How the datapath is attached; `None` while it is not.
    pub attachment: Option<&'a Attachment>,
    /// Why it is not.
    pub detached_because: &'a str,
    /// The datapath's tables.
    pub tables: &'a Tables,
    /// Entries the connection tables of either IP version can hold.
    pub capacities: Entries,
    /// Connections.
    pub sweep: &'a Sweep,
    /// Virtual routers.
    pub vrrp: &'a VrrpSnapshot,
    /// Backends.
    pub health: &'a HealthSnapshot,
    /// Slots, and services that fail open.
    pub reconciler: &'a Reconciler,
    /// The connect hooks.
    pub local: LocalStatus,
    /// What others claim.
    pub claims: &'a Claims,
    /// Flows shared with other balancers.
    pub sync: SyncStatus,
    /// The newest events.
    pub events: Vec<Event>,
}

/// Puts the status together.
///
/// # Errors
/// When the datapath's counters cannot be read.
pub fn status(sources: Sources<'_>) -> Result<Status, TableError> {
    let services =
        sources.config.services.iter().map(|service| of_service(&sources, service)).collect::<Result<_, _>>()?;
    Ok(Status {
        node: sources.config.node.name.clone(),
        role: sources.config.node.role.label().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: sources.started_at,
        starting: sources.starting,
        datapath: datapath(&sources)?,
        local: sources.local.clone(),
        sync: sources.sync.clone(),
        vrrp: vrrp(&sources),
        services,
        config: sources.config_status,
        events: sources.events,
    })
}

fn datapath(sources: &Sources<'_>) -> Result<DatapathStatus, TableError> {
    let packets = sources.tables.counters().packets()?;
    let packets = packets.into_iter().filter(|(_, packets)| *packets > 0).map(|(reason, packets)| PacketCount {
        verdict: reason.verdict().label().to_owned(),
        reason: reason.label().to_owned(),
        packets,
    });
    let bytes = &sources.sweep.bytes;
    let table = |table: &str, entries, capacity, name| {
        let bytes = bytes.get(name).copied().unwrap_or_default();
        TableStatus { table: table.to_owned(), entries, capacity, bytes }
    };
    let allowed = sources.config.services.iter().map(|service| service.allow.len() as u64).sum();
    let ([four, six], capacity) = (sources.sweep.entries, sources.capacities);
    let attachment = sources.attachment;
    Ok(DatapathStatus {
        mode: attachment.map_or("none", |attachment| attachment.mode.label()).to_owned(),
        reason: attachment.map_or(sources.detached_because, |attachment| attachment.reason.as_str()).to_owned(),
        interface: sources.config.node.interface.clone(),
        program_id: attachment.map_or(0, |attachment| attachment.program_id),
        tables: vec![
            table("established", four.established, capacity.established, map::ESTABLISHED),
            table("half_open", four.half_open, capacity.half_open, map::HALF_OPEN),
            table("established_ipv6", six.established, capacity.established, map::ESTABLISHED6),
            table("half_open_ipv6", six.half_open, capacity.half_open, map::HALF_OPEN6),
            table("limited_sources", sources.sweep.limited, LIMITED, map::LIMITED),
            table("full_sources", sources.sweep.full, FULL, map::FULL_SOURCES),
            table("allowed", allowed, MAX_ALLOWED.into(), map::ALLOWED),
        ],
        bytes: bytes.values().sum(),
        packets: packets.collect(),
    })
}

fn vrrp(sources: &Sources<'_>) -> Vec<VrrpStatus> {
    let instances = sources.vrrp.instances.iter();
    instances
        .map(|instance| VrrpStatus {
            name: instance.name.clone(),
            state: instance.state.label().to_owned(),
            sync_group: instance.sync_group.clone().unwrap_or_default(),
            since: unix_of(instance.since),
            reason: instance.reason.clone(),
            virtual_router_id: instance.vrid,
            priority: instance.priority,
            interface: instance.interface.clone(),
            virtual_addresses: instance.virtual_addresses.iter().map(ToString::to_string).collect(),
            active_router: instance.active_router.map(|address| address.to_string()),
            claims: sources.claims.of(&instance.name),
        })
        .collect()
}

fn of_service(sources: &Sources<'_>, service: &Service) -> Result<ServiceStatus, TableError> {
    let now = clock::now();
    let listen: Vec<_> = service.listen.iter().map(ToString::to_string).collect();
    let backends = service.backends.iter().map(|backend| {
        let place = sources.reconciler.place(&service.name, &backend.name);
        let traffic = match place {
            Some(place) => sources.tables.counters().traffic(place.slot)?,
            None => Default::default(),
        };
        let source_ports = place.and_then(|place| source_ports(sources, place));
        let pulse = match place {
            Some(place) => sources.tables.counters().pulse(place.slot)?,
            None => Pulse::default(),
        };
        let health = sources.health.backend(&service.name, &backend.name);
        let connections = place.map_or(0, |place| sources.sweep.connections_of(place));
        let beyond = beyond(sources, service, backend);
        let percent = sources.reconciler.percent(service, backend, now);
        let deadline = sources.reconciler.deadline(service, backend);
        let state = match health.map_or(State::Unchecked, |health| health.state) {
            _ if backend.duty == Duty::Disabled => "disabled",
            _ if backend.duty == Duty::Drained => "draining",
            _ if deadline.is_some_and(|deadline| deadline > now) => "draining",
            State::Up if backend.weight == 0 => "disabled",
            State::Up if beyond.is_none() => "up",
            State::Up | State::Unchecked | State::Down { .. } => "down",
        };
        let mut reason = health.map_or_else(|| "not checked yet".to_owned(), |health| health.reason.clone());
        if let Some(router) = beyond {
            reason = format!(
                "is behind the router {router}, over which packets of mode \"dsr\" do not get there (this node speaks \
                 with it from another address than with other backends behind routers; use \"snat\"); {reason}"
            );
        }
        if backend.max_connections > 0 && connections >= u64::from(backend.max_connections) {
            reason = format!("{reason}; full, max_connections is {}", backend.max_connections);
        }
        if let Some(ports) = source_ports.filter(|ports| ports.in_use >= ports.capacity - ports.capacity / 10) {
            reason = format!("{reason}; {} of {} source ports in use", ports.in_use, ports.capacity);
        }
        match backend.duty {
            Duty::Serving => {}
            Duty::Drained => reason = format!("drained by command; {reason}"),
            Duty::Disabled => reason = format!("disabled by command, its connections are reset; {reason}"),
        }
        if backend.weight == 0 {
            reason.push_str("; no new connections, weight is 0");
        } else if percent < WHOLE {
            reason.push_str(&format!("; slow start, at {percent}% of its weight"));
        }
        match deadline.filter(|_| backend.duty != Duty::Disabled) {
            Some(deadline) if deadline > now => reason.push_str(&format!("; {}", reset_in(deadline, now))),
            Some(_) => reason.push_str("; drain_timeout is over, its connections are reset"),
            None => {}
        }
        Ok(BackendStatus {
            name: backend.name.clone(),
            address: backend.shown(),
            state: state.to_owned(),
            since: health.map_or_else(|| sources.started_at, |health| unix_of(health.since)),
            reason,
            weight: backend.weight,
            effective_weight: f64::from(backend.taken_weight()) * f64::from(percent) / f64::from(WHOLE),
            max_connections: backend.max_connections,
            drain_deadline: deadline.filter(|_| backend.duty != Duty::Disabled).map(unix_of),
            connections,
            connections_total: traffic.opened,
            local_connections_total: match place {
                Some(place) => sources.tables.counters().local_connections(place.slot)?,
                None => 0,
            },
            syns_refused_total: pulse.refused,
            syns_unanswered_total: pulse.unanswered,
            handshakes: handshakes(&pulse),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            packets_in: traffic.packets_in,
            packets_out: traffic.packets_out,
            source_ports,
            check_seconds: health.and_then(|health| health.last_duration).map(|took| took.as_secs_f64()),
        })
    });
    let leaving = sources.reconciler.leaving(&service.name).map(|(left, place)| LeavingStatus {
        name: left.backend.name.clone(),
        address: left.backend.shown(),
        connections: place.map_or(0, |place| sources.sweep.connections_of(place)),
        drain_deadline: unix_of(left.deadline),
    });
    Ok(ServiceStatus {
        name: service.name.clone(),
        listen: listen.join(", "),
        balance: service.balance.label().to_owned(),
        max_connections: service.max_connections,
        local: service.local.label().to_owned(),
        mode: service.mode.label().to_owned(),
        remark: remark(sources, service),
        allow: service.allow.iter().map(ToString::to_string).collect(),
        source_limit: service.source_limit.map(|limit| limit.to_string()).unwrap_or_default(),
        fail_open: sources.reconciler.fail_open(&service.name),
        backends: backends.collect::<Result<_, _>>()?,
        leaving: leaving.collect(),
    })
}

/// Source ports towards the backend at a place, where it needs any.
fn source_ports(sources: &Sources<'_>, place: Place) -> Option<SourcePorts> {
    let capacity = sources.sweep.layout.capacity(place.slot);
    let PortUse { in_use, resting } = sources.sweep.ports_of(place);
    (capacity > 0).then_some(SourcePorts { in_use, resting, capacity })
}

fn reset_in(deadline: Instant, now: Instant) -> String {
    format!("connections are reset in {}", since(deadline.saturating_duration_since(now).as_secs_f64(), 0.0))
}

fn handshakes(pulse: &Pulse) -> Handshakes {
    let bounds = HANDSHAKE_BOUNDS.iter().map(|micros| Some(f64::from(*micros) / 1e6)).chain([None]);
    let bucket = |(up_to, handshakes): (_, &u64)| HandshakeBucket { up_to, handshakes: *handshakes };
    Handshakes { seconds: pulse.micros as f64 / 1e6, buckets: bounds.zip(&pulse.handshakes).map(bucket).collect() }
}

/// The router that keeps a backend from being forwarded to.
fn beyond(sources: &Sources<'_>, service: &Service, backend: &Backend) -> Option<IpAddr> {
    let forwards = service.mode == ServiceMode::Dsr && sources.config.node.role == Role::Balancer;
    forwards.then(|| sources.reconciler.router_to(backend.address.ip()))?
}

fn remark(sources: &Sources<'_>, service: &Service) -> String {
    let (own, _) = sources.reconciler.service_of_others();
    let delivers = service.mode == ServiceMode::Dsr && sources.config.node.role == Role::Backend;
    if delivers && sources.attachment.is_some() && !own.contains(&service.name) {
        return NO_BACKEND_HERE.to_owned();
    }
    String::new()
}

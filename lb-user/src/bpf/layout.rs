//! The shape of the maps, to tell whether pinned ones can be used again.
//!
//! aya takes a pinned map as it is, whatever it holds; reading values of another shape would be reading nonsense.

use std::io;
use std::path::Path;

use aya::maps::{MapInfo, MapType};
use lb_ebpf::abi::{
    ALLOWED_ENTRIES, Allowed, Backend, Bucket, CHANGE_BYTES, Correction, Dialled, EVENT_BYTES, Endpoint, Flow, FlowKey,
    Hook, LOADS, LOG_BYTES, Lease, Load, MAX_BACKENDS, MAX_FELLOWS, MAX_FULL_SOURCES, MAX_LIMITED_SOURCES,
    MAX_LISTENERS, MAX_OWN_ADDRESSES, MAX_PORT_SETS, MAX_REASONS, MAX_RINGS, MAX_SERVICES, MAX_SOURCES, MAX_TUNNELS,
    MAX_VIPS, Node, PortKey, PortSet, Pulse, RING_SIZE, Service, Sharing, Source, SourceLimit, Syn, Traffic, budget,
    map,
};
use lb_ebpf::net::Be128;

/// A map as the object declares it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

/// How much the connection tables of each IP version hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Established flows.
    pub max_flows: u32,
    /// Handshakes under way.
    pub max_half_open: u32,
}

impl Sizes {
    /// Entries of the table of established flows: two for each.
    pub(super) const fn established(self) -> u32 {
        self.max_flows.saturating_mul(2)
    }

    /// Entries of the table of half-open flows: two for each.
    pub(super) const fn half_open(self) -> u32 {
        self.max_half_open.saturating_mul(2)
    }

    /// The tables whose size is the node's own, with their entries.
    pub(super) const fn tables(self) -> [(&'static str, u32); 6] {
        [
            (map::ESTABLISHED, self.established()),
            (map::ESTABLISHED6, self.established()),
            (map::HALF_OPEN, self.half_open()),
            (map::HALF_OPEN6, self.half_open()),
            (map::SYNS, self.max_half_open),
            (map::SYNS6, self.max_half_open),
        ]
    }
}

/// All maps that are pinned, with connection tables of these sizes.
pub(super) fn shapes(sizes: Sizes) -> [Shape; 42] {
    let shape = |name, kind, key, value, entries| Shape { name, kind, key, value, entries };
    let index = size_of::<u32>();
    let (entries, half_open, syns) = (sizes.established(), sizes.half_open(), sizes.max_half_open);
    [
        shape(map::SIX, MapType::ProgramArray, index, index, 1),
        shape(map::TC_SIX, MapType::ProgramArray, index, index, 1),
        shape(map::NODE, MapType::Array, index, size_of::<Node>(), 1),
        shape(map::VIPS, MapType::Hash, size_of::<Be128>(), index, MAX_VIPS),
        shape(map::SERVICES, MapType::Hash, size_of::<Endpoint>(), size_of::<Service>(), MAX_LISTENERS),
        shape(map::BACKENDS, MapType::Array, index, size_of::<Backend>(), MAX_BACKENDS),
        shape(map::BACKEND_SLOTS, MapType::Hash, size_of::<Endpoint>(), index, MAX_BACKENDS),
        shape(map::FELLOWS, MapType::Hash, size_of::<u64>(), index, MAX_FELLOWS),
        shape(map::TUNNELS, MapType::Hash, size_of::<Be128>(), index, MAX_TUNNELS),
        shape(map::RINGS, MapType::Array, index, index, RING_SIZE * MAX_RINGS),
        shape(map::TURNS, MapType::PerCpuArray, index, index, MAX_SERVICES),
        shape(map::SOURCES, MapType::Array, index, size_of::<Be128>(), 2 * MAX_SOURCES),
        shape(map::PORTS, MapType::Hash, size_of::<PortKey>(), size_of::<PortSet>(), MAX_PORT_SETS),
        shape(map::PORT_CURSORS, MapType::PerCpuArray, index, index, MAX_BACKENDS),
        shape(map::ESTABLISHED, MapType::Hash, size_of::<FlowKey>(), size_of::<Flow>(), entries),
        shape(map::HALF_OPEN, MapType::LruHash, size_of::<FlowKey>(), size_of::<Flow>(), half_open),
        shape(map::ESTABLISHED6, MapType::Hash, size_of::<FlowKey<Be128>>(), size_of::<Flow<Be128>>(), entries),
        shape(map::HALF_OPEN6, MapType::LruHash, size_of::<FlowKey<Be128>>(), size_of::<Flow<Be128>>(), half_open),
        shape(map::SYNS, MapType::LruHash, size_of::<FlowKey>(), size_of::<Syn>(), syns),
        shape(map::SYNS6, MapType::LruHash, size_of::<FlowKey<Be128>>(), size_of::<Syn>(), syns),
        shape(map::PULSES, MapType::Array, index, size_of::<Pulse>(), MAX_BACKENDS),
        shape(map::EVENTS, MapType::RingBuf, 0, 0, EVENT_BYTES),
        shape(map::SHARING, MapType::Array, index, size_of::<Sharing>(), 1),
        shape(map::CHANGES, MapType::RingBuf, 0, 0, CHANGE_BYTES),
        shape(map::UNTOLD, MapType::PerCpuArray, index, size_of::<u64>(), 1),
        shape(map::LOGGED, MapType::RingBuf, 0, 0, LOG_BYTES),
        shape(map::UNLOGGED, MapType::PerCpuArray, index, size_of::<u64>(), 1),
        shape(map::PACKETS, MapType::PerCpuArray, index, size_of::<u64>(), MAX_REASONS),
        shape(map::TRAFFIC, MapType::PerCpuArray, index, size_of::<Traffic>(), MAX_BACKENDS),
        shape(map::LOADS, MapType::Array, index, size_of::<Load>(), LOADS),
        shape(map::CORRECTIONS, MapType::Array, index, size_of::<Correction>(), LOADS),
        shape(map::BUDGETS, MapType::PerCpuArray, index, size_of::<Bucket>(), budget::COUNT),
        shape(map::ALLOWED, MapType::LpmTrie, index + size_of::<Allowed>(), index, ALLOWED_ENTRIES),
        shape(map::LIMITS, MapType::Array, index, size_of::<SourceLimit>(), MAX_SERVICES),
        shape(map::LIMITED, MapType::LruHash, size_of::<Source>(), size_of::<u64>(), MAX_LIMITED_SOURCES),
        shape(map::FULL_SOURCES, MapType::Hash, size_of::<Source>(), size_of::<u64>(), MAX_FULL_SOURCES),
        lease_shape(),
        shape(map::HOOK, MapType::Array, index, size_of::<Hook>(), 1),
        shape(map::OWN, MapType::Hash, size_of::<Be128>(), index, MAX_OWN_ADDRESSES),
        shape(map::PREFERRED, MapType::Array, index, index, MAX_SERVICES),
        shape(map::LOCAL_OPENED, MapType::PerCpuArray, index, size_of::<u64>(), MAX_BACKENDS),
        shape(map::DIALLED, MapType::SkStorage, index, size_of::<Dialled>(), 0),
    ]
}

/// The shape of the table of leases, which an agent looks at before it loads anything.
pub(super) fn lease_shape() -> Shape {
    let (key, value) = (size_of::<Be128>(), size_of::<Lease>());
    Shape { name: map::LEASES, kind: MapType::Hash, key, value, entries: MAX_VIPS }
}

/// What a pin is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pin {
    /// Nothing there.
    Missing,
    /// A map of this shape.
    Fits,
    /// Something else; says what.
    Other(String),
}

impl Shape {
    /// Looks at what is pinned at `path`.
    pub(super) fn compare(&self, path: &Path) -> io::Result<Pin> {
        if !path.try_exists()? {
            return Ok(Pin::Missing);
        }
        let info = match MapInfo::from_pin(path) {
            Ok(info) => info,
            Err(error) => return Ok(Pin::Other(format!("{} is no map: {error}", path.display()))),
        };
        let found = (
            info.map_type().ok(),
            usize::try_from(info.key_size()).unwrap_or(usize::MAX),
            usize::try_from(info.value_size()).unwrap_or(usize::MAX),
            info.max_entries(),
        );
        if found == (Some(self.kind), self.key, self.value, self.entries) {
            return Ok(Pin::Fits);
        }
        let (kind, key, value, entries) = found;
        Ok(Pin::Other(format!(
            "{} has {entries} entries of {key} + {value} bytes ({kind:?}), wanted are {} of {} + {} ({:?})",
            self.name, self.entries, self.key, self.value, self.kind
        )))
    }
}

/// The kernel's number of the map pinned at `path`; none where there is none.
pub(super) fn number(path: &Path) -> Option<u32> {
    MapInfo::from_pin(path).ok().map(|info| info.id())
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::Reason;

    use super::*;

    #[test]
    fn a_new_reason_leaves_the_tables_as_they_are() {
        let shapes = shapes(Sizes { max_flows: 1024, max_half_open: 1024 });
        let packets = shapes.iter().find(|shape| shape.name == map::PACKETS).unwrap();
        assert_eq!(packets.entries, MAX_REASONS);
        assert!(Reason::ALL.len() + 32 < MAX_REASONS as usize, "there is not much room left");
    }
}

//! Sources that have as many connections to a service as they may: found by a sweep, and written where the datapath looks.
//!
//! The datapath refuses a source only until the moment that is written here, and each sweep writes a later one: without
//! an agent nobody is refused for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError};
use lb_ebpf::abi::{MAX_FULL_SOURCES, Source, SourceLimit, map};
use lb_ebpf::net::Be128;

use super::batch::entries;
use super::tables::{TableError, at, share, take};

/// Sources that can be refused at a time.
pub const FULL: u64 = MAX_FULL_SOURCES as u64;
/// How long a sweep's word lasts, at least.
const LASTS: Duration = Duration::from_secs(10);
/// And in times of what the sweep took: the next one may be 20 of these away.
const SWEEPS: u32 = 60;

/// The tables.
pub(super) struct FullSources {
    limits: Array<MapData, SourceLimit>,
    full: HashMap<MapData, Source, u64>,
}

/// Established connections by source, of the services that limit them.
#[derive(Debug, Default)]
pub(super) struct Held {
    limits: BTreeMap<u32, SourceLimit>,
    connections: BTreeMap<Source, u32>,
}

impl Held {
    /// Counts an established connection of a client.
    pub(super) fn note(&mut self, service: u16, client: Be128) {
        let number = u32::from(service);
        if let Some(limit) = self.limits.get(&number) {
            let count = self.connections.entry(Source::of(number, client, limit)).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Those that have as many as they may.
    fn full(&self) -> impl Iterator<Item = &Source> {
        let may = |source: &Source| self.limits.get(&source.service).map_or(u32::MAX, |limit| limit.connections);
        self.connections.iter().filter(move |(source, has)| **has >= may(source)).map(|(source, _)| source)
    }
}

impl FullSources {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self { limits: share(ebpf, map::LIMITS)?, full: take(ebpf, map::FULL_SOURCES)? })
    }

    /// Nothing counted yet. The limit of a service that has none any more may still be there: nobody looks at what follows
    /// from it.
    pub(super) fn begin(&self) -> Result<Held, TableError> {
        let mut held = Held::default();
        let each = |number: u32, limit: SourceLimit| {
            if limit.connections != 0 {
                held.limits.insert(number, limit);
            }
        };
        entries(self.limits.map().fd(), each).map_err(|source| TableError::Whole { table: map::LIMITS, source })?;
        Ok(held)
    }

    /// Says who is full from `now` on, in nanoseconds of the kernel's clock, after a sweep that took so long; returns how
    /// many are. Those for whom there is no room are not refused.
    pub(super) fn settle(&mut self, held: &Held, now: u64, took: Duration) -> Result<u64, TableError> {
        let lasts = u64::try_from(LASTS.max(took.saturating_mul(SWEEPS)).as_nanos()).unwrap_or(u64::MAX);
        let until = now.saturating_add(lasts);
        let mut before = Vec::new();
        entries(self.full.map().fd(), |source: Source, _: u64| before.push(source))
            .map_err(|source| TableError::Whole { table: map::FULL_SOURCES, source })?;
        let full: BTreeSet<_> = held.full().copied().take(MAX_FULL_SOURCES as usize).collect();
        for source in before.iter().filter(|source| !full.contains(source)) {
            match self.full.remove(source) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(at(map::FULL_SOURCES)(error)),
            }
        }
        for source in &full {
            self.full.insert(source, until, 0).map_err(at(map::FULL_SOURCES))?;
        }
        Ok(full.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::mask;
    use lb_ebpf::net::Be32;

    use super::*;

    #[test]
    fn sources_are_counted_by_service_and_prefix() {
        let limit = |connections, bits| SourceLimit { connections, mask: mask(bits), ..SourceLimit::default() };
        let limits = BTreeMap::from([(0, limit(2, 128)), (1, limit(3, 96 + 24))]);
        let mut held = Held { limits, ..Held::default() };
        let client = |last: u8| Be128::from(Be32::from_wire([198, 51, 100, last]));
        for last in [1, 2, 2, 3, 3, 3] {
            held.note(0, client(last));
            held.note(7, client(last));
        }
        held.note(1, client(1));
        held.note(1, client(2));
        let of = |number, limit: &SourceLimit, last| Source::of(number, client(last), limit);
        let (by_host, by_net) = (limit(2, 128), limit(3, 96 + 24));
        let full: Vec<_> = held.full().copied().collect();
        assert_eq!(full, [of(0, &by_host, 2), of(0, &by_host, 3)]);
        held.note(1, client(9));
        assert_eq!(held.full().last(), Some(&of(1, &by_net, 77)), "{held:?}");
    }
}

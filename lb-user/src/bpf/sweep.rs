//! The connection tables, gone over: flows that have been silent for too long are removed and both ends told, the others
//! counted.
//!
//! The datapath itself takes back what is over when it needs a source port; this keeps the tables small and the
//! numbers of connections true, those that the datapath counts as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{HashMap, IterableMap, MapData, MapError};
use aya::{Ebpf, Pod};
use lb_ebpf::abi::{Flow, FlowKey, MAX_LIMITED_SOURCES, Source, map};
use lb_ebpf::net::{Address, Be32, Be128};
use lb_proto::plan::Place;

use super::batch::entries;
use super::ending::Ending;
use super::footprint::{Bytes, Footprint};
use super::full::{FullSources, Held};
use super::layout::Sizes;
use super::loads::{FoundBy, Loads};
use super::logged::{Removals, What};
use super::ports::{Found, PortLayout, PortSets, PortUse};
use super::tables::{TableError, at, take};
use crate::clock;

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Open connections by slot and generation of their backend.
    pub connections: BTreeMap<(u16, u32), u64>,
    /// Entries of the tables afterwards, of IPv4 and of IPv6.
    pub entries: [Entries; 2],
    /// Sources that have opened connections lately, where these are limited.
    pub limited: u64,
    /// Sources that have as many connections as they may.
    pub full: u64,
    /// Memory of each table.
    pub bytes: Bytes,
    /// Flows removed because of their silence.
    pub expired: u64,
    /// Source ports by slot and generation of their backend.
    pub ports: BTreeMap<(u16, u32), PortUse>,
    /// The sets of source ports that there are now.
    pub layout: Arc<PortLayout>,
    /// Flows removed because their backend is gone; their clients got a RST.
    pub ended: u64,
    /// How long it took.
    pub took: Duration,
}

/// Entries of an IP version's tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entries {
    /// Of established flows.
    pub established: u64,
    /// Of half-open flows.
    pub half_open: u64,
}

impl Sweep {
    /// Source ports of the backend at a place that are not free.
    #[must_use]
    pub fn ports_of(&self, place: Place) -> PortUse {
        let slot = u16::try_from(place.slot).ok();
        slot.and_then(|slot| self.ports.get(&(slot, place.generation))).copied().unwrap_or_default()
    }

    /// Open connections of the backend at a place.
    #[must_use]
    pub fn connections_of(&self, place: Place) -> u64 {
        let slot = u16::try_from(place.slot).ok();
        slot.and_then(|slot| self.connections.get(&(slot, place.generation))).copied().unwrap_or_default()
    }
}

/// The connection tables.
pub struct Sweeper {
    four: Flows<Be32>,
    six: Flows<Be128>,
    loads: Loads,
    ports: PortSets,
    ending: Ending,
    removals: Removals,
    limited: HashMap<MapData, Source, u64>,
    full: FullSources,
    footprint: Footprint,
    sizes: Sizes,
}

/// Those of an IP version.
struct Flows<A> {
    names: Names,
    established: HashMap<MapData, FlowKey<A>, Flow<A>>,
    half_open: HashMap<MapData, FlowKey<A>, Flow<A>>,
}

/// What they are called.
#[derive(Clone, Copy)]
struct Names {
    established: &'static str,
    half_open: &'static str,
}

/// What is counted on the way.
#[derive(Default)]
struct Seen {
    loads: FoundBy,
    ports: Found,
    held: Held,
}

impl Sweeper {
    /// Takes them out of the loaded object.
    ///
    /// Before [`super::Tables`], with whom it shares some. `removals` is where it tells of flows that it removes.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn take(ebpf: &mut Ebpf, footprint: Footprint, sizes: Sizes, removals: Removals) -> Result<Self, TableError> {
        let ending = Ending::look(ebpf)?;
        Ok(Self {
            four: Flows::take(ebpf, Names { established: map::ESTABLISHED, half_open: map::HALF_OPEN })?,
            six: Flows::take(ebpf, Names { established: map::ESTABLISHED6, half_open: map::HALF_OPEN6 })?,
            loads: Loads::share(ebpf)?,
            ports: PortSets::take(ebpf)?,
            ending,
            removals,
            limited: take(ebpf, map::LIMITED)?,
            full: FullSources::take(ebpf)?,
            footprint,
            sizes,
        })
    }

    /// Entries the tables of either IP version can hold.
    #[must_use]
    pub fn capacities(&self) -> Entries {
        Entries { established: self.sizes.established().into(), half_open: self.sizes.half_open().into() }
    }

    /// Goes over all tables, and makes the sets of source ports those of a layout.
    ///
    /// # Errors
    /// When a table cannot be read; what was removed before stays removed.
    pub fn sweep(&mut self, layout: &Arc<PortLayout>) -> Result<Sweep, TableError> {
        let started = clock::now();
        let mut sweep = Sweep::default();
        let (loads, ports) = (self.loads.read()?, self.ports.look()?);
        self.ending.begin();
        let mut seen = Seen { held: self.full.begin()?, ..Seen::default() };
        sweep.entries = [
            self.four.sweep(&mut sweep, &mut seen, &mut self.ending, &self.removals)?,
            self.six.sweep(&mut sweep, &mut seen, &mut self.ending, &self.removals)?,
        ];
        self.loads.correct(&loads, &seen.loads)?;
        self.ports.mend(layout, &ports, &seen.ports)?;
        sweep.connections = seen.loads.into_iter().map(|(backend, found)| (backend, found.open)).collect();
        sweep.ports = seen.ports.used;
        sweep.layout = Arc::clone(layout);
        sweep.limited = self.sweep_limited()?;
        sweep.bytes = self.footprint.bytes();
        sweep.took = clock::now().saturating_duration_since(started);
        sweep.full = self.full.settle(&seen.held, clock::monotonic_nanoseconds(), sweep.took)?;
        Ok(sweep)
    }

    /// Forgets sources whose bucket is full again; counts the others.
    fn sweep_limited(&mut self) -> Result<u64, TableError> {
        let now = clock::monotonic_nanoseconds();
        let (mut entries, mut full) = (0, Vec::new());
        for entry in self.limited.iter() {
            let (source, filled) = entry.map_err(at(map::LIMITED))?;
            if filled <= now { full.push(source) } else { entries += 1 }
        }
        for source in full {
            // A connection that comes in between counts for nothing.
            match self.limited.remove(&source) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(at(map::LIMITED)(error)),
            }
        }
        Ok(entries)
    }
}

/// Sources that can be remembered.
pub const LIMITED: u64 = MAX_LIMITED_SOURCES as u64;

impl<A: Address> Flows<A>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    fn take(ebpf: &mut Ebpf, names: Names) -> Result<Self, TableError> {
        Ok(Self { names, established: take(ebpf, names.established)?, half_open: take(ebpf, names.half_open)? })
    }

    fn sweep(
        &mut self, sweep: &mut Sweep, seen: &mut Seen, ending: &mut Ending, removals: &Removals,
    ) -> Result<Entries, TableError> {
        Ok(Entries {
            established: self.sweep_established(sweep, seen, ending, removals)?,
            half_open: self.sweep_half_open(seen)?,
        })
    }

    fn sweep_established(
        &mut self, sweep: &mut Sweep, seen: &mut Seen, ending: &mut Ending, removals: &Removals,
    ) -> Result<u64, TableError> {
        let now = clock::monotonic_seconds();
        let mut number = 0_u64;
        let (mut quiet, mut lost, mut failed) = (Vec::new(), Vec::new(), None);
        let mut count = |key: &FlowKey<A>, flow: &Flow<A>| {
            seen.ports.note(key, flow);
            if flow.is_from_client() && !flow.is_closed() {
                seen.loads.entry((flow.backend, flow.generation)).or_default().open += 1;
                seen.held.note(flow.service, key.source.into());
            }
        };
        self.whole(self.names.established, &self.established, |key, flow| {
            number += 1;
            if flow.is_expired(now) {
                quiet.push((key, flow));
                return;
            }
            count(&key, &flow);
            match ending.is_of_gone(&key, &flow) {
                Ok(true) => lost.push(key),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let (mut over, mut answers) = (Vec::new(), Vec::new());
        for (key, flow) in quiet {
            if !self.is_over(&key, &flow, now)? {
                count(&key, &flow);
            } else if flow.is_from_client() {
                over.push(key);
            } else {
                answers.push(key);
            }
        }
        // A flow's end has to be known for both of its ends to be told, so the client's entries come first.
        for key in over.into_iter().chain(answers) {
            // Meanwhile the client may have opened another flow from the same port.
            let Some(flow) = self.flow(&key)? else {
                continue;
            };
            if !self.is_over(&key, &flow, now)? {
                continue;
            }
            let is_open = flow.is_from_client() && !flow.is_closed();
            let pair = if is_open { self.flow(&flow.other())?.filter(|pair| pair.other() == key) } else { None };
            if self.remove(&key)? {
                if is_open {
                    ending.expire(&key, &flow, pair.as_ref());
                    removals.tell(What::Idle, &key, &flow, pair.as_ref());
                }
                number = number.saturating_sub(1);
                sweep.expired += u64::from(flow.is_from_client());
                if is_open {
                    seen.loads.entry((flow.backend, flow.generation)).or_default().removed += 1;
                }
            }
        }
        for key in lost {
            let Some(flow) = self.flow(&key)? else {
                continue;
            };
            if !ending.is_gone(&flow)? {
                continue;
            }
            ending.reset(&key, &flow);
            let answers = flow.other();
            let pair = self.flow(&answers)?.filter(|pair| pair.other() == key);
            if !flow.is_closed() {
                removals.tell(What::BackendGone, &key, &flow, pair.as_ref());
            }
            let removed = [pair.is_some() && self.remove(&answers)?, self.remove(&key)?];
            number = number.saturating_sub(removed.into_iter().map(u64::from).sum());
            sweep.ended += 1;
            if removed[1] && !flow.is_closed() {
                seen.loads.entry((flow.backend, flow.generation)).or_default().removed += 1;
            }
        }
        Ok(number)
    }

    /// Every entry of a table.
    fn whole(
        &self, name: &'static str, table: &HashMap<MapData, FlowKey<A>, Flow<A>>, each: impl FnMut(FlowKey<A>, Flow<A>),
    ) -> Result<(), TableError> {
        let data = IterableMap::map(table);
        entries(data.fd(), each).map_err(|source| TableError::Whole { table: name, source })
    }

    /// Removes an entry; whether it was still there.
    fn remove(&mut self, key: &FlowKey<A>) -> Result<bool, TableError> {
        match self.established.remove(key) {
            Ok(()) => Ok(true),
            // The datapath was faster.
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(at(self.names.established)(error)),
        }
    }

    /// A flow is silent only if both directions are. An entry whose pair is gone, or belongs to another flow by now, decides alone.
    fn is_over(&self, key: &FlowKey<A>, flow: &Flow<A>, now: u32) -> Result<bool, TableError> {
        if !flow.is_expired(now) {
            return Ok(false);
        }
        let pair = self.flow(&flow.other())?.filter(|pair| pair.other() == *key);
        Ok(pair.is_none_or(|pair| pair.is_expired(now)))
    }

    fn flow(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>, TableError> {
        match self.established.get(key, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(at(self.names.established)(error)),
        }
    }

    fn sweep_half_open(&mut self, seen: &mut Seen) -> Result<u64, TableError> {
        let now = clock::monotonic_seconds();
        let mut number = 0;
        let mut stale = Vec::new();
        self.whole(self.names.half_open, &self.half_open, |key, flow| {
            if flow.is_stale_half_open(now) {
                stale.push(key);
                return;
            }
            number += 1;
            seen.ports.note(&key, &flow);
            if flow.is_from_client() {
                seen.loads.entry((flow.backend, flow.generation)).or_default().opening += 1;
            }
        })?;
        for key in stale {
            match self.half_open.get(&key, 0) {
                Ok(flow) if flow.is_stale_half_open(now) => {}
                // Its client has tried again.
                Ok(_) | Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(at(self.names.half_open)(error)),
            }
            match self.half_open.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(at(self.names.half_open)(error)),
            }
        }
        Ok(number)
    }
}

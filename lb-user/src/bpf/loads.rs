//! The datapath's own counts of connections, compared with what is in the tables.
//!
//! Counts drift: entries of handshakes are pushed out, an agent removes silent flows, two CPUs see the two ends of a flow
//! close at once. What a sweep has seen bounds the error, and the error is written down beside the counts, where no
//! packet writes.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{Array, MapData};
use aya::{Ebpf, Pod};
use lb_ebpf::abi::{Backend, Correction, Load, MAX_BACKENDS, map, service_load};

use super::tables::{TableError, at, share};

/// What was found in the tables of one backend or service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Established connections.
    pub(super) open: u64,
    /// Handshakes under way.
    pub(super) opening: u64,
    /// Established connections that were removed because of their silence, which the datapath does not count.
    pub(super) removed: u64,
}

/// Connections by slot and generation of their backend.
pub(super) type FoundBy = BTreeMap<(u16, u32), Found>;

/// The tables of counts.
pub(super) struct Loads {
    backends: Array<MapData, Backend>,
    loads: Array<MapData, Load>,
    corrections: Array<MapData, Correction>,
}

/// Counts at one moment, by backend with their identity, and by service.
#[derive(Debug, Default)]
pub(super) struct Counts {
    backends: BTreeMap<(u16, u32), (Load, u16)>,
    services: BTreeMap<u16, Load>,
}

impl Loads {
    pub(super) fn share(ebpf: &Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            backends: share(ebpf, map::BACKENDS)?,
            loads: share(ebpf, map::LOADS)?,
            corrections: share(ebpf, map::CORRECTIONS)?,
        })
    }

    /// The counts of all backends there are. Slots are given out from the first on.
    pub(super) fn read(&self) -> Result<Counts, TableError> {
        let mut counts = Counts::default();
        for slot in 0..MAX_BACKENDS as u16 {
            let backend = get(&self.backends, map::BACKENDS, slot.into())?;
            if backend.generation == 0 {
                break;
            }
            if !backend.is_free() {
                let load = get(&self.loads, map::LOADS, slot.into())?;
                counts.backends.insert((slot, backend.generation), (load, backend.service));
            }
        }
        let services: BTreeSet<_> = counts.backends.values().map(|(_, service)| *service).collect();
        for service in services {
            counts.services.insert(service, get(&self.loads, map::LOADS, service_load(service))?);
        }
        Ok(counts)
    }

    /// Writes down what the counts are wrong by, after `found` was found between `before` and now.
    pub(super) fn correct(&mut self, before: &Counts, found: &FoundBy) -> Result<(), TableError> {
        let after = self.read()?;
        let mut of_services: BTreeMap<u16, Found> = BTreeMap::new();
        for ((slot, generation), (load, service)) in &after.backends {
            let found = found.get(&(*slot, *generation)).copied().unwrap_or_default();
            let sum = of_services.entry(*service).or_default();
            sum.open += found.open;
            sum.removed += found.removed;
            // Who was not there before is looked at next time.
            if let Some((earlier, _)) = before.backends.get(&(*slot, *generation)) {
                self.correct_one(u32::from(*slot), earlier, load, found)?;
            }
        }
        for (service, found) in of_services {
            if let (Some(earlier), Some(load)) = (before.services.get(&service), after.services.get(&service)) {
                self.correct_one(service_load(service), earlier, load, found)?;
            }
        }
        Ok(())
    }

    fn correct_one(&mut self, place: u32, before: &Load, after: &Load, found: Found) -> Result<(), TableError> {
        let correction = get(&self.corrections, map::CORRECTIONS, place)?;
        let right = corrected(before, after, correction, found);
        if right != correction {
            self.corrections.set(place, right, 0).map_err(at(map::CORRECTIONS))?;
        }
        Ok(())
    }
}

fn get<V: Pod>(table: &Array<MapData, V>, name: &'static str, place: u32) -> Result<V, TableError> {
    table.get(&place, 0).map_err(at(name))
}

/// The correction after a sweep.
fn corrected(before: &Load, after: &Load, correction: Correction, found: Found) -> Correction {
    let open = settle(
        (before.opened, before.closed),
        (after.opened, after.closed),
        correction.open.wrapping_sub_unsigned(found.removed),
        found.open,
    );
    let opening = settle((before.begun, before.ended), (after.begun, after.ended), correction.opening, found.opening);
    Correction { open, opening }
}

/// What has to be added to a difference of two counts. Of what came and went during the sweep nobody knows whether it was
/// seen; what was found beyond that is the error.
fn settle(before: (u64, u64), after: (u64, u64), correction: i64, found: u64) -> i64 {
    let difference = |came: u64, went: u64| came.wrapping_sub(went) as i64;
    let least = difference(before.0, after.1).saturating_add(correction);
    let most = difference(after.0, before.1).saturating_add(correction);
    let found = i64::try_from(found).unwrap_or(i64::MAX);
    if found < least {
        correction.saturating_sub(least - found)
    } else if found > most {
        correction.saturating_add(found - most)
    } else {
        correction
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_is_found_in_quiet_and_not_taken_for_what_came_or_went() {
        let quiet = |opened, closed, correction, found| settle((opened, closed), (opened, closed), correction, found);
        assert_eq!(quiet(10, 4, 0, 6), 0);
        assert_eq!(quiet(10, 4, 0, 9), 3, "three were never counted");
        assert_eq!(quiet(10, 4, 3, 9), 3);
        assert_eq!(quiet(10, 4, 3, 5), -1);
        assert_eq!(quiet(0, 4, 0, 0), 4, "closed more often than opened");
        // Five came and two went while it was looked.
        for found in 4..=11 {
            assert_eq!(settle((10, 4), (15, 6), 0, found), 0, "{found}");
        }
        assert_eq!(settle((10, 4), (15, 6), 0, 12), 1);
        assert_eq!(settle((10, 4), (15, 6), 0, 3), -1);
    }

    #[test]
    fn what_the_sweep_removes_is_counted_by_it() {
        let load = Load { opened: 10, closed: 4, begun: 7, ended: 7 };
        let found = Found { open: 4, opening: 0, removed: 2 };
        let correction = corrected(&load, &load, Correction::default(), found);
        assert_eq!(correction, Correction { open: -2, opening: 0 });
        assert_eq!(load.open(&correction), 4);
    }

    proptest! {
        /// Whatever was counted wrong, one quiet sweep puts it right; and a right count is never made wrong.
        #[test]
        fn errors_do_not_add_up(
            opened in 0u64..1000, closed in 0u64..1000, correction in -1000i64..1000,
            (came, went) in (0u64..50, 0u64..50), share in 0.0..1.0f64, there in 0u64..500,
        ) {
            let right = settle((opened, closed), (opened, closed), correction, there);
            prop_assert_eq!(opened as i64 - closed as i64 + right, there as i64);
            let went = went.min(there);
            let seen = there - went + ((came + went) as f64 * share) as u64;
            let later = settle((opened, closed), (opened + came, closed + went), right, seen);
            prop_assert_eq!(later, right);
        }
    }
}

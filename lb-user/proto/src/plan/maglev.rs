//! Tables for hashed clients: which backend each place belongs to, the same on every node that knows the same backends.
//!
//! Places are dealt out as Maglev does (Eisenbud et al., NSDI 2016, section 3.4), by addresses, ports and weights alone. Backends
//! that take no connections keep theirs in that deal, and lend them to the others: when one fails or comes back, no client
//! of another backend moves.

use lb_ebpf::abi::{Endpoint, ROUND_SIZE};

/// Places of a table: the largest prime that a round has room for, so that every backend's steps meet every place.
pub const TABLE_SIZE: usize = 509;
const _: () = assert!(TABLE_SIZE <= ROUND_SIZE as usize);

/// A backend to deal places to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it listens; distinct.
    pub endpoint: Endpoint,
    /// What stands for it in the table.
    pub slot: u32,
    /// Its share of the places; 0: none.
    pub weight: u16,
    /// Whether it takes connections.
    pub serves: bool,
}

/// The table, [`TABLE_SIZE`] slots; empty where nobody with a weight serves. The order of the candidates and their slots decide
/// nothing.
#[must_use]
pub fn table(candidates: &[Candidate]) -> Vec<u32> {
    let mut all: Vec<_> = candidates.iter().filter(|candidate| candidate.weight > 0).collect();
    all.sort_unstable_by_key(|candidate| candidate.endpoint);
    let serving: Vec<_> = all.iter().copied().filter(|candidate| candidate.serves).collect();
    if serving.is_empty() {
        return Vec::new();
    }
    let mut places = vec![None; TABLE_SIZE];
    deal(&all, &mut places);
    for place in &mut places {
        *place = place.filter(|candidate: &&Candidate| candidate.serves);
    }
    deal(&serving, &mut places);
    places.into_iter().flatten().map(|candidate| candidate.slot).collect()
}

/// Deals the free places: each candidate takes the next free one on its own way through the table, as often as its
/// weight says, and once before all others.
fn deal<'a>(candidates: &[&'a Candidate], places: &mut [Option<&'a Candidate>]) {
    let most = candidates.iter().map(|candidate| u32::from(candidate.weight)).max().unwrap_or_default();
    // A first turn for each, whatever its weight.
    let hand = |candidate: &&'a Candidate| {
        let weight = u32::from(candidate.weight);
        (*candidate, Way::of(candidate.endpoint), weight, most.saturating_sub(weight))
    };
    let mut hands: Vec<_> = candidates.iter().map(hand).collect();
    let mut free = places.iter().filter(|place| place.is_none()).count();
    while free > 0 && most > 0 {
        for (candidate, way, weight, credit) in &mut hands {
            *credit += *weight;
            if *credit < most || free == 0 {
                continue;
            }
            *credit -= most;
            let taken = way.find(|at| places.get(*at).is_some_and(Option::is_none));
            if let Some(place) = taken.and_then(|at| places.get_mut(at)) {
                *place = Some(*candidate);
                free -= 1;
            }
        }
    }
}

/// A candidate's own order of all places.
struct Way {
    next: usize,
    step: usize,
    left: usize,
}

impl Way {
    fn of(endpoint: Endpoint) -> Self {
        let size = TABLE_SIZE as u64;
        Self {
            next: (hash(endpoint, 1) % size) as usize,
            step: (hash(endpoint, 2) % (size - 1)) as usize + 1,
            left: TABLE_SIZE,
        }
    }
}

impl Iterator for Way {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.next;
        self.next = (at + self.step) % TABLE_SIZE;
        Some(at)
    }
}

fn hash(endpoint: Endpoint, salt: u8) -> u64 {
    stable_hash(endpoint.address.wire().into_iter().chain(endpoint.port.wire()).chain([salt]))
}

/// A number for some bytes, the same on all nodes: FNV-1a, then mixed as SplitMix64 does. Versions must agree on it for ever.
#[must_use]
pub fn stable_hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let fnv = bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;

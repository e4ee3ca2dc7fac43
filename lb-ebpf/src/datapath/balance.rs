//! How connections are spread over the backends of a service: which one is next, and whether it has room.
//!
//! The agent lays out a round of places and, behind it, each backend once; what is looked at here besides is how many
//! connections each of them has.

use crate::abi::{Backend, Balance, Change, ROUND_SIZE, Reason, SET_SIZE, Service, service_load};
use crate::net::{Be16, Be128};

/// Backends that are compared for the fewest connections; of more than these, each connection compares the next ones.
const COMPARED: u32 = 16;

/// Connections that a backend or a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connections {
    /// Established.
    pub open: u32,
    /// Handshakes under way.
    pub opening: u32,
}

/// The kernel's maps, or a model of them, as far as backends are chosen by them.
pub trait Rounds {
    /// A backend by its slot.
    fn backend(&self, slot: u32) -> Option<&Backend>;
    /// The slot at a place of the rounds.
    fn ring(&self, place: u32) -> Option<u32>;
    /// Takes a turn of a service: one more than the last time.
    fn take_turn(&self, service: u32) -> Option<u32>;
    /// Connections by slot, or by [`service_load`].
    fn connections(&self, at: u32) -> Connections;
    /// Counts for a slot, or for a [`service_load`].
    fn count(&self, at: u32, change: Change);
}

/// What tells a client from others, as far as the service's balance asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// Its address.
    pub address: Be128,
    /// Its port and the service's.
    pub ports: [Be16; 2],
}

/// The slot of the backend for a new connection.
///
/// # Errors
/// Why nobody takes it.
#[inline(always)]
pub(super) fn choose(rounds: &impl Rounds, service: &Service, asking: &Asking) -> Result<u32, Reason> {
    let picks = if service.balance == Balance::Source as u16 {
        Some(by_source(service, asking))
    } else if service.balance == Balance::Maglev as u16 {
        Some(by_connection(service, asking))
    } else {
        rounds.take_turn(service.number as u32)
    };
    let compared = if service.balance == Balance::LeastConn as u16 { COMPARED } else { 0 };
    at(rounds, service, picks.ok_or(Reason::NoBackend)?, &Among { compared, looked_at: SET_SIZE, except: None })
}

#[inline(always)]
fn by_source(service: &Service, asking: &Asking) -> u32 {
    Hash::new(service.key).address(asking.address).finish()
}

#[inline(always)]
fn by_connection(service: &Service, asking: &Asking) -> u32 {
    let [from, to] = asking.ports;
    let ports = (from.raw() as u32) << 16 | to.raw() as u32;
    Hash::new(service.key).address(asking.address).word(ports).finish()
}

/// The slot of the backend that follows from the client, full or not.
#[inline(always)]
pub(super) fn hashed(rounds: &impl Rounds, service: &Service, asking: &Asking) -> Option<u32> {
    let length = service.ring_length as u32;
    if length == 0 || length > ROUND_SIZE {
        return None;
    }
    let number = if service.balance == Balance::Source as u16 {
        by_source(service, asking)
    } else if service.balance == Balance::Maglev as u16 {
        by_connection(service, asking)
    } else {
        return None;
    };
    let slot = rounds.ring(service.ring_start.wrapping_add(number % length))?;
    rounds.backend(slot).is_some_and(|backend| is_of(backend, service)).then_some(slot)
}

/// Which backends are looked at, where the place that is picked is not all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Among {
    /// So many are compared for the fewest connections; 0: the place decides.
    pub(super) compared: u32,
    /// So many are looked at for one with room.
    pub(super) looked_at: u32,
    /// Not the one in this slot.
    pub(super) except: Option<u32>,
}

/// The same by a number that picks a place: the backend there, unless it has no room.
///
/// # Errors
/// Why nobody takes it.
#[inline(always)]
pub(super) fn at(rounds: &impl Rounds, service: &Service, number: u32, among: &Among) -> Result<u32, Reason> {
    let length = service.ring_length as u32;
    if length == 0 || length > ROUND_SIZE {
        return Err(Reason::NoBackend);
    }
    if service.max_connections != 0 && rounds.connections(service_load(service.number)).open >= service.max_connections
    {
        return Err(Reason::ServiceFull);
    }
    if among.compared == 0 {
        let slot = rounds.ring(service.ring_start.wrapping_add(number % length)).ok_or(Reason::NoBackend)?;
        // Whoever reads a round while the agent writes it may meet somebody else's backend.
        if among.except != Some(slot)
            && let Some(backend) = rounds.backend(slot).filter(|backend| is_of(backend, service))
            && has_room(rounds, slot, backend)
        {
            return Ok(slot);
        }
    }
    least(rounds, service, number, among)
}

/// Of the backends with room, from the one at `number` on, the one with the fewest connections for its share among
/// the first that are compared, or else the first; of equals the first.
///
/// # Errors
/// Why nobody takes it.
#[inline(always)]
fn least(rounds: &impl Rounds, service: &Service, number: u32, among: &Among) -> Result<u32, Reason> {
    let length = service.set_length as u32;
    if length == 0 {
        return Err(Reason::NoBackend);
    }
    let set = service.ring_start.wrapping_add(service.ring_length as u32);
    let first = number % length;
    // One more than the slot.
    let (mut best, mut best_load, mut best_share) = (0_u32, 0_u64, 0_u64);
    let mut refusal = Reason::NoBackend;
    let mut looked = 0;
    while looked < among.looked_at {
        if looked >= length || best != 0 && looked >= among.compared {
            break;
        }
        let place = first.wrapping_add(looked) % length;
        looked += 1;
        let slot = rounds.ring(set.wrapping_add(place)).ok_or(Reason::NoBackend)?;
        let backend = rounds.backend(slot).ok_or(Reason::NoBackend)?;
        if !is_of(backend, service) || backend.share == 0 || among.except == Some(slot) {
            continue;
        }
        let has = rounds.connections(slot);
        if is_full(backend, has) {
            refusal = Reason::BackendsFull;
            continue;
        }
        // The connection itself counts, so that an idle backend with a larger share comes first.
        let load = has.open as u64 + has.opening as u64 + 1;
        let share = backend.share as u64;
        if best == 0 || load.wrapping_mul(best_share) < best_load.wrapping_mul(share) {
            (best, best_load, best_share) = (slot.wrapping_add(1), load, share);
        }
    }
    best.checked_sub(1).ok_or(refusal)
}

/// Whether the backend is one of the service's and not gone.
#[inline(always)]
pub(super) fn is_of(backend: &Backend, service: &Service) -> bool {
    backend.generation != 0 && backend.gone == 0 && backend.service == service.number && !backend.is_free()
}

/// Whether the backend in a slot takes another connection.
#[inline(always)]
pub(super) fn has_room(rounds: &impl Rounds, slot: u32, backend: &Backend) -> bool {
    backend.max_connections == 0 || !is_full(backend, rounds.connections(slot))
}

/// Handshakes under way do not count: whoever sends SYNs alone must not fill a backend.
#[inline(always)]
fn is_full(backend: &Backend, has: Connections) -> bool {
    backend.max_connections != 0 && has.open >= backend.max_connections
}

/// How a backend stands when a service looks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be taken.
    Takes,
    /// It has no share of new connections.
    NoShare,
    /// It has as many connections as it may.
    Full,
    /// It is another service's, or gone.
    NotOfService,
}

/// How the backend in a slot stands; for explanations, by the same rules as choices.
#[must_use]
pub fn standing(rounds: &impl Rounds, service: &Service, slot: u32) -> Standing {
    match rounds.backend(slot) {
        Some(backend) if is_of(backend, service) => {
            if backend.share == 0 {
                Standing::NoShare
            } else if has_room(rounds, slot, backend) {
                Standing::Takes
            } else {
                Standing::Full
            }
        }
        _ => Standing::NotOfService,
    }
}

/// Counts the beginning or the end of a handshake.
#[inline(always)]
pub(super) fn count_opening(rounds: &impl Rounds, slot: u32, change: Change) {
    rounds.count(slot, change);
}

/// Counts the beginning or the end of an established connection, of the backend that had this slot then; not of who has
/// it now, if that is another.
#[inline(always)]
pub(super) fn count_open(rounds: &impl Rounds, slot: u32, generation: u32, change: Change) {
    if let Some(backend) = rounds.backend(slot)
        && backend.generation == generation
    {
        rounds.count(slot, change);
        rounds.count(service_load(backend.service), change);
    }
}

/// HalfSipHash-1-3 over whole words, as Linux has it for 32 bits (lib/siphash.c): nobody without the key can look for
/// clients that come to the same backend.
#[derive(Debug, Clone, Copy)]
pub struct Hash {
    v0: u32,
    v1: u32,
    v2: u32,
    v3: u32,
    words: u32,
}

impl Hash {
    /// Of nothing yet.
    #[inline(always)]
    #[must_use]
    pub const fn new([low, high]: [u32; 2]) -> Self {
        Self { v0: low, v1: high, v2: 0x6c79_6765 ^ low, v3: 0x7465_6462 ^ high, words: 0 }
    }

    /// And of one more word.
    #[inline(always)]
    #[must_use]
    pub const fn word(mut self, word: u32) -> Self {
        self.v3 ^= word;
        let mut hash = self.round();
        hash.v0 ^= word;
        hash.words += 1;
        hash
    }

    /// And of an address.
    #[inline(always)]
    #[must_use]
    pub fn address(self, address: Be128) -> Self {
        let [a, b, c, d] = address.raw();
        self.word(a).word(b).word(c).word(d)
    }

    /// The hash.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self) -> u32 {
        let length = (self.words * 4) << 24;
        let mut hash = self.word(length);
        hash.v2 ^= 0xff;
        let hash = hash.round().round().round();
        hash.v1 ^ hash.v3
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let Self { mut v0, mut v1, mut v2, mut v3, words } = self;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(5) ^ v0;
        v0 = v0.rotate_left(16);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(8) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(7) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v2;
        v2 = v2.rotate_left(16);
        Self { v0, v1, v2, v3, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_linuxs() {
        // lib/test_siphash.c (lib/tests/siphash_kunit.c), test_vectors_hsiphash of 32 bits: bytes 0, 1, 2 and so on.
        let empty = Hash::new([0x0302_0100, 0x0706_0504]);
        let one = empty.word(0x0302_0100);
        let three = one.word(0x0706_0504).word(0x0b0a_0908);
        assert_eq!([empty, one, three].map(Hash::finish), [0x5814_c896, 0x7e05_9ea6, 0x6b28_096c]);
    }
}

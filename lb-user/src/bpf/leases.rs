//! Leases of virtual addresses, written where the datapath reads them.
//!
//! Whoever sends an advert writes its lease in the same breath, so the table is shared between threads; nobody holds it for
//! longer than a few system calls, and never for all addresses. It outlives the agent: what an earlier one wrote last says whether a new one may continue.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use lb_ebpf::abi::{Lease, map};
use lb_ebpf::net::Be128;
use tracing::error;

use super::attach::directory_of;
use super::layout::{Pin, lease_shape};
use super::tables::{TableError, at, take};

/// `BPF_NOEXIST` (linux/bpf.h): only where there is no entry.
const NO_EXIST: u64 = 1;

/// The leases of a node. Clones write to the same table.
#[derive(Debug, Clone, Default)]
pub struct Leases(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    /// None before there is a datapath.
    table: Option<Table>,
    /// Those that are configured, as they were last written.
    known: BTreeMap<Key, Lease>,
    /// Whether the last step failed.
    failed: bool,
}

/// The address as it is written there.
type Key = [u8; 16];
type Table = HashMap<MapData, Key, Lease>;

fn key(address: IpAddr) -> Key {
    Be128::from(address).wire()
}

impl Leases {
    /// Those that an earlier agent of this node left pinned; of none otherwise.
    #[must_use]
    pub fn pinned(node: &str) -> Self {
        let path = directory_of(node).join(map::LEASES);
        let opened = || {
            if !matches!(lease_shape().compare(&path), Ok(Pin::Fits)) {
                return None;
            }
            let data = MapData::from_pin(&path).ok()?;
            Table::try_from(Map::from_map_data(data).ok()?).ok()
        };
        Self(Arc::new(Mutex::new(Book { table: opened(), ..Book::default() })))
    }

    /// Uses the table of a loaded object from now on, and writes there what it does not know.
    ///
    /// # Errors
    /// When the object is not ours, or the kernel refuses.
    pub fn follow(&self, ebpf: &mut Ebpf) -> Result<(), TableError> {
        let mut table: Table = take(ebpf, map::LEASES)?;
        let mut written = BTreeMap::new();
        // What is renewed meanwhile is in the old table: once around again for that.
        loop {
            let known = {
                let mut book = self.lock();
                if book.known == written {
                    book.table = Some(table);
                    return Ok(());
                }
                book.known.clone()
            };
            for (key, lease) in &known {
                match written.get(key) {
                    None => add(&mut table, *key, *lease).map_err(at(map::LEASES))?,
                    Some(before) if before != lease => table.insert(key, lease, 0).map_err(at(map::LEASES))?,
                    Some(_) => {}
                }
            }
            written = known;
        }
    }

    /// Has leases of these addresses and no others. A new one is over from the beginning.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn configure(&self, addresses: &BTreeSet<IpAddr>) -> Result<(), TableError> {
        let wanted: BTreeSet<_> = addresses.iter().copied().map(key).collect();
        self.lock().known.retain(|key, _| wanted.contains(key));
        for key in &wanted {
            let mut book = self.lock();
            if !book.known.contains_key(key) {
                let there = book.read(key).unwrap_or_default();
                book.known.insert(*key, there);
            }
        }
        // By a descriptor of its own, the table is listed while others write.
        let again = self.lock().table.as_ref().map(|table| table.map().fd().as_fd().try_clone_to_owned());
        let shared = |source| TableError::Shared { table: map::LEASES, source };
        let Some(again) = again.transpose().map_err(shared)? else { return Ok(()) };
        let listed = Map::HashMap(MapData::from_fd(again).map_err(at(map::LEASES))?);
        let listed = Table::try_from(listed).map_err(at(map::LEASES))?;
        let written: Vec<_> = listed.keys().collect::<Result<_, _>>().map_err(at(map::LEASES))?;
        for key in written.iter().filter(|key| !wanted.contains(*key)) {
            if let Some(table) = &mut self.lock().table {
                table.remove(key).map_err(at(map::LEASES))?;
            }
        }
        for key in &wanted {
            let mut book = self.lock();
            if let Book { table: Some(table), known, .. } = &mut *book
                && let Some(lease) = known.get(key)
            {
                add(table, *key, *lease).map_err(at(map::LEASES))?;
            }
        }
        Ok(())
    }

    /// The lease of an address, as the datapath knows it.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<Lease> {
        self.lock().read(&key(address))
    }

    /// Writes the lease of an address; one that is not configured has none.
    pub fn write(&self, address: IpAddr, lease: Lease) {
        let mut book = self.lock();
        let Book { table, known, failed } = &mut *book;
        let Some(place) = known.get_mut(&key(address)) else { return };
        *place = lease;
        let Some(table) = table else { return };
        match table.insert(key(address), lease, 0) {
            Ok(()) => *failed = false,
            // The lease ends by itself then.
            Err(error) if !*failed => {
                *failed = true;
                error!(%address, %error, "the datapath does not take the lease: it will not answer for the address");
            }
            Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing is left half-done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn read(&self, key: &Key) -> Option<Lease> {
        match &self.table {
            Some(table) => table.get(key, 0).ok(),
            None => self.known.get(key).copied(),
        }
    }
}

fn add(table: &mut Table, key: Key, lease: Lease) -> Result<(), MapError> {
    match table.insert(key, lease, NO_EXIST) {
        Err(MapError::SyscallError(call)) if call.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_configured_has_a_lease() {
        let (vip, other) = (IpAddr::from([192, 0, 2, 100]), IpAddr::from([192, 0, 2, 101]));
        let leases = Leases::default();
        let held = Lease { until: u64::MAX, router: 51, flags: 0 };
        leases.write(vip, held);
        assert_eq!(leases.of(vip), None);
        leases.configure(&[vip].into()).unwrap();
        assert_eq!(leases.of(vip), Some(Lease::default()), "it is over from the beginning");
        leases.write(vip, held);
        leases.write(other, held);
        leases.configure(&[vip, other].into()).unwrap();
        assert_eq!((leases.of(vip), leases.of(other)), (Some(held), Some(Lease::default())));
        leases.configure(&[other].into()).unwrap();
        leases.write(vip, held);
        assert_eq!(leases.of(vip), None);
    }
}

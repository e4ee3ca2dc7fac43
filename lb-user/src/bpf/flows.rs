//! The tables of established flows, in words that every node understands: entries read as records, and records made entries.
//!
//! A record names addresses; this node's own tables say which service and backend they are here. What they do not know is
//! skipped, and tried again when whoever sends records sends all of them anew.

mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use aya::maps::{Array, HashMap, IterableMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use lb_ebpf::abi::{Adoption, Backend, Endpoint, Flow, FlowKey, Keyed, Readable as _, Service, map, state};
use lb_ebpf::net::{Address, Be32, Be128};
use lb_proto::sync::{FRESH_SECONDS, Key, Record};
use tracing::warn;

use super::attach::directory_of;
use super::batch::entries;
use super::tables::{TableError, at, share};
use crate::clock;
use crate::drivers::sync::{Adopted, Flows};
use words::Place;
pub use words::Skipped;
pub(super) use words::{ends, key_of, narrow};

/// A flow that is known is only written anew when the record knows of packets so much later.
const REFRESH_SECONDS: u32 = 30;

/// The tables of established flows, and those that tell which service and backend an address is.
pub struct FlowTable {
    view: View,
    services: HashMap<MapData, Endpoint, Service>,
    vips: HashMap<MapData, [u8; 16], u32>,
    /// Slots of backends by service and address, as far as they were read.
    slots: BTreeMap<(u16, Endpoint), u16>,
}

/// The tables that records are read from.
pub(super) struct View {
    pub(super) four: HashMap<MapData, FlowKey, Flow>,
    pub(super) six: HashMap<MapData, FlowKey<Be128>, Flow<Be128>>,
    backends: Array<MapData, Backend>,
}

/// Where a table is found.
pub(super) trait Found {
    /// The table of this name.
    fn table<T: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> Result<T, TableError>;
}

impl Found for &Ebpf {
    fn table<T: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> Result<T, TableError> {
        share(self, name)
    }
}

/// The directory of a node's pins.
pub(super) struct Pins<'a>(pub(super) &'a Path);

impl Found for Pins<'_> {
    fn table<T: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> Result<T, TableError> {
        let data = MapData::from_pin(self.0.join(name)).map_err(at(name))?;
        Map::from_map_data(data).and_then(TryInto::try_into).map_err(at(name))
    }
}

/// An IP version's table.
pub(super) trait Kept: Address {
    fn table(view: &View) -> &HashMap<MapData, FlowKey<Self>, Flow<Self>>;
    fn table_mut(view: &mut View) -> &mut HashMap<MapData, FlowKey<Self>, Flow<Self>>;
    const NAME: &'static str;
}

macro_rules! kept {
    ($address:ty, $field:ident, $name:expr) => {
        impl Kept for $address {
            fn table(view: &View) -> &HashMap<MapData, FlowKey<Self>, Flow<Self>> {
                &view.$field
            }

            fn table_mut(view: &mut View) -> &mut HashMap<MapData, FlowKey<Self>, Flow<Self>> {
                &mut view.$field
            }

            const NAME: &'static str = $name;
        }
    };
}
kept!(Be32, four, map::ESTABLISHED);
kept!(Be128, six, map::ESTABLISHED6);

impl View {
    pub(super) fn find(found: &impl Found) -> Result<Self, TableError> {
        Ok(Self {
            four: found.table(map::ESTABLISHED)?,
            six: found.table(map::ESTABLISHED6)?,
            backends: found.table(map::BACKENDS)?,
        })
    }

    /// The flow with this key of the client's packets, if it is there and not over.
    pub(super) fn record(&self, client: &FlowKey<Be128>) -> Result<Option<Record>, TableError> {
        let now = clock::monotonic_seconds();
        if client.source.mapped().is_some() {
            self.record_of::<Be32>(&narrow(client), now)
        } else {
            self.record_of::<Be128>(client, now)
        }
    }

    fn record_of<A: Kept>(&self, key: &FlowKey<A>, now: u32) -> Result<Option<Record>, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let Some(flow) = self.flow(key)? else {
            return Ok(None);
        };
        let backend = self.backend(flow.backend.into())?;
        Ok(words::record(key, &flow, &backend, now))
    }

    pub(super) fn flow<A: Kept>(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        there(A::table(self).get(key, 0)).map_err(at(A::NAME))
    }

    pub(super) fn backend(&self, slot: u32) -> Result<Backend, TableError> {
        self.backends.get(&slot, 0).map_err(at(map::BACKENDS))
    }

    pub(super) fn all_backends(&self) -> Result<BTreeMap<u32, Backend>, TableError> {
        let mut all = BTreeMap::new();
        let data = IterableMap::map(&self.backends);
        let used = |slot, backend: Backend| {
            if backend.generation != 0 {
                all.insert(slot, backend);
            }
        };
        entries(data.fd(), used).map_err(|source| TableError::Whole { table: map::BACKENDS, source })?;
        Ok(all)
    }

    fn all<A: Kept>(&self, backends: &BTreeMap<u32, Backend>, each: &mut dyn FnMut(Record)) -> Result<(), TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let now = clock::monotonic_seconds();
        let data = IterableMap::map(A::table(self));
        let read = |key: FlowKey<A>, flow: Flow<A>| {
            let backend = backends.get(&flow.backend.into());
            if let Some(record) = backend.and_then(|backend| words::record(&key, &flow, backend, now)) {
                each(record);
            }
        };
        entries(data.fd(), read).map_err(|source| TableError::Whole { table: A::NAME, source })
    }

    /// Removes an entry, and the one for answers if it is of the same flow.
    fn remove<A: Kept>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let answers = flow.other();
        if self.flow(&answers)?.is_some_and(|back| back.other() == *key && !back.is_from_client()) {
            there(A::table_mut(self).remove(&answers)).map_err(at(A::NAME))?;
        }
        there(A::table_mut(self).remove(key)).map_err(at(A::NAME))?;
        Ok(())
    }

    /// Adds an entry where none is; whether it was.
    fn add<A: Kept>(&mut self, (key, flow): &Keyed<A>) -> Result<Result<(), Skipped>, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        match A::table_mut(self).insert(key, flow, BPF_NOEXIST) {
            Ok(()) => Ok(Ok(())),
            Err(error) => match refusal(&error) {
                Some(why) => Ok(Err(why)),
                None => Err(at(A::NAME)(error)),
            },
        }
    }
}

/// `BPF_NOEXIST` (linux/bpf.h)
const BPF_NOEXIST: u64 = 1;
/// `BPF_EXIST`
const BPF_EXIST: u64 = 2;

/// What an insertion's error says of the table, if it is about that.
fn refusal(error: &MapError) -> Option<Skipped> {
    let MapError::SyscallError(error) = error else {
        return None;
    };
    match error.io_error.raw_os_error() {
        Some(libc::E2BIG | libc::ENOMEM) => Some(Skipped::Full),
        // The datapath was faster: the client has opened it anew.
        Some(libc::EEXIST) => Some(Skipped::Newer),
        _ => None,
    }
}

/// What is not there is none.
pub(super) fn there<T>(outcome: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What became of a record.
enum Outcome {
    Taken,
    Known,
}

/// What has been looked up for this call's records.
#[derive(Default)]
struct Looked {
    services: BTreeMap<Endpoint, Option<Service>>,
    backends: BTreeMap<u16, Backend>,
    /// Whether all slots were read in this call.
    all_slots: bool,
}

impl FlowTable {
    /// A view of the tables of a loaded object, which others take out of it afterwards.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn look(ebpf: &Ebpf) -> Result<Self, TableError> {
        Self::find(&ebpf)
    }

    /// A view of the tables that the agent of this node has pinned.
    ///
    /// # Errors
    /// When it has not.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        Self::find(&Pins(&directory_of(node)))
    }

    fn find(found: &impl Found) -> Result<Self, TableError> {
        Ok(Self {
            view: View::find(found)?,
            services: found.table(map::SERVICES)?,
            vips: found.table(map::VIPS)?,
            slots: BTreeMap::new(),
        })
    }

    fn adopt_one(&mut self, record: &Record, looked: &mut Looked) -> Result<Result<Outcome, Skipped>, TableError> {
        let place = match self.place(record, looked)? {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        };
        let adoption = match words::adoption(record, &place, clock::monotonic_seconds()) {
            Ok(adoption) => adoption,
            // What this node's own server has, it has itself.
            Err(Skipped::NotHere) => {
                let client = key_of(&record.key).map(|client| self.view.record(&client)).transpose()?;
                return Ok(if client.flatten().is_some() { Ok(Outcome::Known) } else { Err(Skipped::NotHere) });
            }
            Err(why) => return Ok(Err(why)),
        };
        if record.key.client.is_ipv4() {
            self.insert::<Be32>(record, adoption)
        } else {
            self.insert::<Be128>(record, adoption)
        }
    }

    /// The service and the backend of a record on this node.
    fn place(&mut self, record: &Record, looked: &mut Looked) -> Result<Result<Place, Skipped>, TableError> {
        let listener = Endpoint::from(record.key.listener);
        let service = match looked.services.get(&listener) {
            Some(service) => *service,
            None => {
                let service = there(self.services.get(&listener, 0)).map_err(at(map::SERVICES))?;
                looked.services.insert(listener, service);
                service
            }
        };
        let Some(service) = service else {
            return Ok(Err(Skipped::NoService));
        };
        let Some((slot, backend)) = self.backend_of(&service, record, looked)? else {
            return Ok(Err(Skipped::NoBackend));
        };
        let has_source = match words::source(record) {
            Some(source) => there(self.vips.get(&Be128::from(source).wire(), 0)).map_err(at(map::VIPS))?.is_some(),
            None => true,
        };
        Ok(if has_source { Ok(Place { service, slot, backend }) } else { Err(Skipped::NoSource) })
    }

    fn backend_of(
        &mut self, service: &Service, record: &Record, looked: &mut Looked,
    ) -> Result<Option<(u16, Backend)>, TableError> {
        let reached = record.backend;
        // One without a port is reached at the port that the client asked for.
        let any_port = (reached.port() == record.key.listener.port()).then(|| SocketAddr::new(reached.ip(), 0));
        let wanted: Vec<_> =
            [Some(reached), any_port].into_iter().flatten().map(|at| (service.number, Endpoint::from(at))).collect();
        loop {
            for key in &wanted {
                let Some(slot) = self.slots.get(key).copied() else {
                    continue;
                };
                let backend = match looked.backends.get(&slot) {
                    Some(backend) => *backend,
                    None => {
                        let backend = self.view.backend(slot.into())?;
                        looked.backends.insert(slot, backend);
                        backend
                    }
                };
                if (backend.service, backend.endpoint) == *key {
                    return Ok((backend.gone == 0).then_some((slot, backend)));
                }
            }
            if looked.all_slots {
                return Ok(None);
            }
            looked.all_slots = true;
            let all = self.view.all_backends()?.into_iter().filter(|(_, backend)| !backend.is_free());
            self.slots = all
                .filter_map(|(slot, backend)| Some(((backend.service, backend.endpoint), u16::try_from(slot).ok()?)))
                .collect();
        }
    }

    fn insert<A: Kept>(&mut self, record: &Record, adoption: Adoption) -> Result<Result<Outcome, Skipped>, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let ((key, there), back) = adoption.entries::<A>();
        let now = clock::monotonic_seconds();
        if let Some(known) = self.view.flow(&key)? {
            let is_same = known.translated == there.translated
                && known.delivery == there.delivery
                && (known.backend, known.generation) == (there.backend, there.generation);
            let is_whole = match &back {
                Some((answers, _)) => self.view.flow(answers)?.is_some_and(|back| back.other() == key),
                None => true,
            };
            if is_same && is_whole {
                self.refresh(&key, known, adoption.seen)?;
                return Ok(Ok(Outcome::Known));
            }
            // Its own server's flows a node knows best.
            if !is_same && known.is_local() && there.is_direct() && !known.is_expired(now) {
                return Ok(Ok(Outcome::Known));
            }
            if !is_same && !self.gives_way(&key, &known, record, now)? {
                return Ok(Ok(Outcome::Known));
            }
            self.view.remove(&key, &known)?;
        }
        if let Some((answers, _)) = &back
            && let Some(other) = self.view.flow(answers)?
        {
            // The source port was another flow's, which has closed, or which others know better.
            let client = other.other();
            let flow = self.view.flow(&client)?.filter(|flow| flow.other() == *answers);
            let is_over = other.is_closed() || other.seen < adoption.seen;
            match flow {
                Some(flow) if is_over => self.view.remove(&client, &flow)?,
                Some(_) => return Ok(Err(Skipped::Newer)),
                None => {
                    there_or_gone(A::table_mut(&mut self.view).remove(answers)).map_err(at(A::NAME))?;
                }
            }
        }
        if let Some(back) = &back
            && let Err(why) = self.view.add(back)?
        {
            return Ok(Err(why));
        }
        if let Err(why) = self.view.add(&(key, there))? {
            if let Some((answers, _)) = &back {
                there_or_gone(A::table_mut(&mut self.view).remove(answers)).map_err(at(A::NAME))?;
            }
            return Ok(Err(why));
        }
        Ok(Ok(Outcome::Taken))
    }

    /// Whether another flow under the same addresses gives way to a record.
    fn gives_way<A: Kept>(
        &self, key: &FlowKey<A>, known: &Flow<A>, record: &Record, now: u32,
    ) -> Result<bool, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let backend = self.view.backend(known.backend.into())?;
        Ok(match words::record(key, known, &backend, now) {
            Some(known) => record.supersedes(&known),
            // It is over, or its backend is gone.
            None => now.saturating_sub(known.seen.get()) >= record.silent_seconds,
        })
    }

    /// A flow that had packets elsewhere is not silent.
    fn refresh<A: Kept>(&mut self, key: &FlowKey<A>, known: Flow<A>, seen: u32) -> Result<(), TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        if known.is_closed() || seen < known.seen.saturating_add(REFRESH_SECONDS) {
            return Ok(());
        }
        // Had it packets here, it would not have been silent for so long; what they change meanwhile comes again.
        let fresh = Flow { seen, state: known.state | state::UNSURE, ..known };
        match A::table_mut(&mut self.view).insert(key, fresh, BPF_EXIST) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(at(A::NAME)(error)),
        }
    }

    fn forget_one<A: Kept>(&mut self, key: &FlowKey<A>) -> Result<(), TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let Some(flow) = self.view.flow(key)?.filter(Flow::is_from_client) else {
            return Ok(());
        };
        let is_alive = flow.state & state::UNSURE == 0
            && clock::monotonic_seconds().saturating_sub(flow.seen) < FRESH_SECONDS
            && !flow.is_closed();
        if is_alive { Ok(()) } else { self.view.remove(key, &flow) }
    }
}

fn there_or_gone(outcome: Result<(), MapError>) -> Result<(), MapError> {
    there(outcome).map(|_| ())
}

impl Flows for FlowTable {
    fn all(&mut self, each: &mut dyn FnMut(Record)) {
        let outcome = self.view.all_backends().and_then(|backends| {
            self.view.all::<Be32>(&backends, each)?;
            self.view.all::<Be128>(&backends, each)
        });
        if let Err(error) = outcome {
            warn!("not every flow can be shared: {error}");
        }
    }

    fn adopt(&mut self, records: &[Record]) -> Adopted {
        let mut adopted = Adopted::default();
        let mut looked = Looked::default();
        for record in records {
            match self.adopt_one(record, &mut looked) {
                Ok(Ok(Outcome::Taken)) => adopted.taken += 1,
                Ok(Ok(Outcome::Known)) => adopted.known += 1,
                Ok(Err(why)) => adopted.skip(why),
                Err(error) => {
                    warn!("flows of other nodes cannot be taken in: {error}");
                    adopted.skip(Skipped::Refused);
                }
            }
        }
        adopted
    }

    fn forget(&mut self, keys: &[Key]) {
        for key in keys {
            let Some(client) = key_of(key) else {
                continue;
            };
            let outcome = if key.client.is_ipv4() {
                self.forget_one::<Be32>(&narrow(&client))
            } else {
                self.forget_one::<Be128>(&client)
            };
            if let Err(error) = outcome {
                warn!("a flow that ended elsewhere cannot be removed: {error}");
            }
        }
    }
}

//! What the log of flows hears: from the datapath, of flows that open and close, and from the sweep, of those that it removes.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use aya::Pod;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use lb_ebpf::abi::{Flow, FlowKey, Logged, map, state, told};
use lb_ebpf::net::{Address, Be16, Be32, Be128};

use super::attach::directory_of;
use super::flows::{Found as _, Kept, Pins, View, narrow};
use super::tables::{TableError, at};
use crate::clock;

/// Flows that the sweep has removed and that the log has not taken yet.
const REMOVED: usize = 4096;

/// What has happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is established.
    Opened,
    /// Its ends have closed it.
    Closed,
    /// One of its ends has reset it.
    Reset,
    /// It is over, for one reason or another: its entries are gone.
    Ended,
    /// It was silent for too long.
    Idle,
    /// Its backend is gone.
    BackendGone,
}

impl What {
    /// Why it is over, as in the log; `None`: it is not.
    #[must_use]
    pub const fn cause(self) -> Option<&'static str> {
        match self {
            Self::Opened => None,
            Self::Closed => Some("closed"),
            Self::Reset => Some("reset"),
            Self::Ended => Some("ended"),
            Self::Idle => Some("idle"),
            Self::BackendGone => Some("backend_gone"),
        }
    }
}

/// Something that has happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened {
    /// What.
    pub what: What,
    /// When, nanosecond of the monotonic clock of the kernel.
    pub at: u64,
    /// The client.
    pub client: SocketAddr,
    /// Where it connected to.
    pub listener: SocketAddr,
    /// Slot and generation of its backend.
    pub place: (u16, u32),
    /// Where the backend listens; `None` where packets stay as they are.
    pub backend: Option<SocketAddr>,
    /// Where the backend believes its client to be; `None` where packets stay as they are.
    pub seen_as: Option<SocketAddr>,
    /// Sequence numbers of what comes next from the client and from the backend; `None`: not known.
    pub next: [Option<u32>; 2],
}

impl Happened {
    fn of<A: Address>(
        (what, at): (What, u64), client: &FlowKey<A>, translated: &FlowKey<A>, place: (u16, u32),
        next: [Option<u32>; 2],
    ) -> Self {
        let socket = |address: A, port: Be16| {
            let address: Be128 = address.into();
            SocketAddr::new(address.into(), port.get())
        };
        let changed = (client != translated).then_some(translated);
        Self {
            what,
            at,
            client: socket(client.source, client.source_port),
            listener: socket(client.destination, client.destination_port),
            place,
            backend: changed.map(|key| socket(key.destination, key.destination_port)),
            seen_as: changed.map(|key| socket(key.source, key.source_port)),
            next,
        }
    }
}

/// What comes next in both directions by a flow's entries, without what a FIN counts.
fn numbers<A: Address>(flow: &Flow<A>, answers: Option<&Flow<A>>) -> [Option<u32>; 2] {
    // One whose packets go another way has one end alone here, whose FIN stands for both.
    let fin = |bit: u32| u32::from(flow.state & bit != 0);
    let from_client = flow.expect.wrapping_sub(fin(state::FIN_CLIENT));
    let from_backend = answers.map(|answers| answers.expect.wrapping_sub(fin(state::FIN_BACKEND)));
    [Some(from_client), from_backend]
}

/// Where the sweep tells of flows that it removes; to nobody, until somebody listens.
#[derive(Debug, Clone, Default)]
pub struct Removals(Arc<Mutex<Option<SyncSender<Happened>>>>);

impl Removals {
    /// Hears of them from now on, in place of whoever did before.
    #[must_use]
    pub fn listen(&self) -> Receiver<Happened> {
        let (sender, receiver) = sync_channel(REMOVED);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Tells of one. What has no room is forgotten: the sweep does not wait.
    pub(super) fn tell<A: Address>(&self, what: What, key: &FlowKey<A>, flow: &Flow<A>, answers: Option<&Flow<A>>) {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = listener.as_ref() else {
            return;
        };
        let place = (flow.backend, flow.generation);
        let happened =
            Happened::of((what, clock::monotonic_nanoseconds()), key, &flow.translated, place, numbers(flow, answers));
        if let Err(std::sync::mpsc::TrySendError::Disconnected(_)) = sender.try_send(happened) {
            *listener = None;
        }
    }
}

/// The ring buffer, whose descriptor is readable when there is something in it.
pub struct LoggedFlows {
    ring: RingBuf<MapData>,
    unlogged: PerCpuArray<MapData, u64>,
    /// How many were missed when last looked.
    missed: u64,
    view: View,
}

impl LoggedFlows {
    /// That of the object which the agent of this node has pinned; only one may read it.
    ///
    /// # Errors
    /// When it has not.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        let directory = directory_of(node);
        let pins = Pins(&directory);
        let (ring, unlogged) = (pins.table(map::LOGGED)?, pins.table(map::UNLOGGED)?);
        let mut flows = Self { ring, unlogged, missed: 0, view: View::find(&pins)? };
        flows.missed = flows.count()?;
        Ok(flows)
    }

    fn count(&self) -> Result<u64, TableError> {
        Ok(self.unlogged.get(&0, 0).map_err(at(map::UNLOGGED))?.iter().sum())
    }

    /// How many had no room in the ring since this was last asked.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn missed(&mut self) -> Result<u64, TableError> {
        let now = self.count()?;
        Ok(now.saturating_sub(std::mem::replace(&mut self.missed, now)))
    }

    /// What has happened next, if anything has.
    ///
    /// # Errors
    /// When a table cannot be read; that one is lost.
    pub fn take_one(&mut self) -> Result<Option<Happened>, TableError> {
        loop {
            let Some(item) = self.ring.next() else {
                return Ok(None);
            };
            let Some(logged) = read(&item) else {
                continue;
            };
            drop(item);
            let found = if logged.client.source.mapped().is_some() {
                self.happened::<Be32>(&logged)
            } else {
                self.happened::<Be128>(&logged)
            };
            return found.map(Some);
        }
    }

    fn happened<A: Kept>(&self, logged: &Logged) -> Result<Happened, TableError>
    where
        FlowKey<A>: Pod,
        Flow<A>: Pod,
    {
        let (client, translated) = (narrow::<A>(&logged.client), narrow::<A>(&logged.translated));
        let place = (logged.backend, logged.generation);
        if logged.what == told::OPENED {
            let next = [Some(logged.from_client), (client != translated).then_some(logged.from_backend)];
            return Ok(Happened::of((What::Opened, logged.at), &client, &translated, place, next));
        }
        // Its entries stay for a while, unless its client has used the port again or its backend is gone.
        let flow = self.view.flow(&client)?.filter(|flow| flow.is_closed() && flow.translated == translated);
        let Some(flow) = flow else {
            return Ok(Happened::of((What::Ended, logged.at), &client, &translated, place, [None, None]));
        };
        let answers = if flow.is_direct() { None } else { self.view.flow(&flow.other())? };
        let what = if flow.state & state::RESET != 0 { What::Reset } else { What::Closed };
        Ok(Happened::of((what, logged.at), &client, &translated, place, numbers(&flow, answers.as_ref())))
    }
}

impl AsRawFd for LoggedFlows {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

fn read(bytes: &[u8]) -> Option<Logged> {
    const { assert!(size_of::<Logged>() == 104) };
    let address = |at: usize| Some(Be128::from_wire(*bytes.get(at..)?.first_chunk()?));
    let port = |at: usize| Some(Be16::from_raw(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)));
    let key = |at: usize| {
        Some(FlowKey {
            source: address(at)?,
            destination: address(at + 16)?,
            source_port: port(at + 32)?,
            destination_port: port(at + 34)?,
        })
    };
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    Some(Logged {
        at: u64::from_ne_bytes(*bytes.first_chunk()?),
        client: key(8)?,
        translated: key(44)?,
        what: word(80)?,
        generation: word(84)?,
        backend: half(88)?,
        service: half(90)?,
        from_client: word(92)?,
        from_backend: word(96)?,
        pad: word(100)?,
    })
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::Direction;

    use super::*;

    fn key(source: u8, port: u16) -> FlowKey {
        FlowKey {
            source: Be32::from_wire([192, 0, 2, source]),
            destination: Be32::from_wire([192, 0, 2, 100]),
            source_port: Be16::new(port),
            destination_port: Be16::new(8443),
        }
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let logged = Logged {
            at: 5,
            client: key(10, 40000).wide(),
            translated: key(11, 1024).wide(),
            what: told::OPENED,
            generation: 9,
            backend: 3,
            service: 1,
            from_client: 77,
            from_backend: 88,
            pad: 0,
        };
        // SAFETY: the type has no padding, which its size asserts.
        let bytes: [u8; size_of::<Logged>()] = unsafe { std::mem::transmute(logged) };
        assert_eq!(read(&bytes), Some(logged));
        assert_eq!(read(&bytes[..103]), None);
    }

    #[test]
    fn the_sweep_tells_whoever_listens_and_waits_for_nobody() {
        let removals = Removals::default();
        let flow = Flow { expect: 1000, ..Flow::new(&key(10, 40000), key(11, 1024), Direction::ToBackend, 5) };
        let tell = |what| removals.tell(what, &key(10, 40000), &flow, None);
        tell(What::Idle);
        let receiver = removals.listen();
        for _ in 0..=REMOVED {
            tell(What::BackendGone);
        }
        let all: Vec<_> = receiver.try_iter().collect();
        assert_eq!(all.len(), REMOVED);
        assert_eq!((all[0].what, all[0].next), (What::BackendGone, [Some(1000), None]));
        assert_eq!(all[0].seen_as.map(|seen| seen.to_string()).as_deref(), Some("192.0.2.11:1024"));
        drop(receiver);
        tell(What::Idle);
        assert!(removals.0.lock().unwrap().is_none());
    }

    #[test]
    fn a_fin_is_no_byte() {
        let flow = Flow { expect: 1001, state: state::FIN_CLIENT, ..Flow::<Be32>::default() };
        let answers = Flow { expect: 0, state: state::FIN_CLIENT, ..Flow::<Be32>::default() };
        assert_eq!(numbers(&flow, Some(&answers)), [Some(1000), Some(0)]);
        let closed = Flow { state: state::FIN_CLIENT | state::FIN_BACKEND, ..flow };
        assert_eq!(numbers(&closed, Some(&answers)), [Some(1000), Some(u32::MAX)]);
    }
}

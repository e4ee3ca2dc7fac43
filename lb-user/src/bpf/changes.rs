//! What the datapath tells of flows that open and close, and what it knows of nodes that share them.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use lb_ebpf::abi::{FlowKey, Sharing, Told, hears, map, told};
use lb_ebpf::net::{Be16, Be128};
use lb_proto::sync::Change;

use super::attach::directory_of;
use super::flows::{Found, Pins, View, ends};
use super::tables::{TableError, at, share, take};
use crate::clock;
use crate::drivers::sync::Changes;

/// How long a packet of no flow waits for word of its flow after a VIP has come here: two batches' time.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// The ring buffer, whose descriptor is readable when there is something in it.
pub struct FlowChanges {
    ring: RingBuf<MapData>,
    untold: PerCpuArray<MapData, u64>,
    /// How many were untold when last looked.
    missed: u64,
    view: View,
}

impl FlowChanges {
    /// Takes it out of the loaded object, before others take the tables.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        let view = View::find(&&*ebpf)?;
        Self::begin(take(ebpf, map::CHANGES)?, take(ebpf, map::UNTOLD)?, view)
    }

    /// That of the object which the agent of this node has pinned; only one may read it.
    ///
    /// # Errors
    /// When it has not.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        let directory = directory_of(node);
        let pins = Pins(&directory);
        Self::begin(pins.table(map::CHANGES)?, pins.table(map::UNTOLD)?, View::find(&pins)?)
    }

    fn begin(ring: RingBuf<MapData>, untold: PerCpuArray<MapData, u64>, view: View) -> Result<Self, TableError> {
        let mut changes = Self { ring, untold, missed: 0, view };
        changes.missed = changes.untold()?;
        Ok(changes)
    }

    fn untold(&self) -> Result<u64, TableError> {
        Ok(self.untold.get(&0, 0).map_err(at(map::UNTOLD))?.iter().sum())
    }

    /// What has happened since, at most so many changes at once; `None`: nothing more. A flow that is over by now is not
    /// told as one that opened.
    ///
    /// # Errors
    /// When a table cannot be read; what was taken is lost.
    pub fn next(&mut self, most: usize) -> Result<Option<Changes>, TableError> {
        let untold = self.untold()?;
        if untold != self.missed {
            self.missed = untold;
            return Ok(Some(Changes::Lost));
        }
        let mut batch = Vec::new();
        while batch.len() < most {
            let Some(item) = self.ring.next() else {
                break;
            };
            let Some(Told { client, what }) = read(&item) else {
                continue;
            };
            drop(item);
            match what {
                told::OPENED => batch.extend(self.view.record(&client)?.map(Change::Opened)),
                told::CLOSED => batch.push(Change::Closed(ends(&client))),
                _ => {}
            }
        }
        Ok((!batch.is_empty()).then_some(Changes::Batch(batch)))
    }
}

impl AsRawFd for FlowChanges {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

fn read(bytes: &[u8]) -> Option<Told> {
    const { assert!(size_of::<Told>() == 40) };
    let address = |at: usize| Some(Be128::from_wire(*bytes.get(at..)?.first_chunk()?));
    let port = |at: usize| Some(Be16::from_raw(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)));
    Some(Told {
        client: FlowKey {
            source: address(0)?,
            destination: address(16)?,
            source_port: port(32)?,
            destination_port: port(34)?,
        },
        what: u32::from_ne_bytes(*bytes.get(36..)?.first_chunk()?),
    })
}

/// What the datapath is told of nodes that share its flows.
pub struct SharingSwitch(Array<MapData, Sharing>);

impl SharingSwitch {
    /// A view of the loaded object's.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn look(ebpf: &Ebpf) -> Result<Self, TableError> {
        Ok(Self(share(ebpf, map::SHARING)?))
    }

    /// That of the object which the agent of this node has pinned.
    ///
    /// # Errors
    /// When it has not.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        Ok(Self(Pins(&directory_of(node)).table(map::SHARING)?))
    }

    /// Whether flows are shared.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn is_on(&self) -> Result<bool, TableError> {
        Ok(self.0.get(&0, 0).map_err(at(map::SHARING))?.is_on & hears::SHARED != 0)
    }

    /// Says whether flows are shared: the datapath tells of them, and believes that they may have been elsewhere.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&mut self, is_on: bool) -> Result<(), TableError> {
        self.switch(hears::SHARED, is_on)
    }

    /// Says whether the log of flows hears of them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn log(&mut self, is_on: bool) -> Result<(), TableError> {
        self.switch(hears::LOGGED, is_on)
    }

    fn switch(&mut self, bit: u32, is_on: bool) -> Result<(), TableError> {
        let with = |bits: u32| if is_on { bits | bit } else { bits & !bit };
        self.change(|sharing| Sharing { is_on: with(sharing.is_on), ..sharing })
    }

    /// This node gains a VIP now: to be said before it has the address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn gained(&mut self, patience: Duration) -> Result<(), TableError> {
        let patience = u64::try_from(patience.as_nanos()).unwrap_or_default();
        let (gained, patient_until) =
            (clock::monotonic_seconds(), clock::monotonic_nanoseconds().saturating_add(patience));
        self.change(|sharing| Sharing { gained, patient_until, ..sharing })
    }

    fn change(&mut self, change: impl FnOnce(Sharing) -> Sharing) -> Result<(), TableError> {
        let before = self.0.get(&0, 0).map_err(at(map::SHARING))?;
        let after = change(before);
        if after == before { Ok(()) } else { self.0.set(0, after, 0).map_err(at(map::SHARING)) }
    }
}

//! Connections that end without a word of their own: their clients are told, who would otherwise wait for an answer.
//!
//! The backend is gone, or both ends have been silent for longer than `idle_timeout`, where the backend is told too.
//!
//! A client that says nothing hears nothing: one that watches, above all, which takes a quarter of an hour to notice. It
//! gets a RST with the number that it acknowledged last, and both entries go. If data was under way it does not believe
//! that number, says so, and gets another RST from the datapath.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use lb_ebpf::abi::{Backend, Flow, FlowKey, map};
use lb_ebpf::net::Address;
use lb_proto::wire::reset::reset;

use super::tables::{TableError, at, share};
use crate::sock::raw::{RawSockets, is_here};

/// RSTs at once.
const BATCH: u32 = 20;
/// Between two batches: 2,000 a second, so that the other backends are not overrun by those who come again.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends the RSTs.
pub(super) struct Ending {
    backends: Array<MapData, Backend>,
    sockets: RawSockets,
    /// Whether a backend is gone, by slot and generation, as seen in this sweep.
    seen: BTreeMap<(u16, u32), bool>,
    /// Whether a VIP is on this node, the same.
    here: BTreeMap<IpAddr, bool>,
    sent: u32,
}

impl Ending {
    /// A view of the table of backends, which somebody else may take out of the object afterwards.
    pub(super) fn look(ebpf: &Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            backends: share(ebpf, map::BACKENDS)?,
            sockets: RawSockets::open(),
            seen: BTreeMap::new(),
            here: BTreeMap::new(),
            sent: 0,
        })
    }

    /// Begins anew: what was true before may not be now.
    pub(super) fn begin(&mut self) {
        self.seen.clear();
        self.here.clear();
        self.sent = 0;
    }

    /// Whether a flow's client waits for a backend that is gone.
    pub(super) fn is_of_gone<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, TableError> {
        if !flow.is_from_client() || flow.is_closed() {
            return Ok(false);
        }
        let of = (flow.backend, flow.generation);
        let is_gone = match self.seen.get(&of) {
            Some(is_gone) => *is_gone,
            None => {
                let is_gone = self.is_gone(flow)?;
                self.seen.insert(of, is_gone);
                is_gone
            }
        };
        if !is_gone {
            return Ok(false);
        }
        Ok(self.is_ours(key))
    }

    /// Whether a client is this node's: those of a VIP that another node has by now are that node's.
    fn is_ours<A: Address>(&mut self, key: &FlowKey<A>) -> bool {
        let vip = key.destination.into().into();
        *self.here.entry(vip).or_insert_with(|| is_here(vip))
    }

    /// The same as it is at this moment: the backend may have come back meanwhile.
    pub(super) fn is_gone<A: Address>(&self, flow: &Flow<A>) -> Result<bool, TableError> {
        let backend = self.backends.get(&flow.backend.into(), 0).map_err(at(map::BACKENDS))?;
        Ok(backend.gone != 0 || backend.generation != flow.generation)
    }

    /// Sends a flow's client a RST, in its time. One that cannot be sent is the datapath's to send when the client says
    /// something.
    pub(super) fn reset<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        self.send(&key.reversed(), flow.acknowledged);
    }

    /// The same for both ends of a flow that has been silent for too long; `pair` is its entry for answers. A backend that
    /// answers clients itself has its own node to tell it.
    pub(super) fn expire<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>, pair: Option<&Flow<A>>) {
        if !self.is_ours(key) {
            return;
        }
        self.send(&key.reversed(), flow.acknowledged);
        if let Some(pair) = pair {
            self.send(&flow.translated, pair.acknowledged);
        }
    }

    /// Sends a RST with these addresses, and the number that its receiver expects.
    fn send<A: Address>(&mut self, key: &FlowKey<A>, expected: u32) {
        if self.sent != 0 && self.sent.is_multiple_of(BATCH) {
            sleep(PAUSE);
        }
        self.sent += 1;
        let end = |address: A, port: u16| SocketAddr::new(address.into().into(), port);
        let from = end(key.source, key.source_port.get());
        let to = end(key.destination, key.destination_port.get());
        if let Some(packet) = reset(from, to, expected) {
            let _ = self.sockets.send(&packet, to.ip());
        }
    }
}

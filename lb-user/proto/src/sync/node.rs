//! All peers of a node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codec::{Nonce, Refusal};
use super::look::Remainder;
use super::peer::{Common, Peer, Wish};
use super::report::Report;
use super::table::Table;
use super::{Change, Cipher, Record};

/// Between two looks at the table, whoever wants one.
const LOOK_GAP: Duration = Duration::from_secs(1);

/// What a node wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a peer.
    Send(IpAddr, Vec<u8>),
    /// Take these in, in this order, as far as [`super::Record::supersedes`] says so; heard from this peer.
    Apply(IpAddr, Vec<Change>),
    /// Then look at what is in the tables and left over when this peer has told its table: forget what is over, and give
    /// what it was not told of to [`Node::on_untold`].
    Settle(IpAddr, Remainder),
    /// Then look at the whole table, and give it to [`Node::on_table`].
    Look,
}

/// Tells peers what happens here, and is told what happens there. Does no I/O; `random` makes numbers that were never used.
#[derive(Debug)]
pub struct Node<C: Cipher> {
    common: Common<C>,
    peers: BTreeMap<IpAddr, Peer<C::Keys>>,
    outputs: VecDeque<Output>,
    is_looking: bool,
    look_not_before: Instant,
    /// Datagrams of nobody known.
    strangers: u64,
}

impl<C: Cipher> Node<C> {
    /// Without peers.
    #[must_use]
    pub fn new(cipher: C, now: Instant) -> Self {
        Self {
            common: Common { cipher, held: BTreeSet::new() },
            peers: BTreeMap::new(),
            outputs: VecDeque::new(),
            is_looking: false,
            look_not_before: now,
            strangers: 0,
        }
    }

    /// Who the others are, from now on.
    pub fn set_peers(&mut self, peers: &BTreeSet<IpAddr>, now: Instant) {
        self.peers.retain(|peer, _| peers.contains(peer));
        // What was looked at for nobody comes for nobody.
        self.is_looking &= !peers.is_empty();
        for peer in peers {
            self.peers.entry(*peer).or_insert_with(|| Peer::new(now));
        }
    }

    /// The VIPs that this node holds, from now on.
    pub fn set_held(&mut self, held: &BTreeSet<IpAddr>) {
        if self.common.held != *held {
            self.common.held.clone_from(held);
            self.peers.values_mut().for_each(|peer| peer.set_held(held));
        }
    }

    /// This happened here, in this order.
    pub fn on_changes(&mut self, changes: &[Change], now: Instant) {
        for peer in self.peers.values_mut() {
            changes.iter().for_each(|change| peer.on_change(change, now));
        }
    }

    /// More happened here than was told.
    pub fn on_lost(&mut self) {
        self.peers.values_mut().for_each(Peer::owe);
    }

    /// Some of what a peer told was not taken in.
    pub fn on_dropped(&mut self, peer: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.ask();
        }
    }

    /// A peer was not told of these flows, and should be.
    pub fn on_untold(&mut self, peer: IpAddr, records: &[Record], now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.on_untold(records, now);
        }
    }

    /// The table as it was after everything that was asked for before the look.
    pub fn on_table(&mut self, table: Table, now: Instant) {
        let table = Arc::new(table);
        self.is_looking = false;
        self.look_not_before = now + LOOK_GAP;
        self.peers.values_mut().for_each(|peer| peer.on_table(&table, now));
    }

    /// A datagram came; its bytes are changed.
    ///
    /// # Errors
    /// It was not believed, and counted.
    pub fn on_datagram(
        &mut self, from: IpAddr, bytes: &mut [u8], now: Instant, random: &mut dyn FnMut() -> Nonce,
    ) -> Result<(), Refusal> {
        let Some(peer) = self.peers.get_mut(&from) else {
            self.strangers += 1;
            return Err(Refusal::Stranger);
        };
        let outcome = peer.on_datagram(bytes, &self.common, now, random);
        if let Err(refusal) = outcome {
            *peer.counts.refused.entry(refusal).or_default() += 1;
        }
        self.collect(from);
        outcome
    }

    /// The time is `now`. Early and repeated calls do no harm.
    pub fn on_time(&mut self, now: Instant, random: &mut dyn FnMut() -> Nonce) {
        let wants = |peer: &Peer<C::Keys>| peer.wants_look(&self.common, now);
        if !self.is_looking && now >= self.look_not_before && self.peers.values().any(wants) {
            self.is_looking = true;
            for peer in self.peers.values_mut().filter(|peer| peer.wants_look(&self.common, now)) {
                peer.on_look(&self.common, now);
            }
            self.outputs.push_back(Output::Look);
        }
        let all: Vec<_> = self.peers.keys().copied().collect();
        for address in all {
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.on_time(&self.common, now, random);
            }
            self.collect(address);
        }
    }

    fn collect(&mut self, from: IpAddr) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let wishes = std::mem::take(&mut peer.wishes);
        for wish in wishes {
            match wish {
                Wish::Send(bytes) => self.outputs.push_back(Output::Send(from, bytes)),
                Wish::Apply(changes) if changes.is_empty() => {}
                Wish::Apply(changes) => {
                    for other in self.peers.iter_mut().filter(|(other, _)| **other != from) {
                        changes.iter().for_each(|change| other.1.on_mention(change));
                    }
                    self.outputs.push_back(Output::Apply(from, changes));
                }
                Wish::Settle(remainder) => self.outputs.push_back(Output::Settle(from, remainder)),
            }
        }
    }

    /// When [`Self::on_time`] is to be called, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let looks = self.peers.values().filter_map(|peer| peer.look_at(&self.common));
        let look = looks.min().filter(|_| !self.is_looking).map(|at| at.max(self.look_not_before));
        self.peers.values().map(Peer::deadline).chain(look).min()
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The peers as they are.
    pub fn reports(&self) -> impl Iterator<Item = (IpAddr, Report)> {
        self.peers.iter().map(|(address, peer)| {
            let report = Report {
                is_up: peer.is_up(),
                since: peer.since,
                heard: peer.heard,
                backlog: peer.backlog(),
                counts: peer.counts.clone(),
            };
            (*address, report)
        })
    }

    /// Datagrams of nobody known.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers
    }
}

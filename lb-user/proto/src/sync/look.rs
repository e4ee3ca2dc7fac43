//! Looks at a whole table: one that is told to a peer, and one that a peer tells.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codec::{Item, items};
use super::table::Table;
use super::{Change, Key};

/// Flows of a table sent in a second.
pub const FLOWS_PER_SECOND: u32 = 50_000;
/// What was not sent in time is made up for no further back than this.
const MAKE_UP: Duration = Duration::from_millis(5);
/// Changes during a look that are remembered; with more, it is begun anew.
const MOST_TOUCHED: usize = 262_144;

/// A table on its way to a peer.
#[derive(Debug)]
pub(super) struct Telling {
    /// All flows, instead of those of `vips`.
    whole: bool,
    /// VIPs that were held when it began.
    vips: BTreeSet<IpAddr>,
    /// And are still.
    still: bool,
    /// Changed since it was looked at, and said since: what the table has of them is old.
    touched: HashSet<Key>,
    table: Option<Arc<Table>>,
    next: usize,
    next_at: Instant,
    /// What the peer is told of by this for the first time.
    pub(super) untold: HashSet<u64>,
}

/// What is to be said next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// These flows, and how many they are.
    Flows(Vec<u8>, u64),
    /// The end.
    End(Item),
}

impl Telling {
    pub(super) fn new(whole: bool, vips: BTreeSet<IpAddr>, now: Instant) -> Self {
        Self {
            whole,
            vips,
            still: true,
            touched: HashSet::new(),
            table: None,
            next: 0,
            next_at: now,
            untold: HashSet::new(),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn vips(&self) -> &BTreeSet<IpAddr> {
        &self.vips
    }

    /// Whether it can go on; with too many changes meanwhile it cannot.
    pub(super) fn touch(&mut self, key: &Key) -> bool {
        self.touched.insert(*key);
        self.touched.len() <= MOST_TOUCHED
    }

    pub(super) fn set_held(&mut self, held: &BTreeSet<IpAddr>) {
        self.still &= self.vips.is_subset(held);
    }

    /// The table was looked at, after everything that was said before.
    pub(super) fn on_table(&mut self, table: &Arc<Table>, now: Instant) {
        if self.table.is_none() {
            self.table = Some(Arc::clone(table));
            self.next_at = now;
        }
    }

    /// When the next part may be sent.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.table.as_ref().map(|_| self.next_at)
    }

    /// The next part, if it may be sent.
    pub(super) fn next(&mut self, now: Instant) -> Option<Part> {
        let table = self.table.as_ref()?;
        if now < self.next_at {
            return None;
        }
        let Some(chunk) = table.chunk(self.next) else {
            return Some(Part::End(Item::End { still: self.still }));
        };
        self.next += 1;
        let from = self.next_at.max(now.checked_sub(MAKE_UP).unwrap_or(now));
        self.next_at = from + Duration::from_secs(1) * chunk.flows / FLOWS_PER_SECOND;
        if self.whole && self.touched.is_empty() {
            return Some(Part::Flows(chunk.items.clone(), chunk.flows.into()));
        }
        let (mut kept, mut flows) = (Vec::with_capacity(chunk.items.len()), 0);
        for item in items(&chunk.items).unwrap_or_default() {
            if let Item::Change(change) = item
                && (self.whole || self.vips.contains(&change.key().listener.ip()))
                && !self.touched.contains(change.key())
            {
                item.emit(&mut kept);
                flows += 1;
            }
        }
        Some(Part::Flows(kept, flows))
    }
}

/// A table that a peer tells. What it does not have although it holds the VIP and was told of it, has ended.
#[derive(Debug)]
pub(super) struct Hearing {
    pub(super) whole: bool,
    /// The peer has the whole table of this node.
    complete: bool,
    /// It had read all chunks up to this one before it looked.
    received: u64,
    /// What it holds and this node does not, and what was said of which it knows.
    vips: BTreeSet<IpAddr>,
    /// Flows that were spoken of meanwhile, by whomever; with equal hashes one is kept that might go.
    mentioned: HashSet<u64>,
}

impl Hearing {
    pub(super) fn new(whole: bool, complete: bool, received: u64) -> Self {
        Self { whole, complete, received, vips: BTreeSet::new(), mentioned: HashSet::new() }
    }

    /// The peer holds `vip`; `said`: the chunk that was last to say something of flows of each VIP.
    pub(super) fn on_held(&mut self, vip: IpAddr, held: &BTreeSet<IpAddr>, said: &BTreeMap<IpAddr, u64>) {
        let knows_all = said.get(&vip).is_none_or(|chunk| *chunk <= self.received);
        if self.complete && knows_all && !held.contains(&vip) {
            self.vips.insert(vip);
        }
    }

    pub(super) fn set_held(&mut self, held: &BTreeSet<IpAddr>) {
        self.vips.retain(|vip| !held.contains(vip));
    }

    pub(super) fn mention(&mut self, change: &Change) {
        if let Change::Opened(record) = change {
            self.mentioned.insert(hash(&record.key));
        }
    }

    /// What may go, when the peer has told all of it.
    pub(super) fn end(self, still: bool, untold: HashSet<u64>) -> Option<Remainder> {
        let Self { vips, mentioned, .. } = self;
        (still && !vips.is_empty()).then_some(Remainder { vips, mentioned, untold })
    }
}

/// Which flows are left over when their holder has told all that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remainder {
    vips: BTreeSet<IpAddr>,
    mentioned: HashSet<u64>,
    untold: HashSet<u64>,
}

/// What is to be done with a flow that is left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its holder has it, or it is none of its flows.
    Stays,
    /// Its holder knew of it and does not have it: it has ended.
    Over,
    /// Its holder was never told of it.
    Untold,
}

impl Remainder {
    /// What becomes of a flow.
    #[must_use]
    pub fn fate(&self, key: &Key) -> Fate {
        let hash = hash(key);
        if !self.vips.contains(&key.listener.ip()) || self.mentioned.contains(&hash) {
            Fate::Stays
        } else if self.untold.contains(&hash) {
            Fate::Untold
        } else {
            Fate::Over
        }
    }
}

pub(super) fn hash(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

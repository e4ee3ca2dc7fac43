//! Nodes that may forward to this one: those that ask, and answer when they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two questions to one node.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long an answer is fresh.
const FRESH: Duration = Duration::from_secs(60);
/// How long a node is remembered after its last answer. Longer than a node forwards here that gets no answers.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Nodes at most, as many as the datapath's table holds.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Fellows {
    nodes: BTreeMap<IpAddr, Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The number that its answer must carry, and when it was asked.
    asked: Option<(u64, Instant)>,
    answered: Option<Instant>,
    seen: Instant,
}

impl Fellows {
    /// Whether the node is to be asked, with this number.
    pub(super) fn is_due(&mut self, node: IpAddr, nonce: u64, now: Instant) -> bool {
        let is_old = |at: Instant, age: Duration| now.saturating_duration_since(at) >= age;
        if !self.nodes.contains_key(&node) && !self.make_room() {
            return false;
        }
        let entry = self.nodes.entry(node).or_insert(Node { asked: None, answered: None, seen: now });
        entry.seen = now;
        if entry.answered.is_some_and(|at| !is_old(at, FRESH))
            || entry.asked.is_some_and(|(_, at)| !is_old(at, ASK_EVERY))
        {
            return false;
        }
        entry.asked = Some((nonce, now));
        true
    }

    /// The oldest of those that have never answered makes room; those that have are left alone.
    fn make_room(&mut self) -> bool {
        if self.nodes.len() < MOST {
            return true;
        }
        let strangers = self.nodes.iter().filter(|(_, node)| node.answered.is_none());
        let Some(oldest) = strangers.min_by_key(|(_, node)| node.seen).map(|(address, _)| *address) else {
            return false;
        };
        self.nodes.remove(&oldest);
        true
    }

    /// An answer with this number came from there.
    pub(super) fn on_answer(&mut self, from: IpAddr, nonce: u64, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&from)
            && node.asked.is_some_and(|(asked, _)| asked == nonce)
        {
            node.asked = None;
            node.answered = Some(now);
        }
    }

    /// The node has answered another question of ours.
    pub(super) fn confirm(&mut self, from: IpAddr, now: Instant) {
        if self.nodes.contains_key(&from) || self.make_room() {
            let node = self.nodes.entry(from).or_insert(Node { asked: None, answered: None, seen: now });
            (node.answered, node.seen) = (Some(now), now);
        }
    }

    /// Forgets who was silent for too long.
    pub(super) fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, node| now < node.expires());
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.nodes.values().map(Node::expires).min()
    }

    pub(super) fn confirmed(&self) -> BTreeSet<IpAddr> {
        self.nodes.iter().filter(|(_, node)| node.answered.is_some()).map(|(address, _)| *address).collect()
    }
}

impl Node {
    fn expires(&self) -> Instant {
        self.answered.unwrap_or(self.seen) + REMEMBERED
    }
}

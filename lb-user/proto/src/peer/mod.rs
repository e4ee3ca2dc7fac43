//! Which nodes deliver what is forwarded to them, and which nodes forward to this one: questions between agents.
//!
//! ```text
//!  begin ──question──> node ──answer──> Concluded(Presence)        may this node forward to it?
//!  question of another node ──answer──> it; ──question──> it       is it there, so that it may forward to this one?
//! ```
//! A node that forwards itself says yes only to nodes whose frames its datapath knows as forwarded, because those are
//! never forwarded again: whatever the nodes believe of each other, a packet makes one such hop at most.
//!
//! Nothing is authenticated. What a stranger on the path can do by lying is to have a backend left out, or taken in
//! that then gets no answer to its health check's connections; he could drop the packets as well. Who is not on the
//! path does not see the numbers that answers must carry. An answer is as long as its question, and of both there are
//! few in a second, so nobody is flooded through an agent; and a spoofed question makes no node a fellow, because a
//! fellow has to answer one.

mod fellows;
mod inquiry;
mod latch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use crate::wire::peer::Word;
use crate::wire::peer::{Kind, Message};
use fellows::Fellows;
use inquiry::Inquiry;
pub use latch::Latch;

/// Answers to one node in a second.
const PER_NODE: u32 = 256;
/// Answers to all nodes in a second.
const IN_ALL: u32 = 2048;

/// What an inquiry about a node has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It delivers for every listener it was asked about.
    Delivers,
    /// It is there and not ready, or does not know this node yet.
    NotYet,
    /// Nobody answered.
    Silent,
    /// It does not serve one of them.
    NotServed,
    /// It is about to stop.
    Leaving,
}

impl From<Word> for Presence {
    fn from(word: Word) -> Self {
        match word {
            Word::Delivers => Self::Delivers,
            Word::NotYet => Self::NotYet,
            Word::NotServed => Self::NotServed,
            Word::Leaving => Self::Leaving,
        }
    }
}

/// Ports of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The address.
    pub address: IpAddr,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl Ports {
    fn has(&self, listener: SocketAddr) -> bool {
        self.address == listener.ip() && (self.first..=self.last).contains(&listener.port())
    }
}

/// What this node does for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Post {
    /// Listeners of services whose packets nodes forward to each other. About others nothing is said.
    pub configured: Vec<Ports>,
    /// Those of them with a backend on this node.
    pub own: Vec<Ports>,
    /// The datapath is attached, and its tables are written.
    pub ready: bool,
    /// Nodes from which the datapath takes packets as forwarded.
    pub known: BTreeSet<IpAddr>,
    /// The agent is about to stop.
    pub leaving: bool,
}

impl Post {
    /// `None`: nothing is said.
    fn word(&self, from: IpAddr, listener: SocketAddr) -> Option<Word> {
        let among = |all: &[Ports]| all.iter().any(|ports| ports.has(listener));
        let knows = || self.known.contains(&from);
        among(&self.configured).then(|| match among(&self.own) {
            false => Word::NotServed,
            true if self.leaving => Word::Leaving,
            true if self.ready && knows() => Word::Delivers,
            true => Word::NotYet,
        })
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// To this place.
        to: SocketAddr,
        /// From this address of ours, where it matters.
        from: Option<IpAddr>,
        /// The message.
        message: Message,
    },
    /// The inquiry with this number is over.
    Concluded {
        /// Its number.
        nonce: u64,
        /// What it found.
        presence: Presence,
        /// The listener that decided.
        listener: SocketAddr,
    },
}

/// The state of all questions.
#[derive(Debug)]
pub struct Peers {
    /// Where agents listen, here and there.
    port: u16,
    inquiries: BTreeMap<u64, Inquiry>,
    fellows: Fellows,
    budget: Budget,
    out: Vec<Output>,
}

impl Peers {
    /// Agents are asked at this UDP port.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self {
            port,
            inquiries: BTreeMap::new(),
            fellows: Fellows::default(),
            budget: Budget::default(),
            out: Vec::new(),
        }
    }

    /// Asks whether the node with this address delivers for all of `listeners`; concluded by `deadline`. `nonce` is a
    /// random number, used once.
    pub fn begin(&mut self, nonce: u64, node: IpAddr, listeners: &[SocketAddr], deadline: Instant, now: Instant) {
        self.inquiries.insert(nonce, Inquiry::new(node, listeners, deadline, now));
        self.on_time(now);
    }

    /// Nobody waits for this inquiry any more.
    pub fn cancel(&mut self, nonce: u64) {
        self.inquiries.remove(&nonce);
    }

    /// A datagram came from `from` to our address `to`; `fresh` is a random number never used before.
    pub fn on_datagram(
        &mut self, bytes: &[u8], from: SocketAddr, to: Option<IpAddr>, post: &Post, fresh: u64, now: Instant,
    ) {
        // What is not ours, or of another version, gets no answer: whoever asks finds silence.
        let Ok(message) = Message::parse(bytes) else {
            return;
        };
        match message.kind {
            Kind::Question => self.on_question(message, from, to, post, fresh, now),
            Kind::Answer(word) => self.on_answer(message, word, from.ip(), now),
        }
    }

    fn on_question(
        &mut self, question: Message, from: SocketAddr, to: Option<IpAddr>, post: &Post, fresh: u64, now: Instant,
    ) {
        let Some(word) = post.word(from.ip(), question.listener).filter(|_| self.budget.spend(from.ip(), now)) else {
            return;
        };
        self.out.push(Output::Send { to: from, from: to, message: question.answered(word) });
        // Who answers this can be a fellow; a spoofed address does not.
        if self.fellows.is_due(from.ip(), fresh, now) {
            let message = Message { kind: Kind::Question, nonce: fresh, listener: question.listener };
            self.out.push(Output::Send { to: SocketAddr::new(from.ip(), self.port), from: to, message });
        }
    }

    fn on_answer(&mut self, answer: Message, word: Word, from: IpAddr, now: Instant) {
        self.fellows.on_answer(from, answer.nonce, now);
        let Some(inquiry) = self.inquiries.get_mut(&answer.nonce) else {
            return;
        };
        if inquiry.on_answer(from, answer.listener, word) {
            self.fellows.confirm(from, now);
            self.conclude(answer.nonce, now);
        }
    }

    fn conclude(&mut self, nonce: u64, now: Instant) {
        let Some((presence, listener)) = self.inquiries.get(&nonce).and_then(|inquiry| inquiry.finding(now)) else {
            return;
        };
        self.inquiries.remove(&nonce);
        self.out.push(Output::Concluded { nonce, presence, listener });
    }

    /// The time has come, or passed, that [`Self::deadline`] named.
    pub fn on_time(&mut self, now: Instant) {
        let nonces: Vec<_> = self.inquiries.keys().copied().collect();
        for nonce in nonces {
            self.conclude(nonce, now);
            let Some(inquiry) = self.inquiries.get_mut(&nonce) else {
                continue;
            };
            let to = SocketAddr::new(inquiry.node(), self.port);
            for listener in inquiry.due(now) {
                let message = Message { kind: Kind::Question, nonce, listener };
                self.out.push(Output::Send { to, from: None, message });
            }
        }
        self.fellows.forget(now);
    }

    /// When [`Self::on_time`] is to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.inquiries.values().map(Inquiry::deadline).chain(self.fellows.deadline()).min()
    }

    /// What is to be done, in this order.
    pub fn drain(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Nodes that run an agent, as each has shown of late by answering a question of ours.
    #[must_use]
    pub fn fellows(&self) -> BTreeSet<IpAddr> {
        self.fellows.confirmed()
    }
}

/// What may be answered in a second.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Instant>,
    spent: BTreeMap<IpAddr, u32>,
    in_all: u32,
}

impl Budget {
    fn spend(&mut self, node: IpAddr, now: Instant) -> bool {
        let is_over = self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1));
        if is_over {
            *self = Self { since: Some(now), ..Self::default() };
        }
        if self.in_all >= IN_ALL {
            return false;
        }
        let spent = self.spent.entry(node).or_default();
        if *spent >= PER_NODE {
            return false;
        }
        *spent += 1;
        self.in_all += 1;
        true
    }
}

#[cfg(test)]
mod tests;

//! One node asked about some listeners, again and again until all is known or the time is over.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Presence, Word};

/// Between two questions about the same listener: datagrams get lost, and a node that does not know this one yet takes
/// a moment.
const AGAIN: Duration = Duration::from_millis(150);

#[derive(Debug)]
pub(super) struct Inquiry {
    node: IpAddr,
    listeners: Vec<(SocketAddr, Option<Word>)>,
    next: Instant,
    deadline: Instant,
}

impl Inquiry {
    pub(super) fn new(node: IpAddr, listeners: &[SocketAddr], deadline: Instant, now: Instant) -> Self {
        let listeners = listeners.iter().map(|listener| (*listener, None)).collect();
        Self { node, listeners, next: now, deadline }
    }

    pub(super) fn node(&self) -> IpAddr {
        self.node
    }

    /// Takes an answer; returns whether it is one to this inquiry.
    pub(super) fn on_answer(&mut self, from: IpAddr, listener: SocketAddr, word: Word) -> bool {
        let asked = self.listeners.iter_mut().find(|(asked, _)| *asked == listener && from == self.node);
        let Some((_, known)) = asked else {
            return false;
        };
        *known = Some(word);
        true
    }

    /// What there is to ask now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<SocketAddr> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + AGAIN;
        self.listeners.iter().filter(|(_, word)| *word != Some(Word::Delivers)).map(|(asked, _)| *asked).collect()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.deadline)
    }

    /// The outcome, once it is certain or the time is over, and the listener that decided.
    pub(super) fn finding(&self, now: Instant) -> Option<(Presence, SocketAddr)> {
        let of = |word: Option<Word>| word.map_or(Presence::Silent, Presence::from);
        let worst = self.listeners.iter().map(|(listener, word)| (of(*word), *listener)).max_by_key(|(of, _)| *of)?;
        let certain = matches!(worst.0, Presence::Delivers | Presence::Leaving);
        (certain || now >= self.deadline).then_some(worst)
    }
}

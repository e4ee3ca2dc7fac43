//! One backend's state, from the row of its check results.
//!
//! ```text
//!              first result: Ready                      first result: anything else
//!   Unchecked ─────────────────────> Up        Unchecked ──────────────────────────> Down
//!
//!        Ready, `rise` in a row                    `fall` failures in a row, all without a TCP connection
//!   Down ──────────────────────> Up       Down ─────────────────────────────────────────────> Down, lost
//!
//!     a refusal, or `fall` failures in a row,
//!     in turn or out of turn                                     anything that took a TCP connection
//!   Up ─────────────────────────────────────> Down    Down, lost ──────────────────────────────────> Down
//! ```

use std::fmt;
use std::time::Instant;

use super::Outcome;

/// What a backend is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No check has finished yet.
    Unchecked,
    /// It takes new connections.
    Up,
    /// It takes no new connections.
    Down {
        /// Its established connections are to be considered gone too: the last `fall` checks found no TCP at all, or
        /// the node that translates for it has left.
        lost: bool,
    },
}

impl State {
    /// Whether the established connections of a backend in this state are to be considered gone.
    #[must_use]
    pub fn is_lost(self) -> bool {
        self == Self::Down { lost: true }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchecked => "unchecked",
            Self::Up => "up",
            Self::Down { lost: false } => "down",
            Self::Down { lost: true } => "down, connections lost",
        })
    }
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// The result that made the change.
    pub outcome: Outcome,
    /// How many results that speak for the change came in a row, this one included.
    pub in_a_row: u32,
}

impl Transition {
    /// Why, in words.
    #[must_use]
    pub fn why(&self) -> String {
        match (self.from, self.in_a_row) {
            (State::Unchecked, _) => format!("{} at the first check", self.outcome),
            (_, 0 | 1) => self.outcome.to_string(),
            (_, n) => format!("{}, {n} in a row", self.outcome),
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.why())
    }
}

/// The state of one backend and the results that count towards its next one.
#[derive(Debug, Clone)]
pub struct Tracker {
    rise: u32,
    fall: u32,
    state: State,
    since: Instant,
    /// Last result that says something about the backend.
    last: Option<Outcome>,
    /// `Ready` in a row.
    ready: u32,
    /// Results other than `Ready` in a row.
    failed: u32,
    /// Failures without a TCP connection in a row.
    tcp_failed: u32,
    /// Failures of checks out of turn in a row.
    urgent: u32,
    /// Its node has said farewell since the last `Ready`.
    leaving: bool,
}

impl Tracker {
    /// A backend not checked yet. `rise` and `fall` count results in a row; 0 means 1.
    #[must_use]
    pub fn new(rise: u32, fall: u32, now: Instant) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            state: State::Unchecked,
            since: now,
            last: None,
            ready: 0,
            failed: 0,
            tcp_failed: 0,
            urgent: 0,
            leaving: false,
        }
    }

    /// Takes the result of a check out of turn that asked for no more than a TCP connection, finished at `now`.
    ///
    /// `fall` failures in a row of a backend that is up take it down. They come within a moment, so they say nothing of its
    /// established connections; and a success says nothing of what is above TCP.
    pub fn on_urgent(&mut self, outcome: &Outcome, now: Instant) -> Option<Transition> {
        if self.state != State::Up || matches!(outcome, Outcome::NotAsked { .. }) {
            return None;
        }
        if !outcome.is_tcp_failure() {
            self.urgent = 0;
            return None;
        }
        self.urgent = self.urgent.saturating_add(1);
        if self.urgent < self.fall {
            return None;
        }
        let in_a_row = std::mem::take(&mut self.urgent);
        self.ready = 0;
        self.failed = self.failed.saturating_add(in_a_row);
        self.last = Some(outcome.clone());
        self.state = State::Down { lost: false };
        self.since = now;
        Some(Transition { from: State::Up, to: self.state, outcome: outcome.clone(), in_a_row })
    }

    /// Takes the result of a check that finished at `now`.
    pub fn on_outcome(&mut self, outcome: &Outcome, now: Instant) -> Option<Transition> {
        let (to, in_a_row) = match outcome {
            Outcome::NotAsked { .. } => return None,
            Outcome::Ready { .. } => {
                self.ready = self.ready.saturating_add(1);
                self.failed = 0;
                self.tcp_failed = 0;
                self.urgent = 0;
                self.leaving = false;
                (self.after_ready(), self.ready)
            }
            failure => {
                self.ready = 0;
                self.failed = self.failed.saturating_add(1);
                self.tcp_failed = if failure.is_tcp_failure() { self.tcp_failed.saturating_add(1) } else { 0 };
                self.leaving |= failure.is_farewell();
                (self.after_failure(failure), self.failed)
            }
        };
        self.last = Some(outcome.clone());
        if to == self.state {
            return None;
        }
        let from = std::mem::replace(&mut self.state, to);
        // `since` is that of the word people read: whether connections count as lost does not restart it.
        if !matches!((from, to), (State::Down { .. }, State::Down { .. })) {
            self.since = now;
        }
        Some(Transition { from, to, outcome: outcome.clone(), in_a_row })
    }

    fn after_ready(&self) -> State {
        match self.state {
            State::Unchecked | State::Up => State::Up,
            State::Down { .. } if self.ready >= self.rise => State::Up,
            State::Down { .. } => State::Down { lost: false },
        }
    }

    fn after_failure(&self, failure: &Outcome) -> State {
        match self.state {
            State::Up if !failure.is_refusal() && self.failed < self.fall => State::Up,
            _ => State::Down { lost: self.tcp_failed >= self.fall || self.leaving && !failure.is_farewell() },
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When it became up, down or, with no result yet, known.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why it is in its state, and what its latest results say, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        let Some(last) = &self.last else {
            return "not checked yet".to_owned();
        };
        match self.state {
            State::Up if self.failed > 0 => format!("{last} ({} of {} failures in a row)", self.failed, self.fall),
            State::Down { .. } if self.ready > 0 => {
                format!("{last} ({} of {} successes in a row)", self.ready, self.rise)
            }
            State::Down { .. } if self.failed > 1 => {
                format!("{last} ({} failures in a row)", self.failed)
            }
            _ => last.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;

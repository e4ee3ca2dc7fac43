//! Health of backends: what one check found, what a row of checks means, when to check next, and who serves.
//!
//! ```text
//!  Schedule ──due──> (a probe asks) ──Outcome──> Tracker ──State──> policy::decide ──> Standing per backend
//! ```
//!
//! Nothing here asks a backend anything; a driver does that and reports what it found.

pub mod policy;
mod schedule;
mod tracker;

use std::fmt;
use std::net::SocketAddr;

use crate::peer::Presence;

pub use schedule::Schedule;
pub use tracker::{State, Tracker, Transition};

/// What one check of one backend found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The check succeeded.
    Ready {
        /// Status of the HTTP answer; `None` where no HTTP was spoken.
        status: Option<u16>,
    },
    /// The server answered and says of itself that it cannot serve: a 5xx status that is not an expected one.
    NotReady {
        /// Status of the HTTP answer.
        status: u16,
    },
    /// The server answered, and not with what was asked for.
    BadAnswer(BadAnswer),
    /// TLS was spoken and refused, by either side.
    TlsFailed {
        /// What the TLS library says.
        text: String,
    },
    /// The time for the whole check ran out.
    TimedOut {
        /// What was being waited for.
        phase: Phase,
    },
    /// The backend's host answered the connection attempt with a reset: nothing listens there.
    Refused,
    /// The connection attempt failed in another way, such as "no route to host".
    Unreachable {
        /// The system's text for the error.
        text: String,
    },
    /// The server is ready, and its node does not deliver what would be forwarded to it.
    NotDelivered {
        /// What its agent said, if there is one.
        presence: Presence,
        /// Where it was asked about.
        listener: SocketAddr,
    },
    /// This node could not ask (no file descriptor, no port, no memory). It says nothing about the backend and
    /// counts neither for nor against it.
    NotAsked {
        /// The system's text for the error.
        text: String,
    },
}

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadAnswer {
    /// An unexpected status below 500, such as 404.
    Status(u16),
    /// 401 or 403: the endpoint wants credentials that the check does not have.
    Credentials(u16),
    /// Not HTTP, or HTTP beyond the limits of a check.
    Malformed(String),
    /// The connection ended before a whole answer had come.
    Closed,
}

/// The steps of a check, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The TCP connection opens.
    Connect,
    /// The TLS handshake completes.
    Handshake,
    /// The whole answer arrives.
    Answer,
}

impl Outcome {
    /// Every value of [`Outcome::result`].
    pub const RESULTS: [&'static str; 15] = [
        "ready",
        "not_ready",
        "bad_status",
        "needs_credentials",
        "malformed",
        "closed",
        "tls_failed",
        "timeout_connect",
        "timeout_handshake",
        "timeout_answer",
        "refused",
        "unreachable",
        "no_agent",
        "not_delivered",
        "not_asked",
    ];

    /// The outcome of an HTTP check that got `status`, where `expected` lists what means "ready".
    #[must_use]
    pub fn of_status(status: u16, expected: &[u16]) -> Self {
        match status {
            s if expected.contains(&s) => Self::Ready { status: Some(s) },
            s @ (401 | 403) => Self::BadAnswer(BadAnswer::Credentials(s)),
            s @ 500..=599 => Self::NotReady { status: s },
            s => Self::BadAnswer(BadAnswer::Status(s)),
        }
    }

    /// The metric label: one of [`Outcome::RESULTS`].
    #[must_use]
    pub fn result(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::NotReady { .. } => "not_ready",
            Self::BadAnswer(BadAnswer::Status(_)) => "bad_status",
            Self::BadAnswer(BadAnswer::Credentials(_)) => "needs_credentials",
            Self::BadAnswer(BadAnswer::Malformed(_)) => "malformed",
            Self::BadAnswer(BadAnswer::Closed) => "closed",
            Self::TlsFailed { .. } => "tls_failed",
            Self::TimedOut { phase: Phase::Connect } => "timeout_connect",
            Self::TimedOut { phase: Phase::Handshake } => "timeout_handshake",
            Self::TimedOut { phase: Phase::Answer } => "timeout_answer",
            Self::Refused => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::NotDelivered { presence: Presence::Silent, .. } => "no_agent",
            Self::NotDelivered { .. } => "not_delivered",
            Self::NotAsked { .. } => "not_asked",
        }
    }

    /// Whether not even a TCP connection came about. A backend that fails above TCP may still serve the
    /// connections it has.
    #[must_use]
    pub fn is_tcp_failure(&self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable { .. } | Self::TimedOut { phase: Phase::Connect })
    }
}

impl Outcome {
    /// Whether the node that translates for it is about to stop: its connections are over with the next failure.
    #[must_use]
    pub fn is_farewell(&self) -> bool {
        matches!(self, Self::NotDelivered { presence: Presence::Leaving, .. })
    }

    /// Whether the backend is out of new connections at once, by the word of its own side.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotReady { .. }
                | Self::NotDelivered { presence: Presence::NotServed | Presence::NotYet | Presence::Leaving, .. }
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { status: Some(s) } => write!(f, "answered {s}"),
            Self::Ready { status: None } => f.write_str("answered"),
            Self::NotReady { status } => write!(f, "answered {status}: not ready, by its own word"),
            Self::BadAnswer(bad) => bad.fmt(f),
            Self::TlsFailed { text } => write!(f, "TLS failed: {text}"),
            Self::TimedOut { phase } => write!(f, "{phase} timed out"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable { text } => write!(f, "unreachable: {text}"),
            Self::NotDelivered { presence, listener } => not_delivered(f, *presence, *listener),
            Self::NotAsked { text } => write!(f, "this node could not ask: {text}"),
        }
    }
}

fn not_delivered(f: &mut fmt::Formatter<'_>, presence: Presence, listener: SocketAddr) -> fmt::Result {
    match presence {
        Presence::Silent => write!(
            f,
            "no agent delivers for {listener} there (start xvip on it, with this service in mode dsr and, unless it holds the VIP too, role = \"backend\"; let UDP to its peer_port through)"
        ),
        Presence::NotServed => write!(
            f,
            "the agent there does not deliver for {listener} (its configuration needs the service, in mode dsr, with this backend)"
        ),
        Presence::NotYet => {
            write!(f, "the agent there is not ready to deliver for {listener} (see `xvip status` on it)")
        }
        Presence::Leaving => f.write_str("the agent there is stopping"),
        Presence::Delivers => write!(f, "the agent there delivers for {listener}"),
    }
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(s) => write!(f, "answered {s}, which is not an expected status"),
            Self::Credentials(s) => write!(f, "answered {s}: the endpoint needs credentials"),
            Self::Malformed(text) => write!(f, "malformed answer: {text}"),
            Self::Closed => f.write_str("closed the connection before a whole answer"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Handshake => "TLS handshake",
            Self::Answer => "answer",
        })
    }
}

#[cfg(test)]
mod tests;

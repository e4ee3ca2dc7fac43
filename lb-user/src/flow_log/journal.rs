//! The lines of the log, and how many of them there may be. Pure: the time is an argument.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::bpf::{Happened, What};
use crate::naming::Naming;
use crate::status::words::instant;

/// Open connections whose beginning is remembered; what is beyond ends without a duration.
const MOST: usize = 1 << 20;

/// A line about a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, RFC 3339.
    pub at: String,
    /// `opened` or `closed`.
    pub event: String,
    /// Why it is over: `closed`, `reset`, `idle`, `backend_gone`, or `ended` where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The service; none: it was removed.
    pub service: Option<String>,
    /// The client, address:port.
    pub client: String,
    /// Where it connected to.
    pub listener: String,
    /// The backend's name; none: it was removed.
    pub backend: Option<String>,
    /// Where it listens; none: with direct return, what its name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where the backend believes its client to be; none: with direct return, its own node knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<String>,
    /// When it opened; none: on another node, or before this agent listened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<String>,
    /// Seconds from then to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Bytes that the client has sent, what TCP carries alone, modulo 4 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_from_client: Option<u32>,
    /// The same of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_from_backend: Option<u32>,
}

/// The line about lines that there are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// When, RFC 3339.
    pub at: String,
    /// `left_out`.
    pub event: String,
    /// How many lines were left out since the last such line.
    pub lines: u64,
}

/// What is known of an open connection.
#[derive(Debug, Clone, Copy)]
struct Open {
    at: f64,
    next: [Option<u32>; 2],
}

/// The log, as far as it goes on from one line to the next.
#[derive(Debug)]
pub struct Journal {
    open: HashMap<(SocketAddr, SocketAddr), Open>,
    most: u32,
    second: f64,
    written: u32,
    left_out: u64,
}

impl Journal {
    /// With so many lines in a second, at most.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { open: HashMap::new(), most, second: 0.0, written: 0, left_out: 0 }
    }

    /// The same with another limit.
    pub fn limit(&mut self, most: u32) {
        self.most = most;
    }

    /// So many lines are missing.
    pub fn leave_out(&mut self, lines: u64) {
        self.left_out = self.left_out.saturating_add(lines);
    }

    /// Adds the line about what has happened at a moment, if there may be another now; both in seconds since the Unix epoch.
    pub fn note(&mut self, happened: &Happened, naming: &Naming, (at, now): (f64, f64), lines: &mut String) {
        let key = (happened.client, happened.listener);
        let began = match happened.what {
            What::Opened => {
                if self.open.len() < MOST || self.open.contains_key(&key) {
                    self.open.insert(key, Open { at, next: happened.next });
                }
                None
            }
            _ => self.open.remove(&key),
        };
        if !self.may_write(now) {
            self.leave_out(1);
            return;
        }
        let named = naming.of(happened.place);
        let bytes = |direction: usize| {
            let first = began.as_ref()?.next.get(direction).copied().flatten()?;
            Some(happened.next.get(direction).copied().flatten()?.wrapping_sub(first))
        };
        let cause = happened.what.cause();
        let entry = Entry {
            at: instant(at),
            event: if cause.is_none() { "opened" } else { "closed" }.to_owned(),
            cause: cause.map(str::to_owned),
            service: named.map(|named| named.service.clone()),
            client: happened.client.to_string(),
            listener: happened.listener.to_string(),
            backend: named.map(|named| named.backend.clone()),
            address: happened.backend.map(|address| address.to_string()),
            seen_as: happened.seen_as.map(|seen| seen.to_string()),
            opened_at: began.map(|open| instant(open.at)),
            duration_seconds: began.map(|open| ((at - open.at).max(0.0) * 1000.0).round() / 1000.0),
            bytes_from_client: bytes(0),
            bytes_from_backend: bytes(1),
        };
        push(&entry, lines);
    }

    /// Adds the line about those that are missing, once their second is over.
    pub fn settle(&mut self, at: f64, lines: &mut String) {
        if self.left_out > 0 && self.is_another_second(at) {
            let left =
                Left { at: instant(at), event: "left_out".to_owned(), lines: std::mem::take(&mut self.left_out) };
            push(&left, lines);
            self.begin_second(at);
        }
    }

    fn may_write(&mut self, at: f64) -> bool {
        if self.is_another_second(at) {
            self.begin_second(at);
        }
        let may = self.written < self.most;
        self.written = self.written.saturating_add(u32::from(may));
        may
    }

    /// Also where the clock was set.
    fn is_another_second(&self, at: f64) -> bool {
        !(0.0..1.0).contains(&(at - self.second))
    }

    fn begin_second(&mut self, at: f64) {
        (self.second, self.written) = (at, 0);
    }
}

fn push(line: &impl Serialize, lines: &mut String) {
    // Strings and numbers always become JSON.
    if let Ok(json) = serde_json::to_string(line) {
        lines.push_str(&json);
        lines.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::Named;

    fn happened(what: What, port: u16, next: [Option<u32>; 2]) -> Happened {
        Happened {
            what,
            at: 0,
            client: SocketAddr::from(([192, 0, 2, 10], port)),
            listener: "192.0.2.100:8443".parse().unwrap(),
            place: (3, 7),
            backend: Some("192.0.2.31:6443".parse().unwrap()),
            seen_as: Some("192.0.2.100:1024".parse().unwrap()),
            next,
        }
    }

    fn naming() -> Naming {
        let named = Named { service: "apiserver".to_owned(), backend: "master1".to_owned() };
        [((3, 7), named)].into_iter().collect()
    }

    fn entries(lines: &str) -> Vec<Entry> {
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_connection_has_two_lines() {
        let (mut journal, mut lines) = (Journal::new(10), String::new());
        let start = 1_763_840_000.25;
        journal.note(&happened(What::Opened, 1, [Some(u32::MAX), Some(10)]), &naming(), (start, start), &mut lines);
        journal.note(
            &happened(What::Closed, 1, [Some(516), Some(4010)]),
            &naming(),
            (start + 1.5, start + 1.5),
            &mut lines,
        );
        journal.settle(start + 3.0, &mut lines);
        let entries = entries(&lines);
        assert_eq!(entries.len(), 2);
        let Entry { event, cause, client, backend, seen_as, duration_seconds, .. } = &entries[0];
        assert_eq!((event.as_str(), cause, client.as_str()), ("opened", &None, "192.0.2.10:1"));
        assert_eq!((backend.as_deref(), seen_as.as_deref()), (Some("master1"), Some("192.0.2.100:1024")));
        assert_eq!(*duration_seconds, None);
        let closed = &entries[1];
        assert_eq!((closed.event.as_str(), closed.cause.as_deref()), ("closed", Some("closed")));
        assert_eq!(closed.opened_at.as_deref(), Some("2025-11-22T19:33:20.250Z"));
        assert_eq!(closed.duration_seconds, Some(1.5));
        assert_eq!((closed.bytes_from_client, closed.bytes_from_backend), (Some(517), Some(4000)));
        assert!(journal.open.is_empty());
    }

    #[test]
    fn what_opened_elsewhere_ends_without_a_beginning() {
        let (mut journal, mut lines) = (Journal::new(10), String::new());
        journal.note(&happened(What::Idle, 1, [Some(5), None]), &Naming::default(), (10.0, 10.0), &mut lines);
        let entry = &entries(&lines)[0];
        assert_eq!((entry.cause.as_deref(), &entry.backend, &entry.opened_at), (Some("idle"), &None, &None));
        assert_eq!((entry.duration_seconds, entry.bytes_from_client), (None, None));
    }

    #[test]
    fn a_flood_is_counted() {
        let (mut journal, mut lines) = (Journal::new(5), String::new());
        for port in 0..1000 {
            journal.note(&happened(What::Opened, port, [None, None]), &naming(), (10.0, 10.0), &mut lines);
        }
        journal.leave_out(7);
        journal.settle(10.9, &mut lines);
        assert_eq!(lines.lines().count(), 5);
        journal.settle(11.0, &mut lines);
        let left: Left = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!((left.event.as_str(), left.lines), ("left_out", 1002));
        journal.settle(12.0, &mut lines);
        journal.note(&happened(What::Closed, 1, [None, None]), &naming(), (12.5, 12.5), &mut lines);
        assert_eq!(lines.lines().count(), 7);
        // The clock was set back.
        journal.note(&happened(What::Closed, 2, [None, None]), &naming(), (1.0, 1.0), &mut lines);
        assert_eq!(lines.lines().count(), 8);
    }
}

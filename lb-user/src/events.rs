//! State changes on their way to the status, the commands and the log: the newest kept, one line of the log for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lb_proto::health::{State, Transition};

use crate::clock;
use crate::drivers::health::Observer;
use crate::metrics::Metrics;
use crate::status::Event;

/// How many are kept.
const KEPT: usize = 1000;

/// The target of the log's lines about events; only logs for programs show them, because the same is said in words elsewhere.
pub const TARGET: &str = "xvip::event";

/// Takes events from everywhere and keeps the newest; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Reporter(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    /// Number of the newest.
    last: u64,
}

impl Reporter {
    /// Something has happened.
    pub fn report(&self, subject: String, text: String) {
        self.add(Event {
            number: 0,
            at: clock::unix(clock::wall()),
            subject,
            text,
            from: String::new(),
            to: String::new(),
            cause: String::new(),
        });
    }

    /// Something was in one state and is in another.
    pub fn changed(&self, subject: String, from: &str, to: &str, cause: &str) {
        let text = if from.is_empty() { format!("{to}: {cause}") } else { format!("{from} -> {to}: {cause}") };
        let (from, to, cause) = (from.to_owned(), to.to_owned(), cause.to_owned());
        self.add(Event { number: 0, at: clock::unix(clock::wall()), subject, text, from, to, cause });
    }

    fn add(&self, event: Event) {
        tracing::info!(
            target: TARGET,
            subject = event.subject,
            from = event.from,
            to = event.to,
            cause = event.cause,
            "{}",
            event.text
        );
        let mut kept = self.kept();
        kept.last += 1;
        let number = kept.last;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Event { number, ..event });
    }

    /// The newest, at most so many, oldest first.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Event> {
        let kept = self.kept();
        kept.events.iter().skip(kept.events.len().saturating_sub(most)).cloned().collect()
    }

    /// The oldest of those after a number, at most so many, oldest first. Of events that are forgotten nothing is said; their
    /// numbers are missing.
    #[must_use]
    pub fn after(&self, number: u64, most: usize) -> Vec<Event> {
        self.kept().events.iter().filter(|event| event.number > number).take(most).cloned().collect()
    }

    /// Nothing that holds the lock can panic half-way through a change.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts health checks and reports what they change.
pub struct HealthObserver {
    /// Counters.
    pub metrics: Metrics,
    /// Events.
    pub reporter: Reporter,
}

impl Observer for HealthObserver {
    fn checked(&self, service: &str, backend: &str, result: &'static str, took: Duration) {
        self.metrics.health_checked(service, backend, result, took);
    }

    fn changed(&self, service: &str, backend: &str, transition: &Transition) {
        match transition.to {
            State::Up => self.metrics.backend_transition(service, backend, "up"),
            State::Down { lost: false } => self.metrics.backend_transition(service, backend, "down"),
            State::Down { lost: true } => self.metrics.backend_transition(service, backend, "lost"),
            State::Unchecked => {}
        }
        let (from, to) = (transition.from.to_string(), transition.to.to_string());
        self.reporter.changed(format!("backend {service}/{backend}"), &from, &to, &transition.why());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbered() {
        let reporter = Reporter::default();
        for n in 1..=KEPT + 5 {
            reporter.clone().report("backend a".to_owned(), n.to_string());
        }
        reporter.changed("vrrp k8s".to_owned(), "backup", "active", "nobody is heard");
        let numbers = |events: Vec<Event>| events.into_iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(reporter.newest(2)), [1005, 1006]);
        assert_eq!(numbers(reporter.after(1004, 10)), [1005, 1006]);
        assert_eq!(numbers(reporter.after(0, 2)), [7, 8], "the oldest that are left");
        assert!(reporter.after(1006, 10).is_empty() && reporter.after(u64::MAX, 10).is_empty());
        let last = reporter.newest(1).remove(0);
        assert_eq!(last.text, "backup -> active: nobody is heard");
        assert_eq!(
            (last.from.as_str(), last.to.as_str(), last.cause.as_str()),
            ("backup", "active", "nobody is heard")
        );
        assert_eq!(reporter.newest(usize::MAX).len(), KEPT);
    }
}

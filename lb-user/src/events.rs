//! State changes on their way to the status and the log: one line each, the newest kept.

use std::collections::VecDeque;
use std::time::Duration;

use lb_proto::health::Transition;
use tokio::sync::mpsc;

use crate::clock;
use crate::drivers::health::Observer;
use crate::metrics::Metrics;
use crate::status::Event;

/// How many are kept.
const KEPT: usize = 100;
/// How many may wait to be taken in; more at once are only logged.
const WAITING: usize = 256;

/// Takes events from everywhere.
#[derive(Debug, Clone)]
pub struct Reporter(mpsc::Sender<Event>);

/// The newest events.
#[derive(Debug)]
pub struct Events {
    arriving: mpsc::Receiver<Event>,
    kept: VecDeque<Event>,
}

/// The two ends.
#[must_use]
pub fn channel() -> (Reporter, Events) {
    let (sender, arriving) = mpsc::channel(WAITING);
    (Reporter(sender), Events { arriving, kept: VecDeque::new() })
}

impl Reporter {
    /// Something has changed.
    pub fn report(&self, subject: String, text: String) {
        // The log has it already; a full queue costs a line of the status.
        let _ = self.0.try_send(Event { at: clock::unix(clock::wall()), subject, text });
    }
}

impl Events {
    /// Takes in what has arrived; returns whether there was any.
    pub fn collect(&mut self) -> bool {
        let mut any = false;
        while let Ok(event) = self.arriving.try_recv() {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(event);
            any = true;
        }
        any
    }

    /// Oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.kept.iter().cloned().collect()
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
        self.reporter.report(format!("backend {service}/{backend}"), transition.to_string());
    }
}

//! Checks every backend and publishes what is known of their health.
//!
//! ```text
//!  set_targets ──watch──> driver ──owns──> Tracker per backend ──watch──> HealthSnapshot
//!                           ^  │ spawns                     └──────────> Observer
//!                    Report │  v
//!                         worker per backend (Schedule, Prober): one slow backend delays nobody
//!                         urgent, while the datapath suspects a backend
//! ```

mod urgent;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_proto::health::{Outcome, Schedule, State, Tracker, Transition};
use lb_proto::peer::{Latch, Presence};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};

use super::peer::Asker;
use crate::clock;
use crate::config::{HealthCheck, Service};
use crate::probe::{Plan, PlanError, Prober};
use urgent::{Checks, Urgent};

/// A backend to be checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    key: Key,
    address: SocketAddr,
    check: HealthCheck,
    plan: Plan,
    source: Option<IpAddr>,
    /// Its node has to deliver for all of these, as its agent says.
    delivers: Vec<SocketAddr>,
}

impl Target {
    /// The backends of `service`, asked from `source` or from the address the kernel chooses. `source` must not be
    /// a VIP: answers would arrive wherever the VIP is.
    ///
    /// Blocks on reading the files of a TLS check.
    pub fn of_service(service: &Service, source: Option<IpAddr>) -> Result<Vec<Self>, TargetError> {
        let plan = Plan::new(&service.health_check.kind)
            .map_err(|error| TargetError { service: service.name.clone(), error })?;
        let target = |backend: &crate::config::Backend| Self {
            key: Key { service: service.name.clone(), backend: backend.name.clone() },
            address: backend.checked_at(&service.health_check),
            check: service.health_check.clone(),
            plan: plan.clone(),
            source,
            delivers: Vec::new(),
        };
        Ok(service.backends.iter().map(target).collect())
    }

    /// The same, and the agent of the backend's node is asked whether it delivers for these listeners.
    #[must_use]
    pub fn delivering(self, listeners: Vec<SocketAddr>) -> Self {
        Self { delivers: listeners, ..self }
    }

    /// What is known of the backend now stays true for `other`.
    fn keeps_history(&self, other: &Self) -> bool {
        self.key == other.key && self.address == other.address && self.check == other.check
    }

    /// A prober made for one can be used for the other.
    fn keeps_prober(&self, other: &Self) -> bool {
        self.plan == other.plan && self.source == other.source && self.delivers == other.delivers
    }
}

/// The health check of a service cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[error("health check of service {service}: {error}")]
pub struct TargetError {
    /// Name of the service.
    pub service: String,
    /// What is wrong and what to do.
    #[source]
    pub error: PlanError,
}

/// Told of every check and every change, from within the driver: it must not block.
pub trait Observer: Send + Sync {
    /// A check ended after `took`, with a result of [`Outcome::RESULTS`].
    fn checked(&self, service: &str, backend: &str, result: &'static str, took: Duration);
    /// A backend's state changed.
    fn changed(&self, service: &str, backend: &str, transition: &Transition);
}

/// Observes nothing.
impl Observer for () {
    fn checked(&self, _: &str, _: &str, _: &'static str, _: Duration) {}
    fn changed(&self, _: &str, _: &str, _: &Transition) {}
}

/// The health of all backends, at one moment.
#[derive(Debug, Clone, Default)]
pub struct HealthSnapshot {
    services: BTreeMap<String, BTreeMap<String, BackendHealth>>,
}

/// The health of one backend.
#[derive(Debug, Clone)]
pub struct BackendHealth {
    /// What it is good for, and whether its established connections count as lost.
    pub state: State,
    /// When it became up or down; for one not checked yet, when checking began.
    pub since: Instant,
    /// Why, in words.
    pub reason: String,
    /// How long the last check took.
    pub last_duration: Option<Duration>,
    /// When the last check ended.
    pub checked_at: Option<Instant>,
    /// The agent of its node delivers what is forwarded to it; false where that is not asked.
    pub delivers: bool,
    /// Checks since checking began, by result.
    pub results: BTreeMap<&'static str, u64>,
}

impl HealthSnapshot {
    /// A backend's health; `None` if it is not a target, or became one a moment ago.
    #[must_use]
    pub fn backend(&self, service: &str, backend: &str) -> Option<&BackendHealth> {
        self.services.get(service)?.get(backend)
    }

    /// A backend's state; one that is not known is unchecked.
    #[must_use]
    pub fn state(&self, service: &str, backend: &str) -> State {
        self.backend(service, backend).map_or(State::Unchecked, |b| b.state)
    }

    /// Whether packets may be forwarded to a backend as they came.
    #[must_use]
    pub fn delivers(&self, service: &str, backend: &str) -> bool {
        self.backend(service, backend).is_some_and(|b| b.delivers)
    }

    /// Service, backend and health of all, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &BackendHealth)> {
        self.services
            .iter()
            .flat_map(|(service, backends)| backends.iter().map(move |(name, b)| (service.as_str(), name.as_str(), b)))
    }

    fn put(&mut self, key: &Key, health: BackendHealth) {
        self.services.entry(key.service.clone()).or_default().insert(key.backend.clone(), health);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(backends) = self.services.get_mut(&key.service) {
            backends.remove(&key.backend);
            if backends.is_empty() {
                self.services.remove(&key.service);
            }
        }
    }
}

/// The running driver. Dropping it stops all checks.
#[derive(Debug)]
pub struct Handle {
    targets: watch::Sender<Vec<Target>>,
    snapshot: watch::Receiver<HealthSnapshot>,
    suspects: mpsc::Sender<Key>,
    driver: JoinHandle<()>,
}

impl Handle {
    /// Replaces what is checked. Backends whose service, name, address and health check stay the same keep their
    /// history and, unless a TLS file has changed, their connection; a name listed twice counts once.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.targets.send_replace(targets);
    }

    /// The health of all targets. A receiver is woken when a state or the set of targets changes; what it borrows is
    /// up to date with every single check.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<HealthSnapshot> {
        self.snapshot.clone()
    }

    /// Has a backend that is up checked out of turn, quickly and until it answers or is down.
    pub fn suspect(&self, service: &str, backend: &str) {
        // Whoever suspects a backend goes on doing so while there is reason to.
        let _ = self.suspects.try_send(Key { service: service.to_owned(), backend: backend.to_owned() });
    }

    /// Stops all checks and waits until they have ended.
    pub async fn shutdown(self) {
        drop(self.targets);
        if let Err(e) = self.driver.await {
            tracing::error!(error = %e, "the health driver failed");
        }
    }
}

/// Checks backends until its handle is dropped.
pub struct HealthDriver {
    entries: BTreeMap<Key, Entry>,
    workers: JoinSet<()>,
    report: mpsc::Sender<Report>,
    snapshot: watch::Sender<HealthSnapshot>,
    observer: Arc<dyn Observer>,
    random: RandomState,
    asker: Option<Asker>,
}

impl HealthDriver {
    /// Starts a driver with nothing to check, within the current tokio runtime. `asker` asks the agents of nodes that
    /// have to deliver; without one they are silent.
    #[must_use]
    pub fn spawn(observer: Arc<dyn Observer>, asker: Option<Asker>) -> Handle {
        let (targets, desired) = watch::channel(Vec::new());
        let (snapshot, published) = watch::channel(HealthSnapshot::default());
        let (report, reports) = mpsc::channel(QUEUE);
        let (suspects, suspected) = mpsc::channel(QUEUE);
        let driver = Self {
            entries: BTreeMap::new(),
            workers: JoinSet::new(),
            report,
            snapshot,
            observer,
            random: RandomState::new(),
            asker,
        };
        Handle { targets, snapshot: published, suspects, driver: tokio::spawn(driver.run(desired, reports, suspected)) }
    }

    async fn run(
        mut self, mut desired: watch::Receiver<Vec<Target>>, mut reports: mpsc::Receiver<Report>,
        mut suspected: mpsc::Receiver<Key>,
    ) {
        loop {
            tokio::select! {
                changed = desired.changed() => match changed {
                    Ok(()) => {
                        let targets = desired.borrow_and_update().clone();
                        self.converge(targets);
                    }
                    Err(_) => break,
                },
                Some(report) = reports.recv() => self.on_report(report),
                Some(key) = suspected.recv() => self.on_suspicion(&key),
                Some(ended) = self.workers.join_next_with_id() => self.on_ended(ended),
            }
        }
        self.workers.shutdown().await;
    }

    /// Makes the entries those of `targets`.
    fn converge(&mut self, targets: Vec<Target>) {
        let mut old = std::mem::take(&mut self.entries);
        for target in targets {
            let entry = match old.remove(&target.key) {
                Some(entry) if entry.target.keeps_history(&target) => {
                    if entry.target.keeps_prober(&target) {
                        entry
                    } else {
                        entry.worker.abort();
                        Entry {
                            worker: self.start(&target, clock::now()),
                            target,
                            latch: Latch::default(),
                            urgent: Urgent::default(),
                            ..entry
                        }
                    }
                }
                replaced => {
                    if let Some(entry) = replaced {
                        entry.worker.abort();
                    }
                    Entry::new(self.start(&target, clock::now()), target)
                }
            };
            if let Some(twice) = self.entries.insert(entry.target.key.clone(), entry) {
                twice.worker.abort();
            }
        }
        for entry in old.values() {
            entry.worker.abort();
        }
        self.snapshot.send_modify(|snapshot| {
            for key in old.keys() {
                snapshot.remove(key);
            }
            for (key, entry) in &self.entries {
                snapshot.put(key, entry.health());
            }
        });
    }

    /// A worker whose first check is due at `first`.
    fn start(&mut self, target: &Target, first: Instant) -> AbortHandle {
        let prober = Prober::new(&target.plan, target.address, target.source);
        let seed = self.random.hash_one((&target.key.service, &target.key.backend));
        let worker = Worker {
            key: target.key.clone(),
            prober,
            schedule: Schedule::new(target.check.interval, seed, first),
            timeout: target.check.timeout,
            node: target.address.ip(),
            delivers: target.delivers.clone(),
            asker: self.asker.clone(),
        };
        self.workers.spawn(worker.run(self.report.clone()))
    }

    fn on_suspicion(&mut self, key: &Key) {
        let now = clock::now();
        let is_up = |entry: &&mut Entry| entry.tracker.state() == State::Up && entry.urgent.may_begin(now);
        let Some(entry) = self.entries.get_mut(key).filter(is_up) else {
            return;
        };
        let Target { address, source, check, .. } = &entry.target;
        let (worker, count) = (entry.worker.id(), check.fall.max(1));
        let checks = Checks { worker, key: key.clone(), address: *address, source: *source, count };
        entry.urgent.begun(self.workers.spawn(checks.run(self.report.clone())), now);
    }

    fn on_report(&mut self, report: Report) {
        // A worker that was replaced may have left a last report.
        let current = |e: &&mut Entry| e.worker.id() == report.worker;
        let Some(entry) = self.entries.get_mut(&report.key).filter(current) else {
            return;
        };
        let Key { service, backend } = &report.key;
        let result = report.outcome.result();
        let delivered = entry.latch.is_open();
        let transition = entry.take(&report);
        let latched = entry.latch.is_open() != delivered;
        self.observer.checked(service, backend, result, report.took);
        if let Some(transition) = &transition {
            match transition.to {
                State::Up => tracing::info!(%service, %backend, "backend {transition}"),
                State::Down { .. } | State::Unchecked => {
                    tracing::warn!(%service, %backend, "backend {transition}")
                }
            }
            self.observer.changed(service, backend, transition);
        }
        let health = entry.health();
        self.snapshot.send_if_modified(|snapshot| {
            snapshot.put(&report.key, health);
            transition.is_some() || latched
        });
    }

    /// Workers run until they are aborted: one that ends otherwise has met a defect, and must not leave its backend
    /// unchecked.
    fn on_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(e) => e.id(),
        };
        let Some(target) = self.entries.values().find(|e| e.worker.id() == id).map(|e| e.target.clone()) else {
            return;
        };
        let Key { service, backend } = &target.key;
        let cause = ended.err().map_or_else(|| "it ended".to_owned(), |e| e.to_string());
        tracing::error!(%service, %backend, cause, "health checks of this backend failed and start again");
        let worker = self.start(&target, clock::now() + target.check.interval);
        if let Some(entry) = self.entries.get_mut(&target.key) {
            entry.worker = worker;
        }
    }
}

/// A backend within its service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: String,
    backend: String,
}

/// What the driver knows of one backend.
struct Entry {
    target: Target,
    worker: AbortHandle,
    tracker: Tracker,
    latch: Latch,
    urgent: Urgent,
    last_duration: Option<Duration>,
    checked_at: Option<Instant>,
    results: BTreeMap<&'static str, u64>,
    /// The last check could not be made at all.
    not_asked: bool,
}

impl Entry {
    fn new(worker: AbortHandle, target: Target) -> Self {
        Self {
            tracker: Tracker::new(target.check.rise, target.check.fall, clock::now()),
            target,
            worker,
            latch: Latch::default(),
            urgent: Urgent::default(),
            last_duration: None,
            checked_at: None,
            results: BTreeMap::new(),
            not_asked: false,
        }
    }

    fn take(&mut self, report: &Report) -> Option<Transition> {
        if report.is_urgent {
            let count = self.results.entry(report.outcome.result()).or_default();
            *count = count.saturating_add(1);
            return self.tracker.on_urgent(&report.outcome, report.at);
        }
        let not_asked = matches!(report.outcome, Outcome::NotAsked { .. });
        if not_asked && !self.not_asked {
            let Key { service, backend } = &report.key;
            tracing::warn!(%service, %backend, "backend keeps its state: {}", report.outcome);
        }
        self.not_asked = not_asked;
        self.last_duration = Some(report.took);
        self.checked_at = Some(report.at);
        let count = self.results.entry(report.outcome.result()).or_default();
        *count = count.saturating_add(1);
        if let Some(presence) = report.presence {
            self.latch.on_finding(presence, self.target.check.fall);
        }
        self.tracker.on_outcome(&report.outcome, report.at)
    }

    fn health(&self) -> BackendHealth {
        BackendHealth {
            state: self.tracker.state(),
            since: self.tracker.since(),
            reason: self.tracker.reason(),
            last_duration: self.last_duration,
            checked_at: self.checked_at,
            delivers: self.latch.is_open(),
            results: self.results.clone(),
        }
    }
}

/// What a worker found.
struct Report {
    worker: Id,
    key: Key,
    outcome: Outcome,
    /// What the agent of its node says, where it was asked.
    presence: Option<Presence>,
    took: Duration,
    at: Instant,
    /// It was a check out of turn, for no more than a TCP connection.
    is_urgent: bool,
}

/// Asks one backend whenever it is due.
struct Worker {
    key: Key,
    prober: Prober,
    schedule: Schedule,
    timeout: Duration,
    node: IpAddr,
    delivers: Vec<SocketAddr>,
    asker: Option<Asker>,
}

impl Worker {
    async fn run(mut self, report: mpsc::Sender<Report>) {
        let worker = tokio::task::id();
        loop {
            tokio::time::sleep_until(self.schedule.due().into()).await;
            let start = clock::now();
            self.schedule.on_start(start);
            let deadline = start + self.timeout;
            let agent = delivers(self.asker.as_ref(), self.node, &self.delivers, deadline);
            let ((outcome, took), agent) = tokio::join!(self.prober.probe(deadline), agent);
            let outcome = match (outcome, agent) {
                (Outcome::Ready { .. }, Some((presence, listener))) if presence != Presence::Delivers => {
                    Outcome::NotDelivered { presence, listener }
                }
                (outcome, _) => outcome,
            };
            let presence = agent.map(|(presence, _)| presence);
            let found =
                Report { worker, key: self.key.clone(), outcome, presence, took, at: clock::now(), is_urgent: false };
            if report.send(found).await.is_err() {
                return;
            }
        }
    }
}

/// What the agent of a node says, if it is to be asked.
async fn delivers(
    asker: Option<&Asker>, node: IpAddr, listeners: &[SocketAddr], deadline: Instant,
) -> Option<(Presence, SocketAddr)> {
    let first = *listeners.first()?;
    match asker {
        Some(asker) => Some(asker.ask(node, listeners.to_vec(), deadline).await),
        None => Some((Presence::Silent, first)),
    }
}

/// Reports on their way to the driver; workers wait when it is behind.
const QUEUE: usize = 64;

#[cfg(test)]
mod tests;

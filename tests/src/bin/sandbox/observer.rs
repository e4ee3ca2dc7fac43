//! Watching the world: turns what the agents say and what the client notices into a model and into events.

use std::collections::BTreeMap;
use std::time::Duration;

use xvip_tests::stats::{Failure, WatchChange, served_per, summary};
use xvip_tests::status::Status;

use crate::model::{BalancerView, Event, Model, Running, ServerView, Tone, Traffic, spoken};
use crate::world::{BALANCERS, SERVERS, VIP, World};

/// "Lately" in the model.
const LATELY: Duration = Duration::from_secs(3);
/// Nobody served for longer than this is worth an event.
const OUTAGE: Duration = Duration::from_millis(60);
/// Failures are told once none has followed for this long.
const QUIET: Duration = Duration::from_millis(1200);
const HISTORY_STEP: Duration = Duration::from_millis(200);
const HISTORY: usize = 300;
const EVENTS_KEPT: usize = 500;

/// Remembers what was seen, to tell what changed.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    events: Vec<Event>,
    told: usize,
    vrrp: [Option<String>; BALANCERS.len()],
    backends: [Option<String>; SERVERS.len()],
    /// Everything before this moment is counted.
    counted: Duration,
    last_served: Duration,
    last_outage: Option<(Duration, Duration)>,
    served: u64,
    failed: u64,
    failing: BTreeMap<Failure, u32>,
    last_failure: Duration,
    watch_events: usize,
    broken_since: BTreeMap<usize, Duration>,
}

impl Observer {
    /// Notes something that happened.
    pub(crate) fn note(&mut self, at: Duration, tone: Tone, text: impl Into<String>) {
        self.events.push(Event { at, tone, text: text.into() });
        if self.events.len() > EVENTS_KEPT {
            self.events.remove(0);
            self.told = self.told.saturating_sub(1);
        }
    }

    /// The events nobody was told of yet.
    pub(crate) fn news(&mut self) -> Vec<Event> {
        let news = self.events.iter().skip(self.told).cloned().collect();
        self.told = self.events.len();
        news
    }

    /// Looks at the world.
    pub(crate) fn observe(&mut self, world: &mut World) -> Model {
        let now = world.client.now();
        let statuses: Vec<Option<Status>> = world.balancers.iter().map(|balancer| balancer.status()).collect();
        self.see_balancers(now, &statuses);
        let judge =
            world.holder().and_then(|index| statuses.get(index)).or_else(|| statuses.iter().find(|s| s.is_some()));
        let judge = judge.and_then(Option::as_ref);
        self.see_backends(now, judge);
        self.see_attempts(now, world);
        self.see_watches(world);

        let recent = world.client.attempts_since(now.saturating_sub(HISTORY_STEP * HISTORY as u32));
        let from = now.saturating_sub(LATELY);
        let late = summary(&recent, from, now);
        let span = (now - from).as_secs_f64().max(0.001);
        let names = world.client.servers();
        let watches = world.client.watches();
        let traffic = Traffic {
            per_second: f64::from(late.served) / span,
            history: served_per(&recent, HISTORY_STEP, HISTORY, now),
            expected: 40,
            p50: late.p50,
            p99: late.p99,
            served: self.served,
            failed: self.failed,
            outage_now: Some(now.saturating_sub(self.last_served)).filter(|silent| *silent > 2 * OUTAGE),
            last_outage: self.last_outage,
            watches_alive: watches.iter().flatten().count(),
            watches: watches.len(),
        };
        let balancers = world.balancers.iter_mut().zip(BALANCERS).zip(&statuses);
        let balancers = balancers.map(|((balancer, (name, address, priority)), status)| BalancerView {
            name: name.to_owned(),
            address: address.to_owned(),
            priority: priority.to_owned(),
            state: status.as_ref().map(|status| status.vrrp_state().to_owned()),
            datapath: status.as_ref().map(|status| status.datapath.mode.clone()).unwrap_or_default(),
            running: match (balancer.is_running(), balancer.is_frozen()) {
                (false, _) => Running::No,
                (true, true) => Running::Frozen,
                (true, false) => Running::Yes,
            },
            cut: balancer.is_cut(),
        });
        let servers = world.servers.iter_mut().zip(SERVERS).map(|(server, (name, address))| {
            let backend = judge.and_then(|status| status.backend(name));
            let index = names.iter().position(|known| known == name).and_then(|index| u16::try_from(index).ok());
            let served = index.and_then(|index| late.by_server.get(&index)).copied().unwrap_or(0);
            ServerView {
                name: name.to_owned(),
                address: format!("{address}:6443"),
                running: server.is_running(),
                ready: server.is_ready(),
                state: backend.map(|backend| backend.state.clone()),
                reason: backend.map(|backend| backend.reason.clone()).unwrap_or_default(),
                connections: backend.map_or(0, |backend| backend.connections),
                share: f64::from(served) / f64::from(late.served.max(1)),
            }
        });
        Model {
            now,
            vip: VIP.to_owned(),
            balancers: balancers.collect(),
            servers: servers.collect(),
            traffic,
            events: self.events.clone(),
            ..Model::default()
        }
    }

    fn see_balancers(&mut self, now: Duration, statuses: &[Option<Status>]) {
        for (index, status) in statuses.iter().enumerate() {
            let name = BALANCERS.get(index).map_or("", |balancer| balancer.0);
            let new = status.as_ref().map(|status| status.vrrp_state().to_owned());
            let Some(old) = self.vrrp.get_mut(index) else {
                continue;
            };
            if *old == new {
                continue;
            }
            let first = old.is_none();
            *old = new.clone();
            match new.as_deref() {
                Some("active") => self.note(now, Tone::Good, format!("{name} holds the VIP")),
                Some("fault") => self.note(now, Tone::Bad, format!("{name} cannot forward: fault")),
                Some(state) if first => self.note(now, Tone::Good, format!("{name} answers: {state}")),
                Some(state) => self.note(now, Tone::Change, format!("{name} is {state}")),
                None => self.note(now, Tone::Change, format!("{name} does not answer")),
            }
        }
    }

    fn see_backends(&mut self, now: Duration, judge: Option<&Status>) {
        let Some(judge) = judge else { return };
        for (index, (name, _)) in SERVERS.iter().enumerate() {
            let Some(backend) = judge.backend(name) else {
                continue;
            };
            let Some(old) = self.backends.get_mut(index) else {
                continue;
            };
            if old.as_ref() == Some(&backend.state) {
                continue;
            }
            let first = old.is_none();
            *old = Some(backend.state.clone());
            let why = if backend.reason.is_empty() { String::new() } else { format!(": {}", backend.reason) };
            let tone = match backend.state.as_str() {
                "up" => Tone::Good,
                "down" => Tone::Bad,
                _ => Tone::Change,
            };
            if !(first && backend.state == "up") {
                self.note(now, tone, format!("{name} is {}{why}", backend.state));
            }
        }
    }

    fn see_attempts(&mut self, now: Duration, world: &World) {
        let new = world.client.attempts_since(self.counted);
        for attempt in &new {
            match attempt.outcome {
                Ok(_) => {
                    let ended = attempt.ended();
                    let silent = ended.saturating_sub(self.last_served);
                    if silent >= OUTAGE && self.served > 0 {
                        self.last_outage = Some((silent, ended));
                        self.note(ended, Tone::Bad, format!("no new connection was served for {}", spoken(silent)));
                    }
                    self.last_served = self.last_served.max(ended);
                    self.served += 1;
                }
                Err(failure) => {
                    self.failed += 1;
                    *self.failing.entry(failure).or_default() += 1;
                    self.last_failure = now;
                }
            }
        }
        // The next look begins behind the last attempt of this one; ends are unique enough at this resolution.
        if let Some(last) = new.last() {
            self.counted = last.ended() + Duration::from_nanos(1);
        }
        if !self.failing.is_empty() && now > self.last_failure + QUIET {
            let total: u32 = self.failing.values().sum();
            let kinds: Vec<String> = self.failing.iter().map(|(failure, count)| format!("{count} {failure}")).collect();
            let noun = if total == 1 { "connection" } else { "connections" };
            self.note(now, Tone::Bad, format!("{total} new {noun} failed: {}", kinds.join(", ")));
            self.failing.clear();
        }
    }

    fn see_watches(&mut self, world: &World) {
        let news = world.client.watch_events(self.watch_events);
        self.watch_events += news.len();
        let mut broken: Vec<(Duration, Failure)> = Vec::new();
        for event in news {
            match event.change {
                WatchChange::Broke { silent_since, why } => {
                    self.broken_since.insert(event.stream, silent_since);
                    broken.push((event.at, why));
                }
                WatchChange::Opened(_) => {
                    let Some(since) = self.broken_since.remove(&event.stream) else {
                        continue;
                    };
                    if self.broken_since.is_empty() {
                        let text =
                            format!("all watches are back, the last after {}", spoken(event.at.saturating_sub(since)));
                        self.note(event.at, Tone::Good, text);
                    }
                }
            }
        }
        if let Some((at, why)) = broken.last() {
            let text = match broken.len() {
                1 => format!("a watch broke: {why}"),
                count => format!("{count} watches broke: {why}"),
            };
            self.note(*at, Tone::Bad, text);
        }
        self.events.sort_by_key(|event| event.at);
    }
}

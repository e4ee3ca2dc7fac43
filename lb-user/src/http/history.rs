//! What the status was a while ago, for rates: connections, bytes and drops a second, and how long handshakes took lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::status::{BackendStatus, HandshakeBucket, Status};

/// Rates are of so long a time at least.
const STEP: Duration = Duration::from_secs(5);
/// Times of handshakes are of so many minutes.
const MINUTES: usize = 5;
/// Rates that are remembered, one a step.
const KEPT: usize = 60;

/// Looks at the status, as many as rates need.
#[derive(Debug, Default)]
pub(super) struct History {
    latest: Option<Look>,
    /// The last two steps.
    steps: VecDeque<Look>,
    /// The last minutes.
    minutes: VecDeque<Look>,
    /// New connections a second by service, oldest first.
    lately: BTreeMap<String, VecDeque<f64>>,
}

#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    status: Arc<Status>,
}

/// How fast everything goes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    backends: BTreeMap<(String, String), BackendPace>,
    drops: BTreeMap<String, f64>,
    lately: BTreeMap<String, Vec<f64>>,
}

/// How fast a backend's share goes, each a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct BackendPace {
    /// Connections established.
    pub(super) opened: f64,
    /// Bytes from clients.
    pub(super) bytes_in: f64,
    /// Bytes to clients.
    pub(super) bytes_out: f64,
    /// Of the handshakes of the last minutes, what half of them took, and 99 of 100.
    pub(super) handshakes: Option<(Latency, Latency)>,
}

/// A time that is known by its bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Latency {
    /// About so many seconds.
    About(f64),
    /// Longer than so many seconds.
    Beyond(f64),
}

impl History {
    /// A status that has just come to be.
    pub(super) fn saw(&mut self, status: &Arc<Status>, at: Instant) {
        let look = Look { at, status: Arc::clone(status) };
        if self.latest.as_ref().is_some_and(|latest| latest.status.started_at != status.started_at) {
            *self = Self::default();
        }
        let last_step = self.steps.back().map(|step| step.at);
        if last_step.is_none_or(|last| at.saturating_duration_since(last) >= STEP) {
            self.remember(&look);
            push(&mut self.steps, look.clone(), 2);
        }
        let last_minute = self.minutes.back().map(|minute| minute.at);
        if last_minute.is_none_or(|last| at.saturating_duration_since(last) >= Duration::from_secs(60)) {
            push(&mut self.minutes, look.clone(), MINUTES);
        }
        self.latest = Some(look);
    }

    fn remember(&mut self, look: &Look) {
        let Some(before) = self.steps.back() else {
            return;
        };
        let seconds = look.at.saturating_duration_since(before.at).as_secs_f64();
        let backends = paces(&before.status, &look.status, seconds);
        self.lately.retain(|name, _| look.status.services.iter().any(|service| service.name == *name));
        for service in &look.status.services {
            let of = backends.iter().filter(|((name, _), _)| *name == service.name);
            let rate = of.map(|(_, pace)| pace.opened).sum();
            push(self.lately.entry(service.name.clone()).or_default(), rate, KEPT);
        }
    }

    /// How fast it goes now.
    pub(super) fn pace(&self) -> Pace {
        let (Some(latest), Some(long_ago)) = (&self.latest, self.minutes.front()) else {
            return Pace::default();
        };
        let is_step_ago = |step: &&Look| latest.at.saturating_duration_since(step.at) >= STEP;
        let Some(before) = self.steps.iter().rev().find(is_step_ago).or(self.steps.front()) else {
            return Pace::default();
        };
        let seconds = latest.at.saturating_duration_since(before.at).as_secs_f64();
        let mut backends = paces(&before.status, &latest.status, seconds);
        let then = by_name(&long_ago.status);
        for (key, backend) in by_name(&latest.status) {
            if let (Some(pace), Some(before)) = (backends.get_mut(&key), then.get(&key)) {
                pace.handshakes = latencies(&before.handshakes.buckets, &backend.handshakes.buckets);
            }
        }
        let lately = self.lately.iter().map(|(name, rates)| (name.clone(), rates.iter().copied().collect()));
        Pace { backends, drops: drops(&before.status, &latest.status, seconds), lately: lately.collect() }
    }
}

impl Pace {
    /// Of a backend; nothing where it is not known yet.
    pub(super) fn of(&self, service: &str, backend: &str) -> Option<BackendPace> {
        self.backends.get(&(service.to_owned(), backend.to_owned())).copied()
    }

    /// Of all backends of a service, or of all services.
    pub(super) fn sum(&self, service: Option<&str>) -> Option<BackendPace> {
        let of = self.backends.iter().filter(|((name, _), _)| service.is_none_or(|service| service == name));
        of.map(|(_, pace)| *pace).reduce(|a, b| BackendPace {
            opened: a.opened + b.opened,
            bytes_in: a.bytes_in + b.bytes_in,
            bytes_out: a.bytes_out + b.bytes_out,
            handshakes: None,
        })
    }

    /// Packets dropped a second for a reason, or for all.
    pub(super) fn drops(&self, reason: Option<&str>) -> Option<f64> {
        match reason {
            Some(reason) => self.drops.get(reason).copied(),
            None => (!self.backends.is_empty()).then(|| self.drops.values().sum()),
        }
    }

    /// New connections a second of a service over the last five minutes, oldest first.
    pub(super) fn lately(&self, service: &str) -> &[f64] {
        self.lately.get(service).map_or(&[], Vec::as_slice)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn by_name(status: &Status) -> BTreeMap<(String, String), &BackendStatus> {
    let services = status.services.iter();
    let pairs = services.flat_map(|s| s.backends.iter().map(|b| ((s.name.clone(), b.name.clone()), b)));
    pairs.collect()
}

/// Of the backends that both looks have; one that was made anew counts from nothing, and is left out.
fn paces(before: &Status, after: &Status, seconds: f64) -> BTreeMap<(String, String), BackendPace> {
    if seconds <= 0.0 {
        return BTreeMap::new();
    }
    let before = by_name(before);
    let pace = |key: &(String, String), now: &BackendStatus| {
        let then = before.get(key)?;
        Some(BackendPace {
            opened: rate(then.connections_total, now.connections_total, seconds)?,
            bytes_in: rate(then.bytes_in, now.bytes_in, seconds)?,
            bytes_out: rate(then.bytes_out, now.bytes_out, seconds)?,
            handshakes: None,
        })
    };
    by_name(after).into_iter().filter_map(|(key, now)| pace(&key, now).map(|pace| (key, pace))).collect()
}

fn drops(before: &Status, after: &Status, seconds: f64) -> BTreeMap<String, f64> {
    let of = |status: &Status, reason: &str| {
        let row = status.datapath.packets.iter().find(|row| row.verdict == "drop" && row.reason == reason);
        row.map_or(0, |row| row.packets)
    };
    let rows = after.datapath.packets.iter().filter(|row| row.verdict == "drop" && seconds > 0.0);
    rows.filter_map(|row| Some((row.reason.clone(), rate(of(before, &row.reason), row.packets, seconds)?))).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn rate(before: u64, after: u64, seconds: f64) -> Option<f64> {
    after.checked_sub(before).map(|more| more as f64 / seconds)
}

/// The median and the 99th percentile of what has come to the buckets since; nothing when nothing has.
fn latencies(before: &[HandshakeBucket], after: &[HandshakeBucket]) -> Option<(Latency, Latency)> {
    let then = before.iter().map(|bucket| bucket.handshakes).chain(std::iter::repeat(0));
    let more = after.iter().zip(then).map(|(now, then)| (now.up_to, now.handshakes.saturating_sub(then)));
    let more: Vec<_> = more.collect();
    Some((quantile(&more, 0.5)?, quantile(&more, 0.99)?))
}

/// As `histogram_quantile` of Prometheus has it: evenly spread within a bucket.
#[allow(clippy::cast_precision_loss, reason = "buckets are coarser than that")]
fn quantile(buckets: &[(Option<f64>, u64)], part: f64) -> Option<Latency> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    if all == 0 {
        return None;
    }
    let rank = part * all as f64;
    let (mut below, mut from) = (0.0, 0.0);
    for (up_to, count) in buckets {
        let Some(up_to) = up_to else {
            break;
        };
        if *count > 0 && below + *count as f64 >= rank {
            return Some(Latency::About(from + (up_to - from) * (rank - below) / *count as f64));
        }
        (below, from) = (below + *count as f64, *up_to);
    }
    Some(Latency::Beyond(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::status::example::example;

    #[test]
    fn rates_are_of_the_last_seconds() {
        let (mut history, start) = (History::default(), clock::now());
        assert_eq!(history.pace().of("apiserver", "master1"), None);
        let mut status = example();
        for second in 0..20 {
            history.saw(&Arc::new(status.clone()), start + Duration::from_secs(second));
            let backend = &mut status.services[0].backends[0];
            backend.connections_total += 3;
            backend.bytes_in += 1_000;
            backend.bytes_out += 20_000;
            backend.handshakes.buckets[0].handshakes += 3;
            status.datapath.packets[3].packets += 7;
        }
        let pace = history.pace();
        let master1 = pace.of("apiserver", "master1").unwrap();
        assert_eq!((master1.opened, master1.bytes_in, master1.bytes_out), (3.0, 1_000.0, 20_000.0));
        assert_eq!(master1.handshakes, Some((Latency::About(0.00025), Latency::About(0.000_495))));
        assert_eq!(pace.of("apiserver", "master2").unwrap(), BackendPace::default());
        assert_eq!(pace.sum(Some("apiserver")).unwrap().opened, 3.0);
        assert_eq!(pace.sum(Some("nobody")), None);
        assert_eq!((pace.drops(Some("no_backend")), pace.drops(None)), (Some(7.0), Some(7.0)));
        assert_eq!(pace.lately("apiserver"), [3.0, 3.0, 3.0]);

        // Another agent, and one whose tables are new: nothing is made of the difference.
        let before = history.latest.clone().unwrap();
        status.services[0].backends[0].connections_total = 0;
        history.saw(&Arc::new(status.clone()), before.at + STEP);
        assert_eq!(history.pace().of("apiserver", "master1"), None);
        status.started_at += 1.0;
        history.saw(&Arc::new(status), before.at + STEP * 2);
        assert!(history.pace().backends.is_empty() && history.steps.len() == 1);
    }

    #[test]
    fn it_stays_small() {
        let (mut history, start, status) = (History::default(), clock::now(), Arc::new(example()));
        for step in 0..10_000 {
            history.saw(&status, start + Duration::from_secs(step));
        }
        assert_eq!((history.steps.len(), history.minutes.len()), (2, MINUTES));
        assert!(history.lately.values().all(|rates| rates.len() == KEPT));
    }

    #[test]
    fn quantiles_are_within_their_bucket() {
        let buckets = [(Some(1.0), 50), (Some(3.0), 50), (None, 0)];
        assert_eq!(quantile(&buckets, 0.5), Some(Latency::About(1.0)));
        assert_eq!(quantile(&buckets, 0.75), Some(Latency::About(2.0)));
        assert_eq!(quantile(&[(Some(1.0), 1), (None, 9)], 0.5), Some(Latency::Beyond(1.0)));
        assert_eq!(quantile(&[(Some(1.0), 0), (None, 0)], 0.5), None);
    }
}

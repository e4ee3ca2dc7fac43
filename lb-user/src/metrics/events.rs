//! Counters of what happens. Series exist exactly for what the configuration names: they start at zero when it is applied and go
//! when it no longer names them, so that an event arriving late cannot bring a removed backend back.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::defs::{self, Def};
use super::labels::Labels;
use crate::config::{Config, Vrrp};

/// The event counters. Clones count into the same series; every method is cheap and may be called from any task.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    checks: Counters,
    check_seconds: Durations,
    backends: Counters,
    transitions: Counters,
    adverts: Counters,
    advert_errors: Counters,
    lapses: Counters,
    garps: Counters,
    advertisements: Counters,
    claims: Counters,
    predecessor: OnceLock<&'static str>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// No series yet; `configure` makes them.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Families {
            checks: Counters::new(&defs::HEALTH_CHECKS, &[]),
            check_seconds: Durations::new(),
            backends: Counters::new(&defs::BACKEND_TRANSITIONS, &[Some("up"), Some("down"), Some("lost")]),
            transitions: Counters::new(&defs::VRRP_TRANSITIONS, &super::VRRP_STATES.map(Some)),
            adverts: Counters::new(&defs::VRRP_ADVERTS, &[Some(SENT), Some(RECEIVED)]),
            advert_errors: Counters::new(&defs::VRRP_ADVERT_ERRORS, &[]),
            lapses: Counters::new(&defs::VRRP_LEASE_LAPSES, &[None]),
            garps: Counters::new(&defs::GRATUITOUS_ARP, &[None]),
            advertisements: Counters::new(&defs::UNSOLICITED_NA, &[None]),
            claims: Counters::new(&defs::VIP_CLAIMS, &[None]),
            predecessor: OnceLock::new(),
        }))
    }

    /// Makes the series for everything `config` names and drops the others. To be called before the drivers start, and after
    /// every reload.
    pub fn configure(&self, config: &Config) {
        let backends: BTreeSet<Subject> = config
            .services
            .iter()
            .flat_map(|service| {
                let name = service.name.clone();
                let backends = service.backends.iter();
                backends.map(move |backend| vec![name.clone(), backend.name.clone()])
            })
            .collect();
        let instances: BTreeSet<Subject> = config.vrrp.iter().map(|instance| vec![instance.name.clone()]).collect();
        let addresses = |of_v4: bool| {
            let of_instance = move |instance: &Vrrp| {
                let addresses = instance.virtual_addresses.iter().filter(move |net| net.address.is_ipv4() == of_v4);
                addresses.map(|net| vec![instance.name.clone(), net.address.to_string()]).collect::<Vec<_>>()
            };
            config.vrrp.iter().flat_map(of_instance).collect()
        };

        let families = &self.0;
        families.checks.configure(backends.clone());
        families.backends.configure(backends.clone());
        families.check_seconds.configure(backends);
        families.transitions.configure(instances.clone());
        families.adverts.configure(instances.clone());
        families.advert_errors.configure(instances.clone());
        families.lapses.configure(instances);
        let (four, six): (BTreeSet<Subject>, BTreeSet<Subject>) = (addresses(true), addresses(false));
        families.claims.configure(four.union(&six).cloned().collect());
        families.garps.configure(four);
        families.advertisements.configure(six);
    }

    /// A health check ended. `result` is a word of the checker's closed set.
    pub fn health_checked(&self, service: &str, backend: &str, result: &'static str, took: Duration) {
        self.0.checks.count(&[service, backend], Some(result));
        self.0.check_seconds.observe(&[service, backend], took);
    }

    /// Health checks changed their mind on a backend: it is `up`, `down`, or `lost`, and its connections with it.
    pub fn backend_transition(&self, service: &str, backend: &str, to: &'static str) {
        self.0.backends.count(&[service, backend], Some(to));
    }

    /// The virtual router entered a state: `active`, `backup`, `initialize` or `fault`.
    pub fn vrrp_transition(&self, instance: &str, to: &'static str) {
        self.0.transitions.count(&[instance], Some(to));
    }

    /// An advert left this node.
    pub fn advert_sent(&self, instance: &str) {
        self.0.adverts.count(&[instance], Some(SENT));
    }

    /// An advert arrived and was accepted.
    pub fn advert_received(&self, instance: &str) {
        self.0.adverts.count(&[instance], Some(RECEIVED));
    }

    /// An advert arrived and was refused. `reason` is a word of the parser's closed set.
    pub fn advert_rejected(&self, instance: &str, reason: &'static str) {
        self.0.advert_errors.count(&[instance], Some(reason));
    }

    /// The lease of the addresses was over when an advert renewed it.
    pub fn lease_lapsed(&self, instance: &str) {
        self.0.lapses.count(&[instance], None);
    }

    /// A frame that announces an address left this node.
    pub fn announced(&self, instance: &str, address: IpAddr) {
        let counters = if address.is_ipv4() { &self.0.garps } else { &self.0.advertisements };
        counters.count(&[instance, &address.to_string()], None);
    }

    /// Another host said that it has an address of ours.
    pub fn vip_claimed(&self, instance: &str, address: IpAddr) {
        self.0.claims.count(&[instance, &address.to_string()], None);
    }

    /// How the agent before this one ended; what is said first counts.
    pub fn predecessor_ended(&self, how: &'static str) {
        let _ = self.0.predecessor.set(how);
    }

    /// As far as it is known.
    pub(super) fn predecessor(&self) -> &'static str {
        self.0.predecessor.get().copied().unwrap_or("none")
    }

    /// Puts the families into `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let families = &self.0;
        for counters in [
            &families.checks,
            &families.backends,
            &families.transitions,
            &families.adverts,
            &families.advert_errors,
            &families.lapses,
            &families.garps,
            &families.advertisements,
            &families.claims,
        ] {
            registry.register(counters.def.name, counters.def.help, counters.family.clone());
        }
        let def = &defs::HEALTH_CHECK_SECONDS;
        registry.register(def.name, def.help, families.check_seconds.family.clone());
    }
}

const SENT: &str = "sent";
const RECEIVED: &str = "received";

/// Upper bounds of the health check buckets, in seconds.
const CHECK_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The label values that come from the configuration.
type Subject = Vec<String>;

/// The label value that comes from a closed set, where there is one; always the last label.
type Word = Option<&'static str>;

/// The identity of one series.
#[derive(Debug, Clone)]
struct Series {
    def: &'static Def,
    subject: Subject,
    word: Word,
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject && self.word == other.word
    }
}

impl Eq for Series {}

impl Hash for Series {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.subject.hash(state);
        self.word.hash(state);
    }
}

impl EncodeLabelSet for Series {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let subject = self.subject.iter().map(String::as_str);
        let values: Vec<&str> = subject.chain(self.word).collect();
        Labels::of(self.def, &values).encode(encoder)
    }
}

/// A counter, written under its name as it is.
///
/// The library's own counter follows OpenMetrics, where the family of `x_total` is called `x`. That name is taken where a gauge `x`
/// exists beside it, which the Prometheus text format allows.
#[derive(Debug, Clone, Default)]
struct Total(Arc<AtomicU64>);

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A family of counters: configured subjects times words of a closed set.
#[derive(Debug)]
struct Counters {
    def: &'static Def,
    family: Family<Series, Total>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    subjects: BTreeSet<Subject>,
    words: BTreeSet<Word>,
}

impl Counters {
    /// `words` are the ones every subject starts with; others join when they are first counted.
    fn new(def: &'static Def, words: &[Word]) -> Self {
        Self {
            def,
            family: Family::default(),
            known: Mutex::new(Known { subjects: BTreeSet::new(), words: words.iter().copied().collect() }),
        }
    }

    fn count(&self, subject: &[&str], word: Word) {
        let series = self.series(subject.iter().map(ToString::to_string).collect(), word);
        if let Some(total) = self.family.get(&series) {
            total.0.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut known = lock(&self.known);
        if known.subjects.contains(&series.subject) {
            known.words.insert(word);
            let total = self.family.get_or_create(&series);
            total.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn configure(&self, subjects: BTreeSet<Subject>) {
        let mut known = lock(&self.known);
        for subject in known.subjects.difference(&subjects) {
            for word in &known.words {
                self.family.remove(&self.series(subject.clone(), *word));
            }
        }
        for subject in &subjects {
            for word in &known.words {
                drop(self.family.get_or_create(&self.series(subject.clone(), *word)));
            }
        }
        known.subjects = subjects;
    }

    fn series(&self, subject: Subject, word: Word) -> Series {
        Series { def: self.def, subject, word }
    }
}

/// The histogram of health check durations.
#[derive(Debug)]
struct Durations {
    family: Family<Series, Histogram, fn() -> Histogram>,
    subjects: Mutex<BTreeSet<Subject>>,
}

impl Durations {
    fn new() -> Self {
        Self { family: Family::new_with_constructor(|| Histogram::new(CHECK_BUCKETS)), subjects: Mutex::default() }
    }

    fn observe(&self, subject: &[&str], took: Duration) {
        let series = Self::series(subject.iter().map(ToString::to_string).collect());
        if let Some(histogram) = self.family.get(&series) {
            histogram.observe(took.as_secs_f64());
        }
    }

    fn configure(&self, subjects: BTreeSet<Subject>) {
        let mut known = lock(&self.subjects);
        for gone in known.difference(&subjects) {
            self.family.remove(&Self::series(gone.clone()));
        }
        for subject in &subjects {
            drop(self.family.get_or_create(&Self::series(subject.clone())));
        }
        *known = subjects;
    }

    fn series(subject: Subject) -> Series {
        Series { def: &defs::HEALTH_CHECK_SECONDS, subject, word: None }
    }
}

/// Nothing is left half-done under these locks, so a panic elsewhere does not make their content wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

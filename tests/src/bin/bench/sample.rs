//! One measurement of one phase with one balancer.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use xvip_tests::stop;
use xvip_tests::topology::SERVERS;
use xvip_tests::until::until;

use crate::cpu::Moment;
use crate::ground::{Contender, Ground};
use crate::load::{Direction, Exchanges, Span, Streams, Tally};
use crate::phase::Work;

/// As of how many exchanges parts are looked at.
const MANY: u64 = 200;

/// How long a stream may bring nothing.
const LIMIT: Duration = Duration::from_secs(5);
/// How soon being asked to stop is noticed.
const STEP: Duration = Duration::from_millis(100);

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Units a second.
    pub(crate) each_second: f64,
    /// Seconds of all processors that one unit took.
    pub(crate) busy: f64,
    /// Milliseconds that half of the exchanges did not exceed.
    pub(crate) p50: Option<f64>,
    /// Milliseconds that 99 % of the exchanges did not exceed.
    pub(crate) p99: Option<f64>,
    /// How many exchanges took 0.9 s and longer.
    pub(crate) slow: u64,
    /// Why exchanges or streams failed, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Exchanges by server.
    pub(crate) served: [u64; SERVERS.len()],
}

impl Sample {
    /// How many exchanges or streams failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether one of the servers had less than this part of many exchanges.
    pub(crate) fn is_lopsided(&self, least: f64) -> bool {
        let all: u64 = self.served.iter().sum();
        all >= MANY && self.served.iter().any(|served| (*served as f64) < least * all as f64)
    }
}

/// How long a measurement takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    /// Until it counts.
    pub(crate) warm: Duration,
    /// While it counts.
    pub(crate) counted: Duration,
}

/// Measures once; `round` says which server a single stream goes to where the client chooses.
pub(crate) fn take(ground: &Ground, contender: &Contender, work: Work, length: Length, round: usize) -> Result<Sample> {
    match work {
        Work::Exchanges { is_kept, rate, is_secret } => {
            let span = Span::after(length.warm, length.counted);
            let tls = is_secret.then(|| ground.tls.clone());
            let load = Exchanges { targets: contender.targets.clone(), is_kept, rate, tls, span };
            thread::scope(|scope| {
                let load = scope.spawn(|| load.run(&ground.client));
                let (from, to) = watch(span, Moment::now)?;
                let tally = load.join().unwrap_or_else(|_| bail!("the load panicked"))?;
                Ok(of_exchanges(tally, &from, &to, length))
            })
        }
        Work::Streams(count, direction) => {
            let streams = Streams::start(&ground.client, &contender.targets, round, count, direction)?;
            let bytes = || if direction == Direction::Up { ground.received() } else { streams.received() };
            let look = || Ok((Moment::now()?, bytes()));
            // What brings nothing within the limit has failed, and shows below.
            let more_than = |count| until("bytes", LIMIT, || (bytes() > count).then_some(()));
            let _ = more_than(bytes());
            let (from, before) = watch(Span::after(length.warm, length.counted), look)?.0;
            let _ = more_than(before);
            let (to, after) = look()?;
            let mut failures = BTreeMap::new();
            if let Err(error) = streams.stop() {
                failures.insert(format!("{error:#}"), 1);
            }
            let count = (after - before) as f64;
            if after == before {
                failures.insert("no byte came through".to_owned(), 1);
            }
            Ok(Sample {
                each_second: count / from.seconds_until(&to),
                busy: from.busy_until(&to) / count,
                p50: None,
                p99: None,
                slow: 0,
                failures,
                served: Default::default(),
            })
        }
    }
}

/// Looks when it begins to count, and when it has ended.
fn watch<T>(span: Span, look: impl Fn() -> Result<T>) -> Result<(T, T)> {
    sleep_until(span.from)?;
    let from = look()?;
    sleep_until(span.to)?;
    Ok((from, look()?))
}

fn sleep_until(at: Instant) -> Result<()> {
    while let left = at.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        if stop::asked() {
            bail!("stopped");
        }
        thread::sleep(left.min(STEP));
    }
    Ok(())
}

fn of_exchanges(mut tally: Tally, from: &Moment, to: &Moment, length: Length) -> Sample {
    let each_second = tally.count() as f64 / length.counted.as_secs_f64();
    let [p50, p99] = tally.percentiles([50, 99]);
    Sample {
        each_second,
        // The moments are a little apart from the span; rates are comparable, counts would not be.
        busy: from.busy_until(to) / from.seconds_until(to) / each_second,
        p50,
        p99,
        slow: tally.slow,
        failures: tally.failures,
        served: tally.served,
    }
}

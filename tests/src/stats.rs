//! What a client noticed, computed from its log: pure, all times counted from the client's start.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::figures::percentile;

/// One attempt of a client to be served over a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub began: Duration,
    /// How long until it was served or failed.
    pub took: Duration,
    /// Index of the server that answered, or why none did.
    pub outcome: Result<u16, Failure>,
}

impl Attempt {
    /// When it was served or failed.
    pub fn ended(&self) -> Duration {
        self.began + self.took
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// No answer in time.
    Timeout,
    /// No route, or nobody answered ARP.
    Unreachable,
    /// The connection ended before the answer did.
    Closed,
    /// The TLS handshake failed.
    Tls,
    /// The answer was not 200.
    Status(u16),
    /// Anything else, e.g. no free port.
    Other,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Reset => f.write_str("reset"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Unreachable => f.write_str("unreachable"),
            Failure::Closed => f.write_str("closed"),
            Failure::Tls => f.write_str("tls"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Other => f.write_str("other"),
        }
    }
}

/// A stretch of a client's time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Attempts that began in it.
    pub attempts: u32,
    /// Those of them that were served.
    pub served: u32,
    /// Those of them that failed, by reason.
    pub failures: BTreeMap<Failure, u32>,
    /// Median and 99th percentile of the time to be served.
    pub p50: Duration,
    /// See `p50`.
    pub p99: Duration,
    /// The longest time in which nobody was served.
    pub outage: Duration,
    /// The longest time in which the client itself began nothing: the measuring machine's own pause.
    pub pause: Duration,
    /// When the last failed attempt began, if any failed.
    pub last_failure: Option<Duration>,
    /// Served, by server.
    pub by_server: BTreeMap<u16, u32>,
}

impl Summary {
    /// How many failed.
    pub fn failed(&self) -> u32 {
        self.failures.values().sum()
    }

    /// The failures in words: `3 timeout, 1 reset`; empty when there are none.
    pub fn failures_in_words(&self) -> String {
        let words: Vec<String> = self.failures.iter().map(|(failure, count)| format!("{count} {failure}")).collect();
        words.join(", ")
    }
}

/// Sums up what began from `from` until before `to`. The outage is measured between moments of being served, with both ends counted
/// as such; an attempt still under way at `to` belongs to whoever looks later.
pub fn summary(attempts: &[Attempt], from: Duration, to: Duration) -> Summary {
    let within: Vec<&Attempt> = attempts.iter().filter(|attempt| (from..to).contains(&attempt.began)).collect();
    let mut sum = Summary { attempts: u32::try_from(within.len()).unwrap_or(u32::MAX), ..Summary::default() };
    let mut took = Vec::new();
    for attempt in &within {
        match attempt.outcome {
            Ok(server) => {
                sum.served += 1;
                *sum.by_server.entry(server).or_default() += 1;
                took.push(attempt.took);
            }
            Err(failure) => {
                *sum.failures.entry(failure).or_default() += 1;
                sum.last_failure = sum.last_failure.max(Some(attempt.began));
            }
        }
    }
    took.sort_unstable();
    sum.p50 = percentile(&took, 50).unwrap_or_default();
    sum.p99 = percentile(&took, 99).unwrap_or_default();
    sum.outage = longest_outage(attempts, from, to);
    sum.pause = longest_gap(within.iter().map(|attempt| attempt.began).collect(), from, to);
    sum
}

/// The longest time between `from` and `to` in which nobody was served.
pub fn longest_outage(attempts: &[Attempt], from: Duration, to: Duration) -> Duration {
    let served = attempts.iter().filter(|attempt| attempt.outcome.is_ok()).map(Attempt::ended);
    longest_gap(served.filter(|at| (from..to).contains(at)).collect(), from, to)
}

/// The longest distance between neighbours among `from`, these moments, and `to`.
fn longest_gap(mut moments: Vec<Duration>, from: Duration, to: Duration) -> Duration {
    moments.extend([from, to.max(from)]);
    moments.sort_unstable();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// Attempts served in each of the `count` stretches of length `each` that end at `to`, oldest first.
pub fn served_per(attempts: &[Attempt], each: Duration, count: usize, to: Duration) -> Vec<u64> {
    let mut buckets = vec![0; count];
    for attempt in attempts.iter().rev() {
        let Some(age) = to.checked_sub(attempt.ended()) else {
            continue;
        };
        let Ok(back) = usize::try_from(age.as_nanos() / each.as_nanos().max(1)) else {
            continue;
        };
        if let Some(bucket) =
            back.checked_add(1).and_then(|back| count.checked_sub(back)).and_then(|at| buckets.get_mut(at))
        {
            *bucket += u64::from(attempt.outcome.is_ok());
        }
    }
    buckets
}

/// What happened to one watch stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// When.
    pub at: Duration,
    /// Which of the streams.
    pub stream: usize,
    /// What.
    pub change: WatchChange,
}

/// See [`WatchEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchChange {
    /// The first event arrived, from this server.
    Opened(u16),
    /// It broke; the last event had arrived at `silent_since`.
    Broke {
        /// When the last event had arrived.
        silent_since: Duration,
        /// Why.
        why: Failure,
    },
}

/// The watch streams in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchSummary {
    /// Streams that broke in it.
    pub broken: u32,
    /// Of these, those that never came back.
    pub lost: u32,
    /// The longest time from the last event before a break to the first event after it.
    pub longest_silence: Duration,
}

/// Sums up the breaks between `from` and `to`; events after `to` are looked at for when a stream came back.
pub fn watch_summary(events: &[WatchEvent], from: Duration, to: Duration) -> WatchSummary {
    let mut sum = WatchSummary::default();
    for (index, event) in events.iter().enumerate() {
        let WatchChange::Broke { silent_since, .. } = event.change else {
            continue;
        };
        if !(from..to).contains(&event.at) {
            continue;
        }
        sum.broken += 1;
        let later = events.iter().skip(index + 1).filter(|later| later.stream == event.stream);
        match later.filter(|later| matches!(later.change, WatchChange::Opened(_))).map(|later| later.at).next() {
            Some(at) => sum.longest_silence = sum.longest_silence.max(at.saturating_sub(silent_since)),
            None => sum.lost += 1,
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn served(began: u64, took: u64) -> Attempt {
        Attempt { began: ms(began), took: ms(took), outcome: Ok(0) }
    }

    fn failed(began: u64, took: u64) -> Attempt {
        Attempt { began: ms(began), took: ms(took), outcome: Err(Failure::Timeout) }
    }

    #[test]
    fn an_outage_lies_between_being_served_and_being_served_again() {
        let log = [served(0, 2), served(5, 2), failed(10, 100), failed(15, 100), served(120, 3), served(125, 2)];
        let sum = summary(&log, ms(0), ms(130));
        assert_eq!(sum.outage, ms(123 - 7));
        assert_eq!((sum.attempts, sum.served, sum.failed()), (6, 4, 2));
        assert_eq!(sum.last_failure, Some(ms(15)));
        assert_eq!(sum.pause, ms(105));
        assert_eq!(sum.failures_in_words(), "2 timeout");
    }

    #[test]
    fn an_attempt_that_was_served_late_does_not_hide_the_outage() {
        // Began in the outage, and its SYN was sent again after it.
        let log = [served(0, 2), served(10, 500), served(400, 2), served(600, 2)];
        assert_eq!(longest_outage(&log, ms(0), ms(600)), ms(400));
    }

    #[test]
    fn an_outage_that_has_not_ended_counts_until_now() {
        let log = [served(0, 2), failed(5, 100)];
        assert_eq!(longest_outage(&log, ms(0), ms(1000)), ms(998));
        assert_eq!(longest_outage(&[], ms(10), ms(50)), ms(40));
        assert_eq!(longest_outage(&[], ms(50), ms(10)), ms(0));
    }

    #[test]
    fn servings_fall_into_the_stretch_in_which_they_ended() {
        let log = [served(0, 10), served(95, 10), served(150, 10), failed(150, 10), served(190, 20)];
        assert_eq!(served_per(&log, ms(100), 2, ms(200)), [1, 2]);
        assert_eq!(served_per(&log, ms(100), 3, ms(300)), [1, 2, 1]);
        assert_eq!(served_per(&log, ms(100), 0, ms(300)), [0; 0]);
    }

    #[test]
    fn watches_are_counted_by_breaks_and_silence() {
        let broke = |at, stream, since| WatchEvent {
            at: ms(at),
            stream,
            change: WatchChange::Broke { silent_since: ms(since), why: Failure::Reset },
        };
        let opened = |at, stream| WatchEvent { at: ms(at), stream, change: WatchChange::Opened(1) };
        let log = [opened(1, 0), opened(2, 1), broke(100, 0, 80), broke(110, 1, 90), opened(150, 0)];
        let sum = watch_summary(&log, ms(50), ms(200));
        assert_eq!(sum, WatchSummary { broken: 2, lost: 1, longest_silence: ms(70) });
        assert_eq!(watch_summary(&log, ms(105), ms(200)).broken, 1);
        assert_eq!(watch_summary(&log, ms(0), ms(50)).broken, 0);
    }
}

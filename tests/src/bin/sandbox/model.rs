//! What the sandbox shows, at one moment: plain data, so that drawing it is a function.

use std::time::Duration;

/// Everything on the screen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// Since the client's start; all moments are counted in it.
    pub(crate) now: Duration,
    /// VIP:port.
    pub(crate) vip: String,
    /// The balancers.
    pub(crate) balancers: Vec<BalancerView>,
    /// Which of them the keys mean.
    pub(crate) balancer: usize,
    /// The API servers.
    pub(crate) servers: Vec<ServerView>,
    /// Which of them the keys mean.
    pub(crate) server: usize,
    /// What the client sees.
    pub(crate) traffic: Traffic,
    /// What happened, oldest first.
    pub(crate) events: Vec<Event>,
    /// Shown over everything when it is not empty.
    pub(crate) help: Vec<String>,
}

/// What was done to a balancer's agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Running {
    /// It runs.
    #[default]
    Yes,
    /// It has ended.
    No,
    /// It is stopped by SIGSTOP.
    Frozen,
}

/// A balancer.
#[derive(Debug, Clone, Default)]
pub(crate) struct BalancerView {
    /// `lb1`
    pub(crate) name: String,
    /// Its own address.
    pub(crate) address: String,
    /// VRRP priority.
    pub(crate) priority: String,
    /// VRRP state in its own words; `None` when it does not answer.
    pub(crate) state: Option<String>,
    /// Datapath mode.
    pub(crate) datapath: String,
    /// Its process.
    pub(crate) running: Running,
    /// Its link is cut.
    pub(crate) cut: bool,
}

/// An API server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerView {
    /// `master1`
    pub(crate) name: String,
    /// Address:port.
    pub(crate) address: String,
    /// Its process runs.
    pub(crate) running: bool,
    /// What it answers on /readyz.
    pub(crate) ready: bool,
    /// Its state as the balancer sees it; `None` when no balancer answers.
    pub(crate) state: Option<String>,
    /// Why.
    pub(crate) reason: String,
    /// Connections open through the balancer.
    pub(crate) connections: u64,
    /// Its part of the connections served lately, 0 to 1.
    pub(crate) share: f64,
}

/// What the client sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    /// New connections served per second, lately.
    pub(crate) per_second: f64,
    /// New connections served in each fifth of a second, oldest first.
    pub(crate) history: Vec<u64>,
    /// New connections begun in a fifth of a second.
    pub(crate) expected: u64,
    /// Median time to be served, lately.
    pub(crate) p50: Duration,
    /// 99th percentile.
    pub(crate) p99: Duration,
    /// Connections served since the start.
    pub(crate) served: u64,
    /// Connections failed since the start.
    pub(crate) failed: u64,
    /// How long nobody has been served, when that is long.
    pub(crate) outage_now: Option<Duration>,
    /// The last time nobody was served for long: how long, and when it ended.
    pub(crate) last_outage: Option<(Duration, Duration)>,
    /// Watches that hear a server.
    pub(crate) watches_alive: usize,
    /// All watches.
    pub(crate) watches: usize,
}

/// How an event is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Somebody did it here.
    Deed,
    /// Something works again.
    Good,
    /// Something changed.
    Change,
    /// Somebody noticed a failure.
    Bad,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When.
    pub(crate) at: Duration,
    /// How it is meant.
    pub(crate) tone: Tone,
    /// In words.
    pub(crate) text: String,
}

/// A short duration as people say it: `7.3 ms`, `143 ms`, `1.24 s`.
pub(crate) fn spoken(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 59_995.0 => format!("{:.2} s", ms / 1000.0),
        _ => format!("{} min", duration.as_secs() / 60),
    }
}

/// A moment: `01:23.4`.
pub(crate) fn clock(at: Duration) -> String {
    format!("{:02}:{:02}.{}", at.as_secs() / 60, at.as_secs() % 60, at.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spoken() {
        let spoken_us = |us| spoken(Duration::from_micros(us));
        assert_eq!(spoken_us(0), "0.0 ms");
        assert_eq!(spoken_us(7_340), "7.3 ms");
        assert_eq!(spoken_us(9_960), "10 ms");
        assert_eq!(spoken_us(143_200), "143 ms");
        assert_eq!(spoken_us(999_600), "1.00 s");
        assert_eq!(spoken_us(1_239_000), "1.24 s");
        assert_eq!(spoken_us(120_000_000), "2 min");
        assert_eq!(clock(Duration::from_millis(83_456)), "01:23.4");
    }
}

//! What the tour promises: every bound on what a client may notice, in one table.

use std::time::Duration;

use xvip_tests::stats::{Summary, WatchSummary};

/// What is done in the tour, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Steady,
    /// kill -9 of an API server.
    ServerKilled,
    /// It is started again.
    ServerRevived,
    /// An API server answers 500 on /readyz.
    ServerDrained,
    /// It answers 200 again.
    ServerReady,
    /// SIGTERM to the agent that holds the VIP.
    AgentStopped,
    /// It is started again.
    AgentStarted,
    /// kill -9 of the agent that holds the VIP.
    AgentKilled,
    /// It is started again.
    AgentRestarted,
    /// The link of the balancer that holds the VIP is cut.
    LinkCut,
    /// It is mended.
    LinkMended,
}

/// What a client may notice of one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promise {
    /// The longest time in which no new connection is served.
    pub(crate) outage: Duration,
    /// Connections begun until this long after the fault may fail; `None`: from the beginning, only strays do.
    pub(crate) failures: Option<Duration>,
    /// How many begun later may fail.
    pub(crate) strays: u32,
    /// A watch that broke is back after this; `None`: no watch breaks.
    pub(crate) watches: Option<Duration>,
}

// As in config/sandbox.toml.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
const CHECK_FALL: u32 = 3;
/// The longest silence that is not an outage: what a busy machine does to a connection every 5 ms.
const UNDISTURBED: Duration = Duration::from_millis(150);
/// The most that is forgiven for pauses of the measuring machine itself.
const MOST_FORGIVEN: Duration = Duration::from_millis(200);

/// Of some thousand connections begun later than that after a move of the VIP.
const STRAYS: u32 = 1;

/// Every step of the tour: what, its share of the tour's time, and what is promised.
pub(crate) const TOUR: [(Fault, u32, Promise); 11] = [
    (Fault::Steady, 30, promise(UNDISTURBED, None, None)),
    // A dead server refuses its share until the checks have taken it out; its watches find another.
    (Fault::ServerKilled, 65, promise(ms(500), Some(ms(SERVER_KILLED_MS)), Some(ms(4000)))),
    (Fault::ServerRevived, 35, promise(UNDISTURBED, None, None)),
    // It says itself that it is not ready: nobody may notice, and what is open stays open.
    (Fault::ServerDrained, 30, promise(UNDISTURBED, None, None)),
    (Fault::ServerReady, 30, promise(UNDISTURBED, None, None)),
    // The balancers share their flows: watches live through every move.
    (Fault::AgentStopped, 35, moved(ms(300), Some(ms(300)), None)),
    (Fault::AgentStarted, 30, moved(UNDISTURBED, None, None)),
    (Fault::AgentKilled, 35, moved(ms(800), Some(ms(800)), None)),
    (Fault::AgentRestarted, 30, moved(UNDISTURBED, None, None)),
    (Fault::LinkCut, 35, moved(ms(800), Some(ms(800)), None)),
    (Fault::LinkMended, 30, moved(UNDISTURBED, None, None)),
];

const SERVER_KILLED_MS: u64 =
    CHECK_INTERVAL.as_millis() as u64 * CHECK_FALL as u64 + CHECK_TIMEOUT.as_millis() as u64 + 1000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn promise(outage: Duration, failures: Option<Duration>, watches: Option<Duration>) -> Promise {
    Promise { outage, failures, strays: 0, watches }
}

const fn moved(outage: Duration, failures: Option<Duration>, watches: Option<Duration>) -> Promise {
    Promise { strays: STRAYS, ..promise(outage, failures, watches) }
}

/// What of a promise was broken, in words; empty when it was kept. `at` is the moment of the fault, in the client's time; `late`
/// counts the connections that failed although they began after the promised moment.
pub(crate) fn broken(
    promise: &Promise, at: Duration, seen: &Summary, late: u32, watches: &WatchSummary,
) -> Vec<String> {
    let mut broken = Vec::new();
    if seen.attempts == 0 {
        broken.push("nothing was asked".to_owned());
    }
    if seen.outage.saturating_sub(seen.pause.min(MOST_FORGIVEN)) > promise.outage {
        broken.push("outage".to_owned());
    }
    match (promise.failures, seen.last_failure) {
        (None, Some(_)) if late > promise.strays => broken.push("failures".to_owned()),
        (Some(_), Some(last)) if late > promise.strays => {
            broken.push(format!("failures until {} ms", last.saturating_sub(at).as_millis()));
        }
        _ => {}
    }
    match promise.watches {
        None if watches.broken > 0 => broken.push("watches".to_owned()),
        Some(bound) if watches.lost > 0 || watches.longest_silence > bound => broken.push("watches".to_owned()),
        _ => {}
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvip_tests::stats::Failure;

    fn seen(outage: u64) -> Summary {
        Summary { attempts: 100, served: 100, outage: ms(outage), ..Summary::default() }
    }

    fn failing(outage: u64, last: u64) -> Summary {
        let failures = [(Failure::Timeout, 3)].into();
        Summary { failures, last_failure: Some(ms(last)), ..seen(outage) }
    }

    const MOVE: Promise = promise(ms(300), Some(ms(300)), Some(ms(4000)));
    const QUIET: Promise = promise(ms(150), None, None);
    const AT: Duration = ms(10_000);
    const WHOLE: WatchSummary = WatchSummary { broken: 0, lost: 0, longest_silence: Duration::ZERO };

    #[test]
    fn kept_promises_have_no_words() {
        assert!(broken(&QUIET, AT, &seen(20), 0, &WHOLE).is_empty());
        assert!(broken(&MOVE, AT, &failing(290, 10_290), 0, &WHOLE).is_empty());
        let back = WatchSummary { broken: 8, lost: 0, longest_silence: ms(3900) };
        assert!(broken(&MOVE, AT, &seen(10), 0, &back).is_empty());
    }

    #[test]
    fn a_few_may_stray_where_that_is_promised() {
        let after = moved(ms(300), None, Some(ms(4000)));
        assert!(broken(&after, AT, &failing(10, 10_001), STRAYS, &WHOLE).is_empty());
        assert_eq!(broken(&after, AT, &failing(10, 10_001), STRAYS + 1, &WHOLE), ["failures"]);
    }

    #[test]
    fn each_part_of_a_promise_can_be_broken() {
        assert_eq!(broken(&MOVE, AT, &seen(301), 0, &WHOLE), ["outage"]);
        assert_eq!(broken(&MOVE, AT, &failing(100, 10_301), 1, &WHOLE), ["failures until 301 ms"]);
        assert_eq!(broken(&QUIET, AT, &failing(10, 10_001), 3, &WHOLE), ["failures"]);
        assert_eq!(broken(&QUIET, AT, &seen(10), 0, &WatchSummary { broken: 1, ..WHOLE }), ["watches"]);
        assert_eq!(broken(&MOVE, AT, &seen(10), 0, &WatchSummary { broken: 1, lost: 1, ..WHOLE }), ["watches"]);
        let late = WatchSummary { broken: 1, lost: 0, longest_silence: ms(4001) };
        assert_eq!(broken(&MOVE, AT, &seen(10), 0, &late), ["watches"]);
        assert_eq!(broken(&QUIET, AT, &Summary::default(), 0, &WHOLE), ["nothing was asked"]);
    }

    #[test]
    fn pauses_of_the_machine_are_forgiven_within_reason() {
        assert!(broken(&MOVE, AT, &Summary { pause: ms(100), ..seen(380) }, 0, &WHOLE).is_empty());
        assert_eq!(broken(&MOVE, AT, &Summary { pause: ms(5000), ..seen(600) }, 0, &WHOLE), ["outage"]);
    }

    #[test]
    fn the_checks_are_those_of_the_configuration() {
        let config = include_str!("../../../../config/sandbox.toml");
        for line in [
            format!("interval = \"{}s\"", CHECK_INTERVAL.as_secs()),
            format!("timeout = \"{}ms\"", CHECK_TIMEOUT.as_millis()),
            format!("fall = {CHECK_FALL}"),
        ] {
            assert!(config.lines().any(|found| found == line), "{line}");
        }
    }
}

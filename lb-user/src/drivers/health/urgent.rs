//! Checks out of turn, of a backend that the datapath suspects: as many as take it down, in quick succession, each for no
//! more than a TCP connection. The first that succeeds ends them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::sleep;

use super::{Key, Report};
use crate::clock;
use crate::config::CheckKind;
use crate::probe::{Plan, Prober};

/// From the start of one to the start of the next; they do not wait for each other.
const EVERY: Duration = Duration::from_millis(100);
/// How long each may take: a host that is there answers a SYN at once, however busy its servers are.
const TIMEOUT: Duration = Duration::from_millis(250);
/// After the last one, until there may be others.
const REST: Duration = Duration::from_millis(500);

/// The latest ones of a backend.
#[derive(Debug, Default)]
pub(super) struct Urgent(Option<(AbortHandle, Instant)>);

impl Urgent {
    /// Whether there may be others by now.
    pub(super) fn may_begin(&self, now: Instant) -> bool {
        self.0.as_ref().is_none_or(|(checks, begun)| checks.is_finished() && now >= *begun + REST)
    }

    /// Others have begun.
    pub(super) fn begun(&mut self, checks: AbortHandle, now: Instant) {
        self.0 = Some((checks, now));
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some((checks, _)) = &self.0 {
            checks.abort();
        }
    }
}

/// What to check, and in whose name.
pub(super) struct Checks {
    pub(super) worker: Id,
    pub(super) key: Key,
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) count: u32,
}

impl Checks {
    /// Makes them.
    pub(super) async fn run(self, report: mpsc::Sender<Report>) {
        let Ok(plan) = Plan::new(&CheckKind::Tcp) else {
            return;
        };
        let mut checks = JoinSet::new();
        for number in 0..self.count {
            let mut prober = Prober::new(&plan, self.address, self.source);
            checks.spawn(async move {
                sleep(EVERY * number).await;
                prober.probe(clock::now() + TIMEOUT).await
            });
        }
        while let Some(Ok((outcome, took))) = checks.join_next().await {
            let is_failure = outcome.is_tcp_failure();
            let Self { worker, key, .. } = &self;
            let (worker, key, at) = (*worker, key.clone(), clock::now());
            let found = Report { worker, key, outcome, presence: None, took, at, is_urgent: true };
            if report.send(found).await.is_err() || !is_failure {
                return;
            }
        }
    }
}

//! The metrics of the agent itself, read when it is scraped: whether it is ready and alive, and what its process takes.

use std::fmt;
use std::fs;
use std::sync::Arc;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use super::snapshot::Out;
use super::{Metrics, defs};
use crate::clock;
use crate::heartbeat::Heartbeat;
use crate::http;
use crate::status::Status;

/// The collector of the agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) metrics: Metrics,
    pub(super) status: watch::Receiver<Arc<Status>>,
    pub(super) heartbeat: Heartbeat,
}

impl Collector for Agent {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = Arc::clone(&self.status.borrow());
        let mut out = Out(&mut encoder);
        let ready = http::unready(&status).is_empty() && http::dead(&self.heartbeat).is_none();
        out.family(&defs::EVENTS, [([], status.events.last().map_or(0, |event| event.number))])?;
        out.family(&defs::READY, [([], u64::from(ready))])?;
        out.family(&defs::HEARTBEAT_AGE, [([], self.heartbeat.age(clock::now()).as_secs_f64())])?;
        process(&mut out)?;
        out.family(&defs::START_TIME, [([], status.started_at)])?;
        out.family(&defs::PREDECESSOR_INFO, [([self.metrics.predecessor()], 1_u64)])?;
        out.family(&defs::NODE_INFO, [([status.node.as_str(), status.role.as_str()], 1_u64)])?;
        out.family(&defs::BUILD_INFO, [([status.version.as_str()], 1_u64)])
    }
}

/// What the kernel does not tell is left out.
fn process(out: &mut Out<'_, '_>) -> fmt::Result {
    let seconds = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
        let [user, system] = [usage.user_time(), usage.system_time()];
        [user, system].iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum::<f64>()
    });
    out.family(&defs::PROCESS_CPU, seconds.map(|seconds| ([], seconds)))?;
    out.family(&defs::PROCESS_MEMORY, resident().map(|bytes| ([], bytes)))?;
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64);
    out.family(&defs::PROCESS_FDS, open.map(|open| ([], open)))?;
    let most = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft);
    out.family(&defs::PROCESS_FDS_MAX, most.map(|most| ([], most)))
}

/// Bytes, of a line such as `VmRSS:     1234 kB` (proc_pid_status(5)).
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

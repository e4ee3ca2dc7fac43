//! Processor time of the whole machine.
//!
//! Packets between namespaces are handled on the time of whoever sends them, so no process's time tells what a balancer costs.
//! The machine's does, from its idle time: the kernel measures that, where the other columns of /proc/stat are samples.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

/// The machine's clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    /// Seconds of all processors in which nothing was done, or a hypervisor did something else.
    idle: f64,
    processors: f64,
}

impl Moment {
    /// Now.
    pub(crate) fn now() -> Result<Moment> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
        let (idle, processors) = idle_of(&text).context("reading /proc/stat")?;
        Ok(Moment { at: Instant::now(), idle: idle / per_second as f64, processors })
    }

    /// Seconds of all processors in which something was done between two moments.
    pub(crate) fn busy_until(&self, later: &Moment) -> f64 {
        let wall = later.at.duration_since(self.at).as_secs_f64();
        (wall * self.processors - (later.idle - self.idle)).max(0.0)
    }

    /// Seconds between two moments.
    pub(crate) fn seconds_until(&self, later: &Moment) -> f64 {
        later.at.duration_since(self.at).as_secs_f64()
    }
}

/// Idle, waiting for a disk, and stolen (proc(5): columns 4, 5 and 8), in ticks; and the number of processors.
fn idle_of(stat: &str) -> Option<(f64, f64)> {
    let all = stat.lines().find(|line| line.starts_with("cpu "))?;
    let columns: Vec<f64> = all.split_whitespace().skip(1).map_while(|column| column.parse().ok()).collect();
    let idle = columns.get(3)? + columns.get(4)? + columns.get(7)?;
    let processors = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    Some((idle, processors as f64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn idle_is_what_nobody_used() {
        let stat =
            "cpu  10 0 20 1000 30 1 2 4 0 0\ncpu0 5 0 10 500 15 0 1 2 0 0\ncpu1 5 0 10 500 15 1 1 2 0 0\nintr 1\n";
        assert_eq!(idle_of(stat), Some((1034.0, 2.0)));
        assert_eq!(idle_of("cpu  10 0 20\n"), None);
    }

    #[test]
    fn busy_is_what_is_not_idle() {
        let at = Instant::now();
        let first = Moment { at, idle: 100.0, processors: 2.0 };
        let later = Moment { at: at + Duration::from_secs(2), idle: 101.0, processors: 2.0 };
        assert_eq!(first.busy_until(&later), 3.0);
        assert_eq!(first.seconds_until(&later), 2.0);
    }
}

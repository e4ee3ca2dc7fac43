//! Programs on a cgroup: one of somebody else, which are there, and what they cost.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;

use crate::bpf::{self, Instruction};

/// Go on.
const CODE: [Instruction; 2] = bpf::returning(1);

/// A program that lets every connect(2) of a cgroup pass, attached until it is dropped.
#[derive(Debug)]
pub struct ForeignHook {
    _link: OwnedFd,
}

impl ForeignHook {
    /// Attaches it.
    pub fn attach(cgroup: &Path) -> Result<ForeignHook> {
        let program = bpf::load(bpf::CONNECT4, "", &CODE)?;
        let cgroup = File::open(cgroup)?;
        let link = bpf::attach(bpf::CONNECT4, program.as_fd(), cgroup.as_raw_fd() as u32, 0);
        Ok(ForeignHook { _link: link.context("a foreign hook")? })
    }
}

/// The kernel's ids of the programs on connect(2) over IPv4 of a cgroup.
pub fn on_connect(cgroup: &Path) -> Result<Vec<u32>> {
    let file = File::open(cgroup)?;
    bpf::attached(bpf::CONNECT4, file.as_raw_fd() as u32).with_context(|| cgroup.display().to_string())
}

/// How often a program ran, and how long in all, in nanoseconds; counted while [`Statistics`] lives.
pub fn cost(program: u32) -> Result<(u64, u64)> {
    let found = loaded_programs().filter_map(Result::ok).find(|info| info.id() == program);
    let info = found.with_context(|| format!("there is no program {program}"))?;
    Ok((info.run_count(), u64::try_from(info.run_time().as_nanos())?))
}

/// The program of this name with the highest id among these.
pub fn named(name: &str, among: &[u32]) -> Option<u32> {
    let programs = loaded_programs().filter_map(Result::ok).filter(|info| among.contains(&info.id()));
    programs.filter(|info| info.name_as_str().is_some_and(|of| name.starts_with(of))).map(|info| info.id()).max()
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Lets the kernel count runs of programs and their time, as long as this lives.
#[derive(Debug)]
pub struct Statistics {
    before: String,
}

impl Statistics {
    /// Switches them on.
    pub fn on() -> Result<Statistics> {
        let before = fs::read_to_string(STATISTICS).context("reading whether BPF statistics are on")?;
        fs::write(STATISTICS, "1").context("switching BPF statistics on")?;
        Ok(Statistics { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(STATISTICS, &self.before);
    }
}

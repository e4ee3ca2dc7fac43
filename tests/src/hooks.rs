//! Programs on a cgroup: one of somebody else, which are there, and what they cost.

use std::ffi::c_long;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;

// linux/bpf.h
const PROG_LOAD: c_long = 5;
const PROG_QUERY: c_long = 16;
const LINK_CREATE: c_long = 28;
const PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const ATTACH_TYPE_CONNECT4: u32 = 10;

/// `r0 = 1; exit`: go on.
const CODE: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    rest: [u64; 4],
}

/// A program that lets every connect(2) of a cgroup pass, attached until it is dropped.
#[derive(Debug)]
pub struct ForeignHook {
    _link: OwnedFd,
}

impl ForeignHook {
    /// Attaches it.
    pub fn attach(cgroup: &Path) -> Result<ForeignHook> {
        let mut load = Load {
            kind: PROG_TYPE_CGROUP_SOCK_ADDR,
            instruction_count: CODE.len() as u32,
            instructions: CODE.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            expected_attach_type: ATTACH_TYPE_CONNECT4,
            ..Load::default()
        };
        let program = descriptor(PROG_LOAD, &mut load).context("loading a foreign hook")?;
        let cgroup = File::open(cgroup)?;
        let mut link = Link {
            program: program.as_raw_fd() as u32,
            target: cgroup.as_raw_fd() as u32,
            attach_type: ATTACH_TYPE_CONNECT4,
            flags: 0,
        };
        Ok(ForeignHook { _link: descriptor(LINK_CREATE, &mut link).context("attaching a foreign hook")? })
    }
}

/// The kernel's ids of the programs on connect(2) over IPv4 of a cgroup.
pub fn on_connect(cgroup: &Path) -> Result<Vec<u32>> {
    let file = File::open(cgroup)?;
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: file.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CONNECT4,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query).with_context(|| format!("asking for the programs of {}", cgroup.display()))?;
    Ok(ids.into_iter().take(query.count as usize).collect())
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

fn bpf<A>(command: c_long, attributes: &mut A) -> io::Result<c_long> {
    // SAFETY: the attributes have the kernel's layout for this command, the kernel takes what is beyond them as zero, and every
    // pointer in them is to memory that outlives the call and is as large as they say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// bpf(2), for commands that return a descriptor.
fn descriptor<A>(command: c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

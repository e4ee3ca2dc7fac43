//! bpf(2) for what no loader does: programs and maps that come from no object.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::Context as _;

use super::assembler::Instruction;

const MAP_CREATE: c_long = 0;
const MAP_UPDATE: c_long = 2;
const PROGRAM_LOAD: c_long = 5;
const PROGRAM_RUN: c_long = 10;

const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;

/// `BPF_MAP_TYPE_ARRAY`.
pub(crate) const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_PROG_ARRAY`.
pub(crate) const PROGRAM_ARRAY: u32 = 3;

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct Update {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context: [u64; 3],
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// How a repeated run went.
pub(crate) struct Ran {
    /// What the last run returned.
    pub(crate) action: u32,
    /// Mean duration of one run, in whole nanoseconds, as the kernel measured it.
    pub(crate) nanoseconds: u32,
}

fn bpf<A>(command: c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes have the kernel's layout for this command, zero where nothing is set, and every pointer
    // in them is to memory that the caller keeps until the call is over.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd() as u32
}

/// Makes a map with keys of 32 bits.
pub(crate) fn create_map(kind: u32, value_size: usize, entries: u32) -> anyhow::Result<OwnedFd> {
    let mut create = Create { kind, key_size: 4, value_size: value_size as u32, max_entries: entries };
    Ok(owned(bpf(MAP_CREATE, &mut create).context("could not make a map")?))
}

/// Sets an entry of a map whose values have the size of `V`.
pub(crate) fn update_map<V>(map: BorrowedFd<'_>, key: u32, value: &V) -> anyhow::Result<()> {
    let mut update = Update {
        map: number(map),
        pad: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE, &mut update).context("could not write a map")?;
    Ok(())
}

/// Loads an XDP program.
pub(crate) fn load_program(name: &str, code: &[Instruction]) -> anyhow::Result<OwnedFd> {
    let mut log = vec![0u8; 1 << 16];
    let mut load = Load {
        kind: PROGRAM_TYPE_XDP,
        instruction_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        attach_type: ATTACH_TYPE_XDP,
        ..Load::default()
    };
    for (to, from) in load.name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let loaded = bpf(PROGRAM_LOAD, &mut load);
    let said = || String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
    Ok(owned(loaded.with_context(|| format!("the kernel refused program {name}: {}", said()))?))
}

/// Runs a program `repeat` times on one frame, which it may change.
pub(crate) fn run_program(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> anyhow::Result<Ran> {
    let mut run = Run {
        program: number(program),
        size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..Run::default()
    };
    bpf(PROGRAM_RUN, &mut run).context("the kernel did not run the program")?;
    Ok(Ran { action: run.result, nanoseconds: run.duration })
}

//! A program of somebody else on an interface, by XDP or by TC: it passes everything. And somebody who detaches ours.

use std::ffi::{CString, c_long};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::Netns;

// linux/bpf.h, linux/if_link.h
const PROG_LOAD: c_long = 5;
const OBJ_GET: c_long = 7;
const LINK_CREATE: c_long = 28;
const LINK_DETACH: c_long = 34;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
const FLAG_BEFORE: u32 = 8;
const FLAG_SKB_MODE: u32 = 2;
const FLAG_DRV_MODE: u32 = 4;

/// `r0 = XDP_PASS; exit`
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
/// `r0 = TCX_NEXT; exit`
const NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

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
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    /// For TC: the program or link it is put beside, and the revision expected; none.
    relative: [u32; 4],
}

/// The program, attached until it is dropped.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
}

impl Foreign {
    /// Attaches it to `device`, in the driver or in the stack (`generic`).
    pub fn attach(netns: &Netns, device: &str, generic: bool) -> Result<Foreign> {
        let flags = if generic { FLAG_SKB_MODE } else { FLAG_DRV_MODE };
        Self::attach_to(netns, device, (PROG_TYPE_XDP, &PASS), ATTACH_TYPE_XDP, flags)
    }

    /// Attaches it to what enters `device` by TC, in front of all others or behind them.
    pub fn attach_tc(netns: &Netns, device: &str, in_front: bool) -> Result<Foreign> {
        let flags = if in_front { FLAG_BEFORE } else { 0 };
        Self::attach_to(netns, device, (PROG_TYPE_SCHED_CLS, &NEXT), ATTACH_TYPE_TCX_INGRESS, flags)
    }

    fn attach_to(
        netns: &Netns, device: &str, (kind, code): (u32, &'static [u64; 2]), attach_type: u32, flags: u32,
    ) -> Result<Foreign> {
        let mut load = Load {
            kind,
            instruction_count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            ..Load::default()
        };
        b"foreign".iter().zip(&mut load.name).for_each(|(from, to)| *to = *from);
        let program = made(PROG_LOAD, &mut load).context("loading a foreign program")?;
        let link = netns.enter(|| -> Result<OwnedFd> {
            let mut link = Link {
                program: program.as_raw_fd() as u32,
                ifindex: if_nametoindex(device)?,
                attach_type,
                flags,
                relative: [0; 4],
            };
            made(LINK_CREATE, &mut link).context("attaching a foreign program")
        })??;
        Ok(Foreign { _link: link })
    }
}

/// Takes the program of a pinned link off its device, as `bpftool link detach` does; the pin stays.
pub fn push_out(pin: &Path) -> Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let link = made(OBJ_GET, &mut (path.as_ptr() as u64)).with_context(|| format!("opening {}", pin.display()))?;
    bpf(LINK_DETACH, &mut (link.as_raw_fd() as u32)).with_context(|| format!("detaching {}", pin.display())).map(drop)
}

/// bpf(2), for commands that return a descriptor.
fn made<A>(command: c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
fn bpf<A>(command: c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes have the kernel's layout for this command, the kernel takes what is beyond them as zero, and every
    // pointer in them is to a constant.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd as i32) }
}

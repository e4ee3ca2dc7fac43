//! An XDP program of somebody else on an interface: it passes everything.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::Netns;

// linux/bpf.h, linux/if_link.h
const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const FLAG_SKB_MODE: u32 = 2;
const FLAG_DRV_MODE: u32 = 4;

/// `r0 = XDP_PASS; exit`
const CODE: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

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
}

/// The program, attached until it is dropped.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
}

impl Foreign {
    /// Attaches it to `device`, in the driver or in the stack (`generic`).
    pub fn attach(netns: &Netns, device: &str, generic: bool) -> Result<Foreign> {
        let mut load = Load {
            kind: PROG_TYPE_XDP,
            instruction_count: CODE.len() as u32,
            instructions: CODE.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            ..Load::default()
        };
        b"foreign".iter().zip(&mut load.name).for_each(|(from, to)| *to = *from);
        let program = bpf(PROG_LOAD, &mut load).context("loading a foreign XDP program")?;
        let link = netns.enter(|| -> Result<OwnedFd> {
            let mut link = Link {
                program: program.as_raw_fd() as u32,
                ifindex: if_nametoindex(device)?,
                attach_type: ATTACH_TYPE_XDP,
                flags: if generic { FLAG_SKB_MODE } else { FLAG_DRV_MODE },
            };
            bpf(LINK_CREATE, &mut link).context("attaching a foreign XDP program")
        })??;
        Ok(Foreign { _link: link })
    }
}

/// bpf(2), for commands that return a descriptor.
fn bpf<A>(command: c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the attributes have the kernel's layout for this command, the kernel takes what is beyond them as zero, and every
    // pointer in them is to a constant.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

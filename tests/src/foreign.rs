//! A program of somebody else on an interface, by XDP or by TC: it passes everything. And somebody who detaches ours.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::bpf::{self, Instruction, Place};
use crate::netns::Netns;

// linux/bpf.h, linux/if_link.h
const FLAG_BEFORE: u32 = 8;
const FLAG_SKB_MODE: u32 = 2;
const FLAG_DRV_MODE: u32 = 4;

/// XDP_PASS
const PASS: [Instruction; 2] = bpf::returning(2);
/// TCX_NEXT
const NEXT: [Instruction; 2] = bpf::returning(-1);

/// The program, attached until it is dropped.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
}

impl Foreign {
    /// Attaches it to `device`, in the driver or in the stack (`generic`).
    pub fn attach(netns: &Netns, device: &str, generic: bool) -> Result<Foreign> {
        let flags = if generic { FLAG_SKB_MODE } else { FLAG_DRV_MODE };
        Self::attach_to(netns, device, (bpf::XDP, &PASS), flags)
    }

    /// Attaches it to what enters `device` by TC, in front of all others or behind them.
    pub fn attach_tc(netns: &Netns, device: &str, in_front: bool) -> Result<Foreign> {
        let flags = if in_front { FLAG_BEFORE } else { 0 };
        Self::attach_to(netns, device, (bpf::TCX_INGRESS, &NEXT), flags)
    }

    fn attach_to(netns: &Netns, device: &str, (place, code): (Place, &[Instruction]), flags: u32) -> Result<Foreign> {
        let program = bpf::load(place, "foreign", code)?;
        let link = netns.enter(|| bpf::attach(place, program.as_fd(), if_nametoindex(device)?, flags))?;
        Ok(Foreign { _link: link.context("a foreign program")? })
    }
}

/// Takes the program of a pinned link off its device, as `bpftool link detach` does; the pin stays.
pub fn push_out(pin: &Path) -> Result<()> {
    bpf::detach(pin)
}

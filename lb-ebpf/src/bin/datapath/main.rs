//! The kernel's way in: wrap the context, call the library, map its verdict to an XDP action once.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the entry point's macro makes an item that cannot be documented")]

mod connect;
mod context;
mod maps;
mod panic;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_ebpf::abi::{Verdict, node_flag};
use lb_ebpf::datapath::process;
use lb_ebpf::datapath::tables::Tables as _;

/// Every packet that enters the interface.
#[xdp]
pub(crate) fn xvip(context: XdpContext) -> u32 {
    let kernel = maps::Kernel::new(&context);
    let reason = process(&mut context::Frame::new(&context), &kernel);
    kernel.count(reason);
    match reason.verdict() {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
        Verdict::Forward | Verdict::Reply => match kernel.node() {
            Some(node) if node.flags & node_flag::REDIRECT != 0 => redirect(node.ifindex),
            _ => XDP_TX,
        },
    }
}

/// The interface that [`xvip_probe`] sends to; the agent sets it when it loads the object.
#[unsafe(no_mangle)]
static PROBE_IFINDEX: Global<u32> = Global::new(0);

/// Sends a frame as the datapath would by redirect, for the agent to see whether the other end takes it.
#[xdp]
pub(crate) fn xvip_probe(_context: XdpContext) -> u32 {
    redirect(PROBE_IFINDEX.load())
}

#[inline(always)]
fn redirect(ifindex: u32) -> u32 {
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

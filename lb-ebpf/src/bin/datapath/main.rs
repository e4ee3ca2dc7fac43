//! The kernel's ways in: wrap the context, call the library, map its verdict to an action once.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the entry point's macro makes an item that cannot be documented")]

mod connect;
mod context;
mod maps;
mod panic;
mod skb;
mod xdp;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_ebpf::abi::{Reason, Verdict, node_flag};
use lb_ebpf::datapath::tables::Tables as _;
use lb_ebpf::datapath::{leave, process};

use context::Context as _;

/// Every packet that enters the interface, in the driver.
#[xdp]
pub(crate) fn xvip(context: XdpContext) -> u32 {
    let mut frame = xdp::Frame::new(&context);
    let kernel = maps::Kernel::new(frame);
    let reason = process(&mut frame, &kernel);
    kernel.count(reason);
    match reason.verdict() {
        Verdict::Pass | Verdict::Deliver => XDP_PASS,
        Verdict::Drop => XDP_DROP,
        Verdict::Forward | Verdict::Reply => match kernel.node() {
            Some(node) if node.flags & node_flag::REDIRECT != 0 => redirect(node.ifindex) as u32,
            _ => XDP_TX,
        },
    }
}

/// Every packet that enters the interface, in the stack, before anything there has looked at it.
#[classifier]
pub(crate) fn xvip_tc(context: TcContext) -> i32 {
    let mut frame = skb::Frame::new(&context);
    let buffer = frame.buffer();
    let kernel = maps::Kernel::new(buffer);
    // In a frame that arrives by XDP the tag is still there, in place of IPv4.
    let decided = if buffer.is_tagged() { Reason::NotIpv4 } else { process(&mut frame, &kernel) };
    let written = match decided.verdict() {
        Verdict::Pass | Verdict::Drop => Ok(()),
        Verdict::Forward | Verdict::Deliver => frame.write_translated(),
        Verdict::Reply => frame.write_answer(),
    };
    let reason = if written.is_ok() { decided } else { Reason::CannotReply };
    kernel.count(reason);
    match reason.verdict() {
        // On to the programs behind this one, if there are any.
        Verdict::Pass | Verdict::Deliver => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT as i32,
        Verdict::Forward | Verdict::Reply => redirect(buffer.ifindex()) as i32,
    }
}

/// Every packet that the stack sends by the interface, behind everything there: a backend that is this node itself
/// answers as the VIP. Only those answers are counted.
#[classifier]
pub(crate) fn xvip_leave(context: TcContext) -> i32 {
    let mut frame = skb::Frame::new(&context);
    let buffer = frame.buffer();
    if buffer.is_tagged() {
        return TC_ACT_UNSPEC;
    }
    let kernel = maps::Kernel::new(buffer);
    let decided = leave(&mut frame, &kernel);
    if decided.verdict() != Verdict::Deliver {
        return TC_ACT_UNSPEC;
    }
    let written = frame.write_translated();
    let reason = if written.is_ok() { decided } else { Reason::CannotReply };
    kernel.count(reason);
    if written.is_ok() { TC_ACT_UNSPEC } else { TC_ACT_SHOT as i32 }
}

/// The interface that [`xvip_probe`] sends to; the agent sets it when it loads the object.
#[unsafe(no_mangle)]
static PROBE_IFINDEX: Global<u32> = Global::new(0);

/// Sends a frame as the datapath would by redirect, for the agent to see whether the other end takes it.
#[xdp]
pub(crate) fn xvip_probe(_context: XdpContext) -> u32 {
    redirect(PROBE_IFINDEX.load()) as u32
}

#[inline(always)]
fn redirect(ifindex: u32) -> i64 {
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(ifindex, 0) }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

//! The kernel's ways in: wrap the context, call the library, map its verdict to an action once.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the entry point's macro makes an item that cannot be documented")]

mod capture;
mod connect;
mod context;
mod lease;
mod maps;
mod panic;
mod parts;
mod rounds;
mod skb;
mod tell;
mod xdp;

use aya_ebpf::Global;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_ebpf::abi::{Reason, place};
use lb_ebpf::datapath::lease::ARP;
use lb_ebpf::datapath::no_ip;
use lb_ebpf::net::header::ethertype;
use lb_ebpf::net::{Family as _, V4, V6};

/// [`xvip6`], in a program of its own for the verifier's sake: there is a limit to what it walks in each.
#[map]
static SIX: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// [`xvip_tc6`].
#[map]
static TC_SIX: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Every packet that enters the interface, in the driver.
#[xdp]
pub(crate) fn xvip(wrapped: XdpContext) -> u32 {
    capture::entered(wrapped.ctx, place::XDP);
    let action = enters(&wrapped);
    capture::left(wrapped.ctx, place::XDP, action)
}

#[inline(always)]
fn enters(wrapped: &XdpContext) -> u32 {
    let context = wrapped.ctx;
    match ethertype(&mut xdp::Frame::new(context)) {
        Ok(V4::ETHERTYPE) => {
            // Most packets are of established flows. The kernel calls nothing for them: where it guards returns (SRSO),
            // that spares a fifth of what they cost.
            let action = xdp::known::<V4>(context);
            if parts::is_action(action) {
                return action;
            }
            let run = |action| {
                parts::run(
                    context,
                    action,
                    parts::Parts {
                        known: parts::xvip_known4,
                        unknown: parts::xvip_unknown4,
                        retry: parts::xvip_retry4,
                        admit: parts::xvip_admit4,
                        choose: parts::xvip_choose4,
                        again: parts::xvip_again4,
                        keep: parts::xvip_keep4,
                        open: parts::xvip_open4,
                        elsewhere: parts::xvip_elsewhere4,
                        icmp: parts::xvip_icmp4,
                        answer: parts::xvip_answer4,
                    },
                )
            };
            let again = || run(parts::xvip_known4(context));
            parts::tunnel(context, run(action), parts::xvip_unwrap4, again, parts::xvip_wrap4)
        }
        Ok(V6::ETHERTYPE) => {
            // SAFETY: called by a program of XDP with its own context.
            unsafe { SIX.tail_call(wrapped, 0) };
            xdp::end(Reason::NotConfigured)
        }
        Ok(ARP) => lease::xvip_arp(context),
        other => xdp::end(no_ip(other.is_ok())),
    }
}

/// The packets of IPv6 among them, which [`xvip`] hands over.
#[xdp]
pub(crate) fn xvip6(context: XdpContext) -> u32 {
    let context = context.ctx;
    let run = || {
        let action = parts::run(
            context,
            parts::xvip_known6(context),
            parts::Parts {
                known: parts::xvip_known6,
                unknown: parts::xvip_unknown6,
                retry: parts::xvip_retry6,
                admit: parts::xvip_admit6,
                choose: parts::xvip_choose6,
                again: parts::xvip_again6,
                keep: parts::xvip_keep6,
                open: parts::xvip_open6,
                elsewhere: parts::xvip_elsewhere6,
                icmp: parts::xvip_icmp6,
                answer: parts::xvip_answer6,
            },
        );
        parts::neighbour(context, action, lease::xvip_neighbour)
    };
    let action = parts::tunnel(context, run(), parts::xvip_unwrap6, run, parts::xvip_wrap6);
    capture::left(context, place::XDP, action)
}

/// Every packet that enters the interface, in the stack, before anything there has looked at it.
#[classifier]
pub(crate) fn xvip_tc(wrapped: TcContext) -> i32 {
    let context = wrapped.skb.skb;
    capture::entered(context, place::TC);
    let action = enters_stack(&wrapped);
    capture::left(context, place::TC, action) as i32
}

#[inline(always)]
fn enters_stack(wrapped: &TcContext) -> u32 {
    let context = wrapped.skb.skb;
    match skb::Buffer::new(context).ethertype() {
        Some(V4::ETHERTYPE) => {
            // As in `xvip`.
            let action = skb::known::<V4>(context);
            if parts::is_action(action) {
                return action;
            }
            let run = |action| {
                parts::run(
                    context,
                    action,
                    parts::Parts {
                        known: parts::xvip_tc_known4,
                        unknown: parts::xvip_tc_unknown4,
                        retry: parts::xvip_tc_retry4,
                        admit: parts::xvip_tc_admit4,
                        choose: parts::xvip_tc_choose4,
                        again: parts::xvip_tc_again4,
                        keep: parts::xvip_tc_keep4,
                        open: parts::xvip_tc_open4,
                        elsewhere: parts::xvip_tc_elsewhere4,
                        icmp: parts::xvip_tc_icmp4,
                        answer: parts::xvip_tc_answer4,
                    },
                )
            };
            let again = || run(parts::xvip_tc_known4(context));
            parts::tunnel(context, run(action), parts::xvip_tc_unwrap4, again, parts::xvip_tc_wrap4)
        }
        Some(V6::ETHERTYPE) => {
            // SAFETY: called by a program of TC with its own context.
            unsafe { TC_SIX.tail_call(wrapped, 0) };
            skb::end(context, Reason::NotConfigured)
        }
        Some(ARP) => lease::xvip_tc_arp(context),
        _ => skb::end(context, Reason::NotIp),
    }
}

/// The packets of IPv6 among them, which [`xvip_tc`] hands over.
#[classifier]
pub(crate) fn xvip_tc6(context: TcContext) -> i32 {
    let context = context.skb.skb;
    let run = || {
        let action = parts::run(
            context,
            parts::xvip_tc_known6(context),
            parts::Parts {
                known: parts::xvip_tc_known6,
                unknown: parts::xvip_tc_unknown6,
                retry: parts::xvip_tc_retry6,
                admit: parts::xvip_tc_admit6,
                choose: parts::xvip_tc_choose6,
                again: parts::xvip_tc_again6,
                keep: parts::xvip_tc_keep6,
                open: parts::xvip_tc_open6,
                elsewhere: parts::xvip_tc_elsewhere6,
                icmp: parts::xvip_tc_icmp6,
                answer: parts::xvip_tc_answer6,
            },
        );
        parts::neighbour(context, action, lease::xvip_tc_neighbour)
    };
    let action = parts::tunnel(context, run(), parts::xvip_tc_unwrap6, run, parts::xvip_tc_wrap6);
    capture::left(context, place::TC, action) as i32
}

/// Every packet that the stack sends by the interface, behind everything there: a backend that is this node itself
/// answers as the VIP. Only those answers are counted.
#[classifier]
pub(crate) fn xvip_leave(context: TcContext) -> i32 {
    let context = context.skb.skb;
    capture::entered(context, place::LEAVING);
    let action = leaves(context);
    capture::left(context, place::LEAVING, action) as i32
}

#[inline(always)]
fn leaves(context: *mut __sk_buff) -> u32 {
    match skb::Buffer::new(context).ethertype() {
        Some(V4::ETHERTYPE) => {
            let parts = parts::Leaving {
                leave: parts::xvip_leave4,
                retry: parts::xvip_tc_retry4,
                open: parts::xvip_tc_open4,
                elsewhere: parts::xvip_tc_elsewhere4,
                answer: parts::xvip_tc_answer4,
            };
            parts::wrapped(context, parts::run_leaving(context, parts), parts::xvip_tc_wrap4)
        }
        Some(V6::ETHERTYPE) => {
            let parts = parts::Leaving {
                leave: parts::xvip_leave6,
                retry: parts::xvip_tc_retry6,
                open: parts::xvip_tc_open6,
                elsewhere: parts::xvip_tc_elsewhere6,
                answer: parts::xvip_tc_answer6,
            };
            parts::wrapped(context, parts::run_leaving(context, parts), parts::xvip_tc_wrap6)
        }
        _ => TC_ACT_UNSPEC as u32,
    }
}

/// Every packet that the stack sends by its loopback interface: a backend on this node whose flow was opened through
/// another one answers a VIP that is this node's own by now. Only those answers are counted.
#[classifier]
pub(crate) fn xvip_home(context: TcContext) -> i32 {
    let context = context.skb.skb;
    capture::entered(context, place::HOME);
    let action = match skb::Buffer::new(context).ethertype() {
        Some(V4::ETHERTYPE) => parts::xvip_home4(context),
        Some(V6::ETHERTYPE) => parts::xvip_home6(context),
        _ => TC_ACT_UNSPEC as u32,
    };
    capture::left(context, place::HOME, action) as i32
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

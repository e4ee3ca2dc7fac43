//! The packet logic in parts that the verifier looks at one by one.
//!
//! It takes a function that others could call as well (BTF linkage "global", Linux 5.6) by itself, for any argument; all
//! paths through all parts together would be more than it walks. Parts do not share a frame of the stack either: program,
//! part and what that calls must stay below 512 bytes together, each rounded up to 32 (Linux before 6.8).

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use lb_ebpf::abi::{MAX_BACKENDS, NoHint, Reason};
use lb_ebpf::datapath::Step;
use lb_ebpf::net::{V4, V6};

use crate::maps::{find_port, take_hint, try_port};
use crate::{skb, xdp};

/// What a part returns instead of an action when [`lb_ebpf::datapath::unknown`] has to go on.
const UNKNOWN: u32 = 0x1000;
/// The same for [`lb_ebpf::datapath::admit()`].
const ADMIT: u32 = 0x1005;
/// The same for [`lb_ebpf::datapath::again()`].
const AGAIN: u32 = 0x1007;
/// The same for [`lb_ebpf::datapath::choose()`].
const CHOOSE: u32 = 0x1001;
/// The same for [`lb_ebpf::datapath::open()`]; the slot is added.
const OPEN: u32 = 0x1_0000;
/// The same for [`lb_ebpf::datapath::elsewhere`]; the slot is added.
const ELSEWHERE: u32 = 0x2_0000;
/// The same for [`lb_ebpf::datapath::answer()`]; the number of the reason is added.
const ANSWER: u32 = 0x2000;

/// The same for [`lb_ebpf::datapath::retry()`].
const RETRY: u32 = 0x1004;
/// The same for [`lb_ebpf::datapath::error()`].
const ICMP: u32 = 0x1003;
/// The same for [`lb_ebpf::datapath::lease::neighbour`].
const NEIGHBOUR: u32 = 0x1006;
/// The same for [`lb_ebpf::datapath::tunnel::wrap`]; the number of the reason is added.
pub(crate) const WRAP: u32 = 0x3000;
/// The same for [`lb_ebpf::datapath::tunnel::unwrap`]; and what that returns when all begins anew.
pub(crate) const UNWRAP: u32 = 0x1002;

// Each has a number of its own.
const _: () = {
    let all = [UNKNOWN, CHOOSE, UNWRAP, ICMP, RETRY, ADMIT, NEIGHBOUR, AGAIN];
    let mut at = 0;
    while at < all.len() {
        assert!(all[at] == UNKNOWN + at as u32);
        at += 1;
    }
};

/// What a part returns: the action that `end` maps a reason to, or who goes on.
#[inline(always)]
pub(crate) fn outcome(step: Step, end: impl FnOnce(Reason) -> u32) -> u32 {
    match step {
        Step::End(reason) => end(reason),
        Step::Unknown => UNKNOWN,
        Step::Admit => ADMIT,
        Step::Choose => CHOOSE,
        Step::Again => AGAIN,
        Step::Open(slot) => OPEN.wrapping_add(slot),
        Step::Elsewhere(slot) => ELSEWHERE.wrapping_add(slot),
        Step::Retry => RETRY,
        Step::Icmp => ICMP,
        Step::Neighbour => NEIGHBOUR,
        Step::Reset(reason) => ANSWER + reason as u32,
        Step::Wrap(reason) => WRAP + reason as u32,
        Step::Unwrap => UNWRAP,
    }
}

/// A part as a function of its own.
type Part<C> = extern "C" fn(*mut C) -> u32;
/// The same of one that goes on with a number.
type PartWith<C> = extern "C" fn(*mut C, u32) -> u32;

/// The parts of an IP version and a way in.
pub(crate) struct Parts<C> {
    pub(crate) known: Part<C>,
    pub(crate) unknown: Part<C>,
    pub(crate) retry: Part<C>,
    pub(crate) admit: Part<C>,
    pub(crate) choose: Part<C>,
    pub(crate) again: Part<C>,
    pub(crate) keep: PartWith<C>,
    pub(crate) open: PartWith<C>,
    pub(crate) elsewhere: PartWith<C>,
    pub(crate) icmp: Part<C>,
    pub(crate) answer: PartWith<C>,
}

/// Whether a part has come to an action, and nobody goes on.
#[inline(always)]
pub(crate) fn is_action(outcome: u32) -> bool {
    // TC_ACT_UNSPEC is -1.
    (outcome as i32) < UNKNOWN as i32
}

/// Runs part after part until there is an action; `action` is what the first one has returned.
#[inline(always)]
pub(crate) fn run<C>(context: *mut C, mut action: u32, parts: Parts<C>) -> u32 {
    if action == UNKNOWN {
        action = (parts.unknown)(context);
        if action == UNKNOWN {
            action = (parts.known)(context);
        }
    }
    if action == RETRY {
        action = (parts.retry)(context);
        if action == UNKNOWN {
            action = (parts.unknown)(context);
        }
    }
    if action == ADMIT {
        action = (parts.admit)(context);
    }
    if action == CHOOSE {
        action = (parts.choose)(context);
        let slot = action.wrapping_sub(OPEN);
        if slot < MAX_BACKENDS {
            (parts.keep)(context, slot);
        }
    }
    if action == AGAIN {
        action = (parts.again)(context);
    }
    if action == ICMP {
        action = (parts.icmp)(context);
    }
    opened(context, action, parts.open, parts.elsewhere, parts.answer)
}

/// Looks at a frame of neighbour discovery where an action of [`run`] asks for that.
#[inline(always)]
pub(crate) fn neighbour<C>(context: *mut C, action: u32, neighbour: Part<C>) -> u32 {
    if action == NEIGHBOUR { neighbour(context) } else { action }
}

/// The parts for packets of an IP version that leave the host's own stack.
pub(crate) struct Leaving<C> {
    pub(crate) leave: Part<C>,
    pub(crate) retry: Part<C>,
    pub(crate) open: PartWith<C>,
    pub(crate) elsewhere: PartWith<C>,
    pub(crate) answer: PartWith<C>,
}

/// The same for a packet that leaves the host's own stack.
#[inline(always)]
pub(crate) fn run_leaving<C>(context: *mut C, parts: Leaving<C>) -> u32 {
    let mut action = (parts.leave)(context);
    if action == RETRY {
        action = (parts.retry)(context);
    }
    opened(context, action, parts.open, parts.elsewhere, parts.answer)
}

/// What comes after a backend has been chosen.
#[inline(always)]
fn opened<C>(context: *mut C, mut action: u32, open: PartWith<C>, elsewhere: PartWith<C>, answer: PartWith<C>) -> u32 {
    let slot = action.wrapping_sub(OPEN);
    if slot < MAX_BACKENDS {
        action = open(context, slot);
        let full = action.wrapping_sub(ELSEWHERE);
        if full < MAX_BACKENDS {
            action = elsewhere(context, full);
            let slot = action.wrapping_sub(OPEN);
            if slot < MAX_BACKENDS {
                action = open(context, slot);
            }
            if action.wrapping_sub(ELSEWHERE) < MAX_BACKENDS {
                action = ANSWER + Reason::NoSourcePort as u32;
            }
        }
    }
    // A packet that would have to be looked at for ever, because other CPUs change its flow meanwhile, has an end here.
    if action == RETRY || action == UNKNOWN {
        action = ANSWER + Reason::NoFlow as u32;
    }
    let reason = action.wrapping_sub(ANSWER);
    if reason < Reason::COUNT { answer(context, reason) } else { action }
}

/// Runs what an action of [`run`] asks for besides: the same by `again` where an inner packet was taken out, and what puts
/// a packet into an outer one.
#[inline(always)]
pub(crate) fn tunnel<C>(
    context: *mut C, mut action: u32, unwrap: Part<C>, again: impl FnOnce() -> u32, wrap: PartWith<C>,
) -> u32 {
    if action == UNWRAP {
        action = unwrap(context);
        if action == UNWRAP {
            action = again();
        }
    }
    wrapped(context, action, wrap)
}

/// Puts a packet into an outer one where an action asks for that.
#[inline(always)]
pub(crate) fn wrapped<C>(context: *mut C, action: u32, wrap: PartWith<C>) -> u32 {
    let reason = action.wrapping_sub(WRAP);
    if reason < Reason::COUNT { wrap(context, reason) } else { action }
}

macro_rules! parts {
    ($context:ty, $by:ident, $family:ty: $known:ident, $unknown:ident, $retry:ident, $admit:ident, $choose:ident, $again:ident,
        $keep:ident, $open:ident, $elsewhere:ident, $icmp:ident, $answer:ident, $unwrap:ident, $wrap:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $known(context: *mut $context) -> u32 {
            $by::known::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $unknown(context: *mut $context) -> u32 {
            $by::unknown::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $admit(context: *mut $context) -> u32 {
            $by::admit::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $retry(context: *mut $context) -> u32 {
            $by::retry::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $keep(context: *mut $context, slot: u32) -> u32 {
            $by::keep::<$family>(context, slot)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $choose(context: *mut $context) -> u32 {
            $by::choose::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $again(context: *mut $context) -> u32 {
            $by::again::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $open(context: *mut $context, slot: u32) -> u32 {
            $by::open::<$family>(context, slot)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $elsewhere(context: *mut $context, slot: u32) -> u32 {
            $by::elsewhere::<$family>(context, slot)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $icmp(context: *mut $context) -> u32 {
            $by::error::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $answer(context: *mut $context, reason: u32) -> u32 {
            $by::answer::<$family>(context, reason)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $unwrap(context: *mut $context) -> u32 {
            $by::unwrap::<$family>(context)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $wrap(context: *mut $context, reason: u32) -> u32 {
            $by::wrap::<$family>(context, reason)
        }
    };
}

parts!(xdp_md, xdp, V4: xvip_known4, xvip_unknown4, xvip_retry4, xvip_admit4, xvip_choose4, xvip_again4, xvip_keep4,
    xvip_open4, xvip_elsewhere4, xvip_icmp4, xvip_answer4, xvip_unwrap4, xvip_wrap4);
parts!(xdp_md, xdp, V6: xvip_known6, xvip_unknown6, xvip_retry6, xvip_admit6, xvip_choose6, xvip_again6, xvip_keep6,
    xvip_open6, xvip_elsewhere6, xvip_icmp6, xvip_answer6, xvip_unwrap6, xvip_wrap6);
parts!(__sk_buff, skb, V4: xvip_tc_known4, xvip_tc_unknown4, xvip_tc_retry4, xvip_tc_admit4, xvip_tc_choose4, xvip_tc_again4, xvip_tc_keep4,
    xvip_tc_open4, xvip_tc_elsewhere4, xvip_tc_icmp4, xvip_tc_answer4, xvip_tc_unwrap4, xvip_tc_wrap4);
parts!(__sk_buff, skb, V6: xvip_tc_known6, xvip_tc_unknown6, xvip_tc_retry6, xvip_tc_admit6, xvip_tc_choose6, xvip_tc_again6, xvip_tc_keep6,
    xvip_tc_open6, xvip_tc_elsewhere6, xvip_tc_icmp6, xvip_tc_answer6, xvip_tc_unwrap6, xvip_tc_wrap6);

macro_rules! ports {
    ($family:ty: $find:ident, $try:ident) => {
        /// Finds a source port; the search is where its IP version keeps it.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $find() -> u32 {
            find_port::<$family>() as u32
        }

        /// What the port is good for that the search has come to. A function of its own, for the verifier's sake: it is
        /// called in a loop.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $try(in_need: u32) -> u32 {
            try_port::<$family>(in_need != 0)
        }
    };
}

ports!(V4: xvip_find_port4, xvip_try_port4);
ports!(V6: xvip_find_port6, xvip_try_port6);

/// What [`xvip_hint`] returns instead of a port: there is none.
pub(crate) const NO_HINT: u32 = 0x1_0000;
/// The same: other CPUs were faster.
pub(crate) const HINT_AGAIN: u32 = 0x1_0001;

/// Takes a source port, this one or the next that is free, of the set that the caller has named. As above.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_hint(from: u32) -> u32 {
    match take_hint(from as u16) {
        Ok(port) => port as u32,
        Err(NoHint::Full) => NO_HINT,
        Err(NoHint::Again) => HINT_AGAIN,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_leave4(context: *mut __sk_buff) -> u32 {
    skb::leaving::<V4>(context)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_leave6(context: *mut __sk_buff) -> u32 {
    skb::leaving::<V6>(context)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_home4(context: *mut __sk_buff) -> u32 {
    skb::leaving_home::<V4>(context)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_home6(context: *mut __sk_buff) -> u32 {
    skb::leaving_home::<V6>(context)
}

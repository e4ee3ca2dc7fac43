//! Leases of virtual addresses, for what enters by either way and for what leaves.

use aya_ebpf::bindings::{__sk_buff, BPF_F_NO_PREALLOC, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_md};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{HashMap, PerCpuArray};
use aya_ebpf::programs::TcContext;
use lb_ebpf::abi::{Bucket, CLAIMS_PER_SECOND, Claim, Lease, MAX_VIPS, Reason, SharedLease};
use lb_ebpf::datapath::lease::{self, ARP, ARP_HALFWORDS, Leases, NEIGHBOUR_HALFWORDS, arp_leaves, neighbour_leaves};
use lb_ebpf::net::header::ETHERNET;
use lb_ebpf::net::{Be128, Family as _, V6};
use lb_ebpf::packet::Packet as _;

use crate::context::{Context, NoPacket};
use crate::maps::{EVENTS, Kernel, count, node, spend};
use crate::parts::outcome;
use crate::{skb, xdp};

#[map]
static LEASES: HashMap<Be128, Lease> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
/// Only this program's business, so no part of the boundary to the agent.
#[map]
static CLAIM_BUDGET: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(1, 0);

const NANOSECONDS: u64 = 1_000_000_000;

impl<C: Context> Leases for Kernel<C> {
    #[inline(always)]
    fn own_mac(&self) -> Option<[u8; 6]> {
        node().map(|node| node.mac)
    }

    #[inline(always)]
    fn lease(&self, address: Be128) -> Option<&SharedLease> {
        // SAFETY: not preallocated, so the value stays until the program ends, be it replaced meanwhile. `SharedLease` is
        // `Lease` with its changing word atomic, of the same layout (asserted beside the definition).
        LEASES.get_ptr(address).map(|lease| unsafe { &*lease.cast::<SharedLease>() })
    }

    #[inline(always)]
    fn boot_nanoseconds(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn claimed(&self, address: Be128, mac: [u8; 6]) {
        let second = (self.boot_nanoseconds() / NANOSECONDS) as u32;
        if spend(CLAIM_BUDGET.get_ptr_mut(0), second, CLAIMS_PER_SECOND) {
            // Where the agent does not read, it need not hear more.
            let _ = EVENTS.output::<Claim>(&Claim { address, mac, pad: 0 }, 0);
        }
    }
}

/// The head of a socket buffer.
#[inline(always)]
fn load<const N: usize>(context: *mut __sk_buff) -> Option<[u16; N]> {
    let mut head = [0; N];
    // SAFETY: the kernel hands the program a valid `__sk_buff`, and `head` has room for so many bytes.
    let loaded = unsafe { bpf_skb_load_bytes(context.cast(), 0, head.as_mut_ptr().cast(), 2 * N as u32) };
    (loaded == 0).then_some(head)
}

/// See [`lease::arp`]: the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_arp(context: *mut xdp_md) -> u32 {
    let mut frame = xdp::Frame::new(context);
    xdp::end(frame.head::<ARP_HALFWORDS>().map_or(Reason::NotIp, |head| lease::arp(head, &Kernel::new(NoPacket))))
}

/// The same for a socket buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_tc_arp(context: *mut __sk_buff) -> u32 {
    let head = load::<ARP_HALFWORDS>(context);
    skb::end(context, head.map_or(Reason::NotIp, |head| lease::arp(&head, &Kernel::new(NoPacket))))
}

/// See [`lease::neighbour`]: the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_neighbour(context: *mut xdp_md) -> u32 {
    let mut frame = xdp::Frame::new(context);
    let kernel = Kernel::new(frame);
    outcome(lease::neighbour::<V6>(&mut frame, &kernel), xdp::end)
}

/// The same for a socket buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn xvip_tc_neighbour(context: *mut __sk_buff) -> u32 {
    skb::neighbour(context)
}

/// Every packet that leaves by the interface: what says where a virtual address is goes no further once its lease is over.
/// A program of its own, because it is needed where nothing else looks at what leaves. Only what it drops is counted.
#[classifier]
pub(crate) fn xvip_guard(context: TcContext) -> i32 {
    /// Where the next header is in a frame of IPv6.
    const NEXT_HEADER: u32 = (ETHERNET + 6) as u32;
    let context = context.skb.skb;
    let kernel = Kernel::new(NoPacket);
    let reason = match skb::Buffer::new(context).ethertype() {
        Some(ARP) => load::<ARP_HALFWORDS>(context).and_then(|head| arp_leaves(&head, &kernel)),
        Some(V6::ETHERTYPE) => {
            let mut protocol = 0_u8;
            // SAFETY: as above; one byte.
            let loaded = unsafe { bpf_skb_load_bytes(context.cast(), NEXT_HEADER, (&raw mut protocol).cast(), 1) };
            if loaded != 0 || protocol != V6::ICMP {
                return TC_ACT_UNSPEC;
            }
            load::<NEIGHBOUR_HALFWORDS>(context).and_then(|head| neighbour_leaves(&head, &kernel))
        }
        _ => None,
    };
    match reason {
        Some(reason) => {
            count(reason);
            TC_ACT_SHOT
        }
        None => TC_ACT_UNSPEC,
    }
}

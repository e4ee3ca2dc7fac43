//! What the agent is told of flows: lines for its log, and what opens and closes for those who share flows.
//!
//! Functions of their own, for the stack's sake.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_log_ebpf::{debug, warn};
use lb_ebpf::abi::{CHANGE_BYTES, FlowKey, Told};
use lb_ebpf::datapath::tables::Note;
use lb_ebpf::net::{Be32, Be128};

#[map]
static CHANGES: RingBuf = RingBuf::with_byte_size(CHANGE_BYTES, 0);
#[map]
static UNTOLD: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

macro_rules! told {
    ($(#[$doc:meta])* $name:ident($address:ty)) => {
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name(client: &FlowKey<$address>, what: u32) {
            if let Some(mut entry) = CHANGES.reserve::<Told>(0) {
                entry.write(Told::of(client, what));
                entry.submit(0);
            } else if let Some(untold) = UNTOLD.get_ptr_mut(0) {
                // SAFETY: a map value of this CPU; the program is not preempted by itself.
                unsafe { *untold += 1 };
            }
        }
    };
}

told!(
    /// Tells those who share flows of one.
    tell4(Be32)
);
told!(
    /// The same for IPv6.
    tell6(Be128)
);

macro_rules! written {
    ($(#[$doc:meta])* $name:ident($client:ty)) => {
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name(note: Note, client: $client, port: u16, slot: u32) {
            // The log's macros take a context and leave it alone.
            let context = ();
            match note {
                Note::Opened => debug!(&context, "flow of {:i} port {} opened to backend slot {}", client, port, slot),
                Note::Closed => debug!(&context, "flow of {:i} port {} closed, backend slot {}", client, port, slot),
                Note::BackendGone => {
                    debug!(&context, "flow of {:i} port {} reset, backend slot {} is gone", client, port, slot);
                }
                Note::NoSourcePort => {
                    warn!(&context, "{:i} port {}: no source port is left to backend slot {}", client, port, slot);
                }
                Note::TableFull => warn!(&context, "{:i} port {} refused, table of flows is full", client, port),
            }
        }
    };
}

written!(
    /// Hands a line to the agent's log.
    write4(u32)
);
written!(
    /// The same for IPv6.
    write6([u8; 16])
);

//! What the agent is told of flows: lines for its log, and what opens and closes for those who share flows.
//!
//! Functions of their own, for the stack's sake.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_log_ebpf::{debug, warn};
use lb_ebpf::abi::{CHANGE_BYTES, FlowKey, LOG_BYTES, Logged, Readable as _, SharedFlow, Told};
use lb_ebpf::datapath::tables::Note;
use lb_ebpf::net::{Be32, Be128, Family, V4, V6};

use crate::maps::{Kept, shared};

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

#[map]
static LOGGED: RingBuf = RingBuf::with_byte_size(LOG_BYTES, 0);
#[map]
static UNLOGGED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

macro_rules! logged {
    ($(#[$doc:meta])* $name:ident($family:ty)) => {
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name(client: &FlowKey<<$family as Family>::Address>, what: u32) {
            let Some(flow) = entry::<$family>(client) else {
                return;
            };
            // What the backend has acknowledged is where the client begins, and the other way round; of a backend that
            // answers by itself nothing is seen.
            let answers = if flow.is_direct() { None } else { entry::<$family>(&flow.other()) };
            let from_client = answers.map_or(flow.expect.get(), |answers| answers.acknowledged.get());
            let Some(mut room) = LOGGED.reserve::<Logged>(0) else {
                if let Some(unlogged) = UNLOGGED.get_ptr_mut(0) {
                    // SAFETY: a map value of this CPU; the program is not preempted by itself.
                    unsafe { *unlogged += 1 };
                }
                return;
            };
            let to = room.as_mut_ptr();
            // SAFETY: the room is one record's; each field is written where it lies, because the stack has no room for them.
            unsafe {
                (&raw mut (*to).at).write(bpf_ktime_get_ns());
                (&raw mut (*to).client).write(client.wide());
                (&raw mut (*to).translated).write(flow.translated.wide());
                (&raw mut (*to).what).write(what);
                (&raw mut (*to).generation).write(flow.generation);
                (&raw mut (*to).backend).write(flow.backend);
                (&raw mut (*to).service).write(flow.service);
                (&raw mut (*to).from_client).write(from_client);
                (&raw mut (*to).from_backend).write(flow.acknowledged.get());
                (&raw mut (*to).pad).write(0);
            }
            room.submit(0);
        }
    };
}

#[inline(always)]
fn entry<F: Kept>(key: &FlowKey<F::Address>) -> Option<&'static SharedFlow<F::Address>> {
    shared(F::established().get_ptr_mut(key))
}

logged!(
    /// Tells the log of flows of one that opened or closed; its entry is still there.
    log4(V4)
);
logged!(
    /// The same for IPv6.
    log6(V6)
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

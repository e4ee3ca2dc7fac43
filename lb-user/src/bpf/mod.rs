//! The kernel side: the object loaded, attached and pinned, and its tables read and written.
//!
//! - `layout`: what the pinned maps must look like to be used again.
//! - `attach`: load, choose a mode; attach, pin; adopt what an earlier agent left.
//! - `hooks`: the connect hooks of a cgroup, for the node's own clients.
//! - `tables`: observe and apply, for the planner.
//! - `ports`: hints about source ports, kept true by every sweep.
//! - `sweep`: the connection tables, aged and counted (`batch`: read, `loads`: the datapath's own counts put right).
//! - `flows`: the tables of flows as records that other nodes understand, and back (`changes`: those that open and close).
//! - `connections`, `facts`: flows for people, and what a connection is decided by. `logged`: flows for their log.
//! - `captured`: packets as they enter and leave, for who looks at them.
//! - `ending`: RSTs to the clients of a backend that is gone.
//! - `suspicions`: backends that the datapath finds silent, and hosts that claim a VIP.
//! - `leases`: up to when this node may say that it has a VIP.
//! - `footprint`: the memory that they take.
//! - `counters`: packets by reason and traffic by backend.
//!
//! Everything is pinned below one directory, so that it goes on working without the agent and is found again.

mod attach;
mod batch;
mod captured;
mod changes;
mod connections;
mod counters;
mod ending;
mod facts;
mod flows;
mod footprint;
mod full;
mod hooks;
mod layout;
mod leases;
mod loads;
mod logged;
mod ports;
mod suspicions;
mod sweep;
mod tables;

pub(crate) use attach::facts;
pub use attach::{
    Attachment, Datapath, DatapathError, Device, Loaded, Mode, Spec, choose, flush, is_pinned, join_six,
    provide_file_system,
};
pub use captured::{CapturedPackets, Show};
pub use changes::{FlowChanges, PATIENCE, SharingSwitch};
pub use connections::{Connection, ConnectionTables, Stage, Wanted};
pub use counters::{Counters, PacketCounts};
pub use facts::FactTables;
pub use flows::{FlowTable, Skipped};
pub use footprint::{Bytes, Footprint};
pub use full::FULL;
pub use hooks::{HookError, Hooks, cgroup_root};
pub use layout::Sizes;
pub use leases::Leases;
pub use logged::{Happened, LoggedFlows, Removals, What};
pub use ports::{PortLayout, PortUse};
pub use suspicions::{Suspicions, Word};
pub use sweep::{Entries, LIMITED, Sweep, Sweeper};
pub use tables::{TableError, Tables};

/// The datapath object, as the build made it; empty in a build with `XVIP_EBPF_STUB=1`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("XVIP_DATAPATH_OBJECT"));

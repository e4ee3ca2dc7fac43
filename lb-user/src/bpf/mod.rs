//! The kernel side: the object, loaded, attached, pinned, and its tables.

/// The datapath object, as the build made it; empty in a build with `XVIP_EBPF_STUB=1`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("XVIP_DATAPATH_OBJECT"));

//! What the connect hooks share with the agent.

use super::Endpoint;

/// Addresses of its own that a node can have.
pub const MAX_OWN_ADDRESSES: u32 = 4096;

/// A service whose local clients prefer no backend.
pub const NOBODY: u32 = 0;

/// Whose connections the hooks translate.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hook {
    /// Cookie of the agent's network namespace (`SO_NETNS_COOKIE`, Linux 5.14), which is never 0; 0: nobody's.
    pub netns: u64,
    /// What stands for the address of this node's clients where a hash of it picks the backend: any two words of the
    /// node's own that stay the same.
    pub client: [u32; 2],
}

/// What became of a socket's connect(2); lives and ends with the socket.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialled {
    /// What the client asked for.
    pub asked: Endpoint,
    /// What it got.
    pub reached: Endpoint,
}

const _: () = {
    assert!(size_of::<Hook>() == 16);
    assert!(size_of::<Dialled>() == 40);
};

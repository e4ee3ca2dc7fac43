//! The kernel's network configuration: seen whole or not at all, changed one object at a time, and watched for the moment to look
//! again. Knows addresses, links, neighbours and routes; decides nothing.
//!
//! ```text
//!  observe ──exchange──> kernel      what there is
//!  apply   ──exchange──> kernel      addresses of ours (`ours` has the mark), neighbours to resolve
//!  monitor <──────────── kernel      something changed, never what
//! ```

mod apply;
mod attributes;
mod detail;
mod device;
mod exchange;
mod features;
mod filters;
mod monitor;
mod observe;
pub mod ours;
mod route;

use std::io;

pub use apply::{Added, Addresses};
pub use detail::{AttachedXdp, Detail};
pub use device::{has_vlans, members, mtu, xdp_program};
pub use features::runs_xdp;
pub use filters::Filter;
pub use monitor::{Group, Monitor};
pub use observe::{Address, Interfaces, Link, Neighbour, NeighbourState, Observed, Speaker};
pub use route::Route;

/// Access to the kernel's network configuration in the network namespace of the caller. Costs nothing to copy: every request has
/// a socket and a thread of its own, because the kernel answers in the caller's time and may first wait for its own locks.
///
/// A future that is dropped abandons the answer, not the request.
#[derive(Debug, Clone, Copy)]
pub struct Netlink(());

impl Netlink {
    /// Makes sure that the kernel can be asked. The other methods need a tokio runtime.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn connect() -> Result<Self, NetlinkError> {
        exchange::Socket::open().map(|_| Self(()))
    }

    /// Runs `ask` where it may block.
    async fn run<T, F>(ask: F) -> Result<T, NetlinkError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, NetlinkError> + Send + 'static,
    {
        match tokio::task::spawn_blocking(ask).await {
            Ok(answer) => answer,
            Err(_) => Err(NetlinkError::Abandoned),
        }
    }
}

/// Why the kernel could not be asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("cannot {doing} a netlink socket: {source}")]
    Socket {
        /// "open" or the like.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("the kernel refused to {doing}: {source}")]
    Refused {
        /// "add an address" or the like.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The listing changed while it was read, again and again.
    #[error("cannot {doing}: the list kept changing while it was read")]
    Interrupted {
        /// "list links" or the like.
        doing: &'static str,
    },
    /// No answer, or not all of it, in time.
    #[error("cannot {doing}: the kernel did not answer in time")]
    Timeout {
        /// "list links" or the like.
        doing: &'static str,
    },
    /// An answer that makes no sense.
    #[error("cannot {doing}: the kernel's answer is unreadable: {what}")]
    Malformed {
        /// "list links" or the like.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The request was given up because the runtime ends.
    #[error("the request was abandoned")]
    Abandoned,
}

impl NetlinkError {
    /// The kernel's error number, where it refused.
    #[must_use]
    pub fn refused_with(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

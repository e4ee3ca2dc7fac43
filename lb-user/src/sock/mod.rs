//! Sockets: bytes in, bytes out. What the bytes mean is known elsewhere.

pub mod ask;
pub mod datagram;
pub mod frame;
pub mod raw;
pub mod vrrp;

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets a task wait for a non-blocking socket. Needs a tokio runtime.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned: it is open, stays the same, and closes only after `AsyncFd` has forgotten it.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

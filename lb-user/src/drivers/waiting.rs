//! Waiting for what may not be there, in a `select!`: then for ever.

use std::future::pending;
use std::io;
use std::time::Instant;

use tokio::time::sleep_until;

use crate::sock::datagram::{Datagram, DatagramSocket};

/// Returns at the deadline.
pub(crate) async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// Returns the next datagram, whose bytes are in the buffer.
///
/// # Errors
/// What the kernel says.
pub(super) async fn receive(socket: Option<&DatagramSocket>, buffer: &mut [u8]) -> io::Result<Datagram> {
    match socket {
        Some(socket) => socket.receive(buffer).await,
        None => pending().await,
    }
}

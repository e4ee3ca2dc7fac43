//! Wakes whoever wants to look again when the kernel's network configuration has changed. Says that something changed, never
//! what: news may be lost, and an observation is the only truth.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;

use super::NetlinkError;
use crate::sock::watched;

/// What can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Links.
    Links,
    /// Addresses of both families.
    Addresses,
    /// Neighbours of all families.
    Neighbours,
    /// Routes of both families.
    Routes,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Links, Self::Addresses, Self::Neighbours, Self::Routes];

    /// `RTMGRP_*`.
    const fn bit(self) -> u32 {
        match self {
            Self::Links => 0x1,
            Self::Neighbours => 0x4,
            Self::Addresses => 0x10 | 0x100,
            Self::Routes => 0x40 | 0x400,
        }
    }
}

/// A subscription to changes.
#[derive(Debug)]
pub struct Monitor(AsyncFd<OwnedFd>);

impl Monitor {
    /// Changes in these groups from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn subscribe(groups: &[Group]) -> Result<Self, NetlinkError> {
        let failed = |errno: nix::Error| NetlinkError::Socket { doing: "subscribe with", source: errno.into() };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map_err(failed)?;
        let bits = groups.iter().fold(0, |bits, group| bits | group.bit());
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, bits)).map_err(failed)?;
        let fd = watched(fd).map_err(|source| NetlinkError::Socket { doing: "subscribe with", source })?;
        Ok(Self(fd))
    }

    /// Waits until something has changed since the last call. Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // The runtime ends.
                return std::future::pending().await;
            };
            let mut woken = false;
            loop {
                // The content does not matter, so neither does what does not fit.
                match recv(self.0.as_raw_fd(), &mut [0; 32], MsgFlags::MSG_DONTWAIT) {
                    // An overrun means that there was more news than room for it.
                    Ok(1..) | Err(nix::Error::ENOBUFS) => woken = true,
                    Err(nix::Error::EINTR) => {}
                    Err(nix::Error::EAGAIN) => break,
                    Ok(0) | Err(_) => {
                        tokio::time::sleep(PAUSE).await;
                        return;
                    }
                }
            }
            ready.clear_ready();
            if woken {
                return;
            }
        }
    }
}

/// After an error that a subscription does not have, lest it becomes a busy loop.
const PAUSE: Duration = Duration::from_secs(1);

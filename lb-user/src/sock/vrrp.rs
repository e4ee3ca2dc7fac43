//! A socket for VRRP on one interface: IPv4 protocol 112, as RFC 9568 section 5.1.1 wants its packets.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use lb_proto::wire::ipv4::{MULTICAST, PROTOCOL_VRRP, TTL};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, recv, sendmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::watched;

/// Room for the largest IPv4 packet.
pub const LARGEST: usize = 0xffff;
/// Bytes queued at most, as the kernel counts them; a few hundred adverts.
const RECEIVE_BUFFER: usize = 128 * 1024;
/// Internetwork control (RFC 2474 section 4.2.2.2), so that adverts are the last thing a loaded network drops.
const TOS: u32 = 0xc0;
/// The same for the queue of our own interface: `TC_PRIO_CONTROL`.
const PRIORITY: u32 = 7;

/// Opened and not yet waited for; [`Self::watch`] makes it a [`VrrpSocket`].
#[derive(Debug)]
pub struct Opened {
    fd: OwnedFd,
    ifindex: u32,
}

/// What failed while a socket was opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {source}{}", hint(.source))]
pub struct OpenError {
    /// "open a raw socket" or the like.
    pub doing: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root or with CAP_NET_RAW and CAP_NET_ADMIN",
        _ => "",
    }
}

impl Opened {
    /// Opens a socket that speaks on, and hears, this interface alone; `multicast`: it hears the VRRP group too. May wait for
    /// the kernel's network lock, so call it where that does no harm; dropping it may, too.
    ///
    /// # Errors
    /// What could not be done, and the kernel's reason.
    pub fn on(interface: &str, ifindex: u32, multicast: bool) -> Result<Self, OpenError> {
        let step = |doing, result: io::Result<()>| result.map_err(|source| OpenError { doing, source });
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(PROTOCOL_VRRP))))
            .map_err(|source| OpenError { doing: "open a raw socket", source })?;
        step("bind to the interface", socket.bind_device(Some(interface.as_bytes())))?;
        step("bound the receive buffer", socket.set_recv_buffer_size(RECEIVE_BUFFER / 2))?;
        step("set the TTL", socket.set_ttl_v4(TTL.into()))?;
        step("set the multicast TTL", socket.set_multicast_ttl_v4(TTL.into()))?;
        step("stop hearing ourselves", socket.set_multicast_loop_v4(false))?;
        // Otherwise it hears groups that other programs of this host have joined.
        step("stop hearing other groups", socket.set_multicast_all_v4(false))?;
        // In this order: the type of service sets a priority of its own.
        step("set the type of service", socket.set_tos_v4(TOS))?;
        step("set the priority", socket.set_priority(PRIORITY))?;
        if multicast {
            let interface = InterfaceIndexOrAddress::Index(ifindex);
            step("join the VRRP group", socket.join_multicast_v4_n(&MULTICAST, &interface))?;
        }
        Ok(Self { fd: socket.into(), ifindex })
    }

    /// The interface it was opened on.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Ready for a task. Needs a tokio runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn watch(self) -> io::Result<VrrpSocket> {
        Ok(VrrpSocket { ifindex: self.ifindex, fd: watched(self.fd)? })
    }
}

/// A socket that a task reads and writes.
#[derive(Debug)]
pub struct VrrpSocket {
    fd: AsyncFd<OwnedFd>,
    ifindex: u32,
}

impl VrrpSocket {
    /// The interface it was opened on.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Waits until [`Self::receive`] may have something.
    pub async fn readable(&self) {
        if self.fd.readable().await.is_err() {
            // The runtime ends.
            std::future::pending::<()>().await;
        }
    }

    /// The next packet with its IPv4 header; `None` when there is none. One that does not fit is cut off.
    ///
    /// # Errors
    /// Of the socket; it stays usable unless the interface is gone.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        // Twice, because the first asks only if the runtime knows of something to read, and is needed to make it forget that.
        let mut received = self.fd.try_io(tokio::io::Interest::READABLE, |fd| receive(fd, buffer));
        if matches!(&received, Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
            received = receive(self.fd.get_ref(), buffer);
        }
        match received {
            Ok(length) => Ok(buffer.get(..length)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends the payload of a packet from `src`, an address of this host. The kernel adds the header.
    ///
    /// # Errors
    /// Not sent: no route, no such source, no room, a firewall.
    pub fn send(&self, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: self.ifindex.cast_signed(),
            ipi_spec_dst: libc::in_addr { s_addr: src.to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let to = SockaddrIn::from(SocketAddrV4::new(dst, 0));
        let payload = [IoSlice::new(payload)];
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        sendmsg(self.fd.as_raw_fd(), &payload, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }

    /// Closes the socket, which may wait for the kernel's network lock, on another thread.
    pub fn close(self) {
        let fd = self.fd.into_inner();
        drop(tokio::task::spawn_blocking(move || drop(fd)));
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}

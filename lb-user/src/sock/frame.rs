//! Packet sockets: one that sends whole Ethernet frames and hears nothing, and one that hears them.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sends frames on any interface of the namespace it was opened in.
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// Not permitted without `CAP_NET_RAW`, among others.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // Without a protocol nothing is ever queued for reading.
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// Sends a frame, which begins with its Ethernet header, out of an interface.
    ///
    /// # Errors
    /// Not sent: no such interface, it is down, its queue is full, or the frame has no header.
    pub fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let header: &[u8; 14] = frame.first_chunk().ok_or(io::ErrorKind::InvalidInput)?;
        let [a, b, c, d, e, f, .., p0, p1] = *header;
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::c_ushort,
            // In network byte order, as it stands in the frame.
            sll_protocol: u16::from_ne_bytes([p0, p1]),
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [a, b, c, d, e, f, 0, 0],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: both pointers are to live values of the lengths given, and the kernel only reads them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                length,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A packet socket that hears the frames of one EtherType on one interface, or all (`ETH_P_ALL`). It does not block where
/// [`SockFlag::SOCK_NONBLOCK`] is given.
///
/// # Errors
/// Not permitted without `CAP_NET_RAW`; no such interface.
pub fn hear(ifindex: u32, ethertype: u16, flags: SockFlag) -> io::Result<OwnedFd> {
    // Without a protocol until it is bound: nothing of other interfaces gets into its queue.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags | SockFlag::SOCK_CLOEXEC, None)?;
    let of_interface = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a live value of the length given, and the kernel only reads it.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const of_interface).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

//! A packet socket that sends whole ARP frames and hears nothing.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use lb_proto::wire::arp::{FRAME, Mac};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sends frames on any interface of the namespace it was opened in.
#[derive(Debug)]
pub struct ArpSocket(OwnedFd);

impl ArpSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// Not permitted without `CAP_NET_RAW`, among others.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // Without a protocol nothing is ever queued for reading.
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// Sends a frame out of an interface.
    ///
    /// # Errors
    /// Not sent: no such interface, it is down, or its queue is full.
    pub fn send(&self, ifindex: u32, frame: &[u8; FRAME]) -> io::Result<()> {
        let [a, b, c, d, e, f] = Mac::BROADCAST.0;
        let to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::c_ushort,
            sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
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

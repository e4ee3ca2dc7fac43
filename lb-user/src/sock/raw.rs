//! Sockets that send whole IP packets, with whatever source, and hear nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// `IPPROTO_RAW`: the header is the sender's, and nothing is queued for reading.
const RAW: i32 = 255;

/// One for each IP version that the kernel has.
#[derive(Debug)]
pub struct RawSockets {
    four: io::Result<Socket>,
    six: io::Result<Socket>,
}

impl RawSockets {
    /// Opens them. What could not be opened says so when it is to send.
    #[must_use]
    pub fn open() -> Self {
        let open = |domain| {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Self { four: open(Domain::IPV4), six: open(Domain::IPV6) }
    }

    /// Sends a packet on its way to `to`.
    ///
    /// # Errors
    /// Not sent: no route, no room, not permitted without `CAP_NET_RAW`.
    pub fn send(&self, packet: &[u8], to: IpAddr) -> io::Result<()> {
        let socket = if to.is_ipv4() { &self.four } else { &self.six };
        let socket = socket.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        // A raw socket's address has no port.
        socket.send_to(packet, &SocketAddr::new(to, 0).into()).map(|_| ())
    }
}

/// Whether this host has the address now.
#[must_use]
pub fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

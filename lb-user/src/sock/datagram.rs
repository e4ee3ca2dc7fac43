//! A UDP socket of one family that knows which address of ours a datagram came to, and answers from it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use lb_proto::family::Family;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::watched;

/// Bytes queued at most, as the kernel counts them; some hundred datagrams.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// A socket that a task reads and writes.
#[derive(Debug)]
pub struct DatagramSocket {
    fd: AsyncFd<OwnedFd>,
    family: Family,
}

/// A datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes of it; more than the buffer holds are cut off.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of ours that it was sent to, where the kernel says so.
    pub to: Option<IpAddr>,
}

impl DatagramSocket {
    /// Listens at this port of every address of the family. Needs a tokio runtime.
    ///
    /// # Errors
    /// As the kernel says; `AddrInUse` when another program has the port.
    pub fn open(family: Family, port: u16) -> io::Result<Self> {
        let any = match family {
            Family::V4 => IpAddr::from([0; 4]),
            Family::V6 => IpAddr::from([0; 16]),
        };
        Self::open_at(SocketAddr::new(any, port))
    }

    /// The same at one address.
    ///
    /// # Errors
    /// Likewise.
    pub fn open_at(at: SocketAddr) -> io::Result<Self> {
        let family = Family::of(at.ip());
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER / 2)?;
        match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            Family::V6 => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        socket.bind(&at.into())?;
        Ok(Self { fd: watched(socket.into())?, family })
    }

    /// Lets so many bytes queue up, as the kernel counts them, beyond the host's limit where that is allowed.
    ///
    /// # Errors
    /// Of the socket; it stays usable.
    pub fn widen(&self, bytes: usize) -> io::Result<()> {
        let half = bytes / 2;
        match setsockopt(&self.fd, sockopt::RcvBufForce, &half) {
            Ok(()) => Ok(()),
            Err(_) => Ok(setsockopt(&self.fd, sockopt::RcvBuf, &half)?),
        }
    }

    /// The family it was opened for.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The next datagram.
    ///
    /// # Errors
    /// Of the socket; it stays usable.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        self.fd.async_io(Interest::READABLE, |fd| receive(fd, buffer)).await
    }

    /// Sends from an address of ours, or from the one the kernel chooses.
    ///
    /// # Errors
    /// Not sent: no route, no room, a firewall, an address of another family.
    pub fn send(&self, from: Option<IpAddr>, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let (v4, v6);
        let control = match from {
            Some(IpAddr::V4(from)) => {
                v4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                vec![ControlMessage::Ipv4PacketInfo(&v4)]
            }
            Some(IpAddr::V6(from)) => {
                v6 = libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: from.octets() } };
                vec![ControlMessage::Ipv6PacketInfo(&v6)]
            }
            None => Vec::new(),
        };
        let to = SockaddrStorage::from(to);
        sendmsg(self.fd.as_raw_fd(), &[IoSlice::new(payload)], &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut room = cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(fd.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_DONTWAIT)?;
    let from = message.address.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| SocketAddr::from((from.ip(), from.port())));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| SocketAddr::from((from.ip(), from.port()))))
    });
    let mut to = None;
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                to = Some(IpAddr::from(u32::from_be(info.ipi_addr.s_addr).to_be_bytes()));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => to = Some(IpAddr::from(info.ipi6_addr.s6_addr)),
            _ => {}
        }
    }
    let from = from.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    Ok(Datagram { length: message.bytes, from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_leave_from_where_the_question_came_to() {
        let server = DatagramSocket::open(Family::V4, 0).unwrap();
        let port = nix::sys::socket::getsockname::<nix::sys::socket::SockaddrIn>(server.fd.as_raw_fd()).unwrap().port();
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (to, mut buffer) = (SocketAddr::from(([127, 0, 0, 9], port)), [0; 8]);
        client.send_to(b"hello, there", to).await.unwrap();
        let datagram = server.receive(&mut buffer).await.unwrap();
        assert_eq!(
            datagram,
            Datagram { length: 8, from: client.local_addr().unwrap(), to: Some([127, 0, 0, 9].into()) }
        );
        server.send(datagram.to, datagram.from, b"here").unwrap();
        let (length, from) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!((length, from), (4, to));
        assert_eq!(DatagramSocket::open(Family::V4, port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}

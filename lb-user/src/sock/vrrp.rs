//! A socket for VRRP on one interface: protocol 112 over one family, as RFC 9568 sections 5.1.1 and 5.1.2 want its packets.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, SystemTime};

use lb_proto::family::Family;
use lb_proto::wire::ipv4::{PROTOCOL_VRRP, TTL, parse_ipv4_packet};
use lb_proto::wire::{Packet, WireError, ipv4, ipv6};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::watched;

/// Room for the largest packet.
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
    family: Family,
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
    pub fn on(interface: &str, ifindex: u32, family: Family, multicast: bool) -> Result<Self, OpenError> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(PROTOCOL_VRRP))))
            .map_err(|source| OpenError { doing: "open a raw socket", source })?;
        step("bind to the interface", socket.bind_device(Some(interface.as_bytes())))?;
        step("bound the receive buffer", socket.set_recv_buffer_size(RECEIVE_BUFFER / 2))?;
        match family {
            Family::V4 => prepare_v4(&socket, ifindex, multicast)?,
            Family::V6 => prepare_v6(&socket, ifindex, multicast)?,
        }
        let stamps = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        step("ask when packets came", stamps.map_err(io::Error::from))?;
        // At last: the type of service sets a priority of its own.
        step("set the priority", socket.set_priority(PRIORITY))?;
        Ok(Self { fd: socket.into(), family, ifindex })
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
        Ok(VrrpSocket { ifindex: self.ifindex, family: self.family, fd: watched(self.fd)? })
    }
}

fn step(doing: &'static str, result: io::Result<()>) -> Result<(), OpenError> {
    result.map_err(|source| OpenError { doing, source })
}

fn prepare_v4(socket: &Socket, ifindex: u32, multicast: bool) -> Result<(), OpenError> {
    step("set the TTL", socket.set_ttl_v4(TTL.into()))?;
    step("set the multicast TTL", socket.set_multicast_ttl_v4(TTL.into()))?;
    step("stop hearing ourselves", socket.set_multicast_loop_v4(false))?;
    // Otherwise it hears groups that other programs of this host have joined.
    step("stop hearing other groups", socket.set_multicast_all_v4(false))?;
    step("set the type of service", socket.set_tos_v4(TOS))?;
    if multicast {
        let interface = InterfaceIndexOrAddress::Index(ifindex);
        step("join the VRRP group", socket.join_multicast_v4_n(&ipv4::MULTICAST, &interface))?;
    }
    Ok(())
}

fn prepare_v6(socket: &Socket, ifindex: u32, multicast: bool) -> Result<(), OpenError> {
    let hops = u32::from(ipv6::HOP_LIMIT);
    step("set the hop limit", socket.set_unicast_hops_v6(hops))?;
    step("set the multicast hop limit", socket.set_multicast_hops_v6(hops))?;
    step("stop hearing ourselves", socket.set_multicast_loop_v6(false))?;
    step("stop hearing other groups", socket.set_multicast_all_v6(false))?;
    step("set the traffic class", socket.set_tclass_v6(TOS))?;
    // A raw IPv6 socket delivers no header; these come beside the packet.
    step("ask for destinations", setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true).map_err(io::Error::from))?;
    step("ask for hop limits", socket.set_recv_hoplimit_v6(true))?;
    if multicast {
        step("join the VRRP group", socket.join_multicast_v6(&ipv6::MULTICAST, ifindex))?;
    }
    Ok(())
}

/// A socket that a task reads and writes.
#[derive(Debug)]
pub struct VrrpSocket {
    fd: AsyncFd<OwnedFd>,
    family: Family,
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

    /// The next packet, or why it is none; `None` when nothing is there. One that does not fit is cut off.
    ///
    /// # Errors
    /// Of the socket; it stays usable unless the interface is gone.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<Received<'b>>> {
        // Twice, because the first asks only if the runtime knows of something to read, and is needed to make it forget that.
        let mut received = self.fd.try_io(tokio::io::Interest::READABLE, |fd| receive(fd, buffer));
        if matches!(&received, Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
            received = receive(self.fd.get_ref(), buffer);
        }
        match received {
            Ok((length, beside)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let stamp = beside.stamp;
                let packet = match self.family {
                    Family::V4 => parse_ipv4_packet(bytes),
                    Family::V6 => Ok(beside.packet(bytes)),
                };
                Ok(Some(Received { packet, stamp }))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends the payload of a packet from `src`, an address of this host. The kernel adds the header.
    ///
    /// # Errors
    /// Not sent: no route, no such source, no room, a firewall, an address of another family than the socket's.
    pub fn send(&self, src: IpAddr, dst: IpAddr, payload: &[u8]) -> io::Result<()> {
        match (self.family, src, dst) {
            (Family::V4, IpAddr::V4(src), IpAddr::V4(dst)) => self.send_v4(src, dst, payload),
            (Family::V6, IpAddr::V6(src), IpAddr::V6(dst)) => self.send_v6(src, dst, payload),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the addresses are of different families")),
        }
    }

    fn send_v4(&self, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
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

    fn send_v6(&self, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8]) -> io::Result<()> {
        let info =
            libc::in6_pktinfo { ipi6_ifindex: self.ifindex, ipi6_addr: libc::in6_addr { s6_addr: src.octets() } };
        // The interface says which of the links a link-local address is meant on.
        let to = SockaddrIn6::from(SocketAddrV6::new(dst, 0, 0, self.ifindex));
        let payload = [IoSlice::new(payload)];
        let control = [ControlMessage::Ipv6PacketInfo(&info)];
        sendmsg(self.fd.as_raw_fd(), &payload, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }

    /// Closes the socket, which may wait for the kernel's network lock, on another thread.
    pub fn close(self) {
        let fd = self.fd.into_inner();
        drop(tokio::task::spawn_blocking(move || drop(fd)));
    }
}

/// What came.
#[derive(Debug)]
pub struct Received<'b> {
    /// A packet, or why it is none.
    pub packet: Result<Packet<'b>, WireError>,
    /// When it reached this host, by the wall clock; `None`: the kernel did not say.
    pub stamp: Option<SystemTime>,
}

/// What the kernel tells of a packet beside its bytes. Of an IPv6 packet it keeps the header; what it does not tell is
/// refused later: by hop limit 0, or by a checksum that fits no address.
struct Beside {
    stamp: Option<SystemTime>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
}

impl Beside {
    fn packet(self, payload: &[u8]) -> Packet<'_> {
        Packet { src: self.src.into(), dst: self.dst.into(), ttl: self.hop_limit, payload }
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Beside)> {
    let mut room = cmsg_space!(libc::in6_pktinfo, libc::c_int, TimeSpec);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn6>(fd.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_DONTWAIT)?;
    let mut beside = Beside { stamp: None, src: Ipv6Addr::UNSPECIFIED, dst: Ipv6Addr::UNSPECIFIED, hop_limit: 0 };
    // Over IPv4 the address is none of this kind, and stands in the packet.
    if let Some(from) = message.address {
        beside.src = from.ip();
    }
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => beside.dst = info.ipi6_addr.s6_addr.into(),
            ControlMessageOwned::Ipv6HopLimit(limit) => beside.hop_limit = u8::try_from(limit).unwrap_or_default(),
            ControlMessageOwned::ScmTimestampns(stamp) => {
                beside.stamp = SystemTime::UNIX_EPOCH.checked_add(Duration::from(stamp));
            }
            _ => {}
        }
    }
    Ok((message.bytes, beside))
}

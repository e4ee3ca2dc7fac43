//! What is heard on the wire: adverts of virtual routers, and who answers ARP for an address.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use lb_proto::family::Family;
use lb_proto::wire::arp::{Arp, Mac, Operation};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use super::advert;
use crate::clock;
use crate::doctor::facts::{Advert, Answer, Seen};
use crate::netlink::Link;
use crate::sock::frame::FrameSocket;
use crate::sock::vrrp::{LARGEST, Opened};
use crate::sock::watched;

/// More routers than a network has; a flood of adverts ends the listening early.
const MOST_ADVERTS: usize = 1000;
/// A probe may be lost, and a neighbour may sleep (RFC 5227 section 2.1.1 sends three).
const PROBES: u32 = 3;
const BETWEEN_PROBES: Duration = Duration::from_millis(300);
/// After the last probe.
const PATIENCE: Duration = Duration::from_millis(500);

/// Listens on an interface for adverts of one family until `deadline`; one of each router and kind.
pub(super) async fn adverts(link: Link, family: Family, deadline: Instant) -> Seen<Vec<Advert>> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let (name, index) = (link.name.clone(), link.index);
    let opened = tokio::task::spawn_blocking(move || Opened::on(&name, index, family, true)).await;
    let socket = opened.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let socket = socket.watch().map_err(|error| failed(&error))?;
    let mut heard = Vec::new();
    let mut buffer = vec![0; LARGEST];
    while heard.len() < MOST_ADVERTS && timeout_at(deadline.into(), socket.readable()).await.is_ok() {
        let packet = match socket.receive(&mut buffer) {
            Ok(Some(Ok(packet))) => packet,
            Ok(Some(Err(_)) | None) => continue,
            Err(error) => return Err(failed(&error)),
        };
        heard.extend(advert::read(packet, &link.name).filter(|advert| !heard.contains(advert)));
    }
    socket.close();
    Ok(heard)
}

/// Asks who has `address`, without saying who asks, as a host does before it takes an address (RFC 5227 section 2.1).
pub(super) async fn who_has(link: Link, address: IpAddr) -> Seen<Answer> {
    let IpAddr::V4(address) = address else { return Ok(Answer::NoWire) };
    let Some(mac) = link.mac else { return Ok(Answer::Elsewhere) };
    ask(&link, Mac(mac), address).await.map_err(|error| error.to_string())
}

async fn ask(link: &Link, mac: Mac, address: Ipv4Addr) -> io::Result<Answer> {
    let ear = watched(listen(link.index)?)?;
    let mouth = FrameSocket::open()?;
    let probe = Arp {
        destination: Mac::BROADCAST,
        source: mac,
        operation: Operation::Request,
        sender_mac: mac,
        sender: Ipv4Addr::UNSPECIFIED,
        target_mac: Mac::ZERO,
        target: address,
    };
    let mut answers: Vec<Mac> = Vec::new();
    for turn in 1..=PROBES {
        mouth.send(link.index, &probe.emit())?;
        let wait = if turn == PROBES { PATIENCE } else { BETWEEN_PROBES };
        let deadline = clock::now() + wait;
        while let Ok(said) = timeout_at(deadline.into(), next(&ear)).await {
            let said = said?;
            let new = said.filter(|said| said.sender == address && said.sender_mac != mac).map(|said| said.sender_mac);
            answers.extend(new.filter(|mac| !answers.contains(mac)));
        }
    }
    Ok(Answer::From(answers))
}

/// The next ARP packet; `None` where a frame was none.
async fn next(ear: &AsyncFd<OwnedFd>) -> io::Result<Option<Arp>> {
    let mut frame = [0; 128];
    loop {
        let mut ready = ear.readable().await?;
        match ready.try_io(|fd| Ok(recv(fd.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT)?)) {
            Ok(Ok(length)) => return Ok(frame.get(..length).and_then(|frame| Arp::parse(frame).ok())),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_not_ready) => {}
        }
    }
}

/// A packet socket that hears the ARP of one interface.
fn listen(ifindex: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Without a protocol until it is bound: nothing of other interfaces gets into its queue.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    let of_interface = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
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

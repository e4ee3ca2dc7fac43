//! What is heard on the wire: adverts of virtual routers, and who says that it has an address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use lb_proto::family::Family;
use lb_proto::wire::arp::{Arp, Mac, Operation};
use lb_proto::wire::neighbour;
use nix::sys::socket::{MsgFlags, SockFlag, recv};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use super::advert;
use crate::clock;
use crate::doctor::facts::{Advert, Answer, Seen};
use crate::netlink::Link;
use crate::sock::frame::{FrameSocket, hear};
use crate::sock::vrrp::{LARGEST, Opened, Received};
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
            Ok(Some(Received { packet: Ok(packet), .. })) => packet,
            Ok(_) => continue,
            Err(error) => return Err(failed(&error)),
        };
        heard.extend(advert::read(packet, &link.name).filter(|advert| !heard.contains(advert)));
    }
    socket.close();
    Ok(heard)
}

/// Asks who has `address`: by ARP without saying who asks, as a host does before it takes an address (RFC 5227 section 2.1); for
/// IPv6 from the interface's own address `local`, because a question without one would stop whoever is about to take it.
pub(super) async fn who_has(link: Link, local: Option<Ipv6Addr>, address: IpAddr) -> Seen<Answer> {
    let Some(mac) = link.mac.map(Mac) else { return Ok(Answer::Elsewhere) };
    let asked = match (address, local) {
        (IpAddr::V4(target), _) => {
            let probe = Arp {
                destination: Mac::BROADCAST,
                source: mac,
                operation: Operation::Request,
                sender_mac: mac,
                sender: Ipv4Addr::UNSPECIFIED,
                target_mac: Mac::ZERO,
                target,
            };
            let said = |frame: &[u8]| Arp::parse(frame).ok().map(|arp| (arp.sender.into(), arp.sender_mac));
            ask(&link, mac, address, libc::ETH_P_ARP, &probe.emit(), said).await
        }
        (IpAddr::V6(target), Some(local)) => {
            let question = neighbour::solicitation(mac, local, target);
            let said = |frame: &[u8]| neighbour::advertisement(frame).map(|(target, mac)| (target.into(), mac));
            ask(&link, mac, address, libc::ETH_P_IPV6, &question, said).await
        }
        (IpAddr::V6(_), None) => return Err(format!("{} has no link-local address to ask from", link.name)),
    };
    asked.map_err(|error| error.to_string())
}

/// Sends a question and collects the Ethernet addresses of those who say that they have `address`.
async fn ask(
    link: &Link, mac: Mac, address: IpAddr, ethertype: libc::c_int, question: &[u8],
    said: impl Fn(&[u8]) -> Option<(IpAddr, Mac)>,
) -> io::Result<Answer> {
    let ear = watched(hear(link.index, ethertype as u16, SockFlag::SOCK_NONBLOCK)?)?;
    let mouth = FrameSocket::open()?;
    let mut answers: Vec<Mac> = Vec::new();
    let mut frame = [0; 128];
    for turn in 1..=PROBES {
        mouth.send(link.index, question)?;
        let wait = if turn == PROBES { PATIENCE } else { BETWEEN_PROBES };
        let deadline = clock::now() + wait;
        while let Ok(length) = timeout_at(deadline.into(), next(&ear, &mut frame)).await {
            let new = said(frame.get(..length?).unwrap_or_default());
            let new = new.filter(|(of, at)| *of == address && *at != mac).map(|(_, mac)| mac);
            answers.extend(new.filter(|mac| !answers.contains(mac)));
        }
    }
    Ok(Answer::From(answers))
}

/// Length of the next frame, as much of it as there is room for.
async fn next(ear: &AsyncFd<OwnedFd>, frame: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = ear.readable().await?;
        match ready.try_io(|fd| Ok(recv(fd.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT)?)) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(outcome) => return outcome,
            Err(_not_ready) => {}
        }
    }
}

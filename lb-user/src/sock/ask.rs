//! Who says that it has an address, by ARP and by neighbour solicitations.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use lb_proto::wire::arp::{Arp, Mac, Operation};
use lb_proto::wire::neighbour;
use nix::sys::socket::{MsgFlags, SockFlag, recv};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use super::frame::{FrameSocket, hear};
use super::watched;
use crate::clock;

/// A probe may be lost, and a neighbour may sleep (RFC 5227 section 2.1.1 sends three).
const PROBES: u32 = 3;
const BETWEEN_PROBES: Duration = Duration::from_millis(300);
/// After the last probe.
const PATIENCE: Duration = Duration::from_millis(500);

/// How a question is asked on an interface.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// The interface.
    pub ifindex: u32,
    /// Its Ethernet address, whose answers do not count.
    pub mac: Mac,
    /// Its own address for questions over IPv6: a question without one would stop whoever is about to take the address.
    pub local: Option<Ipv6Addr>,
    /// Whether the first answer is enough; else all that come in time are waited for, in about a second.
    pub first: bool,
}

impl Asking {
    /// Asks who has `address`: by ARP without saying who asks, as a host does before it takes an address (RFC 5227 section
    /// 2.1).
    ///
    /// # Errors
    /// Not permitted, or no such interface; over IPv6 also without an address to ask from.
    pub async fn who_has(self, address: IpAddr) -> io::Result<Vec<Mac>> {
        match (address, self.local) {
            (IpAddr::V4(target), _) => {
                let probe = Arp {
                    destination: Mac::BROADCAST,
                    source: self.mac,
                    operation: Operation::Request,
                    sender_mac: self.mac,
                    sender: Ipv4Addr::UNSPECIFIED,
                    target_mac: Mac::ZERO,
                    target,
                };
                let said = |frame: &[u8]| Arp::parse(frame).ok().map(|arp| (arp.sender.into(), arp.sender_mac));
                self.ask(address, libc::ETH_P_ARP, &probe.emit(), said).await
            }
            (IpAddr::V6(target), Some(local)) => {
                let question = neighbour::solicitation(self.mac, local, target);
                let said = |frame: &[u8]| neighbour::advertisement(frame).map(|(target, mac)| (target.into(), mac));
                self.ask(address, libc::ETH_P_IPV6, &question, said).await
            }
            (IpAddr::V6(_), None) => Err(io::Error::other("there is no link-local address to ask from")),
        }
    }

    /// Sends a question and collects the Ethernet addresses of those who say that they have `address`.
    async fn ask(
        self, address: IpAddr, ethertype: libc::c_int, question: &[u8], said: impl Fn(&[u8]) -> Option<(IpAddr, Mac)>,
    ) -> io::Result<Vec<Mac>> {
        let ear = watched(hear(self.ifindex, ethertype as u16, SockFlag::SOCK_NONBLOCK)?)?;
        let mouth = FrameSocket::open()?;
        let mut answers: Vec<Mac> = Vec::new();
        let mut frame = [0; 128];
        for turn in 1..=PROBES {
            mouth.send(self.ifindex, question)?;
            let wait = if turn == PROBES { PATIENCE } else { BETWEEN_PROBES };
            let deadline = clock::now() + wait;
            while let Ok(length) = timeout_at(deadline.into(), next(&ear, &mut frame)).await {
                let new = said(frame.get(..length?).unwrap_or_default());
                let new = new.filter(|(of, at)| *of == address && *at != self.mac).map(|(_, mac)| mac);
                answers.extend(new.filter(|mac| !answers.contains(mac)));
                if self.first && !answers.is_empty() {
                    return Ok(answers);
                }
            }
        }
        Ok(answers)
    }
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

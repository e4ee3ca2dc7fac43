//! Who says that it has a VIP: a host of the segment that asks all the time, by ARP or neighbour solicitations, and notes every
//! Ethernet address it is told, asked for or not.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use lb_proto::wire::arp::{Arp, Mac, Operation};
use lb_proto::wire::neighbour::{advertisement, solicitation};

use crate::capture::{Capture, Sender};
use crate::netns::Netns;
use crate::topology::mac;

/// Between two questions.
const EVERY: Duration = Duration::from_millis(10);
/// Where every host hears a question.
const BROADCAST: Mac = Mac([0xff; 6]);

/// Asks on `eth0` of a namespace until it is dropped.
#[derive(Debug)]
pub struct Owners {
    vip: IpAddr,
    capture: Capture,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A frame that says where the VIP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Time since the Unix epoch.
    pub at: Duration,
    /// Who says so.
    pub mac: [u8; 6],
    /// Whether somebody had asked.
    pub asked: bool,
}

impl Owners {
    /// Begins to ask for `vip` as the host whose own address is `own`, of the same version.
    pub fn ask(netns: &Netns, own: IpAddr, vip: IpAddr) -> Result<Owners> {
        let capture = Capture::start(netns, "eth0")?;
        let sender = Sender::open(netns, "eth0")?;
        let question = question(Mac(mac(netns)?), own, vip);
        let stop = Arc::new(AtomicBool::new(false));
        let end = stop.clone();
        let thread = std::thread::Builder::new().name("asker".to_owned()).spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // One that is lost is followed by the next.
                let _ = sender.send(&question);
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(Owners { vip, capture, stop, thread: Some(thread) })
    }

    /// Everything that was said, in its order.
    #[must_use]
    pub fn said(&self) -> Vec<Said> {
        let heard = self.capture.heard().into_iter().filter(|heard| !heard.outgoing);
        heard
            .filter_map(|heard| said(&heard.frame, self.vip).map(|(mac, asked)| Said { at: heard.at, mac, asked }))
            .collect()
    }

    /// The Ethernet addresses in their order, each once for as long as it was not another's turn.
    #[must_use]
    pub fn turns(&self) -> Vec<[u8; 6]> {
        let mut turns: Vec<_> = self.said().into_iter().map(|said| said.mac).collect();
        turns.dedup();
        turns
    }

    /// Now, on the clock of [`Said::at`].
    #[must_use]
    pub fn now() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn question(mac: Mac, own: IpAddr, vip: IpAddr) -> Vec<u8> {
    match (own, vip) {
        (IpAddr::V6(own), IpAddr::V6(vip)) => solicitation(mac, own, vip).to_vec(),
        (IpAddr::V4(own), IpAddr::V4(vip)) => {
            let nobody = Mac([0; 6]);
            let operation = Operation::Request;
            let ends = Arp {
                destination: BROADCAST,
                source: mac,
                operation,
                sender_mac: mac,
                sender: own,
                target_mac: nobody,
                target: vip,
            };
            ends.emit().to_vec()
        }
        _ => Vec::new(),
    }
}

/// The Ethernet address that a frame gives the VIP, and whether it answers a question.
fn said(frame: &[u8], vip: IpAddr) -> Option<([u8; 6], bool)> {
    /// Of an advertisement: it was asked for (RFC 4861 section 4.4).
    const SOLICITED: u8 = 0x40;
    match vip {
        IpAddr::V4(vip) => {
            let arp = Arp::parse(frame).ok().filter(|arp| arp.sender == vip)?;
            Some((arp.sender_mac.0, !arp.is_gratuitous()))
        }
        IpAddr::V6(vip) => {
            let (_, mac) = advertisement(frame).filter(|(target, _)| *target == vip)?;
            Some((mac.0, frame.get(58).is_some_and(|flags| flags & SOLICITED != 0)))
        }
    }
}

//! Whether somebody who is no virtual router has one of the addresses, asked before this node claims them for the first time.
//!
//! An address that a host has by mistake is not taken from it unseen: whoever had it goes on answering for it, and both are
//! reached now and then. Nothing waits for the answers, which a host on the segment gives long before a Backup's timer runs
//! out. A router that is heard explains them: from then on its adverts are what counts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use lb_proto::wire::arp::Mac;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::netlink::Interfaces;
use crate::sock::ask::Asking;

/// From one question to the next, while somebody answers.
const AGAIN: Duration = Duration::from_secs(2);

/// Who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupant {
    address: IpAddr,
    mac: Mac,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, mac } = self;
        write!(f, "{mac} has {address} and is no virtual router that is heard: not claimed until it is silent")
    }
}

/// The questions, until nobody answers any more. Dropping this ends them.
pub(super) struct Inquiry {
    found: watch::Receiver<Option<Occupant>>,
    task: JoinHandle<()>,
}

impl Inquiry {
    /// Begins to ask on an interface; `None`: it has no Ethernet address.
    pub(super) fn start(
        ifindex: u32, interfaces: &Interfaces, addresses: Vec<IpAddr>, elsewhere: &Handle,
    ) -> Option<Self> {
        let link = interfaces.links.iter().find(|link| link.index == ifindex)?;
        let local = interfaces.addresses_of(ifindex).find_map(link_local);
        let asking = Asking { ifindex, mac: Mac(link.mac?), local, first: true };
        let (tell, found) = watch::channel(None);
        Some(Self { found, task: elsewhere.spawn(ask(asking, addresses, tell)) })
    }

    /// Who has one of them, as far as is known.
    pub(super) fn occupant(&mut self) -> Option<Occupant> {
        *self.found.borrow_and_update()
    }

    /// Waits until that changes.
    pub(super) async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn link_local(address: &crate::netlink::Address) -> Option<Ipv6Addr> {
    match address.net.address {
        IpAddr::V6(local) if local.is_unicast_link_local() && address.usable => Some(local),
        _ => None,
    }
}

async fn ask(asking: Asking, addresses: Vec<IpAddr>, tell: watch::Sender<Option<Occupant>>) {
    loop {
        let mut questions = JoinSet::new();
        for address in addresses.clone() {
            questions.spawn(async move { (address, asking.who_has(address).await) });
        }
        let mut occupant = None;
        while let (None, Some(answered)) = (occupant, questions.join_next().await) {
            // What could not be asked is taken for silence: an address that cannot be claimed either shows by itself.
            let Ok((address, Ok(answers))) = answered else { continue };
            occupant = answers.first().map(|&mac| Occupant { address, mac });
        }
        tell.send_replace(occupant);
        if occupant.is_none() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

//! Announces addresses by gratuitous ARP and unsolicited neighbour advertisements, in bursts that [`lb_proto::garp`] plans.
//!
//! ```text
//!  announce, cancel ──watch──> task ──owns──> Burst per address ──> sock::frame
//! ```
//! Whoever calls has the address on the interface already. What is wanted is a state, so no request can be lost or overtaken.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use lb_proto::garp::Burst;
use lb_proto::wire::arp::{Arp, Mac, Operation};
use lb_proto::wire::ndisc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::passed;
use super::seldom::Seldom;
use crate::clock;
use crate::metrics::Metrics;
use crate::sock::frame::FrameSocket;

/// The running task. Dropping it ends all announcements.
#[derive(Debug)]
pub struct GarpHandle {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl GarpHandle {
    /// Announces from now on that these addresses of a virtual router are at `mac`: the first frames leave at once, the others
    /// as planned. An address whose burst is under way starts again.
    pub fn announce(&self, instance: &str, ifindex: u32, mac: [u8; 6], addresses: &[IpAddr]) {
        let started = clock::now();
        self.wanted.send_modify(|wanted| {
            wanted.generation = wanted.generation.wrapping_add(1);
            for address in addresses {
                let generation = wanted.generation;
                let request = Request { instance: instance.to_owned(), mac: Mac(mac), started, generation };
                wanted.requests.insert((ifindex, *address), request);
            }
        });
    }

    /// Announces these addresses on this interface no more.
    pub fn cancel(&self, ifindex: u32, addresses: &[IpAddr]) {
        self.wanted.send_modify(|wanted| {
            for address in addresses {
                wanted.requests.remove(&(ifindex, *address));
            }
        });
    }
}

impl Drop for GarpHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Announcing addresses.
pub struct GarpDriver {
    socket: FrameSocket,
    metrics: Metrics,
    bursts: BTreeMap<Key, Announcing>,
    failures: Seldom<u32>,
}

/// Interface and address.
type Key = (u32, IpAddr);

#[derive(Debug, Default)]
struct Wanted {
    requests: BTreeMap<Key, Request>,
    generation: u64,
}

#[derive(Debug, Clone)]
struct Request {
    instance: String,
    mac: Mac,
    started: Instant,
    /// Grows with every request, so that the same one made again is another.
    generation: u64,
}

struct Announcing {
    request: Request,
    burst: Burst,
}

impl GarpDriver {
    /// Starts the task, within the current tokio runtime.
    ///
    /// # Errors
    /// No packet socket to be had, for want of `CAP_NET_RAW` for one.
    pub fn spawn(metrics: Metrics) -> io::Result<GarpHandle> {
        let (wanted, requests) = watch::channel(Wanted::default());
        let driver =
            Self { socket: FrameSocket::open()?, metrics, bursts: BTreeMap::new(), failures: Seldom::default() };
        Ok(GarpHandle { wanted, task: tokio::spawn(driver.run(requests)) })
    }

    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let due = passed(self.bursts.values().filter_map(|a| a.burst.deadline()).min());
            tokio::select! {
                biased;
                changed = wanted.changed() => match changed {
                    Ok(()) => converge(&mut self.bursts, &wanted.borrow_and_update().requests),
                    Err(_) => return,
                },
                () = due => {}
            }
            self.announce(clock::now());
        }
    }

    fn announce(&mut self, now: Instant) {
        for ((ifindex, _), announcing) in &mut self.bursts {
            let Request { instance, mac, .. } = &announcing.request;
            while let Some(address) = announcing.burst.poll(now) {
                for frame in frames(*mac, address) {
                    match self.socket.send(*ifindex, &frame) {
                        Ok(()) => self.metrics.announced(instance, address),
                        Err(error) => {
                            if self.failures.allows(*ifindex, now) {
                                tracing::warn!(instance, %address, ifindex, %error, "cannot announce the address");
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What tells the neighbours once that an address is at `mac`: over IPv4 in both forms, because they differ in which they heed.
fn frames(mac: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => [Operation::Request, Operation::Reply]
            .map(|form| Arp::gratuitous(form, mac, address).emit().to_vec())
            .to_vec(),
        IpAddr::V6(address) => vec![ndisc::unsolicited(mac, address).to_vec()],
    }
}

/// Makes the bursts those of `requests`; one whose request is the same goes on.
fn converge(bursts: &mut BTreeMap<Key, Announcing>, requests: &BTreeMap<Key, Request>) {
    bursts.retain(|key, _| requests.contains_key(key));
    for (key, request) in requests {
        let known = bursts.get(key).is_some_and(|a| a.request.generation == request.generation);
        if !known {
            let mut burst = Burst::new();
            burst.start(&[key.1], request.started);
            bursts.insert(*key, Announcing { request: request.clone(), burst });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
    const OTHER: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100));

    fn request(generation: u64, started: Instant) -> Request {
        Request { instance: "k8s".to_owned(), mac: Mac([2, 0, 0, 0, 0, 1]), started, generation }
    }

    fn due(bursts: &mut BTreeMap<Key, Announcing>, now: Instant) -> Vec<IpAddr> {
        bursts.values_mut().filter_map(|a| a.burst.poll(now)).collect()
    }

    #[test]
    fn a_burst_goes_on_beside_another_and_starts_again_when_asked() {
        let start = clock::now();
        let later = start + Duration::from_millis(60);
        let mut bursts = BTreeMap::new();
        let mut requests = BTreeMap::from([((2, VIP), request(1, start))]);
        converge(&mut bursts, &requests);
        assert_eq!(due(&mut bursts, start), [VIP]);

        requests.insert((2, OTHER), request(2, start));
        converge(&mut bursts, &requests);
        assert_eq!(due(&mut bursts, start), [OTHER], "the first burst is not disturbed");

        requests.insert((2, VIP), request(3, later));
        converge(&mut bursts, &requests);
        assert_eq!(due(&mut bursts, later), [VIP, OTHER]);
        assert_eq!(bursts[&(2, VIP)].burst.deadline(), Some(later + Duration::from_millis(50)));
    }

    #[test]
    fn each_family_is_announced_in_its_way() {
        let types =
            |address| frames(Mac([2; 6]), address).iter().map(|frame| [frame[12], frame[13]]).collect::<Vec<_>>();
        assert_eq!(types(VIP), [[0x08, 0x06], [0x08, 0x06]], "a request and a reply");
        assert_eq!(types(OTHER), [[0x86, 0xdd]]);
    }

    #[test]
    fn what_is_cancelled_is_announced_no_more() {
        let start = clock::now();
        let mut bursts = BTreeMap::new();
        let requests = BTreeMap::from([((2, VIP), request(1, start)), ((3, VIP), request(1, start))]);
        converge(&mut bursts, &requests);
        converge(&mut bursts, &BTreeMap::from([((3, VIP), request(1, start))]));
        assert_eq!(bursts.keys().collect::<Vec<_>>(), [&(3, VIP)]);
        converge(&mut bursts, &BTreeMap::new());
        assert!(bursts.is_empty());
    }
}

//! Hosts that say they have a virtual address which this node holds, and what is done about it: it says again that it has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_proto::vrrp::State;
use lb_proto::wire::arp::Mac;
use tracing::warn;

use super::Agent;
use crate::clock;
use crate::status::ClaimStatus;

/// Between two answers to claims: two hosts that both insist must not fill the network.
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Between two lines about the same host.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How long a host is shown after it was last heard of.
const SHOWN: Duration = Duration::from_secs(600);
/// Hosts that are remembered; whoever forges one can forge many.
const HOSTS: usize = 32;

/// What was heard, and what is to be answered.
#[derive(Debug, Default)]
pub struct Claims {
    hosts: BTreeMap<(String, IpAddr, [u8; 6]), Host>,
    /// When each virtual router may next announce its addresses because of a claim, and whether it has one to answer.
    answers: BTreeMap<String, (Instant, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct Host {
    times: u64,
    last: Instant,
    said: Instant,
}

impl Claims {
    /// Takes in a claim. Returns whether it is worth a line.
    fn hear(&mut self, instance: &str, address: IpAddr, mac: [u8; 6], now: Instant) -> bool {
        self.hosts.retain(|_, host| now.saturating_duration_since(host.last) < SHOWN);
        let (_, waits) = self.answers.entry(instance.to_owned()).or_insert((now, false));
        *waits = true;
        let key = (instance.to_owned(), address, mac);
        if let Some(host) = self.hosts.get_mut(&key) {
            host.times += 1;
            host.last = now;
            let says = now.saturating_duration_since(host.said) >= SAY_EVERY;
            if says {
                host.said = now;
            }
            return says;
        }
        if self.hosts.len() >= HOSTS {
            return false;
        }
        self.hosts.insert(key, Host { times: 1, last: now, said: now });
        true
    }

    /// Virtual routers that answer now; each is named once.
    fn due(&mut self, now: Instant) -> Vec<String> {
        let due = self.answers.iter_mut().filter(|(_, (at, waits))| *waits && *at <= now);
        due.map(|(instance, answer)| {
            *answer = (now + ANSWER_EVERY, false);
            instance.clone()
        })
        .collect()
    }

    /// For the status.
    pub(crate) fn of(&self, instance: &str) -> Vec<ClaimStatus> {
        let now = clock::now();
        let of = self
            .hosts
            .iter()
            .filter(|((of, ..), host)| of == instance && now.saturating_duration_since(host.last) < SHOWN);
        of.map(|((_, address, mac), host)| ClaimStatus {
            address: address.to_string(),
            mac: Mac(*mac).to_string(),
            at: clock::unix_of(host.last),
            times: host.times,
        })
        .collect()
    }
}

impl Agent {
    /// Another host says that it has an address of ours.
    pub(super) async fn claimed(&mut self, address: IpAddr, mac: [u8; 6]) {
        let is_about = |net: &crate::config::IpNet| net.address == address;
        let Some(vrrp) = self.config.vrrp.iter().find(|vrrp| vrrp.virtual_addresses.iter().any(is_about)) else {
            return;
        };
        let name = vrrp.name.clone();
        self.metrics.vip_claimed(&name, address);
        if self.claims.hear(&name, address, mac, clock::now()) {
            let text = format!("{} says that it has {address}, which this node holds", Mac(mac));
            warn!(instance = name, "{text}; find it by its Ethernet address and take the VIP from it");
            self.reporter.report(format!("vrrp {name}"), text);
        }
        if self.defend() {
            self.addresses().await;
        }
    }

    /// Has the addresses announced that others have claimed, as far as this node holds them. An announcement that comes too
    /// late stays here: the guard drops it. Returns whether there is any.
    pub(super) fn defend(&mut self) -> bool {
        let due = self.claims.due(clock::now());
        let seen = self.vrrp_seen.borrow();
        let is_active = |name: &&String| seen.instance(name).is_some_and(|instance| instance.state == State::Active);
        for instance in due.iter().filter(is_active) {
            self.reconciler.announce_again(instance);
        }
        !due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));

    #[test]
    fn each_claim_is_answered_but_once_a_second() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut claims = Claims::default();
        assert!(claims.due(start).is_empty());
        assert!(claims.hear("k8s", VIP, [1; 6], at(0)));
        assert_eq!(claims.due(at(0)), ["k8s"]);
        assert!(!claims.hear("k8s", VIP, [1; 6], at(10)), "said already");
        assert!(claims.due(at(10)).is_empty(), "too soon");
        assert_eq!(claims.due(at(1000)), ["k8s"], "the last claim is answered too");
        assert!(claims.due(at(5000)).is_empty(), "nothing was claimed since");
        assert!(claims.hear("k8s", VIP, [1; 6], at(60_000)), "a minute later it is said again");
    }

    #[test]
    fn who_forges_many_hosts_fills_nothing() {
        let start = clock::now();
        let mut claims = Claims::default();
        let said = (0..200).filter(|last| claims.hear("k8s", VIP, [0, 0, 0, 0, 0, *last], start)).count();
        assert_eq!((said, claims.hosts.len(), claims.of("k8s").len()), (HOSTS, HOSTS, HOSTS));
        assert_eq!(claims.of("other"), []);
        claims.hear("k8s", VIP, [9; 6], start + SHOWN);
        assert_eq!(claims.hosts.len(), 1, "those not heard of for long make room");
    }
}

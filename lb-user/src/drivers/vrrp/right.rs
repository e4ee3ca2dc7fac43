//! A virtual router's right to its addresses, kept true in the datapath by the thread that sends the adverts: if that does
//! not run, nothing renews it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lb_ebpf::abi::{Lease, lease_flag};

use crate::bpf::Leases;
use crate::clock;
use crate::config::Vrrp;

/// The leases of one router's addresses.
pub(super) struct Right {
    leases: Leases,
    router: u32,
    addresses: Vec<IpAddr>,
    /// Whether they may last; true at first, because an earlier agent may have written them.
    may_last: bool,
    until: Option<Instant>,
    /// Whether the router ends for the next agent's to continue.
    hands_over: Arc<AtomicBool>,
}

impl Right {
    pub(super) fn new(leases: Leases, vrrp: &Vrrp, hands_over: Arc<AtomicBool>) -> Self {
        let mut right = Self { leases, router: 0, addresses: Vec::new(), may_last: true, until: None, hands_over };
        right.concerns(vrrp);
        right
    }

    /// Is about these addresses from now on.
    pub(super) fn concerns(&mut self, vrrp: &Vrrp) {
        self.router = vrrp.virtual_router_id.get().into();
        self.addresses = vrrp.virtual_addresses.iter().map(|net| net.address).collect();
    }

    /// Whether it stays for the next agent when the router ends.
    pub(super) fn stays(&self) -> bool {
        self.hands_over.load(Ordering::Relaxed)
    }

    /// Whether every lease lasts, of this router and not about to be given up.
    pub(super) fn lasts(&self) -> bool {
        let now = clock::boot_nanoseconds();
        self.all(|until| until > now)
    }

    /// Whether it was held until its leases were over, without being given up.
    pub(super) fn was_held(&self) -> bool {
        self.all(|until| until > 0)
    }

    fn all(&self, good: impl Fn(u64) -> bool) -> bool {
        let good = |lease: Lease| good(lease.until) && lease.router == self.router && lease.flags == 0;
        !self.addresses.is_empty() && self.addresses.iter().all(|address| self.leases.of(*address).is_some_and(good))
    }

    /// An advert has left. By one that releases the addresses, this node `yields`: it speaks for them until another does.
    /// Returns whether the leases were over before, so that neighbours may have asked in vain.
    pub(super) fn renew(&mut self, until: Instant, yields: bool) -> bool {
        let was_over = self.until.is_some_and(|before| before <= clock::now());
        self.until = Some(until);
        self.may_last = true;
        self.write(clock::boot_nanoseconds_of(until), if yields { lease_flag::YIELDS } else { 0 });
        was_over
    }

    /// The addresses are this router's no more.
    pub(super) fn end(&mut self) {
        self.until = None;
        if std::mem::take(&mut self.may_last) {
            self.write(0, 0);
        }
    }

    fn write(&self, until: u64, flags: u32) {
        for address in &self.addresses {
            self.leases.write(*address, Lease { until, router: self.router, flags });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::vrrp;
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn right(id: u8, leases: &Leases) -> Right {
        Right::new(leases.clone(), &vrrp("a", "eth0", id, &["192.0.2.100/24", "192.0.2.101/24"]), Arc::default())
    }

    fn configured() -> Leases {
        let leases = Leases::default();
        leases.configure(&[[192, 0, 2, 100].into(), [192, 0, 2, 101].into()].into()).unwrap();
        leases
    }

    #[test]
    fn the_next_agent_continues_only_what_lasts_whole_and_for_the_same_router() {
        let leases = configured();
        assert!(!right(51, &leases).lasts());
        right(51, &leases).renew(clock::now() + LONG, false);
        assert!(right(51, &leases).lasts());
        assert!(!right(52, &leases).lasts(), "another VRID is another election");
        leases.write([192, 0, 2, 101].into(), Lease::default());
        assert!(!right(51, &leases).lasts(), "of one address");
        let past = clock::now();
        right(51, &leases).renew(past, false);
        assert!(!right(51, &leases).lasts() && right(51, &leases).was_held(), "it is over");
    }

    #[test]
    fn nobody_continues_what_is_released_or_lost() {
        let leases = configured();
        let mut held = right(51, &leases);
        held.renew(clock::now() + LONG, true);
        let lease = leases.of([192, 0, 2, 100].into()).unwrap();
        assert!(lease.until > clock::boot_nanoseconds() && lease.flags == lease_flag::YIELDS);
        assert!(!right(51, &leases).lasts());
        held.renew(clock::now() + LONG, false);
        assert!(right(51, &leases).lasts(), "nobody took it");
        held.end();
        assert_eq!(leases.of([192, 0, 2, 101].into()).map(|lease| lease.until), Some(0));
        assert!(!right(51, &leases).was_held());
    }

    #[test]
    fn a_router_that_begins_ends_what_it_does_not_continue() {
        let leases = configured();
        right(52, &leases).renew(clock::now() + LONG, false);
        let mut begun = right(51, &leases);
        begun.end();
        assert_eq!(leases.of([192, 0, 2, 100].into()).map(|lease| lease.until), Some(0));
    }

    #[test]
    fn a_renewal_after_the_end_is_told() {
        let leases = configured();
        let mut held = right(51, &leases);
        assert!(!held.renew(clock::now(), false));
        assert!(held.renew(clock::now() + LONG, false), "it was over");
        assert!(!held.renew(clock::now() + LONG, false));
    }
}

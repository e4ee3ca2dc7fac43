//! When gratuitous ARP or, for IPv6, unsolicited neighbour advertisements are due after a takeover: a burst that starts at once
//! and backs off. Frames are those of `wire::arp` and `wire::ndisc`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Rounds of a burst, from the takeover on: at once for the impatient, later ones for frames lost to a full queue, to a
/// neighbour that ignores changes for a second after the last, and to a switch port that was still learning.
pub const ROUNDS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(1200),
    Duration::from_secs(5),
];

/// The announcements of one interface. The driver starts it when a router becomes Active or asks to announce, cancels
/// it when the router is no longer Active, and in between sends what [`Burst::poll`] names: an IPv4 address in both ARP forms.
#[derive(Debug, Default)]
pub struct Burst(Option<Running>);

#[derive(Debug)]
struct Running {
    started: Instant,
    addresses: Vec<IpAddr>,
    /// When this round began or will begin.
    due: Instant,
    /// First address of this round not handed out yet.
    next: usize,
}

impl Burst {
    /// Nothing to announce.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces these addresses from `now` on; a burst in progress is replaced.
    pub fn start(&mut self, addresses: &[IpAddr], now: Instant) {
        self.0 =
            (!addresses.is_empty()).then(|| Running { started: now, addresses: addresses.to_vec(), due: now, next: 0 });
    }

    /// Announces nothing more.
    pub fn cancel(&mut self) {
        self.0 = None;
    }

    /// When [`Self::poll`] has something next; `None` when the burst is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|running| running.due)
    }

    /// The next address to announce now; call until `None`. Rounds missed by a late caller are not made up for.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Option<IpAddr> {
        let running = self.0.as_mut().filter(|running| now >= running.due)?;
        let address = running.addresses.get(running.next).copied();
        running.next += 1;
        if running.next >= running.addresses.len() {
            let later = ROUNDS.iter().map(|offset| running.started + *offset).find(|due| *due > now);
            match later {
                Some(due) => (running.due, running.next) = (due, 0),
                None => self.0 = None,
            }
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
    const B: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100));

    #[allow(clippy::disallowed_methods, reason = "an origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn drain(burst: &mut Burst, now: Instant) -> Vec<IpAddr> {
        std::iter::from_fn(|| burst.poll(now)).collect()
    }

    #[test]
    fn every_address_in_every_round() {
        let start = origin();
        let mut burst = Burst::new();
        burst.start(&[A, B], start);
        for millis in [0, 50, 200, 1200, 5000] {
            let due = start + Duration::from_millis(millis);
            assert_eq!(burst.deadline(), Some(due));
            assert_eq!(burst.poll(due - Duration::from_nanos(1)), None, "early for {millis} ms");
            assert_eq!(drain(&mut burst, due), [A, B], "at {millis} ms");
            assert_eq!(burst.poll(due), None, "once at {millis} ms");
        }
        assert_eq!(burst.deadline(), None);
    }

    #[test]
    fn a_late_caller_sends_one_round() {
        let start = origin();
        let mut burst = Burst::new();
        burst.start(&[A], start);
        assert_eq!(drain(&mut burst, start + Duration::from_millis(250)), [A]);
        assert_eq!(burst.deadline(), Some(start + Duration::from_millis(1200)));
        assert_eq!(drain(&mut burst, start + Duration::from_secs(60)), [A]);
        assert_eq!(burst.deadline(), None);
    }

    #[test]
    fn cancelled_restarted_and_empty() {
        let start = origin();
        let mut burst = Burst::new();
        assert_eq!(burst.poll(start), None);
        burst.start(&[A, B], start);
        assert_eq!(burst.poll(start), Some(A));
        burst.cancel();
        assert_eq!((burst.poll(start), burst.deadline()), (None, None));

        burst.start(&[A, B], start);
        assert_eq!(drain(&mut burst, start), [A, B]);
        let again = start + Duration::from_millis(30);
        burst.start(&[B], again);
        assert_eq!(drain(&mut burst, again), [B]);
        assert_eq!(burst.deadline(), Some(again + Duration::from_millis(50)));
        burst.start(&[], again);
        assert_eq!(burst.deadline(), None);
    }

    proptest! {
        #[test]
        fn at_most_five_rounds_however_it_is_driven(steps in prop::collection::vec(0..2000u64, 0..60), n in 1..5u8) {
            let addresses: Vec<IpAddr> = (1..=n).map(|last| Ipv4Addr::new(192, 0, 2, last).into()).collect();
            let mut now = origin();
            let mut burst = Burst::new();
            burst.start(&addresses, now);
            let mut rounds = 0;
            for step in steps {
                now += Duration::from_millis(step);
                let due = burst.deadline().is_some_and(|due| due <= now);
                let sent = drain(&mut burst, now);
                prop_assert_eq!(sent == addresses, due);
                prop_assert_eq!(sent.is_empty(), !due);
                prop_assert!(burst.deadline().is_none_or(|due| due > now));
                rounds += usize::from(due);
            }
            prop_assert!(rounds <= ROUNDS.len());
        }
    }
}

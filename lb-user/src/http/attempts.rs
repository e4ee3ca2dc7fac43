//! How often somebody may try to log in: a few times at once, then seldom; and all together no more than the node can bear.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Attempts of one source at once, and how long until it has another.
const OF_ONE: Share = Share { at_once: 5, every: Duration::from_secs(20) };
/// The same of all together: each costs a few hundredths of a second of one processor.
const OF_ALL: Share = Share { at_once: 20, every: Duration::from_secs(1) };

#[derive(Debug, Clone, Copy)]
struct Share {
    at_once: u32,
    every: Duration,
}

/// Attempts as they were made.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: Spent,
    /// By address, of IPv6 by subnet; those that have all of their attempts again are forgotten.
    sources: BTreeMap<IpAddr, Spent>,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It may, and is counted.
    Granted,
    /// It may not; `is_first`: the one before was granted.
    Refused { is_first: bool },
}

/// Attempts that are gone, as the time when the last of them is back.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    until: Option<Instant>,
    refused: bool,
}

impl Spent {
    fn is_whole(self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn has_one(self, share: Share, now: Instant) -> bool {
        let owed = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        owed + share.every <= share.every * share.at_once
    }

    fn take(&mut self, share: Share, now: Instant) {
        self.until = Some(self.until.map_or(now, |until| until.max(now)) + share.every);
        self.refused = false;
    }
}

impl Attempts {
    /// Somebody at this address wants to try.
    pub(super) fn ask(&mut self, from: IpAddr, now: Instant) -> Attempt {
        self.sources.retain(|_, spent| !spent.is_whole(now));
        let source = source(from);
        let spent = self.sources.get(&source).copied().unwrap_or_default();
        if spent.has_one(OF_ONE, now) && self.all.has_one(OF_ALL, now) {
            self.all.take(OF_ALL, now);
            self.sources.entry(source).or_default().take(OF_ONE, now);
            return Attempt::Granted;
        }
        let known = self.sources.get_mut(&source).unwrap_or(&mut self.all);
        Attempt::Refused { is_first: !std::mem::replace(&mut known.refused, true) }
    }

    /// Whoever is at this address knew the password.
    pub(super) fn succeeded(&mut self, from: IpAddr) {
        self.sources.remove(&source(from));
    }
}

/// What counts as one: who has an IPv6 address mostly has a subnet of them.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4((0xc000_0200 + n).into())
    }

    #[test]
    fn a_source_has_a_few() {
        let (mut attempts, now) = (Attempts::default(), clock::now());
        for _ in 0..OF_ONE.at_once {
            assert_eq!(attempts.ask(address(1), now), Attempt::Granted);
        }
        assert_eq!(attempts.ask(address(1), now), Attempt::Refused { is_first: true });
        assert_eq!(attempts.ask(address(1), now), Attempt::Refused { is_first: false });
        assert_eq!(attempts.ask(address(2), now), Attempt::Granted, "others have theirs");
        let later = now + OF_ONE.every;
        assert_eq!(attempts.ask(address(1), later), Attempt::Granted);
        assert_eq!(attempts.ask(address(1), later), Attempt::Refused { is_first: true });
        attempts.succeeded(address(1));
        assert_eq!(attempts.ask(address(1), later), Attempt::Granted);
    }

    #[test]
    fn all_together_have_no_more_than_the_node_bears() {
        let (mut attempts, start) = (Attempts::default(), clock::now());
        let mut granted = 0;
        for n in 0..60_000 {
            let now = start + Duration::from_millis(n.into());
            granted += u32::from(attempts.ask(address(n), now) == Attempt::Granted);
            assert!(attempts.sources.len() <= 200, "{}", attempts.sources.len());
        }
        assert!((79..=80).contains(&granted), "{granted}");
    }

    #[test]
    fn a_subnet_is_one_source() {
        let (mut attempts, now) = (Attempts::default(), clock::now());
        for n in 0..OF_ONE.at_once {
            assert_eq!(attempts.ask(format!("2001:db8::{n}").parse().unwrap(), now), Attempt::Granted);
        }
        let refused = Attempt::Refused { is_first: true };
        assert_eq!(attempts.ask("2001:db8::ffff".parse().unwrap(), now), refused);
        assert_eq!(attempts.ask("2001:db8:0:1::1".parse().unwrap(), now), Attempt::Granted);
        assert_eq!(source("::ffff:192.0.2.1".parse().unwrap()), address(1));
    }
}

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

/// How often refusals are told of, whoever tries: strangers must not push out of the events what others have done.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Attempts as they were made.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: Spent,
    /// By address, of IPv6 by subnet; those that have all of their attempts again are forgotten.
    sources: BTreeMap<IpAddr, Spent>,
    /// Refused since this was told.
    refused: u64,
    told: Option<Instant>,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It may, and is counted.
    Granted,
    /// It may not. Where that is to be told: how many were refused since it was told last, this one among them.
    Refused { tell: Option<u64> },
}

/// Attempts that are gone, as the time when the last of them is back.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    until: Option<Instant>,
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
        self.refused = self.refused.saturating_add(1);
        let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        Attempt::Refused {
            tell: is_due.then(|| {
                self.told = Some(now);
                std::mem::take(&mut self.refused)
            }),
        }
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
        assert_eq!(attempts.ask(address(1), now), Attempt::Refused { tell: Some(1) });
        assert_eq!(attempts.ask(address(1), now), Attempt::Refused { tell: None });
        assert_eq!(attempts.ask(address(2), now), Attempt::Granted, "others have theirs");
        let later = now + OF_ONE.every;
        assert_eq!(attempts.ask(address(1), later), Attempt::Granted);
        assert_eq!(attempts.ask(address(1), later), Attempt::Refused { tell: None });
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
    fn strangers_are_told_of_once_a_minute() {
        let (mut attempts, start) = (Attempts::default(), clock::now());
        let (mut refused, mut told) = (0, Vec::new());
        // An hour of ten a second, from ever other addresses.
        for n in 0..36_000 {
            let now = start + Duration::from_millis(100) * n;
            if let Attempt::Refused { tell } = attempts.ask(address(n), now) {
                refused += 1;
                told.extend(tell);
            }
        }
        assert!((59..=60).contains(&told.len()), "{}", told.len());
        assert_eq!(told.iter().sum::<u64>() + attempts.refused, refused, "none is left out");
        assert_eq!(told[0], 1, "the first at once");
    }

    #[test]
    fn a_subnet_is_one_source() {
        let (mut attempts, now) = (Attempts::default(), clock::now());
        for n in 0..OF_ONE.at_once {
            assert_eq!(attempts.ask(format!("2001:db8::{n}").parse().unwrap(), now), Attempt::Granted);
        }
        let refused = Attempt::Refused { tell: Some(1) };
        assert_eq!(attempts.ask("2001:db8::ffff".parse().unwrap(), now), refused);
        assert_eq!(attempts.ask("2001:db8:0:1::1".parse().unwrap(), now), Attempt::Granted);
        assert_eq!(source("::ffff:192.0.2.1".parse().unwrap()), address(1));
    }
}

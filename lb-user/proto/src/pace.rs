//! What takes its time after a backend's state has changed: a share that grows back, connections that are given up.
//!
//! ```text
//!  takes connections again ──slow start──> a twentieth of its weight, growing to the whole once a second
//!  takes none any more     ──drain───────> its established connections stay until the deadline
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::health::State;
use crate::health::policy::{Member, decide};

/// The whole of a weight, in the unit of [`Paces::percent`].
pub const WHOLE: u16 = 100;
/// The least that a backend with a weight has of it.
const LEAST: u16 = 5;

/// When each backend began to take connections, or ceased to; `K` names a backend.
#[derive(Debug, Clone)]
pub struct Paces<K> {
    backends: BTreeMap<K, Pace>,
    /// Backends that appear from now on are new ones.
    begun: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pace {
    takes: bool,
    takes_since: Option<Instant>,
    drains_since: Option<Instant>,
}

impl<K> Default for Paces<K> {
    fn default() -> Self {
        Self { backends: BTreeMap::new(), begun: false }
    }
}

impl<K: Ord + Clone> Paces<K> {
    /// Takes in what is known of every backend, service by service; others are forgotten.
    ///
    /// Those of the first call have served before, whatever is known of them; those that appear later are new.
    pub fn observe(&mut self, services: &[Vec<(K, Member)>], now: Instant) {
        let mut before = std::mem::take(&mut self.backends);
        for backends in services {
            let members: Vec<_> = backends.iter().map(|(_, member)| *member).collect();
            let fail_open = decide(&members).fail_open;
            for (key, member) in backends {
                let known = before.remove(key);
                let mut pace = known.unwrap_or(Pace { takes: !self.begun, takes_since: None, drains_since: None });
                pace.follow(*member, fail_open, now);
                self.backends.insert(key.clone(), pace);
            }
        }
        self.begun = true;
    }

    /// How much of its weight a backend has at `now`, in hundredths; it changes once a second at most.
    #[must_use]
    pub fn percent(&self, key: &K, slow_start: Option<Duration>, now: Instant) -> u16 {
        let since = self.backends.get(key).and_then(|pace| pace.takes_since);
        let (Some(since), Some(slow_start)) = (since, slow_start) else {
            return WHOLE;
        };
        let seconds = u128::from(now.saturating_duration_since(since).as_secs());
        let grown = (seconds * 1000 * u128::from(WHOLE)).checked_div(slow_start.as_millis()).unwrap_or_default();
        u16::try_from(grown).unwrap_or(WHOLE).clamp(LEAST, WHOLE)
    }

    /// Until when the established connections of a backend that takes no new ones stay; `None` while it takes some, and
    /// without a limit.
    #[must_use]
    pub fn deadline(&self, key: &K, drain: Option<Duration>) -> Option<Instant> {
        let since = self.backends.get(key)?.drains_since?;
        since.checked_add(drain?)
    }
}

impl Pace {
    fn follow(&mut self, member: Member, fail_open: bool, now: Instant) {
        let is_up = member.state == State::Up && member.weight > 0;
        let is_out = member.weight == 0 || matches!(member.state, State::Down { .. });
        if is_up && !self.takes {
            (self.takes, self.takes_since) = (true, Some(now));
        } else if is_out {
            (self.takes, self.takes_since) = (false, None);
        }
        // One that all connections go to for want of a better does not drain; one that is lost has nothing to keep.
        let drains = member.weight == 0 || member.state == State::Down { lost: false } && !fail_open;
        self.drains_since = if drains { self.drains_since.or(Some(now)) } else { None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: State = State::Up;
    const DOWN: State = State::Down { lost: false };
    const LOST: State = State::Down { lost: true };
    const SLOWLY: Option<Duration> = Some(Duration::from_secs(30));

    /// A service of two backends, of which the other stays up, looked at second by second.
    struct Story {
        paces: Paces<&'static str>,
        start: Instant,
        second: u64,
    }

    impl Story {
        fn new() -> Self {
            #[allow(clippy::disallowed_methods, reason = "any moment will do")]
            let start = Instant::now();
            Self { paces: Paces::default(), start, second: 0 }
        }

        fn now(&self) -> Instant {
            self.start + Duration::from_secs(self.second)
        }

        /// The backend is like this for so many seconds; its share at the end of each.
        fn is(&mut self, state: State, weight: u16, seconds: u64) -> Vec<u16> {
            self.both([(state, weight), (UP, 1)], seconds)
        }

        fn both(&mut self, states: [(State, u16); 2], seconds: u64) -> Vec<u16> {
            let [a, b] = states.map(|(state, weight)| Member { weight, state });
            let second = |_| {
                self.paces.observe(&[vec![("a", a), ("b", b)]], self.start + Duration::from_secs(self.second));
                self.second += 1;
                self.paces.percent(&"a", SLOWLY, self.start + Duration::from_secs(self.second))
            };
            (0..seconds).map(second).collect()
        }

        fn drains_for(&self, limit: u64) -> Option<u64> {
            let deadline = self.paces.deadline(&"a", Some(Duration::from_secs(limit)))?;
            Some(deadline.saturating_duration_since(self.now()).as_secs())
        }
    }

    #[test]
    fn a_backend_that_returns_gets_its_share_back_slowly() {
        let mut story = Story::new();
        assert_eq!(story.is(State::Unchecked, 1, 2), [100, 100]);
        assert_eq!(story.is(UP, 1, 2), [100, 100], "it was there when the agent started");
        story.is(DOWN, 1, 3);
        let shares = story.is(UP, 1, 40);
        assert_eq!(shares[..4], [5, 6, 10, 13]);
        assert!(shares.is_sorted());
        assert_eq!(shares[28..31], [96, 100, 100]);
        story.is(LOST, 1, 1);
        assert_eq!(story.is(UP, 1, 1), [5]);
        assert_eq!(story.paces.percent(&"a", None, story.now()), 100, "only where it is asked for");
        assert_eq!(story.paces.percent(&"c", SLOWLY, story.now()), 100);
    }

    #[test]
    fn so_does_one_that_was_disabled_and_one_that_is_new() {
        let mut story = Story::new();
        story.is(UP, 1, 1);
        story.is(UP, 0, 1);
        assert_eq!(story.is(UP, 1, 1), [5]);

        let member = |state| Member { weight: 1, state };
        let mut paces = Paces::default();
        paces.observe(&[vec![("b", member(UP))]], story.now());
        paces.observe(&[vec![("b", member(UP)), ("a", member(State::Unchecked))]], story.now());
        paces.observe(&[vec![("b", member(UP)), ("a", member(UP))]], story.now());
        assert_eq!(["a", "b"].map(|key| paces.percent(&key, SLOWLY, story.now())), [5, 100]);
    }

    #[test]
    fn a_drain_has_its_deadline_and_ends_when_the_backend_returns() {
        let mut story = Story::new();
        story.is(UP, 1, 1);
        assert_eq!(story.drains_for(60), None);
        story.is(DOWN, 1, 10);
        assert_eq!(story.drains_for(60), Some(50));
        assert_eq!(story.paces.deadline(&"a", None), None, "no limit");
        story.is(DOWN, 1, 70);
        assert_eq!(story.drains_for(60), Some(0));
        story.is(UP, 1, 1);
        assert_eq!(story.drains_for(60), None);
        story.is(UP, 0, 1);
        assert_eq!(story.drains_for(60), Some(59), "disabled");
        story.is(State::Unchecked, 1, 1);
        assert_eq!(story.drains_for(60), None, "nothing is known yet");
        story.is(LOST, 1, 1);
        assert_eq!(story.drains_for(60), None, "there is nothing to keep");
    }

    #[test]
    fn nothing_drains_while_every_backend_fails() {
        let mut story = Story::new();
        story.both([(DOWN, 1), (UP, 1)], 10);
        assert_eq!(story.drains_for(60), Some(50));
        story.both([(DOWN, 1), (DOWN, 1)], 10);
        assert_eq!(story.drains_for(60), None, "it gets new connections");
        story.both([(DOWN, 1), (UP, 1)], 1);
        assert_eq!(story.drains_for(60), Some(59));
    }
}

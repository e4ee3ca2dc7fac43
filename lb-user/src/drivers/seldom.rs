//! Lets something through once in a while, for log lines that the network could otherwise write at will.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// At most one in this time, for each reason.
const GAP: Duration = Duration::from_secs(10);

/// When each reason was last let through. Reasons are of a small closed set.
#[derive(Debug)]
pub(super) struct Seldom<R>(BTreeMap<R, Instant>);

impl<R> Default for Seldom<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord> Seldom<R> {
    /// Whether `reason` was not let through of late; if so, it is now.
    pub(super) fn allows(&mut self, reason: R, now: Instant) -> bool {
        let allowed = self.0.get(&reason).is_none_or(|last| now.saturating_duration_since(*last) >= GAP);
        if allowed {
            self.0.insert(reason, now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn one_in_ten_seconds_for_each_reason() {
        let start = clock::now();
        let mut seldom = Seldom::default();
        assert!(seldom.allows("ttl", start));
        assert!(!seldom.allows("ttl", start + Duration::from_secs(9)));
        assert!(seldom.allows("checksum", start + Duration::from_secs(9)));
        assert!(seldom.allows("ttl", start + Duration::from_secs(10)));
        assert!(!seldom.allows("ttl", start + Duration::from_secs(19)));
    }
}

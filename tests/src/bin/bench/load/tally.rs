//! What became of exchanges.

use std::collections::BTreeMap;
use std::time::Duration;

use xvip_tests::figures::percentile;
use xvip_tests::topology::SERVERS;

/// From here on an exchange counts as slow: it waited for a retransmission of a SYN (RFC 6298, section 2: 1 s).
const SLOW: Duration = Duration::from_millis(900);

/// What became of exchanges.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How long each took, in nanoseconds.
    took: Vec<u64>,
    /// Why others failed, warming up included.
    pub(crate) failures: BTreeMap<String, u64>,
    /// How many took 0.9 s and longer.
    pub(crate) slow: u64,
    /// Who answered how many.
    pub(crate) served: [u64; SERVERS.len()],
}

impl Tally {
    /// One was answered.
    pub(crate) fn done(&mut self, took: Duration, server: u8) {
        self.took.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.slow += u64::from(took >= SLOW);
        if let Some(served) = self.served.get_mut(usize::from(server)) {
            *served += 1;
        }
    }

    /// One was not.
    pub(crate) fn failed(&mut self, why: impl ToString) {
        *self.failures.entry(why.to_string()).or_default() += 1;
    }

    /// How many were answered.
    pub(crate) fn count(&self) -> usize {
        self.took.len()
    }

    /// Takes over what another thread has.
    pub(crate) fn absorb(&mut self, other: Tally) {
        self.took.extend(other.took);
        self.slow += other.slow;
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
        for (served, more) in self.served.iter_mut().zip(other.served) {
            *served += more;
        }
    }

    /// Milliseconds that these percentages of the exchanges did not exceed.
    pub(crate) fn percentiles<const N: usize>(&mut self, percents: [usize; N]) -> [Option<f64>; N] {
        self.took.sort_unstable();
        percents.map(|percent| percentile(&self.took, percent).map(|nanoseconds| nanoseconds as f64 / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut one = Tally::default();
        one.done(Duration::from_millis(3), 0);
        one.done(Duration::from_millis(1), 2);
        one.failed("reset");
        let mut other = Tally::default();
        other.done(Duration::from_secs(1), 2);
        other.failed("reset");
        one.absorb(other);
        assert_eq!((one.count(), one.slow, one.served), (3, 1, [1, 0, 2]));
        assert_eq!(one.failures["reset"], 2);
        assert_eq!(one.percentiles([50, 99]), [Some(3.0), Some(1000.0)]);
        assert_eq!(Tally::default().percentiles([50]), [None]);
    }
}

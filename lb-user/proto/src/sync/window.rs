//! Which numbers of a session have been seen, so that each datagram counts once.

/// Numbers behind the newest that are remembered; older ones are refused.
const SPAN: u64 = 1024;
const WORDS: usize = SPAN as usize / 64;

/// The numbers seen of late (as in RFC 4303 section 3.4.3).
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// One above the highest seen; 0: none yet.
    end: u64,
    /// A number's bit is at its place modulo the span.
    seen: [u64; WORDS],
}

impl Window {
    /// Whether a number may be new. Only what is authentic is then [`taken`](Self::take).
    pub(super) fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            return number < u64::MAX;
        }
        self.end - number <= SPAN && self.word(number) & bit(number) == 0
    }

    /// Remembers a number that is new.
    pub(super) fn take(&mut self, number: u64) {
        if number >= self.end {
            let skipped = number - self.end;
            if skipped >= SPAN {
                self.seen = [0; WORDS];
            } else {
                (self.end..number).for_each(|between| self.set(between, false));
            }
            self.end = number.saturating_add(1);
        }
        self.set(number, true);
    }

    fn word(&self, number: u64) -> u64 {
        self.seen.get(place(number)).copied().unwrap_or(u64::MAX)
    }

    fn set(&mut self, number: u64, seen: bool) {
        if let Some(word) = self.seen.get_mut(place(number)) {
            *word = if seen { *word | bit(number) } else { *word & !bit(number) };
        }
    }
}

fn place(number: u64) -> usize {
    (number % SPAN / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_number_counts_once(steps in prop::collection::vec((0..3000_u64, any::<bool>()), 1..400)) {
            let (mut window, mut seen, mut newest) = (Window::default(), BTreeSet::new(), 0);
            for (step, back) in steps {
                let number = if back { u64::saturating_sub(newest, step) } else { newest + step / 8 };
                let too_old = number + SPAN < newest + 1;
                if window.is_new(number) {
                    prop_assert!(!too_old || seen.is_empty());
                    prop_assert!(seen.insert(number), "{number} twice");
                    window.take(number);
                    newest = newest.max(number);
                } else {
                    prop_assert!(too_old || seen.contains(&number), "{number} refused, {newest}");
                }
            }
        }
    }
}

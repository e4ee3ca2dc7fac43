//! Whether a backend's node is one to forward to, from the row of what inquiries found.

use super::Presence;

/// Shut at first.
#[derive(Debug, Clone, Default)]
pub struct Latch {
    open: bool,
    silent: u32,
}

impl Latch {
    /// Takes a finding: a yes opens, a no shuts, and so does silence `fall` times in a row. Returns whether that
    /// changed anything.
    pub fn on_finding(&mut self, presence: Presence, fall: u32) -> bool {
        let before = self.open;
        match presence {
            Presence::Delivers => (self.open, self.silent) = (true, 0),
            Presence::Silent => {
                self.silent = self.silent.saturating_add(1);
                self.open &= self.silent < fall.max(1);
            }
            Presence::NotYet | Presence::NotServed | Presence::Leaving => self.open = false,
        }
        self.open != before
    }

    /// Whether packets are forwarded to it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_opens_no_shuts_and_so_does_a_long_silence() {
        let mut latch = Latch::default();
        for (finding, changed, open) in [
            (Presence::Silent, false, false),
            (Presence::Delivers, true, true),
            (Presence::Silent, false, true),
            (Presence::Delivers, false, true),
            (Presence::Silent, false, true),
            (Presence::Silent, true, false),
            (Presence::Delivers, true, true),
            (Presence::NotYet, true, false),
            (Presence::Leaving, false, false),
        ] {
            assert_eq!((latch.on_finding(finding, 2), latch.is_open()), (changed, open), "{finding:?}");
        }
    }
}

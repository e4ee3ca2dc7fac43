//! The faults a caller has reported and not cleared.

use super::output::FaultReason;

/// Faults reported by the caller, a bit for each [`FaultReason`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults(u8);

impl Faults {
    pub(super) fn set(&mut self, reason: FaultReason, present: bool) {
        if present {
            self.0 |= Self::bit(reason);
        } else {
            self.0 &= !Self::bit(reason);
        }
    }

    pub(super) fn has(self, reason: FaultReason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    const fn bit(reason: FaultReason) -> u8 {
        1 << reason as u8
    }
}

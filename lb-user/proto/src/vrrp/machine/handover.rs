//! Leaving while others may take over, make-before-break: a router that gives the addresses up by its own will holds them until
//! it hears who has them now.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Instance, Phase};
use crate::units::WirePriority;
use crate::vrrp::output::Why;
use crate::wire::vrrp::Advert;

/// An Active router that has released the addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// Last release.
    pub(super) sent: Instant,
    /// The next one, should the last be lost. A whole interval apart: other implementations start their skew anew with
    /// each.
    next: Instant,
    /// The end of patience.
    until: Instant,
    /// What comes afterwards.
    pub(super) then: Then,
}

/// Why a router leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// For good.
    Stop,
    /// By command, to go on as Backup.
    StepDown,
    /// For its sync group's sake, to go on as Backup or in Fault.
    Yield,
}

impl Leaving {
    pub(super) fn deadline(self) -> Instant {
        self.next.min(self.until)
    }
}

impl Instance {
    /// Whether it has released the addresses and waits for another router to claim them.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    pub(super) fn step_down(&mut self, hold: Duration, now: Instant) {
        // Whatever it is now, it may be Backup within the hour.
        self.held = Some(now + hold);
        if let Phase::Active(_) | Phase::Leaving(_) = self.phase {
            self.leave(Then::StepDown, now);
        }
    }

    pub(super) fn leave(&mut self, then: Then, now: Instant) {
        match self.phase {
            Phase::Active(_) => {
                self.release();
                let next = now + self.cfg.advert_interval.duration();
                let until = now + self.cfg.handover_bound();
                self.phase = Phase::Leaving(Leaving { sent: now, next, until, then });
            }
            // Once leaving for good, for good.
            Phase::Leaving(leaving) if then == Then::Stop || (then, leaving.then) == (Then::Yield, Then::StepDown) => {
                self.phase = Phase::Leaving(Leaving { then, ..leaving });
            }
            Phase::Leaving(_) => {}
            Phase::Initialize | Phase::Fault | Phase::Backup(_) => {
                self.enter(Phase::Initialize, Why::Stopped, now);
            }
        }
    }

    pub(super) fn still_leaving(&mut self, leaving: Leaving, now: Instant) {
        if now >= leaving.until {
            match leaving.then {
                Then::Stop => self.enter(Phase::Initialize, Why::Stopped, now),
                // Nobody wants them: better held by us than by nobody.
                Then::StepDown => self.claim_again(now),
                Then::Yield => {
                    self.enter_backup(Why::Yielded, now);
                    self.settle(now);
                }
            }
        } else if now >= leaving.next {
            self.send(WirePriority::RELEASE);
            let next = now + self.cfg.advert_interval.duration();
            self.phase = Phase::Leaving(Leaving { sent: now, next, ..leaving });
        }
    }

    pub(super) fn heard_while_leaving(
        &mut self, leaving: Leaving, src: IpAddr, advert: &Advert, heard: Instant, now: Instant,
    ) {
        // Two that were parted may leave at the same time; one of them is enough to hold the addresses meanwhile.
        if advert.priority == WirePriority::RELEASE && Some(src) < self.cfg.source() {
            return;
        }
        match leaving.then {
            Then::Stop => self.enter(Phase::Initialize, Why::Stopped, now),
            Then::StepDown | Then::Yield => {
                let interval = self.learn(src, advert.interval, heard);
                let backup = self.following(src, interval, now);
                let why = match leaving.then {
                    Then::Yield => Why::Yielded,
                    _ => Why::SteppedDown { to: src },
                };
                self.enter(Phase::Backup(backup), why, now);
                self.settle(now);
            }
        }
    }

    /// Whether it takes the addresses from a living router of lower priority.
    pub(super) fn preempts(&self, now: Instant) -> bool {
        let owner = self.cfg.priority == crate::units::Priority::OWNER;
        (self.cfg.preempt || owner) && !self.is_held(now)
    }

    /// Whether a living router is left in peace, after a step-down.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.held.is_some_and(|until| now < until)
    }
}

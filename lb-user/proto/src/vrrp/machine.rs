//! The state machine of RFC 9568 section 6.4. Decides; sends nothing, waits for nothing, reads no clock.

mod adverts;
mod handover;
mod learning;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::config::Config;
use super::faults::Faults;
use super::group::{Part, Standing, Word};
use super::output::{Announcement, FaultReason, Output, State, Transmit, Why};
use super::timers::{learned_interval, lease, living_silence};
use crate::units::{Centis, Priority, WirePriority};
use crate::wire::vrrp::Advert;
use handover::{Leaving, Then};
use learning::Acquaintance;

/// What happens on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Take part from now on.
    Start,
    /// The same, as Active at once: an earlier process of this node was, and its lease lasts.
    Continue,
    /// The process ends, and the next one is to continue: an Active router advertises once more.
    HandOver,
    /// Take no part any more. An Active router releases the addresses, and goes on holding them until another claims them
    /// or [`Config::handover_bound`] has passed: feed it until its state is [`State::Initialize`].
    Stop,
    /// Give the addresses to another router, in the same way; if none takes them, keep them. Afterwards this router takes
    /// them from no living one for this long, whatever its priority; so does one that has not got them, in Initialize and Fault
    /// too.
    StepDown {
        /// How long.
        hold: Duration,
    },
    /// The interface is up with carrier: short for `Cleared(LinkDown)`.
    LinkUp,
    /// It is not: short for `Fault(LinkDown)`.
    LinkDown,
    /// Something makes taking part senseless.
    Fault(FaultReason),
    /// It does no longer.
    Cleared(FaultReason),
    /// What its sync group wants of it; `None`: it is in none.
    Group(Option<Word>),
    /// Whether somebody has the addresses who is no virtual router (RFC 5227 section 2.1): a Backup that nobody advertises
    /// to does not claim them then. Who owns them, or holds them already, does.
    Occupied(bool),
    /// New parameters, all at once. Addresses that stay are not interrupted.
    Reconfigure(Config),
}

/// One virtual router.
#[derive(Debug)]
pub struct Instance {
    cfg: Config,
    phase: Phase,
    why: Why,
    since: Instant,
    faults: Faults,
    /// Who claimed the addresses of late, and how.
    known: Vec<Acquaintance>,
    /// Until when a living router is left in peace, after a step-down. Whoever is Active again has been left the addresses, and
    /// owes nobody anything.
    held: Option<Instant>,
    /// Of its sync group.
    word: Option<Word>,
    occupied: bool,
    out: VecDeque<Output>,
}

/// The state with what belongs to it alone.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Initialize,
    Fault,
    Backup(Backup),
    Active(Active),
    /// Active still, and released.
    Leaving(Leaving),
}

#[derive(Debug, Clone, Copy)]
struct Backup {
    /// `Active_Down_Timer`.
    expires: Instant,
    /// `Active_Adver_Interval`: the Active router's, as learned.
    interval: Centis,
    /// Who advertised last and did not release.
    heard: Option<IpAddr>,
    /// What taking over would be due to.
    cause: Why,
    /// First advert of lower priority since the last that was not.
    lower_since: Option<Instant>,
    /// The timer ran out unseen, because this process did not run, and does not count before this.
    excused: Option<Instant>,
    /// The timer ran out in time, and its sync group is what it waits for, or whoever has the addresses.
    ready: bool,
    /// When one advert that anybody could have sent took the addresses away, while no second one has come.
    doubted: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Active {
    /// `Adver_Timer`.
    next: Instant,
    /// Last advert.
    sent: Instant,
    /// Last announcement asked for.
    announced: Instant,
}

impl Instance {
    /// A router in Initialize that knows of no fault but a missing address. Tell it what is wrong, then
    /// [`Local::Start`].
    #[must_use]
    pub fn new(cfg: Config, now: Instant) -> Self {
        Self {
            cfg,
            phase: Phase::Initialize,
            why: Why::New,
            since: now,
            faults: Faults::default(),
            known: Vec::new(),
            held: None,
            word: None,
            occupied: false,
            out: VecDeque::new(),
        }
    }

    /// Something happened on this node.
    pub fn on_local(&mut self, event: Local, now: Instant) {
        self.notice_sleep(now);
        match event {
            Local::Start if matches!(self.phase, Phase::Initialize) => match self.fault() {
                Some(reason) => self.enter(Phase::Fault, Why::Fault(reason), now),
                None => self.begin(Why::Started, now),
            },
            Local::Continue if matches!(self.phase, Phase::Initialize) => match self.fault() {
                Some(reason) => self.enter(Phase::Fault, Why::Fault(reason), now),
                None => self.enter_active(Why::Continued, now),
            },
            Local::Start | Local::Continue => {}
            Local::HandOver => {
                if let Phase::Active(active) = self.phase {
                    self.advertise(active, now);
                }
            }
            Local::Stop if matches!(self.phase, Phase::Initialize) => {}
            Local::Stop => self.leave(Then::Stop, now),
            Local::StepDown { hold } => self.step_down(hold, now),
            Local::LinkUp => self.faults.set(FaultReason::LinkDown, false),
            Local::LinkDown => self.faults.set(FaultReason::LinkDown, true),
            Local::Fault(reason) => self.faults.set(reason, true),
            Local::Cleared(reason) => self.faults.set(reason, false),
            Local::Group(word) => self.heed(word, now),
            Local::Occupied(occupied) => {
                self.occupied = occupied;
                if let Phase::Backup(Backup { ready: true, cause, .. }) = self.phase
                    && self.may_claim()
                {
                    self.enter_active(cause, now);
                }
            }
            Local::Reconfigure(cfg) => self.reconfigure(cfg, now),
        }
        self.settle(now);
    }

    /// The deadline may have passed. Early and repeated calls do nothing.
    pub fn on_deadline(&mut self, now: Instant) {
        self.notice_sleep(now);
        match self.phase {
            Phase::Backup(backup) if now >= backup.expires && !backup.ready => {
                // A timer that runs out this late means that we did not run: adverts that would have
                // reset it may be queued unread. Once, and for as long as a living router can be silent, believe that.
                let late = now.saturating_duration_since(backup.expires);
                if late >= backup.interval.duration() && backup.excused != Some(backup.expires) {
                    let expires = now + living_silence(backup.interval);
                    self.phase = Phase::Backup(Backup { expires, excused: Some(expires), ..backup });
                } else if self.may_claim() {
                    self.enter_active(backup.cause, now);
                } else {
                    self.phase = Phase::Backup(Backup { ready: true, ..backup });
                }
            }
            Phase::Active(active) if now >= active.next => self.advertise(active, now),
            Phase::Leaving(leaving) => self.still_leaving(leaving, now),
            _ => {}
        }
    }

    /// When to call [`Self::on_deadline`]; `None` in Initialize and Fault, and while its sync group is what it waits for, or
    /// whoever has the addresses.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Initialize | Phase::Fault => None,
            Phase::Backup(backup) => (!backup.ready).then_some(backup.expires),
            Phase::Active(active) => Some(active.next),
            Phase::Leaving(leaving) => Some(leaving.deadline()),
        }
    }

    /// Until when this router may answer for the addresses without another word; `None` when it does not hold them. Two
    /// and a half intervals after its last advert: whoever heard that waits for three and the skew, so a process that
    /// stops here has fallen silent before another takes over. Grows with every advert; ask after every [`Self::poll`].
    #[must_use]
    pub fn lease_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Active(Active { sent, .. }) | Phase::Leaving(Leaving { sent, .. }) => {
                Some(sent + lease(self.cfg.advert_interval))
            }
            Phase::Initialize | Phase::Fault | Phase::Backup(_) => None,
        }
    }

    /// The next thing to do; call until `None` after every input.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// Why it stands there. In Fault, the first of the reasons that hold now.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
    }

    /// When it came there.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Its parameters.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// As Backup, the router that advertised last, unless it released the addresses.
    #[must_use]
    pub fn active_router(&self) -> Option<IpAddr> {
        match self.phase {
            Phase::Backup(backup) => backup.heard,
            _ => None,
        }
    }

    /// As Backup, whether the router that had the addresses has released them.
    #[must_use]
    pub fn is_released(&self) -> bool {
        matches!(self.phase, Phase::Backup(Backup { cause: Why::Released, .. }))
    }

    /// What its sync group has to know.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let part = match self.phase {
            Phase::Initialize | Phase::Fault => Part::Absent,
            Phase::Backup(Backup { ready: true, .. }) if !self.occupied => Part::Ready,
            Phase::Backup(Backup { heard: Some(_), .. }) => Part::Following,
            Phase::Backup(_) => Part::Listening,
            Phase::Active(_) => Part::Active,
            Phase::Leaving(_) => Part::Leaving,
        };
        let fault = self.fault().is_some_and(|reason| reason != FaultReason::Group);
        Standing { part, fault, down: self.cfg.down(self.cfg.advert_interval) }
    }

    /// Whether nothing but its sync group keeps it from claiming the addresses.
    #[must_use]
    pub fn waits_for_group(&self) -> bool {
        matches!(self.phase, Phase::Backup(Backup { ready: true, .. })) && !self.occupied
    }

    fn may_claim(&self) -> bool {
        !self.occupied && self.word.is_none_or(|word| word.may_claim)
    }

    fn heed(&mut self, word: Option<Word>, now: Instant) {
        self.word = word;
        let Word { yields, fault, .. } = word.unwrap_or_default();
        self.faults.set(FaultReason::Group, fault);
        match self.phase {
            Phase::Backup(backup) if backup.ready && self.may_claim() && !fault => {
                self.enter_active(backup.cause, now);
            }
            Phase::Active(_) | Phase::Leaving(_) if yields || fault => self.leave(Then::Yield, now),
            // What made it give way is over before anybody has taken the addresses.
            Phase::Leaving(Leaving { then: Then::Yield, .. }) => self.claim_again(now),
            _ => {}
        }
    }

    /// While Active, so long without an advert that a peer may have declared us dead: it may hold the addresses by
    /// now, so listen before speaking. No peer waits for less than three intervals and a skew.
    fn notice_sleep(&mut self, now: Instant) {
        let (Phase::Active(Active { sent, .. }) | Phase::Leaving(Leaving { sent, .. })) = self.phase else {
            return;
        };
        if now.saturating_duration_since(sent) < self.cfg.advert_interval.duration() * 3 {
            return;
        }
        match self.phase {
            Phase::Leaving(Leaving { then: Then::Stop, .. }) => self.enter(Phase::Initialize, Why::Stopped, now),
            _ => self.enter_backup(Why::Slept, now),
        }
    }

    fn reconfigure(&mut self, cfg: Config, now: Instant) {
        if cfg == self.cfg {
            return;
        }
        // The two families of one VRID are two virtual routers (RFC 9568 section 5.2.3).
        if (cfg.vrid, cfg.family()) != (self.cfg.vrid, self.cfg.family()) {
            self.release();
            self.cfg = cfg;
            self.known.clear();
            self.held = None;
            match self.phase {
                Phase::Initialize | Phase::Fault => {}
                Phase::Backup(_) => self.phase = Phase::Backup(self.listening(now)),
                Phase::Leaving(Leaving { then: Then::Stop, .. }) => {
                    self.enter(Phase::Initialize, Why::Stopped, now);
                }
                Phase::Active(_) | Phase::Leaving(_) => self.enter_backup(Why::Reconfigured, now),
            }
            return;
        }
        let old = std::mem::replace(&mut self.cfg, cfg);
        match self.phase {
            Phase::Initialize | Phase::Fault => {}
            Phase::Backup(backup) => {
                if (old.priority, old.advert_interval) != (self.cfg.priority, self.cfg.advert_interval) {
                    let interval = match backup.heard {
                        Some(_) => learned_interval(self.cfg.advert_interval, backup.interval),
                        None => self.cfg.advert_interval,
                    };
                    let expires = now + self.cfg.down(interval);
                    self.phase = Phase::Backup(Backup { expires, interval, ready: false, ..backup });
                }
            }
            Phase::Active(mut active) => {
                if !old.addresses.same_set(&self.cfg.addresses) {
                    active.announced = now;
                    self.out.push_back(Output::Announce(Announcement::AddressesChanged));
                }
                self.advertise(active, now);
            }
            Phase::Leaving(_) => {
                if !old.addresses.same_set(&self.cfg.addresses) {
                    self.out.push_back(Output::Announce(Announcement::AddressesChanged));
                }
            }
        }
    }

    /// Makes the state agree with the faults known.
    fn settle(&mut self, now: Instant) {
        match (self.phase, self.fault()) {
            (Phase::Initialize, _) | (Phase::Backup(_) | Phase::Active(_) | Phase::Leaving(_), None) => {}
            (Phase::Fault, Some(reason)) => self.why = Why::Fault(reason),
            (Phase::Fault, None) => self.begin(Why::Cleared, now),
            // It is on its way already, and holds the addresses until another does.
            (Phase::Active(_) | Phase::Leaving(_), Some(FaultReason::Group)) => {}
            (Phase::Leaving(Leaving { then: Then::Stop, .. }), Some(_)) => {
                self.enter(Phase::Initialize, Why::Stopped, now);
            }
            (Phase::Backup(_) | Phase::Active(_) | Phase::Leaving(_), Some(reason)) => {
                if matches!(reason, FaultReason::CannotForward | FaultReason::Tracked) {
                    self.release();
                }
                self.enter(Phase::Fault, Why::Fault(reason), now);
            }
        }
    }

    fn fault(&self) -> Option<FaultReason> {
        let missing = |reason| reason == FaultReason::NoAddress && self.cfg.source().is_none();
        FaultReason::ALL.into_iter().find(|reason| self.faults.has(*reason) || missing(*reason))
    }

    /// Who owns the addresses claims them without listening first (RFC 9568 section 6.4.1), unless it has promised to leave them.
    fn begin(&mut self, why: Why, now: Instant) {
        if self.cfg.priority == Priority::OWNER && self.word.is_none() && !self.is_held(now) {
            self.enter_active(Why::Owner, now);
        } else {
            self.enter_backup(why, now);
        }
    }

    fn enter_backup(&mut self, why: Why, now: Instant) {
        let backup = self.listening(now);
        self.enter(Phase::Backup(backup), why, now);
    }

    /// A Backup that has heard nobody.
    fn listening(&self, now: Instant) -> Backup {
        Backup {
            expires: now + self.cfg.down(self.cfg.advert_interval),
            interval: self.cfg.advert_interval,
            heard: None,
            cause: Why::Silence,
            lower_since: None,
            excused: None,
            ready: false,
            doubted: None,
        }
    }

    fn enter_active(&mut self, why: Why, now: Instant) {
        self.held = None;
        self.send(self.cfg.priority.into());
        let next = now + self.cfg.advert_interval.duration();
        let active = Active { next, sent: now, announced: now };
        self.enter(Phase::Active(active), why, now);
    }

    /// Goes on as Active after a hand-over that nobody accepted.
    fn claim_again(&mut self, now: Instant) {
        self.held = None;
        self.advertise(Active { next: now, sent: now, announced: now }, now);
    }

    fn enter(&mut self, phase: Phase, why: Why, now: Instant) {
        let (from, state) = (self.state(), phase.state());
        self.phase = phase;
        self.why = why;
        self.since = now;
        self.out.push_back(Output::Entered { from, state, why });
    }

    fn advertise(&mut self, active: Active, now: Instant) {
        self.send(self.cfg.priority.into());
        let next = now + self.cfg.advert_interval.duration();
        self.phase = Phase::Active(Active { next, sent: now, ..active });
    }

    /// A router that stops holding the addresses by its own will says so.
    fn release(&mut self) {
        if matches!(self.phase, Phase::Active(_)) {
            self.send(WirePriority::RELEASE);
        }
    }

    fn send(&mut self, priority: WirePriority) {
        let Some(src) = self.cfg.source() else { return };
        self.out.push_back(Output::Send(Transmit {
            src,
            peers: self.cfg.peers.clone(),
            advert: Advert {
                vrid: self.cfg.vrid,
                priority,
                interval: self.cfg.advert_interval,
                addresses: self.cfg.addresses.clone(),
            },
        }));
    }
}

impl Phase {
    const fn state(&self) -> State {
        match self {
            Self::Initialize => State::Initialize,
            Self::Fault => State::Fault,
            Self::Backup(_) => State::Backup,
            Self::Active(_) | Self::Leaving(_) => State::Active,
        }
    }
}

#[cfg(test)]
mod tests;

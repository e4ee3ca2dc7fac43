//! A sync group: virtual routers of one node that hold their addresses all together or not at all. Decides only; each
//! [`Instance`](super::Instance) heeds its [`Word`].
//!
//! - None claims its addresses before each of the others could, or holds its own.
//! - When one cannot take part, none does. When one loses its addresses, the others give theirs up, make-before-break.
//! - All advertise the lowest of their priorities, so that what makes one less eager does so for all, and nobody else is better
//!   with one and worse with another.
//! - Two nodes may still win one contest each, by the addresses they send from. Then the first member decides: a node that holds
//!   its addresses waits for the others to follow, a node that has lost them gives the rest up.
//! - Whatever happens, a node that holds some of them and not all for longer than [`Group::deadline`] gives these up.

use std::time::{Duration, Instant};

use crate::units::Priority;

/// What a member does for its group's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// It may claim its addresses when nobody else does.
    pub may_claim: bool,
    /// It gives its addresses up.
    pub yields: bool,
    /// Another member cannot take part, so neither does it.
    pub fault: bool,
}

/// The part that a member plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// None.
    Absent,
    /// It listens, and has not for long enough.
    Listening,
    /// It listens to another router, which holds the addresses.
    Following,
    /// It would hold the addresses if it were alone.
    Ready,
    /// It holds the addresses.
    Active,
    /// It holds them until another router does.
    Leaving,
}

/// A member, as its group sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What it does.
    pub part: Part,
    /// It cannot take part, for a reason of its own.
    pub fault: bool,
    /// How long it listens before it claims.
    pub down: Duration,
}

impl Standing {
    /// Of a member that is not there yet.
    pub const NONE: Self = Self { part: Part::Absent, fault: false, down: Duration::ZERO };

    const fn holds(self) -> bool {
        matches!(self.part, Part::Active | Part::Leaving)
    }
}

/// The members of one node. The first has to be the same on all nodes: the one with the lowest virtual address, for one.
#[derive(Debug, Clone)]
pub struct Group {
    members: Vec<(Standing, Priority)>,
    /// Since when some hold their addresses, and not all.
    apart: Option<Instant>,
}

impl Group {
    /// So many members, of which nothing is known.
    #[must_use]
    pub fn new(members: usize) -> Self {
        Self { members: vec![(Standing::NONE, Priority::MAX); members], apart: None }
    }

    /// How a member stands now, and the priority it has by itself. Others may have another word from then on.
    pub fn tell(&mut self, member: usize, standing: Standing, priority: Priority, now: Instant) {
        if let Some(known) = self.members.get_mut(member) {
            *known = (standing, priority);
        }
        let holders = self.standings().filter(|member| member.holds()).count();
        let is_apart = holders > 0 && holders < self.members.len();
        self.apart = is_apart.then(|| self.apart.unwrap_or(now));
    }

    /// What a member is to do.
    #[must_use]
    pub fn word(&self, member: usize, now: Instant) -> Word {
        let overdue = self.deadline().is_some_and(|deadline| now >= deadline);
        let could = |part| part == Part::Ready || (part == Part::Active && !overdue);
        let others = || {
            let others = self.members.iter().enumerate().filter(|(at, _)| *at != member);
            others.map(|(_, (standing, _))| standing)
        };
        let decides = self.standings().next().is_some_and(|first| first.part == Part::Active);
        Word {
            may_claim: others().all(|other| could(other.part)),
            yields: overdue || (!decides && others().any(|other| other.part == Part::Following)),
            fault: others().any(|other| other.fault),
        }
    }

    /// What all of them advertise.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.members.iter().map(|(_, priority)| *priority).min().unwrap_or(Priority::MAX)
    }

    /// When words change though nothing happens: as long after members came apart as each of them listens, twice.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let slowest = self.standings().map(|member| member.down).max()?;
        Some(self.apart? + slowest * 2)
    }

    fn standings(&self) -> impl Iterator<Item = Standing> {
        self.members.iter().map(|(standing, _)| *standing)
    }
}

#[cfg(test)]
mod tests;

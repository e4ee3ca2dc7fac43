//! Which source ports towards a backend are taken: hints, by which a free one is found at once.
//!
//! The truth is in the tables of flows, and whoever takes a port by a hint looks there. The datapath only adds; the
//! agent takes away what it finds in no table any more, and adds what an earlier set did not know.

use super::word::Bits;
use crate::net::Be128;

/// Ports of a word.
const WORD: usize = 64;
/// Words of all ports.
const WORDS: usize = 65_536 / WORD;
/// Words that say which words are full.
const SUMMARIES: usize = WORDS / WORD;

/// Whose ports a set is about.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortKey {
    /// The address of ours towards the backend.
    pub address: Be128,
    /// Slot of the backend.
    pub slot: u32,
}

/// A bit for each port: it is taken, at rest, or none of ours. `W` is `u64` for a copy and [`Bits`]
/// ([`SharedPortSet`]) for the set itself, to which all CPUs add.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSet<W = u64> {
    /// A bit for each of the summaries: it is full.
    full: W,
    /// A bit for each of the words: it is full.
    summaries: [W; SUMMARIES],
    words: [W; WORDS],
}

/// Why a set has named no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHint {
    /// None is free.
    Full,
    /// It has changed meanwhile.
    Again,
}

/// A set as it lies in the table.
pub type SharedPortSet = PortSet<Bits>;

const _: () = {
    assert!(size_of::<PortKey>() == 20);
    assert!(size_of::<PortSet>() == 8328);
    assert!(size_of::<SharedPortSet>() == size_of::<PortSet>() && align_of::<SharedPortSet>() == align_of::<PortSet>());
};

impl SharedPortSet {
    /// Whether no port is free.
    #[inline(always)]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.get() == ALL_SUMMARIES
    }

    /// Takes a port: this one, or the next that is free; in the end the first.
    ///
    /// # Errors
    /// When there is none, or other CPUs were faster.
    #[inline(always)]
    pub fn take(&self, from: u16) -> Result<u16, NoHint> {
        self.try_take(from).ok_or(if self.is_full() { NoHint::Full } else { NoHint::Again })
    }

    #[inline(always)]
    fn try_take(&self, from: u16) -> Option<u16> {
        let word = self.free_word(from)?;
        let bits = &self.words[word as usize % WORDS];
        let start = if word == from as u32 / WORD as u32 { from as u32 } else { 0 };
        let bit = next(!bits.get(), start)?;
        let taken = 1 << bit;
        let before = bits.add(taken);
        if before | taken == u64::MAX {
            self.fill(word);
        }
        // Another CPU may have been faster.
        (before & taken == 0).then_some((word * WORD as u32 + bit) as u16)
    }

    /// The word of this port, or the next with a free one.
    #[inline(always)]
    fn free_word(&self, from: u16) -> Option<u32> {
        let word = from as u32 / WORD as u32;
        if self.words[word as usize % WORDS].get() != u64::MAX {
            return Some(word);
        }
        let mut summary = word / WORD as u32;
        let mut free = !self.summaries[summary as usize % SUMMARIES].get();
        // Those before it in the same summary come last, with all the others.
        free &= u64::MAX << (word % WORD as u32);
        if free == 0 {
            let summaries = !self.full.get() & ALL_SUMMARIES;
            summary = next(summaries, summary + 1)?;
            free = !self.summaries[summary as usize % SUMMARIES].get();
        }
        let word = summary * WORD as u32 + next(free, 0)?;
        if self.words[word as usize % WORDS].get() == u64::MAX {
            self.fill(word);
            return None;
        }
        Some(word)
    }

    /// Notes that a word is full.
    #[inline(always)]
    fn fill(&self, word: u32) {
        let (summary, bit) = (word / WORD as u32, 1 << (word % WORD as u32));
        if self.summaries[summary as usize % SUMMARIES].add(bit) | bit == u64::MAX {
            self.full.add(1 << (summary % SUMMARIES as u32));
        }
    }
}

/// Every summary's bit.
const ALL_SUMMARIES: u64 = (1 << SUMMARIES) - 1;

/// The lowest bit that is set from `start` (modulo 64) on, else the lowest of all.
#[inline(always)]
fn next(bits: u64, start: u32) -> Option<u32> {
    let rest = bits & u64::MAX << (start % u64::BITS);
    let bits = if rest != 0 { rest } else { bits };
    (bits != 0).then(|| bits.trailing_zeros())
}

impl PortSet {
    /// The set whose only free ports are those of a range.
    #[must_use]
    pub fn of_range(ports: core::ops::RangeInclusive<u16>) -> Self {
        let mut set = Self::full();
        for port in ports {
            set.words[port as usize / WORD] &= !(1 << (port as usize % WORD));
        }
        set.summed()
    }

    /// Every port.
    #[must_use]
    pub const fn full() -> Self {
        Self { full: ALL_SUMMARIES, summaries: [u64::MAX; SUMMARIES], words: [u64::MAX; WORDS] }
    }

    /// No port at all, to be added to.
    #[must_use]
    pub const fn empty() -> Self {
        Self { full: 0, summaries: [0; SUMMARIES], words: [0; WORDS] }
    }

    /// Whether a port is taken.
    #[must_use]
    pub const fn has(&self, port: u16) -> bool {
        self.words[port as usize / WORD] >> (port as usize % WORD) & 1 != 0
    }

    /// Adds a port; [`Self::summed`] is due afterwards.
    pub const fn add(&mut self, port: u16) {
        self.words[port as usize / WORD] |= 1 << (port as usize % WORD);
    }

    /// Ports in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with what says which words are full.
    #[must_use]
    pub fn summed(mut self) -> Self {
        for (summary, words) in self.summaries.iter_mut().zip(self.words.chunks(WORD)) {
            *summary = filled(words);
        }
        self.full = filled(&self.summaries);
        self
    }

    /// What the set should be now. `before` and `self` are the set before and after a look at the tables of flows,
    /// which found the ports `found`; `fixed` are those that are never free.
    ///
    /// A port that is in both sets and was found nowhere is free again. One that was found and is in neither was not
    /// known. All else has changed meanwhile, and the set knows better than the look.
    #[must_use]
    pub fn mended(&self, before: &Self, found: &Self, fixed: &Self) -> Self {
        let mut set = *self;
        let others = before.words.iter().zip(&found.words).zip(&fixed.words);
        for (word, ((before, found), fixed)) in set.words.iter_mut().zip(others) {
            let over = *word & before & !found;
            let unknown = found & !*word & !before;
            *word = *word & !over | unknown | fixed;
        }
        set.summed()
    }

    /// As it lies in the table.
    #[must_use]
    pub fn shared(&self) -> SharedPortSet {
        PortSet { full: self.full.into(), summaries: self.summaries.map(Bits::from), words: self.words.map(Bits::from) }
    }
}

/// A bit for each word that is full.
fn filled(words: &[u64]) -> u64 {
    words.iter().enumerate().fold(0, |bits, (at, word)| bits | u64::from(*word == u64::MAX) << at)
}

#[cfg(test)]
mod tests;

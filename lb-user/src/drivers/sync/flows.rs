//! What the sharing of flows asks of the datapath, and what the datapath tells it.

use lb_proto::sync::{Change, Key, Record};

use crate::bpf::Skipped;

/// What the datapath says of its flows, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Flows were established or ended here, by packets that this node has seen. What [`Flows`] was told to take in or to
    /// forget is not among them, nor what was forgotten for its age.
    Batch(Vec<Change>),
    /// Some were not told: look at the whole table.
    Lost,
}

/// The tables of the datapath, in words that every node understands. Called from a thread that does nothing else.
pub trait Flows: Send {
    /// Every established flow there is, copies included.
    fn all(&mut self, each: &mut dyn FnMut(Record));

    /// Takes in what other nodes have. A flow that is known already stays as it is unless the new record
    /// [supersedes](Record::supersedes) the known one; of the same flow the time of the last packet becomes the later one.
    fn adopt(&mut self, records: &[Record]) -> Adopted;

    /// Removes flows that ended elsewhere. One that had a packet on this node within [`lb_proto::sync::FRESH_SECONDS`] stays:
    /// it lives here. (What was taken in without a packet here does not count as fresh.)
    fn forget(&mut self, keys: &[Key]);
}

/// What became of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    /// In the tables now and not before, or otherwise.
    pub taken: u64,
    /// Were there already.
    pub known: u64,
    /// Not taken in: no such service or backend here, or no room.
    pub refused: u64,
    /// The same by reason, in the order of [`Skipped::ALL`].
    pub skipped: [u64; Skipped::ALL.len()],
}

impl Adopted {
    /// Counts one that was not taken in.
    pub const fn skip(&mut self, why: Skipped) {
        self.refused += 1;
        self.skipped[why as usize] += 1;
    }
}

impl std::ops::AddAssign for Adopted {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.known += other.known;
        self.refused += other.refused;
        self.skipped.iter_mut().zip(other.skipped).for_each(|(sum, more)| *sum += more);
    }
}

//! A look at a whole table, as it is sent: a few bytes for each flow.

use super::codec::{Item, ROOM};
use super::{Change, Record};

/// The flows of a table at one moment, in chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    chunks: Vec<Chunk>,
    flows: u64,
}

/// As many flows as one datagram carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) items: Vec<u8>,
    pub(super) flows: u32,
}

impl Table {
    /// Adds a flow.
    pub fn push(&mut self, record: &Record) {
        if self.chunks.last().is_none_or(|chunk| chunk.items.len() + LONGEST_RECORD > ROOM) {
            self.chunks.push(Chunk { items: Vec::with_capacity(ROOM), flows: 0 });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            Item::Change(Change::Opened(*record)).emit(&mut chunk.items);
            chunk.flows += 1;
            self.flows += 1;
        }
    }

    /// How many flows there are.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.flows
    }

    pub(super) fn chunk(&self, index: usize) -> Option<&Chunk> {
        self.chunks.get(index)
    }
}

impl<'r> FromIterator<&'r Record> for Table {
    fn from_iter<I: IntoIterator<Item = &'r Record>>(records: I) -> Self {
        let mut table = Self::default();
        records.into_iter().for_each(|record| table.push(record));
        table
    }
}

/// Flags, four addresses of IPv6 with ports, a next hop, and a silence.
const LONGEST_RECORD: usize = 1 + 4 * 18 + 6 + 5;

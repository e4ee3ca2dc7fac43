//! Values that stay where they are until all of them go.

use std::cell::{Cell, OnceCell};

/// Values in one part of an arena.
const PART: usize = 8;

/// Values by number, in the order in which they were added.
pub(super) struct Arena<T> {
    first: Part<T>,
    length: Cell<usize>,
}

struct Part<T> {
    values: [OnceCell<T>; PART],
    next: OnceCell<Box<Self>>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { values: [const { OnceCell::new() }; PART], next: OnceCell::new() }
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { first: Part::default(), length: Cell::new(0) }
    }
}

impl<T> Arena<T> {
    /// Adds a value; returns its number.
    pub(super) fn add(&self, value: T) -> usize {
        let number = self.length.replace(self.length.get() + 1);
        let mut part = &self.first;
        for _ in 0..number / PART {
            part = part.next.get_or_init(Box::default);
        }
        // Nothing has had the number before.
        let _ = part.values[number % PART].set(value);
        number
    }

    /// The value with a number.
    pub(super) fn at(&self, number: usize) -> Option<&T> {
        let mut part = &self.first;
        for _ in 0..number / PART {
            part = part.next.get()?;
        }
        part.values[number % PART].get()
    }
}

//! Collecting faults, and telling where in the text they are.

use std::cell::RefCell;

use toml_edit::TomlError;

use super::{Fault, Faults};

/// What is wrong and what to do, before it has a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

pub(super) fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), remedy: remedy.into() }
}

/// A value and the byte of the text where it stands; a default stands where its table begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// Where the faults go.
pub(super) struct Report<'t> {
    text: &'t str,
    /// First byte of each line.
    lines: Vec<usize>,
    faults: RefCell<Vec<At<Wrong>>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at.saturating_add(1));
        Self { text, lines: std::iter::once(0).chain(starts).collect(), faults: RefCell::default() }
    }

    /// `at` past the end means the end.
    pub(super) fn add(&self, at: usize, wrong: Wrong) {
        self.faults.borrow_mut().push(At { value: wrong, at });
    }

    /// A text that is no TOML.
    pub(super) fn add_syntax(&self, error: &TomlError) {
        let span = error.span().unwrap_or(0..0);
        let text = self.text.get(span.clone()).unwrap_or_default();
        let (what, remedy) = match error.message() {
            "duplicate key" => (format!("{} is defined twice", quote(text)), "keep one of the two"),
            message if message.starts_with("string values must be quoted") => {
                ("this is not a TOML value".into(), "put a string in double quotes")
            }
            message => (format!("this is not TOML: {}", message.replace('\n', " ")), "correct it here"),
        };
        self.add(span.start, wrong(what, remedy));
    }

    /// How many faults there are so far.
    pub(super) fn count(&self) -> usize {
        self.faults.borrow().len()
    }

    /// Line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).max(1)
    }

    /// Line and column of a byte, from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        (line, self.characters(start, at).saturating_add(1))
    }

    /// The faults in the order of the file, or none.
    pub(super) fn into_faults(self, file: &str) -> Option<Faults> {
        let mut raw = self.faults.take();
        for fault in &mut raw {
            fault.at = fault.at.min(self.text.len());
        }
        raw.sort_by_key(|fault| fault.at);
        let mut list: Vec<Fault> = Vec::with_capacity(raw.len());
        // Columns continue from the fault before on the same line: counting each from the start of a long line takes
        // time that grows with its square.
        let (mut from, mut line, mut column) = (0, 1, 1_usize);
        for fault in raw {
            let its_line = self.line(fault.at);
            if its_line != line {
                from = self.lines.get(its_line - 1).copied().unwrap_or_default();
                (line, column) = (its_line, 1);
            }
            column = column.saturating_add(self.characters(from, fault.at));
            from = fault.at;
            let Wrong { what, remedy } = fault.value;
            let fault = Fault { line, column, what, remedy };
            if list.last() != Some(&fault) {
                list.push(fault);
            }
        }
        Faults::new(file, list)
    }

    fn characters(&self, from: usize, to: usize) -> usize {
        let bytes = self.text.as_bytes().get(from..to).unwrap_or_default();
        // Every character has one byte that does not continue another.
        bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
    }
}

/// In double quotes, on one line, shortened where it is long.
pub(super) fn quote(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}", format!("{}…", text.get(..end).unwrap_or_default())),
        None => format!("{text:?}"),
    }
}

//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

/// One fault of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, what, remedy } = self;
        write!(f, "{line}:{column}: {what}, {remedy}")
    }
}

/// The faults of a file, at least one, in the order of the file. Displays one per line as
/// `FILE:LINE:COLUMN: what, and what to do`, without a newline at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: String,
    first: Fault,
    more: Vec<Fault>,
}

impl Faults {
    /// `None` if there is no fault. `list` is in the order of the file.
    pub(super) fn new(file: &str, list: Vec<Fault>) -> Option<Self> {
        let mut list = list.into_iter();
        Some(Self { file: file.to_owned(), first: list.next()?, more: list.collect() })
    }

    /// A single fault of the file as a whole.
    pub(super) fn whole_file(file: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            first: Fault { line: 1, column: 1, what: what.into(), remedy: remedy.into() },
            more: Vec::new(),
        }
    }

    /// For a value that could not be built although nobody said why: a defect of ours, never silent.
    pub(super) fn unexplained(file: &str) -> Self {
        let remedy = "report this with the file, it is a defect of xvip";
        Self::whole_file(file, "the file was refused without a reason", remedy)
    }

    /// What the faults call the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The first fault as one line.
    pub fn first_line(&self) -> String {
        format!("{}:{}", self.file, self.first)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.first)?;
        for fault in &self.more {
            write!(f, "\n{}:{fault}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

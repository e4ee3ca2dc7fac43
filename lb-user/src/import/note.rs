//! What is said about the lines of the files that are read: where, of what kind, and in words.

use std::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What the file is called.
    pub file: Arc<str>,
    /// From 1; 0: the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&shown(&self.file)),
            line => write!(f, "{}:{line}", shown(&self.file)),
        }
    }
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The line is broken or unknown: nothing is written.
    Fault,
    /// The line does something else than its author wanted, or does harm.
    Mistake,
    /// The line has no counterpart in what is written.
    Lost,
}

/// One thing to say about a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Which line.
    pub place: Place,
    /// What sort of thing.
    pub kind: Kind,
    /// One line without control characters.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Fault => "",
            Kind::Mistake => "mistake: ",
            Kind::Lost => "not carried over: ",
        };
        write!(f, "{}: {kind}{}", self.place, self.text)
    }
}

/// All that is said.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    /// Broken or unknown.
    pub(super) fn fault(&mut self, place: &Place, text: impl AsRef<str>) {
        self.add(place, Kind::Fault, text.as_ref());
    }

    /// Not what its author wanted.
    pub(super) fn mistake(&mut self, place: &Place, text: impl AsRef<str>) {
        self.add(place, Kind::Mistake, text.as_ref());
    }

    /// Without a counterpart: `what` stands in the line, and `why`.
    pub(super) fn lost(&mut self, place: &Place, what: impl AsRef<str>, why: impl AsRef<str>) {
        self.add(place, Kind::Lost, &format!("{}: {}", what.as_ref(), why.as_ref()));
    }

    fn add(&mut self, place: &Place, kind: Kind, text: &str) {
        self.0.push(Note { place: place.clone(), kind, text: shown(text) });
    }

    /// All of others.
    pub(super) fn extend(&mut self, others: Notes) {
        self.0.extend(others.0);
    }

    /// Whether a line is broken or unknown.
    pub(super) fn has_faults(&self) -> bool {
        self.0.iter().any(|note| note.kind == Kind::Fault)
    }

    /// In the order of the files' lines, each once.
    pub(super) fn sorted(self) -> Vec<Note> {
        let mut notes = self.0;
        notes.sort_by(|a, b| (&a.place, a.kind).cmp(&(&b.place, b.kind)));
        notes.dedup();
        notes
    }

    /// The faults alone, in the order of the files' lines.
    pub(super) fn into_faults(self) -> Vec<Note> {
        let mut notes = self.sorted();
        notes.retain(|note| note.kind == Kind::Fault);
        notes
    }
}

/// Text of others, fit for a terminal and a comment: one line, without control characters, not endless.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 400;
    // What changes the direction of the line is as bad as what ends it.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut short: String = text.chars().take(LONGEST).map(|c| if hidden(c) { '?' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

/// `, did you mean "KNOWN"?` for the nearest of what is known, if any is near.
pub(super) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // The measure takes the product of the lengths.
    if unknown.len() > 40 {
        return String::new();
    }
    let distances = known.into_iter().map(|word| (strsim::damerau_levenshtein(unknown, word), word));
    match distances.min() {
        Some((distance, word)) if distance <= 2 && distance < unknown.len() => format!("; did you mean \"{word}\"?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stand_in_the_order_of_the_lines_and_once() {
        let at = |line| Place { file: "a.cfg".into(), line };
        let mut notes = Notes::default();
        notes.lost(&at(3), "log", "why");
        notes.mistake(&at(3), "both");
        notes.lost(&at(1), "user\nroot", "why");
        notes.lost(&at(3), "log", "why");
        assert!(!notes.has_faults());
        let lines: Vec<_> = notes.sorted().iter().map(Note::to_string).collect();
        let expected = [
            "a.cfg:1: not carried over: user?root: why",
            "a.cfg:3: mistake: both",
            "a.cfg:3: not carried over: log: why",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn faults_stand_alone() {
        let place = Place { file: "a.cfg".into(), line: 1 };
        let mut notes = Notes::default();
        notes.mistake(&place, "one");
        notes.fault(&place, "two");
        assert!(notes.has_faults());
        assert_eq!(notes.into_faults().iter().map(Note::to_string).collect::<Vec<_>>(), ["a.cfg:1: two"]);
    }

    #[test]
    fn what_is_near_is_named() {
        assert_eq!(nearest("blance", ["balance", "bind"]), "; did you mean \"balance\"?");
        assert_eq!(nearest("xyz", ["balance"]), "");
        assert_eq!(nearest("a", ["b"]), "");
    }
}

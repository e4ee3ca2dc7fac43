//! Writing a configuration: keys, tables, and comments that are as wide as the lines around them.

use std::fmt::Write as _;
use std::time::Duration;

use super::note::Place;

/// Columns of a comment.
const WIDTH: usize = 118;

/// A configuration as it is written, and what its parts come from.
#[derive(Debug, Default)]
pub(super) struct Toml {
    text: String,
    /// Lines that are complete.
    lines: usize,
    origins: Origins,
}

/// Where the parts of a configuration come from: each mark is good up to the next.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<(usize, usize, Option<Place>)>);

impl Origins {
    /// What stands at a line and column, both from 1, comes from there.
    pub(super) fn at(&self, line: usize, column: usize) -> Option<&Place> {
        let after = self.0.partition_point(|(l, c, _)| (*l, *c) <= (line, column));
        self.0.get(after.checked_sub(1)?)?.2.as_ref()
    }

    /// What a line has first comes from there.
    pub(super) fn of_line(&self, line: usize) -> Option<&Place> {
        let first = self.0.partition_point(|(l, ..)| *l < line);
        match self.0.get(first) {
            Some((at, _, place)) if *at == line => place.as_ref(),
            _ => self.at(line, 1),
        }
    }
}

impl Toml {
    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.line("");
    }

    /// What follows comes from there.
    pub(super) fn origin(&mut self, place: Option<&Place>) {
        self.origins.0.push((self.lines + 1, 1, place.cloned()));
    }

    /// Words, in as many lines as they need.
    pub(super) fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in super::note::shown(text).split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    /// A line as it is.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.lines += 1;
    }

    /// `key = value`, the value as TOML has it.
    pub(super) fn key(&mut self, key: &str, value: &str) {
        self.line(&format!("{key} = {value}"));
    }

    /// `key = "text"`
    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key, &quoted(text));
    }

    /// `key = ["text", ...]`, or `key = "text"` for one where that is enough, each with what it comes from; what follows
    /// comes from `then`.
    pub(super) fn texts(&mut self, key: &str, texts: &[(String, Option<Place>)], alone: bool, then: Option<&Place>) {
        let brackets = if alone && texts.len() == 1 { ["", ""] } else { ["[", "]"] };
        let mut line = format!("{key} = {}", brackets[0]);
        for (number, (text, place)) in texts.iter().enumerate() {
            line.push_str(if number > 0 { ", " } else { "" });
            self.origins.0.push((self.lines + 1, line.chars().count() + 1, place.clone()));
            line.push_str(&quoted(text));
        }
        line.push_str(brackets[1]);
        self.line(&line);
        self.origin(then);
    }

    /// The whole.
    pub(super) fn finish(self) -> (String, Origins) {
        (self.text, self.origins)
    }
}

/// A basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A list of basic strings.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// A time as a configuration has it, with quotes.
pub(super) fn time(time: Duration) -> String {
    quoted(&crate::config::spell(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_back() {
        for text in ["", "plain", "a\"b\\c", "tab\tand\u{7f}and\u{85}", "größe"] {
            let document = format!("key = {}", quoted(text)).parse::<toml_edit::DocumentMut>().unwrap();
            assert_eq!(document["key"].as_str(), Some(text));
        }
        assert_eq!(list(["a", "b"]), r#"["a", "b"]"#);
    }

    #[test]
    fn what_is_written_comes_from_somewhere() {
        let from = |line| Place { file: "a".into(), line };
        let mut toml = Toml::default();
        toml.line("[head]");
        toml.origin(Some(&from(3)));
        toml.key("one", "1");
        toml.texts("two", &[("a".to_owned(), Some(from(4))), ("é".to_owned(), Some(from(5)))], true, Some(&from(3)));
        toml.texts("three", &[("b".to_owned(), Some(from(6)))], true, Some(&from(3)));
        toml.gap();
        let (text, origins) = toml.finish();
        assert_eq!(text, "[head]\none = 1\ntwo = [\"a\", \"é\"]\nthree = \"b\"\n\n");
        let line = |line, column| origins.at(line, column).map(|place| place.line);
        assert_eq!(
            [line(1, 1), line(2, 5), line(3, 8), line(3, 13), line(4, 9), line(5, 1)].map(|at| at.unwrap_or(0)),
            [0, 3, 4, 5, 6, 3]
        );
        assert_eq!((origins.of_line(3), origins.of_line(5)), (Some(&from(4)), Some(&from(3))));
    }

    #[test]
    fn comments_are_broken_between_words_and_never_by_what_they_say() {
        let mut toml = Toml::default();
        toml.comment(&"word ".repeat(30));
        toml.comment("one\nkey = 1");
        let (text, _) = toml.finish();
        assert!(text.lines().all(|line| line.starts_with('#') && line.len() <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}

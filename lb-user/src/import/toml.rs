//! Writing a configuration: keys, tables, and comments that are as wide as the lines around them.

use std::fmt::Write as _;
use std::time::Duration;

/// Columns of a comment.
const WIDTH: usize = 118;

/// A configuration as it is written.
#[derive(Debug, Default)]
pub(super) struct Toml(String);

impl Toml {
    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.0.push('\n');
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
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// `key = value`, the value as TOML has it.
    pub(super) fn key(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    /// `key = "text"`
    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key, &quoted(text));
    }

    /// The whole.
    pub(super) fn finish(self) -> String {
        self.0
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
    fn comments_are_broken_between_words_and_never_by_what_they_say() {
        let mut toml = Toml::default();
        toml.comment(&"word ".repeat(30));
        toml.comment("one\nkey = 1");
        let text = toml.finish();
        assert!(text.lines().all(|line| line.starts_with('#') && line.len() <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}

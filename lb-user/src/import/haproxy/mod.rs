//! haproxy.cfg: text in, sections of lines of words out. Knows how a line is written, not what it means.
//!
//! `words` names the keywords, `settings` and `server` read them, `check` knows health checks.

mod check;
mod duration;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::note::{Notes, Place};

pub(super) use check::Way;
pub(super) use server::{Bind, Server, Where};
pub(super) use settings::{Kind, Mode, Proxy, read};

/// The sections of one or several files, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// What begins each, and its lines.
    pub sections: Vec<Section>,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The line that begins it: its kind first, its name if it has one.
    pub head: Line,
    /// The lines in it.
    pub lines: Vec<Line>,
}

/// A line with at least one word; quotes and escapes are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub place: Place,
    /// Its words.
    pub words: Vec<String>,
    /// A variable in it that has no value here.
    pub unset: Option<String>,
}

impl Line {
    /// The word at `index`, or nothing.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// Puts variables into its address: haproxy does so there without quotes too.
    fn expand(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let at = match self.word(0) {
            "bind" => 1,
            "server" => 2,
            "listen" | "frontend" if self.word(2) != "from" => 2,
            _ => return,
        };
        let Some(word) = self.words.get_mut(at) else { return };
        let mut expanded = String::new();
        let mut rest = word.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            let inner = after.strip_prefix('{').unwrap_or(after);
            let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            let (name, tail) = inner.split_at(end);
            expanded.push_str(before);
            match variable(name) {
                Some(value) => expanded.push_str(&value),
                None => self.unset = self.unset.take().or_else(|| Some(name.to_owned())),
            }
            rest = if inner.len() < after.len() { tail.strip_prefix('}').unwrap_or(tail) } else { tail };
        }
        expanded.push_str(rest);
        *word = expanded;
    }

    /// The whole line, without what was between the words.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// Reads files into one tree; `environment` has the variables that haproxy finds when it starts.
#[derive(Debug)]
pub struct Reader<E> {
    environment: E,
    /// Set by the files themselves; `None`: removed.
    own: BTreeMap<String, Option<String>>,
    tree: Tree,
    notes: Notes,
}

impl<E: Fn(&str) -> Option<String>> Reader<E> {
    /// Nothing read yet.
    pub fn new(environment: E) -> Self {
        Self { environment, own: BTreeMap::new(), tree: Tree::default(), notes: Notes::default() }
    }

    /// Reads the text of a file; `file` is what notes call it.
    pub fn read(&mut self, text: &str, file: &str) {
        let file: Arc<str> = file.into();
        // A section ends with its file.
        let mut begun = false;
        for (number, text) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            let place = Place { file: file.clone(), line: number + 1 };
            let variable = |name: &str| match self.own.get(name) {
                Some(own) => own.clone(),
                None => (self.environment)(name),
            };
            let (words, unset) = match split(text, &variable) {
                Ok(split) => split,
                Err(what) => {
                    self.notes.fault(&place, what);
                    continue;
                }
            };
            let mut line = Line { place, words, unset };
            line.expand(&variable);
            let keyword = line.word(0);
            if keyword.is_empty() {
                continue;
            }
            if let Some(directive) = keyword.strip_prefix('.') {
                let what = format!(
                    ".{directive} is not evaluated here; keep the lines that hold on this node, and remove the others \
                     with the line"
                );
                self.notes.fault(&line.place, what);
            } else if words::SECTIONS.contains(&keyword) {
                self.tree.sections.push(Section { head: line, lines: Vec::new() });
                begun = true;
            } else if let Some(section) = self.tree.sections.last_mut().filter(|_| begun) {
                if section.head.word(0) == "global" {
                    set(&mut self.own, &self.environment, &line);
                }
                section.lines.push(line);
            } else {
                let near = super::note::nearest(keyword, words::SECTIONS.iter().copied());
                let what = format!("\"{keyword}\" stands before any section such as global or frontend{near}");
                self.notes.fault(&line.place, what);
            }
        }
    }

    /// What was read, and what is broken of it.
    pub(super) fn finish(self) -> (Tree, Notes) {
        (self.tree, self.notes)
    }
}

/// Reads one file.
///
/// # Errors
/// A note for each line that is broken.
pub fn parse(
    text: &str, file: &str, environment: impl Fn(&str) -> Option<String>,
) -> Result<Tree, Vec<super::note::Note>> {
    let mut reader = Reader::new(environment);
    reader.read(text, file);
    match reader.finish() {
        (tree, notes) if !notes.has_faults() => Ok(tree),
        (_, notes) => Err(notes.into_faults()),
    }
}

/// What a line of `global` does to the variables of the lines after it.
fn set(own: &mut BTreeMap<String, Option<String>>, environment: impl Fn(&str) -> Option<String>, line: &Line) {
    let (name, value) = (line.word(1).to_owned(), line.words.iter().skip(2).cloned().collect::<Vec<_>>().join(" "));
    match line.word(0) {
        "setenv" => drop(own.insert(name, Some(value))),
        "presetenv" => {
            let before = own.remove(&name).flatten().or_else(|| environment(&name));
            own.insert(name, before.or(Some(value)));
        }
        "unsetenv" => drop(own.insert(name, None)),
        _ => {}
    }
}

/// Which quotes are open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Weak,
    Strong,
}

type Split = (Vec<String>, Option<String>);

/// The words of a line, and the first of its variables that has no value.
fn split(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Split, String> {
    let (mut words, mut unset) = (Vec::new(), None);
    // `None`: between words.
    let mut word: Option<String> = None;
    let mut quote = Quote::None;
    let mut rest = text.trim_end_matches('\r').chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('#', Quote::None) => break,
            (' ' | '\t', Quote::None) => words.extend(word.take()),
            ('\t', _) => word.get_or_insert_default().push(c),
            (c, _) if c.is_control() => return Err(format!("the line has the control character {c:?}")),
            ('"', Quote::None) => (quote, word) = (Quote::Weak, Some(word.unwrap_or_default())),
            ('\'', Quote::None) => (quote, word) = (Quote::Strong, Some(word.unwrap_or_default())),
            ('"', Quote::Weak) | ('\'', Quote::Strong) => quote = Quote::None,
            ('\\', Quote::None | Quote::Weak) => {
                let plain = word.get_or_insert_default();
                match rest.next() {
                    Some(c @ (' ' | '\\' | '#' | '"' | '\'')) => plain.push(c),
                    Some('$') if quote == Quote::Weak => plain.push('$'),
                    Some('n') => plain.push('\n'),
                    Some('r') => plain.push('\r'),
                    Some('t') => plain.push('\t'),
                    Some('x') => {
                        let digits: String =
                            std::iter::from_fn(|| rest.next_if(char::is_ascii_hexdigit)).take(2).collect();
                        let byte = u8::from_str_radix(&digits, 16).ok().filter(|byte| digits.len() == 2 && *byte > 0);
                        plain.push(byte.ok_or("\\x is not followed by two hexadecimal digits")?.into());
                    }
                    Some(c) => plain.extend(['\\', c]),
                    None => plain.push('\\'),
                }
            }
            ('$', Quote::Weak) => {
                let (name, default) = reference(&mut rest)?;
                match variable(&name).or(default) {
                    Some(value) => word.get_or_insert_default().push_str(&value),
                    None => unset = unset.or(Some(name)),
                }
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Quote::None => {}
        Quote::Weak => return Err("a double quote is not closed in its line".to_owned()),
        Quote::Strong => return Err("a single quote is not closed in its line".to_owned()),
    }
    words.extend(word);
    Ok((words, unset))
}

/// After a `$`: the name of a variable, and what stands for it when it has no value.
fn reference(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(String, Option<String>), String> {
    let in_braces = rest.next_if_eq(&'{').is_some();
    let name: String = std::iter::from_fn(|| rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_')).collect();
    if name.is_empty() {
        return Err("$ in double quotes is not followed by the name of a variable; write \\$ for the sign".to_owned());
    }
    if !in_braces {
        return Ok((name, None));
    }
    let tail: String = std::iter::from_fn(|| rest.next_if(|c| *c != '}')).collect();
    if rest.next().is_none() {
        return Err(format!("${{{name} is not closed by }}"));
    }
    match tail.strip_prefix('-') {
        Some(default) => Ok((name, Some(default.to_owned()))),
        None if tail.is_empty() || tail == "[*]" => Ok((name, None)),
        None => Err(format!("${{{name}{tail}}} is not the name of a variable")),
    }
}

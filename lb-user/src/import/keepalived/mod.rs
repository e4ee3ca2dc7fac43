//! keepalived.conf: text in, a tree of statements out. Knows how a line is written, not what it means.
//!
//! Definitions, conditional lines and includes are followed as keepalived follows them; who reads the included files is the
//! caller. `words` names the keywords, `router`, `script`, `group` and `ipvs` read them.

mod group;
mod ipvs;
mod router;
mod script;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::note::{Note, Notes, Place};
use script::Scripts;

pub(super) use group::Group;
pub(super) use ipvs::VirtualServer;
pub(super) use router::Router;
pub(super) use script::{Track, Tracked};

/// Blocks in blocks; keepalived's own go three deep.
const DEEPEST: usize = 16;
/// Files that include files.
const DEEPEST_INCLUDE: usize = 8;
/// Bytes of a line when its definitions are put in.
const LONGEST_LINE: usize = 16_384;

/// A line, with the block it begins if it begins one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where it stands.
    pub place: Place,
    /// Its words, without quotes.
    pub words: Vec<String>,
    /// What stands between its braces.
    pub block: Option<Vec<Statement>>,
}

impl Statement {
    /// The word at `index`, or nothing.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The words in one line.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    /// What stands in its block.
    pub(super) fn within(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// The statements of one or several files, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Those for this node.
    pub statements: Vec<Statement>,
    /// Lines for other nodes: where, and what they say.
    pub skipped: Vec<(Place, String)>,
    /// By what lines are chosen, and whether one was chosen by it.
    pub id: (String, bool),
}

/// A file that is included: what it is called, and its text.
pub type Included = (String, String);

/// What a configuration says of VRRP.
#[derive(Debug, Default)]
pub(super) struct Vrrp {
    pub(super) routers: Vec<Router>,
    pub(super) groups: Vec<Group>,
    /// Of its own balancer, where that is the only one.
    pub(super) virtual_servers: Vec<VirtualServer>,
}

/// What is beside keepalived's file.
pub(super) struct Around<'a> {
    /// The text of a script's file, where it is known.
    pub(super) content: &'a dyn Fn(&str) -> Option<String>,
    /// Where haproxy listens, first and last ports.
    pub(super) ports: &'a [(u16, u16)],
    /// Whether haproxy's file is there.
    pub(super) balancer: bool,
}

/// Reads the statements.
pub(super) fn read(tree: &Tree, around: &Around<'_>, notes: &mut Notes) -> Vrrp {
    let (id, chosen) = &tree.id;
    for (place, text) in &tree.skipped {
        notes.lost(
            place,
            text,
            format!("it is for other nodes than {id}, by which @ lines are chosen here (--config-id)"),
        );
    }
    if let Some((place, _)) = tree.skipped.iter().find(|(_, text)| !text.starts_with("@^")).filter(|_| !chosen) {
        let what =
            format!("no line is for {id}, and this one is for another: say which lines are to hold by --config-id");
        notes.mistake(place, what);
    }
    let statements = tree.statements.as_slice();
    let mut scripts = Scripts::read(statements, around, notes);
    let mut routers = router::read(statements, &mut scripts, notes);
    let groups = group::read(statements, &mut routers, &mut scripts, notes);
    if !routers.is_empty() {
        scripts.untracked(notes);
    }
    Vrrp { routers, groups, virtual_servers: ipvs::read(statements, around.balancer, notes) }
}

/// Reads a file and what it includes. `L` is given what stands behind `include` and the name of the file it stands in.
#[derive(Debug)]
pub struct Reader<'a, L> {
    /// By which conditional lines are chosen.
    id: &'a str,
    load: L,
    definitions: BTreeMap<String, String>,
    tree: Tree,
    /// Blocks that are open, from the outermost.
    open: Vec<Statement>,
    depth: usize,
    notes: Notes,
}

enum Token {
    Word(String),
    Open,
    Close,
}

impl<'a, L: FnMut(&str, &str) -> Result<Vec<Included>, String>> Reader<'a, L> {
    /// Nothing read yet.
    pub fn new(id: &'a str, load: L) -> Self {
        let tree = Tree { id: (id.to_owned(), false), ..Tree::default() };
        let (definitions, open) = (BTreeMap::new(), Vec::new());
        Self { id, load, definitions, tree, open, depth: 0, notes: Notes::default() }
    }

    /// Reads the text of a file; `file` is what notes call it.
    pub fn read(&mut self, text: &str, file: &str) {
        let name: Arc<str> = file.into();
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            let place = Place { file: name.clone(), line: number + 1 };
            if let Err(what) = self.line(line, &place) {
                self.notes.fault(&place, what);
            }
        }
    }

    /// What was read, and what is broken of it.
    pub(super) fn finish(mut self) -> (Tree, Notes) {
        for block in std::mem::take(&mut self.open) {
            self.notes.fault(&block.place, format!("the block {} {{ is not closed by }}", block.text()));
            self.tree.statements.push(block);
        }
        (self.tree, self.notes)
    }

    fn line(&mut self, line: &str, place: &Place) -> Result<(), String> {
        if let Some(bad) = line.trim_end_matches('\r').chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!("the line has the control character {bad:?}"));
        }
        let line = self.substituted(line.trim())?;
        let mut line = line.as_str();
        if let Some(rest) = line.strip_prefix('@') {
            let (condition, tail) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            let holds = match condition.strip_prefix('^') {
                Some(not) => not != self.id,
                None => condition == self.id,
            };
            line = tail.trim_start();
            if !holds {
                // A password is for nobody's eyes.
                let shown = if line.starts_with("auth_pass") { "auth_pass ..." } else { line };
                self.tree.skipped.push((place.clone(), format!("@{condition} {shown}").trim_end().to_owned()));
                return Ok(());
            }
            self.tree.id.1 |= !condition.starts_with('^');
        }
        if let Some((name, value)) = definition(line) {
            if value.ends_with('\\') {
                return Err(format!(
                    "the definition of ${name} has several lines, which are not read here; put in what it stands for"
                ));
            }
            self.definitions.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        let tokens = tokens(line)?;
        // What was no UTF-8 was read as this sign.
        let is_text = |token: &Token| !matches!(token, Token::Word(word) if word.contains(char::REPLACEMENT_CHARACTER));
        if !tokens.iter().all(is_text) {
            return Err("the line is not UTF-8".to_owned());
        }
        if let [Token::Word(first), ..] = tokens.as_slice()
            && matches!(first.as_str(), "include" | "includer" | "includem" | "includew" | "includeb" | "includea")
        {
            return self.include(&tokens, place);
        }
        let mut words = Vec::new();
        for token in tokens {
            match token {
                Token::Word(word) if word.starts_with("~SEQ(") || word.starts_with("~LST(") => {
                    return Err(format!("{word} is not read here; write out what it makes"));
                }
                Token::Word(word) => words.push(word),
                Token::Open => self.opened(std::mem::take(&mut words), place)?,
                Token::Close => {
                    self.add(std::mem::take(&mut words), place);
                    let block = self.open.pop().ok_or("} closes no block")?;
                    self.siblings().push(block);
                }
            }
        }
        self.add(words, place);
        Ok(())
    }

    fn opened(&mut self, words: Vec<String>, place: &Place) -> Result<(), String> {
        if self.open.len() >= DEEPEST {
            return Err(format!("blocks are more than {DEEPEST} deep"));
        }
        let begun = match words.is_empty() {
            false => Statement { place: place.clone(), words, block: Some(Vec::new()) },
            // The brace may stand in a line of its own.
            true => match self.siblings().pop_if(|last| last.block.is_none()) {
                Some(last) => Statement { block: Some(Vec::new()), ..last },
                None => return Err("{ is without a keyword before it".to_owned()),
            },
        };
        self.open.push(begun);
        Ok(())
    }

    fn add(&mut self, words: Vec<String>, place: &Place) {
        if !words.is_empty() {
            self.siblings().push(Statement { place: place.clone(), words, block: None });
        }
    }

    /// Where the next statement belongs.
    fn siblings(&mut self) -> &mut Vec<Statement> {
        match self.open.last_mut() {
            Some(block) => block.block.get_or_insert_default(),
            None => &mut self.tree.statements,
        }
    }

    fn include(&mut self, tokens: &[Token], place: &Place) -> Result<(), String> {
        let [_, Token::Word(pattern)] = tokens else {
            return Err("include has one file or pattern".to_owned());
        };
        if self.depth >= DEEPEST_INCLUDE {
            return Err(format!(
                "{pattern}: includes are more than {DEEPEST_INCLUDE} deep; does a file include itself?"
            ));
        }
        let files = (self.load)(pattern, &place.file)?;
        self.depth += 1;
        for (name, text) in files {
            self.read(&text, &name);
        }
        self.depth -= 1;
        Ok(())
    }

    /// The line with its definitions put in.
    fn substituted(&self, line: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, tail) = match braced {
                Some(found) => found,
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                    let (name, tail) = after.split_at(end);
                    // Without braces, it ends with white space.
                    if tail.is_empty() || tail.starts_with([' ', '\t']) { (name, tail) } else { ("", after) }
                }
            };
            match self.definitions.get(name) {
                Some(value) => {
                    text.push_str(value);
                    rest = tail;
                }
                None if braced.is_some() && name.starts_with('_') => {
                    return Err(format!("${{{name}}} is set by keepalived as it runs; put in what it stands for"));
                }
                // Left alone: it may be a shell's.
                None => {
                    text.push('$');
                    rest = after;
                }
            }
            if text.len() > LONGEST_LINE {
                return Err(format!("the line has more than {LONGEST_LINE} bytes with what its definitions stand for"));
            }
        }
        text.push_str(rest);
        Ok(text)
    }
}

/// Reads one file that includes nothing.
///
/// # Errors
/// A note for each line that is broken.
pub fn parse(text: &str, file: &str, id: &str) -> Result<Tree, Vec<Note>> {
    let none = |pattern: &str, _: &str| Err(format!("{pattern} is included, and cannot be read here"));
    let mut reader = Reader::new(id, none);
    reader.read(text, file);
    match reader.finish() {
        (tree, notes) if !notes.has_faults() => Ok(tree),
        (_, notes) => Err(notes.into_faults()),
    }
}

/// `$NAME=VALUE`
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(good)).then(|| (name, value.trim()))
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', _) => {
                let escaped = rest.next();
                word.get_or_insert_default().extend(escaped.or(Some('\\')));
            }
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            ('!' | '#', None) => break,
            (' ' | '\t', None) => tokens.extend(word.take().map(Token::Word)),
            ('{' | '}', None) if !word.as_deref().is_some_and(|word| word.contains('$')) => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(if c == '{' { Token::Open } else { Token::Close });
            }
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("a {open} is not closed in its line")),
        None => {
            tokens.extend(word.map(Token::Word));
            Ok(tokens)
        }
    }
}

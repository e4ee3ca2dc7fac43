//! Typed reading of a TOML tree that collects every fault with its position. Knows no key of the configuration:
//! the sections ask for theirs, and what nobody asked for is unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml_edit::{Item, TableLike, Value};

use super::report::{At, Report, Wrong, quote, wrong};

/// A table of the file, or an empty one in its place.
pub(super) struct Section<'t> {
    /// As a header would write it, e.g. `[[vrrp]]`; empty: the file itself.
    pub(super) title: &'static str,
    /// Where it begins.
    pub(super) at: usize,
    pub(super) report: &'t Report<'t>,
    table: Option<&'t dyn TableLike>,
    /// It is something else than a table, which was said: what it lacks is no news.
    mistaken: bool,
    /// Keys asked for, and how an unknown one is corrected to them.
    known: RefCell<BTreeMap<&'static str, String>>,
}

impl<'t> Section<'t> {
    pub(super) fn root(table: &'t dyn TableLike, report: &'t Report<'t>) -> Self {
        Self::new("", 0, Some(table), report)
    }

    fn new(title: &'static str, at: usize, table: Option<&'t dyn TableLike>, report: &'t Report<'t>) -> Self {
        let known = RefCell::default();
        Self { title, at, report, table, mistaken: false, known }
    }

    /// A key with a value; `example` is a value that would do, as TOML.
    pub(super) fn key(&self, name: &'static str, example: &'static str) -> Key<'_, 't> {
        let found = self.find(name, format!("{name:?}"));
        Key { section: self, name, example, item: found.map(|(_, item)| item) }
    }

    /// A table that may stand once.
    pub(super) fn table(&self, name: &'static str, title: &'static str) -> Section<'t> {
        let Some((at, item)) = self.find(name, title.to_owned()) else {
            return Section::new(title, self.at, None, self.report);
        };
        let mut section = Section::new(title, at, item.as_table_like(), self.report);
        if section.table.is_none() {
            let what = format!("{name} is {}", kind(item));
            let remedy = format!("write it once as {title}");
            self.report.add(at, wrong(what, remedy));
            section.mistaken = true;
        }
        section
    }

    /// The same, and whether it stands there.
    pub(super) fn optional_table(&self, name: &'static str, title: &'static str) -> (bool, Section<'t>) {
        (self.table.is_some_and(|table| table.contains_key(name)), self.table(name, title))
    }

    /// Tables that may stand more than once.
    pub(super) fn tables(&self, name: &'static str, title: &'static str) -> Tables<'t> {
        let mut tables = Tables { sections: Vec::new(), whole: true };
        let Some((at, item)) = self.find(name, title.to_owned()) else {
            return tables;
        };
        let mut add = |at, table: Result<&'t dyn TableLike, &str>| match table {
            Ok(table) => {
                let section = Section::new(title, at, Some(table), self.report);
                tables.sections.push(section);
            }
            Err(kind) => {
                let what = format!("{name} is {kind}");
                let remedy = format!("begin each with {title}");
                self.report.add(at, wrong(what, remedy));
                tables.whole = false;
            }
        };
        match item {
            Item::ArrayOfTables(list) => {
                for table in list {
                    add(table.span().map_or(at, |span| span.start), Ok(table));
                }
            }
            Item::Value(Value::Array(list)) => {
                for value in list {
                    let at = value.span().map_or(at, |span| span.start);
                    match value.as_inline_table() {
                        Some(table) => add(at, Ok(table)),
                        None => add(at, Err("a list of other things than tables")),
                    }
                }
            }
            _ => add(at, Err(kind(item))),
        }
        tables
    }

    /// To be called when every key was asked for: the others are faults.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (name, item) in self.table.iter().flat_map(|table| table.iter()) {
            if known.contains_key(name) {
                continue;
            }
            let at = self.position(name, item);
            let name_quoted = quote(name);
            let bare = name_quoted.trim_matches('"');
            let what = match (item, self.title) {
                (Item::ArrayOfTables(_), "") => format!("unknown table [[{bare}]]"),
                (Item::Table(_), "") => format!("unknown table [{bare}]"),
                (Item::Table(_) | Item::ArrayOfTables(_), title) => {
                    format!("unknown table {name_quoted} in {title}")
                }
                (_, "") => format!("unknown key {name_quoted} outside of any table"),
                (_, title) => format!("unknown key {name_quoted} in {title}"),
            };
            let nearest = (known.iter())
                .map(|(key, spelling)| (closeness(name, key), spelling))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let remedy = match nearest {
                Some((closeness, spelling)) if closeness >= 0.8 => {
                    format!("did you mean {spelling}?")
                }
                _ => {
                    let spellings: Vec<_> = known.values().map(String::as_str).collect();
                    format!("known here: {}", spellings.join(", "))
                }
            };
            self.report.add(at, wrong(what, remedy));
        }
    }

    /// The item and where it stands: a value itself, a table its header.
    fn find(&self, name: &'static str, spelling: String) -> Option<(usize, &'t Item)> {
        self.known.borrow_mut().insert(name, spelling);
        let item = self.table?.get(name)?;
        let at = match item.span() {
            Some(span) => span.start,
            None => self.position(name, item),
        };
        Some((at, item))
    }

    /// Where the key stands.
    fn position(&self, name: &str, item: &Item) -> usize {
        let key = self.table.and_then(|table| table.get_key_value(name));
        let span = key.and_then(|(key, _)| key.span()).or_else(|| item.span());
        span.map_or(self.at, |span| span.start)
    }
}

/// Tables under one name: the good ones, and whether these are all.
pub(super) struct Tables<'t> {
    pub(super) sections: Vec<Section<'t>>,
    pub(super) whole: bool,
}

impl Tables<'_> {
    /// Nothing there, and nothing said about it yet.
    pub(super) fn missing(&self) -> bool {
        self.whole && self.sections.is_empty()
    }
}

/// A key of a section, not yet read.
#[derive(Clone, Copy)]
pub(super) struct Key<'s, 't> {
    section: &'s Section<'t>,
    name: &'static str,
    example: &'static str,
    item: Option<&'t Item>,
}

impl<'t> Key<'_, 't> {
    /// Its absence is a fault.
    pub(super) fn required(self) -> Self {
        if self.item.is_none() && !self.section.mistaken {
            let Self { section, name, example, .. } = self;
            let what = format!("{} has no {name}", section.title);
            section.report.add(section.at, wrong(what, format!("add {name} = {example}")));
        }
        self
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }

    /// Where it stands, if it does.
    pub(super) fn given(self) -> Option<usize> {
        self.item.map(|item| self.at(item))
    }

    /// A string that `parse` understands.
    pub(super) fn text<T>(self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Got<T> {
        self.read(|key, item| match item.as_str() {
            Some(text) => key.parsed(text, key.at(item), parse),
            None => key.mistyped(kind(item), key.at(item), format!("write a string such as {}", key.example)),
        })
    }

    /// A whole number.
    pub(super) fn integer<T>(self, range: RangeInclusive<T>) -> Got<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        self.read(|key, item| match item.as_value() {
            Some(value) => key.whole_number(value, &range),
            None => key.mistyped(kind(item), key.at(item), number_wanted(&range)),
        })
    }

    /// A whole number, if it is a good one; faults are for whoever reads it besides.
    pub(super) fn quietly<T: TryFrom<i64> + PartialOrd>(self, range: RangeInclusive<T>) -> Option<At<T>> {
        let item = self.item?;
        let value = T::try_from(item.as_integer()?).ok().filter(|value| range.contains(value))?;
        Some(At { value, at: self.at(item) })
    }

    /// Whether it is this very number, right or wrong.
    pub(super) fn is_integer(self, number: i64) -> bool {
        self.item.and_then(Item::as_integer) == Some(number)
    }

    /// `true` or `false`.
    pub(super) fn flag(self) -> Got<bool> {
        self.read(|key, item| match item.as_bool() {
            Some(value) => Some(value),
            None => key.mistyped(kind(item), key.at(item), "write true or false".into()),
        })
    }

    /// A list of strings, each understood by `parse`.
    pub(super) fn texts<T>(self, parse: impl Fn(&str) -> Result<T, Wrong>) -> List<T> {
        self.list(false, |key, value| key.text_in_list(value, &parse))
    }

    /// A string or a list of strings, each understood by `parse`.
    pub(super) fn text_or_texts<T>(self, parse: impl Fn(&str) -> Result<T, Wrong>) -> List<T> {
        self.list(true, |key, value| key.text_in_list(value, &parse))
    }

    /// A list of whole numbers.
    pub(super) fn integers<T>(self, range: RangeInclusive<T>) -> List<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        self.list(false, |key, value| key.whole_number(value, &range))
    }

    fn read<T>(self, read: impl FnOnce(Self, &'t Item) -> Option<T>) -> Got<T> {
        let Some(item) = self.item else {
            return Got::Absent(self.section.at);
        };
        let at = self.at(item);
        read(self, item).map_or(Got::Bad, |value| Got::Value(At { value, at }))
    }

    fn list<T>(self, or_one: bool, read: impl Fn(Self, &'t Value) -> Option<T>) -> List<T> {
        let mut list =
            List { at: self.item.map_or(self.section.at, |item| self.at(item)), items: Vec::new(), whole: true };
        let mut push = |value: &'t Value| match read(self, value) {
            Some(read) => list.items.push(At { value: read, at: value.span().map_or(list.at, |span| span.start) }),
            None => list.whole = false,
        };
        match self.item {
            None => {}
            Some(Item::Value(Value::Array(values))) => values.iter().for_each(push),
            Some(Item::Value(value)) if or_one => push(value),
            Some(item) => {
                list.whole = false;
                let _: Option<()> =
                    self.mistyped(kind(item), self.at(item), format!("write a list such as {}", self.example));
            }
        }
        list
    }

    fn text_in_list<T>(self, value: &Value, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let at = self.value_at(value);
        match value.as_str() {
            Some(text) => self.parsed(text, at, parse),
            None => self.mistyped(value_kind(value), at, format!("write strings such as {}", self.example)),
        }
    }

    fn whole_number<T>(self, value: &Value, range: &RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let at = self.value_at(value);
        let Some(number) = value.as_integer() else {
            return self.mistyped(value_kind(value), at, number_wanted(range));
        };
        match T::try_from(number) {
            Ok(fitting) if range.contains(&fitting) => Some(fitting),
            _ => self.refuse(at, wrong(number.to_string(), number_wanted(range)), "is "),
        }
    }

    fn parsed<T>(self, text: &str, at: usize, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => self.refuse(at, wrong, ""),
        }
    }

    fn mistyped<T>(self, kind: &str, at: usize, remedy: String) -> Option<T> {
        self.refuse(at, wrong(kind, remedy), "is ")
    }

    fn refuse<T>(self, at: usize, Wrong { what, remedy }: Wrong, verb: &str) -> Option<T> {
        let what = format!("{} {verb}{what}", self.name);
        self.section.report.add(at, wrong(what, remedy));
        None
    }

    fn at(self, item: &Item) -> usize {
        match item.span() {
            Some(span) => span.start,
            None => self.section.position(self.name, item),
        }
    }

    fn value_at(self, value: &Value) -> usize {
        value.span().map_or(self.section.at, |span| span.start)
    }
}

/// What a key gave; a fault was reported for `Bad`.
pub(super) enum Got<T> {
    /// The key is not there; its table begins here.
    Absent(usize),
    Bad,
    Value(At<T>),
}

impl<T> Got<T> {
    /// The value, if there is a good one.
    pub(super) fn value(self) -> Option<At<T>> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent(_) | Self::Bad => None,
        }
    }

    /// `None` only if it is bad.
    pub(super) fn or(self, default: T) -> Option<At<T>> {
        match self {
            Self::Absent(at) => Some(At { value: default, at }),
            Self::Bad => None,
            Self::Value(value) => Some(value),
        }
    }

    /// `None` only if it is bad, `Some(None)` if it is absent.
    pub(super) fn optional(self) -> Option<Option<At<T>>> {
        match self {
            Self::Absent(_) => Some(None),
            Self::Bad => None,
            Self::Value(value) => Some(Some(value)),
        }
    }
}

/// What a list gave: its good elements, and whether these are all.
pub(super) struct List<T> {
    pub(super) at: usize,
    pub(super) items: Vec<At<T>>,
    pub(super) whole: bool,
}

impl<T: Clone> List<T> {
    /// `None` if an element was bad.
    pub(super) fn values(&self) -> Option<Vec<T>> {
        let values = self.items.iter().map(|item| item.value.clone()).collect();
        self.whole.then_some(values)
    }
}

fn number_wanted<T: Display + PartialEq>(range: &RangeInclusive<T>) -> String {
    let (first, last) = (range.start(), range.end());
    match first == last {
        true => format!("write {first}"),
        false => format!("write a whole number from {first} to {last}"),
    }
}

/// 0.0 (nothing in common) to 1.0 (equal).
fn closeness(typed: &str, known: &str) -> f64 {
    if typed.len() > 64 {
        return 0.0;
    }
    strsim::jaro_winkler(&typed.to_lowercase(), known)
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(value) => value_kind(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
    }
}

fn value_kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

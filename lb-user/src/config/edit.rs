//! One backend changed in the text of a configuration; everything else, comments and order too, stays as it is. Pure: whether the
//! result is a good configuration is for the parser to say.

use std::net::SocketAddr;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use super::shown_address;

/// What is changed of one backend of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Its share of new connections.
    Weight(u16),
    /// It is new.
    Add {
        /// Where it listens; port 0: connections keep the port that the client asked for.
        address: SocketAddr,
        /// Written where given.
        weight: Option<u16>,
        /// Written where given.
        max_connections: Option<u32>,
    },
    /// It is taken out of the file.
    Remove,
}

/// Why a text could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is no TOML.
    #[error("the configuration is not TOML any more")]
    Syntax,
    /// It has no such service or backend.
    #[error("the configuration has no backend {0} to change")]
    Missing(String),
    /// The service's backends are written as something else than tables.
    #[error("the backends of {0} are not written as tables")]
    Form(String),
}

/// The text with `edit` done to the backend `name` of the service `service`.
///
/// # Errors
/// When it has no such service, or no such backend to change.
pub fn edited(text: &str, service: &str, name: &str, edit: &Edit) -> Result<String, EditError> {
    // An editor's byte order mark stays where it was.
    let bare = text.strip_prefix('\u{feff}');
    let mut document: DocumentMut = bare.unwrap_or(text).parse().map_err(|_| EditError::Syntax)?;
    let missing = || EditError::Missing(format!("{service}/{name}"));
    let mut kept = None;
    {
        let of = service_of(document.as_table_mut(), service).ok_or_else(missing)?;
        let backends = of.get_mut("backend").ok_or_else(missing)?;
        match (backends, edit) {
            (Item::ArrayOfTables(list), Edit::Add { .. }) => list.push(new_table(name, edit)),
            (Item::Value(Value::Array(list)), Edit::Add { .. }) => push(list, name, edit),
            (Item::ArrayOfTables(list), Edit::Weight(weight)) => {
                set(list.iter_mut().find(|table| is(*table, name)).ok_or_else(missing)?, *weight);
            }
            (Item::Value(Value::Array(list)), Edit::Weight(weight)) => {
                let mut tables = list.iter_mut().filter_map(Value::as_inline_table_mut);
                set_inline(tables.find(|table| is(*table, name)).ok_or_else(missing)?, *weight);
            }
            (Item::ArrayOfTables(list), Edit::Remove) => {
                let index = list.iter().position(|table| is(table, name)).ok_or_else(missing)?;
                kept = remove_table(list, index);
            }
            (Item::Value(Value::Array(list)), Edit::Remove) => {
                let is_it = |value: &Value| value.as_inline_table().is_some_and(|table| is(table, name));
                let index = list.iter().position(is_it).ok_or_else(missing)?;
                remove_inline(list, index);
            }
            _ => return Err(EditError::Form(service.to_owned())),
        }
    }
    if let Some((position, comments)) = kept {
        hand_on(&mut document, position, &comments);
    }
    Ok(match bare {
        Some(_) => format!("\u{feff}{document}"),
        None => document.to_string(),
    })
}

fn service_of<'t>(root: &'t mut Table, name: &str) -> Option<&'t mut dyn TableLike> {
    match root.get_mut("service")? {
        Item::ArrayOfTables(list) => {
            list.iter_mut().find(|table| is(*table, name)).map(|table| table as &mut dyn TableLike)
        }
        Item::Value(Value::Array(list)) => {
            let mut tables = list.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.find(|table| is(*table, name)).map(|table| table as &mut dyn TableLike)
        }
        _ => None,
    }
}

fn is(table: &dyn TableLike, name: &str) -> bool {
    table.get("name").and_then(Item::as_str) == Some(name)
}

/// The keys of a new backend, in the order in which people write them.
fn keys(name: &str, edit: &Edit) -> Vec<(&'static str, Value)> {
    let Edit::Add { address, weight, max_connections } = edit else {
        return Vec::new();
    };
    let mut keys = vec![("name", Value::from(name)), ("address", Value::from(shown_address(*address)))];
    keys.extend(weight.map(|weight| ("weight", Value::from(i64::from(weight)))));
    keys.extend(max_connections.map(|most| ("max_connections", Value::from(i64::from(most)))));
    keys
}

fn new_table(name: &str, edit: &Edit) -> Table {
    let mut table = Table::new();
    for (key, new) in keys(name, edit) {
        table.insert(key, value(new));
    }
    // A table without a position of its own is written behind the one before it in its list.
    table.decor_mut().set_prefix("\n");
    table
}

fn push(list: &mut Array, name: &str, edit: &Edit) {
    let mut table = InlineTable::new();
    for (key, new) in keys(name, edit) {
        table.insert(key, new);
    }
    // One to a line where the others are.
    let prefix = list.iter().last().and_then(|last| last.decor().prefix()?.as_str().map(str::to_owned));
    let indent = prefix.and_then(|prefix| prefix.rfind('\n').map(|at| prefix.get(at..).unwrap_or_default().to_owned()));
    let alone = list.is_empty();
    match indent {
        Some(indent) => {
            if let Some(last) = list.iter_mut().last() {
                // The line break before the closing bracket comes behind the new one.
                last.decor_mut().set_suffix("");
            }
            list.push_formatted(Value::from(table).decorated(indent, ""));
            list.set_trailing_comma(true);
            if !list.trailing().as_str().is_some_and(|trailing| trailing.contains('\n')) {
                list.set_trailing("\n");
            }
        }
        None => list.push_formatted(Value::from(table).decorated(if alone { "" } else { " " }, "")),
    }
}

fn set(table: &mut Table, weight: u16) {
    let new = Value::from(i64::from(weight));
    match table.get_mut("weight").and_then(Item::as_value_mut) {
        Some(old) => replace(old, new),
        None => {
            table.insert("weight", value(new));
        }
    }
}

fn set_inline(table: &mut InlineTable, weight: u16) {
    let new = Value::from(i64::from(weight));
    match table.get_mut("weight") {
        Some(old) => replace(old, new),
        None => {
            table.insert("weight", new);
            table.fmt();
        }
    }
}

/// What stands around the old value, a comment behind it too, stands around the new one.
fn replace(old: &mut Value, mut new: Value) {
    *new.decor_mut() = old.decor().clone();
    *old = new;
}

/// Takes a table out, with the comment right above its header. What stands further above, separated by an empty line, is about
/// more than this table: it is returned with the table's place.
fn remove_table(list: &mut ArrayOfTables, index: usize) -> Option<(isize, String)> {
    let table = list.get(index)?;
    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let end = prefix.rfind("\n\n").map_or(0, |at| at + 1);
    let comments = prefix.get(..end).filter(|text| text.contains('#')).map(str::to_owned);
    let kept = table.position().zip(comments);
    list.remove(index);
    kept
}

fn remove_inline(list: &mut Array, index: usize) {
    let prefix = list.get(index).and_then(|value| value.decor().prefix()).cloned();
    list.remove(index);
    if index == 0
        && let (Some(first), Some(prefix)) = (list.get_mut(0), prefix)
    {
        first.decor_mut().set_prefix(prefix);
    }
}

/// Puts comments in front of the table that now stands at `position` or behind it, else at the end of the file.
fn hand_on(document: &mut DocumentMut, position: isize, comments: &str) {
    let mut next = None;
    tables(document.as_table_mut(), &mut |table| {
        let at = table.position().filter(|at| *at > position);
        next = match (next, at) {
            (Some(next), Some(at)) => Some(std::cmp::min::<isize>(next, at)),
            (next, at) => next.or(at),
        };
    });
    let Some(next) = next else {
        let trailing = document.trailing().as_str().unwrap_or_default();
        let trailing = format!("{comments}{trailing}");
        document.set_trailing(trailing);
        return;
    };
    tables(document.as_table_mut(), &mut |table| {
        if table.position() == Some(next) {
            let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
            let prefix = format!("{comments}{prefix}");
            table.decor_mut().set_prefix(prefix);
        }
    });
}

/// Shows every table with a header to `see`.
fn tables(table: &mut Table, see: &mut impl FnMut(&mut Table)) {
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => {
                see(inner);
                tables(inner, see);
            }
            Item::ArrayOfTables(list) => {
                for inner in list.iter_mut() {
                    see(inner);
                    tables(inner, see);
                }
            }
            Item::None | Item::Value(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    const SHIPPED: &str = include_str!("../../../config/xvip.toml");

    const TABLES: &str = "\
# The pair in the north.
[node]
name = \"lb1\" # one of two
interface = \"eth0\"

[[service]]
name = \"api\"
listen = \"192.0.2.100:8443\"

# All of rack 7.

# The old one.
[[service.backend]]
name = \"a\"
address = \"192.0.2.31:6443\"
weight = 3 # it is slow

[[service.backend]]
name = \"b\"
address = \"192.0.2.32:6443\"

[[service]]
name = \"etcd\"
listen = \"192.0.2.100:2379\"
backend = [
    { name = \"a\", address = \"192.0.2.31:2379\" },
    { name = \"b\", address = \"192.0.2.32:2379\", weight = 2 },
]

[service.health_check]
type = \"tcp\"
# The end.
";

    fn add(address: &str, weight: Option<u16>) -> Edit {
        Edit::Add { address: address.parse().unwrap(), weight, max_connections: None }
    }

    /// The lines that are new, with `+`, and those that are gone, with `-`.
    fn difference(before: &str, after: &str) -> String {
        let (mut old, mut new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
        while !old.is_empty() && old.first() == new.first() {
            old.remove(0);
            new.remove(0);
        }
        while !old.is_empty() && old.last() == new.last() {
            old.pop();
            new.pop();
        }
        let old = old.into_iter().map(|line| format!("-{line}"));
        old.chain(new.into_iter().map(|line| format!("+{line}"))).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn only_what_was_asked_for_changes() {
        for (service, name, edit, expected) in [
            ("api", "a", Edit::Weight(9), "-weight = 3 # it is slow\n+weight = 9 # it is slow"),
            ("api", "b", Edit::Weight(9), "+weight = 9"),
            (
                "etcd",
                "b",
                Edit::Weight(0),
                "-    { name = \"b\", address = \"192.0.2.32:2379\", weight = 2 },\n+    { name = \"b\", address = \"192.0.2.32:2379\", weight = 0 },",
            ),
            (
                "etcd",
                "a",
                Edit::Weight(4),
                "-    { name = \"a\", address = \"192.0.2.31:2379\" },\n+    { name = \"a\", address = \"192.0.2.31:2379\", weight = 4 },",
            ),
            (
                "api",
                "c",
                add("192.0.2.33:6443", Some(2)),
                "+[[service.backend]]\n+name = \"c\"\n+address = \"192.0.2.33:6443\"\n+weight = 2\n+",
            ),
            ("etcd", "c", add("192.0.2.33:2379", None), "+    { name = \"c\", address = \"192.0.2.33:2379\" },"),
            ("etcd", "b", Edit::Remove, "-    { name = \"b\", address = \"192.0.2.32:2379\", weight = 2 },"),
            ("etcd", "a", Edit::Remove, "-    { name = \"a\", address = \"192.0.2.31:2379\" },"),
            ("api", "b", Edit::Remove, "-[[service.backend]]\n-name = \"b\"\n-address = \"192.0.2.32:6443\"\n-"),
            (
                "api",
                "a",
                Edit::Remove,
                "-# The old one.\n-[[service.backend]]\n-name = \"a\"\n-address = \"192.0.2.31:6443\"\n-weight = 3 # it is slow\n-",
            ),
        ] {
            let after = edited(TABLES, service, name, &edit).unwrap();
            assert_eq!(difference(TABLES, &after), expected, "{service} {name} {edit:?}:\n{after}");
            parse(&after, "x", &Env::default()).unwrap_or_else(|faults| panic!("{faults}\n{after}"));
            let marked = edited(&format!("\u{feff}{TABLES}"), service, name, &edit).unwrap();
            assert_eq!(marked, format!("\u{feff}{after}"));
        }
    }

    #[test]
    fn comments_about_more_than_a_backend_outlive_it() {
        let last = "[[service]]\nname = \"api\"\n\n# About all.\n\n# About a.\n[[service.backend]]\nname = \"a\"\n# The end.\n";
        let after = edited(last, "api", "a", &Edit::Remove).unwrap();
        assert_eq!(after, "[[service]]\nname = \"api\"\n\n# About all.\n# The end.\n");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let missing = |what: &str| Err(EditError::Missing(what.to_owned()));
        assert_eq!(edited(TABLES, "api", "c", &Edit::Remove), missing("api/c"));
        assert_eq!(edited(TABLES, "api", "c", &Edit::Weight(1)), missing("api/c"));
        assert_eq!(edited(TABLES, "dns", "a", &add("192.0.2.33:53", None)), missing("dns/a"));
        assert_eq!(edited("a = ", "api", "a", &Edit::Remove), Err(EditError::Syntax));
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["192.0.2.33:1", "192.0.2.33", "[2001:db8::33]:1", "[2001:db8::33]"] {
            assert_eq!(shown_address(crate::config::said::backend_address(text).unwrap()), text);
        }
    }

    #[test]
    fn the_shipped_file_takes_every_change_and_back() {
        let added = edited(SHIPPED, "apiserver", "new", &add("192.0.2.39:6443", Some(7))).unwrap();
        let loaded = parse(&added, "x", &Env { host_name: "lb1".into(), memory: 0 }).unwrap();
        let backends = &loaded.config.services[0].backends;
        assert_eq!(backends.last().map(|backend| (backend.name.as_str(), backend.weight)), Some(("new", 7)));
        let back = edited(&added, "apiserver", "new", &Edit::Remove).unwrap();
        assert_eq!(back, SHIPPED);
    }

    proptest::proptest! {
        /// Whatever is edited, the others stay: what is added and removed again leaves the text as it was.
        #[test]
        fn adding_and_removing_leaves_nothing(count in 1_usize..6, comment in "( ?# [a-z ]{0,9}\n){0,3}", inline: bool) {
            let backend = |n| match inline {
                true => format!("  {{ name = \"m{n}\", address = \"192.0.2.{n}:1\" }},\n"),
                false => format!("\n{comment}[[service.backend]]\nname = \"m{n}\"\naddress = \"192.0.2.{n}:1\"\n"),
            };
            let list: String = (1..=count).map(backend).collect();
            let head = "[[service]]\nname = \"api\"\n";
            let text = if inline { format!("{head}backend = [\n{list}]\n{comment}") } else { format!("{head}{list}{comment}") };
            let added = edited(&text, "api", "new", &add("192.0.2.200:1", None)).unwrap();
            proptest::prop_assert_eq!(edited(&added, "api", "new", &Edit::Remove).unwrap(), text);
        }
    }
}

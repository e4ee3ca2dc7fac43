//! docs/reference/configuration.md: the annotated configuration in another order of words. What it says is compared with the
//! reader: which keys there are, which are required, what is the default, and within which bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::{MADE, is_current};
use crate::config::{Config, Env, parse, spell};

const SHIPPED: &str = include_str!("../../../config/xvip.toml");

const HEAD: &str = "\
# Configuration

One file in TOML, `/etc/xvip/xvip.toml` unless `--config` names another. `xvip check` says what is wrong with it, on any
machine; `xvip reload` applies a change, whole or not at all. [config/xvip.toml](../../config/xvip.toml) is a whole file
with every key, for the first of two balancers.

Durations are strings of whole numbers with a unit: `\"100ms\"`, `\"2s\"`, `\"1h30m\"`. An IPv6 address with a port is written in
brackets: `\"[2001:db8::21]:9910\"`. Unknown keys are faults.
";

/// A file with one of each table, in which every default may be written out.
const WHOLE: &str = r#"
[node]
name = "lb1"
interface = "eth0"
[metrics]
[admin]
[[vrrp]]
name = "k8s"
virtual_router_id = 51
virtual_addresses = ["192.0.2.100/24"]
unicast_peers = ["192.0.2.22"]
[[vrrp.track]]
command = ["/usr/local/bin/check"]
[[vrrp]]
name = "a"
virtual_router_id = 52
virtual_addresses = ["192.0.2.101/24"]
[[vrrp]]
name = "b"
virtual_router_id = 53
virtual_addresses = ["192.0.2.102/24"]
[[vrrp_sync_group]]
name = "both"
members = ["a", "b"]
[sync]
key_file = "/etc/xvip/sync.key"
peers = ["192.0.2.22"]
[flow_log]
path = "/var/log/xvip/flows.log"
[[service]]
name = "apiserver"
listen = "192.0.2.100:8443"
[service.source_limit]
connections_per_second = 100
connections = 1000
[service.health_check]
type = "https"
timeout = "50ms"
[[service.backend]]
name = "master1"
address = "192.0.2.31:6443"
[[service.backend]]
name = "master2"
address = "192.0.2.32:6443"
"#;

/// Tables in the order of the file: header, and the way to the first of them in [`WHOLE`].
const TABLES: [(&str, &[&str]); 12] = [
    ("[node]", &["node"]),
    ("[metrics]", &["metrics"]),
    ("[admin]", &["admin"]),
    ("[[vrrp]]", &["vrrp"]),
    ("[[vrrp.track]]", &["vrrp", "track"]),
    ("[[vrrp_sync_group]]", &["vrrp_sync_group"]),
    ("[sync]", &["sync"]),
    ("[flow_log]", &["flow_log"]),
    ("[[service]]", &["service"]),
    ("[service.source_limit]", &["service", "source_limit"]),
    ("[service.health_check]", &["service", "health_check"]),
    ("[[service.backend]]", &["service", "backend"]),
];

/// A table of the configuration as the annotated file has it.
struct Section {
    header: String,
    text: Vec<String>,
    entries: Vec<Entry>,
}

/// Keys that are described together, mostly one.
struct Entry {
    keys: Vec<(String, Value)>,
    text: Vec<String>,
}

impl Entry {
    /// The text as one line.
    fn words(&self) -> String {
        self.text.join(" ")
    }

    /// What the sentence that begins so goes on with.
    fn sentence(&self, beginning: &str) -> Option<String> {
        let words = self.words();
        let rest = words.split_once(beginning)?.1;
        let mut ends = rest.match_indices(". ").map(|(at, _)| at);
        let end = ends.find(|at| rest[at + 2..].starts_with(char::is_uppercase)).unwrap_or(rest.len());
        Some(rest[..end].trim_end_matches('.').to_owned())
    }

    fn is_required(&self) -> bool {
        self.words().split(". ").any(|sentence| sentence.trim_end_matches('.') == "Required")
    }

    fn default(&self) -> Option<String> {
        self.sentence("Default: ")
    }

    /// The first "X to Y" of two numbers or durations, as it is written.
    fn bounds(&self) -> Option<(String, String)> {
        let words = self.words();
        let is_number = |word: &str| word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
        words.match_indices(" to ").find_map(|(at, to)| {
            let first = words[..at].rsplit(' ').next()?;
            let last = words[at + to.len()..].split(' ').next()?.trim_end_matches(['.', ',', ';', ':']);
            (is_number(first) && is_number(last)).then(|| (first.to_owned(), last.to_owned()))
        })
    }
}

/// `key = value`, commented out or not.
fn assignment(line: &str) -> Option<(String, Value)> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let (key, value) = line.split_once(" = ")?;
    let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_key.then(|| Some((key.to_owned(), value.parse().ok()?)))?
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut at = None;
    let mut said: Vec<String> = Vec::new();
    let mut continues = false;
    for line in SHIPPED.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if TABLES.iter().any(|(header, _)| *header == bare) {
            let known = sections.iter().position(|section| section.header == bare);
            at = Some(known.unwrap_or(sections.len()));
            if known.is_none() {
                sections.push(Section {
                    header: bare.to_owned(),
                    text: std::mem::take(&mut said),
                    entries: Vec::new(),
                });
            }
            said.clear();
            continues = false;
        } else if let (Some((key, value)), Some(at)) = (assignment(line), at) {
            let section = &mut sections[at];
            let is_known = section.entries.iter().any(|entry| entry.keys.iter().any(|(other, _)| *other == key));
            if is_known {
                continues = false;
            } else if continues && said.is_empty() {
                section.entries.last_mut().unwrap().keys.push((key, value));
            } else {
                section.entries.push(Entry { keys: vec![(key, value)], text: std::mem::take(&mut said) });
                continues = true;
            }
            said.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            said.push(text.to_owned());
        } else {
            said.clear();
            continues = false;
        }
    }
    sections
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Integer(_) => "integer",
        Value::Boolean(_) => "boolean",
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_integer) => "list of integers",
        Value::Array(_) => "list of strings",
        other => panic!("{other} is of no kind that the configuration has"),
    }
}

/// Lines of the file as paragraphs and lists of Markdown.
fn paragraphs(lines: &[String]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let (is_item, was_item) = (line.starts_with("- "), at > 0 && lines[at - 1].starts_with("- "));
        if at > 0 && is_item != was_item {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn written() -> String {
    let mut text = format!("{MADE}\n\n{HEAD}");
    for section in sections() {
        text.push_str(&format!("\n## `{}`\n", section.header));
        if !section.text.is_empty() {
            text.push_str(&format!("\n{}", paragraphs(&section.text)));
        }
        let table = section.header.trim_matches(['[', ']']);
        for entry in &section.entries {
            let names: Vec<_> = entry.keys.iter().map(|(key, _)| format!("`{table}.{key}`")).collect();
            let examples = entry.keys.iter().map(|(key, value)| format!("`{key} = {}`", value.to_string().trim()));
            let required = if entry.is_required() { ", required" } else { "" };
            text.push_str(&format!("\n### {}\n\n", names.join(", ")));
            let examples: Vec<_> = examples.collect();
            text.push_str(&format!("*{}{required}*: {}\n", kind(&entry.keys[0].1), examples.join(", ")));
            text.push_str(&format!("\n{}", paragraphs(&entry.text)));
        }
    }
    text
}

/// A duration as the configuration has it.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut millis) = (text, 0);
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let of_unit =
            [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)].iter().find(|(name, _)| *name == unit)?.1;
        millis += digits.parse::<u64>().ok()? * of_unit;
        rest = tail;
    }
    Some(Duration::from_millis(millis))
}

fn table<'d>(document: &'d mut DocumentMut, way: &[&str]) -> &'d mut Table {
    let mut table = document.as_table_mut();
    for step in way {
        table = match table.get_mut(step).unwrap() {
            Item::Table(inner) => inner,
            Item::ArrayOfTables(list) => list.get_mut(0).unwrap(),
            other => panic!("{step} is {}", other.type_name()),
        };
    }
    table
}

fn read(document: &DocumentMut) -> Result<Config, String> {
    let env = Env { host_name: "lb1".into(), memory: 0 };
    parse(&document.to_string(), "xvip.toml", &env).map(|loaded| loaded.config).map_err(|faults| faults.to_string())
}

/// [`WHOLE`] with a key set or removed.
fn with(way: &[&str], key: &str, value: Option<&Value>) -> Result<Config, String> {
    let mut document: DocumentMut = WHOLE.parse().unwrap();
    let table = table(&mut document, way);
    match value {
        Some(value) => drop(table.insert(key, Item::Value(value.clone().decorated(" ", "")))),
        None => drop(table.remove(key)),
    }
    read(&document)
}

fn way(header: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(known, _)| *known == header).unwrap().1
}

/// The keys that the reader knows in a table: it lists them when it meets one that it does not know.
fn known(way: &[&str]) -> BTreeSet<String> {
    let faults = with(way, "qqqqqq", Some(&Value::from(1))).unwrap_err();
    let list =
        faults.lines().find_map(|fault| fault.split_once("known here: ")).unwrap_or_else(|| panic!("{faults}")).1;
    list.split(", ").filter_map(|name| name.strip_prefix('"')?.strip_suffix('"')).map(str::to_owned).collect()
}

#[test]
fn every_key_is_described_and_every_described_key_is_known() {
    let sections = sections();
    let headers: Vec<_> = sections.iter().map(|section| section.header.as_str()).collect();
    for (header, way) in TABLES {
        let section = sections.iter().find(|section| section.header == header);
        let section = section.unwrap_or_else(|| panic!("{header} is not described, only {headers:?}"));
        let described = section.entries.iter().flat_map(|entry| &entry.keys).map(|(key, _)| key.clone());
        assert_eq!(described.collect::<BTreeSet<_>>(), known(way), "described, and known to the reader, in {header}");
        for entry in &section.entries {
            let keys: Vec<_> = entry.keys.iter().map(|(key, _)| key).collect();
            assert!(entry.text.len() + section.text.len() > 0, "{keys:?} in {header} are not described");
        }
    }
    // The tables themselves.
    let faults = read(&format!("{WHOLE}\n[qqqqqq]\n").parse().unwrap()).unwrap_err();
    let list = faults.split_once("known here: ").unwrap().1;
    let above: BTreeSet<_> = list.trim().split(", ").collect();
    let top = TABLES.iter().filter(|(_, way)| way.len() == 1).map(|(header, _)| *header);
    assert_eq!(top.collect::<BTreeSet<_>>(), above);
}

/// What may be written is tried out: the default makes no difference, and what is required cannot be left out.
#[test]
fn defaults_are_as_described() {
    let (mut compared, mut required) = (0, 0);
    for section in sections() {
        let way = way(&section.header);
        for entry in &section.entries {
            let default = entry.default();
            let defaults: Vec<_> = default.iter().flat_map(|text| text.split(" and ")).collect();
            for (at, (key, _)) in entry.keys.iter().enumerate() {
                let place = format!("{key} in {}", section.header);
                let without = with(way, key, None);
                if entry.is_required() {
                    let fault = without.unwrap_err();
                    assert!(fault.contains(&format!("has no {key}")), "{place}: {fault}");
                    required += 1;
                    continue;
                }
                let without = match without {
                    Ok(without) => without,
                    // One of several that exclude each other; see the next test.
                    Err(fault) if section.header == "[[vrrp.track]]" => {
                        assert!(fault.contains("of interface, file and command"), "{place}: {fault}");
                        continue;
                    }
                    Err(fault) => panic!("{place} cannot be left out: {fault}"),
                };
                let written = defaults.get(at).or(defaults.first()).copied().unwrap_or_default();
                let literal = written.split([',', ';']).next().unwrap_or_default().trim_end_matches(" each");
                // The ports of services among them are left out of the default alone.
                let Some(value) = literal.parse::<Value>().ok().filter(|_| key != "source_ports") else { continue };
                let with = with(way, key, Some(&value)).unwrap_or_else(|fault| panic!("{place} = {value}: {fault}"));
                assert_eq!(with, without, "{place} is not {value} by default");
                compared += 1;
            }
        }
    }
    println!("{compared} defaults, {required} required keys");
    assert!(compared >= 30 && required >= 10, "{compared} defaults, {required} required keys");
}

/// A number beyond the bounds is refused, and one at them is taken.
#[test]
fn bounds_are_as_described() {
    let step = Duration::from_millis(10);
    let mut tried = 0;
    for section in sections() {
        let way = way(&section.header);
        for entry in &section.entries {
            let Some((first, last)) = entry.bounds() else { continue };
            for (key, example) in &entry.keys {
                let text = |duration: Duration| Value::from(spell(duration));
                let (good, bad): (Vec<Value>, Vec<Value>) = match (example, first.parse::<i64>(), last.parse::<i64>()) {
                    (Value::Integer(_), Ok(first), Ok(last)) => {
                        (vec![first.into(), last.into()], vec![(first - 1).into(), (last + 1).into()])
                    }
                    (Value::String(_), Err(_), Err(_)) => {
                        let (first, last) = (span(&first).unwrap(), span(&last).unwrap());
                        let below = first.checked_sub(step).map(text);
                        (vec![text(first), text(last)], below.into_iter().chain([text(last + step)]).collect())
                    }
                    _ => continue,
                };
                let place = format!("{key} in {}", section.header);
                for value in good {
                    with(way, key, Some(&value)).unwrap_or_else(|fault| panic!("{place} = {value}: {fault}"));
                }
                for value in bad {
                    assert!(with(way, key, Some(&value)).is_err(), "{place} = {value} is taken");
                }
                tried += 1;
            }
        }
    }
    println!("{tried} bounds");
    assert!(tried >= 20, "{tried} bounds");
}

#[test]
fn the_reference_of_the_configuration_is_current() {
    is_current("configuration.md", &written());
}

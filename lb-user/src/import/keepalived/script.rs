//! `vrrp_script` and what tracks it: commands that keepalived runs to see whether a node is fit for the VIPs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::note::{Notes, Place, nearest};
use super::router::surplus;
use super::{Around, Statement};

/// What a router heeds besides adverts.
#[derive(Debug, Clone)]
pub(in crate::import) struct Track {
    pub(in crate::import) place: Place,
    pub(in crate::import) what: Tracked,
    pub(in crate::import) weight: Option<i16>,
    /// The `vrrp_sync_group` that heeds it, where it is not the router alone.
    pub(in crate::import) group: Option<String>,
    /// What nobody but the administrator knows.
    pub(in crate::import) open: Vec<String>,
}

/// What that looks at.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) enum Tracked {
    Interface(String),
    Command { words: Vec<String>, interval: Duration, timeout: Duration, rise: u32, fall: u32 },
}

/// A weight, and whether keepalived turns it round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) value: Option<i16>,
    pub(super) reverse: bool,
}

impl Weight {
    /// What is to be said above it.
    pub(super) fn open(self) -> Option<String> {
        let value = self.value.filter(|_| self.reverse)?;
        let what = format!(
            "keepalived turns weight {value} round (reverse); here one below zero counts while it is bad, one above while it is good"
        );
        Some(what)
    }
}

/// A `vrrp_script`.
#[derive(Debug, Clone)]
struct Script {
    place: Place,
    name: String,
    /// Where the command stands, the command, and its words.
    command: (Place, String, Vec<String>),
    interval: Duration,
    timeout: Option<Duration>,
    weight: Weight,
    rise: u32,
    fall: u32,
    tracked: bool,
}

/// What a script looks after.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// A program that hands connections on.
    Balancer(&'static str),
    /// A port of haproxy on its node.
    Port(u16),
    /// keepalived itself, which it ends or looks for.
    Keepalived,
    /// The API server of its node.
    Backend,
    /// Anything else.
    Other,
    /// Something that is not known, and why.
    Unknown(String),
}

const NO_PROCESS: &str = "there is no such process here: the datapath is in the kernel, goes on without the agent, and a node whose agent is gone stops claiming its VIPs by itself";
const NO_KEEPALIVED: &str = "it is about keepalived itself, which is not here any more; a command of [[vrrp.track]] ends with another status than 0 when the VIPs are to go";
const CHECKED: &str = "it asks for an API server, which is what [service.health_check] does; a VIP does not move because a backend is not ready";
const BY_PATH: &str =
    "[[vrrp.track]] runs programs by their whole path; write it there as command = [\"/PATH/PROGRAM\", ...]";
const MAY_GUARD: &str = "if it looks after haproxy or another program that goes, remove this [[vrrp.track]], which would take the VIPs from every node";

const BALANCERS: [&str; 4] = ["haproxy", "nginx", "envoy", "traefik"];
/// Programs that end others.
const ENDING: [&str; 5] = ["systemctl", "service", "kill", "killall", "pkill"];
/// Programs that look at ports of their own node.
const LISTING: [&str; 4] = ["ss", "netstat", "lsof", "fuser"];
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];
/// Where the system's own programs are, whose words say what they do.
const SYSTEM: [&str; 4] = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"];

/// The scripts of a configuration.
pub(super) struct Scripts<'a> {
    around: &'a Around<'a>,
    known: Vec<Script>,
    /// Addresses of this node, as they are written.
    here: BTreeSet<String>,
}

impl<'a> Scripts<'a> {
    pub(super) fn read(tree: &[Statement], around: &'a Around<'a>, notes: &mut Notes) -> Self {
        let mut known: Vec<Script> = Vec::new();
        for statement in tree.iter().filter(|statement| statement.word(0) == "vrrp_script") {
            let script = Script::read(statement, notes);
            if let Some(first) = known.iter().find(|other| other.name == script.name) {
                notes.fault(&script.place, format!("vrrp_script {} is already in {}", script.name, first.place));
            }
            known.push(script);
        }
        let lines = tree.iter().filter(|statement| statement.word(0) == "vrrp_instance").flat_map(Statement::within);
        let mut here: BTreeSet<String> = ["localhost", "127.0.0.1", "::1", "0.0.0.0"].map(str::to_owned).into();
        for line in lines {
            let words: Vec<&str> = match line.word(0) {
                "virtual_ipaddress" => line.within().iter().map(|entry| entry.word(0)).collect(),
                "unicast_src_ip" | "mcast_src_ip" => vec![line.word(1)],
                _ => continue,
            };
            let bare = |word: &str| word.split(['/', ',']).next().unwrap_or_default().to_owned();
            here.extend(words.into_iter().map(bare).filter(|word| !word.is_empty()));
        }
        Self { around, known, here }
    }

    /// What becomes of an entry of a `track_script` block.
    pub(super) fn track(&mut self, entry: &Statement, notes: &mut Notes) -> Option<Track> {
        let (place, name) = (&entry.place, entry.word(0));
        let Some(at) = self.known.iter().position(|script| script.name == name) else {
            let near = nearest(name, self.known.iter().map(|script| script.name.as_str()));
            let what = format!("track_script {name} is defined by no vrrp_script: keepalived ignores it{near}");
            notes.mistake(place, what);
            return None;
        };
        self.known.get_mut(at)?.tracked = true;
        let script = self.known.get(at)?;
        let text = script.files().find_map(|path| (self.around.content)(path));
        // A command may go on in the next line.
        let text = text.map(|text| text.replace("\\\n", " "));
        script.judge(text.as_deref(), notes);
        let whole = script.command.2.first().is_some_and(|program| program.starts_with('/'));
        let open = match self.subject(script, text.as_deref()) {
            Subject::Balancer(name) => Err(format!("it asks whether {name} runs, and {NO_PROCESS}")),
            Subject::Port(port) => Err(format!("it asks for port {port}, where haproxy listens, and {NO_PROCESS}")),
            Subject::Keepalived => Err(NO_KEEPALIVED.to_owned()),
            Subject::Backend => Err(CHECKED.to_owned()),
            _ if !whole => Err(BY_PATH.to_owned()),
            Subject::Unknown(why) => Ok(Some(format!("{why}: {MAY_GUARD}"))),
            Subject::Other => Ok(None),
        };
        let open = match open {
            Ok(open) => open,
            Err(why) => {
                notes.lost(&script.place, format!("vrrp_script {name}"), why);
                return None;
            }
        };
        let own = weight_of(entry, notes);
        let weight = if own.value.is_some() { own } else { script.weight };
        Some(Track {
            place: place.clone(),
            what: Tracked::Command {
                words: script.command.2.clone(),
                interval: script.interval,
                timeout: script.timeout.unwrap_or(script.interval),
                rise: script.rise,
                fall: script.fall,
            },
            weight: weight.value,
            group: None,
            open: open.into_iter().chain(weight.open()).collect(),
        })
    }

    /// Notes the scripts that change nothing.
    pub(super) fn untracked(&self, notes: &mut Notes) {
        for script in self.known.iter().filter(|script| !script.tracked) {
            let what = format!("vrrp_script {} is tracked by no vrrp_instance: it changes nothing", script.name);
            notes.mistake(&script.place, what);
        }
    }

    /// What a script looks after; `text` is what is in the file it runs, where that is known.
    fn subject(&self, script: &Script, text: Option<&str>) -> Subject {
        let (_, command, words) = &script.command;
        let within = |word: &str, text: &str| text.to_lowercase().contains(word);
        let has = |word: &str| {
            within(word, &script.name) || within(word, command) || text.is_some_and(|text| within(word, text))
        };
        let lines = || [command.as_str()].into_iter().chain(text.into_iter().flat_map(str::lines));
        let lines = || lines().map(str::trim).filter(|line| !line.starts_with('#'));
        if let Some(name) = BALANCERS.into_iter().find(|name| has(name)) {
            return Subject::Balancer(name);
        }
        if lines().any(names_keepalived) {
            return Subject::Keepalived;
        }
        if ["apiserver", "kube-api", "kube_api", ":6443", "healthz", "readyz", "livez"].into_iter().any(has) {
            return Subject::Backend;
        }
        let asked = |line: &str| self.port(line).map(|port| (port, self.is_here(line)));
        match lines().find_map(asked) {
            Some((port, true)) => return Subject::Port(port),
            Some((port, false)) => return Subject::Unknown(format!("it asks for port {port}, where haproxy listens")),
            None => {}
        }
        let system = |path: &str| SYSTEM.iter().any(|directory| path.starts_with(directory));
        let unread = script.files().find(|path| !system(path)).filter(|_| text.is_none());
        match unread {
            Some(path) if words.first().is_some_and(|program| program.starts_with('/')) => {
                Subject::Unknown(format!("{path} is not here to look into"))
            }
            _ => Subject::Other,
        }
    }

    /// The first number in a line that is a port of haproxy's.
    fn port(&self, line: &str) -> Option<u16> {
        let words = line.split(|c: char| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-'));
        let bound = |port: &u16| self.around.ports.iter().any(|(first, last)| (*first..=*last).contains(port));
        words.filter_map(|word| word.parse().ok()).find(bound)
    }

    /// Whether a line is about this node: it names it, looks at its sockets, or names no address.
    fn is_here(&self, line: &str) -> bool {
        let words =
            || line.split(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']' | '"' | '\'' | '|' | ';' | '('));
        let host = |word: &str| match word.matches(':').count() {
            1 => word.split(':').next().unwrap_or_default().to_owned(),
            _ => word.to_owned(),
        };
        let is_address = |word: &str| host(word).parse::<std::net::IpAddr>().is_ok();
        words().any(|word| self.here.contains(&host(word)) || LISTING.contains(&word))
            || !(line.contains("://") || words().any(is_address))
    }
}

/// Whether a line ends keepalived, as some scripts do when what they guard is gone, or asks for it.
fn names_keepalived(line: &str) -> bool {
    let mut words =
        line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '"' | '\'' | '`' | '$' | '(' | ')'));
    words.by_ref().any(|word| ENDING.contains(&word.rsplit('/').next().unwrap_or_default()))
        && words.any(|word| matches!(word, "keepalived" | "keepalived.service"))
}

impl Script {
    fn read(statement: &Statement, notes: &mut Notes) -> Script {
        let place = &statement.place;
        let mut script = Script {
            place: place.clone(),
            name: statement.word(1).to_owned(),
            command: (place.clone(), String::new(), Vec::new()),
            interval: Duration::from_secs(1),
            timeout: None,
            weight: Weight::default(),
            rise: 1,
            fall: 1,
            tracked: false,
        };
        for line in statement.within() {
            let (place, value) = (&line.place, line.word(1));
            match line.word(0) {
                "script" => script.command = command(line, notes),
                "interval" => match seconds(value) {
                    Some(time) if !time.is_zero() => script.interval = time,
                    _ => notes.fault(place, format!("interval \"{value}\" is not a number of seconds")),
                },
                "timeout" => match seconds(value) {
                    Some(time) => script.timeout = Some(time),
                    None => notes.fault(place, format!("timeout \"{value}\" is not a number of seconds")),
                },
                "weight" => script.weight = weight(&line.words, 1, place, notes),
                "rise" | "fall" => match value.parse() {
                    Ok(count @ 1..) if line.word(0) == "rise" => script.rise = count,
                    Ok(count @ 1..) => script.fall = count,
                    _ => notes.fault(place, format!("{} \"{value}\" is not a number from 1 up", line.word(0))),
                },
                "user" => notes.lost(place, line.text(), "commands of [[vrrp.track]] run as the agent's user"),
                "init_fail" => notes.lost(
                    place,
                    "init_fail",
                    "a command is bad until it has ended well, and its first end counts at once",
                ),
                other => {
                    let known = ["script", "interval", "timeout", "weight", "rise", "fall", "user", "init_fail"];
                    let near = nearest(other, known);
                    notes.fault(place, format!("\"{other}\" is no keyword of vrrp_script{near}"));
                }
            }
            if matches!(line.word(0), "interval" | "timeout" | "rise" | "fall") {
                surplus(line, 2, notes);
            }
        }
        if script.name.is_empty() {
            notes.fault(place, "vrrp_script is without a name");
        } else if script.command.1.is_empty() {
            notes.fault(place, format!("vrrp_script {} is without its script", script.name));
        }
        script
    }

    /// The files whose text says what it does: its program, or what a shell runs.
    fn files(&self) -> impl Iterator<Item = &str> {
        let words = &self.command.2;
        let program = words.first().map_or("", String::as_str);
        let is_shell = program.rsplit('/').next().is_some_and(|name| SHELLS.contains(&name));
        words.iter().take(if is_shell { 2 } else { 1 }).map(String::as_str).filter(|word| word.starts_with('/'))
    }

    /// What is wrong with how it looks.
    fn judge(&self, text: Option<&str>, notes: &mut Notes) {
        let (place, command, _) = &self.command;
        let source = || [command.as_str()].into_iter().chain(text.into_iter().flat_map(str::lines));
        let any = |found: fn(&str) -> bool| source().map(str::trim).filter(|line| !line.starts_with('#')).any(found);
        if any(accepts_any_answer) {
            notes.mistake(
                place,
                format!(
                    "{}: curl without --fail takes any answer for a good one, a status of 500 among them",
                    self.name
                ),
            );
        }
        if any(only_looks_for_a_process) {
            notes.mistake(
                place,
                format!("{}: a process that is there may hang all the same, and the VIP stays with it", self.name),
            );
        }
        let notice = self.interval * self.fall;
        if notice >= Duration::from_secs(10) {
            let what = format!(
                "{}: {} s pass before a failure counts ({} times {} s)",
                self.name,
                notice.as_secs(),
                self.fall,
                self.interval.as_secs_f64()
            );
            notes.mistake(&self.place, what);
        }
    }
}

/// What stands behind `script`: one word, which keepalived divides once more, or a block of words.
fn command(line: &Statement, notes: &mut Notes) -> (Place, String, Vec<String>) {
    let place = line.place.clone();
    if line.block.is_some() && line.words.len() == 1 {
        let words: Vec<_> = line.within().iter().flat_map(|line| line.words.iter().cloned()).collect();
        return (place, words.join(" "), words);
    }
    let behind = line.words.get(2..).unwrap_or_default().join(" ");
    if !behind.is_empty() {
        let what = format!("keepalived ignores \"{behind}\" behind the script: it has one word, or is in quotes");
        notes.mistake(&place, what);
    }
    let words = divided(line.word(1)).unwrap_or_else(|what| {
        notes.fault(&place, what);
        Vec::new()
    });
    (place, line.word(1).to_owned(), words)
}

/// A command's words: by blanks, but for those in quotes or behind a backslash; nothing is expanded.
fn divided(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', _) => word.get_or_insert_default().extend(rest.next().or(Some('\\'))),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(open) => Err(format!("a {open} within the script is not closed")),
        None => Ok(words),
    }
}

/// `NAME weight NUMBER [reverse]`
pub(super) fn weight_of(entry: &Statement, notes: &mut Notes) -> Weight {
    match entry.word(1) {
        "weight" => weight(&entry.words, 2, &entry.place, notes),
        "" => Weight::default(),
        _ => {
            surplus(entry, 1, notes);
            Weight::default()
        }
    }
}

/// The number at `index`, which `reverse` may follow; 0, as keepalived has it, is none.
fn weight(words: &[String], index: usize, place: &Place, notes: &mut Notes) -> Weight {
    let value = words.get(index).map_or("", String::as_str);
    let reverse = words.get(index + 1).is_some_and(|word| word == "reverse");
    let behind = words.get(index + 1 + usize::from(reverse)..).unwrap_or_default().join(" ");
    if !behind.is_empty() {
        notes.mistake(place, format!("keepalived ignores \"{behind}\": write it into a line of its own"));
    }
    let value = match value.parse() {
        Ok(0) => None,
        Ok(weight @ -254..=254) => Some(weight),
        _ => {
            notes.fault(place, format!("weight \"{value}\" is not a number from -254 to 254"));
            None
        }
    };
    Weight { value, reverse }
}

/// Seconds with up to six decimals, from 0 to a day.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= 86_400)?;
    let micros: u64 = format!("{part:0<6}").parse().ok()?;
    Some(Duration::from_secs(whole) + Duration::from_micros(micros))
}

/// A curl that exits with 0 whatever the status is.
fn accepts_any_answer(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != "curl" && !word.ends_with("/curl"));
    if words.next().is_none() {
        return false;
    }
    let looks = |word: &str| {
        let short = word.starts_with('-') && !word.starts_with("--") && word.contains('f');
        short || matches!(word, "--fail" | "--fail-with-body" | "-w" | "--write-out") || word.contains("grep")
    };
    !words.any(looks)
}

fn only_looks_for_a_process(line: &str) -> bool {
    ["killall -0", "kill -0", "pidof ", "pgrep ", "ps -C ", "ps aux", "ps -ef"].iter().any(|way| line.contains(way))
}

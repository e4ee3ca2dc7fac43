//! defaults, frontend, backend and listen: what their lines say, those of their defaults included.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::note::{Notes, Place, nearest};
use super::check::Check;
use super::duration::duration;
use super::server::{Bind, Options, Server, binds, server};
use super::{Line, Section, Tree, words};

/// What may come from a defaults section.
#[derive(Debug, Clone, Default)]
pub(in crate::import) struct Settings {
    pub(in crate::import) mode: Mode,
    /// Where, and the algorithm.
    pub(in crate::import) balance: Option<(Place, String)>,
    pub(in crate::import) client: Option<Timed>,
    pub(in crate::import) server: Option<Timed>,
    pub(in crate::import) tunnel: Option<Timed>,
    pub(in crate::import) check_timeout: Option<Timed>,
    pub(in crate::import) maxconn: Option<u32>,
    pub(in crate::import) check: Check,
    pub(in crate::import) servers: Options,
    pub(in crate::import) default_backend: Option<(Place, String)>,
    pub(in crate::import) disabled: bool,
    pub(in crate::import) stats: Stats,
    /// It says how haproxy or its metrics are.
    pub(in crate::import) monitor: bool,
}

/// A time, and where it is said.
#[derive(Debug, Clone)]
pub(in crate::import) struct Timed {
    pub(in crate::import) place: Place,
    pub(in crate::import) value: Duration,
}

/// Of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::import) enum Mode {
    /// Connections as they are.
    #[default]
    Tcp,
    /// Requests.
    Http,
    /// Anything else.
    Other,
}

/// The statistics page.
#[derive(Debug, Clone, Default)]
pub(in crate::import) struct Stats {
    pub(in crate::import) on: bool,
    /// A password is asked for.
    pub(in crate::import) password: Option<Place>,
    /// Servers may be switched there.
    pub(in crate::import) admin: Option<Place>,
}

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Kind {
    Frontend,
    Backend,
    Listen,
}

/// A frontend, a backend or a listen section.
#[derive(Debug, Clone)]
pub(in crate::import) struct Proxy {
    pub(in crate::import) place: Place,
    pub(in crate::import) kind: Kind,
    pub(in crate::import) name: String,
    pub(in crate::import) settings: Settings,
    pub(in crate::import) binds: Vec<Bind>,
    pub(in crate::import) servers: Vec<Server>,
    /// `use_backend`: where, which, whether always.
    pub(in crate::import) routes: Vec<(Place, String, bool)>,
}

/// The proxies of a configuration.
pub(in crate::import) fn read(tree: &Tree, notes: &mut Notes) -> Vec<Proxy> {
    let mut defaults = Settings::default();
    let mut named: BTreeMap<&str, Settings> = BTreeMap::new();
    let mut proxies: Vec<Proxy> = Vec::new();
    for section in &tree.sections {
        let head = &section.head;
        let kind = match head.word(0) {
            "global" => {
                section.lines.iter().for_each(|line| global(line, notes));
                continue;
            }
            "defaults" => {
                let mut settings = parent(head, &named, None, notes);
                settings.check.begin();
                section.lines.iter().for_each(|line| settings.read(line, None, notes));
                if !matches!(head.word(1), "" | "from") {
                    named.insert(head.word(1), settings.clone());
                }
                defaults = settings;
                continue;
            }
            "frontend" => Kind::Frontend,
            "backend" => Kind::Backend,
            "listen" => Kind::Listen,
            other => {
                notes.lost(&head.place, format!("{} and what is in it", head.text()), words::section(other));
                continue;
            }
        };
        let name = head.word(1);
        if name.is_empty() {
            notes.fault(&head.place, format!("{} is without a name", head.word(0)));
        }
        let same = |other: &&Proxy| {
            other.name == name && (other.kind == kind || other.kind == Kind::Listen || kind == Kind::Listen)
        };
        if let Some(first) = proxies.iter().find(same) {
            notes.fault(&head.place, format!("{} \"{name}\" is already in {}", head.word(0), first.place));
        }
        let settings = parent(head, &named, Some(&defaults), notes);
        proxies.push(Proxy::read(section, kind, settings, notes));
    }
    proxies
}

/// The settings that a section begins with.
fn parent(head: &Line, named: &BTreeMap<&str, Settings>, last: Option<&Settings>, notes: &mut Notes) -> Settings {
    let from = head.words.iter().position(|word| word == "from").filter(|at| *at > 0);
    let Some(from) = from.map(|at| head.word(at + 1)) else {
        return last.cloned().unwrap_or_default();
    };
    named.get(from).cloned().unwrap_or_else(|| {
        let near = nearest(from, named.keys().copied());
        notes.fault(&head.place, format!("there is no section \"defaults {from}\" before this one{near}"));
        Settings::default()
    })
}

fn global(line: &Line, notes: &mut Notes) {
    let keyword = line.word(0);
    match words::global(keyword) {
        Some(why) => notes.lost(&line.place, line.text(), why),
        None => {
            let near = nearest(keyword, words::globals());
            notes.fault(&line.place, format!("\"{keyword}\" is no keyword of global{near}"));
        }
    }
}

impl Proxy {
    fn read(section: &Section, kind: Kind, settings: Settings, notes: &mut Notes) -> Proxy {
        let (place, name) = (section.head.place.clone(), section.head.word(1).to_owned());
        let (binds, servers, routes) = (Vec::new(), Vec::new(), Vec::new());
        let mut proxy = Proxy { place, kind, name, settings, binds, servers, routes };
        proxy.settings.check.begin();
        // Haproxy 1.x has the address beside the name.
        if kind != Kind::Backend && !matches!(section.head.word(2), "" | "from") {
            let bind = Line { words: section.head.words.iter().skip(1).cloned().collect(), ..section.head.clone() };
            proxy.bind(&bind, notes);
        }
        for line in &section.lines {
            proxy.line(line, notes);
        }
        proxy
    }

    fn bind(&mut self, line: &Line, notes: &mut Notes) {
        if is_whole(line, notes) {
            self.binds.extend(binds(line, notes));
        }
    }

    fn line(&mut self, line: &Line, notes: &mut Notes) {
        let place = &line.place;
        let (front, back) = (self.kind != Kind::Backend, self.kind != Kind::Frontend);
        match line.word(0) {
            "bind" if front => self.bind(line, notes),
            "server" if back && is_whole(line, notes) => {
                let Some(server) = server(line, &self.settings.servers, notes) else { return };
                if let Some(first) = self.servers.iter().find(|other| other.name == server.name) {
                    notes.fault(place, format!("server \"{}\" is already in {}", server.name, first.place));
                }
                self.servers.push(server);
            }
            "server" if back => {}
            "bind" => notes.fault(place, "bind does not belong in a backend"),
            "server" => notes.fault(place, "server does not belong in a frontend"),
            "dispatch" if back => notes.lost(place, line.text(), "write it as a server with a name"),
            "use_backend" if front => {
                let condition = line.words.get(2..).unwrap_or_default().join(" ");
                let always =
                    ["", "if true", "unless false"].iter().any(|always| condition.eq_ignore_ascii_case(always))
                        && !line.word(1).contains("%[");
                self.routes.push((place.clone(), line.word(1).to_owned(), always));
            }
            "http-request" if line.word(1) == "use-service" && line.word(2) == "prometheus-exporter" => {
                self.settings.monitor = true
            }
            _ => self.settings.read(line, Some(self.kind), notes),
        }
    }
}

/// Whether a line that is of use is text, and every variable in it has a value.
fn is_whole(line: &Line, notes: &mut Notes) -> bool {
    if let Some(name) = &line.unset {
        let what = format!(
            "the variable {name} has no value here; give it the one that haproxy has: {name}=... xvip import ..."
        );
        notes.fault(&line.place, what);
    }
    // What was no UTF-8 was read as this sign.
    let text = !line.words.iter().any(|word| word.contains(char::REPLACEMENT_CHARACTER));
    if !text {
        notes.fault(&line.place, "the line is not UTF-8");
    }
    line.unset.is_none() && text
}

impl Settings {
    /// Reads a line of a section of this kind, `None` being defaults.
    fn read(&mut self, line: &Line, kind: Option<Kind>, notes: &mut Notes) {
        const CARRIED: [&str; 13] = [
            "mode",
            "balance",
            "timeout",
            "clitimeout",
            "srvtimeout",
            "maxconn",
            "default-server",
            "option",
            "http-check",
            "tcp-check",
            "default_backend",
            "disabled",
            "enabled",
        ];
        let place = &line.place;
        let (keyword, value) = (line.word(0), line.word(1));
        if CARRIED.contains(&keyword) && !is_whole(line, notes) {
            return;
        }
        match keyword {
            "mode" => match value {
                "tcp" => self.mode = Mode::Tcp,
                "http" => self.mode = Mode::Http,
                "health" | "log" | "syslog" | "peers" | "cli" | "haterm" | "spop" => self.mode = Mode::Other,
                _ => notes.fault(place, format!("mode \"{value}\" is unknown; use tcp or http")),
            },
            "balance" => self.balance = Some((place.clone(), value.to_owned())),
            "hash-type" => notes.lost(
                place,
                line.text(),
                "balance = \"source\" hashes so that few clients move when backends come and go",
            ),
            "timeout" => self.timeout(value, line.word(2), line, notes),
            "clitimeout" => self.timeout("client", value, line, notes),
            "srvtimeout" => self.timeout("server", value, line, notes),
            "contimeout" => self.timeout("connect", value, line, notes),
            "maxconn" => match value.parse() {
                Ok(count) => self.maxconn = Some(count),
                Err(_) => notes.fault(place, format!("maxconn \"{value}\" is not a number")),
            },
            "default-server" => self.servers.read(line, 1, notes),
            "http-check" | "tcp-check" => self.check.rule(line, notes),
            "option" => self.option(line, notes),
            "stats" => self.stats(line, notes),
            "default_backend" if value.is_empty() => notes.fault(place, "default_backend is without a name"),
            "default_backend" if kind != Some(Kind::Backend) => {
                self.default_backend = Some((place.clone(), value.to_owned()));
            }
            "monitor-uri" if kind != Some(Kind::Backend) => self.monitor = true,
            "disabled" => self.disabled = true,
            "enabled" => self.disabled = false,
            "no" => self.check.no_option(line.word(2)),
            "default" => {}
            "monitor-uri" | "bind" | "server" | "use_backend" | "dispatch" | "default_backend" => {
                notes.fault(place, format!("{keyword} does not belong in this section"));
            }
            _ => match words::proxy(keyword) {
                Some(why) => notes.lost(place, line.text(), why),
                None => {
                    let near = nearest(keyword, words::proxies());
                    notes.fault(place, format!("\"{keyword}\" is no keyword of this section{near}"));
                }
            },
        }
    }

    fn timeout(&mut self, name: &str, value: &str, line: &Line, notes: &mut Notes) {
        let place = &line.place;
        let Some(time) = duration(value) else {
            return notes.fault(place, format!("timeout {name} \"{value}\" is not a time such as 30s or 2000"));
        };
        let timed = Some(Timed { place: place.clone(), value: time });
        let why = match name {
            "client" => return self.client = timed,
            "server" => return self.server = timed,
            "tunnel" => return self.tunnel = timed,
            "check" => return self.check_timeout = timed,
            "connect" => "a backend that leaves a SYN unanswered is passed over when the client sends it again",
            "queue" => "there are no queues: what is beyond max_connections goes to another backend or is refused",
            "client-fin" | "server-fin" => "connections that are half closed have times of their own in the datapath",
            "http-request" | "http-keep-alive" | "tarpit" | "client-hs" => "xvip forwards TCP and looks at no HTTP",
            _ => {
                let known = [
                    "client",
                    "server",
                    "tunnel",
                    "check",
                    "connect",
                    "queue",
                    "client-fin",
                    "server-fin",
                    "http-request",
                    "http-keep-alive",
                    "tarpit",
                ];
                let near = nearest(name, known);
                return notes.fault(place, format!("timeout \"{name}\" is unknown{near}"));
            }
        };
        notes.lost(place, line.text(), why);
    }

    fn option(&mut self, line: &Line, notes: &mut Notes) {
        let name = line.word(1);
        if self.check.option(line, 1, notes) {
            return;
        }
        match words::option(name) {
            Some(why) => notes.lost(&line.place, line.text(), why),
            None => {
                let near = nearest(name, words::options());
                notes.fault(&line.place, format!("option \"{name}\" is unknown{near}"));
            }
        }
    }

    fn stats(&mut self, line: &Line, notes: &mut Notes) {
        let place = &line.place;
        self.stats.on = true;
        match line.word(1) {
            "enable" => {}
            "auth" => {
                self.stats.password = Some(place.clone());
                let user = line.word(2).split(':').next().unwrap_or_default();
                let why = "xvip's status page can only be read, and asks for no password; who reaches it is decided by metrics.listen and the firewall";
                notes.lost(place, format!("stats auth {user}:..."), why);
            }
            "admin" => {
                self.stats.admin = Some(place.clone());
                notes.lost(place, line.text(), "xvip's status page can only be read");
            }
            "" => notes.fault(place, "stats is without a word of what"),
            _ => notes.lost(place, line.text(), "xvip's status page has no such setting"),
        }
    }
}

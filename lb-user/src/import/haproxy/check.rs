//! Health checks: `option httpchk` and its like, `http-check`, `tcp-check`.

use super::super::note::{Notes, Place, nearest};
use super::Line;

/// How servers are asked, as the lines so far say.
#[derive(Debug, Clone, Default)]
pub(in crate::import) struct Check {
    /// What the last of the options says, which is what haproxy does.
    pub(in crate::import) way: Way,
    /// Where it says so.
    pub(in crate::import) place: Option<Place>,
    /// What is asked by HTTP, also where another option came later.
    pub(in crate::import) http: Option<Http>,
    /// What has to be answered.
    pub(in crate::import) expect: Option<Expect>,
    /// That is of the defaults.
    inherited: bool,
    /// The rules connect by TLS.
    pub(in crate::import) tls: bool,
    /// They name a server.
    pub(in crate::import) name: Option<String>,
    /// They connect to a port of their own.
    pub(in crate::import) port: Option<u16>,
}

/// A kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::import) enum Way {
    /// A connection, or a TLS handshake where a server has check-ssl.
    #[default]
    Connect,
    /// `option ssl-hello-chk`
    Hello,
    /// `option httpchk`
    Http,
    /// `option tcp-check`
    Rules,
    /// A protocol that xvip does not speak.
    Other,
}

/// A request.
#[derive(Debug, Clone)]
pub(in crate::import) struct Http {
    pub(in crate::import) place: Place,
    pub(in crate::import) method: String,
    pub(in crate::import) path: String,
    pub(in crate::import) host: Option<String>,
}

/// What is expected of an answer.
#[derive(Debug, Clone)]
pub(in crate::import) struct Expect {
    pub(in crate::import) place: Place,
    /// The statuses that will do; `None`: something else is looked at.
    pub(in crate::import) statuses: Option<Vec<u16>>,
}

impl Check {
    /// A section begins with what its defaults say.
    pub(super) fn begin(&mut self) {
        self.inherited = true;
    }

    /// `option NAME ...`; whether it is one of a check.
    pub(super) fn option(&mut self, line: &Line, at: usize, notes: &mut Notes) -> bool {
        self.way = match line.word(at) {
            "httpchk" => {
                self.http = Some(request(line, at + 1));
                Way::Http
            }
            "ssl-hello-chk" => Way::Hello,
            "tcp-check" => Way::Rules,
            name @ ("ldap-check" | "mysql-check" | "pgsql-check" | "redis-check" | "smtpchk" | "spop-check"
            | "external-check") => {
                notes.lost(&line.place, format!("option {name}"), "a check of xvip is of type tcp, tls, http or https");
                Way::Other
            }
            _ => return false,
        };
        self.place = Some(line.place.clone());
        true
    }

    /// `no option NAME`
    pub(super) fn no_option(&mut self, name: &str) {
        let way = match name {
            "httpchk" => Way::Http,
            "ssl-hello-chk" => Way::Hello,
            "tcp-check" => Way::Rules,
            _ => return,
        };
        if self.way == way {
            *self = Self::default();
        }
    }

    /// `http-check ...` and `tcp-check ...`
    pub(super) fn rule(&mut self, line: &Line, notes: &mut Notes) {
        let place = &line.place;
        let (ruleset, rule) = (line.word(0), line.word(1));
        let why = match rule {
            "expect" if ruleset == "http-check" => return self.expect(line, notes),
            "send" if ruleset == "http-check" => return self.send(line, notes),
            "connect" => return self.connect(line, notes),
            "send" | "send-lf" | "send-binary" | "send-binary-lf" | "expect" => {
                "a check by TCP is the connection alone, one by HTTP a GET and a status"
            }
            "comment" => "it only describes",
            "disable-on-404" => "a backend that answers a status that is not expected takes no new connections",
            "send-state" => "checks say nothing of the balancer",
            _ if rule.starts_with("set-var") || rule.starts_with("unset-var") => "checks have no variables",
            _ => {
                let known = ["expect", "send", "connect", "comment", "disable-on-404", "send-state"];
                let near = nearest(rule, known);
                return notes.fault(place, format!("\"{rule}\" is no rule of {ruleset}{near}"));
            }
        };
        notes.lost(place, format!("{ruleset} {rule}"), why);
    }

    fn send(&mut self, line: &Line, notes: &mut Notes) {
        let place = &line.place;
        let mut http = self.http.take().unwrap_or_else(|| request(line, line.words.len()));
        let mut words = line.words.iter().skip(2).map(String::as_str);
        while let Some(word) = words.next() {
            let value = words.next();
            match (word, value) {
                ("meth", Some(method)) => http.method = method.to_owned(),
                ("uri", Some(path)) => http.path = path.to_owned(),
                ("ver", Some(_)) => {}
                ("hdr", Some(name)) => match words.next() {
                    Some(value) if name.eq_ignore_ascii_case("host") => http.host = Some(value.to_owned()),
                    Some(_) => notes.lost(place, format!("hdr {name}"), "checks send no header but Host"),
                    None => notes.fault(place, format!("hdr {name} is without its value")),
                },
                ("body" | "body-lf" | "uri-lf" | "comment", Some(_)) => {
                    notes.lost(place, word, "checks are a GET without a body, the same each time");
                }
                (_, None) => notes.fault(place, format!("{word} is without its value")),
                _ => notes.fault(place, format!("\"{word}\" is no part of http-check send")),
            }
        }
        self.http = Some(http);
    }

    fn expect(&mut self, line: &Line, notes: &mut Notes) {
        let place = line.place.clone();
        let mut words = line.words.iter().skip(2).map(String::as_str);
        let mut not = false;
        let statuses = loop {
            match words.next() {
                Some("!") => not = true,
                Some(
                    "min-recv" | "comment" | "ok-status" | "error-status" | "tout-status" | "on-success" | "on-error"
                    | "status-code",
                ) => drop(words.next()),
                Some("status") => match words.next().map(statuses) {
                    Some(Some(listed)) if not => {
                        break Some((100..=599).filter(|status| !listed.contains(status)).collect());
                    }
                    Some(Some(listed)) => break Some(listed),
                    _ => return notes.fault(&place, "status is without its numbers, such as 200 or 200-399"),
                },
                Some("rstatus" | "hdr" | "fhdr" | "string" | "rstring" | "string-lf") => break None,
                Some(other) => return notes.fault(&place, format!("\"{other}\" is nothing that http-check expects")),
                None => return notes.fault(&place, "http-check expect says nothing of what it expects"),
            }
        };
        let before = self.expect.take().filter(|_| !self.inherited);
        let (other, kept) = match before {
            // Of two, one that looks at the status.
            Some(before) if statuses.is_none() => (Some(place), before),
            before => (before.map(|before| before.place), Expect { place, statuses }),
        };
        if let Some(other) = other {
            let why = format!("one list of statuses is looked at, that of {}", kept.place);
            notes.lost(&other, "http-check expect", why);
        }
        (self.expect, self.inherited) = (Some(kept), false);
    }

    fn connect(&mut self, line: &Line, notes: &mut Notes) {
        let place = &line.place;
        let mut words = line.words.iter().skip(2).map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "default" | "linger" => {}
                "ssl" => self.tls = true,
                "send-proxy" | "via-socks4" => {
                    notes.lost(place, word, "checks connect to the backend itself, and send no PROXY header")
                }
                "sni" | "port" | "addr" | "alpn" | "proto" | "comment" => {
                    let Some(value) = words.next() else {
                        return notes.fault(place, format!("{word} is without its value"));
                    };
                    match (word, value.parse()) {
                        ("sni", _) => self.name = Some(value.to_owned()),
                        ("port", Ok(port @ 1..)) => self.port = Some(port),
                        _ => notes.lost(place, format!("{word} {value}"), "checks of xvip have no such setting"),
                    }
                }
                _ => return notes.fault(place, format!("\"{word}\" is no part of {} connect", line.word(0))),
            }
        }
    }
}

/// After `option httpchk`: nothing, a path, or a method, a path and a version, which may hide headers.
fn request(line: &Line, from: usize) -> Http {
    let words = line.words.get(from..).unwrap_or_default();
    let (method, path) = match words {
        [] => ("OPTIONS", "/"),
        [path] => ("OPTIONS", path.as_str()),
        [method, path, ..] => (method.as_str(), path.as_str()),
    };
    let rest = words.iter().skip(2).cloned().collect::<Vec<_>>().join(" ");
    let headers = rest.split(['\r', '\n']).filter_map(|line| line.split_once(':'));
    let mut hosts = headers.filter(|(name, _)| name.trim().eq_ignore_ascii_case("host")).map(|(_, value)| value.trim());
    let (place, host) = (line.place.clone(), hosts.next().map(str::to_owned));
    Http { place, method: method.to_owned(), path: path.to_owned(), host }
}

/// `200`, `200-399`, `200,204`
fn statuses(text: &str) -> Option<Vec<u16>> {
    let mut all = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if !(100..=999).contains(&first) || !(first..=999).contains(&last) {
            return None;
        }
        all.extend((first..=last).filter(|status| *status < 600));
    }
    Some(all.into_iter().collect())
}

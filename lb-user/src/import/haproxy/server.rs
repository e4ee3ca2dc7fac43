//! `server`, `default-server` and `bind` lines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::super::note::{Notes, Place, nearest};
use super::Line;
use super::duration::duration;

/// What a `server` line says, or what `default-server` lines before it do.
#[derive(Debug, Clone, Default)]
pub(in crate::import) struct Options {
    pub(in crate::import) check: bool,
    pub(in crate::import) check_ssl: bool,
    /// Where haproxy speaks TLS to it.
    pub(in crate::import) ssl: Option<Place>,
    pub(in crate::import) ca_file: Option<String>,
    /// Whatever certificate it shows will do.
    pub(in crate::import) unverified: bool,
    /// Certificate and key in one file.
    pub(in crate::import) certificate: Option<String>,
    pub(in crate::import) check_name: Option<String>,
    pub(in crate::import) inter: Option<Duration>,
    pub(in crate::import) rise: Option<u32>,
    pub(in crate::import) fall: Option<u32>,
    pub(in crate::import) weight: Option<u16>,
    pub(in crate::import) maxconn: Option<u32>,
    /// Port that is checked.
    pub(in crate::import) port: Option<u16>,
    pub(in crate::import) slow_start: Option<Duration>,
    pub(in crate::import) backup: bool,
    pub(in crate::import) disabled: bool,
    pub(in crate::import) proxy_protocol: Option<Place>,
}

/// A `server`.
#[derive(Debug, Clone)]
pub(in crate::import) struct Server {
    pub(in crate::import) place: Place,
    pub(in crate::import) name: String,
    pub(in crate::import) address: Where,
    /// `None`: that of the client's connection.
    pub(in crate::import) port: Option<u16>,
    pub(in crate::import) options: Options,
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import) enum Where {
    /// An address, 0.0.0.0 or :: among them.
    Ip(IpAddr),
    /// A host name.
    Name(String),
    /// A socket that is no TCP of an address.
    Other(String),
}

/// One address of a `bind`.
#[derive(Debug, Clone)]
pub(in crate::import) struct Bind {
    pub(in crate::import) place: Place,
    pub(in crate::import) address: Where,
    pub(in crate::import) first: u16,
    pub(in crate::import) last: u16,
    /// :: takes IPv4 too.
    pub(in crate::import) both: bool,
    pub(in crate::import) ssl: bool,
    pub(in crate::import) accept_proxy: bool,
}

const TLS: &str = "xvip hands TLS on as it is";
const LEARNS: &str = "xvip learns from the connections themselves who refuses them or leaves them unanswered";
const TEMPO: &str =
    "checks have one interval; a backend that refuses or leaves connections unanswered is checked at once";
const SOCKET: &str = "connections pass in the kernel and keep the options of both ends";
const NAMES: &str = "backends are addresses; names are not asked for";
const AGENT: &str = "xvip asks no agent of haproxy's protocol; weights are in the file";
const STICK: &str = "there are no tables to stick by; balance = \"source\" keeps a client at its backend";
const HTTP: &str = "xvip looks at no HTTP";
const QUEUE: &str = "there are no queues: what is beyond max_connections goes to another backend or is refused";

/// Options without a counterpart: name, words that follow, why.
const LOST: &[(&str, usize, &str)] = &[
    ("addr", 1, "checks ask the backend's own address; health_check.port may differ"),
    ("agent-addr", 1, AGENT),
    ("agent-check", 0, AGENT),
    ("agent-inter", 1, AGENT),
    ("agent-port", 1, AGENT),
    ("agent-send", 1, AGENT),
    ("no-agent-check", 0, AGENT),
    ("allow-0rtt", 0, TLS),
    ("alpn", 1, TLS),
    ("ciphers", 1, TLS),
    ("ciphersuites", 1, TLS),
    ("client-sigalgs", 1, TLS),
    ("curves", 1, TLS),
    ("sigalgs", 1, TLS),
    ("crl-file", 1, TLS),
    ("npn", 1, TLS),
    ("sni", 1, TLS),
    ("ssl-max-ver", 1, TLS),
    ("ssl-min-ver", 1, TLS),
    ("ssl-reuse", 0, TLS),
    ("no-ssl-reuse", 0, TLS),
    ("tls-tickets", 0, TLS),
    ("no-tls-tickets", 0, TLS),
    ("force-sslv3", 0, TLS),
    ("force-tlsv10", 0, TLS),
    ("force-tlsv11", 0, TLS),
    ("force-tlsv12", 0, TLS),
    ("force-tlsv13", 0, TLS),
    ("no-sslv3", 0, TLS),
    ("no-tlsv10", 0, TLS),
    ("no-tlsv11", 0, TLS),
    ("no-tlsv12", 0, TLS),
    ("no-tlsv13", 0, TLS),
    ("no-renegotiate", 0, TLS),
    ("renegotiate", 0, TLS),
    ("no-verifyhost", 0, TLS),
    ("no-sni-auto", 0, TLS),
    ("sni-auto", 0, TLS),
    ("check-sni-auto", 0, TLS),
    ("check-alpn", 1, "checks offer no ALPN"),
    ("check-proto", 1, HTTP),
    ("check-via-socks4", 0, "checks go to the backend itself"),
    ("check-reuse-pool", 0, "each check is a connection of its own"),
    ("socks4", 1, "packets go to the backend itself"),
    ("check-send-proxy", 0, "checks send no PROXY header"),
    ("no-check-send-proxy", 0, "checks send no PROXY header"),
    ("cookie", 1, HTTP),
    ("redir", 1, HTTP),
    ("proto", 1, HTTP),
    ("ws", 1, HTTP),
    ("hash-key", 1, "hash_key is of the service"),
    ("pool-conn-name", 1, HTTP),
    ("pool-low-conn", 1, HTTP),
    ("pool-max-conn", 1, HTTP),
    ("pool-purge-delay", 1, HTTP),
    ("max-reuse", 1, HTTP),
    ("idle-ping", 1, HTTP),
    ("downinter", 1, TEMPO),
    ("fastinter", 1, TEMPO),
    ("error-limit", 1, LEARNS),
    ("observe", 1, LEARNS),
    ("on-error", 1, LEARNS),
    (
        "on-marked-up",
        1,
        "connections of a backend that lives are not ended for another's sake; slow_start lets it begin small",
    ),
    ("track", 1, "each backend is checked by its own service"),
    ("id", 1, "names are enough"),
    ("guid", 1, "names are enough"),
    ("log-proto", 1, "xvip keeps no log of connections"),
    ("log-bufsize", 1, "xvip keeps no log of connections"),
    ("init-addr", 1, NAMES),
    ("resolve-net", 1, NAMES),
    ("resolve-opts", 1, NAMES),
    ("resolve-prefer", 1, NAMES),
    ("resolvers", 1, NAMES),
    ("init-state", 1, "a backend is used when its checks say so"),
    ("maxqueue", 1, QUEUE),
    ("minconn", 1, "max_connections is one limit, whatever the load"),
    ("namespace", 1, "the datapath is at one interface of one namespace"),
    ("shard", 1, "there are no peers' tables"),
    ("non-stick", 0, STICK),
    ("stick", 0, STICK),
    ("proxy-v2-options", 1, "no PROXY header is sent"),
    ("set-proxy-v2-tlv-fmt", 1, "no PROXY header is sent"),
    ("tcp-ut", 1, SOCKET),
    ("tcp-md5sig", 1, SOCKET),
    ("cc", 1, SOCKET),
    ("tfo", 0, SOCKET),
    ("no-tfo", 0, SOCKET),
    ("source", 1, "source addresses towards backends are the VIP and node.source_addresses"),
    ("usesrc", 1, "source addresses towards backends are the VIP and node.source_addresses"),
    ("interface", 1, "routes say which interface"),
    ("strict-maxconn", 0, QUEUE),
    ("quic-cc-algo", 1, HTTP),
];

/// Options that are read: name, words that follow.
const READ: &[(&str, usize)] = &[
    ("check", 0),
    ("no-check", 0),
    ("check-ssl", 0),
    ("no-check-ssl", 0),
    ("ssl", 0),
    ("no-ssl", 0),
    ("verify", 1),
    ("verifyhost", 1),
    ("ca-file", 1),
    ("crt", 1),
    ("check-sni", 1),
    ("inter", 1),
    ("rise", 1),
    ("fall", 1),
    ("weight", 1),
    ("maxconn", 1),
    ("port", 1),
    ("slowstart", 1),
    ("backup", 0),
    ("no-backup", 0),
    ("disabled", 0),
    ("enabled", 0),
    ("send-proxy", 0),
    ("send-proxy-v2", 0),
    ("send-proxy-v2-ssl", 0),
    ("send-proxy-v2-ssl-cn", 0),
    ("no-send-proxy", 0),
    ("no-send-proxy-v2", 0),
    ("no-send-proxy-v2-ssl", 0),
    ("no-send-proxy-v2-ssl-cn", 0),
    ("on-marked-down", 1),
];

impl Options {
    /// Reads what stands from the word at `from` on; what is not said stays.
    pub(super) fn read(&mut self, line: &Line, from: usize, notes: &mut Notes) {
        let place = &line.place;
        let mut words = line.words.get(from..).unwrap_or_default().iter().map(String::as_str);
        while let Some(option) = words.next() {
            let lost = LOST.iter().find(|(name, ..)| *name == option);
            let read = READ.iter().find(|(name, _)| *name == option);
            let Some(follow) = lost.map(|(_, follow, _)| *follow).or(read.map(|(_, follow)| *follow)) else {
                let known = LOST.iter().map(|(name, ..)| *name).chain(READ.iter().map(|(name, _)| *name));
                notes.fault(place, format!("\"{option}\" is no option of a server{}", nearest(option, known)));
                return;
            };
            let value = match follow {
                0 => "",
                _ => match words.next() {
                    Some(value) => value,
                    None => return notes.fault(place, format!("{option} is without its value")),
                },
            };
            match lost {
                Some((.., why)) => notes.lost(place, format!("{option} {value}").trim_end(), why),
                None => self.take(option, value, place, notes),
            }
        }
    }

    fn take(&mut self, option: &str, value: &str, place: &Place, notes: &mut Notes) {
        let mut bad = |wanted: &str| notes.fault(place, format!("{option} \"{value}\" is not {wanted}"));
        match option {
            "check" => self.check = true,
            "no-check" => self.check = false,
            "check-ssl" => self.check_ssl = true,
            "no-check-ssl" => self.check_ssl = false,
            "ssl" => self.ssl = Some(place.clone()),
            "no-ssl" => self.ssl = None,
            "backup" => self.backup = true,
            "no-backup" => self.backup = false,
            "disabled" => self.disabled = true,
            "enabled" => self.disabled = false,
            "verify" if matches!(value, "none" | "required") => self.unverified = value == "none",
            "verify" => bad("none or required"),
            "verifyhost" | "check-sni" => self.check_name = Some(value.to_owned()),
            "ca-file" => self.ca_file = Some(value.to_owned()),
            "crt" => self.certificate = Some(value.to_owned()),
            "inter" => match duration(value) {
                Some(value) if !value.is_zero() => self.inter = Some(value),
                _ => bad("a time such as 2000 or 2s"),
            },
            "slowstart" => match duration(value) {
                Some(value) => self.slow_start = Some(value),
                None => bad("a time such as 30s"),
            },
            "rise" | "fall" => match value.parse() {
                Ok(count @ 1..) if option == "rise" => self.rise = Some(count),
                Ok(count @ 1..) => self.fall = Some(count),
                _ => bad("a number from 1 up"),
            },
            "weight" => match value.parse() {
                Ok(weight @ 0..=256) => self.weight = Some(weight),
                _ => bad("a number from 0 to 256"),
            },
            "maxconn" => match value.parse() {
                Ok(count) => self.maxconn = Some(count),
                Err(_) => bad("a number"),
            },
            "port" => match value.parse() {
                Ok(port @ 1..) => self.port = Some(port),
                _ => bad("a port"),
            },
            "on-marked-down" if value == "shutdown-sessions" => {} // what xvip always does
            "on-marked-down" => bad("shutdown-sessions"),
            _ if option.starts_with("send-proxy") => self.proxy_protocol = Some(place.clone()),
            _ => self.proxy_protocol = None,
        }
    }
}

/// A `server` line.
pub(super) fn server(line: &Line, defaults: &Options, notes: &mut Notes) -> Option<Server> {
    let (name, address) = (line.word(1), line.word(2));
    if address.is_empty() {
        notes.fault(&line.place, "a server has a name and an address: server NAME ADDRESS:PORT");
        return None;
    }
    let (address, port) = match place_of(address) {
        Ok((address, "")) => (address, None),
        Ok((address, port)) if port.starts_with(['+', '-']) => {
            (Where::Other(format!("{} with the client's port {port}", address.text())), None)
        }
        Ok((address, port)) => match port.parse() {
            Ok(port @ 1..) => (address, Some(port)),
            _ => {
                notes.fault(&line.place, format!("\"{port}\" is not a port"));
                return None;
            }
        },
        Err(what) => {
            notes.fault(&line.place, what);
            return None;
        }
    };
    let mut options = defaults.clone();
    options.read(line, 3, notes);
    Some(Server { place: line.place.clone(), name: name.to_owned(), address, port, options })
}

impl Where {
    /// As it may be written.
    pub(in crate::import) fn text(&self) -> String {
        match self {
            Self::Ip(address) => address.to_string(),
            Self::Name(text) | Self::Other(text) => text.clone(),
        }
    }
}

/// Splits `ADDRESS[:PORT]`; the port is empty where there is none.
fn place_of(text: &str) -> Result<(Where, &str), String> {
    if text.starts_with('/')
        || [
            "unix@",
            "abns@",
            "abnsz@",
            "fd@",
            "sockpair@",
            "rhttp@",
            "quic4@",
            "quic6@",
            "udp@",
            "udp4@",
            "udp6@",
            "mptcp@",
        ]
        .iter()
        .any(|kind| text.starts_with(kind))
    {
        return Ok((Where::Other(text.to_owned()), ""));
    }
    let (family, bare) = match text.split_once('@') {
        Some((family @ ("ipv4" | "ipv6" | "tcp" | "tcp4" | "tcp6"), bare)) => (family, bare),
        Some((family, _)) => return Err(format!("\"{family}@\" is not a known family of addresses")),
        None => ("", text),
    };
    let (host, port) = match bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, ""),
        Some((host, rest)) => {
            let port = rest.strip_prefix(':').ok_or_else(|| format!("\"{text}\" has no : after its brackets"))?;
            (host, port)
        }
        // The last colon divides, also in an IPv6 address without brackets.
        None => bare.rsplit_once(':').unwrap_or((bare, "")),
    };
    let address = match host {
        "" | "*" if family.ends_with('6') => Where::Ip(Ipv6Addr::UNSPECIFIED.into()),
        "" | "*" => Where::Ip(Ipv4Addr::UNSPECIFIED.into()),
        host if host.eq_ignore_ascii_case("localhost") => match family.ends_with('6') {
            true => Where::Ip(Ipv6Addr::LOCALHOST.into()),
            false => Where::Ip(Ipv4Addr::LOCALHOST.into()),
        },
        host => match host.parse() {
            Ok(address) => Where::Ip(address),
            Err(_) if host_name(host) => Where::Name(host.to_owned()),
            Err(_) => return Err(format!("\"{host}\" is neither an address nor a host name")),
        },
    };
    Ok((address, port))
}

/// Whether it may be a host's name; what looks like an IPv4 address is none.
fn host_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.len() <= 253 && text.chars().all(good) && text.chars().any(|c| c.is_ascii_alphabetic())
}

/// Options of a `bind`, with the words that follow each, and why they are not carried over; empty: they are read.
const BIND: &[(&str, usize, &str)] = &[
    ("ssl", 0, ""),
    ("accept-proxy", 0, ""),
    ("v4v6", 0, ""),
    ("v6only", 0, ""),
    ("name", 1, ""),
    ("interface", 1, "node.interface is where clients come in"),
    ("transparent", 0, SOCKET),
    ("defer-accept", 0, SOCKET),
    ("tfo", 0, SOCKET),
    ("mss", 1, SOCKET),
    ("tcp-ut", 1, SOCKET),
    ("tcp-md5sig", 1, SOCKET),
    ("cc", 1, SOCKET),
    ("backlog", 1, SOCKET),
    ("maxconn", 1, "limits are of services and backends"),
    ("namespace", 1, "the datapath is at one interface of one namespace"),
    ("accept-netscaler-cip", 1, HTTP),
    ("process", 1, "there are no processes"),
    ("thread", 1, "there are no threads"),
    ("shards", 1, "there are no threads"),
    ("nice", 1, "there are no threads"),
    ("nbconn", 1, "there are no threads"),
    ("id", 1, "names are enough"),
    ("guid-prefix", 1, "names are enough"),
    ("label", 1, "names are enough"),
    ("level", 1, "there is no socket"),
    ("severity-output", 1, "there is no socket"),
    ("expose-fd", 1, "there is no socket"),
    ("mode", 1, "there is no socket"),
    ("user", 1, "there is no socket"),
    ("group", 1, "there is no socket"),
    ("uid", 1, "there is no socket"),
    ("gid", 1, "there is no socket"),
    ("proto", 1, HTTP),
    ("allow-0rtt", 0, TLS),
    ("alpn", 1, TLS),
    ("ca-file", 1, TLS),
    ("ca-ignore-err", 1, TLS),
    ("ca-sign-file", 1, TLS),
    ("ca-sign-pass", 1, TLS),
    ("ca-verify-file", 1, TLS),
    ("ciphers", 1, TLS),
    ("ciphersuites", 1, TLS),
    ("client-sigalgs", 1, TLS),
    ("crl-file", 1, TLS),
    ("crt", 1, TLS),
    ("crt-ignore-err", 1, TLS),
    ("crt-list", 1, TLS),
    ("curves", 1, TLS),
    ("default-crt", 1, TLS),
    ("ecdhe", 1, TLS),
    ("force-sslv3", 0, TLS),
    ("force-tlsv10", 0, TLS),
    ("force-tlsv11", 0, TLS),
    ("force-tlsv12", 0, TLS),
    ("force-tlsv13", 0, TLS),
    ("generate-certificates", 0, TLS),
    ("no-alpn", 0, TLS),
    ("no-ca-names", 0, TLS),
    ("no-sslv3", 0, TLS),
    ("no-strict-sni", 0, TLS),
    ("no-tls-tickets", 0, TLS),
    ("no-tlsv10", 0, TLS),
    ("no-tlsv11", 0, TLS),
    ("no-tlsv12", 0, TLS),
    ("no-tlsv13", 0, TLS),
    ("npn", 1, TLS),
    ("ocsp-update", 1, TLS),
    ("prefer-client-ciphers", 0, TLS),
    ("quic-cc-algo", 1, TLS),
    ("quic-force-retry", 0, TLS),
    ("quic-socket", 1, TLS),
    ("sigalgs", 1, TLS),
    ("ssl-max-ver", 1, TLS),
    ("ssl-min-ver", 1, TLS),
    ("strict-sni", 0, TLS),
    ("tls-ticket-keys", 1, TLS),
    ("tls-tickets", 0, TLS),
    ("verify", 1, TLS),
    ("ktls", 1, TLS),
    ("ech", 1, TLS),
];

/// The addresses of a `bind` line.
pub(super) fn binds(line: &Line, notes: &mut Notes) -> Vec<Bind> {
    let place = &line.place;
    if line.word(1).is_empty() {
        notes.fault(place, "bind is without an address: bind ADDRESS:PORT");
        return Vec::new();
    }
    let (mut ssl, mut accept_proxy, mut both) = (false, false, false);
    let mut words = line.words.get(2..).unwrap_or_default().iter().map(String::as_str);
    while let Some(option) = words.next() {
        let Some((_, follow, why)) = BIND.iter().find(|(name, ..)| *name == option) else {
            let near = nearest(option, BIND.iter().map(|(name, ..)| *name));
            notes.fault(place, format!("\"{option}\" is no option of bind{near}"));
            return Vec::new();
        };
        let value = if *follow == 0 { Some("") } else { words.next() };
        let Some(value) = value else {
            notes.fault(place, format!("{option} is without its value"));
            return Vec::new();
        };
        match option {
            "ssl" => ssl = true,
            "accept-proxy" => accept_proxy = true,
            "v4v6" => both = true,
            "v6only" => both = false,
            "name" => {}
            _ => notes.lost(place, format!("{option} {value}").trim_end(), why),
        }
    }
    let mut binds = Vec::new();
    for text in line.word(1).split(',') {
        match bind(text) {
            Ok((address, first, last)) => {
                binds.push(Bind { place: place.clone(), address, first, last, both, ssl, accept_proxy });
            }
            Err(what) => notes.fault(place, what),
        }
    }
    binds
}

fn bind(text: &str) -> Result<(Where, u16, u16), String> {
    let (address, ports) = place_of(text)?;
    if matches!(address, Where::Other(_)) {
        return Ok((address, 0, 0));
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse(), last.parse()) {
        (Ok(first @ 1..), Ok(last)) if first <= last => Ok((address, first, last)),
        _ if ports.is_empty() => Err(format!("\"{text}\" has no port")),
        _ => Err(format!("\"{ports}\" is not a port or a range of ports")),
    }
}

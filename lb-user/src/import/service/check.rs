//! What haproxy's checks become.

use std::time::Duration;

use super::super::haproxy::{Bind, Proxy, Server, Way};
use super::super::note::{Notes, Place};

/// Most statuses that are written one by one.
const MOST_STATUSES: usize = 16;
/// Most answers that make a difference.
const MOST_COUNT: u32 = 1000;
/// Ports at which a server speaks TLS.
const TLS_PORTS: [u16; 2] = [443, 6443];

/// A `[service.health_check]`.
#[derive(Debug)]
pub(in crate::import) struct Check {
    pub(in crate::import) kind: &'static str,
    pub(in crate::import) port: Option<u16>,
    /// What nobody but the administrator knows of the port.
    pub(in crate::import) open: Option<String>,
    /// Of "http" and "https".
    pub(in crate::import) path: Option<String>,
    pub(in crate::import) host: Option<String>,
    pub(in crate::import) statuses: Vec<u16>,
    pub(in crate::import) interval: Duration,
    pub(in crate::import) timeout: Duration,
    pub(in crate::import) rise: u32,
    pub(in crate::import) fall: u32,
    /// Of "tls" and "https".
    pub(in crate::import) ca_file: Option<String>,
    /// Certificate and key in one file.
    pub(in crate::import) certificate: Option<String>,
    pub(in crate::import) server_name: Option<String>,
    /// What stands above it.
    pub(in crate::import) remarks: Vec<String>,
}

impl Default for Check {
    /// What suits an API server.
    fn default() -> Self {
        Check {
            kind: "https",
            port: None,
            open: None,
            path: Some("/readyz".to_owned()),
            host: None,
            statuses: vec![200],
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            ca_file: None,
            certificate: None,
            server_name: None,
            remarks: Vec::new(),
        }
    }
}

/// The checks of the servers of a service that listens there.
pub(super) fn check(back: &Proxy, servers: &[&Server], binds: &[&Bind], notes: &mut Notes) -> Check {
    let asked = &back.settings.check;
    let first = servers.iter().find(|server| server.options.check).or(servers.first());
    let mut check = Check { remarks: Vec::new(), ..Check::default() };
    check.kind = kind(back, servers, notes);
    if matches!(check.kind, "http" | "https") {
        if check.kind == "https" && asked.way == Way::Http && !wants_tls(back, servers) {
            check.remarks.push("haproxy asks in the clear, and this port speaks TLS.".to_owned());
        }
        request(&mut check, back, notes);
    } else {
        check.path = None;
        if of_api(servers) {
            let remark = "Better: type = \"https\" and path = \"/readyz\", which says whether an API server is ready.";
            check.remarks.push(remark.to_owned());
        }
    }
    check.port = asked.port.or_else(|| first.and_then(|server| server.options.port));
    if check.port.is_none() {
        own_port(&mut check, back, servers, binds);
    }
    if asked.port.is_none() {
        one_way("port", servers, |server| Some(server.options.port), notes);
    }
    if matches!(check.kind, "tls" | "https") {
        if !asked.tls {
            one_way("check-ssl", servers, |server| server.options.check_ssl.then_some(()), notes);
        }
        let ca_file = |server: &Server| server.options.ca_file.clone().filter(|_| !server.options.unverified);
        one_way("ca-file and verify", servers, ca_file, notes);
        one_way("crt", servers, |server| server.options.certificate.clone(), notes);
        verification(&mut check, back, servers, notes);
    }
    times(&mut check, back, servers, notes);
    check
}

/// Where connections keep the client's port, a check needs one of its own.
fn own_port(check: &mut Check, back: &Proxy, servers: &[&Server], binds: &[&Bind]) {
    let keeps = !matches!(binds, [bind] if bind.first == bind.last);
    if !keeps || servers.iter().all(|server| server.port.is_some()) {
        return;
    }
    check.port = servers.iter().find_map(|server| server.port);
    if check.port.is_none() {
        let first = binds.first().map(|bind| (bind.first, bind.last));
        check.port = first.map(|(port, _)| port);
        // haproxy asks there too, where the servers are in the section that listens.
        let asked = !back.binds.is_empty() && servers.iter().any(|server| server.options.check);
        if first.is_some_and(|(first, last)| first != last) && !asked {
            check.open =
                Some("a port at which every backend answers; this is the first that is listened at".to_owned());
        } else {
            check.remarks.push("Connections keep the client's port; this is the first that is listened at.".to_owned());
        }
    }
}

/// Notes servers that are asked in another way than the first of which something is said.
fn one_way<T: PartialEq>(name: &str, servers: &[&Server], of: impl Fn(&Server) -> Option<T>, notes: &mut Notes) {
    let checked = || servers.iter().filter(|server| server.options.check);
    let Some(first) = checked().find(|server| of(server).is_some()) else { return };
    for server in checked().filter(|server| of(server) != of(first)) {
        let why = format!("a service has one way of checking: that of {} is written", first.name);
        notes.lost(&server.place, format!("{name} of server {}", server.name), why);
    }
}

fn wants_tls(back: &Proxy, servers: &[&Server]) -> bool {
    back.settings.check.tls || servers.iter().any(|server| server.options.check_ssl)
}

/// Whether these are API servers, by their port.
fn of_api(servers: &[&Server]) -> bool {
    servers.iter().any(|server| server.port == Some(super::backend::API_PORT))
}

fn kind(back: &Proxy, servers: &[&Server], notes: &mut Notes) -> &'static str {
    let asked = &back.settings.check;
    let tls = wants_tls(back, servers);
    let checked = servers.iter().find(|server| server.options.check);
    let place = asked.place.as_ref().or(checked.map(|server| &server.place));
    let of_api = of_api(servers);
    let mut mistake = |place: Option<&Place>, what: String| {
        if let Some(place) = place {
            notes.mistake(place, what);
        }
    };
    match asked.way {
        Way::Http if tls => "https",
        Way::Http if servers.iter().any(|server| server.port.is_some_and(|port| TLS_PORTS.contains(&port))) => {
            mistake(place, "option httpchk asks in the clear where TLS is spoken (check-ssl is missing): no server passes; carried over as https".to_owned());
            "https"
        }
        Way::Http => "http",
        Way::Hello => match &asked.http {
            Some(http) => {
                let what = format!(
                    "option ssl-hello-chk replaces the option httpchk of {}: {} is never asked, and any answer to a TLS hello \
                     passes, that of an API server that is not ready too; carried over as https, as meant",
                    http.place, http.path
                );
                mistake(place, what);
                "https"
            }
            None => {
                mistake(place, "option ssl-hello-chk takes any answer to a hello of SSL version 3, a refusal too, and says nothing of readiness".to_owned());
                "tls"
            }
        },
        Way::Connect | Way::Rules | Way::Other => {
            if of_api {
                mistake(place, "a check that only connects passes for an API server that answers every request with an error; ask /readyz by https".to_owned());
            }
            if tls { "tls" } else { "tcp" }
        }
    }
}

fn request(check: &mut Check, back: &Proxy, notes: &mut Notes) {
    let asked = &back.settings.check;
    if let Some(http) = &asked.http {
        if http.method != "GET" {
            notes.lost(&http.place, format!("the method {}", http.method), "checks ask by GET");
        }
        match is_path(&http.path) {
            true => check.path = Some(http.path.clone()),
            false => {
                notes.lost(&http.place, format!("the path {}", http.path), "paths begin with /; /readyz is written")
            }
        }
        match &http.host {
            Some(host) if is_host(host) => check.host = Some(host.clone()),
            Some(host) => notes.lost(&http.place, format!("the host {host}"), "it is not the name of a host"),
            None => {}
        }
    }
    let Some(expect) = &asked.expect else {
        check.remarks.push("haproxy takes any status from 200 to 399; API servers say 200.".to_owned());
        return;
    };
    let Some(statuses) = &expect.statuses else {
        let why = "xvip looks at the status alone; 200 is expected";
        return notes.lost(&expect.place, "http-check expect", why);
    };
    if statuses.iter().any(|status| *status >= 400) {
        notes.mistake(&expect.place, "errors (statuses from 400 on) pass this check");
    }
    match statuses.len() {
        1..=MOST_STATUSES => check.statuses.clone_from(statuses),
        count => notes.lost(&expect.place, format!("{count} statuses"), "statuses are written one by one; 200 is"),
    }
}

/// Whether a check can ask for it.
pub(in crate::import) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 1024 && path.chars().all(|c| c.is_ascii_graphic() && c != '#')
}

fn is_host(text: &str) -> bool {
    let name = text
        .rsplit_once(':')
        .filter(|(_, port)| port.parse().is_ok_and(|port: u16| port > 0))
        .map_or(text, |(name, _)| name);
    is_name(name)
}

/// A DNS name.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && rustls_pki_types::DnsName::try_from(text).is_ok()
}

fn verification(check: &mut Check, back: &Proxy, servers: &[&Server], notes: &mut Notes) {
    let file = |of: fn(&Server) -> Option<&String>, notes: &mut Notes| {
        let (server, file) = servers.iter().find_map(|server| Some((server, of(server)?)))?;
        let good =
            file.starts_with('/') && !file.ends_with('/') && !file.chars().any(char::is_control) && file.len() < 4096;
        if !good {
            notes.lost(
                &server.place,
                format!("the file {file}"),
                "paths are whole; write it into [service.health_check] by hand",
            );
        }
        good.then(|| file.clone())
    };
    check.ca_file = file(|server| server.options.ca_file.as_ref().filter(|_| !server.options.unverified), notes);
    check.certificate = file(|server| server.options.certificate.as_ref(), notes);
    let named = servers.iter().find_map(|server| server.options.check_name.as_ref());
    check.server_name = back.settings.check.name.as_ref().or(named).filter(|name| is_name(name)).cloned();
}

fn times(check: &mut Check, back: &Proxy, servers: &[&Server], notes: &mut Notes) {
    let first = servers.iter().find(|server| server.options.check).or(servers.first());
    let Some(first) = first else { return };
    let of = |server: &Server| (server.options.inter, server.options.rise, server.options.fall);
    for server in servers.iter().filter(|server| server.options.check && of(server) != of(first)) {
        let why = format!("a service has one way of checking: that of {} is written", first.name);
        notes.lost(&server.place, format!("inter, rise and fall of server {}", server.name), why);
    }
    let (inter, rise, fall) = of(first);
    let millis = |time: Duration| Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let interval =
        inter.map_or(Duration::from_secs(2), millis).clamp(Duration::from_millis(100), Duration::from_secs(3600));
    if inter.is_some_and(|inter| inter != interval) {
        notes.lost(
            &first.place,
            format!("inter of server {}", first.name),
            format!("an interval is 100ms to 1h, in whole milliseconds: {} ms is written", interval.as_millis()),
        );
    }
    // Half of an interval lets the answers of a slow one be told from those of the next check.
    let usual = Duration::from_secs(1).min(interval / 2);
    let wanted = back.settings.check_timeout.as_ref().filter(|time| !time.value.is_zero());
    check.timeout = match wanted {
        Some(time) if millis(time.value) < interval && time.value.as_millis() > 0 => millis(time.value),
        Some(time) => {
            let what = format!("timeout check {} s", time.value.as_secs_f64());
            notes.lost(
                &time.place,
                what,
                format!("the time for a check is shorter than its interval: {} ms is written", usual.as_millis()),
            );
            millis(usual)
        }
        None => millis(usual),
    };
    check.interval = interval;
    for (name, count) in [("rise", rise), ("fall", fall)] {
        if let Some(count) = count.filter(|count| *count > MOST_COUNT) {
            let why = format!("{MOST_COUNT} is the most, and is what is written");
            notes.lost(&first.place, format!("{name} {count} of server {}", first.name), why);
        }
    }
    check.rise = rise.unwrap_or(2).min(MOST_COUNT);
    check.fall = fall.unwrap_or(3).min(MOST_COUNT);
}

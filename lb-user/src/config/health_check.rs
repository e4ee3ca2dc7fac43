//! The keys of `[service.health_check]`.

use std::num::NonZeroU16;
use std::time::Duration;

use super::reader::{Got, Key, List, Section};
use super::report::{At, wrong};
use super::{CheckKind, HealthCheck, HttpCheck, TlsCheck, values};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Tcp,
    Tls,
    Http,
    Https,
}

impl Type {
    const NAMES: [(&'static str, Self); 4] =
        [("tcp", Self::Tcp), ("tls", Self::Tls), ("http", Self::Http), ("https", Self::Https)];

    fn http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    fn tls(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }
}

/// An absent section is a check by TCP.
pub(super) fn read(section: &Section<'_>) -> Option<HealthCheck> {
    let seconds = Duration::from_secs;
    let kind = section.key("type", r#""https""#);
    let kind = kind.text(|text| values::choice(text, &Type::NAMES, &[])).or(Type::Tcp);
    let interval = Duration::from_millis(100)..=seconds(3600);
    let interval = |text: &str| values::duration_in(text, interval);
    let interval = section.key("interval", r#""2s""#).text(interval);
    let timeout = Duration::from_millis(1)..=seconds(3600);
    let timeout = |text: &str| values::duration_in(text, timeout);
    let timeout = section.key("timeout", r#""1s""#).text(timeout);
    let at = match (&timeout, &interval) {
        (Got::Value(at), _) => at.at,
        (_, Got::Value(at)) => at.at,
        _ => section.at,
    };
    let interval = interval.or(seconds(2));
    let timeout = timeout.or(seconds(1));
    let port = section.key("port", "6443").integer(1..=u16::MAX).optional();
    let rise = section.key("rise", "2").integer(1..=1000_u32).or(2);
    let fall = section.key("fall", "3").integer(1..=1000_u32).or(3);
    let kind = kind.map(|kind| kind.value);
    let http = http(section, kind);
    let tls = tls(section, kind);
    section.finish();

    if let (Some(interval), Some(timeout)) = (&interval, &timeout)
        && interval.value <= timeout.value
    {
        let (timeout, interval) = (values::spell(timeout.value), values::spell(interval.value));
        let what = format!("timeout {timeout:?} is not shorter than interval {interval:?}");
        section.report.add(at, wrong(what, "shorten timeout or lengthen interval"));
    }
    Some(HealthCheck {
        kind: match kind? {
            Type::Tcp => CheckKind::Tcp,
            Type::Tls => CheckKind::Tls(tls?),
            Type::Http => CheckKind::Http(http?),
            Type::Https => CheckKind::Https(http?, tls?),
        },
        port: port?.and_then(|port| NonZeroU16::new(port.value)),
        interval: interval?.value,
        timeout: timeout?.value,
        rise: rise?.value,
        fall: fall?.value,
    })
}

fn http(section: &Section<'_>, kind: Option<Type>) -> Option<HttpCheck> {
    let path = section.key("path", r#""/readyz""#);
    let host = section.key("host", r#""lb.example.net""#);
    let status = section.key("expect_status", "[200]");
    let fits = kind.is_none_or(Type::http);
    refuse_unless(fits, section, r#"use it with type = "http" or "https""#, &[path, host, status]);

    let path = path.text(values::http_path).or("/readyz".into());
    let host = host.text(values::http_host).optional();
    let expect_status = match status.given() {
        None => Some(vec![200]),
        Some(at) => statuses(section, at, &status.integers(100..=599)),
    };
    Some(HttpCheck { path: path?.value, host: host?.map(|host| host.value), expect_status: expect_status? })
}

fn statuses(section: &Section<'_>, at: usize, list: &List<u16>) -> Option<Vec<u16>> {
    if list.whole && list.items.is_empty() {
        let remedy = "write at least one status such as [200]";
        section.report.add(at, wrong("expect_status is empty", remedy));
        return None;
    }
    let mut seen = std::collections::BTreeSet::new();
    for At { value, at } in &list.items {
        if !seen.insert(value) {
            let what = format!("expect_status has {value} twice");
            section.report.add(*at, wrong(what, "list it once"));
        }
    }
    list.values()
}

fn tls(section: &Section<'_>, kind: Option<Type>) -> Option<TlsCheck> {
    let authorities = section.key("ca_file", r#""/etc/xvip/ca.pem""#);
    let certificate = section.key("client_certificate", r#""/etc/xvip/client.pem""#);
    let key = section.key("client_key", r#""/etc/xvip/client.key""#);
    let name = section.key("server_name", r#""lb.example.net""#);
    let fits = kind.is_none_or(Type::tls);
    let keys = [authorities, certificate, key, name];
    refuse_unless(fits, section, r#"use it with type = "tls" or "https""#, &keys);
    for (one, other, missing) in [(certificate, key, "client_key"), (key, certificate, "client_certificate")] {
        if let (Some(at), None) = (one.given(), other.given()) {
            let what = format!("{} is without {missing}", one.name());
            section.report.add(at, wrong(what, "set both or neither"));
        }
    }

    let file = |key: Key<'_, '_>, example: &str| key.text(|text| values::path(text, 4095, example)).optional();
    let authorities = file(authorities, "/etc/xvip/ca.pem");
    let certificate = file(certificate, "/etc/xvip/client.pem");
    let key = file(key, "/etc/xvip/client.key");
    let name = name.text(values::server_name).optional();
    Some(TlsCheck {
        ca_file: authorities?.map(|file| file.value),
        client_certificate: certificate?.zip(key?).map(|(cert, key)| (cert.value, key.value)),
        server_name: name?.map(|name| name.value),
    })
}

fn refuse_unless(fits: bool, section: &Section<'_>, remedy: &str, keys: &[Key<'_, '_>]) {
    if fits {
        return;
    }
    for key in keys {
        if let Some(at) = key.given() {
            let what = format!("{} has no meaning for this type of check", key.name());
            section.report.add(at, wrong(what, format!("remove it or {remedy}")));
        }
    }
}

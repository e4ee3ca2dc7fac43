//! The keys of `[[service]]` and `[[service.backend]]`, and what holds between services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lb_ebpf::abi::MAX_SERVICES;
use lb_proto::family::Family;

use super::listen::{Listen, Taken};
use super::reader::{List, Section};
use super::report::{At, Report, wrong};
use super::vrrp::earlier;
use super::{Backend, Balance, Duty, IpNet, Local, MOST_WEIGHT, Service, ServiceMode, admission, health_check, values};

const MOST_SERVICES: usize = MAX_SERVICES as usize;
const MOST_BACKENDS: usize = 128;

/// A `[[service]]`, with what is compared with others.
pub(super) struct Draft {
    pub(super) name: Option<At<String>>,
    pub(super) listen: List<Listen>,
    /// `None`: bad.
    pub(super) mode: Option<At<ServiceMode>>,
    /// Where the port of its health checks stands, if it has one of its own.
    pub(super) check_port: Option<At<u16>>,
    pub(super) allow: List<IpNet>,
    pub(super) backends: Vec<BackendDraft>,
    pub(super) built: Option<Service>,
}

/// A `[[service.backend]]`, with what is compared with others.
pub(super) struct BackendDraft {
    at: usize,
    name: Option<At<String>>,
    pub(super) address: Option<At<SocketAddr>>,
    weight: Option<At<u16>>,
    built: Option<Backend>,
}

pub(super) fn read_all(root: &Section<'_>) -> Vec<Draft> {
    let tables = root.tables("service", "[[service]]");
    if tables.missing() {
        let remedy = "add one with name, listen and at least one [[service.backend]]";
        root.report.add(root.at, wrong("there is no [[service]]", remedy));
    }
    if let Some(first_too_many) = tables.sections.get(MOST_SERVICES) {
        let what = format!("there are more than {MOST_SERVICES} services");
        root.report.add(first_too_many.at, wrong(what, "remove some"));
    }
    tables.sections.iter().map(read).collect()
}

fn read(section: &Section<'_>) -> Draft {
    let name = section.key("name", r#""apiserver""#).required().text(values::name).value();
    let listen = section.key("listen", r#""192.0.2.100:8443""#);
    let listen_given = listen.required().given();
    let listen = listen.text_or_texts(values::listen);
    let balances = [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Maglev];
    let balances = balances.map(|balance| (balance.label(), balance));
    let balance = |text: &str| values::choice(text, &balances, &[]);
    let balance = section.key("balance", r#""roundrobin""#).text(balance).or(Balance::RoundRobin);
    let hash_key = section.key("hash_key", r#""any words""#).text(values::secret).optional();
    let max_connections = section.key("max_connections", "10000").integer(0..=u32::MAX).or(0);
    let slow_start = Duration::from_secs(1)..=Duration::from_secs(3600);
    let slow_start = |text: &str| values::duration_in(text, slow_start);
    let slow_start = section.key("slow_start", r#""30s""#).text(slow_start).optional();
    let drain = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
    let drain = |text: &str| values::duration_in(text, drain);
    let drain_timeout = section.key("drain_timeout", r#""10m""#).text(drain).optional();
    let modes = [("snat", ServiceMode::Snat), ("dsr", ServiceMode::Dsr)];
    let mode = |text: &str| values::choice(text, &modes, &[]);
    let mode = section.key("mode", r#""snat""#).text(mode).or(ServiceMode::Snat);
    let local = |text: &str| values::choice(text, &[("prefer", Local::Prefer), ("spread", Local::Spread)], &[]);
    let local = section.key("local", r#""prefer""#).text(local).or(Local::Prefer);
    let idle = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
    let idle = |text: &str| values::duration_in(text, idle);
    let idle = section.key("idle_timeout", r#""2h""#).text(idle).or(Duration::from_secs(7200));
    let allow = admission::allow(section, &listen);
    let source_limit = admission::source_limit(section, &listen);
    let check = section.table("health_check", "[service.health_check]");
    let check_port = check.key("port", "6443");
    let (port_given, check_port) = (check_port.given().is_some(), check_port.quietly(1..=u16::MAX));
    let health_check = health_check::read(&check);
    let tables = section.tables("backend", "[[service.backend]]");
    let backends: Vec<_> = tables.sections.iter().map(read_backend).collect();
    section.finish();

    if listen_given.is_some() && listen.whole && listen.items.is_empty() {
        let remedy = r#"write at least one such as ["192.0.2.100:8443"]"#;
        section.report.add(listen.at, wrong("listen is empty", remedy));
    }
    if let (Some(balance), Some(Some(slow_start))) = (&balance, &slow_start)
        && balance.value.is_hashed()
    {
        let what = format!("slow_start is not for balance = \"{}\", whose clients would move", balance.value.label());
        let remedy = "remove it, or choose \"roundrobin\" or \"leastconn\"";
        section.report.add(slow_start.at, wrong(what, remedy));
    }
    if tables.missing() {
        let remedy = "add at least one [[service.backend]] with name and address";
        section.report.add(section.at, wrong("this service has no backends", remedy));
    }
    within(section, &backends);
    if !port_given {
        for address in backends.iter().filter_map(|backend| backend.address.filter(|at| at.value.port() == 0)) {
            let what = format!("address \"{}\" has no port", address.value.ip());
            let remedy = format!(
                "write address:port such as \"{}\", or, to keep the client's, set port in [service.health_check]",
                SocketAddr::new(address.value.ip(), 6443)
            );
            section.report.add(address.at, wrong(what, remedy));
        }
    }
    one_family(section.report, &listen, &backends);
    let build = || {
        Some(Service {
            name: name.clone()?.value,
            listen: listen.values()?,
            local: local?.value,
            balance: balance?.value,
            hash_key: hash_key.clone()?.map(|key| key.value),
            max_connections: max_connections?.value,
            slow_start: slow_start?.map(|time| time.value),
            drain_timeout: drain_timeout?.map(|time| time.value),
            mode: mode.as_ref()?.value,
            idle_timeout: idle?.value,
            health_check: health_check?,
            allow: allow.values()?,
            source_limit: source_limit?,
            backends: backends.iter().map(|b| b.built.clone()).collect::<Option<_>>()?,
        })
    };
    let built = build();
    Draft { name, listen, mode, check_port, allow, backends, built }
}

fn read_backend(section: &Section<'_>) -> BackendDraft {
    let name = section.key("name", r#""master1""#).required().text(values::name).value();
    let address = section.key("address", r#""192.0.2.31:6443""#).required();
    let address = address.text(values::backend_address).value();
    let weight = section.key("weight", "1").integer(0..=MOST_WEIGHT).or(1);
    let max_connections = section.key("max_connections", "1000").integer(0..=u32::MAX).or(0);
    section.finish();
    let build = || {
        Some(Backend {
            name: name.clone()?.value,
            address: address?.value,
            weight: weight?.value,
            max_connections: max_connections?.value,
            duty: Duty::Serving,
        })
    };
    let built = build();
    BackendDraft { at: section.at, name, address, weight, built }
}

/// What a service listens at and its backends are of one family: a packet keeps its family on the way.
fn one_family(report: &Report<'_>, listen: &List<Listen>, backends: &[BackendDraft]) {
    let Some(first) = listen.items.first() else { return };
    let family = Family::of(first.value.address);
    let others = listen.items.iter().map(|listen| {
        (listen.at, listen.value.address, listen.value.to_string(), "listen", "list it in a service of its own")
    });
    let backends = backends.iter().filter_map(|backend| backend.address.as_ref());
    let backends = backends.map(|address| {
        let remedy = "give the backend one of the service's family";
        (address.at, address.value.ip(), address.value.to_string(), "address", remedy)
    });
    for (at, address, shown, key, remedy) in
        others.chain(backends).filter(|(_, address, ..)| Family::of(*address) != family)
    {
        let theirs = Family::of(address);
        let line = report.line(first.at);
        let what = format!("{key} {shown} is {theirs}, the service listens at {family} in line {line}");
        report.add(at, wrong(what, remedy));
    }
}

/// What holds between the backends of one service.
fn within(section: &Section<'_>, backends: &[BackendDraft]) {
    let report = section.report;
    if let Some(first_too_many) = backends.get(MOST_BACKENDS) {
        let what = format!("this service has more than {MOST_BACKENDS} backends");
        report.add(first_too_many.at, wrong(what, "remove some or split the service"));
    }
    let idle = |backend: &BackendDraft| backend.weight.is_some_and(|weight| weight.value == 0);
    if let Some(first) = backends.first()
        && backends.iter().all(idle)
    {
        let at = first.weight.map_or(first.at, |weight| weight.at);
        let remedy = "give at least one a weight from 1 to 256";
        report.add(at, wrong("every backend of this service has weight 0", remedy));
    }
    let mut names = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for backend in backends {
        if let Some(name) = &backend.name
            && let Some(first) = earlier(&mut names, &name.value, name.at)
        {
            let what = format!("name {:?} is taken by the backend in line {}", name.value, report.line(first));
            report.add(name.at, wrong(what, "choose another"));
        }
        if let Some(address) = &backend.address
            && let Some(first) = earlier(&mut addresses, address.value, address.at)
        {
            let line = report.line(first);
            let what = format!("address {} is already a backend of this service in line {line}", address.value);
            report.add(address.at, wrong(what, "remove one of the two"));
        }
    }
}

/// Names and addresses of services are taken once.
pub(super) fn between(services: &[Draft], report: &Report<'_>) {
    let mut names = BTreeMap::new();
    let mut taken = Taken::default();
    for (number, service) in services.iter().enumerate() {
        if let Some(name) = &service.name
            && let Some(first) = earlier(&mut names, &name.value, name.at)
        {
            let what = format!("name {:?} is taken by the [[service]] in line {}", name.value, report.line(first));
            report.add(name.at, wrong(what, "choose another"));
        }
        for listen in &service.listen.items {
            if let Some(first) = taken.take(listen.value, number, listen.at) {
                let what = format!("{} is already listened at in line {}", listen.value, report.line(first));
                report.add(listen.at, wrong(what, "choose another port or address"));
            }
        }
    }
}

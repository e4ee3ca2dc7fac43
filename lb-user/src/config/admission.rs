//! The keys that say who may open connections: `service.allow` and `[service.source_limit]`.

use std::collections::BTreeMap;

use lb_ebpf::abi::MAX_ALLOWED;
use lb_proto::family::Family;

use super::reader::{List, Section};
use super::report::{At, Report, wrong};
use super::service::Draft;
use super::vrrp::earlier;
use super::{IpNet, Listen, Rate, SourceLimit, values};

/// Prefixes of one service at most.
const MOST_PREFIXES: usize = 1024;
/// A burst is at most so many seconds' worth.
const LONGEST_BURST: u32 = 3600;

/// Who may open connections; empty: everyone.
pub(super) fn allow(section: &Section<'_>, listen: &List<Listen>) -> List<IpNet> {
    let key = section.key("allow", r#"["10.0.0.0/8"]"#);
    let given = key.given();
    let allow = key.texts(values::net);
    let report = section.report;
    if given.is_some() && allow.whole && allow.items.is_empty() {
        report.add(allow.at, wrong("allow is empty", "list who may connect or leave it out, which is everyone"));
    }
    if let Some(first_too_many) = allow.items.get(MOST_PREFIXES) {
        let what = format!("allow has more than {MOST_PREFIXES} prefixes");
        report.add(first_too_many.at, wrong(what, "name larger networks"));
    }
    let mut known = BTreeMap::new();
    for net in &allow.items {
        if let Some(first) = earlier(&mut known, net.value, net.at) {
            let what = format!("allow has {} twice, first in line {}", net.value, report.line(first));
            report.add(net.at, wrong(what, "remove one of the two"));
        }
        if let Some(first) = listen.items.first()
            && Family::of(first.value.address) != net.value.family()
        {
            let (theirs, ours, line) = (net.value.family(), Family::of(first.value.address), report.line(first.at));
            let what = format!("allow {} is {theirs}, the service listens at {ours} in line {line}", net.value);
            report.add(net.at, wrong(what, "give prefixes of the service's family"));
        }
    }
    allow
}

/// How many connections a source may open and have. `None`: bad.
pub(super) fn source_limit(section: &Section<'_>, listen: &List<Listen>) -> Option<Option<SourceLimit>> {
    let family = listen.items.first().map_or(Family::V4, |listen| Family::of(listen.value.address));
    let (longest, usual) = if family == Family::V4 { (32, 32) } else { (128, 64) };
    let (given, table) = section.optional_table("source_limit", "[service.source_limit]");
    let connections = table.key("connections", "1000").integer(1..=u32::MAX).optional();
    let rate = table.key("connections_per_second", "100");
    // Without the one the other is the limit.
    let needs_rate = given && matches!(connections, Some(None));
    let rate = if needs_rate { rate.required() } else { rate };
    let rate = rate.integer(1..=1_000_000_u32).optional();
    let burst = table.key("burst", "100").integer(1..=u32::MAX).optional();
    let prefix_length = table.key("prefix_length", "32").integer(1..=longest).or(usual);
    table.finish();
    if !given {
        return Some(None);
    }
    if needs_rate && matches!(rate, Some(None)) {
        return None;
    }
    if let (Some(None), Some(Some(burst))) = (&rate, &burst) {
        let what = "burst is about connections_per_second, which is not given";
        section.report.add(burst.at, wrong(what, "add connections_per_second = 100 or remove burst"));
        return None;
    }
    if let (Some(Some(rate)), Some(Some(burst))) = (&rate, &burst) {
        // The datapath counts them in nanoseconds.
        let most = rate.value.saturating_mul(LONGEST_BURST);
        if burst.value > most {
            let what = format!("burst is {}, more than {} in an hour", burst.value, rate.value);
            section.report.add(burst.at, wrong(what, format!("write {most} or less")));
            return None;
        }
    }
    let burst = burst?.map(|burst| burst.value);
    let rate = rate?.map(|rate| Rate { connections_per_second: rate.value, burst: burst.unwrap_or(rate.value) });
    let connections = connections?.map_or(0, |connections| connections.value);
    Some(Some(SourceLimit { rate, connections, prefix_length: prefix_length?.value }))
}

/// What holds for the lists of all services together.
pub(super) fn between(services: &[Draft], report: &Report<'_>) {
    let prefixes: Vec<&At<IpNet>> = services.iter().flat_map(|service| &service.allow.items).collect();
    if let Some(first_too_many) = prefixes.get(MAX_ALLOWED as usize) {
        let what = format!("allow has more than {MAX_ALLOWED} prefixes in all services together");
        report.add(first_too_many.at, wrong(what, "name larger networks"));
    }
}

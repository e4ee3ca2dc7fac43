//! Services and their backends.

use std::fmt::{self, Display, Write};

use super::View;
use super::table::{Column, Table};
use super::text::{Bytes, Each, Number, Short, State, Text, UNKNOWN};
use crate::http::history::{BackendPace, Latency};
use crate::status::words::{removed, share, since};
use crate::status::{BackendStatus, ServiceStatus};

const COLUMNS: [Column; 14] = [
    ("Backend", false),
    ("State", false),
    ("Since", false),
    ("Weight", true),
    ("Open", true),
    ("Share", true),
    ("New/s", true),
    ("In/s", true),
    ("Out/s", true),
    ("SYN-ACK p50", true),
    ("p99", true),
    ("Check", true),
    ("SYNs moved", true),
    ("Why", false),
];

/// A table for each service.
pub(super) fn services(html: &mut String, view: &View<'_>) -> fmt::Result {
    for service in &view.status.services {
        section(html, view, service)?;
    }
    Ok(())
}

fn section(html: &mut String, view: &View<'_>, service: &ServiceStatus) -> fmt::Result {
    let name = Text(&service.name);
    write!(
        html,
        "<section data-key=\"{name}\" aria-labelledby=\"service-{name}\"><div class=\"title\"><h2 id=\"service-{name}\">{name}</h2>\
         <p class=\"muted\">{}</p>",
        Text(&about(service))
    )?;
    spark(html, view.pace.lately(&service.name))?;
    html.push_str("</div>\n");
    let mut columns = COLUMNS.to_vec();
    if view.rights.is_some() {
        columns.push(("Change", false));
    }
    let all = service.backends.iter().fold(0_u64, |sum, b| sum.saturating_add(b.connections));
    let mut table = Table::open(html, &format!("Backends of {}", service.name), &columns)?;
    for backend in &service.backends {
        row(&mut table, view, service, backend, all)?;
    }
    for left in &service.leaving {
        table.row(
            &format!("{} {}", left.name, left.address),
            "",
            format_args!("{}<small>{}</small>", Text(&left.name), Text(&left.address)),
        )?;
        table.cell(State("draining"))?;
        for _ in 0..2 {
            table.cell(UNKNOWN)?;
        }
        table.cell(Number(left.connections))?;
        for _ in 0..8 {
            table.cell(UNKNOWN)?;
        }
        table.cell(Text(&removed(left, view.now)))?;
        if view.rights.is_some() {
            table.cell("")?;
        }
    }
    if service.backends.len() > 1 {
        table.row("", "sum", "All")?;
        let up = service.backends.iter().filter(|backend| backend.state == "up").count();
        table.cell(format_args!("{up} of {} up", service.backends.len()))?;
        table.cell("")?;
        table.cell("")?;
        table.cell(Number(all))?;
        table.cell("")?;
        rates(&mut table, view.pace.sum(Some(&service.name)))?;
        for _ in 0..5 {
            table.cell("")?;
        }
        if view.rights.is_some() {
            table.cell("")?;
        }
    }
    table.close();
    html.push_str("</section>\n");
    Ok(())
}

fn row(
    table: &mut Table<'_, '_>, view: &View<'_>, service: &ServiceStatus, b: &BackendStatus, all: u64,
) -> fmt::Result {
    let pace = view.pace.of(&service.name, &b.name);
    table.row(&b.name, "", format_args!("{}<small>{}</small>", Text(&b.name), Text(&b.address)))?;
    table.cell(State(&b.state))?;
    table.cell(since(view.now, b.since))?;
    if (b.effective_weight - f64::from(b.weight)).abs() < 0.005 {
        table.cell(b.weight)?;
    } else {
        table.cell(format_args!("{:.1} of {}", b.effective_weight, b.weight))?;
    }
    match b.max_connections {
        0 => table.cell(Number(b.connections))?,
        most => table.cell(format_args!("{}<small>of {}</small>", Number(b.connections), Number(most.into())))?,
    }
    table.cell(share(b.connections, all))?;
    rates(table, pace)?;
    match pace.and_then(|pace| pace.handshakes) {
        Some((median, most)) => {
            table.cell(Took(median))?;
            table.cell(Took(most))?;
        }
        None => {
            table.cell(UNKNOWN)?;
            table.cell(UNKNOWN)?;
        }
    }
    match b.check_seconds {
        Some(seconds) => table.cell(Short(seconds))?,
        None => table.cell(UNKNOWN)?,
    }
    table.cell(Number(b.syns_refused_total.saturating_add(b.syns_unanswered_total)))?;
    table.cell(Text(&b.reason))?;
    if let Some(rights) = &view.rights {
        let mut forms = String::new();
        rights.backend(&mut forms, &service.name, b)?;
        table.cell(forms)?;
    }
    Ok(())
}

fn rates(table: &mut Table<'_, '_>, pace: Option<BackendPace>) -> fmt::Result {
    table.cell(Each(pace.map(|pace| pace.opened)))?;
    table.cell(Bytes(pace.map(|pace| pace.bytes_in)))?;
    table.cell(Bytes(pace.map(|pace| pace.bytes_out)))
}

/// Where and how, in a line.
fn about(service: &ServiceStatus) -> String {
    let mut parts = vec![service.listen.clone(), service.balance.clone(), service.mode.clone()];
    if service.max_connections > 0 {
        parts.push(format!("at most {} connections", Number(service.max_connections.into())));
    }
    if !service.allow.is_empty() {
        parts.push(format!("only from {}", service.allow.join(" ")));
    }
    if !service.source_limit.is_empty() {
        parts.push(service.source_limit.clone());
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

/// How many connections came, as a line of five minutes.
fn spark(html: &mut String, rates: &[f64]) -> fmt::Result {
    const WIDTH: usize = 60;
    let (Some(last), true) = (rates.last(), rates.len() > 1) else {
        return Ok(());
    };
    let most = rates.iter().copied().fold(0.0, f64::max);
    write!(
        html,
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} 20\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"New connections a second: {} now, at most {} in five minutes\"><polyline points=\"",
        Each(Some(*last)),
        Each(Some(most))
    )?;
    let scale = if most > 0.0 { 18.0 / most } else { 0.0 };
    for (index, rate) in rates.iter().enumerate() {
        write!(html, "{},{:.1} ", WIDTH - rates.len() + index + 1, 19.0 - rate * scale)?;
    }
    html.push_str("\"/></svg>");
    Ok(())
}

/// How long handshakes take.
struct Took(Latency);

impl Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Latency::About(seconds) => Short(seconds).fmt(f),
            Latency::Beyond(seconds) => write!(f, "&gt; {}", Short(seconds)),
        }
    }
}

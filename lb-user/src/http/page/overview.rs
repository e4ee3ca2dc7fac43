//! The top of the page: what is wrong, and the figures one looks for first.

use std::fmt::{self, Display, Write};

use super::View;
use super::text::{Bytes, Each, Mood, Number, Text};
use crate::status::words::since;

/// What somebody should know, worst first.
pub(super) fn notes(html: &mut String, view: &View<'_>) -> fmt::Result {
    let View { status, faults, now, .. } = view;
    let mut notes: Vec<(Mood, String)> = Vec::new();
    notes.extend(faults.iter().map(|fault| (Mood::Bad, format!("Not ready: {fault}"))));
    for claim in status.vrrp.iter().flat_map(|router| &router.claims) {
        let ago = since(*now, claim.at);
        notes.push((
            Mood::Bad,
            format!("{} says it has {}: {} times, last {ago} ago.", claim.mac, claim.address, claim.times),
        ));
    }
    for service in &status.services {
        if service.fail_open {
            notes.push((
                Mood::Bad,
                format!("Every backend of {} fails its checks; all are used all the same.", service.name),
            ));
        }
        if !service.remark.is_empty() {
            notes.push((Mood::Middling, format!("{}: {}", service.name, service.remark)));
        }
    }
    if let Some(error) = &status.config.last_error {
        notes.push((Mood::Bad, format!("The last reload was refused: {error}")));
    }
    if !status.local.attached {
        notes
            .push((Mood::Middling, format!("This node's own connections are not translated: {}", status.local.reason)));
    }
    for change in &status.config.changes {
        notes.push((Mood::Middling, format!("Changed by command, until the next reload or start: {change}")));
    }
    if notes.is_empty() {
        return Ok(());
    }
    html.push_str("<ul class=\"notes\">");
    for (mood, note) in notes {
        write!(html, "<li class=\"{}\">{}</li>", mood.class(), Text(&note))?;
    }
    html.push_str("</ul>\n");
    Ok(())
}

/// Figures of the whole node.
pub(super) fn figures(html: &mut String, view: &View<'_>) -> fmt::Result {
    let View { status, pace, faults, .. } = view;
    html.push_str("<dl class=\"figures\">");
    let (ready, mood) = if faults.is_empty() { ("Ready", Mood::Good) } else { ("Not ready", Mood::Bad) };
    figure(html, "This node", mood, ready, &role(view))?;
    if !status.vrrp.is_empty() {
        let routers = status.vrrp.len();
        let active = status.vrrp.iter().filter(|router| router.state == "active").count();
        let mood = if status.vrrp.iter().any(|router| router.state == "fault") { Mood::Bad } else { Mood::Quiet };
        let held = match (active, routers) {
            (0, _) => "Elsewhere".to_owned(),
            (active, routers) if active == routers => "Here".to_owned(),
            (active, routers) => format!("{active} of {routers} here"),
        };
        let mut addresses = status.vrrp.iter().flat_map(|router| &router.virtual_addresses);
        let first = addresses.next().map_or("", |net| net.split('/').next().unwrap_or_default());
        let more = addresses.count();
        let more = if more > 0 { format!("{first} and {more} more") } else { first.to_owned() };
        figure(html, "Virtual IP", mood, &held, &more)?;
    }
    let backends = || status.services.iter().flat_map(|service| &service.backends);
    let up = backends().filter(|backend| backend.state == "up").count();
    let all = backends().count();
    let down = backends().filter(|backend| backend.state == "down").count();
    let mood = if down > 0 { Mood::Bad } else { Mood::Quiet };
    let rest = match (down, all - up - down) {
        (0, 0) => "all up".to_owned(),
        (0, out) => format!("{out} taken out"),
        (down, 0) => format!("{down} down"),
        (down, out) => format!("{down} down, {out} taken out"),
    };
    figure(html, "Backends up", mood, &format!("{up} of {all}"), &rest)?;
    let open = backends().fold(0_u64, |sum, backend| sum.saturating_add(backend.connections));
    let sum = pace.sum(None);
    figure(
        html,
        "Connections",
        Mood::Quiet,
        &Number(open).to_string(),
        &format!("{} new/s", Each(sum.map(|sum| sum.opened))),
    )?;
    let (into, out) = (sum.map(|sum| sum.bytes_in), sum.map(|sum| sum.bytes_out));
    figure(html, "To clients", Mood::Quiet, &format!("{}/s", Bytes(out)), &format!("{}/s from them", Bytes(into)))?;
    let dropped = status.datapath.packets.iter().filter(|row| row.verdict == "drop");
    let dropped = dropped.fold(0_u64, |sum, row| sum.saturating_add(row.packets));
    figure(
        html,
        "Dropped",
        Mood::Quiet,
        &format!("{}/s", Each(pace.drops(None))),
        &format!("{} packets in all", Number(dropped)),
    )?;
    html.push_str("</dl>\n");
    Ok(())
}

fn role(view: &View<'_>) -> String {
    if view.status.role == "backend" {
        return "delivers to its own backends".to_owned();
    }
    let datapath = &view.status.datapath;
    if view.status.attached() {
        format!("{} on {}", datapath.mode, datapath.interface)
    } else {
        "no datapath".to_owned()
    }
}

fn figure(html: &mut String, what: &str, mood: Mood, value: &str, more: &dyn Display) -> fmt::Result {
    let more = more.to_string();
    writeln!(
        html,
        "<div><dt>{what}</dt><dd class=\"{}\">{}</dd><dd class=\"more\">{}</dd></div>",
        mood.class(),
        Text(value),
        Text(&more)
    )
}

//! What becomes of packets, how full the tables are, and what has happened.

use std::fmt::{self, Write};

use super::View;
use super::table::{Column, Table};
use super::text::{Each, Number, Text};
use crate::status::PacketCount;
use crate::status::words::{ago, bytes, instant};

/// Events shown, newest first.
const EVENTS: usize = 50;
/// Tables are nearly full from so many hundredths on.
const NEARLY_FULL: f64 = 80.0;

/// How packets are handled, and this node's own connections.
pub(super) fn datapath(html: &mut String, view: &View<'_>) -> fmt::Result {
    let (datapath, local) = (&view.status.datapath, &view.status.local);
    html.push_str("<section aria-labelledby=\"datapath\"><h2 id=\"datapath\">Datapath</h2>\n<dl class=\"facts\">");
    if view.status.attached() {
        let how = format!("{} on {}: {}", datapath.mode, datapath.interface, datapath.reason);
        write!(html, "<dt>Packets</dt><dd>{}</dd>", Text(&how))?;
    } else {
        write!(html, "<dt>Packets</dt><dd>not attached: {}</dd>", Text(&datapath.reason))?;
    }
    match &local.cgroup {
        Some(cgroup) => write!(html, "<dt>Own clients</dt><dd>translated, hooks on {}</dd>", Text(cgroup))?,
        None => write!(html, "<dt>Own clients</dt><dd>not translated: {}</dd>", Text(&local.reason))?,
    }
    if let Some(size) = bytes(datapath.bytes) {
        write!(html, "<dt>Memory</dt><dd>{size} in tables</dd>")?;
    }
    html.push_str("</dl>\n");
    fill(html, view)?;
    html.push_str("</section>\n");
    Ok(())
}

const TABLES: [Column; 4] = [("Table", false), ("Entries", true), ("Of", true), ("Full", false)];

#[allow(clippy::cast_precision_loss, reason = "whole hundredths are shown")]
fn fill(html: &mut String, view: &View<'_>) -> fmt::Result {
    let mut table = Table::open(html, "How full the tables are", &TABLES)?;
    for row in &view.status.datapath.tables {
        let full = if row.capacity > 0 { row.entries as f64 / row.capacity as f64 * 100.0 } else { 0.0 };
        table.row(&row.table, "", Text(&row.table.replace('_', " ")))?;
        table.cell(Number(row.entries))?;
        table.cell(Number(row.capacity))?;
        table.cell(format_args!(
            "<meter min=\"0\" max=\"100\" high=\"{NEARLY_FULL}\" value=\"{full:.1}\">{full:.0}%</meter> {full:.0}%"
        ))?;
    }
    table.close();
    Ok(())
}

const DROPS: [Column; 3] = [("Reason", false), ("Packets", true), ("A second", true)];
const OTHERS: [Column; 3] = [("Reason", false), ("Verdict", false), ("Packets", true)];

/// What was dropped and why; what was not, on demand.
pub(super) fn packets(html: &mut String, view: &View<'_>) -> fmt::Result {
    html.push_str("<section aria-labelledby=\"drops\"><h2 id=\"drops\">Dropped packets</h2>\n");
    let packets = &view.status.datapath.packets;
    let (mut dropped, others): (Vec<&PacketCount>, Vec<_>) = packets.iter().partition(|row| row.verdict == "drop");
    dropped.sort_by_key(|row| std::cmp::Reverse(row.packets));
    if dropped.is_empty() {
        html.push_str("<p class=\"muted\">None.</p>");
    } else {
        let mut table = Table::open(html, "Packets dropped, by reason", &DROPS)?;
        for row in dropped {
            table.row(&row.reason, "", Text(&row.reason))?;
            table.cell(Number(row.packets))?;
            table.cell(Each(view.pace.drops(Some(&row.reason))))?;
        }
        table.close();
    }
    if !others.is_empty() {
        html.push_str("<details><summary>All other packets</summary>");
        let mut table = Table::open(html, "All other packets, by reason", &OTHERS)?;
        for row in others {
            table.row(&format!("{} {}", row.verdict, row.reason), "", Text(&row.reason))?;
            table.cell(Text(&row.verdict))?;
            table.cell(Number(row.packets))?;
        }
        table.close();
        html.push_str("</details>");
    }
    html.push_str("</section>\n");
    Ok(())
}

/// What has happened, newest first.
pub(super) fn events(html: &mut String, view: &View<'_>) -> fmt::Result {
    let events = &view.status.events;
    html.push_str("<section aria-labelledby=\"events\"><h2 id=\"events\">Events</h2>\n");
    if events.is_empty() {
        html.push_str("<p class=\"muted\">None yet.</p></section>\n");
        return Ok(());
    }
    html.push_str("<ol class=\"events\">");
    for event in events.iter().rev().take(EVENTS) {
        let at = instant(event.at);
        let shown = at.get(..19).unwrap_or(&at).replace('T', " ");
        writeln!(
            html,
            "<li data-key=\"{}-{}\" data-n=\"{}\"><time datetime=\"{at}\">{shown}</time> <span class=\"muted\">{}</span> <b>{}</b> \
             <span>{}</span></li>",
            event.number,
            event.at,
            event.number,
            ago(view.now, event.at),
            Text(&event.subject),
            Text(&event.text)
        )?;
    }
    html.push_str("</ol></section>\n");
    Ok(())
}

//! The status page: one self-contained document without scripts, redrawn every five seconds. Everything inserted is escaped.

use std::fmt::{self, Display, Write};

use crate::status::words::{ago, bytes, removed, share, since};
use crate::status::{BackendStatus, Status};

/// Events shown, newest first.
const EVENTS: usize = 20;

/// The page for `status` at `now`, seconds since the Unix epoch. `faults` says why the agent is not ready.
pub(super) fn page(status: &Status, faults: &[String], now: f64) -> String {
    let mut html = String::with_capacity(8 * 1024);
    // Writing to a String cannot fail.
    let _ = write(&mut html, status, faults, now);
    html
}

fn write(html: &mut String, status: &Status, faults: &[String], now: f64) -> fmt::Result {
    let node = Text(&status.node);
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"5\"><link rel=\"icon\" href=\"data:,\">\
         <title>{node} · xvip</title><style>{STYLE}</style></head><body>\n\
         <header><h1>{node}</h1><p>xvip {} · up {}</p></header>\n",
        Text(&status.version),
        since(now, status.started_at),
    )?;

    if faults.is_empty() {
        html.push_str("<p class=\"note good\">Ready</p>\n");
    } else {
        html.push_str("<ul class=\"note bad\">");
        for fault in faults {
            write!(html, "<li>{}</li>", Text(fault))?;
        }
        html.push_str("</ul>\n");
    }
    if let Some(error) = &status.config.last_error {
        writeln!(html, "<p class=\"note bad\">The last reload was refused: {}</p>", Text(error))?;
    }

    vrrp(html, status, now)?;
    services(html, status, now)?;
    datapath(html, status)?;
    events(html, status, now)?;
    write!(
        html,
        "<footer>{}, applied {} · <a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">ready</a> · \
         <a href=\"/healthz\">health</a></footer>\n</body></html>\n",
        Text(&status.config.file),
        ago(now, status.config.applied_at),
    )
}

fn vrrp(html: &mut String, status: &Status, now: f64) -> fmt::Result {
    if status.vrrp.is_empty() {
        return Ok(());
    }
    html.push_str("<h2>Virtual routers</h2>\n");
    table(html, &["Name", "State", "For", "Priority", "Addresses", "Active router", "Why"], &[3])?;
    for v in &status.vrrp {
        writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Text(&v.name),
            State(&v.state),
            since(now, v.since),
            v.priority,
            Text(&v.virtual_addresses.join(", ")),
            Text(active_router(v)),
            Text(&v.reason),
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    for claim in status.vrrp.iter().flat_map(|v| &v.claims) {
        let (mac, address) = (Text(&claim.mac), Text(&claim.address));
        let ago = since(now, claim.at);
        writeln!(
            html,
            "<p class=\"note bad\">{mac} says it has {address}: {} times, last {ago} ago.</p>",
            claim.times
        )?;
    }
    Ok(())
}

fn active_router(v: &crate::status::VrrpStatus) -> &str {
    match (&v.active_router, v.state.as_str()) {
        (_, "active") => "this node",
        (Some(router), _) => router,
        (None, _) => "–",
    }
}

fn services(html: &mut String, status: &Status, now: f64) -> fmt::Result {
    for service in &status.services {
        writeln!(
            html,
            "<h2>{}</h2>\n<p>{} · {}</p>",
            Text(&service.name),
            Text(&service.listen),
            Text(&service.balance)
        )?;
        if service.fail_open {
            html.push_str("<p class=\"note bad\">Every backend fails its checks; all are used all the same.</p>\n");
        }
        table(html, &["Backend", "Address", "State", "For", "Connections", "Share", "Check", "Why"], &[4, 5, 6])?;
        let all = service.backends.iter().fold(0_u64, |sum, b| sum.saturating_add(b.connections));
        for b in &service.backends {
            backend(html, b, all, now)?;
        }
        for b in &service.leaving {
            writeln!(
                html,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>–</td><td class=\"n\">{}</td><td>–</td><td>–</td><td>{}</td></tr>",
                Text(&b.name),
                Text(&b.address),
                State("draining"),
                b.connections,
                Text(&removed(b, now)),
            )?;
        }
        html.push_str("</tbody></table></div>\n");
    }
    Ok(())
}

fn backend(html: &mut String, b: &BackendStatus, all: u64, now: f64) -> fmt::Result {
    writeln!(
        html,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
        Text(&b.name),
        Text(&b.address),
        State(&b.state),
        since(now, b.since),
        b.connections,
        share(b.connections, all),
        crate::status::words::check(b.check_seconds),
        Text(&b.reason),
    )
}

fn datapath(html: &mut String, status: &Status) -> fmt::Result {
    let datapath = &status.datapath;
    html.push_str("<h2>Datapath</h2>\n<p>");
    if status.attached() {
        write!(html, "{} on {}: {}", Text(&datapath.mode), Text(&datapath.interface), Text(&datapath.reason))?;
    } else {
        write!(html, "Not attached: {}", Text(&datapath.reason))?;
    }
    match &status.local.cgroup {
        Some(cgroup) => write!(html, "<br>This node's own connections: translated, hooks on {}", Text(cgroup))?,
        None => write!(html, "<br>This node's own connections: not translated: {}", Text(&status.local.reason))?,
    }
    for t in &datapath.tables {
        write!(html, "<br>{}: {} of {} entries", Text(&t.table), t.entries, t.capacity)?;
        if let Some(size) = bytes(t.bytes) {
            write!(html, ", {size}")?;
        }
    }
    html.push_str("</p>\n");
    if datapath.packets.is_empty() {
        return Ok(());
    }
    table(html, &["Verdict", "Reason", "Packets"], &[2])?;
    for row in &datapath.packets {
        writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
            Text(&row.verdict),
            Text(&row.reason),
            row.packets
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

fn events(html: &mut String, status: &Status, now: f64) -> fmt::Result {
    if status.events.is_empty() {
        return Ok(());
    }
    html.push_str("<h2>Events</h2>\n");
    table(html, &["When", "What", "Change"], &[])?;
    for event in status.events.iter().rev().take(EVENTS) {
        writeln!(
            html,
            "<tr><td>{}</td><th scope=\"row\">{}</th><td>{}</td></tr>",
            ago(now, event.at),
            Text(&event.subject),
            Text(&event.text)
        )?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

/// Opens a table; `numeric` are the columns set to the right.
fn table(html: &mut String, columns: &[&str], numeric: &[usize]) -> fmt::Result {
    html.push_str("<div class=\"t\"><table><thead><tr>");
    for (index, column) in columns.iter().enumerate() {
        let class = if numeric.contains(&index) { " class=\"n\"" } else { "" };
        write!(html, "<th scope=\"col\"{class}>{column}</th>")?;
    }
    html.push_str("</tr></thead><tbody>\n");
    Ok(())
}

/// Text that means itself, in content and in quoted attributes alike.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A state with its colour; the word says it without.
struct State<'a>(&'a str);

impl Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.0 {
            "up" | "active" => "good",
            "down" | "fault" => "bad",
            "backup" => "",
            _ => "mid",
        };
        write!(f, "<span class=\"s {class}\">{}</span>", Text(self.0))
    }
}

const STYLE: &str = ":root{color-scheme:light dark;--good:#1a7f37;--bad:#c62828;--mid:#8a6d00;--line:#8884}\
@media(prefers-color-scheme:dark){:root{--good:#57c975;--bad:#ff7b72;--mid:#d8b13c}}\
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}\
header{display:flex;flex-wrap:wrap;gap:0 1rem;align-items:baseline}header p,footer{opacity:.7}\
h1{margin:0;font-size:1.6rem}h2{margin:1.6rem 0 .2rem;font-size:1.15rem}p{margin:.2rem 0}\
.t{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:.4rem 0}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
thead th{font-weight:normal;opacity:.7}tbody th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}\
.s{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}.mid{color:var(--mid)}\
.note{border-left:4px solid;padding:.3rem .8rem;margin:.8rem 0;font-weight:600;list-style:none}\
footer{margin-top:2rem;font-size:.9em}a{color:inherit}";

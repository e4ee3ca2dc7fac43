//! The status page: one self-contained document, whole without scripts, and kept up to date by one where it may run.
//!
//! The script asks for the same part of the page again and puts in what has changed, so everything is rendered here alone.
//! Everything inserted is escaped.

mod datapath;
mod login;
mod overview;
mod rights;
mod routers;
mod services;
mod table;
mod text;

use std::fmt::{self, Write};

pub(super) use login::{Refusal, login};
pub(super) use rights::Rights;
use text::{Mood, Text};

use super::history::Pace;
use crate::status::Status;
use crate::status::words::{ago, instant, since};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What the page shows.
pub(super) struct View<'a> {
    pub(super) status: &'a Status,
    /// Why the agent is not ready.
    pub(super) faults: &'a [String],
    pub(super) pace: &'a Pace,
    /// Seconds since the Unix epoch.
    pub(super) now: f64,
    /// Whether there are administrators.
    pub(super) can_log_in: bool,
    /// What whoever looks may do.
    pub(super) rights: Option<Rights<'a>>,
}

/// The whole page. `nonce` is what its content security policy lets pass.
pub(super) fn page(view: &View<'_>, nonce: &str) -> String {
    let mut html = String::with_capacity(64 * 1024);
    // Writing to a String cannot fail.
    let _ = whole(&mut html, view, nonce);
    html
}

/// The part of it that changes.
pub(super) fn live(view: &View<'_>) -> String {
    let mut html = String::with_capacity(48 * 1024);
    let _ = part(&mut html, view);
    html
}

fn whole(html: &mut String, view: &View<'_>, nonce: &str) -> fmt::Result {
    head(html, &title(view), nonce)?;
    // Who runs the script gets only what has changed.
    html.push_str(
        "<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript></head><body>\n\
         <div id=\"bar\"></div><p id=\"gone\" role=\"alert\" hidden></p><p id=\"said\" class=\"hidden\" role=\"status\"></p>\n",
    );
    if let Some((is_good, outcome)) = view.rights.as_ref().and_then(|rights| rights.outcome) {
        let class = if is_good { "good" } else { "bad" };
        writeln!(html, "<p id=\"outcome\" class=\"{class}\" role=\"status\">{}</p>", Text(outcome))?;
    }
    part(html, view)?;
    writeln!(html, "<script nonce=\"{nonce}\">{SCRIPT}</script></body></html>")
}

fn head(html: &mut String, title: &str, nonce: &str) -> fmt::Result {
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><title>{}</title><style nonce=\"{nonce}\">{STYLE}</style>",
        Text(title)
    )
}

/// How everything is, in a tab's few characters.
fn title(view: &View<'_>) -> String {
    let status = view.status;
    let backends = status.services.iter().flat_map(|service| &service.backends);
    let down = backends.filter(|backend| backend.state == "down").count();
    let state = match (view.faults.is_empty(), down) {
        (false, _) => "not ready · ".to_owned(),
        (true, 0) => String::new(),
        (true, down) => format!("{down} down · "),
    };
    format!("{state}{} · xvip", status.node)
}

fn mood(view: &View<'_>) -> Mood {
    let backends = || view.status.services.iter().flat_map(|service| &service.backends);
    if !view.faults.is_empty() || view.status.services.iter().any(|service| service.fail_open) {
        Mood::Bad
    } else if backends().any(|backend| backend.state != "up") {
        Mood::Middling
    } else {
        Mood::Good
    }
}

fn part(html: &mut String, view: &View<'_>) -> fmt::Result {
    let status = view.status;
    let at = instant(view.now);
    writeln!(
        html,
        "<div id=\"live\" data-node=\"{}\" data-title=\"{}\" data-mood=\"{}\" data-started=\"{}\">",
        Text(&status.node),
        Text(&title(view)),
        mood(view).class(),
        status.started_at,
    )?;
    write!(
        html,
        "<header><h1>{}</h1><p class=\"muted\">xvip {} · {} · up {}</p>\
         <p class=\"clock\"><span id=\"beat\">as of</span> <time datetime=\"{at}\">{}</time> UTC</p>",
        Text(&status.node),
        Text(&status.version),
        Text(&status.role),
        since(view.now, status.started_at),
        at.get(11..19).unwrap_or_default(),
    )?;
    match &view.rights {
        Some(rights) => rights.who(html)?,
        None if view.can_log_in => html.push_str("<p class=\"who\"><a href=\"/login\">Log in</a></p>"),
        None => {}
    }
    html.push_str("</header>\n<main>\n");
    overview::notes(html, view)?;
    overview::figures(html, view)?;
    routers::routers(html, view)?;
    services::services(html, view)?;
    html.push_str("<div class=\"columns\">");
    datapath::packets(html, view)?;
    datapath::datapath(html, view)?;
    routers::peers(html, view)?;
    html.push_str("</div>\n");
    datapath::events(html, view)?;
    write!(
        html,
        "</main>\n<footer><p>{}, applied {}</p><nav aria-label=\"Other views\"><a href=\"/metrics\">metrics</a> \
         <a href=\"/readyz\">readyz</a> <a href=\"/healthz\">healthz</a></nav></footer></div>\n",
        Text(&status.config.file),
        ago(view.now, status.config.applied_at),
    )
}

#[cfg(test)]
mod tests;

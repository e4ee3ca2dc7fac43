//! A status as the tables of `xvip status`. Pure: the time and the size of the terminal are arguments.

mod sync;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::words::{ago, bytes, check, removed, share, since};
use super::{BackendStatus, LeavingStatus, ServiceStatus, Status, VrrpStatus};

/// Events shown.
const EVENTS: usize = 8;

/// The last column keeps this many characters however narrow the terminal is.
const LAST_COLUMN: usize = 16;

/// No terminal is narrower.
const NARROWEST: usize = 40;

/// Lines for a terminal `width` characters wide (`usize::MAX`: unlimited), at `now` in seconds since the Unix epoch.
#[must_use]
pub fn render(status: &Status, now: f64, colour: bool, width: usize) -> String {
    render_live(status, None, now, colour, width)
}

/// The same, with how fast connections come.
#[must_use]
pub fn render_live(status: &Status, rates: Option<&Rates>, now: f64, colour: bool, width: usize) -> String {
    let mut out = Page { text: String::new(), colour, width: width.max(NARROWEST) };
    head(&mut out, status, now);
    vrrp(&mut out, status, now);
    sync::sync(&mut out, status, now);
    for s in &status.services {
        service(&mut out, s, rates, now);
    }
    drops(&mut out, status);
    events(&mut out, status, now);
    out.text
}

/// A table without colours, as wide as it is; `right`: columns set to the right.
#[must_use]
pub(crate) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut out = Page { text: String::new(), colour: false, width: usize::MAX };
    let rows = rows.into_iter().map(|row| row.into_iter().map(Cell::plain).collect()).collect();
    out.table(header, right, &[], rows);
    out.text
}

/// How fast connections come to each backend, from two looks at it.
#[derive(Debug, Default)]
pub struct Rates(BTreeMap<(String, String), f64>);

impl Rates {
    /// `None` where nothing can be said: no time has passed, or another agent answered.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "whole connections a second are shown")]
    pub fn between(before: &Status, after: &Status, seconds: f64) -> Option<Self> {
        if seconds <= 0.0 || before.started_at != after.started_at {
            return None;
        }
        let all = |status: &Status| {
            let of = |s: &ServiceStatus| {
                let of = |b: &BackendStatus| ((s.name.clone(), b.name.clone()), b.connections_total);
                s.backends.iter().map(of).collect::<Vec<_>>()
            };
            status.services.iter().flat_map(of).collect::<BTreeMap<_, _>>()
        };
        let before = all(before);
        // One that was made anew counts from nothing.
        let rate = |(key, total): ((String, String), u64)| {
            let opened = total.checked_sub(*before.get(&key)?)?;
            Some((key, opened as f64 / seconds))
        };
        Some(Self(all(after).into_iter().filter_map(rate).collect()))
    }

    fn of(&self, service: &str, backend: &str) -> Option<f64> {
        self.0.get(&(service.to_owned(), backend.to_owned())).copied()
    }
}

fn head(out: &mut Page, status: &Status, now: f64) {
    let config = &status.config;
    let datapath = &status.datapath;
    out.line(
        "node",
        &format!("{}, xvip {}, up {}", status.node, status.version, since(now, status.started_at)),
        Paint::Bold,
    );
    if status.role == "backend" {
        out.line("role", "backend: holds no VIP, delivers to its own backends what balancers forward", Paint::None);
    }
    out.line("config", &format!("{}, applied {}", config.file, ago(now, config.applied_at)), Paint::None);
    for change in &config.changes {
        out.line("", &format!("changed by command, until the next reload or start: {change}"), Paint::Middling);
    }
    if let Some(error) = &config.last_error {
        out.line("", &format!("the last reload was refused: {error}"), Paint::Bad);
    }
    if status.starting {
        out.line("", "starting: health checks are not ready yet, their files are being read", Paint::Bad);
    }
    if status.attached() {
        out.line("datapath", &format!("{} on {}: {}", datapath.mode, datapath.interface, datapath.reason), Paint::None);
    } else {
        out.line("datapath", &format!("not attached: {}", datapath.reason), Paint::Bad);
    }
    match &status.local.cgroup {
        Some(cgroup) => out.line("local", &format!("own connections translated, hooks on {cgroup}"), Paint::None),
        None => out.line("local", &format!("own connections not translated: {}", status.local.reason), Paint::Bad),
    }
    // What is empty goes without saying, but for the first, which everybody looks for.
    let told = datapath.tables.iter().enumerate().filter(|(index, t)| *index == 0 || t.entries > 0);
    for (index, t) in told {
        let label = if index == 0 { "tables" } else { "" };
        let size = bytes(t.bytes).map(|size| format!(", {size}")).unwrap_or_default();
        out.line(label, &format!("{}: {} of {} entries{size}", t.table, t.entries, t.capacity), Paint::None);
    }
    if let Some(size) = bytes(datapath.bytes) {
        out.line("", &format!("{size} with all others"), Paint::None);
    }
}

fn vrrp(out: &mut Page, status: &Status, now: f64) {
    if status.vrrp.is_empty() {
        return;
    }
    let rows = status.vrrp.iter().map(|v| {
        vec![
            Cell::bold(&v.name),
            Cell::state(&v.state),
            Cell::plain(since(now, v.since)),
            Cell::plain(v.priority.to_string()),
            Cell::plain(v.virtual_addresses.join(" ")),
            Cell::plain(active_router(v)),
            Cell::plain(v.reason.as_str()),
        ]
    });
    out.gap();
    let claims = status.vrrp.iter().flat_map(|v| &v.claims);
    let claims: Vec<_> = claims
        .map(|claim| {
            let ago = since(now, claim.at);
            format!("{} says it has {}: {} times, last {ago} ago", claim.mac, claim.address, claim.times)
        })
        .collect();
    let header = ["VRRP", "STATE", "FOR", "PRIORITY", "ADDRESSES", "ACTIVE", "WHY"];
    out.table(&header, &[3], &[3, 2, 5], rows.collect());
    for claim in &claims {
        out.line("", claim, Paint::Bad);
    }
}

fn active_router(v: &VrrpStatus) -> &str {
    match (&v.active_router, v.state.as_str()) {
        (_, "active") => "this node",
        (Some(router), _) => router,
        (None, _) => "-",
    }
}

fn service(out: &mut Page, service: &ServiceStatus, rates: Option<&Rates>, now: f64) {
    out.gap();
    let mode = if service.mode == "dsr" { ", dsr" } else { "" };
    let most = match service.max_connections {
        0 => String::new(),
        most => format!(", at most {most} connections"),
    };
    let about = format!("{}, {}, {}{mode}{most}", service.name, service.listen, service.balance);
    out.line("SERVICE", &about, Paint::Bold);
    if !service.allow.is_empty() {
        out.line("allow", &service.allow.join(" "), Paint::None);
    }
    if !service.source_limit.is_empty() {
        out.line("limit", &service.source_limit, Paint::None);
    }
    if !service.remark.is_empty() {
        out.line("", &service.remark, Paint::Bad);
    }
    if service.fail_open {
        out.line("", "EVERY BACKEND FAILS ITS CHECKS; all are used all the same", Paint::Bad);
    }
    let all = service.backends.iter().fold(0_u64, |sum, b| sum.saturating_add(b.connections));
    let leaving = service.leaving.iter().map(|b| leaving(b, now));
    let mut rows: Vec<_> = service.backends.iter().map(|b| backend(b, all, now)).chain(leaving).collect();
    let mut header = vec!["BACKEND", "ADDRESS", "STATE", "FOR", "CONNS", "SHARE", "CHECK", "WHY"];
    let Some(rates) = rates else {
        out.table(&header, &[4, 5, 6], &[5, 6, 3, 1], rows);
        return;
    };
    header.insert(5, "NEW/S");
    let names = service.backends.iter().map(|b| Some(&b.name)).chain(std::iter::repeat(None));
    for (row, name) in rows.iter_mut().zip(names) {
        let rate = name.and_then(|name| rates.of(&service.name, name));
        row.insert(5, Cell::plain(rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))));
    }
    out.table(&header, &[4, 5, 6, 7], &[6, 7, 3, 1], rows);
}

fn backend(b: &BackendStatus, all: u64, now: f64) -> Vec<Cell<'_>> {
    vec![
        Cell::bold(&b.name),
        Cell::plain(b.address.as_str()),
        Cell::state(&b.state),
        Cell::plain(since(now, b.since)),
        Cell::plain(b.connections.to_string()),
        Cell::plain(share(b.connections, all)),
        Cell::plain(check(b.check_seconds)),
        Cell::plain(b.reason.as_str()),
    ]
}

fn leaving(b: &LeavingStatus, now: f64) -> Vec<Cell<'_>> {
    vec![
        Cell::bold(&b.name),
        Cell::plain(b.address.as_str()),
        Cell::state("draining"),
        Cell::plain("-"),
        Cell::plain(b.connections.to_string()),
        Cell::plain("-"),
        Cell::plain("-"),
        Cell::plain(removed(b, now)),
    ]
}

fn drops(out: &mut Page, status: &Status) {
    let rows: Vec<_> = status
        .datapath
        .packets
        .iter()
        .filter(|row| row.verdict == "drop" && row.packets > 0)
        .map(|row| vec![Cell::plain(row.reason.as_str()), Cell::plain(row.packets.to_string())])
        .collect();
    if !rows.is_empty() {
        out.gap();
        out.table(&["DROPPED", "PACKETS"], &[1], &[], rows);
    }
}

fn events(out: &mut Page, status: &Status, now: f64) {
    let skipped = status.events.len().saturating_sub(EVENTS);
    let rows: Vec<_> = status
        .events
        .iter()
        .skip(skipped)
        .map(|event| {
            vec![Cell::plain(ago(now, event.at)), Cell::plain(event.subject.as_str()), Cell::plain(event.text.as_str())]
        })
        .collect();
    if !rows.is_empty() {
        out.gap();
        out.table(&["EVENTS", "", ""], &[], &[], rows);
    }
}

#[derive(Clone, Copy)]
enum Paint {
    None,
    Bold,
    Dim,
    Good,
    Bad,
    Middling,
}

impl Paint {
    /// The SGR parameter; none for no change.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Good => Some("32"),
            Self::Bad => Some("1;31"),
            Self::Middling => Some("33"),
        }
    }
}

struct Cell<'a> {
    text: Cow<'a, str>,
    paint: Paint,
}

impl<'a> Cell<'a> {
    fn plain(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), paint: Paint::None }
    }

    fn bold(text: &'a str) -> Self {
        Self { text: text.into(), paint: Paint::Bold }
    }

    fn state(state: &'a str) -> Self {
        let paint = match state {
            "up" | "active" => Paint::Good,
            "down" | "fault" => Paint::Bad,
            "backup" => Paint::None,
            _ => Paint::Middling,
        };
        Self { text: state.into(), paint }
    }
}

struct Page {
    text: String,
    colour: bool,
    width: usize,
}

/// Width of the labels of single lines, with the gap.
const LABEL: usize = 10;

impl Page {
    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn line(&mut self, label: &str, text: &str, paint: Paint) {
        let room = self.width.saturating_sub(LABEL).max(LAST_COLUMN);
        self.put(&format!("{label:<LABEL$}"), Paint::Dim);
        self.put(&cut(&clean(text), room), paint);
        self.text.push('\n');
    }

    /// `right`: columns set to the right; `spare`: columns to go without where there is no room, the first one first. The last
    /// column takes what is left of the width.
    fn table(&mut self, header: &[&str], right: &[usize], spare: &[usize], rows: Vec<Vec<Cell<'_>>>) {
        let mut rows: Vec<Vec<(Cow<'_, str>, Paint)>> =
            rows.into_iter().map(|row| row.into_iter().map(|c| (clean_cow(c.text), c.paint)).collect()).collect();
        let mut header = header.to_vec();
        let mut right = right.to_vec();
        for column in narrowed(&header, &rows, spare, self.width) {
            header.remove(column);
            rows.iter_mut().filter(|row| column < row.len()).for_each(|row| drop(row.remove(column)));
            right.retain(|of| *of != column);
            right.iter_mut().filter(|of| **of > column).for_each(|of| *of -= 1);
        }
        let last = header.len().saturating_sub(1);
        let widths = widths(&header, &rows);
        let used: usize = widths.iter().take(last).map(|w| w + 2).sum();
        let room = self.width.saturating_sub(used).max(LAST_COLUMN);

        let header = header.iter().map(|name| (Cow::Borrowed(*name), Paint::Dim));
        for row in [header.collect()].into_iter().chain(rows) {
            self.row(&row, &widths, &right, room);
        }
    }

    fn row(&mut self, row: &[(Cow<'_, str>, Paint)], widths: &[usize], right: &[usize], room: usize) {
        let last = widths.len().saturating_sub(1);
        // Padding is written when more text follows, so that no line ends in blanks.
        let (mut pending, mut left) = (0, self.width);
        for (column, ((text, paint), width)) in row.iter().zip(widths).enumerate() {
            let padding = width.saturating_sub(text.chars().count());
            let before = if right.contains(&column) { padding } else { 0 };
            let room = left.saturating_sub(before).min(if column == last { room } else { usize::MAX });
            if room == 0 {
                break;
            }
            if text.is_empty() {
                pending += 2 + padding;
            } else {
                self.text.extend(std::iter::repeat_n(' ', pending + before));
                self.put(&cut(text, room), *paint);
                pending = 2 + padding - before;
            }
            left = left.saturating_sub(width + 2);
        }
        self.text.push('\n');
    }

    fn put(&mut self, text: &str, paint: Paint) {
        match paint.code() {
            Some(code) if self.colour && !text.trim().is_empty() => {
                self.text.push_str("\x1b[");
                self.text.push_str(code);
                self.text.push('m');
                self.text.push_str(text);
                self.text.push_str("\x1b[0m");
            }
            _ => self.text.push_str(text),
        }
    }
}

fn widths(header: &[&str], rows: &[Vec<(Cow<'_, str>, Paint)>]) -> Vec<usize> {
    let of = |(column, name): (usize, &&str)| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count());
        cells.chain([name.chars().count()]).max().unwrap_or(0)
    };
    header.iter().enumerate().map(of).collect()
}

/// The columns to go without, the last one first.
fn narrowed(header: &[&str], rows: &[Vec<(Cow<'_, str>, Paint)>], spare: &[usize], width: usize) -> Vec<usize> {
    let widths = widths(header, rows);
    let mut used: usize = widths.iter().take(header.len().saturating_sub(1)).map(|width| width + 2).sum();
    let mut gone = Vec::new();
    for column in spare {
        if used.saturating_add(LAST_COLUMN) <= width {
            break;
        }
        used = used.saturating_sub(widths.get(*column).map_or(0, |width| width + 2));
        gone.push(*column);
    }
    gone.sort_unstable_by(|a, b| b.cmp(a));
    gone
}

/// Reasons quote what backends and peers said: nothing in them may reach the terminal as a control sequence.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

fn clean_cow(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => clean(text),
        Cow::Owned(text) => clean(&text).into_owned().into(),
    }
}

fn cut(text: &str, room: usize) -> Cow<'_, str> {
    if text.chars().count() <= room {
        return text.into();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short.into()
}

#[cfg(test)]
mod tests;

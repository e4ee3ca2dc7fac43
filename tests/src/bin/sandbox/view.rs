//! Drawing the model: a function of it and nothing else.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Clear, Padding, Paragraph, Row, Sparkline, SparklineBar, Table};

use crate::model::{BalancerView, Model, Running, ServerView, Tone, Traffic, clock, spoken};

const GOOD: Color = Color::Green;
const WARN: Color = Color::Yellow;
const BAD: Color = Color::Red;
const MARK: Color = Color::Cyan;
const QUIET: Color = Color::DarkGray;

/// The smallest screen everything fits on.
pub(crate) const LEAST: (u16, u16) = (80, 24);

/// Draws everything.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!(
            "This view needs {} x {} characters; there are {} x {}.",
            LEAST.0, LEAST.1, area.width, area.height
        );
        frame.render_widget(Paragraph::new(text).centered(), area);
        return;
    }
    let servers_height = model.servers.len() as u16 + 3;
    let [title, top, servers, events, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(8),
        Constraint::Length(servers_height),
        Constraint::Min(4),
        Constraint::Length(2),
    ])
    .areas(area);
    let [balancers, traffic] = Layout::horizontal([Constraint::Length(38), Constraint::Min(40)]).areas(top);
    draw_title(frame, title, model);
    draw_balancers(frame, balancers, model);
    draw_traffic(frame, traffic, &model.traffic, model.now);
    draw_servers(frame, servers, model);
    draw_events(frame, events, model);
    draw_keys(frame, keys, model);
    if !model.help.is_empty() {
        draw_help(frame, area, &model.help);
    }
}

fn panel(title: impl Into<String>) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(QUIET)
        .title(Line::from(format!(" {} ", title.into())).bold())
        .padding(Padding::horizontal(1))
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let left = Line::from(vec![
        Span::from(" xvip ").bold().fg(Color::Black).bg(MARK),
        Span::from(" sandbox").bold(),
        Span::from("  a control plane behind one virtual IP").fg(QUIET),
    ]);
    frame.render_widget(left, area);
    let right = Line::from(format!("{} ", clock(model.now))).fg(QUIET).alignment(Alignment::Right);
    frame.render_widget(right, area);
}

fn draw_balancers(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = panel(format!("VIP {}", model.vip));
    let mut lines = Vec::new();
    for (index, balancer) in model.balancers.iter().enumerate() {
        if index > 0 {
            lines.push(Line::default());
        }
        lines.extend(balancer_lines(balancer, index == model.balancer));
    }
    let holders: Vec<&str> =
        model.balancers.iter().filter(|b| b.state.as_deref() == Some("active")).map(|b| b.name.as_str()).collect();
    let held = match holders.as_slice() {
        [] => Line::from("nobody holds the VIP").fg(BAD).bold(),
        [one] => Line::from(vec![Span::from("held by "), Span::from((*one).to_owned()).fg(GOOD).bold()]),
        // Both may say so for a moment, and a cut-off one cannot know better.
        several => Line::from(format!("{} both say they hold it", several.join(" and "))).fg(WARN),
    };
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [top, bottom] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(inner);
    frame.render_widget(Paragraph::new(lines), top);
    frame.render_widget(held, bottom);
}

fn balancer_lines(balancer: &BalancerView, selected: bool) -> [Line<'static>; 2] {
    let (symbol, word, colour) = match (balancer.running, balancer.state.as_deref()) {
        (Running::No, _) => ("✗", "stopped", BAD),
        (Running::Frozen, _) => ("‖", "frozen", WARN),
        (Running::Yes, Some("active")) => ("●", "ACTIVE", GOOD),
        (Running::Yes, Some("backup")) => ("○", "backup", Color::Reset),
        (Running::Yes, Some("fault")) => ("!", "fault", BAD),
        (Running::Yes, Some(_)) => ("◌", "starting", WARN),
        (Running::Yes, None) => ("◌", "no answer", WARN),
    };
    let name = Span::from(balancer.name.clone());
    let first = Line::from(vec![
        pointer(selected),
        Span::styled(format!("{symbol} "), colour),
        if selected { name.bold().fg(MARK) } else { name.bold() },
        Span::from(format!("  {:<12}", balancer.address)),
        Span::styled(word, Style::new().fg(colour).add_modifier(Modifier::BOLD)),
    ]);
    let mut second = vec![Span::from("    ")];
    if balancer.cut {
        second.extend([Span::from("link cut").fg(BAD).bold(), Span::from(" · ").fg(QUIET)]);
    }
    second.push(Span::from(format!("priority {}", balancer.priority)).fg(QUIET));
    if !balancer.datapath.is_empty() {
        second.push(Span::from(format!(" · {}", balancer.datapath)).fg(QUIET));
    }
    [first, Line::from(second)]
}

fn pointer(selected: bool) -> Span<'static> {
    if selected { Span::from("▸ ").fg(MARK) } else { Span::from("  ") }
}

fn draw_traffic(frame: &mut Frame<'_>, area: Rect, traffic: &Traffic, now: Duration) {
    let block = panel("New connections through the VIP");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [rates, graph, outage, counts] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1), Constraint::Length(1)])
            .areas(inner);
    let rates_line = Line::from(vec![
        Span::from(format!("{:.0}", traffic.per_second)).bold(),
        Span::from(" a second   "),
        Span::from("p50 ").fg(QUIET),
        Span::from(spoken(traffic.p50)).bold(),
        Span::from("   p99 ").fg(QUIET),
        Span::from(spoken(traffic.p99)).bold(),
    ]);
    frame.render_widget(rates_line, rates);
    frame.render_widget(sparkline(traffic, graph), graph.inner(Margin::new(0, 0)));
    let outage_line = match (traffic.outage_now, traffic.last_outage) {
        (Some(silent), _) => Line::from(format!("nobody is served since {}", spoken(silent))).fg(BAD).bold(),
        (None, Some((length, ended))) => Line::from(vec![
            Span::from("last outage ").fg(QUIET),
            Span::from(spoken(length)).bold().fg(WARN),
            Span::from(format!(", {} ago", ago(now.saturating_sub(ended)))).fg(QUIET),
        ]),
        (None, None) => Line::from("no outage so far").fg(GOOD),
    };
    frame.render_widget(outage_line, outage);
    let failed = Span::from(format!("{} failed", traffic.failed));
    let watches = Span::from(format!("watches {}/{}", traffic.watches_alive, traffic.watches));
    let counts_line = Line::from(vec![
        Span::from(format!("{} served", traffic.served)).fg(QUIET),
        Span::from(" · ").fg(QUIET),
        if traffic.failed > 0 { failed.fg(WARN) } else { failed.fg(QUIET) },
        Span::from(" · ").fg(QUIET),
        if traffic.watches_alive < traffic.watches { watches.fg(BAD).bold() } else { watches.fg(GOOD) },
    ]);
    frame.render_widget(counts_line, counts);
}

/// Height says how many were served, colour whether that is as many as asked.
fn sparkline(traffic: &Traffic, area: Rect) -> Sparkline<'static> {
    let skip = traffic.history.len().saturating_sub(usize::from(area.width));
    let bars = traffic.history.iter().skip(skip).map(|&served| {
        let colour = match served {
            served if served * 10 >= traffic.expected * 7 => GOOD,
            served if served * 10 >= traffic.expected * 3 => WARN,
            _ => BAD,
        };
        let bar = SparklineBar::from(if served == 0 { None } else { Some(served) });
        bar.style(Some(Style::new().fg(colour)))
    });
    Sparkline::default()
        .data(bars.collect::<Vec<_>>())
        .max(traffic.expected * 5 / 4)
        .absent_value_style(Style::new().fg(BAD))
        .absent_value_symbol("▁")
}

fn ago(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds < 100 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn draw_servers(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.servers.iter().enumerate().map(|(index, server)| server_row(index, server, index == model.server));
    let header =
        Row::new(["", "", "server", "address", "health", "conns", "share", "why"]).style(Style::new().fg(QUIET));
    let widths = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(8),
        Constraint::Length(15),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(13),
        Constraint::Min(10),
    ];
    let table = Table::new(rows, widths).header(header).block(panel("API servers"));
    frame.render_widget(table, area);
}

fn server_row(index: usize, server: &ServerView, selected: bool) -> Row<'static> {
    let (symbol, word, colour) = match (server.running, server.state.as_deref()) {
        (false, Some("up")) => ("✗", "killed".to_owned(), WARN),
        (_, Some("up")) => ("●", "up".to_owned(), GOOD),
        (_, Some("down")) => ("✗", "down".to_owned(), BAD),
        (_, Some(other)) => ("◐", other.to_owned(), WARN),
        (_, None) => ("◌", "unknown".to_owned(), QUIET),
    };
    let name = Span::from(server.name.clone()).bold();
    let why = match (server.running, server.ready) {
        (false, _) if server.reason.is_empty() => "its process was killed".to_owned(),
        (true, false) if server.reason.is_empty() => "it answers 500 on /readyz".to_owned(),
        _ => server.reason.clone(),
    };
    let key = format!("{}", index + 1);
    Row::new([
        Cell::from(if selected { Span::from("▸").fg(MARK) } else { Span::from(" ") }),
        Cell::from(Span::from(key).fg(MARK)),
        Cell::from(if selected { name.fg(MARK) } else { name }),
        Cell::from(server.address.clone()),
        Cell::from(Span::styled(format!("{symbol} {word}"), colour)),
        Cell::from(format!("{:>5}", server.connections)),
        Cell::from(share(server.share)),
        Cell::from(Span::from(why).fg(QUIET)),
    ])
}

/// A bar of six characters in eighths, and the figure.
fn share(share: f64) -> Line<'static> {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * 48.0).round() as usize;
    let part = EIGHTHS.get(eighths % 8).copied().unwrap_or("");
    let bar = format!("{}{part}", "█".repeat(eighths / 8));
    Line::from(vec![Span::from(format!("{bar:<6}")).fg(MARK), Span::from(format!(" {:>5.1}%", share * 100.0))])
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = panel("What happened");
    let room = usize::from(block.inner(area).height);
    let newest = model.events.iter().rev().take(room).rev();
    let lines: Vec<Line<'_>> = newest
        .map(|event| {
            let (symbol, colour) = tone(event.tone);
            let text = Span::from(event.text.clone());
            Line::from(vec![
                Span::from(format!("{}  ", clock(event.at))).fg(QUIET),
                Span::styled(format!("{symbol} "), colour),
                match event.tone {
                    Tone::Deed => text.fg(MARK),
                    Tone::Bad => text.fg(BAD),
                    Tone::Good | Tone::Change => text,
                },
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn tone(tone: Tone) -> (&'static str, Color) {
    match tone {
        Tone::Deed => ("▸", MARK),
        Tone::Good => ("●", GOOD),
        Tone::Change => ("○", WARN),
        Tone::Bad => ("✗", BAD),
    }
}

fn draw_keys(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let balancer = model.balancers.get(model.balancer).map(|b| b.name.clone()).unwrap_or_default();
    let server = model.servers.get(model.server).map(|s| s.name.clone()).unwrap_or_default();
    let first = [
        ("1 2 3", "kill / revive a server".to_owned()),
        ("↑↓", "choose".to_owned()),
        ("r", format!("drain {server}")),
        ("?", "try it".to_owned()),
        ("q", "quit".to_owned()),
    ];
    let second = [
        ("Tab", balancer),
        ("k", "kill -9".to_owned()),
        ("s", "stop / start".to_owned()),
        ("z", "freeze".to_owned()),
        ("c", "cut / mend its link".to_owned()),
    ];
    let line = |keys: &[(&str, String)]| {
        let spans = keys.iter().flat_map(|(key, what)| {
            [Span::from(format!(" {key} ")).fg(Color::Black).bg(MARK), Span::from(format!(" {what} "))]
        });
        Line::from(spans.collect::<Vec<_>>())
    };
    frame.render_widget(Paragraph::new(vec![line(&first), line(&second)]), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, help: &[String]) {
    let width = area.width.saturating_sub(4);
    let inside = usize::from(width.saturating_sub(4)).max(1);
    let lines: usize = help.iter().map(|line| line.chars().count().div_ceil(inside).max(1)).sum();
    let height = (lines as u16 + 2).min(area.height.saturating_sub(2));
    let [_, row, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    let [_, popup, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width), Constraint::Fill(1)]).areas(row);
    frame.render_widget(Clear, popup);
    let lines: Vec<Line<'_>> = help.iter().map(|line| Line::from(line.as_str())).collect();
    let text = Paragraph::new(lines).wrap(ratatui::widgets::Wrap { trim: false });
    frame.render_widget(text.block(panel("Try it from another terminal").border_style(MARK)), popup);
}

#[cfg(test)]
mod tests;

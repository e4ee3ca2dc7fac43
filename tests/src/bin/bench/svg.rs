//! A report as a drawing: a panel for each table, a bar for each balancer, a whisker from the least to the most.

use std::fmt::Write as _;

use xvip_tests::figures::Spread;

use crate::cost::{Cost, Program, ProgramCost};
use crate::phase::{Balancer, Phase, Unit};
use crate::report::Report;
use crate::text::about;

const MARGIN: f64 = 24.0;
const PANEL: f64 = 380.0;
const COLUMNS: usize = 3;
const BAR: f64 = 16.0;
const STEP: f64 = 24.0;
/// Room for names at the left of bars, and for figures at their right.
const NAMES: f64 = 92.0;
const FIGURES: f64 = 96.0;
const LINE: f64 = 16.0;

const NANOSECONDS: &str = "ns net of XDP_DROP";

/// Bars of one kind.
struct Panel {
    title: String,
    unit: String,
    digits: usize,
    /// The least that the scale goes up to.
    most: f64,
    bars: Vec<Bar>,
}

struct Bar {
    name: String,
    colour: &'static str,
    value: Spread,
}

/// All of a report in one file that needs no other.
pub(crate) fn render(report: &Report) -> String {
    let rows = rows(report);
    let about = about(report);
    let width = MARGIN * 2.0 + PANEL * COLUMNS as f64;
    let mut body = String::new();
    let mut y = MARGIN + 8.0;
    text(&mut body, MARGIN, y, "title", "xvip bench");
    for line in &about {
        y += LINE;
        text(&mut body, MARGIN, y, "small", line);
    }
    y += MARGIN;
    for row in &rows {
        let height = row.iter().map(Panel::height).fold(0.0, f64::max);
        for (column, panel) in row.iter().enumerate() {
            panel.draw(&mut body, MARGIN + PANEL * column as f64, y);
        }
        y += height + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {y:.0}\" width=\"{width:.0}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<style>.title{{font-size:16px;font-weight:bold}}\
         .head{{font-weight:bold}}.small{{fill:#555}}.whisker{{stroke:#222;stroke-width:1}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// A row of panels for each table: rate, what most wait, processor time; and behind them one for each cost.
fn rows(report: &Report) -> Vec<Vec<Panel>> {
    let mut rows = Vec::new();
    for table in &report.tables {
        let bars = |value: &dyn Fn(&crate::report::Figures) -> Option<Spread>| -> Vec<Bar> {
            let bar = |row: &crate::report::Row| {
                let value = value(&row.figures)?;
                Some(Bar { name: row.balancer.name(), colour: colour(row.balancer), value })
            };
            table.rows.iter().filter_map(bar).collect()
        };
        let title = format!("{}, {}", table.phase.name(), table.wire.name());
        let panel = |what: &str, unit: &str, digits, bars| Panel {
            title: if what.is_empty() { title.clone() } else { format!("{title}: {what}") },
            unit: unit.to_owned(),
            digits,
            most: 0.0,
            bars,
        };
        let is_paced = table.phase.is_paced();
        let mut row = Vec::new();
        // By a timetable all rates are the same; in a closed loop the tail is the load's own queue.
        if !is_paced {
            row.push(panel("", table.unit.rate(), table.unit.digits(), bars(&|figures| figures.rate)));
        }
        if table.unit != Unit::Bytes {
            row.push(panel("p50", "ms", 3, bars(&|figures| figures.p50)));
        }
        if is_paced {
            row.push(panel("p99", "ms", 3, bars(&|figures| figures.p99)));
        }
        row.push(panel("CPU added", table.unit.cost(), 2, bars(&|figures| figures.added)));
        rows.push(row);
    }
    let mut costs: Vec<_> = packets(report);
    costs.extend(new_flows(report));
    let mut costs = costs.into_iter().peekable();
    while costs.peek().is_some() {
        rows.push(costs.by_ref().take(COLUMNS).collect());
    }
    rows
}

/// A panel for each number of flows, all on one scale.
fn packets(report: &Report) -> Vec<Panel> {
    let costs = report.costs.iter().filter(|cost| cost.phase == Phase::Packets);
    let most = costs.clone().flat_map(|cost| &cost.programs).map(|program| program.net.most).fold(0.0, f64::max);
    let panel = |cost: &Cost| Panel {
        title: format!("{}: {}", cost.phase.name(), cost.what),
        unit: NANOSECONDS.to_owned(),
        digits: 0,
        most,
        bars: cost.programs.iter().map(|program| bar_of(program, program.program.to_string())).collect(),
    };
    costs.map(panel).collect()
}

/// One panel with a bar for each number of ports.
fn new_flows(report: &Report) -> Option<Panel> {
    let costs = report.costs.iter().filter(|cost| cost.phase == Phase::NewFlows);
    let bars: Vec<_> = costs
        .filter_map(|cost| Some(bar_of(cost.programs.last()?, format!("{} % in use", cost.ports_used?))))
        .collect();
    let title = format!("{}, by source ports in use", Phase::NewFlows.name());
    (!bars.is_empty()).then(|| Panel { title, unit: NANOSECONDS.to_owned(), digits: 0, most: 0.0, bars })
}

fn bar_of(cost: &ProgramCost, name: String) -> Bar {
    let colour = if cost.program == Program::Xvip { colour(Balancer::XvipXdp) } else { "#9aa5b1" };
    Bar { name, colour, value: cost.net }
}

fn colour(balancer: Balancer) -> &'static str {
    match balancer {
        Balancer::Direct => "#9aa5b1",
        Balancer::Haproxy => "#d9822b",
        Balancer::Nftables => "#8a6fc0",
        Balancer::XvipXdp => "#1f7a4d",
        Balancer::XvipTc => "#57b894",
    }
}

impl Panel {
    fn height(&self) -> f64 {
        LINE * 2.0 + STEP * self.bars.len() as f64
    }

    fn draw(&self, out: &mut String, x: f64, y: f64) {
        text(out, x, y, "head", &self.title);
        text(out, x, y + LINE - 2.0, "small", &self.unit);
        let most = self.bars.iter().map(|bar| bar.value.most).fold(self.most, f64::max);
        let room = PANEL - NAMES - FIGURES;
        let length = |value: f64| if most > 0.0 { (value / most).clamp(0.0, 1.0) * room } else { 0.0 };
        for (place, bar) in self.bars.iter().enumerate() {
            let top = y + LINE + STEP * place as f64 + 4.0;
            let middle = top + BAR / 2.0;
            let left = x + NAMES;
            text(out, x, middle + 4.0, "", &bar.name);
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                length(bar.value.median),
                bar.colour
            );
            let (from, to) = (left + length(bar.value.least), left + length(bar.value.most));
            let _ = writeln!(
                out,
                "<path class=\"whisker\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {:.1}v6M{to:.1} {:.1}v6\"/>",
                middle - 3.0,
                middle - 3.0
            );
            let digits = self.digits;
            text(out, to + 6.0, middle + 4.0, "", &format!("{:.digits$}", bar.value.median));
        }
    }
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\"{class}>{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_is_sound() {
        let report = crate::tests::report();
        let drawing = render(&report);
        assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"));
        // Every element is closed, and nothing is no number.
        for name in ["text", "style", "svg"] {
            let open = drawing.matches(&format!("<{name}")).count();
            let close = drawing.matches(&format!("</{name}>")).count();
            assert_eq!(open, close, "{name}");
        }
        assert!(!drawing.contains("NaN") && !drawing.contains("inf\""), "{drawing}");
        assert!(drawing.contains("connections, wire") && drawing.contains(">12500<"), "{drawing}");
        assert!(drawing.contains("1 flow, to backends"));
    }

    #[test]
    fn what_has_a_meaning_elsewhere_is_escaped() {
        let mut out = String::new();
        text(&mut out, 0.0, 0.0, "", "a < b & c");
        assert_eq!(out, "<text x=\"0.0\" y=\"0.0\">a &lt; b &amp; c</text>\n");
    }
}

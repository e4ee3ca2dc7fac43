//! A report for a document, in Markdown: a table of what went through and one of what it cost, for each kind of wire.

use xvip_tests::figures::Spread;

use crate::phase::{Balancer, Phase, Wire};
use crate::report::{Figures, Report, Table};
use crate::text::{Style, about, bounds, costs, grid};

/// All of a report that fits on a page.
pub(crate) fn render(report: &Report) -> String {
    let mut out: Vec<_> = about(report).into_iter().map(|line| format!("- {line}")).collect();
    let mut section = |title: String, cells: Vec<Vec<String>>| {
        if cells.len() > 1 {
            out.extend([String::new(), format!("{title}:"), String::new()]);
            out.extend(grid(&cells, Style::Markdown));
        }
    };
    for wire in [Wire::Wire, Wire::Plain] {
        let tables: Vec<_> = report.tables.iter().filter(|table| table.wire == wire).collect();
        let of = |cell: fn(&Table, &Figures) -> String, what: fn(&Table) -> String| cells(&tables, cell, what);
        let name = wire.name();
        section(format!("`{name}`, {}; median, and in brackets the ratio to haproxy", wire.offloads()), of(went, what));
        section(format!("`{name}`, processor time that each adds to that of direct"), of(cost, unit));
    }
    for phase in [Phase::Packets, Phase::NewFlows] {
        section(format!("{}, ns net of XDP_DROP", phase.title()), costs(report, phase));
    }
    section("Promised".to_owned(), bounds(report));
    out.push(String::new());
    out.join("\n")
}

/// A line for each phase, a column for each balancer.
fn cells(tables: &[&Table], cell: fn(&Table, &Figures) -> String, what: fn(&Table) -> String) -> Vec<Vec<String>> {
    let who: Vec<Balancer> =
        tables.first().map(|table| table.rows.iter().map(|row| row.balancer).collect()).unwrap_or_default();
    let header = std::iter::once(String::new()).chain(who.iter().map(|balancer| balancer.name())).collect();
    let lines = tables.iter().map(|table| {
        let of = |balancer: &Balancer| table.row(*balancer).map(|row| cell(table, &row.figures)).unwrap_or_default();
        std::iter::once(what(table)).chain(who.iter().map(of)).collect()
    });
    std::iter::once(header).chain(lines).collect()
}

fn what(table: &Table) -> String {
    if table.phase.is_paced() {
        format!("{}, p50 / p99 ms", table.phase.name())
    } else {
        format!("{}, {}", table.phase.name(), table.unit.rate())
    }
}

fn unit(table: &Table) -> String {
    format!("{}, {}", table.phase.name(), table.unit.cost())
}

/// Of a timetable the latency, because its rate is given; else the rate.
fn went(table: &Table, figures: &Figures) -> String {
    let failed = if figures.failed > 0 { format!(", {} failed", figures.failed) } else { String::new() };
    let text = if table.phase.is_paced() {
        format!("{} / {}", middle(figures.p50, 3), middle(figures.p99, 3))
    } else {
        with_ratio(middle(figures.rate, table.unit.digits()), figures.rate_to_haproxy)
    };
    format!("{text}{failed}")
}

fn cost(_: &Table, figures: &Figures) -> String {
    figures.added.map(|added| with_ratio(middle(Some(added), 2), figures.added_to_haproxy)).unwrap_or_default()
}

fn middle(spread: Option<Spread>, digits: usize) -> String {
    spread.map(|spread| format!("{:.digits$}", spread.median)).unwrap_or_default()
}

fn with_ratio(value: String, ratio: Option<Spread>) -> String {
    ratio.map_or_else(|| value.clone(), |ratio| format!("{value} ({:.2})", ratio.median))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_cell_for_each_balancer() {
        let text = render(&crate::tests::report());
        let line = text.lines().find(|line| line.starts_with("| connections, conn/s")).unwrap();
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "connections, conn/s", "15000 (2.00)", "7500 (1.00)", "12500 (1.75)", ""]);
        assert!(text.contains("| connections, CPU-s/10k conn |"), "{text}");
        assert!(text.contains("MISSED") && text.contains("1 flow, to backends"), "{text}");
    }
}

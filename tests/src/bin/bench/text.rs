//! A report for people, with everything but the single values.

use xvip_tests::figures::Spread;

use crate::phase::{Balancer, Phase, Unit};
use crate::report::{Report, Row, Table};

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For a terminal.
    Plain,
    /// For a document.
    Markdown,
}

/// All of a report.
pub(crate) fn render(report: &Report) -> String {
    let mut out = about(report);
    let mut wire = None;
    for table in &report.tables {
        if wire.replace(table.wire) != Some(table.wire) {
            out.push(String::new());
            out.push(format!("{}: {}", table.wire.name(), table.wire.offloads()));
        }
        out.push(String::new());
        out.push(format!("{} ({})", table.phase.title(), table.phase.name()));
        out.extend(grid(&exchanges(table), Style::Plain));
        out.extend(failures(table));
    }
    for phase in [Phase::Packets, Phase::NewFlows] {
        let cells = costs(report, phase);
        if cells.len() > 1 {
            out.push(String::new());
            out.push(format!("{}, ns net of XDP_DROP ({})", phase.title(), phase.name()));
            out.extend(grid(&cells, Style::Plain));
        }
    }
    if !report.bounds.is_empty() {
        out.push(String::new());
        out.push("What is promised".to_owned());
        out.extend(grid(&bounds(report), Style::Plain));
    }
    out.push(String::new());
    out.join("\n")
}

/// Under what circumstances.
pub(crate) fn about(report: &Report) -> Vec<String> {
    let mut lines = vec![
        report.machine.to_string(),
        report.versions.join("; "),
        format!("load when it began: {}", report.load_at_start),
        format!(
            "{} rounds of {} s each, in turn; median [least-most] of the rounds, ratios within a round; {} failed",
            report.rounds,
            report.seconds,
            report.failed()
        ),
        "CPU: busy time of the whole machine; added: beyond that of direct in the same round".to_owned(),
    ];
    if report.is_quick {
        lines.push("a QUICK run: it shows that everything works, its figures are noise".to_owned());
    }
    lines.extend(report.warnings.iter().map(|warning| format!("WARNING: {warning}")));
    lines
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map(|spread| format!("{spread:.digits$}")).unwrap_or_default()
}

fn exchanges(table: &Table) -> Vec<Vec<String>> {
    let unit = table.unit;
    let with_latency = unit != Unit::Bytes;
    let mut header = vec!["".to_owned(), unit.rate().to_owned(), "/ direct".to_owned(), "/ haproxy".to_owned()];
    if with_latency {
        header.extend(["p50 ms".to_owned(), "p99 ms".to_owned()]);
    }
    header.extend([unit.cost().to_owned(), "added".to_owned(), "/ haproxy".to_owned(), "failed".to_owned()]);
    let mut cells = vec![header];
    for row in &table.rows {
        let figures = &row.figures;
        let mut line = vec![
            called(row),
            shown(figures.rate, unit.digits()),
            shown(figures.rate_to_direct.filter(|_| row.balancer != Balancer::Direct), 2),
            shown(figures.rate_to_haproxy.filter(|_| row.balancer != Balancer::Haproxy), 2),
        ];
        if with_latency {
            line.extend([shown(figures.p50, 3), shown(figures.p99, 3)]);
        }
        let to_haproxy = figures.added_to_haproxy.filter(|_| row.balancer != Balancer::Haproxy);
        line.extend([
            shown(figures.busy, 2),
            shown(figures.added, 2),
            shown(to_haproxy, 2),
            figures.failed.to_string(),
        ]);
        cells.push(line);
    }
    cells
}

fn called(row: &Row) -> String {
    if row.datapath.is_empty() || format!("xvip-{}", row.datapath) == row.balancer.name() {
        row.balancer.name()
    } else {
        format!("{} ({})", row.balancer.name(), row.datapath)
    }
}

/// Why something failed, and who was slow.
fn failures(table: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &table.rows {
        for (round, sample) in row.samples.iter().enumerate() {
            for (why, count) in &sample.failures {
                lines.push(format!("{} in round {}: {count} x {why}", row.balancer.name(), round + 1));
            }
        }
        if row.figures.slow > 0 {
            lines.push(format!("{}: {} took 0.9 s and longer", row.balancer.name(), row.figures.slow));
        }
    }
    lines
}

/// What packets cost.
pub(crate) fn costs(report: &Report, phase: Phase) -> Vec<Vec<String>> {
    let all: Vec<_> = report.costs.iter().filter(|cost| cost.phase == phase).collect();
    let mut header = vec!["".to_owned(), "XDP_DROP, raw".to_owned()];
    if let Some(first) = all.first() {
        header.extend(first.programs.iter().map(|cost| cost.program.to_string()));
    }
    if phase == Phase::NewFlows {
        header.extend(["/ none in use".to_owned(), "refused".to_owned()]);
    } else {
        header.push("xvip / bare translation".to_owned());
    }
    let mut cells = vec![header];
    for cost in all {
        let mut line = vec![cost.what.clone(), shown(Some(cost.floor), 0)];
        line.extend(cost.programs.iter().map(|program| shown(Some(program.net), 0)));
        if phase == Phase::NewFlows {
            line.extend([shown(cost.to_empty, 2), cost.refused.to_string()]);
        } else {
            line.push(shown(cost.ratio(crate::cost::Program::Xvip, crate::cost::Program::Translation), 2));
        }
        cells.push(line);
    }
    cells
}

/// What is promised, and what was found.
pub(crate) fn bounds(report: &Report) -> Vec<Vec<String>> {
    let header = ["", "wanted", "found", ""].map(str::to_owned).to_vec();
    let lines = report.bounds.iter().map(|bound| {
        let wanted = format!("{} {}", if bound.is_least { "at least" } else { "at most" }, bound.limit);
        let kept = if bound.is_kept() { "kept" } else { "MISSED" };
        vec![bound.what.clone(), wanted, shown(Some(bound.found), 2), kept.to_owned()]
    });
    std::iter::once(header).chain(lines).collect()
}

/// Lines of a table whose first line is its header.
pub(crate) fn grid(cells: &[Vec<String>], style: Style) -> Vec<String> {
    let columns = cells.first().map_or(0, Vec::len);
    let width = |column: usize| {
        cells.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let padded: Vec<_> = padded.collect();
        match style {
            Style::Plain => padded.join("  ").trim_end().to_owned(),
            Style::Markdown => format!("| {} |", padded.join(" | ")),
        }
    };
    let mut lines: Vec<_> = cells.iter().map(line).collect();
    if style == Style::Markdown && !lines.is_empty() {
        let rule = (0..columns).map(|column| if column == 0 { "---" } else { "---:" });
        lines.insert(1, format!("| {} |", rule.collect::<Vec<_>>().join(" | ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_aligned() {
        let cells = [["", "n"], ["one", "10"], ["three", "7"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(grid(&cells, Style::Plain), ["        n", "one    10", "three   7"]);
        let markdown = grid(&cells, Style::Markdown);
        assert_eq!(markdown, ["|       |  n |", "| --- | ---: |", "| one   | 10 |", "| three |  7 |"]);
        assert!(grid(&[], Style::Markdown).is_empty());
    }

    #[test]
    fn every_row_is_as_long_as_its_header() {
        let report = crate::tests::report();
        for table in &report.tables {
            let cells = exchanges(table);
            assert!(cells.iter().all(|line| line.len() == cells[0].len()));
        }
        for phase in [Phase::Packets, Phase::NewFlows] {
            let cells = costs(&report, phase);
            assert!(cells.len() == 2 && cells.iter().all(|line| line.len() == cells[0].len()), "{cells:?}");
        }
        let text = render(&report);
        assert!(text.contains("\nhaproxy (nbthread 2)") && text.contains(" 7500 [5000-10000]  "), "{text}");
        assert!(text.contains("MISSED") && text.contains("kept"), "{text}");
        assert!(text.contains("QUICK"));
    }
}

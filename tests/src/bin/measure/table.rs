//! Plain tables: what was measured, how often, and the middle and the ends of what was found.

use xvip_tests::figures::median;
use xvip_tests::stop::say;

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// What, with its unit.
    pub(crate) what: String,
    /// Every value.
    pub(crate) values: Vec<f64>,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// What the median may be at most, where that is promised.
    pub(crate) bound: Option<f64>,
}

impl Row {
    /// Without a bound.
    pub(crate) fn new(what: impl Into<String>, digits: usize, values: Vec<f64>) -> Row {
        Row { what: what.into(), values, digits, bound: None }
    }

    /// Whether the median is within the bound.
    pub(crate) fn kept(&self) -> bool {
        self.bound.is_none_or(|bound| median(&self.values) <= bound)
    }
}

/// Prints the rows as one table.
pub(crate) fn print(rows: &[Row]) {
    lines(rows).into_iter().for_each(say);
}

fn lines(rows: &[Row]) -> Vec<String> {
    let header = ["what", "n", "median", "min", "max", "median at most"].map(str::to_owned);
    let mut cells = vec![header];
    cells.extend(rows.iter().map(cells_of));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        line.trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

fn cells_of(row: &Row) -> [String; 6] {
    let number = |value: f64| format!("{value:.*}", row.digits);
    let least = row.values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = row.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bound = row.bound.map(|bound| format!("{} {}", number(bound), if row.kept() { "kept" } else { "MISSED" }));
    [
        row.what.clone(),
        row.values.len().to_string(),
        number(median(&row.values)),
        number(least),
        number(most),
        bound.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_whether_their_bound_is_kept() {
        let row = Row { bound: Some(150.0), ..Row::new("outage at SIGTERM, ms", 0, vec![100.0, 120.0, 300.0]) };
        let late = Row { bound: Some(110.0), ..row.clone() };
        let found = lines(&[row, late, Row::new("RSS, MiB", 1, vec![9.96])]);
        assert_eq!(found[0], "what                   n  median   min   max  median at most");
        assert_eq!(found[1], "outage at SIGTERM, ms  3     120   100   300        150 kept");
        assert!(found[2].ends_with("110 MISSED"), "{}", found[2]);
        assert!(found[3].starts_with("RSS, MiB               1    10.0"), "{}", found[3]);
    }
}

//! What all measurements say together: medians, and ratios within a round.

use serde::{Deserialize, Serialize};
use xvip_tests::figures::Spread;
use xvip_tests::machine::Machine;

use crate::bounds::Bound;
use crate::cost::Cost;
use crate::phase::{Balancer, Phase, Unit, Wire};
use crate::sample::Sample;

/// Everything that a run has found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// /proc/loadavg before anything was done.
    pub(crate) load_at_start: String,
    /// Versions of who was measured.
    pub(crate) versions: Vec<String>,
    /// How often everything was measured, one after the other.
    pub(crate) rounds: usize,
    /// How long each measurement counted.
    pub(crate) seconds: f64,
    /// Short measurements, whose figures are noise.
    pub(crate) is_quick: bool,
    /// What speaks against these figures.
    pub(crate) warnings: Vec<String>,
    /// What went over wires.
    pub(crate) tables: Vec<Table>,
    /// What happened inside the program.
    pub(crate) costs: Vec<Cost>,
    /// What is promised.
    pub(crate) bounds: Vec<Bound>,
}

/// One phase on one kind of wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    /// What the wires do to packets.
    pub(crate) wire: Wire,
    /// What was measured.
    pub(crate) phase: Phase,
    /// What a rate counts.
    pub(crate) unit: Unit,
    /// By balancer.
    pub(crate) rows: Vec<Row>,
}

/// One balancer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Who.
    pub(crate) balancer: Balancer,
    /// How it handles packets.
    pub(crate) datapath: String,
    /// What was measured, by round.
    pub(crate) samples: Vec<Sample>,
    /// The same in short.
    pub(crate) figures: Figures,
}

/// A row in short; what has no meaning, or nothing to compare with, is none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// In the unit of the phase.
    pub(crate) rate: Option<Spread>,
    /// Of rates in the same round.
    pub(crate) rate_to_direct: Option<Spread>,
    /// Of rates in the same round.
    pub(crate) rate_to_haproxy: Option<Spread>,
    /// Milliseconds.
    pub(crate) p50: Option<Spread>,
    /// Milliseconds.
    pub(crate) p99: Option<Spread>,
    /// Processor time of the whole machine, seconds for a batch of the unit.
    pub(crate) busy: Option<Spread>,
    /// The same beyond that of `direct` in the same round: what the balancer adds.
    pub(crate) added: Option<Spread>,
    /// Of what is added in the same round.
    pub(crate) added_to_haproxy: Option<Spread>,
    /// Exchanges or streams that failed in all rounds.
    pub(crate) failed: u64,
    /// Exchanges that took 0.9 s and longer in all rounds.
    pub(crate) slow: u64,
}

impl Table {
    /// Computes every row's figures from the samples.
    pub(crate) fn new(wire: Wire, phase: Phase, rows: Vec<(Balancer, String, Vec<Sample>)>) -> Table {
        let unit = phase.unit();
        let rows = rows.into_iter().map(|(balancer, datapath, samples)| {
            let figures = Figures::default();
            Row { balancer, datapath, samples, figures }
        });
        let mut table = Table { wire, phase, unit, rows: rows.collect() };
        let figures: Vec<_> = table.rows.iter().map(|row| table.figures(row)).collect();
        for (row, figures) in table.rows.iter_mut().zip(figures) {
            row.figures = figures;
        }
        table
    }

    /// A balancer's row.
    pub(crate) fn row(&self, balancer: Balancer) -> Option<&Row> {
        self.rows.iter().find(|row| row.balancer == balancer)
    }

    fn figures(&self, row: &Row) -> Figures {
        let of = |value: &dyn Fn(&Sample) -> f64| Spread::of(&row.samples.iter().map(value).collect::<Vec<_>>());
        let latency = |value: &dyn Fn(&Sample) -> Option<f64>| {
            let values: Option<Vec<_>> = row.samples.iter().map(value).collect();
            values.and_then(|values| Spread::of(&values))
        };
        let is_direct = row.balancer == Balancer::Direct;
        let added = self.added(row.balancer);
        Figures {
            rate: of(&|sample| self.unit.shown(sample.each_second)),
            rate_to_direct: self.rate_ratio(row.balancer, Balancer::Direct),
            rate_to_haproxy: self.rate_ratio(row.balancer, Balancer::Haproxy),
            p50: latency(&|sample| sample.p50),
            p99: latency(&|sample| sample.p99),
            busy: of(&|sample| sample.busy * self.unit.batch()),
            added: added.filter(|_| !is_direct).and_then(|added| Spread::of(&added)),
            added_to_haproxy: self.added_ratio(row.balancer, Balancer::Haproxy).filter(|_| !is_direct),
            failed: row.samples.iter().map(Sample::failed).sum(),
            slow: row.samples.iter().map(|sample| sample.slow).sum(),
        }
    }

    /// Of rates in the same round.
    pub(crate) fn rate_ratio(&self, of: Balancer, to: Balancer) -> Option<Spread> {
        let (of, to) = (self.row(of)?, self.row(to)?);
        let ratios = of.samples.iter().zip(&to.samples).map(|(of, to)| of.each_second / to.each_second);
        Spread::of(&ratios.collect::<Vec<_>>())
    }

    /// Of the processor time that they add in the same round.
    pub(crate) fn added_ratio(&self, of: Balancer, to: Balancer) -> Option<Spread> {
        let (of, to) = (self.added(of)?, self.added(to)?);
        // In noise a balancer may seem to cost nothing: then there is nothing to compare with.
        if to.iter().any(|to| *to <= 0.0) {
            return None;
        }
        Spread::of(&of.iter().zip(&to).map(|(of, to)| of / to).collect::<Vec<_>>())
    }

    /// Processor time that a balancer adds in each round, seconds for a batch of the unit.
    fn added(&self, balancer: Balancer) -> Option<Vec<f64>> {
        let (of, direct) = (self.row(balancer)?, self.row(Balancer::Direct)?);
        let pairs = of.samples.iter().zip(&direct.samples);
        Some(pairs.map(|(of, direct)| (of.busy - direct.busy) * self.unit.batch()).collect())
    }
}

impl Report {
    /// Exchanges and streams that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.tables.iter().flat_map(|table| &table.rows).map(|row| row.figures.failed).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(crate) fn sample(each_second: f64, busy: f64) -> Sample {
        let failures = BTreeMap::new();
        Sample { each_second, busy, p50: Some(0.2), p99: Some(1.0), slow: 0, failures, served: [100, 100, 100] }
    }

    pub(crate) fn table() -> Table {
        let rows = vec![
            (Balancer::Direct, String::new(), vec![sample(20_000.0, 1e-4), sample(10_000.0, 1e-4)]),
            (Balancer::Haproxy, "nbthread 2".to_owned(), vec![sample(10_000.0, 2e-4), sample(5_000.0, 3e-4)]),
            (Balancer::XvipXdp, "xdp".to_owned(), vec![sample(15_000.0, 1.2e-4), sample(10_000.0, 1.2e-4)]),
        ];
        Table::new(Wire::Wire, Phase::Connections, rows)
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let table = table();
        let xvip = &table.row(Balancer::XvipXdp).unwrap().figures;
        assert_eq!(xvip.rate, Some(Spread { median: 12_500.0, least: 10_000.0, most: 15_000.0 }));
        assert_eq!(xvip.rate_to_haproxy, Some(Spread { median: 1.75, least: 1.5, most: 2.0 }));
        assert_eq!(xvip.rate_to_direct, Some(Spread { median: 0.875, least: 0.75, most: 1.0 }));
        // 0.2 of 1 and of 2 CPU seconds for 10,000 connections.
        let ratio = xvip.added_to_haproxy.unwrap();
        assert!((ratio.least - 0.1).abs() < 1e-9 && (ratio.most - 0.2).abs() < 1e-9, "{ratio:?}");
        assert!((xvip.added.unwrap().median - 0.2).abs() < 1e-9);
        let direct = &table.row(Balancer::Direct).unwrap().figures;
        assert_eq!((direct.added, direct.added_to_haproxy), (None, None));
        assert_eq!(table.rate_ratio(Balancer::XvipXdp, Balancer::Nftables), None);
    }

    #[test]
    fn failures_add_up() {
        let mut failing = sample(1.0, 1.0);
        failing.failures.insert("reset".to_owned(), 3);
        failing.served = [10, 190, 200];
        assert!(failing.is_lopsided(0.2));
        assert!(!sample(1.0, 1.0).is_lopsided(0.2));
        let table = Table::new(Wire::Plain, Phase::Tls, vec![(Balancer::Haproxy, String::new(), vec![failing])]);
        assert_eq!(table.rows[0].figures.failed, 3);
    }
}

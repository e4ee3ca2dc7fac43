//! What is promised of the figures.

use serde::{Deserialize, Serialize};
use xvip_tests::figures::Spread;

use crate::cost::{Cost, Program};
use crate::phase::{Balancer, Phase, Wire};
use crate::report::Table;

/// A promise and what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// In words.
    pub(crate) what: String,
    /// The limit.
    pub(crate) limit: f64,
    /// Whether it is the least that it may be, not the most.
    pub(crate) is_least: bool,
    /// What was found.
    pub(crate) found: Spread,
}

impl Bound {
    /// Whether the median is within the limit.
    pub(crate) fn is_kept(&self) -> bool {
        if self.is_least { self.found.median >= self.limit } else { self.found.median <= self.limit }
    }
}

/// Those that these measurements say something about.
pub(crate) fn of(tables: &[Table], costs: &[Cost]) -> Vec<Bound> {
    let table = |wire, phase| tables.iter().find(|table| table.wire == wire && table.phase == phase);
    let rate = |wire, phase, of, to| table(wire, phase)?.rate_ratio(of, to);
    let added = |wire, phase, of, to| table(wire, phase)?.added_ratio(of, to);
    let multiple = |flows: u64| {
        let cost = costs.iter().find(|cost| cost.phase == Phase::Packets && cost.flows == flows)?;
        cost.ratio(Program::Xvip, Program::Translation)
    };
    let fill = |percent: u32| costs.iter().find(|cost| cost.ports_used == Some(percent))?.to_empty;
    let (haproxy, nftables) = (Balancer::Haproxy, Balancer::Nftables);
    // By XDP, and by TC, which `auto` takes on these devices.
    let by_wire = [Balancer::XvipXdp, Balancer::XvipTc].into_iter().flat_map(|xvip| {
        let (connections, requests) = (Phase::Connections, Phase::Requests);
        [
            ("connections/s", haproxy, true, 1.4, rate(Wire::Wire, connections, xvip, haproxy)),
            ("connections/s", nftables, true, 1.2, rate(Wire::Wire, connections, xvip, nftables)),
            ("CPU added per request", haproxy, false, 0.12, added(Wire::Wire, requests, xvip, haproxy)),
            ("CPU added per connection", haproxy, false, 0.22, added(Wire::Wire, connections, xvip, haproxy)),
        ]
        .map(|(what, other, is_least, limit, found)| {
            (format!("{what} on wire, {} / {}", xvip.name(), other.name()), is_least, limit, found)
        })
    });
    let others = [
        (
            "four streams on plain, xvip-tc / direct",
            true,
            0.9,
            rate(Wire::Plain, Phase::Bulk4, Balancer::XvipTc, Balancer::Direct),
        ),
        ("packet of 1 flow, xvip / bare translation, net of XDP_DROP", false, 1.8, multiple(1)),
        ("packet of 100,000 flows, xvip / bare translation, net of XDP_DROP", false, 1.3, multiple(100_000)),
        ("new flow with 50 % of the source ports in use / with none", false, 1.3, fill(50)),
        ("new flow with 90 % of the source ports in use / with none", false, 1.5, fill(90)),
    ];
    let others = others.into_iter().map(|(what, is_least, limit, found)| (what.to_owned(), is_least, limit, found));
    let all = by_wire.chain(others);
    all.filter_map(|(what, is_least, limit, found)| Some(Bound { what, limit, is_least, found: found? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::table;

    #[test]
    fn bounds_are_kept_by_the_median() {
        let bounds = of(&[table()], &[]);
        let kept: Vec<_> = bounds.iter().map(|bound| (bound.limit, bound.is_kept())).collect();
        assert_eq!(kept, [(1.4, true), (0.22, true)]);
        let mut worse = bounds[0].clone();
        worse.found.median = 1.39;
        assert!(!worse.is_kept());
    }
}

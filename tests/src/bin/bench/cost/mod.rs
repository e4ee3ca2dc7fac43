//! What a packet costs inside the program, beside programs that do less.
//!
//! Each program is entered by a tail call from a feeder that writes a fresh header into the frame, so that thousands
//! of runs can follow each other in one call of the kernel (BPF_PROG_TEST_RUN) and every one is of the flow it should be. What
//! the feeder and the loop cost is in every figure alike; XDP_DROP measures it, and figures are net of that.
//! Programs take turns in every round, so that what else the machine does falls on all of them.

mod assembler;
mod feeder;
mod flows;
mod new_flows;
mod packets;
mod programs;

use std::fmt;

use serde::{Deserialize, Serialize};
use xvip_tests::figures::{Spread, median};

use crate::phase::Phase;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Flows in tables, and how many of them have packets.
    tables: &'static [(u32, &'static [u32])],
    /// Packets of known flows in one measurement.
    runs: u32,
    /// Tables that new flows are added to.
    fills: &'static [Fill],
    /// The least number of rounds for new flows.
    least_rounds: usize,
}

impl Extent {
    /// Everything.
    pub(crate) const FULL: Extent = Extent {
        tables: &[(100_000, &[1, 10_000, 100_000]), (1_000_000, &[1_000_000])],
        runs: 1_000_000,
        fills: &[Fill::used(6, 0), Fill::used(6, 50), Fill::used(6, 90), Fill::used(64, 50), Fill::NEVER],
        least_rounds: 9,
    };
    /// What shows that everything works.
    pub(crate) const QUICK: Extent = Extent {
        tables: &[(100_000, &[1, 100_000])],
        runs: 200_000,
        fills: &[Fill::used(1, 0), Fill::used(1, 50), Fill::used(1, 90)],
        least_rounds: 1,
    };
}

/// How full the tables are in which a flow begins.
#[derive(Debug, Clone, Copy)]
struct Fill {
    backends: u16,
    /// Of all source ports, how many percent have a flow.
    percent: u32,
    /// How many had one that is over.
    before: u32,
}

impl Fill {
    /// Tables without flows, and that never had any.
    const NEVER: Self = Self { backends: 6, percent: 0, before: 0 };

    /// So many percent, and where these are none, half of the ports had flows.
    const fn used(backends: u16, percent: u32) -> Self {
        Self { backends, percent, before: if percent == 0 { 50 } else { 0 } }
    }
}

pub(crate) use new_flows::new_flows;
pub(crate) use packets::packets;

/// What a packet costs in one situation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Packets of known flows, or first ones.
    pub(crate) phase: Phase,
    /// In words.
    pub(crate) what: String,
    /// Flows whose packets come in turn.
    pub(crate) flows: u64,
    /// Of the source ports, in percent, where that matters.
    pub(crate) ports_used: Option<u32>,
    /// Nanoseconds of XDP_DROP and all around it, which the others are net of.
    pub(crate) floor: Spread,
    /// By program.
    pub(crate) programs: Vec<ProgramCost>,
    /// New flows that got no source port.
    pub(crate) refused: u64,
    /// In relation to the table without flows, in the same round.
    pub(crate) to_empty: Option<Spread>,
}

/// What a packet costs in one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgramCost {
    /// Which.
    pub(crate) program: Program,
    /// Nanoseconds, by round.
    pub(crate) samples: Vec<f64>,
    /// The same in short.
    pub(crate) net: Spread,
}

/// A program that is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// Exchanges Ethernet addresses and sends back.
    Tx,
    /// The least that a translation needs: one lookup, and the rewrite.
    Translation,
    /// The datapath.
    Xvip,
    /// Another build of it.
    Object(String),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Tx => f.write_str("XDP_TX"),
            Program::Translation => f.write_str("bare translation"),
            Program::Xvip => f.write_str("xvip"),
            Program::Object(name) => f.write_str(name),
        }
    }
}

impl ProgramCost {
    /// Of what was measured in each round, net of the floor.
    fn new(program: Program, measured: &[f64], floor: &Spread) -> Option<ProgramCost> {
        let samples: Vec<_> = measured.iter().map(|nanoseconds| nanoseconds - floor.median).collect();
        Some(ProgramCost { program, net: Spread::of(&samples)?, samples })
    }
}

impl Cost {
    /// Of two programs in the same round.
    pub(crate) fn ratio(&self, of: Program, to: Program) -> Option<Spread> {
        let find = |program| self.programs.iter().find(|cost| cost.program == program);
        ratio(&find(of)?.samples, &find(to)?.samples)
    }
}

/// Of values in the same round.
fn ratio(of: &[f64], to: &[f64]) -> Option<Spread> {
    Spread::of(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}

/// The middle of several measurements in a row.
fn middle(measured: impl IntoIterator<Item = f64>) -> f64 {
    median(&measured.into_iter().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_net_of_the_floor() {
        let floor = Spread::of(&[50.0, 52.0, 51.0]).unwrap();
        let program = |program, measured: [f64; 3]| ProgramCost::new(program, &measured, &floor).unwrap();
        let cost = Cost {
            phase: Phase::Packets,
            what: String::new(),
            flows: 1,
            ports_used: None,
            floor,
            programs: vec![
                program(Program::Translation, [91.0, 71.0, 101.0]),
                program(Program::Xvip, [111.0, 81.0, 131.0]),
            ],
            refused: 0,
            to_empty: None,
        };
        assert_eq!(cost.programs[1].net, Spread { median: 60.0, least: 30.0, most: 80.0 });
        let ratio = cost.ratio(Program::Xvip, Program::Translation).unwrap();
        assert_eq!(ratio, Spread { median: 1.5, least: 1.5, most: 1.6 });
        assert_eq!(cost.ratio(Program::Xvip, Program::Tx), None);
    }
}

//! What a flood of SYNs does: to 20,000 connections that are open, and to those that are about to open.

use std::time::Instant;

use anyhow::Result;
use xvip_tests::flood::{Flood, Guard, Senders};
use xvip_tests::kernel::stay_on_cpu;

use crate::stop::say;
use crate::table::{Row, print};

const FLOWS: u32 = 20_000;
const SYNS: u32 = 10_000_000;
/// Handshakes for each figure.
const ATTEMPTS: u32 = 100;
/// What a node has by default.
const MAX_FLOWS: u32 = 131_072;
const MAX_HALF_OPEN: u32 = 32_768;
/// A client's handshake takes 10 ms: so many SYNs come in between at 0.1, 1, 2, 3, 5 and 10 million a second.
const BETWEEN: [u32; 6] = [1000, 10_000, 20_000, 30_000, 50_000, 100_000];

/// True when every connection has survived.
pub(crate) fn measure() -> Result<bool> {
    stay_on_cpu(0)?;
    let mut flood = Flood::new(Guard::None, MAX_FLOWS, MAX_HALF_OPEN)?;
    let open = (0..FLOWS).map(|_| flood.open()).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let nanoseconds = flood.syns(SYNS, Senders::Random)?;
    let took = started.elapsed();
    let mut lost = 0_u32;
    for connection in &open {
        lost += u32::from(!flood.is_alive(connection)?);
    }
    say(format!(
        "{FLOWS} established idle flows, {SYNS} SYNs from random sources ({:.0} s, {nanoseconds:.0} ns of the program for \
         each): {lost} lost",
        took.as_secs_f64()
    ));
    say("");
    say("handshakes of 10 ms that succeed during a flood, per cent");
    let kinds = [
        ("no guard, random sources", Guard::None, MAX_HALF_OPEN, Senders::Random),
        ("no guard, max_half_open 131072", Guard::None, 131_072, Senders::Random),
        ("allow, random sources", Guard::Allow, MAX_HALF_OPEN, Senders::Random),
        ("no guard, 1000 sources", Guard::None, MAX_HALF_OPEN, Senders::Few(1000)),
        ("source_limit 10/s, 1000 sources", Guard::Limit, MAX_HALF_OPEN, Senders::Few(1000)),
        ("source_limit 10/s, random sources", Guard::Limit, MAX_HALF_OPEN, Senders::Random),
    ];
    let mut rows = Vec::new();
    for (name, guard, handshakes, senders) in kinds {
        for between in BETWEEN {
            let mut flood = Flood::new(guard, MAX_FLOWS, handshakes)?;
            let succeeded = flood.handshakes(ATTEMPTS, between, senders)?;
            let rate = f64::from(between) / 10_000.0;
            let share = 100.0 * f64::from(succeeded) / f64::from(ATTEMPTS);
            rows.push(Row::new(format!("{name}, {rate} million SYNs a second"), 1, vec![share]));
        }
    }
    print(&rows);
    Ok(lost == 0)
}

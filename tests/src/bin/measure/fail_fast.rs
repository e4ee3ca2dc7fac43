//! What clients notice when an API server dies, vanishes or shuts down.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use xvip_tests::client::{Client, Options};
use xvip_tests::stats::Attempt;

use crate::stop::{self, say};
use crate::table::{Row, print};
use crate::world::{Ground, Pair, at_rest};

/// Connections of each measurement.
const CONNECTIONS: u32 = 700;
const EVERY: Duration = Duration::from_millis(20);
/// Before the fault.
const BEFORE: Duration = Duration::from_secs(2);
/// A connection is given up after so long.
const PATIENCE: Duration = Duration::from_secs(6);
/// Whoever takes longer has waited for a SYN to be sent again.
const SLOW: Duration = Duration::from_millis(900);
/// A server that shuts down answers 500 on /readyz and serves on for so long.
const GRACE: Duration = Duration::from_secs(4);

/// What happens to the server.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Cut,
    ShutDown,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Fault::Killed => "kill -9, its kernel answers RST",
            Fault::Cut => "link cut, nobody answers",
            Fault::ShutDown => "graceful shutdown, readyz 500 for 4 s",
        }
    }
}

/// Measures each fault so many times; true when no connection failed and few were slow.
pub(crate) fn measure(ground: &mut Ground, pair: &mut dyn Pair, runs: usize) -> Result<bool> {
    let mut rows = Vec::new();
    for (fault, slow_at_most) in [(Fault::Killed, 0.0), (Fault::Cut, 10.0), (Fault::ShutDown, 0.0)] {
        let (mut failed, mut slow, mut worst) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..runs {
            let server = run % ground.api_servers().len();
            let noticed = one(ground, pair, fault, server)?;
            failed.push(noticed.0);
            slow.push(noticed.1);
            worst.push(noticed.2);
        }
        let words = fault.words();
        rows.push(Row { bound: Some(0.0), ..Row::new(format!("{words}: failed"), 0, failed) });
        rows.push(Row { bound: Some(slow_at_most), ..Row::new(format!("{words}: slower than 0.9 s"), 0, slow) });
        rows.push(Row::new(format!("{words}: the longest, ms"), 0, worst));
    }
    say("");
    say(format!("{CONNECTIONS} connections, one each 20 ms (TCP, TLS 1.3, GET /whoami), from 2 s before the fault"));
    print(&rows);
    say("");
    Ok(rows.iter().all(Row::kept))
}

/// Failed, slow, and the longest time in milliseconds; those that were open with the server when it died are not among the
/// failed.
fn one(ground: &mut Ground, pair: &mut dyn Pair, fault: Fault, server: usize) -> Result<(f64, f64, f64)> {
    at_rest(pair)?;
    let options = Options::https(ground.vip(), ground.ca_file());
    let options = Options { every: EVERY, timeout: PATIENCE, watches: 0, ..options };
    let client = Client::start(ground.client(), options)?;
    let from = client.now();
    pause(BEFORE)?;
    let began = client.now();
    let struck = ground.api_servers().get_mut(server).context("no such server")?;
    match fault {
        Fault::Killed => struck.kill9()?,
        Fault::Cut => ground.set_link(server, false)?,
        Fault::ShutDown => {
            struck.set_ready(false)?;
            pause(GRACE)?;
            struck.terminate(Duration::from_secs(10))?;
        }
    }
    let done = client.now();
    let to = from + EVERY * CONNECTIONS;
    pause(to.saturating_sub(client.now()) + PATIENCE + Duration::from_millis(100))?;
    let attempts = client.attempts_since(from);
    drop(client);
    match fault {
        Fault::Killed | Fault::ShutDown => {
            ground.api_servers().get_mut(server).context("no such server")?.revive()?;
        }
        Fault::Cut => ground.set_link(server, true)?,
    }
    let mine: Vec<_> = attempts.iter().filter(|attempt| (from..to).contains(&attempt.began)).collect();
    let is_inside =
        |attempt: &Attempt| !matches!(fault, Fault::ShutDown) && attempt.began < done && attempt.ended() >= began;
    let all_failed = mine.iter().filter(|attempt| attempt.outcome.is_err()).count();
    let inside = mine.iter().filter(|attempt| attempt.outcome.is_err() && is_inside(attempt)).count();
    let failed = all_failed - inside;
    let slow = mine.iter().filter(|attempt| attempt.took > SLOW).count();
    let worst = mine.iter().map(|attempt| attempt.took).max().unwrap_or_default();
    say(format!(
        "{}: {} connections, {} failed, {} failed that were open with it, {slow} slower than 0.9 s, the longest {} ms",
        fault.words(),
        mine.len(),
        failed,
        inside,
        worst.as_millis()
    ));
    let number = |count: usize| u32::try_from(count).map_or(f64::INFINITY, f64::from);
    Ok((number(failed), number(slow), worst.as_secs_f64() * 1000.0))
}

fn pause(duration: Duration) -> Result<()> {
    if stop::sleep(duration) { Ok(()) } else { bail!("stopped") }
}

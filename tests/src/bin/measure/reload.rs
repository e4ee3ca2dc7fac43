//! What clients notice when the holder's configuration is reloaded again and again, half of the files broken, under load.

use std::time::Duration;

use anyhow::{Result, bail};
use xvip_tests::client::{Client, Options};
use xvip_tests::reloads::reload_in_turn;
use xvip_tests::stats::WatchChange;
use xvip_tests::stop::{self, say};

use crate::table::{Row, print};
use crate::world::{Ground, Pair as _, Xvip, at_rest};

/// Streams that are open all the time.
const STREAMS: usize = 200;

/// Reloads so many times; true when no connection failed, no stream broke, and the VIP stayed.
pub(crate) fn measure(ground: &Ground, pair: &mut Xvip, runs: usize) -> Result<bool> {
    let holder = at_rest(pair)?;
    let options = Options::https(ground.vip(), ground.ca_file());
    let load = Client::start(ground.client(), Options { watches: 0, ..options.clone() })?;
    let streams =
        Client::start(ground.client(), Options { watches: STREAMS, every: Duration::from_secs(3600), ..options })?;
    wait("the streams to be open", || streams.watches().iter().all(Option::is_some))?;
    let from = load.now();
    let done = reload_in_turn(pair.agent(holder)?, runs)?;
    let to = load.now();
    wait("attempts to end", || load.settled(to))?;
    let sum = load.summary(from, to);
    let broke = |change: &WatchChange| matches!(change, WatchChange::Broke { .. });
    let broken = streams.watch_events(0).iter().filter(|event| broke(&event.change)).count();
    let moved = at_rest(pair)? != holder || pair.holder() != Ok(holder);
    for words in &done.words {
        say(words.lines().next().unwrap_or_default());
    }
    say(format!("{} connections, {} failed {}", sum.attempts, sum.failed(), sum.failures_in_words()));
    let number = |count: usize| u32::try_from(count).map_or(f64::INFINITY, f64::from);
    let millis = |took: &[Duration]| took.iter().map(|took| took.as_secs_f64() * 1000.0).collect();
    let rows = [
        Row { bound: Some(0.0), ..Row::new("failed connections", 0, vec![f64::from(sum.failed())]) },
        Row { bound: Some(0.0), ..Row::new("streams that broke", 0, vec![number(broken)]) },
        Row { bound: Some(0.0), ..Row::new("the VIP moved", 0, vec![f64::from(u8::from(moved))]) },
        Row::new("applied, ms from command to exit", 1, millis(&done.applied)),
        Row::new("refused with a place in the file, ms", 1, millis(&done.refused)),
    ];
    say("");
    say(format!(
        "{runs} reloads on the holder, half of them of broken files, a new connection every 5 ms, {STREAMS} streams"
    ));
    print(&rows);
    say("");
    Ok(rows.iter().all(Row::kept))
}

fn wait(what: &str, mut probe: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..600 {
        if probe() {
            return Ok(());
        }
        if !stop::sleep(Duration::from_millis(100)) {
            bail!("stopped");
        }
    }
    bail!("waited in vain for {what}")
}

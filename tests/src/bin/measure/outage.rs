//! How long no new connection is served when the balancer that holds the VIP fails.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Result, bail};
use xvip_tests::client::{Client, Options};
use xvip_tests::stop::{self, say};

use crate::table::{Row, print};
use crate::world::{Fault, Ground, Pair, at_rest};

/// Before the fault, so that a gap that began earlier is seen whole.
pub(crate) const BEFORE: Duration = Duration::from_millis(300);
/// The least time after the fault in which the gap is looked for.
const AFTER: Duration = Duration::from_millis(2500);
/// Faults come at any phase of what repeats within this time.
const PHASES_MS: u16 = 1000;
/// Without anybody served for this long, nobody will be.
const HOPELESS: Duration = Duration::from_secs(30);

/// What one fault did.
struct Outage {
    longest: Duration,
    failed: u32,
    pause: Duration,
}

/// Inflicts each fault so many times and prints what the client noticed; true when every bound is kept.
pub(crate) fn measure(
    title: &str, ground: &Ground, pair: &mut dyn Pair, faults: &[(Fault, usize, Option<f64>)],
) -> Result<bool> {
    let client =
        Client::start(ground.client(), Options { watches: 0, ..Options::https(ground.vip(), ground.ca_file()) })?;
    let mut rows = Vec::new();
    for &(fault, runs, bound) in faults {
        let mut outages = Vec::new();
        for _ in 0..runs {
            outages.push(one(&client, pair, fault)?);
        }
        let words = fault.words();
        let all: Vec<String> = outages
            .iter()
            .map(|found| format!("{}/{}/{}", found.longest.as_millis(), found.failed, found.pause.as_millis()))
            .collect();
        say(format!("{title}, {words}: outage ms/failed connections/own pause ms of each run: {}", all.join(" ")));
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let longest = outages.iter().map(|found| ms(found.longest)).collect();
        let failed = outages.iter().map(|found| f64::from(found.failed)).collect();
        let pauses = outages.iter().map(|found| ms(found.pause)).collect();
        rows.push(Row { bound, ..Row::new(format!("{words}: outage, ms"), 0, longest) });
        rows.push(Row::new(format!("{words}: failed connections"), 0, failed));
        rows.push(Row::new(format!("{words}: the client's own longest pause, ms"), 0, pauses));
    }
    say("");
    say(format!("{title}: a new connection every 5 ms (TCP, TLS 1.3, GET /whoami), each with 1 s"));
    print(&rows);
    say("");
    Ok(rows.iter().all(Row::kept))
}

fn one(client: &Client, pair: &mut dyn Pair, fault: Fault) -> Result<Outage> {
    let holder = at_rest(pair)?;
    pause(BEFORE + phase()?)?;
    let from = client.now().saturating_sub(BEFORE);
    let at = client.now();
    pair.inflict(fault, holder)?;
    until_served(client, at, || format!("nobody was served after {}:\n{}", fault.words(), pair.last_words()))?;
    let to = client.now();
    pair.repair(fault, holder)?;
    while !client.settled(to) {
        pause(Duration::from_millis(50))?;
    }
    let seen = client.summary(from, to);
    Ok(Outage { longest: seen.outage, failed: seen.failed(), pause: seen.pause })
}

/// Waits until the outage that began at `at` must be over and clients are served; without that, it ends as `hopeless` says.
pub(crate) fn until_served(client: &Client, at: Duration, hopeless: impl Fn() -> String) -> Result<()> {
    pause(AFTER)?;
    while !served_lately(client) {
        if client.now() > at + HOPELESS {
            bail!("{}", hopeless());
        }
        pause(Duration::from_millis(100))?;
    }
    Ok(())
}

/// Whether the last half second was a good one.
fn served_lately(client: &Client) -> bool {
    let to = client.now();
    let from = to.saturating_sub(Duration::from_millis(500));
    let seen = client.summary(from, to);
    seen.served > 0 && seen.outage < Duration::from_millis(250)
}

/// Waits, unless the measuring is to end.
pub(crate) fn pause(duration: Duration) -> Result<()> {
    if stop::sleep(duration) { Ok(()) } else { bail!("stopped") }
}

/// Some time, so that faults come at any phase of what repeats.
pub(crate) fn phase() -> Result<Duration> {
    let mut bytes = [0; 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Duration::from_millis(u64::from(u16::from_ne_bytes(bytes) % PHASES_MS)))
}

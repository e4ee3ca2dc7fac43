//! Many requests through the VIP, each over a connection of its own: whether all are served, and by whom.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use xvip_tests::client::{Options, burst};
use xvip_tests::netns::Netns;
use xvip_tests::status::Status;
use xvip_tests::stop::{self, say};
use xvip_tests::topology::SERVERS;

use crate::table::{Row, print};
use crate::world::{Ground, Xvip};

const REQUESTS: usize = 20_000;
/// Under way at any time.
const AT_ONCE: usize = 32;
/// How far a server's share may be from an equal one, in percent.
const BOUND_PERCENT: f64 = 1.0;
/// What the kernels of client and servers count when something does not go smoothly.
const TROUBLE: [&str; 5] =
    ["TcpRetransSegs", "TcpAttemptFails", "TcpEstabResets", "TcpExtListenDrops", "TcpExtTCPTimeouts"];

/// Sends them `runs` times; true when nothing fails and the spread is even.
pub(crate) fn measure(ground: &Ground, pair: &mut Xvip, runs: usize) -> Result<bool> {
    let mut kept = true;
    let (mut rates, mut failures, mut deviations, mut left) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let holder = crate::world::at_rest(pair)?;
        let before = pair.agent(holder)?.status()?;
        let trouble_before = trouble(ground)?;
        let (log, names) = burst(ground.client(), Options::https(ground.vip(), ground.ca_file()), REQUESTS, AT_ONCE)?;
        let trouble_after = trouble(ground)?;
        // The agent reads its counters once a second, and goes over a full table every few seconds.
        stop::sleep(Duration::from_secs(8));
        let after = pair.agent(holder)?.status()?;

        let mut failed: BTreeMap<String, usize> = BTreeMap::new();
        let mut served: BTreeMap<&str, usize> = SERVERS.iter().map(|(name, _)| (*name, 0)).collect();
        let mut took = Vec::new();
        for attempt in &log {
            match attempt.outcome {
                Ok(server) => {
                    let name = names.get(usize::from(server)).map_or("?", String::as_str);
                    *served.entry(name).or_default() += 1;
                    took.push(attempt.took.as_secs_f64() * 1000.0);
                }
                Err(failure) => *failed.entry(failure.to_string()).or_default() += 1,
            }
        }
        let end = log.iter().map(|attempt| attempt.ended().as_secs_f64()).fold(0.0, f64::max);
        let equal = log.len() as f64 / SERVERS.len() as f64;
        say(format!("{} requests, {AT_ONCE} at once, in {end:.1} s; failed: {}", log.len(), in_words(&failed)));
        let mut worst: f64 = 0.0;
        for (name, count) in &served {
            let deviation = (*count as f64 - equal) / equal * 100.0;
            worst = worst.max(deviation.abs());
            say(format!("  {name}: {count} ({deviation:+.3} % from equal)"));
        }
        say(format!("  packets of {}: {}", pair_name(&after), in_words(&packets(&before, &after))));
        say(format!("  counted by client and servers: {}", in_words(&difference(&trouble_before, &trouble_after))));
        say("");
        print(&[Row::new("time of a request, ms", 2, took)]);
        say("");
        failures.push(failed.values().sum::<usize>() as f64);
        deviations.push(worst);
        let backends = after.services.iter().flat_map(|service| &service.backends);
        let open: u64 = backends.map(|backend| backend.connections).sum();
        left.push(open as f64);
        rates.push(log.len() as f64 / end);
        kept &= failed.is_empty() && worst <= BOUND_PERCENT && open == 0;
    }
    print(&[
        Row { bound: Some(0.0), ..Row::new("failed requests of 20,000", 0, failures) },
        Row { bound: Some(BOUND_PERCENT), ..Row::new("worst deviation from equal, %", 3, deviations) },
        Row { bound: Some(0.0), ..Row::new("connections that count as open afterwards", 0, left) },
        Row::new("requests a second", 0, rates),
    ]);
    say("");
    Ok(kept)
}

fn pair_name(status: &Status) -> String {
    let short = status.node.rsplit('-').next().unwrap_or_default();
    if short.is_empty() { "the holder".to_owned() } else { short.to_owned() }
}

/// What the datapath counted between two moments.
fn packets(before: &Status, after: &Status) -> BTreeMap<String, usize> {
    let counts = |status: &Status| -> BTreeMap<String, usize> {
        let rows = status.datapath.packets.iter();
        rows.map(|row| (format!("{} {}", row.verdict, row.reason), usize::try_from(row.packets).unwrap_or(0))).collect()
    };
    difference(&counts(before), &counts(after))
}

fn trouble(ground: &Ground) -> Result<BTreeMap<String, usize>> {
    let mut sums = BTreeMap::new();
    for netns in ground.servers().chain([ground.client()]) {
        for (name, value) in counters(netns)? {
            if TROUBLE.contains(&name.as_str()) {
                *sums.entry(name).or_default() += value;
            }
        }
    }
    Ok(sums)
}

/// The counters of /proc/net/snmp and /proc/net/netstat: a line of names above a line of values for each protocol.
fn counters(netns: &Netns) -> Result<Vec<(String, usize)>> {
    let text = netns.enter(|| -> std::io::Result<String> {
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
        Ok(snmp + &std::fs::read_to_string("/proc/thread-self/net/netstat")?)
    })??;
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for pair in lines.chunks_exact(2) {
        let [names, values] = pair else { continue };
        let protocol = names.split(':').next().unwrap_or_default();
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()).skip(1) {
            // Some values are negative; none of those asked for.
            found.push((format!("{protocol}{name}"), value.parse().unwrap_or(0)));
        }
    }
    Ok(found)
}

fn difference(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let grown = |(name, count): (&String, &usize)| {
        (name.clone(), count.saturating_sub(before.get(name).copied().unwrap_or_default()))
    };
    after.iter().map(grown).filter(|(_, count)| *count > 0).collect()
}

fn in_words(counts: &BTreeMap<String, usize>) -> String {
    let words: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

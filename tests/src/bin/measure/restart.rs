//! What clients and the other node notice when the agent on the holder of the VIP is restarted, again and again, under load.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use xvip_tests::client::{Client, Options};
use xvip_tests::owners::Owners;
use xvip_tests::scrape::Scrape;
use xvip_tests::status::Status;
use xvip_tests::stop::{self, say};
use xvip_tests::topology::{CLIENT, VIP_ADDRESS, mac};

use crate::streams::{STREAMS, Streams};
use crate::table::{Row, print};
use crate::world::{Ground, Pair as _, Xvip, at_rest};

/// How long an agent may take to end, and to begin.
const LIMIT: Duration = Duration::from_secs(20);

/// Restarts the agent of the holder so many times, alternating with another build where there is one; true when no connection
/// failed, no stream broke, and the other node saw nothing.
pub(crate) fn measure(ground: &Ground, pair: &mut Xvip, builds: [&Path; 2], runs: usize) -> Result<bool> {
    let holder = at_rest(pair)?;
    let load =
        Client::start(ground.client(), Options { watches: 0, ..Options::https(ground.vip(), ground.ca_file()) })?;
    let streams = Streams::open(ground)?;
    let before = transitions(pair, 1 - holder)?;
    let owners = Owners::ask(ground.client(), CLIENT.parse()?, VIP_ADDRESS.parse()?)?;
    let from = load.now();
    let mut silences = Vec::new();
    for run in 0..runs {
        let agent = pair.agent(holder)?;
        let at = Owners::now();
        ensure!(agent.hand_over(LIMIT)?.success(), "the agent did not end well:\n{}", agent.log_tail(10));
        if let Some(build) = builds.get((run + 1) % 2) {
            agent.use_build(build);
        }
        agent.start()?;
        agent.wait_for("to hold the VIP", LIMIT, Status::is_active)?;
        // Its addresses, tables and checks settle.
        if !stop::sleep(Duration::from_millis(500)) {
            bail!("stopped");
        }
        let said: Vec<_> = owners.said().into_iter().map(|said| said.at).filter(|said| *said >= at).collect();
        let longest = said.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
        silences.push(longest.as_secs_f64() * 1000.0);
    }
    let to = load.now();
    while !load.settled(to) {
        if !stop::sleep(Duration::from_millis(100)) {
            bail!("stopped");
        }
    }
    let sum = load.summary(from, to);
    let broken = streams.broken_since(0);
    let moved = transitions(pair, 1 - holder)? != before || pair.holder() != Ok(holder);
    let turns = owners.turns();
    ensure!(turns == [mac(pair.agent(holder)?.netns())?], "others answered for the VIP: {turns:02x?}");
    say(format!(
        "{} connections, {} failed {}, longest pause {:?}; {broken} of {STREAMS} streams broke",
        sum.attempts,
        sum.failed(),
        sum.failures_in_words(),
        sum.outage
    ));
    let kind = if builds[0] == builds[1] { "restarts" } else { "upgrades and downgrades" };
    let rows = [
        Row { bound: Some(0.0), ..Row::new("failed connections", 0, vec![f64::from(sum.failed())]) },
        Row { bound: Some(0.0), ..Row::new("streams that broke", 0, vec![f64::from(broken)]) },
        Row { bound: Some(0.0), ..Row::new("VRRP transitions", 0, vec![f64::from(u8::from(moved))]) },
        Row::new("nobody answered ARP, ms (asked every 10 ms)", 0, silences),
    ];
    say("");
    say(format!("{runs} {kind} of the agent on the holder, a new connection every 5 ms, {STREAMS} streams"));
    print(&rows);
    say("");
    Ok(rows.iter().all(Row::kept))
}

/// How often a node's virtual router has changed its state.
fn transitions(pair: &mut Xvip, index: usize) -> Result<f64> {
    let scrape = Scrape::of(pair.agent(index)?.netns())?;
    let to = |state: &&str| scrape.count("xvip_vrrp_transitions_total", &[("to", *state)]);
    Ok(["active", "backup", "fault", "initialize"].iter().map(to).sum())
}

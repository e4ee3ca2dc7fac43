//! What sharing flows costs: bytes, datagrams, processor time and delay at a steady rate of connections, and how long a node
//! that joins takes to have a full table.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xvip_tests::client::{Client, Options};
use xvip_tests::scrape::Scrape;
use xvip_tests::stop::{self, say};
use xvip_tests::until::until;

use crate::memory::{FLOWS, cpu_seconds, fill, pins};
use crate::table::{Row, print};
use crate::world::{Ground, Xvip, at_rest};

/// From one connection to the next.
const EVERY: Duration = Duration::from_millis(1);
/// How long each part is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// What two agents had counted and used at one moment.
struct Counted {
    at: Instant,
    cpu: [f64; 2],
    flows: f64,
    bytes: f64,
    receipts: f64,
    datagrams: f64,
    lag: f64,
    lags: f64,
}

impl Counted {
    /// Of the holder first, and of the other.
    fn now(pair: &mut Xvip, nodes: [usize; 2]) -> Result<Counted> {
        let mut cpu = [0.0; 2];
        for (cpu, node) in cpu.iter_mut().zip(nodes) {
            *cpu = cpu_seconds(pair.agent(node)?.pid().context("the agent has ended")?)?;
        }
        let said = Scrape::of(pair.agent(nodes[0])?.netns())?;
        let of = |name: &str, direction| said.count(name, &[("direction", direction)]);
        Ok(Counted {
            at: Instant::now(),
            cpu,
            flows: of("xvip_sync_flows_total", "sent"),
            bytes: of("xvip_sync_bytes_total", "sent"),
            receipts: of("xvip_sync_bytes_total", "received"),
            datagrams: of("xvip_sync_datagrams_total", "sent"),
            lag: said.count("xvip_sync_lag_seconds_sum", &[]),
            lags: said.count("xvip_sync_lag_seconds_count", &[]),
        })
    }
}

/// Measures so many times; the flows that it writes stay.
pub(crate) fn measure(ground: &Ground, pair: &mut Xvip, runs: usize) -> Result<bool> {
    let holder = at_rest(pair)?;
    let nodes = [holder, 1 - holder];
    let mut steady = Steady::default();
    for _ in 0..runs {
        steady.add(ground, pair, nodes)?;
    }
    let (mut took, mut bytes, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    fill(&pins(&pair.agent(holder)?.status()?))?;
    for _ in 0..runs {
        let joined = join(pair, nodes)?;
        took.push(joined.took.as_secs_f64());
        bytes.push(joined.bytes / 1e6);
        cpu.push(joined.cpu);
    }
    say("");
    say(format!("{:.0} connections a second (TCP, TLS 1.3, GET /whoami), over {WATCHED:?}", 1.0 / EVERY.as_secs_f64()));
    print(&steady.rows());
    say("");
    say(format!("a node joins that has nothing, and is told {FLOWS} flows"));
    print(&[
        Row::new("from the start of its agent until it has them, s", 2, took),
        Row::new("MB to it", 2, bytes),
        Row::new("processor time of both agents meanwhile, s", 2, cpu),
    ]);
    say("");
    Ok(true)
}

/// What was found at a steady rate.
#[derive(Default)]
struct Steady {
    flows: Vec<f64>,
    bytes: Vec<f64>,
    receipts: Vec<f64>,
    datagrams: Vec<f64>,
    lag: Vec<f64>,
    idle: Vec<f64>,
    cpu: [Vec<f64>; 2],
}

impl Steady {
    fn add(&mut self, ground: &Ground, pair: &mut Xvip, nodes: [usize; 2]) -> Result<()> {
        let still = Counted::now(pair, nodes)?;
        pause()?;
        let before = Counted::now(pair, nodes)?;
        let options = Options { watches: 0, every: EVERY, ..Options::https(ground.vip(), ground.ca_file()) };
        let load = Client::start(ground.client(), options)?;
        // The first connections of a load come before it has its pace.
        pause()?;
        let from = Counted::now(pair, nodes)?;
        pause()?;
        let to = Counted::now(pair, nodes)?;
        drop(load);
        let seconds = to.at.duration_since(from.at).as_secs_f64();
        let rate = |value: fn(&Counted) -> f64| (value(&to) - value(&from)) / seconds;
        self.flows.push(rate(|counted| counted.flows));
        self.bytes.push(rate(|counted| counted.bytes) / 1e3);
        self.receipts.push(rate(|counted| counted.receipts) / 1e3);
        self.datagrams.push(rate(|counted| counted.datagrams));
        self.lag.push((to.lag - from.lag) / (to.lags - from.lags).max(1.0) * 1e3);
        let quiet = before.at.duration_since(still.at).as_secs_f64();
        let percent =
            |from: &Counted, to: &Counted, node: usize, seconds| (to.cpu[node] - from.cpu[node]) / seconds * 100.0;
        self.idle.push(percent(&still, &before, 0, quiet));
        for (node, found) in self.cpu.iter_mut().enumerate() {
            found.push(percent(&from, &to, node, seconds));
        }
        Ok(())
    }

    fn rows(self) -> [Row; 8] {
        let [holder, other] = self.cpu;
        [
            Row::new("flows told a second", 0, self.flows),
            Row::new("kB/s to the other node", 1, self.bytes),
            Row::new("kB/s of receipts", 1, self.receipts),
            Row::new("datagrams a second", 0, self.datagrams),
            Row::new("from a change to its receipt, ms", 1, self.lag),
            Row::new("% of a processor, holder's agent without load", 1, self.idle),
            Row::new("% of a processor, holder's agent", 1, holder),
            Row::new("% of a processor, the other's agent", 1, other),
        ]
    }
}

/// What it took a node to join.
struct Joined {
    took: Duration,
    bytes: f64,
    cpu: f64,
}

fn join(pair: &mut Xvip, nodes: [usize; 2]) -> Result<Joined> {
    let [holder, other] = nodes;
    pair.agent(other)?.stop(Duration::from_secs(10))?;
    let sent = |pair: &mut Xvip| -> Result<f64> {
        Ok(Scrape::of(pair.agent(holder)?.netns())?.count("xvip_sync_bytes_total", &[("direction", "sent")]))
    };
    let pid = pair.agent(holder)?.pid().context("the agent has ended")?;
    let (bytes, cpu) = (sent(pair)?, cpu_seconds(pid)?);
    let began = Instant::now();
    let agent = pair.agent(other)?;
    agent.start()?;
    let taken = |agent: &xvip_tests::agent::Agent| {
        let said = Scrape::of(agent.netns()).ok()?;
        let taken = said.count("xvip_sync_adopted_flows_total", &[("result", "taken")]);
        (taken >= f64::from(FLOWS)).then_some(())
    };
    until("the node that joins to have all flows", Duration::from_secs(60), || taken(agent))?;
    let took = began.elapsed();
    let of_other = cpu_seconds(agent.pid().context("the agent has ended")?)?;
    let joined = Joined { took, bytes: sent(pair)? - bytes, cpu: cpu_seconds(pid)? - cpu + of_other };
    if at_rest(pair)? != holder {
        bail!("the VIP has moved");
    }
    Ok(joined)
}

fn pause() -> Result<()> {
    if stop::sleep(WATCHED) { Ok(()) } else { bail!("stopped") }
}

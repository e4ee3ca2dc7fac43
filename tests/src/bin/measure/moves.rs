//! What is noticed when the balancer that holds the VIP fails: by watch streams, by new connections, and by who asks where the VIP is.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use xvip_tests::client::{Client, Options};
use xvip_tests::owners::Owners;
use xvip_tests::stop::say;
use xvip_tests::topology::{CLIENT, VIP_ADDRESS};

use crate::outage::{BEFORE, pause, phase, until_served};
use crate::streams::{STREAMS, Streams};
use crate::table::{Row, print};
use crate::world::{Fault, Ground, Pair as _, Xvip, at_rest};

/// How long an agent is stopped that then goes on.
const STOPPED: Duration = Duration::from_secs(10);
/// A killed or stopped agent's node serves on, so nothing but the move itself is noticed.
const MOVE_MS: f64 = 20.0;
/// A planned hand-over is made before it is broken.
const HANDOVER_MS: f64 = 10.0;
/// The VIP has moved this long after a fault, in adverts; and how long that is at least. Later the outage is not looked for: on a
/// busy machine every second has gaps of its own.
const ADVERTS: u32 = 10;
const AT_LEAST: Duration = Duration::from_secs(1);

/// What happens to the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trouble {
    /// Nothing: what the measuring itself adds
    Nothing,
    /// SIGTERM
    Terminated,
    /// `xvip vrrp step-down`
    SteppedDown,
    /// kill -9
    Killed,
    /// SIGSTOP, and SIGCONT after ten seconds
    Stopped,
    /// The link loses its carrier
    LinkCut,
    /// Its namespace is deleted, with everything in it
    Destroyed,
}

impl Trouble {
    /// Those that other measurements know as well.
    fn fault(self) -> Option<Fault> {
        match self {
            Trouble::Nothing => Some(Fault::Nothing),
            Trouble::Terminated => Some(Fault::Terminated),
            Trouble::SteppedDown => Some(Fault::SteppedDown),
            Trouble::Killed => Some(Fault::Killed),
            Trouble::LinkCut => Some(Fault::LinkCut),
            Trouble::Stopped | Trouble::Destroyed => None,
        }
    }

    fn words(self) -> &'static str {
        match (self, self.fault()) {
            (_, Some(fault)) => fault.words(),
            (Trouble::Destroyed, None) => "node destroyed",
            (_, None) => "SIGSTOP, 10 s",
        }
    }

    /// The longest outage that is promised, in ms, where adverts come every `advert` ms.
    fn bound(self, advert: f64) -> Option<f64> {
        match self {
            Trouble::Nothing => None,
            Trouble::Terminated | Trouble::SteppedDown => Some(HANDOVER_MS),
            Trouble::Killed | Trouble::Stopped => Some(MOVE_MS),
            // Who is silent is missed after some 3.6 adverts.
            Trouble::LinkCut | Trouble::Destroyed => Some((3.5 * advert).max(45.0)),
        }
    }
}

/// What one of them did.
struct Found {
    outage: Duration,
    failed: u32,
    pause: Duration,
    /// Streams that had no event afterwards.
    silent: u32,
    /// Streams that broke, until all was well again.
    broken: u32,
    /// How often somebody answered ARP for the VIP out of turn.
    disputed: u32,
}

/// Lets the holder fail in each of these ways so many times, or in every one; true when every bound is kept.
pub(crate) fn measure(
    ground: &Ground, pair: &mut Xvip, only: &[Trouble], runs: usize, advert: Duration,
) -> Result<bool> {
    let within = (advert * ADVERTS).max(AT_LEAST);
    let advert = ms(advert);
    let options = Options { watches: 0, ..Options::https(ground.vip(), ground.ca_file()) };
    let load = Client::start(ground.client(), options)?;
    let streams = Streams::open(ground)?;
    let mut rows = Vec::new();
    let troubles = if only.is_empty() { Trouble::value_variants() } else { only };
    for &trouble in troubles {
        let mut all = Vec::new();
        for _ in 0..runs {
            all.push(one(ground, pair, &load, &streams, trouble, within)?);
        }
        rows.extend(rows_of(trouble, &all, trouble.bound(advert)));
    }
    say("");
    say(format!(
        "{runs} runs each, {STREAMS} watch streams, a new connection every 5 ms (TCP, TLS 1.3, GET /whoami), advert {advert} ms"
    ));
    print(&rows);
    say("");
    Ok(rows.iter().all(Row::kept))
}

/// The rows of one kind of fault; what each run found is said at once.
fn rows_of(trouble: Trouble, all: &[Found], bound: Option<f64>) -> Vec<Row> {
    let words = trouble.words();
    let each = all.iter().map(|Found { outage, failed, broken, pause, .. }| {
        format!("{:.0}/{failed}/{broken}/{:.0}", ms(*outage), ms(*pause))
    });
    let each = each.collect::<Vec<_>>().join(" ");
    say(format!("{words}: outage ms/failed connections/broken streams/own pause ms of each run: {each}"));
    let row = |what: &str, values| Row::new(format!("{words}: {what}"), 0, values);
    let none = |what: &str, value: &dyn Fn(&Found) -> u32| {
        let sum = all.iter().map(|found| f64::from(value(found))).sum();
        Row { bound: Some(0.0), ..row(what, vec![sum]) }
    };
    vec![
        Row { bound, ..row("outage, ms", all.iter().map(|found| ms(found.outage)).collect()) },
        row("failed connections", all.iter().map(|found| f64::from(found.failed)).collect()),
        none("streams that broke, of all runs", &|found| found.broken),
        none("streams without the next event", &|found| found.silent),
        none("ARP answers out of turn", &|found| found.disputed),
    ]
}

fn one(
    ground: &Ground, pair: &mut Xvip, load: &Client, streams: &Streams, trouble: Trouble, within: Duration,
) -> Result<Found> {
    let holder = at_rest(pair)?;
    let owners = Owners::ask(ground.client(), CLIENT.parse()?, VIP_ADDRESS.parse()?)?;
    pause(BEFORE + phase()?)?;
    let mark = streams.mark();
    let at = load.now();
    match trouble {
        Trouble::Stopped => pair.agent(holder)?.freeze()?,
        Trouble::Destroyed => pair.destroy(holder)?,
        _ => pair.inflict(trouble.fault().unwrap_or(Fault::Nothing), holder)?,
    }
    until_served(load, at, || format!("nobody was served after {}:\n{}", trouble.words(), pair.last_words()))?;
    let silent = number(STREAMS - streams.deliver()?);
    let to = load.now();
    match trouble {
        Trouble::Stopped => {
            pause((at + STOPPED).saturating_sub(load.now()))?;
            pair.agent(holder)?.thaw()?;
        }
        Trouble::Destroyed => pair.rebuild(ground, holder)?,
        _ => pair.repair(trouble.fault().unwrap_or(Fault::Nothing), holder)?,
    }
    while !load.settled(to) {
        pause(Duration::from_millis(50))?;
    }
    at_rest(pair)?;
    let seen = load.summary(at.saturating_sub(BEFORE), to);
    let near = load.summary(at.saturating_sub(BEFORE), at + within).outage;
    let outage = if seen.outage > within { seen.outage } else { near };
    let disputed = number(owners.turns().len().saturating_sub(2));
    let broken = streams.broken_since(mark);
    Ok(Found { outage, failed: seen.failed(), pause: seen.pause, silent, broken, disputed })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

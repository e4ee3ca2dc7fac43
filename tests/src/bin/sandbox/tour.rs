//! The scripted tour: every fault once, and then what a client noticed of each beside what was promised.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xvip_tests::stats::{Summary, WatchSummary};

use crate::bounds::{Fault, Promise, TOUR, broken};
use crate::lines::tell;
use crate::model::{Tone, spoken};
use crate::observer::Observer;
use crate::stop::{self, say};
use crate::world::World;

/// The shortest tour: less would not let the checks see a server come and go.
pub(crate) const SHORTEST: Duration = Duration::from_secs(40);
/// How long a fault may wait for the one before to be over, beyond the time of its step.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);
/// What the client began so shortly before a fault may meet it: longer than a connection takes.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// What was done when.
struct Step {
    fault: Fault,
    promise: Promise,
    what: String,
    from: Duration,
    to: Duration,
    unsettled: Option<String>,
}

/// A line of the table.
struct Row {
    what: String,
    at: Duration,
    promise: Promise,
    seen: Summary,
    watches: WatchSummary,
    broken: Vec<String>,
}

/// Walks through the tour in about `length`; true when all was as promised.
pub(crate) fn run(world: &mut World, length: Duration) -> Result<bool> {
    let mut observer = Observer::default();
    let parts: u32 = TOUR.iter().map(|(_, part, _)| part).sum();
    // The client's first connections and watches are its own affair.
    wait_for_watches(world, &mut observer)?;
    let mut steps: Vec<Step> = Vec::new();
    let mut victim = 0;
    for (fault, part, promise) in TOUR {
        let now = world.client.now();
        let from = now.saturating_sub(UNDER_WAY);
        let what = act(fault, &mut victim, world)?;
        observer.note(now, Tone::Deed, what.clone());
        watch_for(length * part / parts, world, &mut observer)?;
        let unsettled = settle(fault, world, &mut observer)?;
        steps.push(Step { fault, promise, what, from, to: world.client.now().saturating_sub(UNDER_WAY), unsettled });
    }
    let end = world.client.now();
    while !world.client.settled(end) {
        watch_for(LOOK, world, &mut observer)?;
    }
    let rows: Vec<Row> = steps.into_iter().map(|step| row(step, world)).collect();
    say("");
    table(&rows).into_iter().for_each(say);
    let kept = rows.iter().all(|row| row.broken.is_empty());
    say("");
    say(if kept { "Everything was as promised." } else { "NOT everything was as promised." });
    Ok(kept)
}

/// Does it and says so. `victim` is whom the first half of a pair of faults chose, for the second half.
fn act(fault: Fault, victim: &mut usize, world: &mut World) -> Result<String> {
    let holder = |world: &World| world.holder().ok_or_else(|| anyhow::anyhow!("nobody holds the VIP"));
    let server = |world: &World, index: usize| {
        world.servers.get(index).map(|server| server.name().to_owned()).unwrap_or_default()
    };
    let balancer =
        |world: &World, index: usize| world.balancers.get(index).map(|b| b.name().to_owned()).unwrap_or_default();
    match fault {
        Fault::Steady => return Ok("steady load, nothing is done".to_owned()),
        Fault::ServerKilled => *victim = 1,
        Fault::ServerDrained => *victim = 2,
        Fault::AgentStopped | Fault::AgentKilled | Fault::LinkCut => *victim = holder(world)?,
        _ => {}
    }
    let index = *victim;
    let on_server = world.servers.get_mut(index);
    let on_balancer = world.balancers.get_mut(index);
    match (fault, on_server, on_balancer) {
        (Fault::ServerKilled, Some(server), _) => server.kill9()?,
        (Fault::ServerRevived, Some(server), _) => server.revive()?,
        (Fault::ServerDrained, Some(server), _) => server.set_ready(false)?,
        (Fault::ServerReady, Some(server), _) => server.set_ready(true)?,
        (Fault::AgentStopped, _, Some(balancer)) => balancer.terminate()?,
        (Fault::AgentStarted | Fault::AgentRestarted, _, Some(balancer)) => balancer.start()?,
        (Fault::AgentKilled, _, Some(balancer)) => balancer.kill9()?,
        (Fault::LinkCut, _, Some(balancer)) => balancer.set_cut(true)?,
        (Fault::LinkMended, _, Some(balancer)) => balancer.set_cut(false)?,
        _ => {}
    }
    Ok(match fault {
        Fault::Steady => String::new(),
        Fault::ServerKilled => format!("kill -9 of {}", server(world, index)),
        Fault::ServerRevived => format!("{} is started again", server(world, index)),
        Fault::ServerDrained => format!("{} answers 500 on /readyz", server(world, index)),
        Fault::ServerReady => format!("{} answers 200 on /readyz", server(world, index)),
        Fault::AgentStopped => {
            format!("SIGTERM to {}, which holds the VIP", balancer(world, index))
        }
        Fault::AgentStarted | Fault::AgentRestarted => {
            format!("{} is started again", balancer(world, index))
        }
        Fault::AgentKilled => format!("kill -9 of {}, which holds the VIP", balancer(world, index)),
        Fault::LinkCut => format!("link of {} is cut, which holds the VIP", balancer(world, index)),
        Fault::LinkMended => format!("link of {} is mended", balancer(world, index)),
    })
}

fn watch_for(duration: Duration, world: &mut World, observer: &mut Observer) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        if !stop::sleep(LOOK.min(duration.saturating_sub(start.elapsed()))) {
            bail!("stopped before the end of the tour");
        }
        observer.observe(world);
        tell(observer);
    }
    Ok(())
}

/// What was put right has to be right before the next fault; says what is not when it takes too long.
fn settle(fault: Fault, world: &mut World, observer: &mut Observer) -> Result<Option<String>> {
    let faulty = matches!(
        fault,
        Fault::ServerKilled | Fault::ServerDrained | Fault::AgentStopped | Fault::AgentKilled | Fault::LinkCut
    );
    if faulty {
        return Ok(None);
    }
    let start = Instant::now();
    while let Some(why) = world.unsettled() {
        if start.elapsed() > SETTLE_LIMIT {
            return Ok(Some(why));
        }
        watch_for(LOOK, world, observer)?;
    }
    Ok(None)
}

fn wait_for_watches(world: &mut World, observer: &mut Observer) -> Result<()> {
    let start = Instant::now();
    while world.client.watches().iter().any(Option::is_none) {
        if start.elapsed() > SETTLE_LIMIT {
            bail!("the client could not open its watches through the VIP");
        }
        watch_for(LOOK, world, observer)?;
    }
    Ok(())
}

fn row(step: Step, world: &World) -> Row {
    let seen = world.client.summary(step.from, step.to);
    let watches = world.client.watch_summary(step.from, step.to);
    let late = world.client.summary(step.from + step.promise.failures.unwrap_or_default(), step.to).failed();
    let mut broken = broken(&step.promise, step.from, &seen, late, &watches);
    broken.extend(step.unsettled.filter(|_| step.fault != Fault::Steady).map(|why| format!("not over: {why}")));
    Row { what: step.what, at: step.from, promise: step.promise, seen, watches, broken }
}

fn table(rows: &[Row]) -> Vec<String> {
    let header =
        ["what happened", "outage (at most)", "failed (none later than)", "watches broken (back in)", "verdict"];
    let mut cells = vec![header.map(str::to_owned)];
    cells.extend(rows.iter().map(cells_of));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let [what, outage, failed, watches, verdict] = row;
        let [w0, w1, w2, w3, _] = widths;
        format!("{what:<w0$}  {outage:>w1$}  {failed:<w2$}  {watches:<w3$}  {verdict}")
    };
    let mut lines: Vec<String> = cells.iter().map(line).collect();
    let rule = "-".repeat(lines.iter().map(|line| line.chars().count()).max().unwrap_or(0));
    lines.insert(1, rule);
    lines
}

/// What was seen and, in parentheses, what was promised.
fn cells_of(row: &Row) -> [String; 5] {
    let outage = format!("{} ({})", spoken(row.seen.outage), bound(row.promise.outage));
    let count = format!("{} of {}", row.seen.failed(), row.seen.attempts);
    let failed = match (row.seen.last_failure, row.promise.failures) {
        (_, None) if row.promise.strays == 0 => format!("{count} (none)"),
        (_, None) => format!("{count} ({} at most)", row.promise.strays),
        (None, Some(after)) => format!("{count} ({})", bound(after)),
        (Some(last), Some(after)) => {
            format!("{count} until {} ({})", spoken(last.saturating_sub(row.at)), bound(after))
        }
    };
    let back = row.promise.watches.map_or("none".to_owned(), bound);
    let watches = match row.watches {
        WatchSummary { broken: 0, .. } => format!("0 ({back})"),
        WatchSummary { broken, lost: 0, longest_silence } => {
            format!("{broken} for {} ({back})", spoken(longest_silence))
        }
        WatchSummary { broken, lost, .. } => format!("{broken}, {lost} for good ({back})"),
    };
    let verdict = match row.broken.as_slice() {
        [] => "ok".to_owned(),
        broken if row.seen.failed() > 0 => format!("MISSED: {} ({})", broken.join(", "), row.seen.failures_in_words()),
        broken => format!("MISSED: {}", broken.join(", ")),
    };
    [row.what.clone(), outage, failed, watches, verdict]
}

/// A bound without needless digits.
fn bound(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvip_tests::stats::Failure;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn row(what: &str, failed: u32, broken: &[&str]) -> Row {
        let failures = if failed > 0 { [(Failure::Refused, failed)].into() } else { Default::default() };
        let last_failure = (failed > 0).then_some(ms(10_120));
        Row {
            what: what.to_owned(),
            at: ms(10_000),
            promise: Promise { outage: ms(300), failures: Some(ms(300)), strays: 0, watches: Some(ms(4500)) },
            seen: Summary {
                attempts: 700,
                served: 700 - failed,
                outage: ms(143),
                failures,
                last_failure,
                ..Summary::default()
            },
            watches: WatchSummary { broken: 8, lost: 0, longest_silence: ms(1240) },
            broken: broken.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[test]
    fn the_table_says_what_was_noticed_and_whether_it_was_promised() {
        let quiet = Promise { outage: ms(150), failures: None, strays: 0, watches: None };
        let still = Row { promise: quiet, watches: WatchSummary::default(), ..row("steady", 0, &[]) };
        let lines = table(&[row("SIGTERM to lb1", 0, &[]), row("kill -9 of lb2", 17, &["outage"]), still]);
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("what happened") && lines[1].starts_with("-----"));
        for text in ["143 ms (300 ms)", "0 of 700 (300 ms)", "8 for 1.24 s (4.5 s)"] {
            assert!(lines[2].contains(text), "{text} in {}", lines[2]);
        }
        assert!(lines[2].ends_with("  ok"));
        assert!(lines[3].contains("17 of 700 until 120 ms (300 ms)"), "{}", lines[3]);
        assert!(lines[3].ends_with("MISSED: outage (17 refused)"), "{}", lines[3]);
        assert!(lines[4].contains("0 of 700 (none)") && lines[4].contains("0 (none)"), "{}", lines[4]);
        assert_eq!(lines[2].find("0 of 700"), lines[3].find("17 of 700"));
    }

    #[test]
    fn bounds_have_no_needless_digits() {
        assert_eq!((bound(ms(300)), bound(ms(4000)), bound(ms(4500))), ("300 ms".into(), "4 s".into(), "4.5 s".into()));
    }
}

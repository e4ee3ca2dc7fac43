//! `xvip reload` again and again: good files, which have to be applied, and broken ones, which have to be refused with a place.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::agent::{Agent, adapt};

/// Changes of the configuration that ships which no connection notices.
const GOOD: &[(&str, &str)] = &[
    ("\nbalance = \"roundrobin\"", "\nbalance = \"leastconn\""),
    ("\nname = \"master1\"\n", "\nname = \"master1\"\nweight = 3\n"),
    ("\nbalance = \"roundrobin\"", "\nbalance = \"maglev\""),
    ("\nfall = 3", "\nfall = 5"),
    ("\nname = \"apiserver\"", "\nname = \"apiserver\"\nidle_timeout = \"1h\"\nmax_connections = 5000"),
    ("\npreempt = false", "\npreempt = false\npreempt_delay = \"1s\""),
    ("\nname = \"master3\"\n", "\nname = \"master3\"\nmax_connections = 900\n"),
];

/// Changes that break it.
const BROKEN: &[(&str, &str)] = &[
    ("\nvirtual_router_id = 51", "\nvirtual_router_id = 0"),
    ("\nrise = 2", "\nraise = 2"),
    ("\ninterface = \"eth0\"", "\ninterface = \"eth9\""),
    ("\nbalance = \"roundrobin\"", "\nbalance = \"rr\""),
    ("\nvirtual_addresses = [\"192.0.2.100/24\"]", "\nvirtual_addresses = [\"192.0.2.100/24\""),
    ("\naddress = \"192.0.2.32:6443\"", "\naddress = \"192.0.2.31:6443\""),
    ("\nlisten = \"192.0.2.100:8443\"", "\nlisten = \"192.0.2.100:0\""),
    ("\nexpect_status = [200]", "\nexpect_status = [\u{0}200]"),
    ("\n[node]", "\n[nodes]"),
];

/// What it took.
#[derive(Debug, Default)]
pub struct Reloads {
    /// From the command to its exit, of those that were applied.
    pub applied: Vec<Duration>,
    /// The same, of those that were refused.
    pub refused: Vec<Duration>,
    /// What was said of each kind of broken file.
    pub words: Vec<String>,
}

/// Reloads so many times, good and broken files in turn, and leaves the agent with the file that it had.
///
/// # Errors
/// When a good file is not applied, or a broken one not refused with a fault at a place of it.
pub fn reload_in_turn(agent: &mut Agent, times: usize) -> Result<Reloads> {
    let file = std::fs::read_to_string(agent.config())?;
    let mut done = Reloads::default();
    for time in 0..times {
        let (changes, good) = if time % 2 == 0 { (GOOD, true) } else { (BROKEN, false) };
        let change = changes.get(time / 2 % changes.len()).context("no change")?;
        let (took, code, text) = reload(agent, &adapt(&file, &[*change])?)?;
        if good {
            ensure!(code == Some(0) && text == "applied\n", "{change:?} was not applied: {text}");
            done.applied.push(took);
        } else {
            let place = format!("{}:", agent.config().display());
            ensure!(code == Some(1) && text.starts_with(&place), "{change:?} was not refused with a place: {text}");
            ensure!(text.ends_with("refused: the old configuration goes on\n"), "{text}");
            if done.words.len() < BROKEN.len() {
                done.words.push(text.replace(&place, "xvip.toml:"));
            }
            done.refused.push(took);
        }
    }
    let (_, code, text) = reload(agent, &file)?;
    ensure!(code == Some(0), "the file as it was: {text}");
    Ok(done)
}

fn reload(agent: &Agent, config: &str) -> Result<(Duration, Option<i32>, String)> {
    agent.write_config(config)?;
    #[allow(clippy::disallowed_methods, reason = "what a person waits for, by the real clock")]
    let start = Instant::now();
    let (status, text) = agent.command(&["reload"])?;
    Ok((start.elapsed(), status.code(), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::CONFIG;

    #[test]
    fn every_change_fits_the_configuration_that_ships() {
        for change in GOOD.iter().chain(BROKEN) {
            adapt(CONFIG, &[*change]).unwrap();
        }
    }
}

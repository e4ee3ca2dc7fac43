//! What the namespace tests share: the world, serving, and what a client sees of it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::panic::resume_unwind;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xvip_tests::agent;
use xvip_tests::apiserver::ApiServer;
use xvip_tests::client::Client;
use xvip_tests::deployment;
use xvip_tests::ipv6;
use xvip_tests::netns::Netns;
use xvip_tests::process::output_within;
use xvip_tests::run::{Run, leftovers};
use xvip_tests::stats::{Failure, WatchChange};
use xvip_tests::status::Status;
use xvip_tests::topology::{BALANCERS, Plan, SERVERS, Topology};
use xvip_tests::until::until;
use xvip_tests::wire::leave_frames;

/// The binary that holds the API servers.
pub(crate) const SANDBOX: &str = env!("CARGO_BIN_EXE_xvip-sandbox");
/// For everything that is waited for: far beyond what it takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// Checks more often than the shipped configuration, for tests that wait for many.
pub(crate) const OFTEN: (&str, &str) =
    ("interval = \"1s\"\ntimeout = \"500ms\"", "interval = \"500ms\"\ntimeout = \"450ms\"");

/// A world that serves.
#[track_caller]
pub(crate) fn serving(balancers: usize, changes: &[(&str, &str)]) -> Topology {
    let run = Run::start().unwrap();
    let xvip = agent::find().unwrap();
    let plan = Plan { xvip: &xvip, sandbox: Path::new(SANDBOX), balancers, changes };
    Topology::serving(&run, &plan, LIMIT).unwrap_or_else(|err| panic!("{err:#}"))
}

/// A world whose agents have not been started.
#[track_caller]
pub(crate) fn unstarted(balancers: usize, changes: &[(&str, &str)]) -> Topology {
    let run = Run::start().unwrap();
    let xvip = agent::find().unwrap();
    let plan = Plan { xvip: &xvip, sandbox: Path::new(SANDBOX), balancers, changes };
    Topology::build(&run, &plan).unwrap_or_else(|err| panic!("{err:#}"))
}

/// Makes every wire a plain veth: checksums unfinished, segments joined.
pub(crate) fn plain(topology: &Topology) {
    let roles = ["client"].into_iter().chain(SERVERS.map(|(name, _)| name)).chain(BALANCERS.map(|(name, _, _)| name));
    let plugged = topology.lan.netns().ip("-o link show type veth").unwrap();
    for role in roles {
        let port = format!("{role}.eth0");
        if plugged.contains(&format!(" {port}@")) {
            leave_frames(topology.lan.netns(), &port).unwrap();
        }
    }
}

/// A world that serves both families, each by a service and API servers of its own.
#[track_caller]
pub(crate) fn serving_both(balancers: usize, changes: &[(&str, &str)]) -> (Topology, Vec<ApiServer>) {
    let mut topology = unstarted(balancers, changes);
    ipv6::number(&topology).unwrap();
    let servers = ipv6::servers(&topology, Path::new(SANDBOX)).unwrap();
    for balancer in &mut topology.balancers {
        let config = std::fs::read_to_string(balancer.agent.config()).unwrap();
        balancer.agent.write_config(&ipv6::doubled(&config)).unwrap();
        balancer.agent.start().unwrap();
    }
    both_served(&mut topology);
    (topology, servers)
}

/// Waits until both families are served, by whichever balancer.
#[track_caller]
pub(crate) fn both_served(topology: &mut Topology) {
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    wait("the virtual routers of IPv6 to be settled", || {
        let state = |status: Status| Some(ipv6::router(&status, ipv6::ROUTER)?.state.clone());
        let states = topology.balancers.iter().map(|balancer| balancer.agent.status().ok().and_then(state));
        let states: Vec<_> = states.map(Option::unwrap_or_default).collect();
        let count = |wanted: &str| states.iter().filter(|state| *state == wanted).count();
        count("active") == 1 && count("active") + count("backup") == states.len()
    });
}

/// `curl` in a namespace with these words before the URL; its output, after success.
#[track_caller]
pub(crate) fn curl(netns: &Netns, ca_file: &Path, words: &[&str], url: &str) -> String {
    let mut curl = netns.command("curl");
    curl.args(["-s", "-S", "-f", "--max-time", "60", "--cacert"]).arg(ca_file).args(words).arg(url);
    let (status, text) = output_within(curl, LIMIT).unwrap();
    assert!(status.success(), "{words:?} {url}: {text}");
    text
}

/// Ends the world; nothing of it may be left.
#[track_caller]
pub(crate) fn end(topology: Topology) {
    let run = topology.run.name().to_owned();
    drop(topology);
    // A killed process takes a moment to be gone.
    let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
    assert_eq!(leftovers(&run), Vec::<String>::new());
}

/// Runs what is to be seen of each deployment, all of them at once. The variable XVIP_DEPLOYMENT names one to be tried alone.
#[track_caller]
pub(crate) fn at_once(deployments: &[(&deployment::Plan, fn())]) {
    let only = std::env::var("XVIP_DEPLOYMENT").ok();
    let wanted = deployments.iter().filter(|(plan, _)| only.as_deref().is_none_or(|only| only == plan.name));
    let running: Vec<_> =
        wanted.map(|(plan, run)| thread::Builder::new().name(plan.name.to_owned()).spawn(*run).unwrap()).collect();
    assert!(!running.is_empty());
    let ended: Vec<_> = running.into_iter().map(JoinHandle::join).collect();
    // Each has said what it failed at.
    if let Some(panic) = ended.into_iter().find_map(Result::err) {
        resume_unwind(panic);
    }
}

/// Waits until `probe` holds.
#[track_caller]
pub(crate) fn wait(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, LIMIT, || probe().then_some(())).unwrap_or_else(|err| panic!("{err:#}"));
}

/// Waits until a client has been served `count` more times.
#[track_caller]
pub(crate) fn served_more(client: &Client, count: u32) {
    let from = client.now();
    wait(&format!("{count} more answers"), || client.summary(from, client.now()).served >= count);
}

/// Waits until everything the client began so far has ended; until when that was begun.
#[track_caller]
pub(crate) fn settle(client: &Client) -> Duration {
    let to = client.now();
    wait("attempts to end", || client.settled(to));
    to
}

/// Waits until all watches of a client are open.
#[track_caller]
pub(crate) fn watches_open(client: &Client) {
    wait("all watches to be open", || client.watches().iter().all(Option::is_some));
}

/// The streams whose server has this name.
pub(crate) fn streams_of(client: &Client, server: &str) -> Vec<usize> {
    let servers = client.servers();
    let index = servers.iter().position(|name| name == server).and_then(|index| u16::try_from(index).ok());
    let watches = client.watches().into_iter().enumerate();
    watches.filter(|(_, of)| of.is_some() && *of == index).map(|(stream, _)| stream).collect()
}

/// The breaks of streams so far.
pub(crate) fn breaks(client: &Client) -> Vec<(usize, Failure)> {
    let events = client.watch_events(0).into_iter();
    events
        .filter_map(|event| match event.change {
            WatchChange::Broke { why, .. } => Some((event.stream, why)),
            WatchChange::Opened(_) => None,
        })
        .collect()
}

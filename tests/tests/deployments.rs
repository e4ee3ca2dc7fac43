//! The deployments of `tests/deployments`, each with its own addresses, ports and intervals: everybody reaches an API server, and goes
//! on to when the VIP's holder or any one API server is lost. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{SANDBOX, at_once, settle};
use xvip::config::Balance;
use xvip_tests::agent;
use xvip_tests::apiserver::ApiServer;
use xvip_tests::client::Client;
use xvip_tests::deployment::plans::{EXTERNAL_PAIR, STACKED_NOPREEMPT, STACKED_WORKERS, VIP_ONLY};
use xvip_tests::deployment::{Deployment, Host, Plan};
use xvip_tests::run::leftovers;
use xvip_tests::until::until;

/// For everything that is waited for: eleven agents load their programs at once, and one group has adverts every 3 s.
const LIMIT: Duration = Duration::from_secs(120);
/// Node ports at which something listens on both workers: both ends of the range, and one in between.
const NODE_PORTS: [u16; 3] = [30_000, 31_080, 32_767];
/// Port of the workers' own health.
const PROXY_HEALTH: u16 = 10_256;

/// From each host to each place: on one CPU at least, each of three backends has its turn.
fn connections() -> usize {
    thread::available_parallelism().map_or(24, |cpus| 24.max(3 * cpus.get()))
}

/// A deployment in use.
struct InUse {
    deployment: Deployment,
    /// From outside, all the time.
    load: Client,
    /// In which no connection of that load may fail.
    whole: Vec<(&'static str, Duration, Duration)>,
    /// What listens at node ports, and says so to health checks.
    workers: Vec<Worker>,
}

struct Worker {
    name: &'static str,
    health: ApiServer,
    _ports: Vec<ApiServer>,
}

impl InUse {
    #[track_caller]
    fn start(plan: &Plan) -> InUse {
        let built = Deployment::build(&agent::find().unwrap(), Path::new(SANDBOX), plan);
        let mut deployment = built.unwrap_or_else(|err| panic!("{err:#}"));
        let mut workers = Vec::new();
        for backend in deployment.config.services.iter().skip(1).flat_map(|service| &service.backends) {
            let host = &deployment.hosts[deployment.number(&backend.name).unwrap()];
            let serve = |port, tls| deployment.serve(host.name, port, tls).unwrap();
            let (health, ports) = (serve(PROXY_HEALTH, false), NODE_PORTS.map(|port| serve(port, true)));
            workers.push(Worker { name: host.name, health, _ports: ports.into() });
        }
        deployment.start().unwrap();
        // Without preemption it is whoever was first; else the files say who has the highest priority.
        let first = deployment.router().preempt.then_some(0);
        deployment.wait_settled(first, LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        let load = deployment.load(deployment.number("client").unwrap(), Duration::from_millis(50)).unwrap();
        InUse { deployment, load, whole: Vec::new(), workers }
    }

    fn say(&self, what: &str) {
        println!("{}, after {:.1?}: {what}", self.deployment.plan.name, self.load.now());
    }

    fn hosts(&self) -> std::ops::Range<usize> {
        0..self.deployment.hosts.len()
    }

    fn host(&mut self, host: usize) -> &mut Host {
        &mut self.deployment.hosts[host]
    }

    /// Names of the API servers that run, of hosts other than `lost`.
    fn serving(&mut self, lost: Option<usize>) -> BTreeSet<String> {
        let hosts = self.deployment.hosts.iter_mut().enumerate();
        let serving = hosts.filter_map(|(number, host)| (Some(number) != lost && host.serves()).then_some(host.name));
        serving.map(str::to_owned).collect()
    }

    /// From a host to a place: no connection fails, all of `servers` answer and nobody else, and the client sees the place it dialled.
    #[track_caller]
    fn dial(&self, host: usize, target: SocketAddr, servers: &BTreeSet<String>) {
        let count = connections();
        let dialled = self.deployment.dial(host, target, count).unwrap();
        let of = format!("{} to {target}: {dialled:?}", self.deployment.hosts[host].name);
        assert!(dialled.failed.is_empty() && dialled.answers() == count, "{of}");
        assert_eq!(dialled.peers, [(target.to_string(), count)].into(), "{of}");
        assert_eq!(dialled.served.into_keys().collect::<BTreeSet<_>>(), *servers, "{of}");
    }

    /// From a host to a place of the API servers: as [`Self::dial`], or, where the client's address decides, one of
    /// `servers` alone.
    #[track_caller]
    fn reach(&self, host: usize, place: SocketAddr, servers: &BTreeSet<String>) {
        if self.deployment.service().balance != Balance::Source {
            return self.dial(host, place, servers);
        }
        let one = self.deployment.dial(host, place, 1).unwrap().served.into_keys().collect::<BTreeSet<_>>();
        assert!(one.is_subset(servers), "{one:?} of {servers:?}");
        self.dial(host, place, &one);
    }

    /// Everybody but the lost host reaches an API server wherever it may dial, its own if it has one and may choose, and node ports.
    #[track_caller]
    fn all_reach(&mut self, lost: Option<usize>) {
        let serving = self.serving(lost);
        for host in self.hosts().filter(|host| Some(*host) != lost) {
            let own = self.deployment.hosts[host].name.to_owned();
            let has_agent = self.deployment.hosts[host].agent.is_some();
            let expected = if has_agent && serving.contains(&own) { BTreeSet::from([own]) } else { serving.clone() };
            for place in self.deployment.places(host) {
                self.reach(host, place, &expected);
            }
            if !self.workers.is_empty() {
                let port = NODE_PORTS[host % NODE_PORTS.len()];
                let well = self.well();
                self.dial(host, SocketAddr::new(self.deployment.vip().ip(), port), &well);
            }
        }
    }

    /// Workers that are well.
    fn well(&mut self) -> BTreeSet<String> {
        let workers = self.workers.iter_mut();
        workers.filter_map(|worker| worker.health.is_running().then(|| worker.name.to_owned())).collect()
    }

    /// Waits until the agents of all hosts but the lost one say so of a backend.
    #[track_caller]
    fn told(&self, backend: &str, state: &str, lost: Option<usize>) {
        let check = &self.deployment.service().health_check;
        let due = check.interval * check.fall.max(check.rise) + check.timeout;
        let hosts = self.deployment.hosts.iter().enumerate();
        let watching: Vec<_> = hosts.filter(|(n, host)| Some(*n) != lost && host.agent.is_some()).collect();
        let told = until(&format!("{backend} to be {state}, due in {due:?}"), due + Duration::from_secs(10), || {
            let says = |(_, host): &(usize, &Host)| host.backend_state(backend).as_deref() == Some(state);
            watching.iter().all(says).then_some(())
        });
        told.unwrap_or_else(|err| panic!("{err:#}"));
    }

    /// Loses the holder to a fault, sees everybody else served and its own clients too, and gets it back.
    #[track_caller]
    fn lose_holder(&mut self, fault: &'static str, harm: fn(&mut Host), repair: fn(&mut Host)) {
        let holder = *self.deployment.owners().first().unwrap();
        let from = self.load.now();
        harm(self.host(holder));
        wait("another holder", || {
            let mut others = self.hosts().filter(|host| *host != holder);
            others.any(|host| {
                let agent = self.deployment.hosts[host].agent.as_ref();
                agent.is_some_and(|agent| agent.status().is_ok_and(|status| status.is_active()))
            })
        });
        let name = self.deployment.hosts[holder].name;
        if self.host(holder).serves() {
            self.told(name, "down", Some(holder));
        }
        let known = self.load.now();
        self.all_reach(Some(holder));
        if self.host(holder).serves() {
            for place in self.deployment.places(holder) {
                self.dial(holder, place, &[name.to_owned()].into());
            }
        }
        let repaired = self.load.now();
        repair(self.host(holder));
        // Whoever may not take the VIP back leaves it to whoever has it.
        let expected = match self.deployment.router().preempt {
            true => holder,
            false => *self.deployment.owners().iter().find(|owner| **owner != holder).unwrap(),
        };
        let settled = self.deployment.wait_settled(Some(expected), LIMIT);
        settled.unwrap_or_else(|err| panic!("{err:#}"));
        let until = if self.deployment.router().preempt { repaired } else { self.load.now() };
        self.whole.push((fault, known, until));
        self.all_reach(None);
        assert_eq!(self.deployment.owners(), [expected].into());
        let during = self.load.summary(from, known);
        self.say(&format!(
            "{fault} on {name}: {:?} without an answer, failed: {}",
            during.outage,
            during.failures_in_words()
        ));
    }

    /// Loses each API server, sees everybody served as soon as that is known, and gets it back.
    #[track_caller]
    fn lose_each_server(&mut self) {
        let holder = self.deployment.wait_settled(None, LIMIT).unwrap();
        for host in self.hosts() {
            if !self.host(host).serves() {
                continue;
            }
            let name = self.deployment.hosts[host].name;
            let from = self.load.now();
            self.host(host).server.as_mut().unwrap().kill9().unwrap();
            self.told(name, "down", None);
            let known = self.load.now();
            self.all_reach(None);
            self.host(host).server.as_mut().unwrap().revive().unwrap();
            self.deployment.wait_settled(Some(holder), LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
            self.whole.push(("without an API server", known, self.load.now()));
            // By then the connections of that time have ended, too.
            self.all_reach(None);
            let during = self.load.summary(from, known);
            self.say(&format!(
                "API server of {name} killed: known after {:?}, failed: {}",
                known - from,
                during.failures_in_words()
            ));
        }
    }

    /// All that every deployment has to show.
    #[track_caller]
    fn survives_losses(&mut self) {
        self.all_reach(None);
        for host in self.deployment.hosts.iter().filter_map(|host| host.agent.as_ref()) {
            let datapath = host.status().unwrap().datapath;
            assert_eq!(datapath.mode, "tc", "{datapath:?}");
        }
        self.say("everybody is served");
        self.lose_holder("agent killed and wire cut", switch_off, switch_on);
        self.lose_holder("link down", |host| set_link(host, "down"), |host| set_link(host, "up"));
        self.lose_each_server();
    }

    /// Ends it; no connection may have failed where none had to, and nothing may be left.
    #[track_caller]
    fn end(self) {
        let end_of_load = settle(&self.load);
        for (when, from, to) in &self.whole {
            let sum = self.load.summary(*from, (*to).min(end_of_load));
            assert!(sum.served > 0 && sum.failed() == 0, "{when}: {sum:?}");
        }
        let all = self.load.summary(Duration::ZERO, end_of_load);
        self.say(&format!("{} of {} served from outside in all", all.served, all.attempts));
        let run = self.deployment.run.name().to_owned();
        drop(self);
        let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
        assert_eq!(leftovers(&run), Vec::<String>::new());
    }
}

#[track_caller]
fn wait(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, LIMIT, || probe().then_some(())).unwrap_or_else(|err| panic!("{err:#}"));
}

fn switch_off(host: &mut Host) {
    host.agent.as_mut().unwrap().kill9().unwrap();
    host.port.cut().unwrap();
}

/// Like a host that was switched off, it has no VIP when it is heard again.
fn switch_on(host: &mut Host) {
    host.start_agent().unwrap();
    let agent = host.agent.as_mut().unwrap();
    agent.wait_for("the fault", LIMIT, |status| status.vrrp_state() == "fault").unwrap();
    host.port.mend().unwrap();
}

fn set_link(host: &mut Host, to: &str) {
    let links = host.netns.ip("-o link show type veth").unwrap();
    let device = links.split(": ").nth(1).and_then(|name| name.split('@').next()).unwrap();
    host.netns.ip(&format!("link set {device} {to}")).unwrap();
}

fn external_pair() {
    let mut pair = InUse::start(&EXTERNAL_PAIR);
    pair.survives_losses();
    pair.end();
}

fn stacked_nopreempt() {
    let mut stacked = InUse::start(&STACKED_NOPREEMPT);
    stacked.survives_losses();
    stacked.end();
}

fn vip_only() {
    let mut vip_only = InUse::start(&VIP_ONLY);
    vip_only.survives_losses();

    // Whoever asks at localhost asks this very server.
    let localhost = "127.0.0.1:6443".parse().unwrap();
    for host in 0..3 {
        vip_only.dial(host, localhost, &[VIP_ONLY.hosts[host].0.to_owned()].into());
    }

    // The holder's API server says that it is not ready: its clients, and those from outside, go to the others.
    let holder = *vip_only.deployment.owners().first().unwrap();
    let name = vip_only.deployment.hosts[holder].name;
    vip_only.host(holder).server.as_mut().unwrap().set_ready(false).unwrap();
    vip_only.told(name, "down", None);
    let known = vip_only.load.now();
    let others: BTreeSet<_> = vip_only.serving(Some(holder));
    let (vip, client) = (vip_only.deployment.vip(), vip_only.deployment.number("client").unwrap());
    vip_only.dial(holder, vip, &others);
    vip_only.dial(client, vip, &others);
    vip_only.dial(holder, localhost, &[name.to_owned()].into());
    vip_only.host(holder).server.as_mut().unwrap().set_ready(true).unwrap();
    vip_only.deployment.wait_settled(Some(holder), LIMIT).unwrap();
    vip_only.whole.push(("while one was not ready", known, vip_only.load.now()));
    vip_only.all_reach(None);
    vip_only.end();
}

fn stacked_workers() {
    let mut stacked = InUse::start(&STACKED_WORKERS);
    let vip = stacked.deployment.vip().ip();
    let client = stacked.deployment.number("client").unwrap();
    let workers = stacked.well();
    assert_eq!(workers.len(), 2);
    for port in NODE_PORTS {
        stacked.dial(client, SocketAddr::new(vip, port), &workers);
    }
    // A port of the range where nothing listens is nobody's, on the workers as through the VIP.
    let nobody = stacked.deployment.dial(client, SocketAddr::new(vip, 30_001), 4).unwrap();
    assert_eq!(nobody.answers(), 0, "{nobody:?}");

    stacked.survives_losses();

    // One worker is not well any more, and then it is.
    let told = |stacked: &InUse, state: &str| {
        wait(state, || {
            let of = |host: &Host| host.backend_state(stacked.workers[0].name);
            stacked.deployment.hosts[..3].iter().all(|host| of(host).as_deref() == Some(state))
        });
    };
    stacked.workers[0].health.kill9().unwrap();
    told(&stacked, "down");
    let other = stacked.well();
    assert_eq!(other.len(), 1);
    for host in stacked.hosts() {
        stacked.dial(host, SocketAddr::new(vip, NODE_PORTS[0]), &other);
    }
    stacked.workers[0].health.revive().unwrap();
    told(&stacked, "up");
    stacked.dial(client, SocketAddr::new(vip, NODE_PORTS[0]), &workers);
    stacked.end();
}

/// All at once: they mostly wait for their own intervals.
#[test]
fn everybody_is_served_and_each_deployment_survives_its_losses() {
    at_once(&[
        (&EXTERNAL_PAIR, external_pair),
        (&STACKED_NOPREEMPT, stacked_nopreempt),
        (&VIP_ONLY, vip_only),
        (&STACKED_WORKERS, stacked_workers),
    ]);
}

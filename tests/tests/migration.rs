//! Deployments that run on haproxy and keepalived become ones of xvip, node by node, by the steps of `docs/migration.md`, under load.
//! Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{SANDBOX, at_once, breaks, settle, watches_open};
use xvip::config::Balance;
use xvip_tests::agent::{self, Agent, adapt};
use xvip_tests::book;
use xvip_tests::cgroup::Cgroup;
use xvip_tests::client::{Client, Options};
use xvip_tests::deployment::plans::{EXTERNAL_PAIR, STACKED_NOPREEMPT, STACKED_WORKERS, VIP_ONLY};
use xvip_tests::deployment::{Deployment, Plan};
use xvip_tests::dial;
use xvip_tests::incumbent::Incumbent;
use xvip_tests::process::output_within;
use xvip_tests::run::leftovers;
use xvip_tests::until::until;

/// For everything that is waited for: eleven agents load their programs, and one group has adverts every 3 s.
const LIMIT: Duration = Duration::from_secs(120);
/// A connection from outside.
const EVERY: Duration = Duration::from_millis(40);
/// Of those, the most that may fail where the VIP leaves a node on its own: a few are under way at any time.
const UNDER_WAY: usize = 6;
/// The same between nodes that share their connections: a handshake in that very moment.
const HANDSHAKE: usize = 1;
/// Streams held open from outside.
const STREAMS: usize = 6;
/// One of the node ports, which no service has.
const NODE_PORT: u16 = 31_080;

/// What the page changes by sed.
const NO_PREEMPTION: &str = "s/^preempt = true/preempt = false/";
const PREEMPTION: &str = "s/^preempt = false/preempt = true/";
const PAGE: &str = "s/^# listen = /listen = /";
const SHARING: &str = r"s/^# \(\[sync\]\|key_file = \|peers = \)/\1/";
const VERSION: &str =
    r#"s/^version = 2/version = 3/; s/^advert_interval = .*/advert_interval = "100ms"/; /^auth_pass = /d"#;
const KEY: &str = "openssl rand -hex 32 | install -m 600 /dev/stdin /etc/xvip/sync.key";

/// What the page has typed, in its order; what changes there has to change below.
const STEPS: [&str; 32] = [
    // Before, on each node: `import`.
    "install -m 755 xvip /usr/local/bin/xvip",
    "install -m 644 -D xvip.service /etc/systemd/system/xvip.service",
    "systemctl daemon-reload",
    "install -d /etc/xvip",
    "xvip import --haproxy /etc/haproxy/haproxy.cfg --keepalived /etc/keepalived/keepalived.conf --output /etc/xvip/xvip.toml",
    "xvip check --config /etc/xvip/xvip.toml",
    "xvip doctor --config /etc/xvip/xvip.toml",
    // Each node without the VIP: `replace`.
    "systemctl disable --now keepalived",
    "systemctl enable --now xvip",
    "xvip status",
    "systemctl disable --now haproxy",
    "sed -i 's/^# listen = /listen = /' /etc/xvip/xvip.toml",
    "systemctl reload xvip",
    // Should the status not be good: `go_back`.
    "systemctl disable --now xvip",
    "systemctl enable --now keepalived",
    // The node with the VIP: before that, without preemption; and a look at the others in between.
    "sed -i 's/^preempt = true/preempt = false/' /etc/xvip/xvip.toml",
    "systemctl disable --now keepalived",
    "xvip status",
    // Back, from there: `give_back`.
    "systemctl disable --now xvip",
    "systemctl enable --now haproxy",
    "systemctl enable --now keepalived",
    // When no keepalived is left: `share`,
    "openssl rand -hex 32 | install -m 600 /dev/stdin /etc/xvip/sync.key",
    "scp -p /etc/xvip/sync.key lb2:/etc/xvip/sync.key",
    r"sed -i 's/^# \(\[sync\]\|key_file = \|peers = \)/\1/' /etc/xvip/xvip.toml",
    "systemctl reload xvip",
    "xvip status",
    // `quicken`,
    r#"sed -i 's/^version = 2/version = 3/; s/^advert_interval = .*/advert_interval = "100ms"/; /^auth_pass = /d' /etc/xvip/xvip.toml"#,
    "systemctl reload xvip",
    // `bring_home`.
    "sed -i 's/^preempt = false/preempt = true/' /etc/xvip/xvip.toml",
    "systemctl reload xvip",
    "xvip vrrp step-down",
    "xvip status",
];

/// A deployment on its way.
struct Swap {
    /// Of each node.
    incumbents: Vec<Incumbent>,
    /// From outside, all the time.
    load: Client,
    /// Held open from outside, since xvip is on all nodes.
    streams: Option<Client>,
    phases: Vec<Phase>,
    deployment: Deployment,
}

/// A stretch of the load, which begins where the one before ends.
struct Phase {
    what: String,
    to: Duration,
    /// Connections that may fail.
    most: usize,
}

impl Swap {
    /// haproxy and keepalived serve, and the first node has the VIP.
    #[track_caller]
    fn begin(plan: &Plan) -> Swap {
        let built = Deployment::build(&agent::find().unwrap(), Path::new(SANDBOX), plan);
        let deployment = built.unwrap_or_else(|err| panic!("{err:#}"));
        let nodes = deployment.hosts.iter().filter(|host| host.agent.is_some()).count();
        let mut incumbents = Vec::new();
        for node in 0..nodes {
            incumbents.push(Incumbent::start(&deployment, node).unwrap_or_else(|err| panic!("{err:#}")));
            wait("keepalived to hold the VIP", || deployment.owners() == [0].into());
        }
        let client = deployment.number("client").unwrap();
        let reaches = |host| {
            let mut places = deployment.places(host).into_iter();
            places.all(|place| deployment.dial(host, place, 3).is_ok_and(|of| of.failed.is_empty()))
        };
        wait("everybody to be served", || (0..nodes).chain([client]).all(reaches));
        assert_eq!(deployment.owners(), [0].into());
        let load = deployment.load(client, EVERY).unwrap();
        let mut swap = Swap { incumbents, load, streams: None, phases: Vec::new(), deployment };
        swap.ends("on haproxy and keepalived", 0);
        swap
    }

    /// A phase ends here, and the next one begins.
    #[track_caller]
    fn ends(&mut self, what: impl Into<String>, most: usize) {
        let from = self.load.now();
        wait("more answers", || self.load.summary(from, self.load.now()).served >= 20);
        self.phases.push(Phase { what: what.into(), to: self.load.now(), most });
    }

    fn agent(&mut self, node: usize) -> &mut Agent {
        self.deployment.hosts[node].agent.as_mut().unwrap()
    }

    /// Whether the files let a better node have the VIP.
    fn preempts(&self) -> bool {
        self.deployment.router().preempt
    }

    /// `xvip import`, `xvip check` and `xvip doctor`; the file is that of the node's agent, with what differs because all nodes share a
    /// machine.
    #[track_caller]
    fn import(&self, node: usize) {
        let host = &self.deployment.hosts[node];
        let xvip = agent::find().unwrap();
        let output = self.deployment.run.dir().join(format!("{}.imported.toml", host.name));
        let mut import = host.netns.command(&xvip);
        import.arg("import").arg("--output").arg(&output);
        self.incumbents[node].name_files(&mut import);
        if output.exists() {
            // Another attempt.
            import.arg("--force");
        }
        let (status, _) = output_within(import, LIMIT).unwrap();
        assert!(status.success(), "{status}");
        let mut check = host.netns.command(&xvip);
        check.arg("check").arg("--config").arg(&output);
        let (status, said) = output_within(check, LIMIT).unwrap();
        assert!(status.success(), "{said}");

        let file = fs::read_to_string(&output).unwrap();
        let here = format!("name = \"{}\"\ncgroup = \"{}\"\n", host.netns.name(), host.cgroup.path().display());
        let mut file = adapt(&file, &[("# name = \"lb1\"\n", &here)]).unwrap();
        if self.deployment.plan.name == VIP_ONLY.name {
            // keepalived's file does not know the other nodes.
            let nodes = self.deployment.hosts[..3].iter().enumerate();
            let known = nodes.map(|(n, host)| (format!("\"192.0.2.{}:", n + 11), format!("\"{}:", host.address)));
            let known: Vec<_> = known.collect();
            let known: Vec<_> = known.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
            file = adapt(&file, &known).unwrap();
        } else {
            assert!(!file.contains("# CHANGE: "), "{file}");
        }
        let others = self.deployment.hosts.iter().filter(|other| other.agent.is_some() && other.name != host.name);
        let others: Vec<_> = others.map(|other| format!("\"{}\"", other.address)).collect();
        let mut file = adapt(&file, &[("/etc/xvip/sync.key", &self.key().display().to_string())]).unwrap();
        if let Some(peers) = file.lines().find(|line| line.starts_with("# peers = ")).map(str::to_owned) {
            file = adapt(&file, &[(&peers, &format!("# peers = [{}]", others.join(", ")))]).unwrap();
        }
        let file = format!("{file}\n[admin]\nsocket = \"{}\"\n", Agent::socket_of(&host.netns).display());
        host.agent.as_ref().unwrap().write_config(&file).unwrap();
        self.examine(node);
    }

    /// What the nodes share, who are on one machine.
    fn key(&self) -> PathBuf {
        self.deployment.run.dir().join("sync.key")
    }

    /// `xvip doctor`: keepalived and haproxy at work are all that it finds.
    #[track_caller]
    fn examine(&self, node: usize) {
        let host = &self.deployment.hosts[node];
        let mut doctor = host.netns.command(agent::find().unwrap());
        doctor.args(["doctor", "--json", "--config"]).arg(host.agent.as_ref().unwrap().config());
        let (_, said) = output_within(doctor, LIMIT).unwrap();
        let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {said}"));
        let of = |severity: &str| {
            let findings = report["findings"].as_array().unwrap().iter().filter(|of| of["severity"] == severity);
            findings.map(|of| of["seen"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (vip, interface) = (self.deployment.vip().ip(), &self.deployment.config.node.interface);
        let holds = format!("{vip} is on {interface} of this host, and xvip has not put it there");
        println!("{} {}: {:#?} {:#?}", self.deployment.plan.name, host.name, of("problem"), of("warning"));
        let expected = if self.deployment.owners() == [node].into() { vec![holds] } else { vec![] };
        assert_eq!(of("problem"), expected, "{report:#}");
    }

    /// `sed -i` of a node's file.
    #[track_caller]
    fn sed(&mut self, node: usize, script: &str) {
        let file = self.agent(node).config();
        assert!(Command::new("sed").arg("-i").arg(script).arg(file).status().unwrap().success());
    }

    /// Waits until the agent of a node is so, with every backend up.
    #[track_caller]
    fn is(&mut self, node: usize, state: &str) {
        let settled = self.agent(node).wait_for(state, LIMIT, |status| {
            let mut backends = status.services.iter().flat_map(|service| &service.backends);
            status.vrrp.iter().all(|router| router.state == state) && backends.all(|backend| backend.state == "up")
        });
        settled.unwrap_or_else(|err| panic!("{err:#}"));
    }

    /// A node's keepalived and haproxy end, and xvip begins in between; whoever is served by this node stays so.
    #[track_caller]
    fn replace(&mut self, node: usize) {
        let name = self.deployment.hosts[node].name;
        let held = self.deployment.owners() == [node].into();
        let own = OwnClients::start(&self.deployment, node);
        self.import(node);
        if held {
            self.sed(node, NO_PREEMPTION);
        }
        self.incumbents[node].stop_keepalived().unwrap();
        if held {
            self.taken_over(node);
            self.ends(format!("the VIP leaves keepalived of {name}"), UNDER_WAY);
        }
        let owners = self.deployment.owners();
        self.takes_part(node);
        if node + 1 == self.incumbents.len() {
            self.go_back(node);
            self.takes_part(node);
        }
        if self.incumbents[node].has_haproxy() {
            self.incumbents[node].stop_haproxy().unwrap();
            self.show_page(node);
            self.ends(format!("haproxy ends on {name}"), 0);
        }
        assert_eq!(self.deployment.owners(), owners, "keepalived and xvip hear each other");

        for (place, of) in own.end() {
            let what = format!("{}: own clients of {name} at {place}", self.deployment.plan.name);
            println!("{what}: {} served, failed: {:?}", of.answers(), of.failed);
            // Where the VIP goes, those under way are cut; here nothing is.
            let most = if held && place == self.deployment.vip() { UNDER_WAY } else { 0 };
            assert!(of.answers() > 0 && of.failed.values().sum::<usize>() <= most, "{what}: {of:?}");
        }
    }

    /// xvip begins where keepalived was.
    #[track_caller]
    fn takes_part(&mut self, node: usize) {
        self.deployment.hosts[node].start_agent().unwrap();
        self.is(node, "backup");
        self.ends(format!("xvip takes part on {}", self.deployment.hosts[node].name), 0);
    }

    /// keepalived instead of xvip again, on a node without the VIP whose haproxy has run on; then it ends once more.
    #[track_caller]
    fn go_back(&mut self, node: usize) {
        let name = self.deployment.hosts[node].name;
        let owners = self.deployment.owners();
        assert!(self.agent(node).stop(LIMIT).unwrap().is_some_and(|status| status.success()));
        self.incumbents[node].start_keepalived(&self.deployment, node).unwrap();
        wait("keepalived to take part again", || self.incumbents[node].is_backup());
        assert_eq!(self.deployment.owners(), owners, "keepalived hears the others");
        self.ends(format!("keepalived is back on {name}"), 0);
        self.incumbents[node].stop_keepalived().unwrap();
    }

    /// haproxy and keepalived instead of xvip again, on the node that had the VIP: it comes back from an agent.
    #[track_caller]
    fn give_back(&mut self, node: usize) {
        let name = self.deployment.hosts[node].name;
        assert!(self.agent(node).stop(LIMIT).unwrap().is_some_and(|status| status.success()));
        self.incumbents[node].start_haproxy(&self.deployment, node).unwrap();
        self.incumbents[node].start_keepalived(&self.deployment, node).unwrap();
        wait("keepalived to take the VIP", || self.deployment.owners() == [node].into());
        self.ends(format!("the VIP goes back to keepalived of {name}"), UNDER_WAY);
    }

    /// Waits until another node has the VIP: the best, where that matters.
    #[track_caller]
    fn taken_over(&self, from: usize) {
        let preempts = self.preempts();
        wait("another node to have the VIP", || {
            let owners = self.deployment.owners();
            let active = |node: &usize| {
                let agent = self.deployment.hosts[*node].agent.as_ref();
                agent.is_some_and(|agent| agent.status().is_ok_and(|status| status.is_active()))
            };
            let best = |node: &usize| !preempts || *node == usize::from(from == 0);
            owners.len() == 1 && owners.iter().all(|node| *node != from && active(node) && best(node))
        });
    }

    /// The page goes where haproxy's was, if it had one.
    #[track_caller]
    fn show_page(&mut self, node: usize) {
        let before = fs::read_to_string(self.agent(node).config()).unwrap();
        self.sed(node, PAGE);
        if fs::read_to_string(self.agent(node).config()).unwrap() == before {
            return;
        }
        self.agent(node).reload().unwrap();
        let page = format!("http://127.0.0.1:{}/", self.deployment.config.metrics.listen.port());
        wait("the page", || {
            let mut curl = self.deployment.hosts[node].netns.command("curl");
            curl.args(["-s", "-f", "--max-time", "5", &page]);
            output_within(curl, LIMIT).is_ok_and(|(status, text)| status.success() && text.contains("xvip"))
        });
    }

    /// The nodes that agents run on.
    fn nodes(&self) -> std::ops::Range<usize> {
        0..self.incumbents.len()
    }

    /// When no keepalived is left the nodes share a key and what it protects.
    #[track_caller]
    fn share(&mut self) {
        let key = KEY.replace("/etc/xvip/sync.key", &self.key().display().to_string());
        assert!(Command::new("sh").args(["-c", &key]).status().unwrap().success());
        for node in self.nodes() {
            self.sed(node, SHARING);
            self.reload(node);
        }
        for node in self.nodes() {
            let others = self.incumbents.len() - 1;
            let told = self.agent(node).wait_for("connections of the others", LIMIT, |status| {
                let peers = &status.sync.peers;
                peers.len() == others && peers.iter().all(|peer| peer.state == "up" && peer.tables_received > 0)
            });
            told.unwrap_or_else(|err| panic!("{err:#}"));
        }
        self.ends("the nodes share their connections", 0);
    }

    /// Then they speak version 3, the holder first: nobody's state changes.
    #[track_caller]
    fn quicken(&mut self, holder: usize) {
        let states = |swap: &Swap| {
            let agents = swap.deployment.hosts.iter().filter_map(|host| host.agent.as_ref());
            let routers = agents.flat_map(|agent| agent.status().unwrap().vrrp);
            routers.map(|router| (router.state, router.since)).collect::<Vec<_>>()
        };
        let before = states(self);
        self.nodes().for_each(|node| self.sed(node, VERSION));
        for node in [holder].into_iter().chain(self.nodes().filter(|node| *node != holder)) {
            self.reload(node);
        }
        self.ends("the nodes speak VRRP version 3", 0);
        for ((state, since), (was, was_since)) in states(self).iter().zip(&before) {
            assert!(state == was && (since - was_since).abs() < 0.5, "{state} since {since}, {was} since {was_since}");
        }
    }

    /// `systemctl reload xvip`, which waits for the outcome.
    #[track_caller]
    fn reload(&mut self, node: usize) {
        let (status, said) = self.agent(node).command(&["reload"]).unwrap();
        assert!(status.success(), "{said}");
    }

    /// The VIP goes back to the best node, or to another one by command.
    #[track_caller]
    fn bring_home(&mut self, holder: usize) {
        if self.preempts() {
            for node in self.nodes().rev() {
                self.sed(node, PREEMPTION);
                self.reload(node);
            }
            self.settled(Some(0));
        } else {
            let (status, said) = self.agent(holder).step_down(&[]).unwrap();
            assert!(status.success(), "{said}");
            self.taken_over(holder);
            self.settled(None);
        }
        self.ends("the VIP goes from xvip to xvip", HANDSHAKE);
    }

    #[track_caller]
    fn settled(&self, holder: Option<usize>) -> usize {
        self.deployment.wait_settled(holder, LIMIT).unwrap_or_else(|err| panic!("{err:#}"))
    }

    /// All nodes, that with the VIP last.
    #[track_caller]
    fn replace_all(&mut self) {
        for node in self.nodes().rev() {
            self.replace(node);
        }
        self.finish();
    }

    /// What is to be done when no keepalived is left.
    #[track_caller]
    fn finish(&mut self) {
        let client = self.deployment.number("client").unwrap();
        let options = Options::https(self.deployment.vip(), self.deployment.authority.ca_file());
        let options = Options { every: Duration::from_secs(1), watches: STREAMS, ..options };
        let streams = Client::start(&self.deployment.hosts[client].netns, options).unwrap();
        watches_open(&streams);
        self.streams = Some(streams);
        let holder = self.settled(None);
        self.share();
        self.quicken(holder);
        self.bring_home(holder);
        let vip = self.deployment.vip();
        let count = thread::available_parallelism().map_or(24, |cpus| 24.max(3 * cpus.get()));
        let reached = self.deployment.dial(client, vip, count).unwrap();
        assert!(reached.failed.is_empty(), "{reached:?}");
        let expected = if self.deployment.service().balance == Balance::Source { 1 } else { 3 };
        assert_eq!(reached.servers().len(), expected, "{reached:?}");
    }

    /// Ends it: of no phase have more connections failed than had to, and nothing may be left.
    #[track_caller]
    fn end(self) {
        settle(&self.load);
        let mut from = Duration::ZERO;
        let mut too_many = Vec::new();
        for Phase { what, to, most } in &self.phases {
            let during = self.load.summary(from, *to);
            let of = format!("{}: {what}, {:.1?}", self.deployment.plan.name, *to - from);
            println!("{of}: {} of {} failed: {}", during.failed(), during.attempts, during.failures_in_words());
            if during.failed() as usize > *most || during.served == 0 {
                too_many.push(format!("{of}: {during:?}"));
            }
            from = *to;
        }
        assert_eq!(too_many, [""; 0]);
        assert_eq!(self.streams.as_ref().map(breaks).unwrap_or_default(), []);
        let run = self.deployment.run.name().to_owned();
        drop(self);
        let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
        assert_eq!(leftovers(&run), Vec::<String>::new());
    }
}

/// Processes of a node that dial wherever it serves, one after the other, until they are ended.
struct OwnClients {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<SocketAddr, dial::Dialled>>,
}

impl OwnClients {
    fn start(deployment: &Deployment, node: usize) -> OwnClients {
        let host = &deployment.hosts[node];
        let (netns, cgroup, ca_file) =
            (host.netns.clone(), Cgroup::known(host.cgroup.path()), deployment.authority.ca_file());
        let places = deployment.places(node);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut sums: BTreeMap<SocketAddr, dial::Dialled> = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for target in &places {
                    let path = "/whoami".to_owned();
                    let options =
                        dial::Options { target: *target, ca_file: ca_file.clone(), count: 3, at_once: 1, path };
                    let dialled = dial::run(Path::new(SANDBOX), &netns, Some(&cgroup), &options, LIMIT).unwrap();
                    let sum = sums.entry(*target).or_default();
                    dialled.served.into_iter().for_each(|(by, n)| *sum.served.entry(by).or_default() += n);
                    dialled.failed.into_iter().for_each(|(why, n)| *sum.failed.entry(why).or_default() += n);
                }
                thread::sleep(EVERY);
            }
            sums
        });
        OwnClients { stop, thread }
    }

    fn end(self) -> BTreeMap<SocketAddr, dial::Dialled> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[track_caller]
fn wait(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, LIMIT, || probe().then_some(())).unwrap_or_else(|err| panic!("{err:#}"));
}

fn swapped(plan: &Plan) {
    let mut swap = Swap::begin(plan);
    swap.replace_all();
    swap.end();
}

/// The first node changes its mind once.
fn with_a_way_back() {
    let mut swap = Swap::begin(&EXTERNAL_PAIR);
    swap.replace(1);
    swap.replace(0);
    swap.give_back(0);
    swap.replace(0);
    swap.finish();
    swap.end();
}

/// Ports of the VIP that no service has stay its holder's, as those of kube-proxy.
fn with_node_ports() {
    let mut swap = Swap::begin(&STACKED_WORKERS);
    let deployment = &swap.deployment;
    let ports: Vec<_> =
        deployment.hosts[..3].iter().map(|host| deployment.serve(host.name, NODE_PORT, true).unwrap()).collect();
    let reached = |deployment: &Deployment| {
        let (client, to) = (deployment.number("worker1").unwrap(), SocketAddr::new(deployment.vip().ip(), NODE_PORT));
        deployment.dial(client, to, 4).unwrap().served.into_keys().collect::<BTreeSet<_>>()
    };
    let first = BTreeSet::from([deployment.hosts[0].name.to_owned()]);
    wait("the holder's node port", || reached(deployment) == first);
    swap.replace_all();
    assert_eq!(reached(&swap.deployment), first);
    drop(ports);
    swap.end();
}

#[test]
fn the_page_has_the_steps_that_are_taken() {
    let blocks = book::read("docs/migration.md").unwrap().blocks.into_iter();
    let text: String = blocks.filter(|block| block.language == "sh").map(|block| block.text).collect();
    let typed: Vec<_> = text.lines().map(|line| line.split("  #").next().unwrap_or_default().trim()).collect();
    assert_eq!(typed, STEPS);
    for script in [NO_PREEMPTION, PREEMPTION, PAGE, SHARING, VERSION] {
        assert!(text.contains(&format!("sed -i '{script}' ")), "{script}");
    }
    assert!(text.contains(KEY));
}

/// All at once: they mostly wait for their own intervals.
#[test]
fn one_node_at_a_time() {
    at_once(&[
        (&EXTERNAL_PAIR, with_a_way_back),
        (&STACKED_NOPREEMPT, || swapped(&STACKED_NOPREEMPT)),
        (&VIP_ONLY, || swapped(&VIP_ONLY)),
        (&STACKED_WORKERS, with_node_ports),
    ]);
}

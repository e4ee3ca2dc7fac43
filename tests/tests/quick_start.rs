//! Both quick starts of `docs/quick-start.md` as they are printed: each block of `sh` is typed on the hosts that stand behind the
//! word, on hosts with names, files and networks of their own. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{LIMIT, SANDBOX, breaks, served_more, settle, wait, watches_open};
use nix::sys::signal::Signal;
use xvip_tests::agent;
use xvip_tests::apiserver::ApiServer;
use xvip_tests::book::{self, Block};
use xvip_tests::client::{Client, Options};
use xvip_tests::netns::Netns;
use xvip_tests::node::Node;
use xvip_tests::pki::Authority;
use xvip_tests::process::Process;
use xvip_tests::run::{Run, leftovers};
use xvip_tests::scrape::Scrape;
use xvip_tests::status::Status;
use xvip_tests::until::until;
use xvip_tests::wire::{Lan, Port};

const PAGE: &str = "docs/quick-start.md";
const VIP: &str = "192.0.2.100";

/// What is done instead of a line that cannot be typed in a namespace.
#[derive(Debug, Clone, Copy)]
enum Instead {
    /// There is no systemd that would have to know.
    Nothing,
    /// What the unit that was installed says to run, in its order, until the agent answers `xvip status`.
    StartUnit,
    /// SIGTERM, and the end waited for.
    StopUnit,
    /// The same file on the other hosts, with its mode.
    Copy,
    /// An API server, on the host's port 6443, and an answer from it by the endpoint, which `kubeadm init` waits for too.
    Init,
    /// An answer by the endpoint first, from which a node that joins takes everything, then an API server.
    Join,
    /// The line as it is, when the agents have settled and every API server that runs is up for them.
    Settled,
}

/// Lines that begin so.
const INSTEAD: [(&str, Instead); 8] = [
    ("systemctl daemon-reload", Instead::Nothing),
    ("systemctl enable --now xvip", Instead::StartUnit),
    ("systemctl start xvip", Instead::StartUnit),
    ("systemctl stop xvip", Instead::StopUnit),
    ("scp ", Instead::Copy),
    ("kubeadm init ", Instead::Init),
    ("kubeadm join ", Instead::Join),
    ("xvip status", Instead::Settled),
];

/// The hosts of a chapter; they end in the order of the fields.
struct Tour {
    nodes: BTreeMap<&'static str, Node>,
    servers: BTreeMap<&'static str, ApiServer>,
    addresses: BTreeMap<&'static str, &'static str>,
    authority: Authority,
    _ports: Vec<Port>,
    _lan: Lan,
    run: Arc<Run>,
}

impl Tour {
    /// Hosts with these addresses, and in the home of each what the first block copies there.
    #[track_caller]
    fn new(hosts: &[(&'static str, &'static str)]) -> Tour {
        let run = Run::start().unwrap();
        let lan = Lan::create(&run, "lan").unwrap();
        let authority = Authority::create(run.dir()).unwrap();
        let (mut nodes, mut ports) = (BTreeMap::new(), Vec::new());
        for &(name, address) in hosts {
            let netns = Netns::create(&run, name).unwrap();
            ports.push(lan.attach(&netns, "eth0", &format!("{address}/24")).unwrap());
            let node = Node::start(&netns).unwrap_or_else(|err| panic!("{err:#}"));
            node.bring(&agent::find().unwrap()).unwrap();
            node.bring(&book::root().join("config/xvip.service").canonicalize().unwrap()).unwrap();
            nodes.insert(name, node);
        }
        let addresses = hosts.iter().copied().collect();
        Tour { nodes, servers: BTreeMap::new(), addresses, authority, _ports: ports, _lan: lan, run }
    }

    #[track_caller]
    fn serve(&mut self, name: &'static str) {
        let keys = self.authority.server(name, &[VIP, self.addresses[name]]).unwrap();
        let server = ApiServer::start(Path::new(SANDBOX), self.nodes[name].netns(), "0.0.0.0:6443", &keys);
        self.servers.insert(name, server.unwrap());
    }

    /// The host that is called so.
    #[track_caller]
    fn known(&self, name: &str) -> &'static str {
        self.nodes.keys().copied().find(|known| *known == name).unwrap_or_else(|| panic!("there is no host {name}"))
    }

    /// Types all of a chapter.
    #[track_caller]
    fn walk(&mut self, chapter: &str) {
        let blocks = book::read(PAGE).unwrap().blocks.into_iter();
        let blocks: Vec<_> = blocks.filter(|block| block.chapter == chapter && block.language == "sh").collect();
        assert!(blocks.len() > 5, "{PAGE} has no such chapter: {chapter}");
        let mut meanwhile: Option<(&Block, Process)> = None;
        for block in &blocks {
            println!("{PAGE}:{}, {}", block.line, block.marks.join(" "));
            match block.marks.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                // Before there are any nodes.
                ["build"] => {}
                [host, "meanwhile"] => {
                    let node = &self.nodes[*host];
                    let mut command = node.command("sh").unwrap();
                    command.args(["-c", &block.text]);
                    let name = format!("{host}-{}", block.line);
                    meanwhile = Some((block, Process::spawn(&self.run, &name, command).unwrap()));
                    continue;
                }
                [] => panic!("{PAGE}:{}: nobody knows where to type this", block.line),
                hosts => {
                    for host in hosts {
                        self.type_on(self.known(host), block);
                    }
                }
            }
            if let Some((block, mut process)) = meanwhile.take() {
                assert!(process.wait(LIMIT).unwrap().success(), "{}", process.log_tail(20));
                let said = process.log_tail(20);
                println!("{said}");
                let counted: Vec<_> = said.split_whitespace().collect();
                assert_eq!(counted, ["100", "200"], "{PAGE}:{}: all 100 are answered 200", block.line);
            }
        }
        assert!(meanwhile.is_none(), "nothing happens meanwhile");
    }

    /// Types a block on a host, line by line where something else is done instead.
    #[track_caller]
    fn type_on(&mut self, host: &'static str, block: &Block) {
        let mut typed = String::new();
        for line in block.text.lines() {
            let Some((_, instead)) = INSTEAD.iter().find(|(begin, _)| line.starts_with(begin)) else {
                typed += line;
                typed.push('\n');
                continue;
            };
            self.succeed(host, &std::mem::take(&mut typed));
            self.instead(host, line, *instead);
        }
        self.succeed(host, &typed);
    }

    #[track_caller]
    fn succeed(&self, host: &str, lines: &str) -> String {
        self.nodes[host].succeed(lines).unwrap_or_else(|err| panic!("{err:#}"))
    }

    #[track_caller]
    fn instead(&mut self, host: &'static str, line: &str, instead: Instead) {
        let words: Vec<_> = line.split_whitespace().collect();
        match instead {
            Instead::Nothing => {}
            Instead::StartUnit => {
                let node = self.nodes.get_mut(host).unwrap();
                node.start_unit("xvip", "xvip status").unwrap_or_else(|err| panic!("{err:#}"));
            }
            Instead::StopUnit => {
                let service = self.nodes.get_mut(host).unwrap().service.take();
                let mut service = service.unwrap_or_else(|| panic!("{host}: nothing runs that could be stopped"));
                service.signal(Signal::SIGTERM).unwrap();
                assert!(service.wait(LIMIT).unwrap().success(), "{}", service.log_tail(20));
            }
            Instead::Copy => {
                let ["scp", "-p", file, to] = words.as_slice() else { panic!("{line}: not understood") };
                let (other, path) = to.split_once(':').unwrap();
                let mode = self.succeed(host, &format!("stat -c %a {file}"));
                let text = self.succeed(host, &format!("cat {file}"));
                let install = format!("install -D -m {} /dev/stdin {path} <<'EOF'\n{text}EOF\n", mode.trim());
                self.succeed(self.known(other), &install);
            }
            Instead::Init => {
                assert!(line.contains(&format!("--control-plane-endpoint {VIP}:8443 ")), "{line}");
                self.serve(host);
                self.reach(host);
            }
            Instead::Join => {
                assert_eq!(words[2], format!("{VIP}:8443"), "{line}");
                self.reach(host);
                self.serve(host);
            }
            Instead::Settled => {
                wait("the agents to be settled", || self.settled());
                println!("{}", self.succeed(host, line));
            }
        }
    }

    /// Waits until an API server answers a host by the VIP.
    #[track_caller]
    fn reach(&self, host: &str) {
        let ask = format!("curl -sfk --max-time 2 https://{VIP}:8443/readyz");
        wait("an answer by the VIP", || self.nodes[host].shell(&ask).is_ok_and(|(status, _)| status.success()));
    }

    /// Whether one agent of those that run is active, the others are its backups, and for all just the servers that run are up.
    fn settled(&self) -> bool {
        let running = self.nodes.values().filter(|node| node.service.is_some());
        let Some(statuses) = running.map(status).collect::<Option<Vec<_>>>() else { return false };
        let active = statuses.iter().filter(|status| status.is_active()).count();
        let backup = statuses.iter().filter(|status| status.vrrp_state() == "backup").count();
        let up = |status: &Status| {
            let backends = status.services.iter().flat_map(|service| &service.backends);
            backends.filter(|backend| backend.state == "up").count()
        };
        active == 1 && active + backup == statuses.len() && statuses.iter().all(|of| up(of) == self.servers.len())
    }

    /// The node whose agent holds the VIP.
    #[track_caller]
    fn holder(&self) -> &'static str {
        let shown = format!(" {VIP}/");
        let has = |node: &&Node| node.netns().ip("-o -4 address show dev eth0").is_ok_and(|text| text.contains(&shown));
        let holders: Vec<_> = self.nodes.values().filter(has).map(Node::name).collect();
        let [holder] = holders.as_slice() else { panic!("the VIP is on {holders:?}") };
        self.known(holder)
    }

    /// Whether every agent that runs has been told the flows of all the others.
    fn shared(&self) -> bool {
        let running: Vec<_> = self.nodes.values().filter(|node| node.service.is_some()).collect();
        running.iter().all(|node| {
            let others = running.iter().map(|other| other.name()).filter(|other| *other != node.name());
            let scrape = Scrape::of(node.netns());
            let told = |other: &str| {
                let labels = [("peer", self.addresses[other]), ("direction", "received")];
                scrape.as_ref().is_ok_and(|scrape| scrape.value("xvip_sync_tables_total", &labels) > Some(0.0))
            };
            others.into_iter().all(told)
        })
    }

    /// Kills the holder's agent: what is open stays open, and what is new is served.
    #[track_caller]
    fn lose_holder(&mut self) {
        let target: SocketAddr = format!("{VIP}:8443").parse().unwrap();
        let options = Options::https(target, self.authority.ca_file());
        let options = Options { every: Duration::from_millis(20), timeout: Duration::from_secs(5), ..options };
        let load = Client::start(self.nodes["client"].netns(), options).unwrap();
        watches_open(&load);
        wait("flows to be shared", || self.shared());
        served_more(&load, 50);
        let holder = self.holder();
        let from = load.now();
        self.nodes.get_mut(holder).unwrap().service.as_mut().unwrap().kill9().unwrap();
        wait("another holder", || {
            let mut others = self.nodes.values().filter(|node| node.name() != holder && node.service.is_some());
            others.any(|node| status(node).is_some_and(|status| status.is_active()))
        });
        served_more(&load, 100);
        let sum = load.summary(from, settle(&load));
        println!("agent of {holder} killed: {:?} without an answer, failed: {}", sum.outage, sum.failures_in_words());
        assert_eq!(breaks(&load), [], "streams that were open");
        // One whose handshake was under way in the moment of the move may have been nobody's.
        assert!(sum.failed() <= 1, "{sum:?}");
    }

    /// Ends it; nothing may be left.
    #[track_caller]
    fn end(self) {
        let run = self.run.name().to_owned();
        drop(self);
        let _ = until("nothing to be left", Duration::from_secs(5), || leftovers(&run).is_empty().then_some(()));
        assert_eq!(leftovers(&run), Vec::<String>::new());
    }
}

/// What the agent of a node says, if it answers.
fn status(node: &Node) -> Option<Status> {
    serde_json::from_str(&node.succeed("xvip status --json").ok()?).ok()
}

#[test]
fn two_balancers() {
    let mut tour = Tour::new(&[
        ("lb1", "192.0.2.21"),
        ("lb2", "192.0.2.22"),
        ("master1", "192.0.2.31"),
        ("master2", "192.0.2.32"),
        ("master3", "192.0.2.33"),
        ("client", "192.0.2.10"),
    ]);
    for master in ["master1", "master2", "master3"] {
        tour.serve(master);
    }
    tour.walk("two-balancers-in-front-of-three-api-servers");
    tour.lose_holder();
    tour.end();
}

#[test]
fn three_stacked_nodes() {
    let mut tour =
        Tour::new(&[("cp1", "192.0.2.31"), ("cp2", "192.0.2.32"), ("cp3", "192.0.2.33"), ("client", "192.0.2.10")]);
    tour.walk("three-control-plane-nodes-with-kubeadm");
    tour.end();
}

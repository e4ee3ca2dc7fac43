//! The VIP's way from one balancer to the other, and what an agent leaves behind when it stops, dies and comes back. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, OFTEN, breaks, end, served_more, serving, settle, unstarted, wait, watches_open};
use xvip_tests::ipv6;
use xvip_tests::netns::Netns;
use xvip_tests::run::{PIN_DIR, node_of};
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::{Balancer, Topology, has_vip, mac_of, neighbour, program};

/// Does something to the holder of the VIP, sees the other one take over and clients served, undoes it, and sees one holder again.
#[track_caller]
fn fail_over(fault: fn(&mut Balancer), repair: fn(&mut Balancer)) {
    let mut topology = serving(2, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 4).unwrap();
    watches_open(&load);
    served_more(&load, 50);
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    let from = load.now();
    fault(&mut topology.balancers[holder]);
    topology.balancers[other].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    wait("the VIP on the other node", || has_vip(topology.balancers[other].agent.netns()));
    served_more(&load, 50);
    watches_open(&load);
    let resumed = load.now();
    served_more(&load, 50);
    let repaired = load.now();
    repair(&mut topology.balancers[holder]);
    everybody_knows_the_holder(&mut topology);
    // A handshake that was under way when the VIP went to one of them begins again.
    served_more(&load, 20);
    let healed = load.now();
    stays_with_one(&topology);
    let end_of_load = settle(&load);
    let during = load.summary(from, resumed);
    println!("outage {:?}, failed: {}; watches: {:?}", during.outage, during.failures_in_words(), breaks(&load));
    for after in [load.summary(resumed, repaired), load.summary(healed, end_of_load)] {
        assert_eq!(after.failed(), 0, "{after:?}");
    }
    drop(load);
    end(topology);
}

/// Waits until one node has the VIP, and every host that knows where it is knows it there. Who had it too may have said so last; then
/// the next round of the holder's announcements is the one that counts, and takes what is under way to another node.
#[track_caller]
fn everybody_knows_the_holder(topology: &mut Topology) {
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    let holder = mac_of(topology.balancers[topology.owner().unwrap()].agent.netns()).unwrap();
    let vip = Topology::vip().ip();
    wait("everybody to know the holder", || {
        let mut hosts = [&topology.client].into_iter().chain(topology.servers.iter().map(|server| server.netns()));
        hosts.all(|netns| neighbour(netns, vip).is_none_or(|(mac, _)| mac == holder))
    });
}

/// Looks for a second, in which nothing may move.
#[track_caller]
fn stays_with_one(topology: &Topology) {
    let holder = topology.owner().unwrap();
    for _ in 0..20 {
        assert_eq!(topology.owners(), [holder], "one holder, and it stays so");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_other_takes_over_after_sigterm() {
    fail_over(
        |holder| {
            assert!(holder.agent.stop(LIMIT).unwrap().unwrap().success(), "{}", holder.agent.log_tail(10));
            assert!(!has_vip(holder.agent.netns()));
        },
        |holder| holder.agent.start().unwrap(),
    );
}

#[test]
fn the_other_takes_over_after_kill_9() {
    fail_over(
        |holder| {
            holder.agent.kill9().unwrap();
            assert!(has_vip(holder.agent.netns()), "nobody was left to remove it");
        },
        |holder| holder.agent.start().unwrap(),
    );
}

#[test]
fn the_other_takes_over_after_a_link_cut() {
    fail_over(
        |holder| {
            holder.port.cut().unwrap();
            holder.agent.wait_for("the fault", LIMIT, |status| status.vrrp_state() == "fault").unwrap();
            wait("the VIP to be removed", || !has_vip(holder.agent.netns()));
        },
        |holder| holder.port.mend().unwrap(),
    );
}

#[test]
fn the_other_takes_over_after_a_freeze() {
    fail_over(|holder| holder.agent.freeze().unwrap(), |holder| holder.agent.thaw().unwrap());
}

#[test]
fn a_parted_pair_has_one_holder_again_when_it_is_whole() {
    let mut topology = serving(2, &[OFTEN]);
    let load = topology.load(Duration::from_millis(15), 0).unwrap();
    served_more(&load, 50);
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    topology.lan.partition(&[&topology.balancers[other].port]).unwrap();
    wait("both to hold the VIP", || topology.owners().len() == 2);
    served_more(&load, 50);
    topology.lan.heal(&[&topology.balancers[other].port]).unwrap();
    everybody_knows_the_holder(&mut topology);
    // A handshake that was under way when the VIP went to one of them begins again.
    served_more(&load, 20);
    let healed = load.now();
    stays_with_one(&topology);
    let after = load.summary(healed, settle(&load));
    assert!(after.served > 0 && after.failed() == 0, "from {healed:?}: {after:?}");
    drop(load);
    end(topology);
}

/// What an agent could leave behind on its host, in words.
fn traces(netns: &Netns) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for words in
        ["-d link show", "-d address show", "route show table all", "rule show", "maddress show", "-d netns list-id"]
    {
        found.insert(format!("ip {words}"), without_counters(&netns.ip(words).unwrap()));
    }
    let bpftool = netns.command("bpftool").args(["net", "show"]).output().expect("the program bpftool is needed");
    assert!(bpftool.status.success(), "{}", String::from_utf8_lossy(&bpftool.stderr));
    found.insert("bpftool net show".to_owned(), String::from_utf8_lossy(&bpftool.stdout).into_owned());
    netns.enter(|| settings(Path::new("/proc/sys/net"), &mut found)).unwrap();
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    // Other nodes of the machine have their own.
    let pins: Vec<_> = names(Path::new(PIN_DIR)).into_iter().filter(|name| node_of(name) == netns.name()).collect();
    found.insert(PIN_DIR.to_owned(), format!("{pins:?}"));
    let kept: Vec<_> =
        names(Path::new("/run/xvip")).into_iter().filter(|name| name.starts_with(netns.name())).collect();
    found.insert("/run/xvip".to_owned(), format!("{kept:?}, there: {}", Path::new("/run/xvip").exists()));
    let files: Vec<_> = names(netns.run().dir()).into_iter().filter(|name| !name.ends_with(".log")).collect();
    found.insert("files of the run".to_owned(), format!("{files:?}"));
    found
}

/// Addresses' ages do not count.
fn without_counters(text: &str) -> String {
    text.lines().filter(|line| !line.contains("valid_lft")).collect::<Vec<_>>().join("\n")
}

fn settings(dir: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            settings(&path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            into.insert(path.display().to_string(), text);
        }
    }
}

#[test]
fn sigterm_leaves_the_host_as_it_was_found() {
    let overlapping = ("interface = \"eth0\"\n", "interface = \"eth0\"\nsource_ports = \"30000-40000\"\n");
    let mut topology = unstarted(1, &[OFTEN, overlapping]);
    let netns = topology.balancers[0].agent.netns().clone();
    ipv6::number(&topology).unwrap();
    let agent = &topology.balancers[0].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    let router = "virtual_addresses = [\"2001:db8::100/64\"]";
    agent.write_config(&ipv6::with_router(&config, router).unwrap()).unwrap();
    let has_ipv6_vip = || ipv6::shown(&netns, &ipv6::VIP.to_string()).is_some();
    netns.sysctl("net/ipv4/ip_local_reserved_ports", "8080,9148").unwrap();
    let reserved =
        || netns.enter(|| fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap()).unwrap();
    // IPv6 tries its addresses out first.
    wait("addresses to be final", || !netns.ip("address show").unwrap().contains("tentative"));
    let before = traces(&netns);
    for how in ["stopped", "killed, started again and stopped"] {
        topology.balancers[0].agent.start().unwrap();
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        wait("the VIP of IPv6", has_ipv6_vip);
        assert_eq!(reserved().trim(), "8080,9148,32768-40000");
        assert!(topology.curl(&["-f"], "/livez").unwrap().0.success());
        let during = traces(&netns);
        for kind in
            ["ip -d link show", "ip -d address show", "bpftool net show", PIN_DIR, "/run/xvip", "files of the run"]
        {
            assert_ne!(
                before.get(kind),
                during.get(kind),
                "{kind} shows nothing of a running agent: the test sees nothing"
            );
        }
        let agent = &mut topology.balancers[0].agent;
        if how != "stopped" {
            agent.kill9().unwrap();
            agent.start().unwrap();
            topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        }
        let agent = &mut topology.balancers[0].agent;
        assert!(agent.stop(LIMIT).unwrap().unwrap().success(), "{}", agent.log_tail(10));
        let after = traces(&netns);
        let differs = |key: &&String| before.get(*key) != after.get(*key);
        let changed: BTreeSet<_> = before.keys().chain(after.keys()).filter(differs).collect();
        let words: Vec<_> = changed
            .iter()
            .map(|key| format!("{key}\nbefore: {:?}\nafter:  {:?}", before.get(*key), after.get(*key)))
            .collect();
        assert!(words.is_empty(), "{how}:\n{}", words.join("\n"));
    }
    drop(netns);
    end(topology);
}

fn open_connections(topology: &Topology) -> u64 {
    topology.balancers[0].agent.status().unwrap().services[0].backends.iter().map(|backend| backend.connections).sum()
}

#[test]
fn the_kernel_serves_without_an_agent_and_the_next_one_adopts_it() {
    let mut topology = serving(1, &[OFTEN]);
    let netns = topology.balancers[0].agent.netns().clone();
    // These only hold streams.
    let holder = topology.load(Duration::from_secs(1000), 6).unwrap();
    let load = topology.load(Duration::from_millis(20), 0).unwrap();
    watches_open(&holder);
    served_more(&load, 50);
    let first = program(&netns).unwrap();
    assert!(first.is_some());
    topology.balancers[0].agent.kill9().unwrap();
    let dead = load.now();
    served_more(&load, 300);
    assert_eq!(program(&netns).unwrap(), first, "the program stays");
    let sum = load.summary(dead, settle(&load));
    println!("without an agent: {} attempts, {} failed, longest pause {:?}", sum.attempts, sum.failed(), sum.outage);
    assert_eq!((sum.failed(), breaks(&holder)), (0, vec![]), "{sum:?}");

    let restarted = load.now();
    topology.balancers[0].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert_ne!(program(&netns).unwrap(), first, "the new agent's program is in its place");
    let sum = load.summary(restarted, load.now());
    println!(
        "at the start of the next: {} attempts, failed: {}, longest pause {:?}",
        sum.attempts,
        sum.failures_in_words(),
        sum.outage
    );
    let adopted = load.now();
    served_more(&load, 100);
    let sum = load.summary(adopted, settle(&load));
    assert_eq!(sum.failed(), 0, "{sum:?}");
    drop(load);
    wait("six connections to be counted", || open_connections(&topology) == 6);
    let totals: u64 =
        topology.balancers[0].agent.status().unwrap().services[0].backends.iter().map(|b| b.connections_total).sum();
    assert!(totals > 400, "{totals}: those counted before count on");
    assert!(holder.watches().iter().all(Option::is_some));
    assert_eq!(breaks(&holder), []);
    drop(holder);
    drop(netns);
    end(topology);
}

#[test]
fn another_size_replaces_the_tables_and_the_service_goes_on() {
    let mut topology = serving(1, &[OFTEN]);
    let netns = topology.balancers[0].agent.netns().clone();
    let capacity = || Scrape::of(&netns).unwrap().value("xvip_connection_table_capacity", &[("table", "established")]);
    let load = topology.load(Duration::from_millis(20), 4).unwrap();
    watches_open(&load);
    assert_eq!(capacity(), Some(262_144.0));
    let agent = &mut topology.balancers[0].agent;
    agent.kill9().unwrap();
    let config = fs::read_to_string(agent.config()).unwrap();
    let smaller = config.replacen("interface = \"eth0\"", "interface = \"eth0\"\nmax_flows = 4096", 1);
    agent.write_config(&smaller).unwrap();
    agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert_eq!(capacity(), Some(8192.0));
    let log = topology.balancers[0].agent.log_tail(40);
    assert!(log.contains("do not fit and are replaced"), "{log}");
    wait("the streams of before to break", || breaks(&load).len() >= 4);
    watches_open(&load);
    let from = load.now();
    served_more(&load, 100);
    let sum = load.summary(from, settle(&load));
    assert_eq!((sum.failed(), breaks(&load).len()), (0, 4), "{sum:?}");
    drop(load);
    drop(netns);
    end(topology);
}

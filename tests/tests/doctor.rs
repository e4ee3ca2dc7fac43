//! `xvip doctor` on hosts with real faults made on purpose, and on one without any. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::{LIMIT, SANDBOX, end, unstarted, wait};
use serde_json::Value;
use xvip_tests::agent::{adapt, find};
use xvip_tests::apiserver::ApiServer;
use xvip_tests::foreign::Foreign;
use xvip_tests::ipv6;
use xvip_tests::keepalived::{Keepalived, Settings};
use xvip_tests::process::output_within;
use xvip_tests::topology::{BALANCERS, Topology, program};

/// What the doctor says on a balancer, and whether it found no problem.
#[track_caller]
fn examine(topology: &Topology, balancer: usize, words: &[&str]) -> (bool, Value) {
    let agent = &topology.balancers[balancer].agent;
    let mut command: Command = agent.netns().command(find().unwrap());
    command.args(["doctor", "--json"]).args(words);
    let (status, text) = output_within(command, LIMIT).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err}: {text}"));
    assert_eq!(status.code(), Some(i32::from(report["problems"] != 0)), "{report:#}");
    (status.success(), report)
}

#[track_caller]
fn examine_configured(topology: &Topology, balancer: usize) -> (bool, Value) {
    let config = topology.balancers[balancer].agent.config();
    examine(topology, balancer, &["--config", &config.display().to_string()])
}

/// The findings of this severity: check, subject, what was seen.
fn of(report: &Value, severity: &str) -> Vec<(String, String, String)> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == severity);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings.map(|f| (text(&f["check"]), text(&f["subject"]), text(&f["seen"]))).collect()
}

/// Problems, as check and subject.
fn problems(report: &Value) -> Vec<(String, String)> {
    of(report, "problem").into_iter().map(|(check, subject, _)| (check, subject)).collect()
}

fn pair(check: &str, subject: &str) -> (String, String) {
    (check.to_owned(), subject.to_owned())
}

#[track_caller]
fn backends_answer(topology: &Topology) {
    for server in &topology.servers {
        let address = xvip_tests::topology::SERVERS.iter().find(|(name, _)| *name == server.name()).unwrap().1;
        wait("the API server", || {
            let mut curl = topology.client.command("curl");
            curl.args(["-sk", "--max-time", "2", &format!("https://{address}:6443/readyz")]);
            output_within(curl, Duration::from_secs(5)).is_ok_and(|(status, _)| status.success())
        });
    }
}

#[test]
fn a_host_on_which_all_is_well_has_no_problem_and_is_not_changed() {
    let topology = unstarted(2, &[("datapath = \"xdp\"", "datapath = \"auto\"")]);
    backends_answer(&topology);
    let netns = topology.balancers[0].agent.netns();
    let state = || {
        let links = netns.ip("-d link show").unwrap();
        // Counters of what is learnt by itself, such as addresses of multicast, are not ours to keep.
        (links, netns.ip("-o address show").unwrap(), netns.ip("route show").unwrap(), program(netns).unwrap())
    };
    // The kernel's own check of its new link-local address.
    wait("addresses to be settled", || !state().1.contains("tentative"));
    let before = state();
    let (good, report) = examine_configured(&topology, 0);
    assert!(good, "{report:#}");
    assert_eq!(state(), before);
    assert_eq!(of(&report, "warning"), [], "{report:#}");
    let seen: Vec<_> = of(&report, "ok").into_iter().map(|(check, _, _)| check).collect();
    for check in ["kernel", "datapath", "programs", "adverts", "vip", "peers", "route", "reachable", "certificate"] {
        assert!(seen.iter().any(|seen| seen == check), "{check}: {report:#}");
    }

    // For people, and without a configuration.
    let mut command = netns.command(find().unwrap());
    command.args(["doctor", "--config"]).arg(topology.balancers[0].agent.config());
    let (status, text) = output_within(command, LIMIT).unwrap();
    println!("{text}");
    assert!(status.success() && text.contains("\n0 problems, 0 warnings"), "{text}");
    let (good, report) = examine(&topology, 0, &[]);
    assert!(good, "{report:#}");
    let subjects: Vec<_> = of(&report, "ok").into_iter().map(|(_, subject, _)| subject).collect();
    assert!(subjects.contains(&"interface eth0".to_owned()), "{report:#}");
    end(topology);
}

#[test]
fn faults_made_on_purpose_are_found() {
    let topology = unstarted(2, &[]);
    let ours = &topology.balancers[0].agent;
    let config = fs::read_to_string(ours.config()).unwrap();

    // A server whose certificate lacks the VIP, beside two that are as they should be.
    let (name, address) = ("master4", "192.0.2.34");
    let (netns, port) = xvip_tests::topology::host(&topology.lan, &topology.run, name, address).unwrap();
    let keys = topology.authority.server(name, &[name, address]).unwrap();
    let server = ApiServer::start(SANDBOX.as_ref(), &netns, &format!("{address}:6443"), &keys).unwrap();
    let narrow = ("address = \"192.0.2.33:6443\"", "address = \"192.0.2.34:6443\"");
    // An address outside the subnet beside the VIP.
    let outside = ("[\"192.0.2.100/24\"]", "[\"192.0.2.100/24\", \"198.51.100.1/24\"]");
    ours.write_config(&adapt(&config, &[narrow, outside]).unwrap()).unwrap();
    backends_answer(&topology);
    wait("the fourth API server", || {
        let mut curl = topology.client.command("curl");
        curl.args(["-sk", "--max-time", "2", &format!("https://{address}:6443/readyz")]);
        output_within(curl, Duration::from_secs(5)).is_ok_and(|(status, _)| status.success())
    });

    // Somebody else's program, and somebody else who has the VIP.
    let tc = |words: &str| {
        let mut command = ours.netns().command("tc");
        command.args(words.split(' '));
        let (status, _) = output_within(command, LIMIT).expect("the program tc is needed");
        assert!(status.success(), "tc {words}");
    };
    tc("qdisc add dev eth0 clsact");
    for direction in ["ingress", "egress"] {
        tc(&format!("filter add dev eth0 {direction} protocol ip u32 match u32 0 0 flowid 1:1"));
    }
    let foreign = Foreign::attach(ours.netns(), "eth0", false).unwrap();
    topology.client.ip("address add 192.0.2.100/24 dev eth0").unwrap();
    let (good, report) = examine_configured(&topology, 0);
    assert!(!good);
    let mut found = problems(&report);
    found.sort();
    let mut expected = vec![
        pair("certificate", "backend master3 of apiserver"),
        pair("configuration", "configuration"),
        pair("programs", "interface eth0"),
        pair("vip", "virtual router k8s"),
    ];
    expected.sort();
    assert_eq!(found, expected, "{report:#}");
    let seen = of(&report, "problem");
    let seen = |check: &str| seen.iter().find(|(of, ..)| of == check).map(|(_, _, seen)| seen.clone()).unwrap();
    assert!(seen("certificate").contains("does not name 192.0.2.100"), "{}", seen("certificate"));
    assert!(seen("certificate").contains("192.0.2.34"), "{}", seen("certificate"));
    assert!(seen("configuration").contains("198.51.100.1/24 is in no subnet of \"eth0\""), "{}", seen("configuration"));
    assert!(
        seen("programs").contains("\"foreign\"") && seen("programs").contains("native XDP"),
        "{}",
        seen("programs")
    );
    let filters = |severity| {
        let found = of(&report, severity).into_iter().filter(|(check, ..)| check == "programs");
        found.map(|(_, _, seen)| seen).collect::<Vec<_>>()
    };
    assert_eq!(filters("warning"), ["filters of kind u32 of somebody else (traffic control filter, ingress)"]);
    assert_eq!(filters("note"), ["filters of kind u32 of somebody else (traffic control filter, egress)"]);
    let mac = xvip_tests::topology::mac_of(&topology.client).unwrap();
    assert!(seen("vip").contains(&mac), "{}", seen("vip"));
    let mut command = ours.netns().command(find().unwrap());
    command.args(["doctor", "--config"]).arg(ours.config());
    println!("{}", output_within(command, LIMIT).unwrap().1);
    topology.client.ip("address del 192.0.2.100/24 dev eth0").unwrap();
    drop((foreign, server, netns, port));
    end(topology);
}

#[test]
fn somebody_with_a_vip_of_ipv6_is_found() {
    let topology = unstarted(2, &[]);
    ipv6::number(&topology).unwrap();
    let ours = &topology.balancers[0].agent;
    let config = fs::read_to_string(ours.config()).unwrap();
    let keys = format!("virtual_addresses = [\"{}/64\"]\nunicast_peers = [\"{}\"]", ipv6::VIP, ipv6::BALANCERS[1]);
    ours.write_config(&ipv6::with_router(&config, &keys).unwrap()).unwrap();
    backends_answer(&topology);
    let said = |report: &Value, severity: &str, words: &str| {
        of(report, severity).into_iter().any(|(_, _, seen)| seen.contains(words))
    };
    let (_, report) = examine_configured(&topology, 0);
    let free = format!("nobody answers neighbour solicitations for {}", ipv6::VIP);
    assert!(said(&report, "ok", &free), "{report:#}");
    let peer = xvip_tests::topology::mac_of(topology.balancers[1].agent.netns()).unwrap();
    assert!(said(&report, "ok", &format!("peer {} is at {}", ipv6::BALANCERS[1], peer)), "{report:#}");

    topology.client.ip(&format!("address add {}/64 dev eth0 nodad", ipv6::VIP)).unwrap();
    let (good, report) = examine_configured(&topology, 0);
    assert!(!good);
    let mac = xvip_tests::topology::mac_of(&topology.client).unwrap();
    let taken = format!("{mac} answers neighbour solicitations for {}, and no router of the group is heard", ipv6::VIP);
    assert!(said(&report, "problem", &taken), "{report:#}");
    end(topology);
}

#[test]
fn another_router_with_our_vrid_is_heard() {
    let topology = unstarted(2, &[]);
    backends_answer(&topology);
    let config = fs::read_to_string(topology.balancers[0].agent.config()).unwrap();
    let theirs = topology.balancers[1].agent.netns().clone();
    let keepalived = Keepalived::start(
        &theirs,
        Settings { priority: 150, unicast: None, addresses: &["192.0.2.100/24"], password: None },
    )
    .unwrap();
    wait("keepalived to hold the VIP", || topology.owners() == [1]);

    // The same group: its holder is known by its adverts.
    let (good, report) = examine_configured(&topology, 0);
    assert!(good, "{report:#}");
    let (_, address, _) = BALANCERS[1];
    let held = of(&report, "ok").into_iter().find(|(check, ..)| check == "vip").unwrap().2;
    assert!(held.contains(&format!("held by the router {address}")), "{held}");

    // Another group with our VRID.
    let other = ("[\"192.0.2.100/24\"]", "[\"192.0.2.101/24\"]");
    let service = ("listen = \"192.0.2.100:8443\"", "listen = \"192.0.2.101:8443\"");
    topology.balancers[0].agent.write_config(&adapt(&config, &[other, service]).unwrap()).unwrap();
    let (good, report) = examine_configured(&topology, 0);
    assert!(!good);
    let found = problems(&report);
    assert!(found.contains(&pair("adverts", "virtual router k8s")), "{report:#}");
    // And the certificates are for the other VIP.
    assert_eq!(found.iter().filter(|(check, _)| check == "certificate").count(), 3, "{report:#}");

    // Our VIP under another VRID.
    let vrid = ("virtual_router_id = 51", "virtual_router_id = 52");
    topology.balancers[0].agent.write_config(&adapt(&config, &[vrid]).unwrap()).unwrap();
    let (_, report) = examine_configured(&topology, 0);
    let found = problems(&report);
    assert_eq!(found, [pair("adverts", "virtual router k8s"), pair("vip", "virtual router k8s")], "{report:#}");

    // keepalived's own host.
    let (good, report) = examine_configured(&topology, 1);
    assert!(!good);
    assert_eq!(problems(&report), [pair("vip", "virtual router k8s")], "{report:#}");
    assert!(of(&report, "warning").iter().any(|(check, ..)| check == "processes"), "{report:#}");
    keepalived.stop().unwrap();
    drop(theirs);
    end(topology);
}

#[test]
fn without_root_it_says_what_it_could_not_see() {
    let topology = unstarted(1, &[]);
    backends_answer(&topology);
    let config = topology.balancers[0].agent.config();
    let copy = std::env::temp_dir().join(format!("{}.toml", topology.run.name()));
    let text = fs::read_to_string(&config).unwrap();
    // The authority's file lies in a directory for root.
    let text: String =
        text.lines().filter(|line| !line.starts_with("ca_file")).map(|line| format!("{line}\n")).collect();
    fs::write(&copy, text).unwrap();
    let netns = topology.balancers[0].agent.netns();
    // Nobody has no capabilities after exec.
    let mut command = netns.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(find().unwrap());
    command.args(["doctor", "--json", "--config"]).arg(&copy);
    let (status, text) = output_within(command, LIMIT).unwrap();
    fs::remove_file(&copy).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{status} {err}: {text}"));
    let notes = of(&report, "note");
    for check in ["capabilities", "adverts", "vip"] {
        assert!(notes.iter().any(|(of, ..)| of == check), "{check}: {report:#}");
    }
    assert!(status.success(), "{report:#}");
    end(topology);
}

//! FRR's vrrpd as the other router, in both roles. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use common::{LIMIT, OFTEN, end, unstarted, wait};
use xvip_tests::agent::adapt;
use xvip_tests::frr::Frr;
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::{Topology, has_vip};

const VIP: &str = "192.0.2.100/24";

#[track_caller]
fn we_are(topology: &mut Topology, state: &str) {
    let agent = &mut topology.balancers[0].agent;
    agent.wait_for(state, LIMIT, |status| status.vrrp_state() == state).unwrap();
    wait("the VIP where it should be", || has_vip(topology.balancers[0].agent.netns()) == (state == "active"));
}

/// Looks for half a second, five adverts, in which nothing may move.
#[track_caller]
fn it_stays(topology: &Topology, ours: &str, peer: &Frr, theirs: &str) {
    wait("vrrpd to be there", || peer.state().unwrap() == theirs);
    for _ in 0..5 {
        assert_eq!(topology.balancers[0].agent.status().unwrap().vrrp_state(), ours);
        assert_eq!(peer.state().unwrap(), theirs);
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_pair_of_both_takes_turns() {
    let mut topology = unstarted(2, &[OFTEN]);
    let agent = &topology.balancers[0].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("unicast_"));
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    agent.write_config(&config).unwrap();
    let theirs = topology.balancers[1].agent.netns().clone();
    let vrrpd = |priority| Frr::start(&theirs, priority, VIP).unwrap_or_else(|err| panic!("{err:#}"));

    // It is there before us, and better; then it dies.
    let peer = vrrpd(150);
    wait("vrrpd to hold the VIP", || peer.state().unwrap() == "Master");
    topology.balancers[0].agent.start().unwrap();
    we_are(&mut topology, "backup");
    it_stays(&topology, "backup", &peer, "Master");
    peer.kill9().unwrap();
    we_are(&mut topology, "active");

    // It comes back and takes the VIP, as vrrpd always does when it is better; then it is stopped.
    let peer = vrrpd(150);
    we_are(&mut topology, "backup");
    it_stays(&topology, "backup", &peer, "Master");
    peer.stop().unwrap();
    we_are(&mut topology, "active");
    let (status, answer) = topology.curl(&["-f"], "/whoami").unwrap();
    assert!(status.success() && answer.contains("\"server\":\"master"), "{status} {answer}");

    // It is worse and stays back, until we hand over to it, and until we stop.
    let peer = vrrpd(90);
    it_stays(&topology, "active", &peer, "Backup");
    let (status, said) = topology.balancers[0].agent.step_down(&[]).unwrap();
    assert!(status.success(), "{said}");
    it_stays(&topology, "backup", &peer, "Master");
    assert!(topology.balancers[0].agent.stop(LIMIT).unwrap().unwrap().success());
    let agent = &topology.balancers[0].agent;
    agent.write_config(&adapt(&config, &[("\npreempt = false", "\npreempt = true")]).unwrap()).unwrap();
    topology.balancers[0].agent.start().unwrap();
    we_are(&mut topology, "active");
    it_stays(&topology, "active", &peer, "Backup");
    assert!(topology.balancers[0].agent.stop(LIMIT).unwrap().unwrap().success());
    wait("vrrpd to hold the VIP", || peer.state().unwrap() == "Master");
    topology.balancers[0].agent.start().unwrap();
    we_are(&mut topology, "active");

    let scrape = Scrape::of(topology.balancers[0].agent.netns()).unwrap();
    assert_eq!(scrape.count("xvip_vrrp_advert_errors_total", &[]), 0.0, "nothing of vrrpd's was refused");
    peer.stop().unwrap();
    drop(theirs);
    end(topology);
}

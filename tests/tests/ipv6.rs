//! A virtual router of IPv6 beside one of IPv4 with the same VRID: its way from node to node as a client sees it, and what its
//! address is on its host. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LIMIT, OFTEN, SANDBOX, end, wait};
use xvip_tests::agent::{self, adapt};
use xvip_tests::capture::Capture;
use xvip_tests::ipv6::{BALANCERS, CLIENT, ROUTER, VIP, number, router, shown, tshark, with_router};
use xvip_tests::netns::Netns;
use xvip_tests::ping::Ping;
use xvip_tests::run::Run;
use xvip_tests::scrape::{Scrape, get};
use xvip_tests::status::Status;
use xvip_tests::topology::{self, Plan, Topology, neighbour};

/// Lines of the configuration that make and unmake the virtual router.
const KEYS: &str = "virtual_addresses = [\"2001:db8::100/64\"]";

/// Two nodes with a virtual router for each family, not started. Metrics are served over both.
fn both_families() -> Topology {
    let run = Run::start().unwrap();
    let xvip = agent::find().unwrap();
    let on_all = ("listen = \"0.0.0.0:9910\"", "listen = \"[::]:9910\"");
    let plan = Plan { xvip: &xvip, sandbox: Path::new(SANDBOX), balancers: 2, changes: &[OFTEN, on_all] };
    let topology = Topology::build(&run, &plan).unwrap_or_else(|err| panic!("{err:#}"));
    number(&topology).unwrap();
    for balancer in &topology.balancers {
        let config = fs::read_to_string(balancer.agent.config()).unwrap();
        balancer.agent.write_config(&with_router(&config, KEYS).unwrap()).unwrap();
    }
    topology
}

fn is(status: &Status, state: &str) -> bool {
    router(status, ROUTER).is_some_and(|router| router.state == state)
}

/// Starts the node and waits until it is active in both families.
#[track_caller]
fn start(topology: &mut Topology, node: usize) {
    let agent = &mut topology.balancers[node].agent;
    agent.start().unwrap();
    agent.wait_for("to be active", LIMIT, |status| status.is_active() && is(status, "active")).unwrap();
    wait("both addresses", || has_both(agent.netns()));
}

fn has_both(netns: &Netns) -> bool {
    shown(netns, &VIP.to_string()).is_some() && shown(netns, "192.0.2.100").is_some()
}

fn mac_of(topology: &Topology, node: usize) -> String {
    topology::mac_of(topology.balancers[node].agent.netns()).unwrap()
}

fn save(topology: &Topology, capture: &Capture) -> PathBuf {
    let file = topology.run.dir().join("client.pcap");
    capture.save(&file).unwrap();
    file
}

#[test]
fn a_client_follows_the_vip_by_unsolicited_advertisements() {
    let mut topology = both_families();
    let capture = Capture::start(&topology.client, "eth0").unwrap();
    start(&mut topology, 0);
    topology.balancers[1].agent.start().unwrap();
    topology.balancers[1].agent.wait_for("to be backup", LIMIT, |status| is(status, "backup")).unwrap();
    let ping = Ping::start(&topology.client, VIP).unwrap();
    wait("echoes", || ping.count() >= 20);
    let known = |node: usize| neighbour(&topology.client, VIP).is_some_and(|(mac, _)| mac == mac_of(&topology, node));
    assert!(known(0), "{:?}", neighbour(&topology.client, VIP));

    // Killed, the holder keeps the address and would go on answering: only being told otherwise moves the client.
    topology.balancers[0].agent.kill9().unwrap();
    wait("the other node to have both addresses", || has_both(topology.balancers[1].agent.netns()));
    let known = |node: usize| neighbour(&topology.client, VIP).is_some_and(|(mac, _)| mac == mac_of(&topology, node));
    wait("the client to know the new holder", || known(1));
    assert!(has_both(topology.balancers[0].agent.netns()), "nobody was left to remove them");
    let before = ping.count();
    wait("echoes from the new holder", || ping.count() >= before + 20);

    // A stop says so at once; the agent that died comes back, knows its addresses again, and takes over.
    topology.balancers[0].agent.start().unwrap();
    topology.balancers[0].agent.wait_for("to be backup", LIMIT, |status| is(status, "backup")).unwrap();
    wait("the old holder to let go", || shown(topology.balancers[0].agent.netns(), &VIP.to_string()).is_none());
    let agent = &mut topology.balancers[1].agent;
    assert!(agent.stop(LIMIT).unwrap().unwrap().success(), "{}", agent.log_tail(10));
    assert_eq!(shown(agent.netns(), &VIP.to_string()), None);
    assert_eq!(shown(agent.netns(), "192.0.2.100"), None);
    topology.balancers[0].agent.wait_for("to be active", LIMIT, |status| is(status, "active")).unwrap();
    let known = |node: usize| neighbour(&topology.client, VIP).is_some_and(|(mac, _)| mac == mac_of(&topology, node));
    wait("the client to know the first holder again", || known(0));
    let before = ping.count();
    wait("echoes from the first holder", || ping.count() >= before + 20);
    println!("longest silence of the VIP: {:?}", ping.longest_silence());
    assert!(ping.longest_silence() < Duration::from_secs(5));

    let file = save(&topology, &capture);
    for node in [0, 1] {
        let filter = format!(
            "icmpv6.nd.na.target_address == {VIP} && ipv6.dst == ff02::1 && eth.src == {}",
            mac_of(&topology, node)
        );
        let seen = tshark(&file, &filter, &["icmpv6.opt.linkaddr", "icmpv6.nd.na.flag.o"]).unwrap();
        assert!(
            seen.len() >= 3 && seen.iter().all(|row| *row == [mac_of(&topology, node), "1".to_owned()]),
            "{seen:?}"
        );
    }
    drop((ping, capture));
    end(topology);
}

#[test]
fn the_vip_is_there_at_once_and_nobodys_source() {
    let mut topology = both_families();
    let capture = Capture::start(&topology.client, "eth0").unwrap();
    start(&mut topology, 0);
    let holder = topology.balancers[0].agent.netns().clone();
    let line = shown(&holder, &VIP.to_string()).unwrap();
    for word in ["nodad", "deprecated", "noprefixroute", "valid_lft forever", "preferred_lft 0sec"] {
        assert!(line.contains(word), "no {word} in {line}");
    }
    assert!(!line.contains("tentative"), "{line}");
    // Whom the host speaks to by itself, it speaks to as itself.
    let source = |destination: &str| holder.ip(&format!("-6 route get {destination}")).unwrap();
    assert!(source(CLIENT).contains(&format!("src {} ", BALANCERS[0])), "{}", source(CLIENT));
    let network = || holder.ip("-6 route show 2001:db8::/64").unwrap();
    assert_eq!(network().lines().count(), 1, "no second route for the network: {}", network());

    // Both families share a VRID, and each counts for itself.
    let scrape = Scrape::of(&holder).unwrap();
    for instance in ["k8s", ROUTER] {
        assert_eq!(scrape.count("xvip_vrrp_state", &[("router", instance), ("state", "active")]), 1.0);
        assert_eq!(scrape.count("xvip_vrrp_advert_errors_total", &[("router", instance)]), 0.0);
    }
    let vip = VIP.to_string();
    assert!(scrape.count("xvip_unsolicited_na_total", &[("router", ROUTER), ("address", &vip)]) >= 1.0);
    assert_eq!(scrape.value("xvip_gratuitous_arp_total", &[("address", &vip)]), None);
    assert_eq!(get(&holder, "[::1]:9910".parse().unwrap(), "/healthz").unwrap(), "ok\n");
    let status = topology.balancers[0].agent.status().unwrap();
    assert_eq!(router(&status, ROUTER).unwrap().virtual_addresses, ["2001:db8::100/64"]);

    // A reload without the virtual router takes the address away and leaves the other family alone.
    let agent = &mut topology.balancers[0].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    let begin = config.find("\n[[vrrp]]\nname = \"k8s6\"").unwrap();
    let length = config[begin..].find("\n[[service]]").unwrap();
    agent.write_config(&format!("{}{}", &config[..begin], &config[begin + length..])).unwrap();
    agent.reload().unwrap();
    wait("the address to go", || shown(&holder, &vip).is_none());
    agent.wait_for("the reload", LIMIT, |status| status.config.reloads == 1 && status.is_active()).unwrap();
    assert!(shown(&holder, "192.0.2.100").is_some());
    // And one with it, under another address, brings that.
    agent.write_config(&adapt(&config, &[("2001:db8::100/64", "2001:db8::101/64")]).unwrap()).unwrap();
    agent.reload().unwrap();
    wait("the other address", || shown(&holder, "2001:db8::101").is_some());
    assert!(agent.stop(LIMIT).unwrap().unwrap().success(), "{}", agent.log_tail(10));
    assert_eq!((shown(&holder, "2001:db8::101"), shown(&holder, "192.0.2.100")), (None, None));
    assert_eq!(network().lines().count(), 1, "the host's own route stays: {}", network());

    let file = save(&topology, &capture);
    // Duplicate address detection asks from the unspecified address (RFC 4862 section 5.4.2).
    let asked =
        tshark(&file, &format!("icmpv6.nd.ns.target_address == {VIP} && ipv6.src == ::"), &["eth.src"]).unwrap();
    assert_eq!(asked, Vec::<Vec<String>>::new(), "duplicate address detection of the VIP");
    drop((capture, holder));
    end(topology);
}

#[test]
fn a_cut_link_moves_it_and_a_mended_one_does_not_move_it_back() {
    let mut topology = both_families();
    start(&mut topology, 0);
    topology.balancers[1].agent.start().unwrap();
    topology.balancers[1].agent.wait_for("to be backup", LIMIT, |status| is(status, "backup")).unwrap();
    topology.balancers[0].port.cut().unwrap();
    topology.balancers[0].agent.wait_for("the fault", LIMIT, |status| is(status, "fault")).unwrap();
    wait("the address to be removed", || shown(topology.balancers[0].agent.netns(), &VIP.to_string()).is_none());
    topology.balancers[1].agent.wait_for("to be active", LIMIT, |status| is(status, "active")).unwrap();
    let ping = Ping::start(&topology.client, VIP).unwrap();
    wait("echoes from the other node", || ping.count() >= 10);
    topology.balancers[0].port.mend().unwrap();
    // Whom it hears then, it names.
    let hears = |status: &Status| router(status, ROUTER).and_then(|router| router.active_router.clone());
    let link_local = |status: &Status| hears(status).is_some_and(|holder| holder.starts_with("fe80::"));
    let agent = &mut topology.balancers[0].agent;
    agent.wait_for("to follow the other", LIMIT, |status| is(status, "backup") && link_local(status)).unwrap();
    assert!(is(&topology.balancers[1].agent.status().unwrap(), "active"));
    assert!(shown(topology.balancers[0].agent.netns(), &VIP.to_string()).is_none());
    drop(ping);
    end(topology);
}

//! One host at a time says that it has the VIP, whatever happens to the agents: paused, killed, started again, replaced. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::Duration;

use common::{
    LIMIT, OFTEN, both_served, breaks, end, served_more, serving, serving_both, settle, unstarted, wait, watches_open,
};
use lb_proto::garp::ROUNDS;
use lb_proto::wire::arp::{Arp, Mac, Operation};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use xvip_tests::capture::{Capture, Sender};
use xvip_tests::ipv6;
use xvip_tests::owners::Owners;
use xvip_tests::scrape::{Scrape, get};
use xvip_tests::status::Status;
use xvip_tests::topology::{BALANCERS, CLIENT, Topology, VIP_ADDRESS, has_vip, mac};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));

fn client() -> IpAddr {
    CLIENT.parse().unwrap()
}

fn ask_both(topology: &Topology) -> [Owners; 2] {
    let six = ipv6::CLIENT.parse().unwrap();
    [(client(), VIP), (six, ipv6::VIP.into())].map(|(own, vip)| Owners::ask(&topology.client, own, vip).unwrap())
}

/// Waits until somebody has answered for both VIPs.
#[track_caller]
fn answered(owners: &[Owners; 2]) {
    wait("answers of the holder", || owners.iter().all(|owners| owners.said().iter().any(|said| said.asked)));
}

/// When the burst of announcements by this Ethernet address is over: none has come for longer than two of a burst are apart.
#[track_caller]
fn burst_is_over(capture: &Capture, of: [u8; 6]) {
    let apart = ROUNDS.windows(2).map(|two| two[1] - two[0]).max().unwrap() + Duration::from_millis(500);
    let from = Owners::now();
    wait("announcements to end", || {
        let last =
            capture.heard().iter().rev().find(|heard| announces(&heard.frame, of)).map_or(from, |heard| heard.at);
        Owners::now().saturating_sub(last.max(from)) > apart
    });
}

/// Whether a frame is a gratuitous ARP of this Ethernet address.
fn announces(frame: &[u8], of: [u8; 6]) -> bool {
    Arp::parse(frame).is_ok_and(|arp| arp.is_gratuitous() && arp.sender_mac == Mac(of))
}

/// That the VIP of either version went from one host to another once, and nobody answered for it out of turn.
#[track_caller]
fn moved_once(owners: &[Owners; 2], from: [u8; 6], to: [u8; 6]) {
    for owners in owners {
        let said = owners.said();
        let last = said.iter().rfind(|said| said.mac == from).unwrap().at;
        let first = said.iter().find(|said| said.mac == to).unwrap().at;
        println!("silent for {:?}", first.saturating_sub(last));
        assert_eq!(owners.turns(), [from, to], "{said:?}");
        assert!(said.iter().filter(|said| said.asked && said.mac == to).count() > 10, "the new one answers");
    }
}

/// Waits until this balancer holds the VIPs of both versions and has answered for them for a while.
#[track_caller]
fn answers(topology: &mut Topology, balancer: usize, owners: &[Owners; 2]) {
    let both = |status: &xvip_tests::status::Status| {
        status.vrrp.len() == 2 && status.vrrp.iter().all(|router| router.state == "active")
    };
    topology.balancers[balancer].agent.wait_for("to hold both VIPs", LIMIT, both).unwrap();
    let mac = mac(topology.balancers[balancer].agent.netns()).unwrap();
    let from = Owners::now();
    wait("answers of the new holder", || {
        let many = |owners: &Owners| owners.said().iter().filter(|said| said.at > from && said.mac == mac).count();
        owners.iter().all(|owners| many(owners) > 20)
    });
}

#[test]
fn one_at_a_time_says_that_it_has_the_vip() {
    let (mut topology, servers) = serving_both(2, &[OFTEN]);
    // Both VIPs on one node, so that one fault moves both.
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    let macs = [0, 1].map(|at| mac(topology.balancers[at].agent.netns()).unwrap());

    // Both on `holder`.
    topology.balancers[other].agent.stop(LIMIT).unwrap();
    let owners = ask_both(&topology);
    answers(&mut topology, holder, &owners);
    topology.balancers[other].agent.start().unwrap();
    both_served(&mut topology);
    drop(owners);

    // Paused, and awake again seconds after another has taken over.
    let load = topology.load(Duration::from_millis(20), 0).unwrap();
    served_more(&load, 20);
    let owners = ask_both(&topology);
    answered(&owners);
    topology.balancers[holder].agent.freeze().unwrap();
    answers(&mut topology, other, &owners);
    assert!(has_vip(topology.balancers[holder].agent.netns()), "nobody was there to remove it");
    sleep(Duration::from_secs(2));
    topology.balancers[holder].agent.thaw().unwrap();
    topology.balancers[holder].agent.wait_for("to give way", LIMIT, |status| status.vrrp_state() == "backup").unwrap();
    both_served(&mut topology);
    sleep(Duration::from_millis(500));
    moved_once(&owners, macs[holder], macs[other]);
    drop(owners);
    let silenced = Scrape::of(topology.balancers[holder].agent.netns()).unwrap();
    assert!(silenced.count("xvip_datapath_packets_total", &[("reason", "lease_over")]) > 0.0);
    for claimed in [VIP_ADDRESS, &ipv6::VIP.to_string()] {
        let claims = silenced.value("xvip_vip_claims_total", &[("address", claimed)]);
        assert_eq!(claims, Some(0.0), "a backup sees nothing wrong in the holder's announcements");
    }

    // Killed, and started again later.
    let owners = ask_both(&topology);
    answered(&owners);
    topology.balancers[other].agent.kill9().unwrap();
    answers(&mut topology, holder, &owners);
    assert!(has_vip(topology.balancers[other].agent.netns()), "nobody was there to remove it");
    // What its own stack says as the VIP is not heard either: this asks for a neighbour with the VIP for its source.
    let stale = topology.balancers[other].agent.netns().clone();
    let capture = Capture::start(&topology.client, "eth0").unwrap();
    let (_, own, _) = BALANCERS[other];
    for (source, target) in [(VIP_ADDRESS, "192.0.2.77:9"), (own, "192.0.2.78:9")] {
        stale.enter(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"who is that?", target).unwrap()).unwrap();
    }
    let asks_as = |sender: &str| {
        let sender: Ipv4Addr = sender.parse().unwrap();
        let asks =
            |frame: &Vec<u8>| Arp::parse(frame).is_ok_and(|arp| arp.source == Mac(macs[other]) && arp.sender == sender);
        capture.frames(false).iter().any(asks)
    };
    wait("a question from its own address", || asks_as(own));
    sleep(Duration::from_millis(1500));
    assert!(!asks_as(VIP_ADDRESS), "it asks as the VIP");
    drop(capture);
    // But who still sends to it is served.
    let served = load.now();
    served_more(&load, 20);
    topology.balancers[other].agent.start().unwrap();
    both_served(&mut topology);
    sleep(Duration::from_millis(500));
    moved_once(&owners, macs[other], macs[holder]);
    drop(owners);
    let after = load.summary(served, settle(&load));
    assert_eq!(after.failed(), 0, "{after:?}");
    drop((load, servers, stale));
    end(topology);
}

#[test]
fn claims_of_others_are_told_and_answered() {
    let mut topology = serving(2, &[OFTEN]);
    let holder = topology.owner().unwrap();
    let [holds, waits] = [holder, 1 - holder].map(|at| topology.balancers[at].agent.netns().clone());
    let (own, stranger) = (mac(&holds).unwrap(), mac(&topology.client).unwrap());
    let capture = Capture::start(&topology.client, "eth0").unwrap();
    let announced = || capture.frames(false).iter().filter(|frame| announces(frame, own)).count();
    // The burst of the takeover.
    burst_is_over(&capture, own);
    let before = announced();
    let sender = Sender::open(&topology.client, "eth0").unwrap();
    let IpAddr::V4(vip) = VIP else { panic!("the VIP is of IPv4") };
    let claim = Arp::gratuitous(Operation::Reply, Mac(stranger), vip).emit();
    sender.send(&claim).unwrap();
    wait("the holder to announce the VIP again", || announced() >= before + 2);
    let claims = |netns| Scrape::of(netns).unwrap().value("xvip_vip_claims_total", &[("address", VIP_ADDRESS)]);
    assert_eq!((claims(&holds), claims(&waits)), (Some(1.0), Some(0.0)), "who does not hold it has no objection");
    let shown = topology.balancers[holder].agent.wait_for("the claim", LIMIT, |status| {
        status.vrrp.iter().flat_map(|router| &router.claims).any(|claim| claim.address == VIP_ADDRESS)
    });
    let claim_shown = shown.unwrap().vrrp[0].claims[0].clone();
    assert_eq!((claim_shown.mac, claim_shown.times), (Mac(stranger).to_string(), 1));
    // A flood is answered a little.
    burst_is_over(&capture, own);
    let before = announced();
    for _ in 0..1000 {
        sender.send(&claim).unwrap();
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_secs(2));
    let answers = announced() - before;
    assert!((2..60).contains(&answers), "{answers} announcements");
    let packets = Scrape::of(&holds).unwrap().count("xvip_datapath_packets_total", &[("reason", "vip_claimed")]);
    assert!(packets >= 1001.0, "{packets}");
    assert!(claims(&holds).unwrap() < 60.0);
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    drop((capture, sender, holds, waits));
    end(topology);
}

#[test]
fn an_address_that_a_host_has_by_mistake_is_left_to_it() {
    let mut topology = unstarted(2, &[OFTEN]);
    topology.client.ip(&format!("address add {VIP_ADDRESS}/32 dev eth0")).unwrap();
    let culprit = format!("{} has {VIP_ADDRESS}", Mac(mac(&topology.client).unwrap()));
    for balancer in &mut topology.balancers {
        balancer.agent.start().unwrap();
    }
    for balancer in &mut topology.balancers {
        let told = |status: &Status| status.vrrp.iter().any(|router| router.reason.starts_with(&culprit));
        let status = balancer.agent.wait_for("word of who has the VIP", LIMIT, told).unwrap();
        assert_eq!(status.vrrp_state(), "backup");
    }
    // Longer than anybody waits for an advert.
    sleep(Duration::from_secs(3));
    assert_eq!(topology.owners(), Vec::<usize>::new());
    for balancer in &topology.balancers {
        let scrape = Scrape::of(balancer.agent.netns()).unwrap();
        assert_eq!(scrape.count("xvip_vrrp_transitions_total", &[("to", "active")]), 0.0);
    }
    topology.client.ip(&format!("address del {VIP_ADDRESS}/32 dev eth0")).unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    end(topology);
}

fn transitions(topology: &Topology, balancer: usize) -> f64 {
    let scrape = Scrape::of(topology.balancers[balancer].agent.netns()).unwrap();
    ["active", "backup", "fault"].iter().map(|to| scrape.count("xvip_vrrp_transitions_total", &[("to", to)])).sum()
}

#[test]
fn an_agent_that_is_restarted_moves_nothing_and_loses_nothing() {
    let mut topology = serving(2, &[OFTEN]);
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    let streams = topology.load(Duration::from_secs(1000), 20).unwrap();
    let load = topology.load(Duration::from_millis(10), 0).unwrap();
    watches_open(&streams);
    served_more(&load, 50);
    let (owners, before) = (Owners::ask(&topology.client, client(), VIP).unwrap(), transitions(&topology, other));
    let from = load.now();
    for _ in 0..5 {
        let agent = &mut topology.balancers[holder].agent;
        assert!(agent.hand_over(LIMIT).unwrap().success(), "{}", agent.log_tail(10));
        assert!(has_vip(agent.netns()));
        agent.start().unwrap();
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
        served_more(&load, 20);
    }
    let sum = load.summary(from, settle(&load));
    println!("{} attempts, failed: {}, longest pause {:?}", sum.attempts, sum.failures_in_words(), sum.outage);
    assert_eq!((sum.failed(), breaks(&streams)), (0, vec![]), "{sum:?}");
    assert_eq!(transitions(&topology, other), before, "the other one has noticed something");
    assert_eq!(owners.turns(), [mac(topology.balancers[holder].agent.netns()).unwrap()]);
    let status = topology.balancers[holder].agent.status().unwrap();
    assert!(status.vrrp[0].reason.contains("earlier process"), "{}", status.vrrp[0].reason);

    // Files of health checks that take long to read keep readiness waiting, and no virtual router: not one that is
    // continued, and not one that begins.
    let agent = &mut topology.balancers[holder].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    let (ca, slow) = (topology.authority.ca_file(), topology.run.dir().join("slow.pem"));
    mkfifo(&slow, Mode::S_IRWXU).unwrap();
    let slowly = config.replacen(ca.to_str().unwrap(), slow.to_str().unwrap(), 1);
    let manager = UnixDatagram::bind(topology.run.dir().join("notify")).unwrap();
    manager.set_nonblocking(true).unwrap();
    agent.managed_by(&topology.run.dir().join("notify"));
    for is_continued in [true, false] {
        let agent = &mut topology.balancers[holder].agent;
        if is_continued {
            assert!(agent.hand_over(LIMIT).unwrap().success());
        } else {
            topology.balancers[other].agent.stop(LIMIT).unwrap();
            topology.balancers[holder].agent.stop(LIMIT).unwrap();
        }
        while manager.recv(&mut [0; 64]).is_ok() {}
        let agent = &mut topology.balancers[holder].agent;
        agent.write_config(&slowly).unwrap();
        agent.start().unwrap();
        agent.wait_for("to hold the VIP", LIMIT, |status| status.is_active() && status.starting).unwrap();
        wait("the VIP", || topology.owners() == [holder]);
        if is_continued {
            sleep(Duration::from_secs(1));
            assert_eq!(transitions(&topology, other), before, "the other one has noticed something");
        }
        served_more(&load, 20);
        let netns = topology.balancers[holder].agent.netns().clone();
        let ready = || get(&netns, ([127, 0, 0, 1], 9910).into(), "/readyz").is_ok();
        let told = |what: &str| {
            let mut said = [0; 64];
            manager.recv(&mut said).is_ok_and(|length| String::from_utf8_lossy(&said[..length]).contains(what))
        };
        assert!(!ready() && !told("READY=1"), "ready without health checks");
        wait("the service manager to be asked for more time", || told("EXTEND_TIMEOUT_USEC="));
        fs::write(&slow, fs::read(&ca).unwrap()).unwrap();
        wait("readiness", ready);
        wait("the service manager to be told", || told("READY=1"));
    }
    let agent = &mut topology.balancers[holder].agent;
    agent.write_config(&config).unwrap();
    agent.reload().unwrap();
    topology.balancers[other].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));

    // One that continues and cannot serve then gives the VIP up.
    let agent = &mut topology.balancers[holder].agent;
    let config = fs::read_to_string(agent.config()).unwrap();
    agent.hand_over(LIMIT).unwrap();
    agent.write_config(&config.replacen("listen = \"0.0.0.0:9910\"", "listen = \"192.0.2.250:9910\"", 1)).unwrap();
    agent.start().unwrap();
    wait("the agent to end", || !topology.balancers[holder].agent.is_running());
    wait("the other to take over", || topology.owners() == [other]);
    let log = topology.balancers[holder].agent.log_tail(20);
    assert!(log.contains("initialize -> active"), "{log}");
    let agent = &mut topology.balancers[holder].agent;
    agent.write_config(&config).unwrap();
    agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    drop((owners, load, streams));
    end(topology);
}

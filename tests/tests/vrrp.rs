//! The virtual router under hands and forgers: planned hand-overs that nobody notices, forged and recorded adverts, processes
//! that get no time. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "a real network is watched by the real clock")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{LIMIT, OFTEN, end, served_more, serving, settle, unstarted, wait};
use xvip_tests::agent::adapt;
use xvip_tests::capture::{Capture, Sender};
use xvip_tests::scrape::Scrape;
use xvip_tests::topology::{BALANCERS, Topology, has_vip};

const VRRP: u8 = 112;
const GROUP: [u8; 4] = [224, 0, 0, 18];
const GROUP_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 18];
/// 100 ms three times, and the skew of priority 110.
const DOWN: Duration = Duration::from_millis(358);
/// 100 ms two and three quarter times.
const DOUBTED: Duration = Duration::from_millis(275);
/// What a busy machine adds; far below what a believed interval of 40.95 s, or four of our own, would make of it.
const SLACK: Duration = Duration::from_millis(700);

#[track_caller]
fn is_active(topology: &mut Topology, index: usize) {
    topology.balancers[index].agent.wait_for("to be active", LIMIT, |status| status.is_active()).unwrap();
    wait("the VIP on one node", || topology.owners() == [index]);
}

fn transitions(topology: &Topology) -> f64 {
    let of = |index: usize| Scrape::of(topology.balancers[index].agent.netns()).unwrap();
    (0..2).map(|index| of(index).count("xvip_vrrp_transitions_total", &[])).sum()
}

fn refused(topology: &Topology, index: usize, reason: &str) -> f64 {
    let scrape = Scrape::of(topology.balancers[index].agent.netns()).unwrap();
    scrape.count("xvip_vrrp_advert_errors_total", &[("reason", reason)])
}

#[test]
fn planned_hand_overs_lose_nothing() {
    let mut topology = serving(2, &[OFTEN]);
    let load = topology.load(Duration::from_millis(10), 0).unwrap();
    served_more(&load, 50);
    let mut holder = topology.owner().unwrap();
    let report = |what: &str, from: Duration| {
        served_more(&load, 50);
        let seen = load.summary(from, settle(&load));
        println!("{what}: outage {:?}, failed {}, the client's own pause {:?}", seen.outage, seen.failed(), seen.pause);
        // A connection that was being made may meet a node that does not know it, and is told so.
        assert!(seen.failed() <= 3, "{what}: {}", seen.failures_in_words());
        assert!(seen.outage < SLACK, "{what}: {:?}", seen.outage);
    };

    // By command, there and back.
    for _ in 0..2 {
        let other = 1 - holder;
        let from = load.now();
        let (status, said) = topology.balancers[holder].agent.step_down(&["k8s", "--hold", "600"]).unwrap();
        assert!(status.success(), "{said}");
        assert_eq!(said, format!("k8s: handed over to {}\n", BALANCERS[other].1));
        is_active(&mut topology, other);
        report("step-down", from);
        let (status, said) = topology.balancers[holder].agent.step_down(&[]).unwrap();
        assert!(status.success() && said.contains("does not hold it"), "{said}");
        holder = other;
    }
    let (status, _) = topology.balancers[holder].agent.step_down(&["nobody"]).unwrap();
    assert_eq!(status.code(), Some(1));

    // By SIGTERM.
    let other = 1 - holder;
    let from = load.now();
    assert!(topology.balancers[holder].agent.stop(LIMIT).unwrap().unwrap().success());
    is_active(&mut topology, other);
    report("SIGTERM", from);

    // With nobody there to take them, the addresses stay.
    let (status, said) = topology.balancers[other].agent.step_down(&[]).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(1), "k8s: nobody took over, so this node keeps it\n"));
    assert!(has_vip(topology.balancers[other].agent.netns()));

    // By preemption: the better node comes back, and takes them but for the hold of a step-down.
    let better = &mut topology.balancers[0].agent;
    let config = fs::read_to_string(better.config()).unwrap();
    better.write_config(&adapt(&config, &[("\npreempt = false", "\npreempt = true")]).unwrap()).unwrap();
    if holder == 0 {
        let from = load.now();
        better.start().unwrap();
        is_active(&mut topology, 0);
        report("preemption", from);
    } else {
        topology.balancers[0].agent.reload().unwrap();
        topology.balancers[1].agent.start().unwrap();
    }
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    is_active(&mut topology, 0);
    let (status, said) = topology.balancers[0].agent.step_down(&[]).unwrap();
    assert!(status.success(), "{said}");
    is_active(&mut topology, 1);
    sleep(Duration::from_secs(1));
    assert_eq!(topology.owners(), [1], "it would preempt, and has promised not to");

    // A backup that gets no time takes nothing from a living holder.
    let before = transitions(&topology);
    for millis in [500, 1500] {
        topology.balancers[0].agent.freeze().unwrap();
        sleep(Duration::from_millis(millis));
        topology.balancers[0].agent.thaw().unwrap();
        sleep(Duration::from_millis(300));
    }
    assert_eq!((topology.owners(), transitions(&topology)), (vec![1], before));
    drop(load);
    end(topology);
}

/// Of virtual router 51: priority 255, and the longest interval that can be said.
fn forged() -> Vec<u8> {
    let mut message = vec![0x31, 51, 255, 1, 0x0f, 0xff, 0, 0, 192, 0, 2, 100];
    let checksum = checksum(&message);
    message[6..8].copy_from_slice(&checksum);
    let total = 20 + message.len() as u8;
    let mut header = vec![0x45, 0xc0, 0, total, 0, 0, 0x40, 0, 255, VRRP, 0, 0, 192, 0, 2, 77];
    header.extend(GROUP);
    let checksum = self::checksum(&header);
    header[10..12].copy_from_slice(&checksum);
    [&GROUP_MAC[..], &[2, 0, 0, 0, 0, 77], &[8, 0], &header, &message].concat()
}

/// How many adverts are forged and played back; more with the variable `XVIP_FORGERIES`.
fn forgeries() -> u32 {
    std::env::var("XVIP_FORGERIES").map_or(30_000, |text| text.parse().unwrap())
}

/// RFC 1071, of what has no checksum yet.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!folded as u16).to_be_bytes()
}

fn by_multicast(topology: &Topology, more: &str) {
    for balancer in &topology.balancers {
        let config = fs::read_to_string(balancer.agent.config()).unwrap();
        let lines = config.lines().filter(|line| !line.starts_with("unicast_"));
        let config: String = lines.map(|line| format!("{line}\n")).collect();
        let interval = "\nadvert_interval = \"100ms\"";
        balancer.agent.write_config(&adapt(&config, &[(interval, &format!("{interval}{more}"))]).unwrap()).unwrap();
    }
}

#[track_caller]
fn start(topology: &mut Topology) {
    for balancer in &mut topology.balancers {
        balancer.agent.start().unwrap();
    }
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
}

#[test]
fn a_forged_advert_silences_the_vip_for_less_than_three_intervals() {
    let mut topology = unstarted(2, &[OFTEN]);
    by_multicast(&topology, "");
    start(&mut topology);
    let sender = Sender::open(&topology.client, "eth0").unwrap();
    for times in [1, 1000] {
        for _ in 0..times {
            sender.send(&forged()).unwrap();
        }
        let sent = Instant::now();
        wait("the forgery to be believed", || topology.owners().is_empty());
        wait("the VIP to be back", || topology.owners().len() == 1);
        let blackout = sent.elapsed();
        println!("{times} forged adverts: the VIP is back after {blackout:?}");
        assert!(blackout < DOUBTED + SLACK, "{blackout:?}");
        topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    }
    end(topology);
}

#[test]
fn authenticated_routers_believe_nobody_else_and_nothing_twice() {
    let mut topology = unstarted(2, &[OFTEN]);
    let key = topology.run.dir().join("vrrp.key");
    fs::write(&key, "3 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n").unwrap();
    by_multicast(&topology, &format!("\nauth_key_file = \"{}\"", key.display()));

    // A secret that everybody may read is none.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refusing = &mut topology.balancers[0].agent;
    refusing.start().unwrap();
    wait("the agent to refuse", || !refusing.is_running());
    let log = refusing.log_tail(5);
    assert!(log.contains("vrrp.key") && log.contains("chmod 600") && !log.contains("0011"), "{log}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let record = Capture::start(&topology.client, "eth0").unwrap();
    start(&mut topology);
    let holder = topology.owner().unwrap();
    let other = 1 - holder;
    let adverts = || -> Vec<Vec<u8>> {
        let is_advert = |frame: &Vec<u8>| frame.get(23) == Some(&VRRP) && frame[30..34] == GROUP;
        record.frames(false).into_iter().filter(is_advert).collect()
    };
    wait("adverts to record", || adverts().len() >= 20);
    let recorded = adverts();
    assert_eq!(recorded[0].len(), 14 + 20 + 12 + 36, "with a trailer");

    // Forged, played back, and bent, as fast as they go.
    let before = transitions(&topology);
    let sender = Sender::open(&topology.client, "eth0").unwrap();
    let (mut count, wanted) = (0, forgeries());
    while count < wanted {
        for (turn, advert) in recorded.iter().enumerate() {
            let mut bent = advert.clone();
            *bent.last_mut().unwrap() ^= 1;
            for frame in [advert, &bent, &forged()] {
                sender.send(frame).unwrap();
                count += 1;
            }
            if turn % 4 == 3 {
                sleep(Duration::from_millis(1));
            }
        }
    }
    sleep(DOWN * 2);
    assert_eq!((topology.owners(), transitions(&topology)), (vec![holder], before), "nothing moved");
    assert!(refused(&topology, other, "auth_missing") > 0.0);
    assert!(refused(&topology, other, "auth_failed") > 0.0);
    assert!(refused(&topology, other, "auth_replayed") > 0.0);
    println!("{count} forged and recorded adverts: no transition");

    // The holder dies; its recorded voice keeps nobody from taking over, not even one that has just started.
    topology.balancers[other].agent.kill9().unwrap();
    topology.balancers[other].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    topology.balancers[holder].agent.kill9().unwrap();
    let killed = Instant::now();
    let netns = topology.balancers[other].agent.netns().clone();
    wait("the other node to take over", || {
        recorded.iter().for_each(|advert| sender.send(advert).unwrap());
        has_vip(&netns)
    });
    println!("taken over from the dead under a recording of its voice after {:?}", killed.elapsed());

    // Back, it goes on with its numbers and is believed.
    topology.balancers[holder].agent.start().unwrap();
    topology.wait_serving(LIMIT).unwrap_or_else(|err| panic!("{err:#}"));
    assert_eq!(topology.owner().unwrap(), other);
    topology.balancers[other].agent.step_down(&[]).unwrap();
    is_active(&mut topology, holder);
    drop((record, netns));
    end(topology);
}

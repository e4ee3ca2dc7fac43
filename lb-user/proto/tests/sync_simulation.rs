//! What nodes that share flows promise each other, on a bad network, for many seeds.
//!
//! `XVIP_SIM_RUNS` sets how many seeds each test tries, `XVIP_SIM_SEED` names the one to replay. A failure prints its seed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod rng;
mod sync_world;

use std::net::IpAddr;
use std::time::Duration;

use lb_proto::sync::{FLOWS_PER_SECOND, LOOK_EVERY, SILENT_AFTER};
use sync_world::{World, record, vip};

const RUNS: u64 = 60;
const SECOND: Duration = Duration::from_secs(1);

fn each_seed(test: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("XVIP_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("XVIP_SIM_RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(cause) = outcome {
            eprintln!("replay with XVIP_SIM_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}

/// To look at everything at every event would take most of the time.
fn now_and_then(mut done: impl FnMut(&World) -> bool) -> impl FnMut(&World) -> bool {
    let mut next = None;
    move |world| {
        let due = next.is_none_or(|at| world.now >= at);
        if due {
            next = Some(world.now + SECOND / 5);
        }
        due && done(world)
    }
}

/// Hosts with a network of its own faults between them; the first holds both VIPs.
fn world(seed: u64, hosts: usize) -> World {
    let mut world = World::new(seed, hosts);
    world.loss = world.rng.below(300);
    world.repeat = world.rng.below(200);
    world.longest_delay = world.rng.time(Duration::from_millis(30));
    for n in 0..2 {
        world.hold(0, vip(n), true);
    }
    (0..hosts).for_each(|host| world.start(host));
    world
}

/// Some flows open and end at whoever holds their VIP.
fn traffic(world: &mut World, clients: &mut u64) {
    for vip in [vip(0), vip(1)] {
        for host in world.holders(vip) {
            for _ in 0..world.rng.below(8) {
                *clients += 1;
                let backend = world.rng.below(3) as u8;
                world.open(host, record(*clients, vip, backend));
            }
            let has: Vec<_> = world.flows(host, vip).into_keys().collect();
            for _ in 0..world.rng.below(6).min(has.len() as u64) {
                let key = has[world.rng.below(has.len() as u64) as usize];
                if world.hosts[host].table.contains_key(&key) {
                    world.close(host, key);
                }
            }
        }
    }
}

fn move_to(world: &mut World, vip: IpAddr, to: usize) {
    for host in 0..world.hosts.len() {
        world.hold(host, vip, host == to);
    }
}

/// One thing goes wrong, or is mended. No flow that lives is forgotten by any of it, which the world asserts.
fn misfortune(world: &mut World, may_crash: bool) {
    let hosts = world.hosts.len() as u64;
    let host = world.rng.below(hosts) as usize;
    let of = vip(world.rng.below(2) as u8);
    match world.rng.below(12) {
        0 | 1 => (0..hosts as usize).for_each(|host| world.hosts[host].island = world.rng.below(2)),
        2 | 3 => world.hosts.iter_mut().for_each(|host| host.island = 0),
        4 | 5 => move_to(world, of, host),
        // Two hold it.
        6 => world.hold(host, of, true),
        7 => {
            let pause = world.rng.time(SILENT_AFTER * 2);
            world.hosts[host].paused_until = Some(world.now + pause);
        }
        8 => world.loss = world.rng.below(600),
        9 => world.drop_applied = world.rng.below(100),
        10 if may_crash => {
            // Who has lost its tables does not know what it holds.
            let empty = world.rng.chance(500);
            if empty {
                [vip(0), vip(1)].into_iter().for_each(|vip| world.hold(host, vip, false));
            }
            world.crash(host, empty);
        }
        _ => {
            if world.hosts[host].node.is_none() {
                world.start(host);
            }
        }
    }
}

fn heal(world: &mut World) {
    (world.loss, world.drop_applied) = (world.loss.min(100), 0);
    for host in 0..world.hosts.len() {
        world.hosts[host].island = 0;
        world.hosts[host].paused_until = None;
        if world.hosts[host].node.is_none() {
            world.start(host);
        }
    }
    let holder = world.rng.below(world.hosts.len() as u64) as usize;
    [vip(0), vip(1)].into_iter().for_each(|vip| move_to(world, vip, holder));
}

#[test]
fn whatever_happened_all_come_to_the_same() {
    each_seed(|seed| {
        let mut world = world(seed, 2 + (seed % 3) as usize);
        let mut clients = 0;
        for _ in 0..40 {
            misfortune(&mut world, true);
            for _ in 0..world.rng.below(5) {
                traffic(&mut world, &mut clients);
                let calm = world.rng.time(SECOND / 2);
                world.run_for(calm);
            }
        }
        heal(&mut world);
        let holder = world.holders(vip(0))[0];
        let end = world.now + LOOK_EVERY * 2 + SECOND * 60;
        let agree = world.run_until(end, now_and_then(|world| world.agree(vip(0)) && world.agree(vip(1))));
        for host in 0..world.hosts.len() {
            eprintln!(
                "{seed}: {host} has {} of {}",
                world.flows(host, vip(0)).len(),
                world.flows(holder, vip(0)).len()
            );
        }
        assert!(agree, "they differ");
    });
}

#[test]
fn without_a_crash_nothing_that_lives_is_missing_anywhere() {
    each_seed(|seed| {
        let mut world = world(seed, 2 + (seed % 3) as usize);
        let mut clients = 0;
        for _ in 0..30 {
            misfortune(&mut world, false);
            traffic(&mut world, &mut clients);
            let calm = world.rng.time(SECOND);
            world.run_for(calm);
        }
        heal(&mut world);
        let end = world.now + LOOK_EVERY * 2 + SECOND * 60;
        let has_all = |world: &World| {
            let mut hosts = world.hosts.iter();
            hosts.all(|host| world.living.iter().all(|key| host.table.contains_key(key)))
        };
        let whole = world.run_until(end, now_and_then(has_all));
        assert!(whole, "a flow is missing");
        assert!(!world.living.is_empty());
    });
}

#[test]
fn a_change_is_known_within_milliseconds() {
    each_seed(|seed| {
        let mut world = world(seed, 3);
        (world.loss, world.repeat, world.longest_delay) = (0, 0, Duration::from_millis(1));
        world.run_for(SECOND * 3);
        for client in 0..50 {
            let flow = record(client, vip(0), 1);
            world.open(0, flow);
            let end = world.now + Duration::from_millis(7);
            let known = |world: &World| world.hosts.iter().all(|host| host.table.contains_key(&flow.key));
            assert!(world.run_until(end, known), "not known within 7 ms");
            let idle = world.rng.time(Duration::from_millis(20));
            world.run_for(idle);
        }
    });
}

#[test]
fn a_node_that_joins_is_told_everything_at_a_bounded_pace() {
    const FLOWS: u64 = 20_000;
    let mut world = World::new(1, 2);
    world.loss = 10;
    world.hold(0, vip(0), true);
    (0..FLOWS).for_each(|client| world.open(0, record(client, vip(0), (client % 3) as u8)));
    world.start(0);
    world.run_for(SECOND);
    world.start(1);
    let begun = world.now;
    assert!(world.run_until(begun + SECOND * 3, |world| world.hosts[1].table.len() as u64 == FLOWS));
    let took = world.now.duration_since(begun);
    assert!(took >= Duration::from_secs_f64(FLOWS as f64 / f64::from(FLOWS_PER_SECOND)), "{took:?}");
    assert!(world.sent_bytes < FLOWS * 40, "{} bytes", world.sent_bytes);
}

#[test]
fn a_recorded_session_does_nothing() {
    each_seed(|seed| {
        let mut world = World::new(seed, 2);
        world.record = true;
        world.hold(0, vip(0), true);
        (0..2).for_each(|host| world.start(host));
        world.run_for(SECOND * 2);
        (0..20).for_each(|client| world.open(0, record(client, vip(0), 1)));
        world.run_for(SECOND);
        let opened = world.recorded.clone();
        (0..20).for_each(|client| world.close(0, record(client, vip(0), 1).key));
        world.run_for(SECOND);
        assert!(world.hosts[1].table.is_empty());
        // To the same session, and to the next one.
        for restart in [false, true] {
            if restart {
                world.crash(1, true);
                world.start(1);
                world.run_for(SECOND * 2);
            }
            let before = world.hosts[1].node.as_ref().unwrap().reports().next().unwrap().1;
            for (from, to, bytes) in &opened {
                let delay = world.rng.time(SECOND);
                world.inject(*from, *to, bytes.clone(), delay);
                // And to who said it.
                world.inject(*to, *from, bytes.clone(), delay);
            }
            world.run_for(SECOND * 3);
            let after = world.hosts[1].node.as_ref().unwrap().reports().next().unwrap().1;
            assert!(after.is_up && after.since == before.since, "the session goes on");
            assert!(after.counts.refused.values().sum::<u64>() > before.counts.refused.values().sum());
            assert!(world.hosts[1].table.is_empty(), "an old word is believed");
        }
        world.open(0, record(99, vip(0), 1));
        world.run_for(SECOND);
        assert_eq!(world.hosts[1].table.len(), 1);
    });
}

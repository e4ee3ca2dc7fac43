//! What virtual routers promise each other, on a bad network, for many seeds: over IPv4 with an even one, over IPv6 with an odd.
//!
//! `XVIP_SIM_RUNS` sets how many seeds each test tries, `XVIP_SIM_SEED` names the one to replay. A failure prints its
//! seed and the last events.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod groups;
mod leases;
#[path = "../rng/mod.rs"]
mod rng;
mod world;

use std::ops::Range;
use std::time::Duration;

use lb_proto::family::Family;
use lb_proto::units::{Centis, Priority, Vrid, WirePriority};
use lb_proto::vrrp::{Config, Local, active_down_interval, skew_time};
use lb_proto::wire::vrrp::{Advert, ChecksumForm};
use rng::Rng;
use world::{World, config};

/// 100 ms, in centiseconds and as time.
const INTERVAL: u16 = 10;
const TICK: Duration = Duration::from_millis(100);
/// How late a simulated process wakes at most.
const LATENESS: Duration = Duration::from_millis(1);
const RUNS: u64 = 600;

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    match number("XVIP_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("XVIP_SIM_RUNS").unwrap_or(RUNS),
    }
}

/// Two to five routers, priorities at random and sometimes equal.
fn segment(seed: u64, change: impl Fn(&mut Rng, Config) -> Config) -> World {
    let mut rng = Rng::new(seed);
    let family = if seed.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let n = 2 + rng.index(4);
    let configs = (0..n)
        .map(|router| {
            let priority = [50, 100, 100, 101, 150, 254][rng.index(6)];
            change(&mut rng, config(family, router, priority, INTERVAL))
        })
        .collect();
    let mut world = World::new(seed, rng, configs);
    world.link.max_delay = Duration::from_millis(world.rng.below(21));
    world.link.repeat_permille = world.rng.below(200);
    world.link.reflect = world.rng.chance(300);
    world
}

/// By unicast in every other world: the peers are all routers, oneself included.
fn unicast_sometimes(world: &mut World) {
    if world.rng.chance(500) {
        let peers: Vec<_> = (0..world.routers.len()).map(|router| world.address(router)).collect();
        for router in &mut world.routers {
            router.cfg.peers = peers.clone().into();
        }
    }
}

fn down(cfg: &Config) -> Duration {
    active_down_interval(cfg.priority, cfg.advert_interval)
}

/// The highest priority among the routers that run. Of several such, the one that came first stays.
fn highest(world: &World) -> Option<Priority> {
    let running = world.routers.iter().filter(|router| router.instance.is_some());
    running.map(|router| router.cfg.priority).max()
}

/// The priority of the one Active router.
fn holding(world: &World) -> Option<Priority> {
    match world.actives()[..] {
        [holder] => Some(world.routers[holder].cfg.priority),
        _ => None,
    }
}

/// One thing goes wrong, or is mended.
fn misfortune(world: &mut World) {
    let n = world.routers.len();
    let router = world.rng.index(n);
    match world.rng.below(16) {
        0 | 1 => {
            for router in 0..n {
                world.routers[router].island = world.rng.below(3);
            }
            world.note("parted");
        }
        2 => {
            world.routers.iter_mut().for_each(|router| router.island = 0);
            world.cuts.clear();
            world.note("joined");
        }
        3 => {
            let to = world.rng.index(n);
            world.cuts.insert((router, to));
            world.note(format!("{router} is not heard by {to}"));
        }
        4 | 5 => world.pause(router),
        6 | 7 => world.resume(router),
        8 => world.crash(router),
        9 => world.stop(router),
        10 => world.start(router),
        11 => {
            let event = if world.rng.chance(500) { Local::LinkDown } else { Local::LinkUp };
            world.local(router, event);
        }
        12 => world.link.loss_permille = world.rng.below(500),
        13 => world.local(router, Local::StepDown { hold: TICK * 5 }),
        14 => world.set_clocks(),
        _ => {
            let priority = Priority::new(1 + world.rng.below(254) as u8).unwrap();
            let cfg = Config { priority, ..world.routers[router].cfg.clone() };
            world.reconfigure(router, cfg);
        }
    }
}

#[test]
fn a_healed_segment_has_one_active_router() {
    for seed in seeds() {
        let mut world = segment(seed, |rng, cfg| {
            let slow = [1, 1, 1, 2, 4][rng.index(5)];
            Config {
                preempt: rng.chance(500),
                preempt_delay: Duration::from_millis(300) * rng.below(2) as u32,
                advert_interval: Centis::saturating(INTERVAL * slow),
                ..cfg
            }
        });
        unicast_sometimes(&mut world);
        world.link.reorder = true;
        world.careless_drivers = true;
        for router in 0..world.routers.len() {
            world.start(router);
        }
        for _ in 0..30 {
            misfortune(&mut world);
            let calm = world.rng.time(TICK * 8);
            world.run_for(calm);
        }
        let survivor = world.rng.index(world.routers.len());
        if world.routers[survivor].stopping {
            world.crash(survivor);
        }
        world.start(survivor);
        world.heal();
        world.measure_anew();

        let slowest = world.routers.iter().map(|router| router.cfg.advert_interval.duration()).max().unwrap();
        let patience = Duration::from_millis(300);
        let settled = slowest * 4 * 3 + patience;
        world.run_for(settled);
        let bound = slowest * 2 + world.link.max_delay + LATENESS;
        assert!(world.longest_dual <= bound, "several Active for {:?} > {bound:?}", world.longest_dual);
        assert_eq!(world.actives().len(), 1, "not settled after {settled:?}");
        if (0..world.routers.len()).all(|router| world.routers[router].cfg.preempt) {
            assert_eq!(holding(&world), highest(&world));
        }

        let (holder, changes) = (world.actives(), world.log.len());
        world.run_for(slowest * 50);
        assert_eq!((world.actives(), world.log.len()), (holder, changes), "changed without cause");
    }
}

#[test]
fn all_starting_at_once_agree_on_the_highest_priority() {
    for seed in seeds() {
        let mut world = segment(seed, |_, cfg| cfg);
        unicast_sometimes(&mut world);
        for router in 0..world.routers.len() {
            world.start(router);
            let pause = world.rng.time(TICK);
            world.run_for(pause);
        }
        world.run_for(TICK * 8);
        let bound = TICK + world.link.max_delay + LATENESS;
        assert!(world.longest_dual <= bound, "several Active for {:?} > {bound:?}", world.longest_dual);
        assert_eq!(holding(&world), highest(&world));
    }
}

#[test]
fn without_preemption_the_holder_is_never_disturbed() {
    for seed in seeds() {
        let mut world = segment(seed, |_, cfg| Config { preempt: false, ..cfg });
        unicast_sometimes(&mut world);
        let holder = world.rng.index(world.routers.len());
        world.start(holder);
        world.run_for(TICK * 5);
        assert_eq!(world.actives(), [holder]);
        world.measure_anew();
        for _ in 0..20 {
            let router = world.rng.index(world.routers.len());
            if router != holder {
                match world.rng.below(4) {
                    0 => world.crash(router),
                    1 => world.stop(router),
                    2 => world.pause(router),
                    _ => world.resume(router),
                }
                world.start(router);
            }
            let calm = world.rng.time(TICK * 10);
            world.run_for(calm);
            assert_eq!(world.actives(), [holder]);
        }
        assert_eq!((world.longest_dual, world.longest_vacancy), (Duration::ZERO, Duration::ZERO));
    }
}

/// A settled segment, its holder, and who follows.
fn settled(seed: u64) -> (World, usize, usize) {
    let mut world = segment(seed, |rng, cfg| Config { preempt: rng.chance(500), ..cfg });
    unicast_sometimes(&mut world);
    // A copy of an older advert that overtook the last word would rightly be believed.
    world.link.reorder = false;
    for router in 0..world.routers.len() {
        world.start(router);
    }
    let moment = TICK * 10 + world.rng.time(TICK);
    world.run_for(moment);
    let actives = world.actives();
    let [holder] = actives[..] else { panic!("not settled: {actives:?}") };
    let others = (0..world.routers.len()).filter(|router| *router != holder);
    let heir = others.max_by_key(|router| (world.routers[*router].cfg.priority, world.address(*router))).unwrap();
    (world, holder, heir)
}

#[test]
fn a_released_address_is_taken_within_the_skew() {
    for seed in seeds() {
        let (mut world, holder, heir) = settled(seed);
        world.measure_anew();
        if world.rng.chance(500) {
            world.stop(holder);
        } else {
            world.local(holder, Local::StepDown { hold: TICK * 100 });
        }
        let cfg = &world.routers[heir].cfg;
        let slack = world.link.max_delay + LATENESS;
        let bound = skew_time(cfg.priority, cfg.advert_interval) + slack;
        let end = world.now + bound;
        let taken = |world: &World| world.actives().iter().any(|router| *router != holder);
        assert!(world.run_until(end, taken), "nobody within {bound:?}");
        world.run_for(TICK * 8);
        assert_eq!(world.actives().len(), 1);
        assert_ne!(world.actives(), [holder]);
        assert_eq!(world.longest_vacancy, Duration::ZERO, "made before broken");
        assert!(world.longest_dual <= slack * 2, "both for {:?}", world.longest_dual);
    }
}

#[test]
fn a_dead_router_is_replaced_within_the_down_interval() {
    for seed in seeds() {
        let (mut world, holder, heir) = settled(seed);
        world.crash(holder);
        let bound = down(&world.routers[heir].cfg) + world.link.max_delay + LATENESS;
        let end = world.now + bound;
        assert!(world.run_until(end, |world| !world.actives().is_empty()), "nobody within {bound:?}");
        world.run_for(TICK * 8);
        assert_eq!(world.actives().len(), 1);
    }
}

#[test]
fn a_paused_holder_wakes_as_backup_and_takes_nothing_back_unasked() {
    for seed in seeds() {
        let (mut world, holder, _) = settled(seed);
        for router in 0..world.routers.len() {
            let cfg = Config { preempt: false, ..world.routers[router].cfg.clone() };
            world.reconfigure(router, cfg);
        }
        world.careless_drivers = true;
        world.pause(holder);
        world.run_for(TICK * 8);
        let successors: Vec<usize> = world.actives().into_iter().filter(|router| *router != holder).collect();
        let [successor] = successors[..] else { panic!("{successors:?} took over") };
        world.resume(holder);
        assert_eq!(world.actives(), [successor], "no second one from the moment it wakes");
        world.measure_anew();
        world.run_for(TICK * 30);
        assert_eq!(world.actives(), [successor]);
        assert_eq!((world.longest_dual, world.longest_vacancy), (Duration::ZERO, Duration::ZERO));
    }
}

#[test]
fn forged_adverts_cost_less_than_three_intervals() {
    for seed in seeds() {
        let (mut world, _, _) = settled(seed);
        let forged = Advert {
            vrid: Vrid::new(51).unwrap(),
            priority: WirePriority::OWNER,
            interval: Centis::MAX,
            addresses: world.routers[0].cfg.addresses.clone(),
        };
        let unicast = !world.routers[0].cfg.peers.is_empty();
        let (stranger, group) = (world.address(77), world.group());
        world.measure_anew();
        // Once, or in a burst.
        for _ in 0..[1, 100][world.rng.index(2)] {
            world.inject(stranger, group, &forged.emit(stranger, group, ChecksumForm::Rfc9568));
        }
        world.run_for(TICK * 40);
        let slack = world.link.max_delay + LATENESS;
        let bound = match unicast {
            true => Duration::ZERO,
            false => TICK * 3 + slack,
        };
        assert!(world.longest_vacancy <= bound, "nobody for {:?} > {bound:?}", world.longest_vacancy);
        assert_eq!(world.actives().len(), 1);
    }
}

#[test]
fn noise_moves_nobody() {
    for seed in seeds() {
        let (mut world, holder, _) = settled(seed);
        let cfg = world.routers[holder].cfg.clone();
        let genuine = Advert {
            vrid: cfg.vrid,
            priority: WirePriority::OWNER,
            interval: cfg.advert_interval,
            addresses: cfg.addresses,
        };
        let changes = world.log.len();
        let (stranger, group) = (world.address(77), world.group());
        for _ in 0..50 {
            let mut message = genuine.emit(stranger, group, ChecksumForm::Rfc5798);
            let (at, flip) = (world.rng.index(message.len()), 1 + world.rng.below(255) as u8);
            message[at] ^= flip;
            message.truncate(if world.rng.chance(500) { message.len() } else { at });
            world.inject(stranger, group, &message);
            world.run_for(TICK / 3);
        }
        assert_eq!((world.actives(), world.log.len()), (vec![holder], changes));
    }
}

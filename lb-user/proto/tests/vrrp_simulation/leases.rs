//! Who answers for the addresses: at most one of those that hear each other, whatever pauses, dies, parts or loses.
//!
//! A crashed or paused process leaves its lease behind, which ends by itself. `XVIP_SIM_RUNS=10000` for more runs.

use std::time::Duration;

use lb_proto::units::Centis;
use lb_proto::vrrp::{Config, Local};

use super::world::World;
use super::{INTERVAL, LATENESS, TICK, misfortune, seeds, segment, settled, unicast_sometimes};

/// Two that believe to be Active learn of each other with the next advert, or with an answer, which may be postponed by a
/// quarter of an interval. A process that is paused at that very moment keeps its lease.
fn bound(world: &World) -> Duration {
    TICK + TICK * 5 / 2 + world.link.max_delay * 2 + LATENESS * 2
}

#[test]
fn two_that_hear_each_other_do_not_both_answer_for_longer_than_the_bound() {
    let mut longest = Duration::ZERO;
    for seed in seeds() {
        let mut world = segment(seed, |rng, cfg| Config { preempt: rng.chance(500), ..cfg });
        unicast_sometimes(&mut world);
        world.link.reorder = true;
        world.careless_drivers = true;
        for router in 0..world.routers.len() {
            world.start(router);
        }
        for _ in 0..40 {
            misfortune(&mut world);
            // Each advert that is lost adds an interval.
            world.link.loss_permille = 0;
            let calm = world.rng.time(TICK * 8);
            world.run_for(calm);
        }
        let bound = bound(&world);
        assert!(world.longest_shared_lease <= bound, "both for {:?} > {bound:?}", world.longest_shared_lease);
        longest = longest.max(world.longest_shared_lease);
    }
    println!("longest time with two leases: {longest:?}");
}

#[test]
fn loss_adds_the_adverts_lost() {
    for seed in seeds() {
        let mut world = segment(seed, |rng, cfg| Config { preempt: rng.chance(500), ..cfg });
        for router in 0..world.routers.len() {
            world.start(router);
        }
        world.link.loss_permille = 100;
        for _ in 0..10 {
            let router = world.rng.index(world.routers.len());
            match world.rng.below(4) {
                0 => world.pause(router),
                1 => world.resume(router),
                2 => world.crash(router),
                _ => world.start(router),
            }
            let calm = world.rng.time(TICK * 8);
            world.run_for(calm);
        }
        // Eight in a row, each way: one in 10^16.
        let bound = bound(&world) + TICK * 8;
        assert!(world.longest_shared_lease <= bound, "both for {:?} > {bound:?}", world.longest_shared_lease);
    }
}

#[test]
fn a_holder_that_is_paused_or_killed_has_fallen_silent_before_another_speaks() {
    for seed in seeds() {
        let (mut world, holder, _) = settled(seed);
        world.careless_drivers = true;
        world.measure_anew();
        let killed = world.rng.chance(300);
        if killed {
            world.crash(holder);
        } else {
            world.pause(holder);
        }
        let asleep = world.rng.time(TICK * 30);
        world.run_for(asleep);
        if !killed {
            assert!(world.longest_dual <= asleep);
            world.resume(holder);
        }
        // Of several that take over in the same moment one wins, as soon as its advert has travelled.
        let bound = world.link.max_delay + LATENESS;
        assert!(world.longest_shared_lease <= bound, "both for {:?}", world.longest_shared_lease);
        world.run_for(TICK * 20);
        assert!(world.longest_shared_lease <= bound, "both for {:?}", world.longest_shared_lease);
        assert_eq!(world.actives().len(), 1);
    }
}

/// A process that gets no time reads its queue before it judges: who was heard meanwhile is not dead.
#[test]
fn a_starved_backup_takes_nothing_from_a_living_holder() {
    for seed in seeds() {
        let (mut world, holder, _) = settled(seed);
        for router in 0..world.routers.len() {
            let cfg = Config { preempt: false, ..world.routers[router].cfg.clone() };
            world.reconfigure(router, cfg);
        }
        world.measure_anew();
        for _ in 0..10 {
            let starved = world.rng.index(world.routers.len());
            if starved == holder {
                continue;
            }
            world.pause(starved);
            let time = world.rng.time(TICK * 30);
            world.run_for(time);
            if world.rng.chance(300) {
                world.set_clocks();
            }
            world.resume(starved);
            assert_eq!(world.actives(), [holder]);
            let calm = world.rng.time(TICK * 2);
            world.run_for(calm);
        }
        assert_eq!(world.longest_dual, Duration::ZERO);
        assert_eq!(world.routers[holder].cfg.advert_interval, Centis::new(INTERVAL).unwrap());
    }
}

#[test]
fn handed_back_and_forth_somebody_always_answers() {
    for seed in seeds() {
        let (mut world, _, _) = settled(seed);
        world.measure_anew();
        for _ in 0..10 {
            let actives = world.actives();
            let [holder] = actives[..] else { panic!("{actives:?}") };
            world.local(holder, Local::StepDown { hold: TICK * 1000 });
            world.run_for(TICK * 10);
            assert_ne!(world.actives(), [holder]);
        }
        assert_eq!(world.longest_vacancy, Duration::ZERO);
        assert!(world.longest_shared_lease <= world.link.max_delay * 2 + LATENESS);
    }
}

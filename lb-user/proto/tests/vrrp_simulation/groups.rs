//! Sync groups: nodes with a virtual router on each of several segments, which hold their addresses all together or not at all.

use std::time::Duration;

use lb_proto::units::{Centis, Priority, WirePriority};
use lb_proto::vrrp::{Config, Local};
use lb_proto::wire::vrrp::{Advert, ChecksumForm};

use super::rng::Rng;
use super::world::{World, config};
use super::{INTERVAL, LATENESS, TICK, seeds};
use lb_proto::family::Family;

/// Twice the longest time of listening, and the shortest bound of a hand-over, which is longer than that.
const APART: Duration = Duration::from_millis(4 * 100 * 2 + 1000);

struct Nodes {
    world: World,
    /// By node and segment.
    members: Vec<Vec<usize>>,
}

/// Two to four nodes on two or three segments. Unless they are `alike`, which address is the higher of two differs from segment to
/// segment.
fn nodes(seed: u64, alike: bool, change: impl Fn(&mut Rng, Config) -> Config) -> Nodes {
    let mut rng = Rng::new(seed);
    let family = if seed.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let (nodes, segments) = (2 + rng.index(3), 2 + rng.index(2));
    let mut members = vec![Vec::new(); nodes];
    let mut configs = Vec::new();
    for segment in 0..segments {
        let turn = if alike { 0 } else { rng.index(nodes) };
        for place in 0..nodes {
            members[(place + turn) % nodes].push(segment * nodes + place);
            let priority = [100, 100, 100, 101, 150][rng.index(5)];
            configs.push(change(&mut rng, config(family, segment * nodes + place, priority, INTERVAL)));
        }
    }
    let mut world = World::new(seed, rng, configs);
    for (at, router) in world.routers.iter_mut().enumerate() {
        router.segment = at / nodes;
    }
    world.link.max_delay = Duration::from_millis(world.rng.below(21));
    world.link.repeat_permille = world.rng.below(200);
    for node in &members {
        world.join(node.clone());
    }
    Nodes { world, members }
}

impl Nodes {
    /// The only node that holds anything, if it holds all.
    fn holder(&self) -> Option<usize> {
        let actives = self.world.actives();
        let all = |node: &Vec<usize>| {
            actives.len() == node.len() && node.iter().all(|member| self.world.routers[*member].is_active())
        };
        self.members.iter().position(all)
    }

    fn each(&mut self, node: usize, act: impl Fn(&mut World, usize)) {
        for member in self.members[node].clone() {
            act(&mut self.world, member);
        }
    }

    fn start_all(&mut self) {
        for node in 0..self.members.len() {
            self.each(node, World::start);
        }
    }

    fn misfortune(&mut self) {
        let node = self.world.rng.index(self.members.len());
        let segments = self.members[node].len();
        let segment = self.world.rng.index(segments);
        let member = self.members[node][segment];
        match self.world.rng.below(14) {
            // Of one segment.
            0 | 1 => {
                for node in 0..self.members.len() {
                    let island = self.world.rng.below(2);
                    self.world.routers[self.members[node][segment]].island = island;
                }
                self.world.note(format!("segment {segment} parted"));
            }
            2 => {
                self.world.routers.iter_mut().for_each(|router| router.island = 0);
                self.world.cuts.clear();
                self.world.note("joined");
            }
            3 => {
                let other = self.world.rng.index(self.members.len());
                self.world.cuts.insert((member, self.members[other][segment]));
            }
            4 | 5 => self.world.local(member, Local::LinkDown),
            6 | 7 => self.world.local(member, Local::LinkUp),
            8 => self.each(node, World::pause),
            9 => self.each(node, World::resume),
            10 => self.each(node, World::crash),
            11 => {
                if self.world.rng.chance(300) {
                    self.each(node, World::stop);
                }
                self.each(node, World::start);
            }
            12 => self.each(node, |world, member| world.local(member, Local::StepDown { hold: TICK * 5 })),
            _ => {
                if self.world.rng.chance(300) {
                    self.world.link.loss_permille = self.world.rng.below(300);
                }
                let priority = Priority::new(1 + self.world.rng.below(254) as u8).unwrap();
                let cfg = Config { priority, ..self.world.routers[member].cfg.clone() };
                self.world.reconfigure(member, cfg);
            }
        }
    }
}

#[test]
fn members_of_a_node_do_not_stay_apart_and_a_healed_world_has_one_holder_of_all() {
    let mut longest = Duration::ZERO;
    for seed in seeds() {
        let mut nodes = nodes(seed, false, |rng, cfg| Config {
            preempt: rng.chance(500),
            preempt_delay: Duration::from_millis(300) * rng.below(2) as u32,
            ..cfg
        });
        nodes.world.link.reorder = true;
        nodes.world.careless_drivers = true;
        nodes.start_all();
        for _ in 0..40 {
            nodes.misfortune();
            let calm = nodes.world.rng.time(TICK * 8);
            nodes.world.run_for(calm);
        }
        let bound = APART + LATENESS * 2;
        assert!(nodes.world.longest_apart <= bound, "apart for {:?}", nodes.world.longest_apart);
        longest = longest.max(nodes.world.longest_apart);
        for node in 0..nodes.members.len() {
            let stopping = |member: &usize| nodes.world.routers[*member].stopping;
            if nodes.members[node].iter().any(stopping) {
                nodes.each(node, World::crash);
            }
        }
        nodes.start_all();
        nodes.world.heal();
        nodes.world.run_for(TICK * 50);
        let holder = nodes.holder();
        assert!(holder.is_some(), "not settled: {:?}", nodes.world.actives());
        let changes = nodes.world.log.len();
        nodes.world.run_for(TICK * 50);
        assert_eq!((nodes.holder(), nodes.world.log.len()), (holder, changes), "changed without cause");
    }
    println!("longest time apart: {longest:?}");
}

#[test]
fn what_one_member_loses_all_hand_over_and_nobody_notices_with_the_others() {
    for seed in seeds() {
        let mut nodes = nodes(seed, true, |_, cfg| Config { preempt: false, ..cfg });
        nodes.start_all();
        nodes.world.run_for(TICK * 40);
        let holder = nodes.holder().unwrap_or_else(|| panic!("not settled: {:?}", nodes.world.actives()));
        let segments = nodes.members[holder].len();
        let cut = nodes.world.rng.index(segments);
        nodes.world.local(nodes.members[holder][cut], Local::LinkDown);
        let end = nodes.world.now + TICK * 12;
        let mut back = None;
        while nodes.world.now < end {
            nodes.world.run_for(Duration::from_millis(1));
            let actives = nodes.world.actives();
            let held = |segment: usize| actives.iter().any(|router| nodes.world.routers[*router].segment == segment);
            for segment in (0..segments).filter(|segment| *segment != cut) {
                assert!(held(segment), "nobody holds what is on segment {segment}");
            }
            if held(cut) {
                back.get_or_insert(nodes.world.now);
            }
        }
        let took = TICK * 12 - (end - back.expect("somebody took over"));
        assert!(took <= TICK * 4 + nodes.world.link.max_delay + LATENESS * 2, "after {took:?}");
        let successor = nodes.holder();
        assert!(successor.is_some_and(|node| node != holder), "{successor:?}");

        // It comes back, and waits.
        nodes.world.local(nodes.members[holder][cut], Local::LinkUp);
        nodes.world.run_for(TICK * 20);
        assert_eq!(nodes.holder(), successor);
    }
}

#[test]
fn one_forged_advert_for_one_member_costs_less_than_three_intervals() {
    for seed in seeds() {
        let mut nodes = nodes(seed, true, |_, cfg| Config { preempt: false, ..cfg });
        nodes.start_all();
        nodes.world.run_for(TICK * 40);
        let holder = nodes.holder().unwrap_or_else(|| panic!("not settled: {:?}", nodes.world.actives()));
        let segments = nodes.members[holder].len();
        let forged_on = nodes.world.rng.index(segments);
        let cfg = nodes.world.routers[0].cfg.clone();
        let forged =
            Advert { vrid: cfg.vrid, priority: WirePriority::OWNER, interval: Centis::MAX, addresses: cfg.addresses };
        let (stranger, group) = (nodes.world.address(77), nodes.world.group());
        let message = forged.emit(stranger, group, ChecksumForm::Rfc9568);
        nodes.world.inject_on(forged_on, stranger, group, &message);
        let mut without = vec![0; segments];
        for _ in 0..2000 {
            nodes.world.run_for(Duration::from_millis(1));
            let actives = nodes.world.actives();
            for (segment, without) in without.iter_mut().enumerate() {
                *without += u64::from(!actives.iter().any(|router| nodes.world.routers[*router].segment == segment));
            }
        }
        for (segment, without) in without.into_iter().enumerate() {
            let bound = if segment == forged_on { 300 } else { 0 };
            assert!(without <= bound, "nobody on segment {segment} for {without} ms, forged on {forged_on}");
        }
        assert_eq!(nodes.holder(), Some(holder));
    }
}

#[test]
fn nobody_holds_a_part_when_no_node_can_hold_all() {
    for seed in seeds() {
        let mut nodes = nodes(seed, false, |rng, cfg| Config { preempt: rng.chance(500), ..cfg });
        for node in 0..nodes.members.len() {
            nodes.each(node, World::start);
            let segments = nodes.members[node].len();
            let broken = nodes.members[node][nodes.world.rng.index(segments)];
            nodes.world.local(broken, Local::LinkDown);
        }
        nodes.world.run_for(TICK * 30);
        assert_eq!(nodes.world.actives(), []);
        for router in 0..nodes.world.routers.len() {
            nodes.world.local(router, Local::LinkUp);
        }
        nodes.world.run_for(TICK * 50);
        assert!(nodes.holder().is_some(), "{:?}", nodes.world.actives());
    }
}

//! The loaded programs do what the same code does on the host. Needs root; says so instead of skipping.
#![allow(clippy::panic, reason = "functions shared by tests fail as tests do")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use lb_ebpf::abi::{Flow, FlowKey, Reason, Verdict, node_flag, told};
use lb_ebpf::cases::{Case, Event, Executor as _, Hosts, Model, Step, Story, World, all, any_packet, any_story, play};
use lb_ebpf::net::{Address, V4, V6};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use xvip::clock::monotonic_seconds;
use xvip_tests::kernel::{Hook, Kernel, SHORTEST_FRAME};

/// The same stories in every run; change it to hear others.
fn seeded(cases: u32) -> TestRunner {
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x0078_7669_7001),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
}

fn kernel(hook: Hook) -> Kernel {
    let mut kernel = Kernel::new(hook).expect("the thread stays on its CPU");
    kernel.try_begin(&World::standard()).expect("the datapath loads");
    kernel
}

#[test]
fn every_case_by_xdp() {
    every_case(Hook::Xdp);
}

#[test]
fn every_case_by_tc() {
    every_case(Hook::Tc);
}

#[test]
fn who_shares_flows_hears_of_those_that_open_and_close() {
    let shares = World::standard().with(|world| world.sharing.is_on = 1);
    let cases = all();
    let closed = |case: &&Case| {
        case.name
            == "an adopted flow is closed by the first packets that are seen of it, and its client's port is used again"
    };
    let opened = |case: &&Case| case.name == "a handshake, then data both ways";
    for hook in [Hook::Xdp, Hook::Tc] {
        let mut kernel = kernel(hook);
        for (world, heard) in [(World::standard(), false), (shares.clone(), true)] {
            for version in [4, 6] {
                for (case, what) in [
                    (cases.iter().filter(|case| case.version == version).find(opened), told::OPENED),
                    (cases.iter().filter(|case| case.version == version).find(closed), told::CLOSED),
                ] {
                    let case = case.expect("there is such a case");
                    let world = if version == 4 { world.clone() } else { world.clone().in_ipv6() };
                    let case = Case { name: case.name, version, world, steps: case.steps.clone() };
                    play(&case, &mut kernel).unwrap_or_else(|error| panic!("{error}"));
                    let datapath = kernel.datapath().expect("begun");
                    let told: Vec<_> =
                        std::iter::from_fn(|| datapath.told()).map(|told| told[36..40].to_vec()).collect();
                    let expected = if heard { vec![what.to_ne_bytes().to_vec()] } else { Vec::new() };
                    assert_eq!(told, expected, "{}, IPv{version}", case.name);
                }
            }
        }
    }
}

fn every_case(hook: Hook) {
    let mut kernel = kernel(hook);
    let cases = all();
    let runs =
        |case: &&Case| case.steps.iter().all(|step| !matches!(step, Step::Arrives { frame, .. } if !hook.runs(frame)));
    let (cases, refused): (Vec<_>, Vec<_>) = cases.iter().partition(runs);
    assert!(
        refused
            .iter()
            .all(|case| ["cut in the IP header", "a frame without an IP header", "cut short"].contains(&case.name))
    );
    let failures: Vec<_> = cases.into_iter().filter_map(|case| play(case, &mut kernel).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_case_by_redirect() {
    let mut kernel = kernel(Hook::Xdp);
    let mut cases = all();
    let mut failures = Vec::new();
    for case in &mut cases {
        case.world.node.flags |= node_flag::REDIRECT;
        for step in &mut case.steps {
            if let Step::Agent(world) = step {
                world.node.flags |= node_flag::REDIRECT;
            }
        }
        failures.extend(play(case, &mut kernel).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_table_of_flows_holds_what_was_asked_for_and_no_more() {
    for capacity in [1u32, 2, 5, 100] {
        let mut kernel = kernel(Hook::Xdp);
        kernel.begin(&World::standard().with(|world| world.capacity = capacity));
        let table = &mut kernel.datapath().expect("begun").established;
        let key = |number: u32| FlowKey { source: lb_ebpf::net::Be32::new(number), ..FlowKey::default() };
        let inserted =
            (0..capacity + 64).filter(|number| table.insert(key(*number), Flow::default(), 0).is_ok()).count();
        assert_eq!(inserted, capacity as usize);
    }
}

#[test]
fn stories_by_chance_go_alike_on_the_host_and_by_xdp() {
    stories_go_alike(Hook::Xdp);
}

#[test]
fn stories_by_chance_go_alike_on_the_host_and_by_tc() {
    stories_go_alike(Hook::Tc);
}

fn stories_go_alike(hook: Hook) {
    let kernel = RefCell::new(kernel(hook));
    let seen = RefCell::new(vec![0u32; Reason::COUNT as usize]);
    let outcome = seeded(1000).run(&any_story(80), |story| {
        let mut seen = seen.borrow_mut();
        alike(&story, &mut kernel.borrow_mut(), |reason| seen[reason as usize] += 1)
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
    let seen = seen.into_inner();
    for reason in Reason::ALL {
        println!("{:>8} {}", seen[*reason as usize], reason.label());
    }
    let wanted = [
        Reason::Opened,
        Reason::ToBackend,
        Reason::ToClient,
        Reason::ToLocal,
        Reason::FromLocal,
        Reason::TableFull,
        Reason::BackendGone,
    ];
    assert!(wanted.iter().all(|reason| seen[*reason as usize] > 10), "the stories have become too tame");
}

fn alike(story: &Story, kernel: &mut Kernel, mut saw: impl FnMut(Reason)) -> Result<(), TestCaseError> {
    let mut model = Model::new(story.world.clone());
    kernel.begin(&story.world);
    let mut hosts = Hosts::default();
    for (at, event) in story.events.iter().enumerate() {
        if let Event::Agent(world) = event {
            model.change(world);
            kernel.change(world);
        }
        let Some(passing) = hosts.frame(event) else { continue };
        // The kernel's seconds may go on during a story, the model's must follow.
        model.now.set(monotonic_seconds());
        let on_host = passing.run(&mut model);
        prop_assert_eq!(&on_host, &passing.run(kernel), "event {} on the host and in the kernel", at + 1);
        let (reason, after) = on_host;
        hosts.receive(&passing, reason, &after);
        saw(reason);
    }
    let datapath = kernel.datapath().expect("begun");
    prop_assert_eq!(timeless(model.flows::<V4>()), timeless(datapath.flows().expect("tables can be read")));
    prop_assert_eq!(timeless(model.flows::<V6>()), timeless(datapath.flows6().expect("tables can be read")));
    prop_assert_eq!(model.loads(), datapath.loads().expect("tables can be read"));
    prop_assert_eq!(model.traffic(), datapath.traffic().expect("tables can be read"));
    Ok(())
}

/// Without the words that differ when a second ends between the two runs.
fn timeless<A: Address>(tables: [BTreeMap<FlowKey<A>, Flow<A>>; 2]) -> [Vec<(FlowKey<A>, Flow<A>)>; 2] {
    tables.map(|table| table.into_iter().map(|(key, flow)| (key, Flow { seen: 0, routed: 0, ..flow })).collect())
}

#[test]
fn any_bytes_end_with_one_reason_and_pass_unchanged_by_xdp() {
    any_bytes(Hook::Xdp);
}

#[test]
fn any_bytes_end_with_one_reason_and_pass_unchanged_by_tc() {
    any_bytes(Hook::Tc);
}

fn any_bytes(hook: Hook) {
    // VIPs of both versions.
    let six = World::standard().in_ipv6();
    let world = World::standard().with(|world| {
        world.vips.extend(six.vips);
        world.services.extend(six.services);
    });
    let kernel = RefCell::new(kernel(hook));
    // Most bytes are no IP for us and get one look; lend some the beginning of a packet.
    let packet = any::<bool>().prop_flat_map(any_packet);
    let bytes = (packet, proptest::collection::vec(any::<u8>(), SHORTEST_FRAME..1501), 0usize..80);
    let outcome = seeded(3000).run(&bytes, |(packet, mut bytes, lent)| {
        for (byte, lent) in bytes.iter_mut().zip(packet.iter().take(lent)) {
            *byte = *lent;
        }
        if !hook.runs(&bytes) {
            return Ok(());
        }
        let mut kernel = kernel.borrow_mut();
        kernel.begin(&world);
        let (reason, after) = kernel.run(&bytes);
        prop_assert_eq!(reason, Model::new(world.clone()).run(&bytes).0);
        if reason.verdict() == Verdict::Pass {
            prop_assert_eq!(bytes, after);
        }
        Ok(())
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
}

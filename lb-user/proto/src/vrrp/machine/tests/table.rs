//! The whole transition table, as data.

use super::*;

fn every_start(family: Family, now: Instant) -> [Instance; 5] {
    let config = || config_over(family, config());
    let mut fault = Instance::new(config(), now);
    fault.on_local(Local::LinkDown, now);
    fault.on_local(Local::Start, now);
    drain(&mut fault);
    [
        Instance::new(config(), now),
        fault,
        backup(config(), now),
        backup(Config { preempt: false, ..config() }, now),
        active(config(), now),
    ]
}

/// `state deadline: outputs`. The deadline is `-` none, `=` as before, or what was added to the time of the input.
fn outcome(mut instance: Instance, input: &Input, now: Instant) -> String {
    let before = instance.deadline();
    let at = apply(&mut instance, input, now);
    let deadline = match instance.deadline() {
        None => "-".to_owned(),
        same if same == before => "=".to_owned(),
        Some(deadline) => match deadline - at {
            DOWN => "down".to_owned(),
            SKEW => "skew".to_owned(),
            SECOND => "interval".to_owned(),
            other => format!("{other:?}"),
        },
    };
    let state = instance.state().label();
    match heard(&mut instance) {
        outputs if outputs.is_empty() => format!("{state} {deadline}"),
        outputs => format!("{state} {deadline}: {outputs}"),
    }
}

/// Each input with what becomes of Initialize, Fault (link down), Backup, Backup without preemption, Active.
fn table() -> Vec<(&'static str, Input, [&'static str; 5])> {
    use Input::{Deadline, Early, Reconfigure};
    let from = |src, priority| Input::Advert(src, 255, advert(priority));
    let other = |src, advert| Input::Advert(src, 255, advert);
    let initialize_ignores = "initialize -: rejected not_running";
    let fault_ignores = "fault -: rejected not_running";
    let not_running = |backup, nopreempt, active| [initialize_ignores, fault_ignores, backup, nopreempt, active];
    vec![
        (
            "higher priority",
            from(BELOW, 101),
            not_running("backup down", "backup down", "backup 2.75s: active>backup outranked"),
        ),
        (
            "same priority, higher address",
            from(ABOVE, 100),
            not_running("backup down", "backup down", "backup 2.75s: active>backup outranked"),
        ),
        (
            "same priority, lower address",
            from(BELOW, 100),
            not_running("backup down", "backup down", "active interval: announce contested, send 100"),
        ),
        (
            "lower priority",
            from(ABOVE, 99),
            not_running("backup =", "backup down", "active interval: announce contested, send 100"),
        ),
        (
            "the owner of the address",
            from(BELOW, 255),
            not_running("backup down", "backup down", "backup 2.75s: active>backup outranked"),
        ),
        (
            "release",
            from(ABOVE, 0),
            not_running("backup skew", "backup skew", "active interval: announce release_heard, send 100"),
        ),
        (
            "the longest interval",
            other(ABOVE, Advert { interval: Centis::MAX, ..advert(101) }),
            not_running(
                "backup down: mismatch_interval",
                "backup down: mismatch_interval",
                "backup 2.75s: mismatch_interval, active>backup outranked",
            ),
        ),
        (
            "the shortest interval",
            other(ABOVE, Advert { interval: Centis::MIN, ..advert(101) }),
            not_running(
                "backup down: mismatch_interval",
                "backup down: mismatch_interval",
                "backup 2.75s: mismatch_interval, active>backup outranked",
            ),
        ),
        (
            "other addresses",
            other(ABOVE, Advert { addresses: Addresses::new([STRANGER]).unwrap(), ..advert(101) }),
            not_running(
                "backup down: mismatch_addresses",
                "backup down: mismatch_addresses",
                "backup 2.75s: mismatch_addresses, active>backup outranked",
            ),
        ),
        (
            "across a router",
            Input::Advert(ABOVE, 254, advert(200)),
            not_running("backup =: rejected ttl", "backup =: rejected ttl", "active =: rejected ttl"),
        ),
        (
            "another virtual router",
            other(ABOVE, Advert { vrid: Vrid::new(52).unwrap(), ..advert(200) }),
            not_running("backup =: rejected vrid", "backup =: rejected vrid", "active =: rejected vrid"),
        ),
        (
            "our own address",
            from(OWN, 200),
            not_running(
                "backup =: rejected own_address",
                "backup =: rejected own_address",
                "active =: rejected own_address",
            ),
        ),
        (
            "an impossible source",
            from(Ipv4Addr::BROADCAST.into(), 200),
            not_running("backup =: rejected source", "backup =: rejected source", "active =: rejected source"),
        ),
        (
            "a stranger",
            from(STRANGER, 200),
            not_running("backup =: rejected not_peer", "backup =: rejected not_peer", "active =: rejected not_peer"),
        ),
        ("before the deadline", Early, ["initialize -", "fault -", "backup =", "backup =", "active ="]),
        (
            "at the deadline",
            Deadline(Duration::ZERO),
            [
                "initialize -",
                "fault -",
                "active interval: send 100, backup>active silence",
                "active interval: send 100, backup>active silence",
                "active interval: send 100",
            ],
        ),
        (
            "a little late",
            Deadline(ms(999)),
            [
                "initialize -",
                "fault -",
                "active interval: send 100, backup>active silence",
                "active interval: send 100, backup>active silence",
                "active interval: send 100",
            ],
        ),
        (
            "late by an interval",
            Deadline(SECOND),
            ["initialize -", "fault -", "backup 1.5s", "backup 1.5s", "active interval: send 100"],
        ),
        (
            "late by all that a peer must wait",
            Deadline(ms(2000)),
            ["initialize -", "fault -", "backup 1.5s", "backup 1.5s", "backup down: active>backup slept"],
        ),
        (
            "start",
            Input::Local(Local::Start),
            ["backup down: initialize>backup started", "fault -", "backup =", "backup =", "active ="],
        ),
        (
            "stop",
            Input::Local(Local::Stop),
            [
                "initialize -",
                "initialize -: fault>initialize stopped",
                "initialize -: backup>initialize stopped",
                "initialize -: backup>initialize stopped",
                "active interval: send 0",
            ],
        ),
        (
            "step down",
            Input::Local(Local::StepDown { hold: SECOND }),
            ["initialize -", "fault -", "backup =", "backup =", "active interval: send 0"],
        ),
        (
            "link up",
            Input::Local(Local::LinkUp),
            ["initialize -", "backup down: fault>backup cleared", "backup =", "backup =", "active ="],
        ),
        (
            "link down",
            Input::Local(Local::LinkDown),
            [
                "initialize -",
                "fault -",
                "fault -: backup>fault link_down",
                "fault -: backup>fault link_down",
                "fault -: active>fault link_down",
            ],
        ),
        (
            "cannot forward",
            Input::Local(Local::Fault(FaultReason::CannotForward)),
            [
                "initialize -",
                "fault -",
                "fault -: backup>fault cannot_forward",
                "fault -: backup>fault cannot_forward",
                "fault -: send 0, active>fault cannot_forward",
            ],
        ),
        (
            "can forward",
            Input::Local(Local::Cleared(FaultReason::CannotForward)),
            ["initialize -", "fault -", "backup =", "backup =", "active ="],
        ),
        (
            "address lost",
            Input::Local(Local::Fault(FaultReason::NoAddress)),
            [
                "initialize -",
                "fault -",
                "fault -: backup>fault no_address",
                "fault -: backup>fault no_address",
                "fault -: active>fault no_address",
            ],
        ),
        (
            "the same configuration",
            Reconfigure(|cfg| cfg),
            ["initialize -", "fault -", "backup =", "backup =", "active ="],
        ),
        (
            "configured without an address",
            Reconfigure(|cfg| Config { primary: None, ..cfg }),
            [
                "initialize -",
                "fault -",
                "fault -: backup>fault no_address",
                "fault -: backup>fault no_address",
                "fault -: active>fault no_address",
            ],
        ),
        (
            "another priority",
            Reconfigure(|cfg| Config { priority: Priority::new(228).unwrap(), ..cfg }),
            ["initialize -", "fault -", "backup 3.109375s", "backup 3.109375s", "active interval: send 228"],
        ),
        (
            "another interval",
            Reconfigure(|cfg| Config { advert_interval: Centis::new(200).unwrap(), ..cfg }),
            ["initialize -", "fault -", "backup 7.21875s", "backup 7.21875s", "active 2s: send 100"],
        ),
        (
            "preemption turned over",
            Reconfigure(|cfg| Config { preempt: !cfg.preempt, ..cfg }),
            ["initialize -", "fault -", "backup =", "backup =", "active interval: send 100"],
        ),
        (
            "other virtual addresses",
            Reconfigure(|cfg| Config { addresses: Addresses::new([STRANGER]).unwrap(), ..cfg }),
            [
                "initialize -",
                "fault -",
                "backup =",
                "backup =",
                "active interval: announce addresses_changed, send 100",
            ],
        ),
        (
            "another virtual router identifier",
            Reconfigure(|cfg| Config { vrid: Vrid::new(52).unwrap(), ..cfg }),
            [
                "initialize -",
                "fault -",
                "backup down",
                "backup down",
                "backup down: send 0, active>backup reconfigured",
            ],
        ),
    ]
}

#[test]
fn every_state_meets_every_input() {
    let now = origin();
    let mut wrong = Vec::new();
    let rows =
        [Family::V4, Family::V6].into_iter().flat_map(|family| table().into_iter().map(move |row| (family, row)));
    for (family, (name, input, expected)) in rows {
        for (instance, expected) in every_start(family, now).into_iter().zip(expected) {
            let start = format!("{family} {} preempt={}", instance.state().label(), instance.config().preempt);
            let found = outcome(instance, &input, now + ms(400));
            if found != expected {
                wrong.push(format!("{start}, {name}: expected {expected:?}, found {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Planned hand-overs: the addresses are held until somebody else has them.

use super::*;

const HOLD: Duration = Duration::from_secs(3600);

fn stepping_down(cfg: Config, now: Instant) -> Instance {
    let mut instance = active(cfg, now);
    instance.on_local(Local::StepDown { hold: HOLD }, now);
    assert_eq!(heard(&mut instance), "send 0");
    assert!(instance.is_leaving());
    instance
}

#[test]
fn who_stops_holds_on_until_another_claims() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_local(Local::Stop, now);
    assert_eq!(heard(&mut instance), "send 0");
    assert_eq!(instance.state(), State::Active);
    instance.on_local(Local::Stop, now + ms(1));
    instance.on_advert(BELOW, 255, &advert(0), now + ms(2), now + ms(2));
    instance.on_advert(STRANGER, 255, &advert(200), now + ms(3), now + ms(3));
    assert_eq!(heard(&mut instance), "rejected not_peer");
    assert_eq!(instance.state(), State::Active);
    instance.on_advert(BELOW, 255, &advert(1), now + ms(4), now + ms(4));
    assert_eq!(heard(&mut instance), "active>initialize stopped");
    assert_eq!(instance.deadline(), None);
}

#[test]
fn of_two_that_leave_at_once_one_holds_on() {
    let now = origin();
    for (other, expected) in [(BELOW, ""), (ABOVE, "active>initialize stopped")] {
        let mut instance = active(config(), now);
        instance.on_local(Local::Stop, now);
        drain(&mut instance);
        instance.on_advert(other, 255, &advert(0), now + ms(1), now + ms(1));
        assert_eq!(heard(&mut instance), expected);
    }
}

#[test]
fn alone_it_says_so_once_an_interval_and_goes_at_the_bound() {
    for (interval, bound) in [(10, ms(1000)), (100, DOWN), (4095, ms(4000))] {
        let now = origin();
        let cfg = Config { advert_interval: Centis::new(interval).unwrap(), ..config() };
        let mut instance = active(cfg.clone(), now);
        instance.on_local(Local::Stop, now);
        let mut releases = 0;
        let mut last = now;
        while let Some(deadline) = instance.deadline() {
            assert!(instance.lease_until() > Some(now));
            last = deadline;
            instance.on_deadline(deadline);
            releases += drain(&mut instance).iter().filter(|output| matches!(output, Output::Send(_))).count();
        }
        assert_eq!((instance.state(), last - now), (State::Initialize, bound), "{interval}");
        let expected = 1 + (bound - Duration::from_nanos(1)).as_millis() / cfg.advert_interval.duration().as_millis();
        assert_eq!(releases as u128, expected, "{interval}");
    }
}

#[test]
fn after_a_step_down_the_other_is_left_in_peace() {
    let now = origin();
    let mut instance = stepping_down(config(), now);
    let taken = now + ms(600);
    instance.on_advert(BELOW, 255, &advert(50), taken, taken);
    assert_eq!(heard(&mut instance), "active>backup stepped_down");
    assert_eq!((instance.active_router(), instance.lease_until()), (Some(BELOW), None));
    // It prefers itself and preempts, yet does not.
    let mut at = taken;
    while at < now + HOLD {
        at += SECOND;
        instance.on_advert(BELOW, 255, &advert(50), at, at);
        instance.on_deadline(at);
        assert_eq!(instance.state(), State::Backup);
    }
    at += SECOND;
    instance.on_advert(BELOW, 255, &advert(50), at, at);
    let deadline = instance.deadline().unwrap();
    instance.on_deadline(deadline);
    assert_eq!(heard(&mut instance), "send 100, backup>active preempted", "the hold is over");
}

#[test]
fn after_a_step_down_it_is_there_when_the_other_goes() {
    let now = origin();
    for (last_word, why) in [(0, "released"), (50, "silence")] {
        let mut instance = stepping_down(config(), now);
        instance.on_advert(BELOW, 255, &advert(50), now + ms(1), now + ms(1));
        instance.on_advert(BELOW, 255, &advert(last_word), now + ms(2), now + ms(2));
        drain(&mut instance);
        let deadline = instance.deadline().unwrap();
        instance.on_deadline(deadline);
        assert_eq!(heard(&mut instance), format!("send 100, backup>active {why}"));
    }
}

#[test]
fn who_finds_no_successor_keeps_the_addresses() {
    let now = origin();
    let mut instance = stepping_down(config(), now);
    while instance.is_leaving() {
        let deadline = instance.deadline().unwrap();
        instance.on_deadline(deadline);
    }
    assert_eq!(instance.state(), State::Active);
    assert_eq!(heard(&mut instance), "send 0, send 0, send 0, send 100");
    assert_eq!(instance.deadline(), Some(now + DOWN + SECOND));
}

#[test]
fn a_backup_told_to_step_down_promises_the_same() {
    let now = origin();
    let mut instance = backup(config(), now);
    instance.on_local(Local::StepDown { hold: HOLD }, now);
    for tick in 1..100 {
        let at = now + SECOND * tick;
        instance.on_advert(BELOW, 255, &advert(50), at, at);
        instance.on_deadline(at);
    }
    assert_eq!((instance.state(), heard(&mut instance)), (State::Backup, String::new()));
}

#[test]
fn who_is_told_to_step_down_in_fault_or_before_the_start_promises_the_same() {
    let now = origin();
    let owner = Config { priority: Priority::OWNER, ..config() };
    for (priority, cfg) in [("100", config()), ("255", owner)] {
        for fault in [true, false] {
            let mut instance = Instance::new(cfg.clone(), now);
            if fault {
                instance.on_local(Local::LinkDown, now);
                instance.on_local(Local::Start, now);
                assert_eq!(instance.state(), State::Fault);
            }
            instance.on_local(Local::StepDown { hold: HOLD }, now);
            drain(&mut instance);
            assert!(!instance.is_leaving());
            instance.on_local(if fault { Local::LinkUp } else { Local::Start }, now);
            assert_eq!(instance.state(), State::Backup, "even an owner");
            for tick in 1..100 {
                let at = now + SECOND * tick;
                instance.on_advert(BELOW, 255, &advert(50), at, at);
                instance.on_deadline(at);
            }
            assert_eq!(instance.state(), State::Backup);
            drain(&mut instance);
            // From nobody who lives: the silent one's addresses it takes, and has no promise to keep from then on.
            let deadline = instance.deadline().unwrap();
            instance.on_deadline(deadline);
            assert_eq!(heard(&mut instance), format!("send {priority}, backup>active silence"));
            instance.on_local(Local::LinkDown, deadline);
            instance.on_local(Local::LinkUp, deadline);
            instance.on_advert(BELOW, 255, &advert(50), deadline, deadline);
            while instance.state() == State::Backup {
                let deadline = instance.deadline().unwrap();
                instance.on_deadline(deadline);
            }
            assert_eq!(instance.state(), State::Active, "nothing is left of the hold");
        }
    }
}

#[test]
fn a_hold_outlives_a_fault() {
    let now = origin();
    let mut instance = backup(config(), now);
    instance.on_local(Local::StepDown { hold: HOLD }, now);
    for tick in 1..100 {
        let at = now + SECOND * tick;
        instance.on_local(if tick % 10 == 5 { Local::LinkDown } else { Local::LinkUp }, at);
        instance.on_advert(BELOW, 255, &advert(50), at, at);
        instance.on_deadline(at);
        assert_ne!(instance.state(), State::Active);
    }
    // Another virtual router has promised nothing.
    let at = now + SECOND * 100;
    instance.on_local(Local::Reconfigure(Config { vrid: Vrid::new(52).unwrap(), ..config() }), at);
    instance.on_advert(BELOW, 255, &Advert { vrid: Vrid::new(52).unwrap(), ..advert(50) }, at, at);
    let deadline = instance.deadline().unwrap();
    instance.on_deadline(deadline);
    assert_eq!(instance.state(), State::Active);
}

#[test]
fn what_happens_while_it_leaves() {
    let now = origin();
    let at = now + ms(400);
    for (name, then, input, expected) in [
        ("stop", Local::StepDown { hold: HOLD }, Input::Local(Local::Stop), "active leaving: "),
        ("step down", Local::Stop, Input::Local(Local::StepDown { hold: HOLD }), "active leaving: "),
        ("link down", Local::Stop, Input::Local(Local::LinkDown), "initialize: active>initialize stopped"),
        ("link down", Local::StepDown { hold: HOLD }, Input::Local(Local::LinkDown), "fault: active>fault link_down"),
        ("start", Local::Stop, Input::Local(Local::Start), "active leaving: "),
        (
            "other addresses",
            Local::Stop,
            Input::Reconfigure(|cfg| Config { addresses: Addresses::new([STRANGER]).unwrap(), ..cfg }),
            "active leaving: announce addresses_changed",
        ),
        (
            "another virtual router",
            Local::StepDown { hold: HOLD },
            Input::Reconfigure(|cfg| Config { vrid: Vrid::new(52).unwrap(), ..cfg }),
            "backup: active>backup reconfigured",
        ),
    ] {
        let mut instance = active(config(), now);
        instance.on_local(then.clone(), now);
        drain(&mut instance);
        apply(&mut instance, &input, at);
        let leaving = if instance.is_leaving() { " leaving" } else { "" };
        let found = format!("{}{leaving}: {}", instance.state().label(), heard(&mut instance));
        assert_eq!(found, expected, "{name} after {then:?}");
    }
    // A pause in the middle of it.
    for (then, expected) in
        [(Local::Stop, "active>initialize stopped"), (Local::StepDown { hold: HOLD }, "active>backup slept")]
    {
        let mut instance = active(config(), now);
        instance.on_local(then, now);
        drain(&mut instance);
        instance.on_deadline(now + DOWN);
        assert_eq!(heard(&mut instance), expected);
    }
}

#[test]
fn an_owner_claims_at_once_and_takes_what_is_its_own() {
    let now = origin();
    let owner = Config { priority: Priority::OWNER, preempt: false, preempt_delay: HOLD, ..config() };
    let mut instance = Instance::new(owner.clone(), now);
    instance.on_local(Local::Start, now);
    assert_eq!(heard(&mut instance), "send 255, initialize>active owner");
    instance.on_advert(ABOVE, 255, &advert(254), now, now);
    assert_eq!(instance.state(), State::Active);
    drain(&mut instance);
    // Paused, it listens first like everybody, and then takes them back.
    let woke = now + SECOND * 60;
    instance.on_deadline(woke);
    assert_eq!(heard(&mut instance), "active>backup slept");
    instance.on_advert(BELOW, 255, &advert(254), woke, woke);
    let deadline = instance.deadline().unwrap();
    instance.on_deadline(deadline);
    assert_eq!(heard(&mut instance), "send 255, backup>active preempted");
}

#[test]
fn a_lease_is_two_and_a_half_intervals_from_the_last_advert() {
    let now = origin();
    assert_eq!(backup(config(), now).lease_until(), None);
    let mut instance = active(config(), now);
    assert_eq!(instance.lease_until(), Some(now + ms(2500)));
    instance.on_deadline(now + SECOND);
    assert_eq!(instance.lease_until(), Some(now + ms(3500)));
    instance.on_advert(ABOVE, 255, &advert(101), now + ms(1100), now + ms(1100));
    assert_eq!(instance.lease_until(), None);
}

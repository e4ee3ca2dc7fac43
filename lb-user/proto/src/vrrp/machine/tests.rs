//! The whole transition table as data, the rules that a table cannot show, and sequences nobody thought of.

use proptest::prelude::*;

use super::*;
use crate::units::{Priority, Vrid};
use crate::wire::vrrp::Addresses;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
const BELOW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 19);
const ABOVE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 21);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const SECOND: Duration = Duration::from_secs(1);
/// 3 s + 156/256 s.
const DOWN: Duration = Duration::from_nanos(3_609_375_000);
const SKEW: Duration = Duration::from_nanos(609_375_000);

#[allow(
    clippy::disallowed_methods,
    reason = "an origin; only differences matter"
)]
fn origin() -> Instant {
    Instant::now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn config() -> Config {
    Config {
        vrid: Vrid::new(51).unwrap(),
        priority: Priority::new(100).unwrap(),
        advert_interval: Centis::new(100).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        primary: Some(OWN),
        addresses: Addresses::new([VIP]).unwrap(),
        peers: [BELOW, ABOVE].into(),
    }
}

fn advert(priority: u8) -> Advert {
    Advert {
        vrid: Vrid::new(51).unwrap(),
        priority: WirePriority::new(priority),
        interval: Centis::new(100).unwrap(),
        addresses: Addresses::new([VIP]).unwrap(),
    }
}

fn drain(instance: &mut Instance) -> Vec<Output> {
    std::iter::from_fn(|| instance.poll()).collect()
}

fn words(output: &Output) -> String {
    match output {
        Output::Send(transmit) => format!("send {}", transmit.advert.priority),
        Output::Entered { from, state, why } => {
            format!("{}>{} {}", from.label(), state.label(), why.label())
        }
        Output::Announce(why) => format!("announce {}", why.label()),
        Output::Rejected { fault, .. } => format!("rejected {}", fault.reason()),
        Output::Mismatch { mismatch, .. } => mismatch.reason().to_owned(),
    }
}

fn heard(instance: &mut Instance) -> String {
    drain(instance)
        .iter()
        .map(words)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A Backup that started at `now`.
fn backup(cfg: Config, now: Instant) -> Instance {
    let mut instance = Instance::new(cfg, now);
    instance.on_local(Local::Start, now);
    drain(&mut instance);
    assert_eq!(instance.state(), State::Backup);
    instance
}

/// An Active router that took over two seconds before `now` and sent its last advert at `now`.
fn active(cfg: Config, now: Instant) -> Instance {
    let taken = now - 2 * cfg.advert_interval.duration();
    let down = active_down_interval(cfg.priority, cfg.advert_interval);
    let mut instance = backup(cfg, taken - down);
    while let Some(deadline) = instance.deadline().filter(|deadline| *deadline <= now) {
        instance.on_deadline(deadline);
    }
    drain(&mut instance);
    assert_eq!(instance.state(), State::Active);
    instance
}

fn every_start(now: Instant) -> [Instance; 5] {
    let mut fault = Instance::new(config(), now);
    fault.on_local(Local::LinkDown, now);
    fault.on_local(Local::Start, now);
    drain(&mut fault);
    [
        Instance::new(config(), now),
        fault,
        backup(config(), now),
        backup(
            Config {
                preempt: false,
                ..config()
            },
            now,
        ),
        active(config(), now),
    ]
}

/// What is done to the machine, 400 ms after it was last heard of.
enum Input {
    Advert(Ipv4Addr, u8, Advert),
    Local(Local),
    /// Called this long after the deadline, or after now where there is none.
    Deadline(Duration),
    /// Called before the deadline.
    Early,
    Reconfigure(fn(Config) -> Config),
}

fn apply(instance: &mut Instance, input: &Input, now: Instant) -> Instant {
    match input {
        Input::Advert(src, ttl, advert) => instance.on_advert(*src, *ttl, advert, now),
        Input::Local(event) => instance.on_local(event.clone(), now),
        Input::Deadline(late) => {
            let at = instance.deadline().unwrap_or(now) + *late;
            instance.on_deadline(at);
            return at;
        }
        Input::Early => instance.on_deadline(now),
        Input::Reconfigure(change) => {
            let cfg = change(instance.config().clone());
            instance.on_local(Local::Reconfigure(cfg), now);
        }
    }
    now
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
    let not_running =
        |backup, nopreempt, active| [initialize_ignores, fault_ignores, backup, nopreempt, active];
    vec![
        (
            "higher priority",
            from(BELOW, 101),
            not_running(
                "backup down",
                "backup down",
                "backup down: active>backup outranked",
            ),
        ),
        (
            "same priority, higher address",
            from(ABOVE, 100),
            not_running(
                "backup down",
                "backup down",
                "backup down: active>backup outranked",
            ),
        ),
        (
            "same priority, lower address",
            from(BELOW, 100),
            not_running(
                "backup down",
                "backup down",
                "active interval: announce contested, send 100",
            ),
        ),
        (
            "lower priority",
            from(ABOVE, 99),
            not_running(
                "backup =",
                "backup down",
                "active interval: announce contested, send 100",
            ),
        ),
        (
            "the owner of the address",
            from(BELOW, 255),
            not_running(
                "backup down",
                "backup down",
                "backup down: active>backup outranked",
            ),
        ),
        (
            "release",
            from(ABOVE, 0),
            not_running(
                "backup skew",
                "backup skew",
                "active interval: announce release_heard, send 100",
            ),
        ),
        (
            "the longest interval",
            other(
                ABOVE,
                Advert {
                    interval: Centis::MAX,
                    ..advert(101)
                },
            ),
            not_running(
                "backup 14.4375s: mismatch_interval",
                "backup 14.4375s: mismatch_interval",
                "backup 14.4375s: mismatch_interval, active>backup outranked",
            ),
        ),
        (
            "the shortest interval",
            other(
                ABOVE,
                Advert {
                    interval: Centis::MIN,
                    ..advert(101)
                },
            ),
            not_running(
                "backup 902.34375ms: mismatch_interval",
                "backup 902.34375ms: mismatch_interval",
                "backup 902.34375ms: mismatch_interval, active>backup outranked",
            ),
        ),
        (
            "other addresses",
            other(
                ABOVE,
                Advert {
                    addresses: Addresses::new([STRANGER]).unwrap(),
                    ..advert(101)
                },
            ),
            not_running(
                "backup down: mismatch_addresses",
                "backup down: mismatch_addresses",
                "backup down: mismatch_addresses, active>backup outranked",
            ),
        ),
        (
            "across a router",
            Input::Advert(ABOVE, 254, advert(200)),
            not_running(
                "backup =: rejected ttl",
                "backup =: rejected ttl",
                "active =: rejected ttl",
            ),
        ),
        (
            "another virtual router",
            other(
                ABOVE,
                Advert {
                    vrid: Vrid::new(52).unwrap(),
                    ..advert(200)
                },
            ),
            not_running(
                "backup =: rejected vrid",
                "backup =: rejected vrid",
                "active =: rejected vrid",
            ),
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
            from(Ipv4Addr::BROADCAST, 200),
            not_running(
                "backup =: rejected source",
                "backup =: rejected source",
                "active =: rejected source",
            ),
        ),
        (
            "a stranger",
            from(STRANGER, 200),
            not_running(
                "backup =: rejected not_peer",
                "backup =: rejected not_peer",
                "active =: rejected not_peer",
            ),
        ),
        (
            "before the deadline",
            Early,
            [
                "initialize -",
                "fault -",
                "backup =",
                "backup =",
                "active =",
            ],
        ),
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
            [
                "initialize -",
                "fault -",
                "backup interval",
                "backup interval",
                "active interval: send 100",
            ],
        ),
        (
            "late by all a peer waits",
            Deadline(Duration::from_nanos(2_609_375_000)),
            [
                "initialize -",
                "fault -",
                "backup interval",
                "backup interval",
                "backup down: active>backup slept",
            ],
        ),
        (
            "start",
            Input::Local(Local::Start),
            [
                "backup down: initialize>backup started",
                "fault -",
                "backup =",
                "backup =",
                "active =",
            ],
        ),
        (
            "stop",
            Input::Local(Local::Stop),
            [
                "initialize -",
                "initialize -: fault>initialize stopped",
                "initialize -: backup>initialize stopped",
                "initialize -: backup>initialize stopped",
                "initialize -: send 0, active>initialize stopped",
            ],
        ),
        (
            "link up",
            Input::Local(Local::LinkUp),
            [
                "initialize -",
                "backup down: fault>backup cleared",
                "backup =",
                "backup =",
                "active =",
            ],
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
            [
                "initialize -",
                "fault -",
                "backup =",
                "backup =",
                "active =",
            ],
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
            [
                "initialize -",
                "fault -",
                "backup =",
                "backup =",
                "active =",
            ],
        ),
        (
            "configured without an address",
            Reconfigure(|cfg| Config {
                primary: None,
                ..cfg
            }),
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
            Reconfigure(|cfg| Config {
                priority: Priority::new(228).unwrap(),
                ..cfg
            }),
            [
                "initialize -",
                "fault -",
                "backup 3.109375s",
                "backup 3.109375s",
                "active interval: send 228",
            ],
        ),
        (
            "another interval",
            Reconfigure(|cfg| Config {
                advert_interval: Centis::new(200).unwrap(),
                ..cfg
            }),
            [
                "initialize -",
                "fault -",
                "backup 7.21875s",
                "backup 7.21875s",
                "active 2s: send 100",
            ],
        ),
        (
            "preemption turned over",
            Reconfigure(|cfg| Config {
                preempt: !cfg.preempt,
                ..cfg
            }),
            [
                "initialize -",
                "fault -",
                "backup =",
                "backup =",
                "active interval: send 100",
            ],
        ),
        (
            "other virtual addresses",
            Reconfigure(|cfg| Config {
                addresses: Addresses::new([STRANGER]).unwrap(),
                ..cfg
            }),
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
            Reconfigure(|cfg| Config {
                vrid: Vrid::new(52).unwrap(),
                ..cfg
            }),
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
    for (name, input, expected) in table() {
        for (instance, expected) in every_start(now).into_iter().zip(expected) {
            let start = format!(
                "{} preempt={}",
                instance.state().label(),
                instance.config().preempt
            );
            let found = outcome(instance, &input, now + ms(400));
            if found != expected {
                wrong.push(format!(
                    "{start}, {name}: expected {expected:?}, found {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_starts_as_active_and_the_wait_is_exact() {
    let now = origin();
    let mut instance = backup(
        Config {
            priority: Priority::MAX,
            ..config()
        },
        now,
    );
    let wait = SECOND * 3 + SECOND * 2 / 256;
    assert_eq!(instance.deadline(), Some(now + wait));
    instance.on_deadline(now + wait - Duration::from_nanos(1));
    assert_eq!(
        (instance.state(), heard(&mut instance)),
        (State::Backup, String::new())
    );
    instance.on_deadline(now + wait);
    assert_eq!(instance.state(), State::Active);
    assert_eq!(instance.since(), now + wait);
}

#[test]
fn an_advert_says_everything_the_driver_needs() {
    let now = origin();
    for (peers, destinations) in [
        (vec![], vec![Ipv4Addr::new(224, 0, 0, 18)]),
        (vec![BELOW, ABOVE], vec![BELOW, ABOVE]),
    ] {
        let mut instance = active(
            Config {
                peers: peers.into(),
                ..config()
            },
            now,
        );
        instance.on_deadline(now + SECOND);
        let sent = drain(&mut instance);
        let [Output::Send(transmit)] = sent.as_slice() else {
            panic!("{sent:?}")
        };
        assert_eq!(transmit.src, OWN);
        assert_eq!(transmit.destinations(), destinations);
        assert_eq!(transmit.advert, advert(100));
    }
}

#[test]
fn by_multicast_every_neighbour_counts() {
    let now = origin();
    let mut instance = active(
        Config {
            peers: [].into(),
            ..config()
        },
        now,
    );
    instance.on_advert(STRANGER, 255, &advert(101), now);
    assert_eq!(heard(&mut instance), "active>backup outranked");
    assert_eq!(instance.active_router(), Some(STRANGER));
    assert_eq!(
        instance.why(),
        Why::Outranked {
            by: STRANGER,
            priority: WirePriority::new(101)
        }
    );
}

#[test]
fn a_release_counts_from_the_router_that_holds_the_addresses() {
    let now = origin();
    let mut instance = backup(config(), now);
    instance.on_advert(ABOVE, 255, &advert(150), now);
    instance.on_advert(BELOW, 255, &advert(0), now + ms(100));
    assert_eq!(
        instance.deadline(),
        Some(now + DOWN),
        "a release by another router"
    );
    instance.on_advert(ABOVE, 255, &advert(0), now + ms(200));
    assert_eq!(instance.deadline(), Some(now + ms(200) + SKEW));
    assert_eq!(instance.active_router(), None);
    instance.on_advert(ABOVE, 255, &advert(0), now + ms(500));
    assert_eq!(
        instance.deadline(),
        Some(now + ms(200) + SKEW),
        "a second copy delays nothing"
    );
    instance.on_deadline(now + ms(200) + SKEW);
    assert_eq!(heard(&mut instance), "send 100, backup>active released");
}

#[test]
fn preemption_discards_lower_priorities_and_then_takes_over() {
    let now = origin();
    let mut instance = backup(config(), now);
    for tick in 1..=3 {
        instance.on_advert(ABOVE, 255, &advert(50), now + SECOND * tick);
        assert_eq!(instance.deadline(), Some(now + DOWN));
    }
    instance.on_deadline(now + DOWN);
    assert_eq!(heard(&mut instance), "send 100, backup>active preempted");
}

#[test]
fn preemption_waits_for_its_delay_from_the_first_lower_advert() {
    let now = origin();
    let mut instance = backup(
        Config {
            preempt_delay: ms(5000),
            ..config()
        },
        now,
    );
    for tick in 1..=5 {
        let at = now + SECOND * tick;
        instance.on_advert(ABOVE, 255, &advert(50), at);
        assert_eq!(instance.deadline(), Some(at + DOWN), "second {tick}");
    }
    // A router with a better claim in between: the delay counts anew.
    instance.on_advert(BELOW, 255, &advert(120), now + ms(5500));
    for tick in 6..=10 {
        let at = now + SECOND * tick;
        instance.on_advert(ABOVE, 255, &advert(50), at);
        assert_eq!(instance.deadline(), Some(at + DOWN), "second {tick}");
    }
    instance.on_advert(ABOVE, 255, &advert(50), now + SECOND * 11);
    assert_eq!(
        instance.deadline(),
        Some(now + SECOND * 10 + DOWN),
        "the delay is over"
    );
}

#[test]
fn without_preemption_the_holder_stays_however_low() {
    let now = origin();
    let mut instance = backup(
        Config {
            preempt: false,
            ..config()
        },
        now,
    );
    for tick in 1..1000 {
        instance.on_advert(ABOVE, 255, &advert(1), now + SECOND * tick);
        instance.on_deadline(now + SECOND * tick + ms(999));
    }
    assert_eq!(
        (instance.state(), heard(&mut instance)),
        (State::Backup, String::new())
    );
}

#[test]
fn one_forged_interval_is_forgotten_with_the_next_advert() {
    let now = origin();
    let mut instance = backup(config(), now);
    let forged = Advert {
        interval: Centis::MAX,
        ..advert(255)
    };
    instance.on_advert(ABOVE, 255, &forged, now);
    assert_eq!(instance.deadline(), Some(now + 4 * DOWN));
    instance.on_advert(ABOVE, 255, &advert(150), now + SECOND);
    assert_eq!(instance.deadline(), Some(now + SECOND + DOWN));
}

#[test]
fn a_flood_of_lesser_claims_is_answered_at_a_pace() {
    let now = origin();
    let mut instance = active(config(), now);
    let (mut sent, mut announced) = (0, 0);
    for step in 1..=10_000 {
        let at = now + ms(step);
        instance.on_advert(BELOW, 255, &advert(50), at);
        instance.on_deadline(at);
        for output in drain(&mut instance) {
            match output {
                Output::Send(_) => sent += 1,
                Output::Announce(Announcement::Contested) => announced += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(sent, 40, "four per interval for ten seconds");
    assert_eq!(announced, 10, "one per second");
}

#[test]
fn an_answer_too_soon_is_postponed_not_lost() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_advert(BELOW, 255, &advert(50), now + ms(10));
    assert_eq!(heard(&mut instance), "announce contested");
    assert_eq!(instance.deadline(), Some(now + ms(250)));
    instance.on_deadline(now + ms(250));
    assert_eq!(heard(&mut instance), "send 100");
    assert_eq!(instance.deadline(), Some(now + ms(1250)));
}

#[test]
fn who_slept_listens_whatever_wakes_it() {
    let now = origin();
    let woke = now + DOWN;
    for (name, input, expected) in [
        ("the deadline", Input::Early, "active>backup slept"),
        (
            "the successor's advert",
            Input::Advert(ABOVE, 255, advert(50)),
            "active>backup slept",
        ),
        (
            "a change of configuration",
            Input::Reconfigure(|cfg| Config {
                preempt: false,
                ..cfg
            }),
            "active>backup slept",
        ),
        (
            "the order to stop",
            Input::Local(Local::Stop),
            "active>backup slept, backup>initialize stopped",
        ),
    ] {
        let mut instance = active(
            Config {
                preempt: false,
                ..config()
            },
            now,
        );
        apply(&mut instance, &input, woke);
        assert_eq!(heard(&mut instance), expected, "{name}");
    }
    let mut instance = active(config(), now);
    instance.on_deadline(woke - Duration::from_nanos(1));
    assert_eq!(
        heard(&mut instance),
        "send 100",
        "not long enough to be given up by anybody"
    );
}

#[test]
fn a_lone_router_that_slept_takes_its_addresses_back() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_deadline(now + SECOND * 60);
    assert_eq!(heard(&mut instance), "active>backup slept");
    instance.on_deadline(now + SECOND * 60 + DOWN);
    assert_eq!(heard(&mut instance), "send 100, backup>active silence");
}

#[test]
fn a_backup_that_slept_reads_its_queue_first_and_believes_silence_the_second_time() {
    let now = origin();
    let late = now + DOWN + SECOND;
    let mut instance = backup(config(), now);
    instance.on_deadline(late);
    assert_eq!(instance.deadline(), Some(late + SECOND));
    let mut other = backup(config(), now);
    other.on_deadline(late);
    other.on_advert(ABOVE, 255, &advert(150), late);
    assert_eq!(other.deadline(), Some(late + DOWN), "the advert was queued");

    instance.on_deadline(late + SECOND * 5);
    assert_eq!(
        heard(&mut instance),
        "send 100, backup>active silence",
        "late again, and nobody spoke"
    );
}

#[test]
fn several_faults_end_one_by_one() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_local(Local::Fault(FaultReason::CannotForward), now);
    assert_eq!(instance.why(), Why::Fault(FaultReason::CannotForward));
    instance.on_local(Local::LinkDown, now);
    assert_eq!(
        instance.why(),
        Why::Fault(FaultReason::LinkDown),
        "the more telling one"
    );
    instance.on_local(
        Local::Reconfigure(Config {
            primary: None,
            ..config()
        }),
        now,
    );
    drain(&mut instance);
    instance.on_local(Local::LinkUp, now);
    assert_eq!(instance.why(), Why::Fault(FaultReason::NoAddress));
    instance.on_local(Local::Reconfigure(config()), now);
    assert_eq!(instance.why(), Why::Fault(FaultReason::CannotForward));
    assert_eq!(heard(&mut instance), "");
    instance.on_local(Local::Cleared(FaultReason::CannotForward), now);
    assert_eq!(heard(&mut instance), "fault>backup cleared");
}

#[test]
fn faults_known_before_the_start_hold_it_back() {
    let now = origin();
    let mut instance = Instance::new(
        Config {
            primary: None,
            ..config()
        },
        now,
    );
    instance.on_local(Local::Start, now);
    assert_eq!(heard(&mut instance), "initialize>fault no_address");
    assert_eq!(instance.deadline(), None);
    instance.on_local(Local::Reconfigure(config()), now);
    assert_eq!(heard(&mut instance), "fault>backup cleared");
}

#[test]
fn a_release_names_the_virtual_router_it_gives_up() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_local(
        Local::Reconfigure(Config {
            vrid: Vrid::new(52).unwrap(),
            ..config()
        }),
        now,
    );
    let Some(Output::Send(transmit)) = instance.poll() else {
        panic!("no release")
    };
    assert_eq!(
        (transmit.advert.vrid, transmit.advert.priority),
        (Vrid::new(51).unwrap(), WirePriority::RELEASE)
    );
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    Deadline,
    Advert {
        src: u8,
        ttl: u8,
        vrid: u8,
        priority: u8,
        interval: u16,
        vips: u8,
    },
    Local(Local),
}

fn any_config() -> impl Strategy<Value = Config> {
    (
        1..=2u8,
        1..=254u8,
        prop_oneof![1..=4095u16, Just(100)],
        any::<bool>(),
        0..5000u64,
        0..4u8,
        any::<bool>(),
    )
        .prop_map(
            |(vrid, priority, interval, preempt, delay, host, unicast)| Config {
                vrid: Vrid::new(vrid).unwrap(),
                priority: Priority::new(priority).unwrap(),
                advert_interval: Centis::new(interval).unwrap(),
                preempt,
                preempt_delay: ms(delay),
                primary: (host > 0).then(|| Ipv4Addr::new(192, 0, 2, host)),
                addresses: Addresses::new([VIP]).unwrap(),
                peers: if unicast {
                    [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3)].into()
                } else {
                    [].into()
                },
            },
        )
}

fn any_step() -> impl Strategy<Value = Step> {
    let fault = prop::sample::select(FaultReason::ALL.to_vec());
    let local = prop_oneof![
        4 => Just(Local::Start),
        1 => Just(Local::Stop),
        1 => Just(Local::LinkUp),
        1 => Just(Local::LinkDown),
        1 => fault.clone().prop_map(Local::Fault),
        2 => fault.prop_map(Local::Cleared),
        1 => any_config().prop_map(Local::Reconfigure),
    ];
    let advert = (
        0..5u8,
        prop_oneof![9 => Just(255), 1 => any::<u8>()],
        1..=2u8,
        prop_oneof![1 => Just(0), 1 => Just(255), 6 => any::<u8>()],
        1..=4095u16,
        1..4u8,
    );
    prop_oneof![
        3 => (0..5_000_000u32).prop_map(Step::Wait),
        6 => Just(Step::Deadline),
        4 => advert.prop_map(|(src, ttl, vrid, priority, interval, vips)| Step::Advert { src, ttl, vrid, priority, interval, vips }),
        3 => local.prop_map(Step::Local),
    ]
}

fn check(instance: &Instance, now: Instant) -> Result<(), TestCaseError> {
    let running = matches!(instance.state(), State::Backup | State::Active);
    prop_assert_eq!(instance.deadline().is_some(), running);
    if let Some(deadline) = instance.deadline() {
        let longest = 4 * active_down_interval(Priority::MIN, Centis::MAX);
        prop_assert!(
            deadline.saturating_duration_since(now) <= longest,
            "no deadline beyond reach"
        );
    }
    prop_assert!(instance.state() != State::Active || instance.config().primary.is_some());
    prop_assert!(instance.since() <= now);
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_keeps_its_promises(cfg in any_config(), steps in prop::collection::vec(any_step(), 0..120)) {
        let mut now = origin();
        let mut instance = Instance::new(cfg, now);
        let mut state = State::Initialize;
        for step in steps {
            let before = instance.deadline();
            match step {
                Step::Wait(micros) => {
                    now += Duration::from_micros(micros.into());
                    if before.is_some_and(|deadline| now < deadline) {
                        instance.on_deadline(now);
                        prop_assert_eq!(instance.deadline(), before, "early calls do nothing");
                        prop_assert_eq!(instance.poll(), None);
                    }
                }
                Step::Deadline => {
                    now = now.max(before.unwrap_or(now));
                    instance.on_deadline(now);
                    prop_assert!(instance.deadline().is_none_or(|deadline| deadline > now), "a deadline served is over");
                }
                Step::Advert { src, ttl, vrid, priority, interval, vips } => {
                    let advert = Advert {
                        vrid: Vrid::new(vrid).unwrap(),
                        priority: WirePriority::new(priority),
                        interval: Centis::new(interval).unwrap(),
                        addresses: Addresses::new(vec![VIP; vips.into()]).unwrap(),
                    };
                    instance.on_advert(Ipv4Addr::new(192, 0, 2, src), ttl, &advert, now);
                }
                Step::Local(event) => {
                    instance.on_local(event.clone(), now);
                    let (after, outputs) = (instance.deadline(), drain(&mut instance));
                    for output in &outputs {
                        if let Output::Entered { from, state: to, .. } = output {
                            prop_assert_eq!(*from, state);
                            state = *to;
                        }
                    }
                    instance.on_local(event, now);
                    prop_assert_eq!(instance.deadline(), after, "said twice, done once");
                    prop_assert_eq!(instance.poll(), None);
                }
            }
            for output in drain(&mut instance) {
                if let Output::Entered { from, state: to, .. } = output {
                    prop_assert_eq!(from, state, "no transition goes unreported");
                    state = to;
                }
            }
            prop_assert_eq!(state, instance.state());
            check(&instance, now)?;
        }
    }

    #[test]
    fn nothing_heard_ends_in_active(cfg in any_config(), steps in prop::collection::vec(any_step(), 0..40)) {
        let mut now = origin();
        let mut instance = Instance::new(cfg.clone(), now);
        for step in steps {
            if let Step::Local(event) = step {
                now += ms(1);
                instance.on_local(event, now);
            }
        }
        for reason in FaultReason::ALL {
            instance.on_local(Local::Cleared(reason), now);
        }
        instance.on_local(Local::Reconfigure(Config { primary: Some(OWN), ..cfg }), now);
        instance.on_local(Local::Start, now);
        for _ in 0..3 {
            let Some(deadline) = instance.deadline() else { break };
            instance.on_deadline(deadline);
        }
        prop_assert_eq!(instance.state(), State::Active);
    }
}

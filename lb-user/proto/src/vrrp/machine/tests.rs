//! The rules one by one; `table` has every state with every input, `sequences` what nobody thought of.

mod continuing;
mod handover;
mod learning;
mod sequences;
mod table;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::family::Family;
use crate::units::{Priority, Version, Vrid};
use crate::wire::vrrp::Addresses;

const OWN: IpAddr = host(20);
const BELOW: IpAddr = host(19);
const ABOVE: IpAddr = host(21);
const STRANGER: IpAddr = host(99);
const VIP: IpAddr = host(100);
const SECOND: Duration = Duration::from_secs(1);
/// 3 s + 156/256 s.
const DOWN: Duration = Duration::from_nanos(3_609_375_000);
const SKEW: Duration = Duration::from_nanos(609_375_000);

const fn host(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

/// The same host over IPv6, so that everything written for IPv4 can be said of both; broadcast becomes multicast. What is IPv6
/// already stays.
fn over_ipv6(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => crate::wire::ipv6::ALL_NODES.into(),
        IpAddr::V4(address) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, address.octets()[3].into()).into(),
        IpAddr::V6(_) => address,
    }
}

fn addresses_over(family: Family, addresses: &Addresses) -> Addresses {
    match family {
        Family::V4 => addresses.clone(),
        Family::V6 => Addresses::new(addresses.as_slice().iter().copied().map(over_ipv6)).unwrap(),
    }
}

fn config_over(family: Family, cfg: Config) -> Config {
    let address = |address| if family == Family::V6 { over_ipv6(address) } else { address };
    Config {
        primary: cfg.primary.map(address),
        addresses: addresses_over(family, &cfg.addresses),
        peers: cfg.peers.iter().copied().map(address).collect(),
        ..cfg
    }
}

#[allow(clippy::disallowed_methods, reason = "an origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

const fn ms(millis: u64) -> Duration {
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
        version: Version::V3,
        authenticated: false,
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
    drain(instance).iter().map(words).collect::<Vec<_>>().join(", ")
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
    let down = cfg.down(cfg.advert_interval);
    let mut instance = backup(cfg, taken - down);
    while let Some(deadline) = instance.deadline().filter(|deadline| *deadline <= now) {
        instance.on_deadline(deadline);
    }
    drain(&mut instance);
    assert_eq!(instance.state(), State::Active);
    instance
}

/// What is done to the machine, 400 ms after it was last heard of.
enum Input {
    Advert(IpAddr, u8, Advert),
    Local(Local),
    /// Called this long after the deadline, or after now where there is none.
    Deadline(Duration),
    /// Called before the deadline.
    Early,
    Reconfigure(fn(Config) -> Config),
}

/// In the family of the instance.
fn apply(instance: &mut Instance, input: &Input, now: Instant) -> Instant {
    let family = instance.config().family();
    match input {
        Input::Advert(src, ttl, advert) => {
            let src = if family == Family::V6 { over_ipv6(*src) } else { *src };
            let advert = Advert { addresses: addresses_over(family, &advert.addresses), ..advert.clone() };
            instance.on_advert(src, *ttl, &advert, now, now);
        }
        Input::Local(event) => instance.on_local(event.clone(), now),
        Input::Deadline(late) => {
            let at = instance.deadline().unwrap_or(now) + *late;
            instance.on_deadline(at);
            return at;
        }
        Input::Early => instance.on_deadline(now),
        Input::Reconfigure(change) => {
            let cfg = change(instance.config().clone());
            instance.on_local(Local::Reconfigure(config_over(family, cfg)), now);
        }
    }
    now
}

#[test]
fn nobody_starts_as_active_and_the_wait_is_exact() {
    let now = origin();
    let mut instance = backup(Config { priority: Priority::MAX, ..config() }, now);
    let wait = SECOND * 3 + SECOND * 2 / 256;
    assert_eq!(instance.deadline(), Some(now + wait));
    instance.on_deadline(now + wait - Duration::from_nanos(1));
    assert_eq!((instance.state(), heard(&mut instance)), (State::Backup, String::new()));
    instance.on_deadline(now + wait);
    assert_eq!(instance.state(), State::Active);
    assert_eq!(instance.since(), now + wait);
}

#[test]
fn an_advert_says_everything_the_driver_needs() {
    let now = origin();
    let group = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));
    for (peers, destinations) in [(vec![], vec![group]), (vec![BELOW, ABOVE], vec![BELOW, ABOVE])] {
        let mut instance = active(Config { peers: peers.into(), ..config() }, now);
        instance.on_deadline(now + SECOND);
        let sent = drain(&mut instance);
        let [Output::Send(transmit)] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!(transmit.src, OWN);
        assert_eq!(transmit.destinations(), destinations);
        assert_eq!(transmit.advert, advert(100));
    }
}

#[test]
fn by_multicast_every_neighbour_counts() {
    let now = origin();
    let mut instance = active(Config { peers: [].into(), ..config() }, now);
    instance.on_advert(STRANGER, 255, &advert(101), now, now);
    assert_eq!(heard(&mut instance), "active>backup outranked");
    assert_eq!(instance.active_router(), Some(STRANGER));
    assert_eq!(instance.why(), Why::Outranked { by: STRANGER, priority: WirePriority::new(101) });
}

#[test]
fn a_release_may_be_the_first_that_is_heard() {
    let now = origin();
    let mut instance = backup(config(), now);
    assert!(!instance.is_released());
    // Whoever had the addresses answers for them until another router claims them.
    instance.on_local(Local::Occupied(true), now);
    instance.on_advert(ABOVE, 255, &advert(0), now + ms(10), now + ms(10));
    assert!(instance.is_released());
    instance.on_local(Local::Occupied(false), now + ms(10));
    instance.on_deadline(now + ms(10) + SKEW);
    assert_eq!(heard(&mut instance), "send 100, backup>active released");
}

#[test]
fn a_release_counts_from_the_router_that_holds_the_addresses() {
    let now = origin();
    let mut instance = backup(config(), now);
    instance.on_advert(ABOVE, 255, &advert(150), now, now);
    instance.on_advert(BELOW, 255, &advert(0), now + ms(100), now + ms(100));
    assert_eq!(instance.deadline(), Some(now + DOWN), "a release by another router");
    instance.on_advert(ABOVE, 255, &advert(0), now + ms(200), now + ms(200));
    assert_eq!(instance.deadline(), Some(now + ms(200) + SKEW));
    assert_eq!((instance.active_router(), instance.is_released()), (None, true));
    instance.on_advert(ABOVE, 255, &advert(0), now + ms(500), now + ms(500));
    assert_eq!(instance.deadline(), Some(now + ms(200) + SKEW), "a second copy delays nothing");
    instance.on_deadline(now + ms(200) + SKEW);
    assert_eq!(heard(&mut instance), "send 100, backup>active released");
}

#[test]
fn preemption_discards_lower_priorities_and_then_takes_over() {
    let now = origin();
    let mut instance = backup(config(), now);
    for tick in 1..=3 {
        instance.on_advert(ABOVE, 255, &advert(50), now + SECOND * tick, now + SECOND * tick);
        assert_eq!(instance.deadline(), Some(now + DOWN));
    }
    instance.on_deadline(now + DOWN);
    assert_eq!(heard(&mut instance), "send 100, backup>active preempted");
}

#[test]
fn preemption_waits_for_its_delay_from_the_first_lower_advert() {
    let now = origin();
    let mut instance = backup(Config { preempt_delay: ms(5000), ..config() }, now);
    for tick in 1..=5 {
        let at = now + SECOND * tick;
        instance.on_advert(ABOVE, 255, &advert(50), at, at);
        assert_eq!(instance.deadline(), Some(at + DOWN), "second {tick}");
    }
    // A router with a better claim in between: the delay counts anew.
    instance.on_advert(BELOW, 255, &advert(120), now + ms(5500), now + ms(5500));
    for tick in 6..=10 {
        let at = now + SECOND * tick;
        instance.on_advert(ABOVE, 255, &advert(50), at, at);
        assert_eq!(instance.deadline(), Some(at + DOWN), "second {tick}");
    }
    instance.on_advert(ABOVE, 255, &advert(50), now + SECOND * 11, now + SECOND * 11);
    assert_eq!(instance.deadline(), Some(now + SECOND * 10 + DOWN), "the delay is over");
}

#[test]
fn without_preemption_the_holder_stays_however_low() {
    let now = origin();
    let mut instance = backup(Config { preempt: false, ..config() }, now);
    for tick in 1..1000 {
        instance.on_advert(ABOVE, 255, &advert(1), now + SECOND * tick, now + SECOND * tick);
        instance.on_deadline(now + SECOND * tick + ms(999));
    }
    assert_eq!((instance.state(), heard(&mut instance)), (State::Backup, String::new()));
}

#[test]
fn a_flood_of_lesser_claims_is_answered_at_a_pace() {
    let now = origin();
    let mut instance = active(config(), now);
    let (mut sent, mut announced) = (0, 0);
    for step in 1..=10_000 {
        let at = now + ms(step);
        instance.on_advert(BELOW, 255, &advert(50), at, at);
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
    instance.on_advert(BELOW, 255, &advert(50), now + ms(10), now + ms(10));
    assert_eq!(heard(&mut instance), "announce contested");
    assert_eq!(instance.deadline(), Some(now + ms(250)));
    instance.on_deadline(now + ms(250));
    assert_eq!(heard(&mut instance), "send 100");
    assert_eq!(instance.deadline(), Some(now + ms(1250)));
}

#[test]
fn who_slept_listens_whatever_wakes_it() {
    let now = origin();
    let woke = now + SECOND * 3;
    for (name, input, expected) in [
        ("the deadline", Input::Early, "active>backup slept"),
        ("the successor's advert", Input::Advert(ABOVE, 255, advert(50)), "active>backup slept"),
        (
            "a change of configuration",
            Input::Reconfigure(|cfg| Config { preempt: false, ..cfg }),
            "active>backup slept",
        ),
        ("the order to stop", Input::Local(Local::Stop), "active>backup slept, backup>initialize stopped"),
    ] {
        let mut instance = active(Config { preempt: false, ..config() }, now);
        apply(&mut instance, &input, woke);
        assert_eq!(heard(&mut instance), expected, "{name}");
    }
    let mut instance = active(config(), now);
    instance.on_deadline(now + SECOND * 3 - Duration::from_nanos(1));
    assert_eq!(heard(&mut instance), "send 100", "not long enough to be given up by anybody");
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
    assert_eq!(instance.deadline(), Some(late + ms(1500)));
    let mut other = backup(config(), now);
    other.on_deadline(late);
    other.on_advert(ABOVE, 255, &advert(150), late, late);
    assert_eq!(other.deadline(), Some(late + DOWN), "the advert was queued");

    instance.on_deadline(late + SECOND * 5);
    assert_eq!(heard(&mut instance), "send 100, backup>active silence", "late again, and nobody spoke");
}

#[test]
fn every_stretch_of_silence_has_its_own_excuse() {
    let now = origin();
    let mut instance = backup(config(), now);
    instance.on_deadline(now + DOWN + SECOND);
    let heard_at = now + DOWN + SECOND + ms(500);
    instance.on_advert(ABOVE, 255, &advert(150), heard_at, heard_at);
    instance.on_deadline(heard_at + DOWN + SECOND);
    assert_eq!(instance.state(), State::Backup, "an advert in between proved that somebody lived");
}

#[test]
fn several_faults_end_one_by_one() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_local(Local::Fault(FaultReason::CannotForward), now);
    assert_eq!(instance.why(), Why::Fault(FaultReason::CannotForward));
    instance.on_local(Local::LinkDown, now);
    assert_eq!(instance.why(), Why::Fault(FaultReason::LinkDown), "the more telling one");
    instance.on_local(Local::Reconfigure(Config { primary: None, ..config() }), now);
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
    let mut instance = Instance::new(Config { primary: None, ..config() }, now);
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
    instance.on_local(Local::Reconfigure(Config { vrid: Vrid::new(52).unwrap(), ..config() }), now);
    let Some(Output::Send(transmit)) = instance.poll() else { panic!("no release") };
    assert_eq!((transmit.advert.vrid, transmit.advert.priority), (Vrid::new(51).unwrap(), WirePriority::RELEASE));
}

#[test]
fn over_ipv6_the_group_and_the_claim_are_those_of_ipv6() {
    let now = origin();
    let cfg = Config { peers: [].into(), ..config_over(Family::V6, config()) };
    let mut instance = active(cfg.clone(), now);
    instance.on_deadline(now + SECOND);
    let sent = drain(&mut instance);
    let [Output::Send(transmit)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(transmit.src, over_ipv6(OWN));
    assert_eq!(transmit.destinations(), ["ff02::12".parse::<IpAddr>().unwrap()]);

    // As a number, and not as text: fe80::a is above fe80::9.
    let with = |host: u16| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host));
    let nine = Config { primary: Some(with(9)), ..cfg };
    for (host, state) in [(0xa, State::Backup), (8, State::Active)] {
        let mut instance = active(nine.clone(), now);
        let claim = Advert { addresses: nine.addresses.clone(), ..advert(100) };
        instance.on_advert(with(host), 255, &claim, now, now);
        assert_eq!(instance.state(), state, "{host:x}");
    }
}

#[test]
fn families_do_not_meet() {
    let now = origin();
    let six = config_over(Family::V6, config());
    for (cfg, stranger) in [(config(), over_ipv6(ABOVE)), (six.clone(), ABOVE)] {
        let mut instance = active(Config { peers: [].into(), ..cfg }, now);
        instance.on_advert(stranger, 255, &advert(200), now, now);
        assert_eq!(heard(&mut instance), "rejected source");
        assert_eq!(instance.state(), State::Active);
    }
    // A primary address of the other family is none.
    let mut instance = Instance::new(Config { primary: Some(OWN), ..six.clone() }, now);
    instance.on_local(Local::Start, now);
    assert_eq!(heard(&mut instance), "initialize>fault no_address");
    // The other family of a VRID is another virtual router.
    let mut instance = active(config(), now);
    instance.on_local(Local::Reconfigure(six), now);
    let said = drain(&mut instance);
    assert_eq!(said.iter().map(words).collect::<Vec<_>>(), ["send 0", "active>backup reconfigured"]);
    let Output::Send(release) = &said[0] else { panic!("{said:?}") };
    assert_eq!((release.src, release.advert.addresses.family()), (OWN, Family::V4), "the old one is released");
}

#[test]
fn addresses_that_somebody_has_are_not_claimed_until_nobody_does() {
    let now = origin();
    let mut instance = backup(config(), now);
    instance.on_local(Local::Occupied(true), now);
    instance.on_deadline(now + DOWN);
    assert_eq!((instance.state(), heard(&mut instance)), (State::Backup, String::new()));
    assert_eq!((instance.deadline(), instance.standing().part), (None, Part::Listening));
    assert!(!instance.waits_for_group());
    instance.on_local(Local::Occupied(false), now + DOWN * 2);
    assert_eq!(heard(&mut instance), "send 100, backup>active silence");

    // A router that is heard meanwhile is followed, and missed as ever.
    let mut instance = backup(config(), now);
    instance.on_local(Local::Occupied(true), now);
    instance.on_deadline(now + DOWN);
    instance.on_advert(ABOVE, 255, &advert(150), now + DOWN * 2, now + DOWN * 2);
    assert_eq!(instance.deadline(), Some(now + DOWN * 3));
    instance.on_local(Local::Occupied(false), now + DOWN * 2);
    assert_eq!((instance.state(), heard(&mut instance)), (State::Backup, String::new()));
    instance.on_deadline(now + DOWN * 3);
    assert_eq!(heard(&mut instance), "send 100, backup>active silence");

    // Who holds them already goes on, and who owns them asks nobody.
    let mut instance = active(config(), now);
    instance.on_local(Local::Occupied(true), now);
    assert_eq!((instance.state(), heard(&mut instance)), (State::Active, String::new()));
}

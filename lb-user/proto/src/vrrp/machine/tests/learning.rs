//! Intervals of others: believed as far as they were seen, or at once from who is authenticated.

use super::*;

/// How long one claim is believed.
const DOUBTED: Duration = ms(2750);

fn every(millis: u16, priority: u8) -> Advert {
    Advert { interval: Centis::new(millis / 10).unwrap(), ..advert(priority) }
}

/// How long after the last advert the timer runs out.
fn patience(instance: &Instance, heard: Instant) -> Duration {
    instance.deadline().unwrap() - heard
}

#[test]
fn a_forged_interval_lengthens_nothing_whether_said_once_or_a_thousand_times() {
    let now = origin();
    let forged = Advert { interval: Centis::MAX, ..advert(255) };
    for times in [1, 1000] {
        for (is_active, mut instance) in [(false, backup(config(), now)), (true, active(config(), now))] {
            let mut at = now;
            for _ in 0..times {
                at += Duration::from_micros(700);
                instance.on_advert(ABOVE, 255, &forged, at, at);
            }
            assert_eq!(instance.state(), State::Backup);
            // The last of many comes too late to be part of a burst.
            let expected = if is_active && times == 1 { DOUBTED } else { DOWN };
            assert_eq!(patience(&instance, at), expected, "{times} {is_active}");
        }
    }
}

#[test]
fn who_takes_the_addresses_by_one_burst_has_them_for_less_than_three_intervals() {
    let now = origin();
    for authenticated in [false, true] {
        let mut instance = active(Config { authenticated, ..config() }, now);
        for step in 0..100 {
            let at = now + ms(2) * step;
            instance.on_advert(ABOVE, 255, &advert(255), at, at);
        }
        if authenticated {
            assert_eq!(patience(&instance, now + ms(198)), DOWN, "nobody else could have sent it");
            continue;
        }
        assert_eq!(patience(&instance, now), DOUBTED);
        drain(&mut instance);
        instance.on_deadline(now + DOUBTED);
        assert_eq!(heard(&mut instance), "send 100, backup>active silence");
    }
    // A router goes on, and is believed.
    let mut instance = active(config(), now);
    for at in [now, now + SECOND] {
        instance.on_advert(ABOVE, 255, &advert(101), at, at);
    }
    assert_eq!(patience(&instance, now + SECOND), DOWN);
}

#[test]
fn forgeries_with_pauses_between_them_lengthen_nothing_before_the_third() {
    let now = origin();
    let mut instance = backup(config(), now);
    let forged = Advert { interval: Centis::MAX, ..advert(255) };
    let mut at = now;
    for round in 0..4 {
        for _ in 0..1000 {
            at += Duration::from_micros(100);
            instance.on_advert(ABOVE, 255, &forged, at, at);
        }
        assert_eq!(patience(&instance, at) == DOWN, round < 3, "{round}");
        at += ms(3900);
    }
}

#[test]
fn an_interval_is_believed_as_far_as_it_was_seen() {
    let now = origin();
    let mut instance = backup(config(), now);
    let mut at = now;
    for gap in [0, 1500, 2000] {
        at += ms(gap);
        instance.on_advert(ABOVE, 255, &every(3000, 150), at, at);
        assert_eq!(patience(&instance, at), DOWN);
    }
    at += ms(1500);
    instance.on_advert(ABOVE, 255, &every(3000, 150), at, at);
    assert_eq!(patience(&instance, at), 2 * DOWN, "two seconds were seen, and three times more than one");
    at += ms(3000);
    instance.on_advert(ABOVE, 255, &every(3000, 150), at, at);
    assert_eq!(patience(&instance, at), 3 * DOWN);
    // An answer to somebody in between does not take it back.
    at += ms(100);
    instance.on_advert(ABOVE, 255, &every(3000, 150), at, at);
    assert_eq!(patience(&instance, at), 3 * DOWN);
    at += ms(100);
    instance.on_advert(BELOW, 255, &every(3000, 150), at, at);
    assert_eq!(patience(&instance, at), DOWN, "of another router nothing is known");
}

#[test]
fn a_slower_router_is_learned_through_the_contests_it_causes() {
    let now = origin();
    let mut instance = backup(config(), now);
    let slow = every(4000, 150);
    let mut at = now;
    instance.on_advert(ABOVE, 255, &slow, at, at);
    for contest in 0..3 {
        at = instance.deadline().unwrap();
        instance.on_deadline(at);
        assert_eq!(instance.state(), State::Active, "contest {contest}");
        at += ms(1);
        instance.on_advert(ABOVE, 255, &slow, at, at);
        assert_eq!(instance.state(), State::Backup, "answered");
    }
    for _ in 0..10 {
        at += ms(4000);
        assert!(instance.deadline().unwrap() > at, "patient enough for the next one");
        instance.on_advert(ABOVE, 255, &slow, at, at);
    }
    assert_eq!(instance.state(), State::Backup);
}

#[test]
fn a_shorter_interval_needs_proofs_too() {
    let now = origin();
    let mut instance = backup(config(), now);
    let fast = every(250, 150);
    for tick in 0..=3 {
        let at = now + ms(250) * tick;
        instance.on_advert(ABOVE, 255, &fast, at, at);
        assert_eq!(patience(&instance, at), if tick < 3 { DOWN } else { DOWN / 4 }, "{tick}");
    }
}

#[test]
fn the_authenticated_are_believed_at_once_within_bounds() {
    let now = origin();
    let mut instance = backup(Config { authenticated: true, ..config() }, now);
    instance.on_advert(ABOVE, 255, &every(2000, 150), now, now);
    assert_eq!(patience(&instance, now), 2 * DOWN);
    instance.on_advert(ABOVE, 255, &Advert { interval: Centis::MAX, ..advert(150) }, now, now);
    assert_eq!(patience(&instance, now), 4 * DOWN);
    let faster = Config { advert_interval: Centis::new(10).unwrap(), ..instance.config().clone() };
    instance.on_local(Local::Reconfigure(faster), now);
    assert_eq!(patience(&instance, now), DOWN * 4 / 10, "four of the new intervals, not of the old");
}

#[test]
fn in_version_2_there_is_one_interval_and_the_skew_is_of_a_second() {
    let now = origin();
    let five = Config { version: Version::V2, advert_interval: Centis::new(500).unwrap(), ..config() };
    let mut instance = backup(five, now);
    let down = SECOND * 15 + SKEW;
    assert_eq!(patience(&instance, now), down);
    for at in [now, now + SECOND, now + SECOND * 2] {
        instance.on_advert(ABOVE, 255, &advert(150), at, at);
        assert_eq!(patience(&instance, at), down);
    }
    instance.on_advert(ABOVE, 255, &advert(0), now + SECOND * 3, now + SECOND * 3);
    assert_eq!(patience(&instance, now + SECOND * 3), SKEW);
}

#[test]
fn an_advert_counts_from_when_it_reached_the_host() {
    let now = origin();
    let mut instance = backup(config(), now);
    let (reached, read) = (now + ms(200), now + DOWN + ms(800));
    instance.on_advert(ABOVE, 255, &advert(150), reached, read);
    instance.on_deadline(read);
    assert_eq!(patience(&instance, read), ms(1500), "there may have been no room for what came last");
    instance.on_deadline(read + ms(1500));
    assert_eq!(instance.state(), State::Active, "it has been silent since");

    let mut instance = backup(config(), now);
    instance.on_advert(ABOVE, 255, &advert(150), read - ms(100), read);
    instance.on_deadline(read);
    assert_eq!((instance.state(), patience(&instance, read - ms(100))), (State::Backup, DOWN));
    // One that was lying there when it began to listen says nothing about now.
    let mut instance = backup(config(), now);
    instance.on_advert(ABOVE, 255, &advert(150), now - SECOND, now);
    assert_eq!(patience(&instance, now), DOWN);
}

#[test]
fn a_paused_active_router_says_nothing_to_what_it_finds_in_its_queue() {
    let now = origin();
    let woke = now + DOWN * 2;
    let mut instance = active(config(), now);
    // Heard when it could still have answered, read when it no longer may.
    instance.on_advert(BELOW, 255, &advert(50), now + ms(300), woke);
    assert_eq!(heard(&mut instance), "active>backup slept");
    assert_eq!(instance.lease_until(), None);
}

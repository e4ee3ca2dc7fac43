//! A process that goes and leaves the addresses to the next one of its node.

use super::*;

#[test]
fn who_continues_speaks_at_once_and_renews_its_lease() {
    let now = origin();
    let mut instance = Instance::new(config(), now);
    instance.on_local(Local::LinkUp, now);
    instance.on_local(Local::Continue, now);
    assert_eq!(heard(&mut instance), "send 100, initialize>active continued");
    assert!(instance.lease_until() > Some(now + 2 * SECOND));
    instance.on_local(Local::Continue, now + ms(1));
    instance.on_local(Local::Start, now + ms(1));
    assert_eq!(heard(&mut instance), "", "it has begun");
    instance.on_advert(BELOW, 255, &advert(200), now + ms(2), now + ms(2));
    assert_eq!(instance.state(), State::Backup, "who has a better claim has it still");
}

#[test]
fn what_could_not_begin_cannot_continue() {
    let now = origin();
    let mut instance = Instance::new(config(), now);
    instance.on_local(Local::LinkDown, now);
    instance.on_local(Local::Continue, now);
    assert_eq!(heard(&mut instance), "initialize>fault link_down");
    assert_eq!(instance.lease_until(), None);
}

#[test]
fn who_hands_over_advertises_once_more_and_releases_nothing() {
    let now = origin();
    let mut instance = active(config(), now);
    instance.on_local(Local::HandOver, now + ms(300));
    assert_eq!(heard(&mut instance), "send 100");
    assert_eq!(instance.lease_until(), Some(now + ms(300) + ms(2500)));
    let mut waiting = backup(config(), now);
    waiting.on_local(Local::HandOver, now);
    assert_eq!(heard(&mut waiting), "", "whoever has nothing has nothing to leave");
}

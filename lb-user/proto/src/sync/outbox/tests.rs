//! Batches, windows, what is sent again, and what becomes of too much.

use std::net::SocketAddr;

use super::*;
use crate::sync::codec::items;
use crate::sync::{Change, Key};

#[allow(clippy::disallowed_methods, reason = "any moment will do")]
fn start() -> Instant {
    Instant::now()
}

fn closed(n: u16) -> Item {
    let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
    Item::Change(Change::Closed(Key { client: at(n), listener: at(8443) }))
}

#[test]
fn changes_share_a_datagram_for_a_while() {
    let (now, mut outbox) = (start(), Outbox::default());
    outbox.push(&closed(7), now).unwrap();
    assert_eq!(outbox.next(0, now).map(|(chunk, _)| chunk), Some(1), "after a pause it goes at once");
    for n in 0..3 {
        assert_eq!(outbox.push(&closed(n), now + Duration::from_millis(n.into())), Ok(2));
    }
    assert_eq!(outbox.next(0, now + FLUSH_AFTER - Duration::from_micros(1)), None);
    assert_eq!(outbox.deadline(), Some(now + FLUSH_AFTER));
    let (chunk, bytes) = outbox.next(0, now + FLUSH_AFTER).unwrap();
    assert_eq!((chunk, items(bytes).unwrap().len()), (2, 3));
    assert_eq!(outbox.push(&closed(9), now), Ok(3));
}

#[test]
fn a_full_datagram_does_not_wait() {
    let (now, mut outbox) = (start(), Outbox::default());
    let numbers: Vec<_> = (0..200).map(|n| outbox.push(&closed(n), now).unwrap()).collect();
    assert_eq!(numbers.first(), Some(&1));
    assert_eq!(numbers.last(), Some(&2));
    let (chunk, bytes) = outbox.next(0, now).unwrap();
    assert!(bytes.len() <= ROOM && bytes.len() + 13 > ROOM);
    assert_eq!(chunk, 1);
    assert_eq!(outbox.next(1, now), None);
}

#[test]
fn what_does_not_arrive_is_sent_again() {
    let (now, mut outbox) = (start(), Outbox::default());
    for n in 0..8 {
        outbox.push(&closed(n), now).unwrap();
        outbox.push_part(Vec::new());
        assert_eq!(outbox.next(n.into(), now).unwrap().0, u64::from(n) + 1);
    }
    // 1 to 5 but 2 have arrived, and more than two after it.
    let mut lags = Vec::new();
    let receipt = Receipt { received: 1, beyond: 0b1110, asks: false };
    outbox.on_receipt(&receipt, now + Duration::from_millis(2), |lag| lags.push(lag));
    assert_eq!(lags, [Duration::from_millis(2); 4]);
    assert_eq!(outbox.next(8, now).unwrap().0, 2);
    assert_eq!(outbox.next(9, now), None);
    for (datagram, chunk) in [(9, 6), (10, 7), (11, 8)] {
        assert_eq!(outbox.next(datagram, now + REPEAT_AFTER).unwrap().0, chunk);
    }
    assert_eq!(outbox.next(12, now + REPEAT_AFTER), None);
    assert_eq!(outbox.width(), WINDOW / 2, "the window narrows when nothing comes back");
    assert_eq!(outbox.next(12, now + REPEAT_AFTER * 2).unwrap().0, 2);
    assert_eq!(outbox.deadline(), Some(now + REPEAT_AFTER * 3));
    outbox.on_receipt(&Receipt { received: 8, ..receipt }, now, |_| {});
    assert_eq!((outbox.backlog(), outbox.deadline()), (0, None));
    // A receipt of what was never sent means nothing.
    outbox.on_receipt(&Receipt { received: u64::MAX, ..receipt }, now, |_| {});
}

#[test]
fn too_much_is_forgotten_and_said_so() {
    let (now, mut outbox) = (start(), Outbox::default());
    let mut pushed = 0_u32;
    while outbox.push(&closed(pushed as u16), now).is_ok() {
        pushed += 1;
        while outbox.next(u64::from(pushed), now).is_some() {}
    }
    assert!(pushed as usize > (QUEUE + WINDOW) * (ROOM / 13 - 1));
    assert_eq!(outbox.under_way.len(), WINDOW);
    assert_eq!(outbox.push(&closed(1), now), Ok(WINDOW as u64 + 1), "the sequence has no gap");
}

//! Restarts, clocks that are set, recordings.

use super::*;

const HOUR: u64 = 3_600_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
/// Some day, in nanoseconds.
const TODAY: u64 = 1_800_000_000_000_000_000;

fn host(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

#[allow(clippy::disallowed_methods, reason = "an origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn fresh(wall: u64, now: Instant) -> Sequences {
    Sequences::new(Kept::default(), wall, now)
}

#[test]
fn numbers_grow_even_when_time_does_not() {
    let now = origin();
    let mut node = fresh(TODAY, now);
    let numbers: Vec<u64> = (0..5).map(|_| node.next(now)).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(node.next(now + SECOND), TODAY + 1_000_000_000);
}

#[test]
fn each_counts_once_and_in_order() {
    let now = origin();
    let (mut sender, mut receiver) = (fresh(TODAY, now), fresh(TODAY, now));
    let numbers: Vec<u64> = (0..10).map(|tick| sender.next(now + SECOND * tick)).collect();
    for number in &numbers {
        assert_eq!(receiver.accept(host(1), *number, now), Ok(()));
    }
    for number in &numbers {
        assert_eq!(receiver.accept(host(1), *number, now), Err(ReplayFault::Replayed));
    }
}

#[test]
fn a_restart_goes_on_whatever_the_wall_clock_says() {
    let now = origin();
    for step in [-(HOUR as i64), 0, HOUR as i64] {
        let (mut sender, mut receiver) = (fresh(TODAY, now), fresh(TODAY, now));
        receiver.accept(host(1), sender.next(now), now).unwrap();
        let kept = sender.to_keep(now).unwrap();
        let last = sender.next(now + SECOND);
        receiver.accept(host(1), last, now).unwrap();
        let mut again = Sequences::new(kept, TODAY.saturating_add_signed(step), now + SECOND * 2);
        assert_eq!(receiver.accept(host(1), again.next(now + SECOND * 2), now + SECOND * 2), Ok(()), "{step}");
    }
}

#[test]
fn a_recording_of_a_whole_life_is_none_of_now() {
    let now = origin();
    let mut sender = fresh(TODAY, now);
    let record: Vec<u64> = (0..1000).map(|tick| sender.next(now + SECOND * tick)).collect();
    let later = now + SECOND * 2000;
    // Who has heard it, lived on, or started again with what it kept.
    let mut receiver = fresh(TODAY, now);
    for number in &record {
        receiver.accept(host(1), *number, now).unwrap();
    }
    let kept = receiver.keep(later);
    // Who has lost that, and who was never there.
    let known = [receiver, Sequences::new(kept, 0, later)];
    let unknown = [fresh(TODAY + 2_000_000_000_000, later)];
    for mut node in known.into_iter().chain(unknown) {
        assert!(record.iter().all(|number| node.accept(host(1), *number, later).is_err()));
    }
}

#[test]
fn a_sender_far_behind_catches_up_with_the_first_word_of_the_other() {
    let now = origin();
    // The other remembers it; it has lost its file, and its wall clock was set back.
    let (mut sender, mut other) = (fresh(TODAY, now), fresh(TODAY, now));
    other.accept(host(1), sender.next(now), now).unwrap();
    let mut again = fresh(TODAY - HOUR, now);
    assert_eq!(other.accept(host(1), again.next(now), now), Err(ReplayFault::Replayed));
    again.accept(host(2), other.next(now), now).unwrap();
    assert_eq!(other.accept(host(1), again.next(now), now), Ok(()));

    // Nobody remembers anybody, and the wall clocks differ by an hour.
    let (mut slow, mut fast) = (fresh(TODAY - HOUR, now), fresh(TODAY, now));
    assert_eq!(fast.accept(host(1), slow.next(now), now), Err(ReplayFault::Stale));
    assert_eq!(slow.accept(host(2), fast.next(now), now), Ok(()));
    assert_eq!(fast.accept(host(1), slow.next(now), now), Ok(()));
}

#[test]
fn what_is_kept_is_ahead_and_seldom() {
    let now = origin();
    let mut node = fresh(TODAY, now);
    let mut kept = node.to_keep(now).unwrap();
    let mut writes = 0;
    for tick in 0..6000 {
        let at = now + SECOND / 10 * tick;
        assert!(node.next(at) < kept.sent);
        if let Some(newer) = node.to_keep(at) {
            (kept, writes) = (newer, writes + 1);
        }
    }
    assert!((15..=21).contains(&writes), "{writes} in ten minutes of sending");
    let mut listener = fresh(TODAY, now);
    let writes = (0..6000).filter(|tick| {
        let at = now + SECOND / 10 * *tick;
        listener.accept(host(1), node.next(at), at).unwrap();
        listener.to_keep(at).is_some()
    });
    assert!((115..=125).contains(&writes.count()));
}

#[test]
fn no_number_ends_all_numbers() {
    let now = origin();
    let mut node = fresh(u64::MAX, now);
    assert_eq!(node.accept(host(1), u64::MAX, now), Err(ReplayFault::Stale));
    assert!(node.next(now) < node.next(now));
    let mut other = fresh(TODAY, now);
    for number in 0..=255 {
        other.accept(host(number), TODAY + u64::from(number), now).unwrap();
    }
    assert_eq!(other.keep(now).heard.len(), MOST);
}

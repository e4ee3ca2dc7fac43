//! The schedule: on time, after pauses, over any seed.

use proptest::prelude::*;

use super::*;

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn epoch() -> Instant {
    Instant::now()
}

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn the_first_check_is_due_at_once_and_the_rest_on_a_grid() {
    let start = epoch();
    let mut schedule = Schedule::new(2 * S, 7, start);
    assert_eq!(schedule.due(), start);
    schedule.on_start(start);
    let origin = schedule.due();
    for k in 1..1000u32 {
        // Always a little late, by less than half an interval: the grid does not move.
        schedule.on_start(schedule.due() + MS * (k % 900));
        assert_eq!(schedule.due(), origin + 2 * S * k);
    }
}

#[test]
fn missed_checks_are_skipped_not_caught_up() {
    let start = epoch();
    let mut schedule = Schedule::new(S, 1, start);
    schedule.on_start(start);
    let origin = schedule.due();
    let late = origin + 100 * S + 300 * MS;
    schedule.on_start(late);
    assert_eq!(schedule.due(), origin + 101 * S);
    // 0.7 s late: the next grid point is 0.3 s away, too near.
    let late = origin + 101 * S + 700 * MS;
    schedule.on_start(late);
    assert_eq!(schedule.due(), origin + 103 * S);
}

#[test]
fn an_early_start_does_not_pull_the_grid_forward() {
    let start = epoch();
    let mut schedule = Schedule::new(S, 1, start);
    schedule.on_start(start);
    let origin = schedule.due();
    schedule.on_start(origin - 10 * MS);
    assert_eq!(schedule.due(), origin + S);
}

#[test]
fn seeds_spread_the_second_check() {
    let start = epoch();
    let phases: Vec<_> = (0..64u64)
        .map(|i| {
            let seed = i.wrapping_mul(u64::MAX / 61);
            let mut schedule = Schedule::new(2 * S, seed, start);
            schedule.on_start(start);
            schedule.due() - start
        })
        .collect();
    let early = phases.iter().filter(|p| **p < 1500 * MS).count();
    assert!((16..=48).contains(&early), "{early} of 64 in the first half");
}

proptest! {
    #[test]
    fn gaps_stay_within_half_and_one_and_a_half(
        seed: u64,
        interval_ms in 1u64..10_000,
        lateness in prop::collection::vec(0u64..100_000_000_000, 1..50),
    ) {
        let interval = Duration::from_millis(interval_ms);
        let start = epoch();
        let mut schedule = Schedule::new(interval, seed, start);
        schedule.on_start(start);
        let origin = schedule.due();
        prop_assert!(origin - start >= interval / 2 && origin - start <= interval);
        for late in lateness {
            let now = schedule.due() + Duration::from_nanos(late);
            schedule.on_start(now);
            let gap = schedule.due() - now;
            prop_assert!(gap >= interval / 2 && gap <= interval + interval / 2, "{gap:?} of {interval:?}");
            prop_assert_eq!((schedule.due() - origin).as_nanos() % interval.as_nanos(), 0, "left the grid");
        }
    }

    #[test]
    fn no_interval_breaks_it(seed: u64, secs: u64, early: u32) {
        let start = epoch();
        let mut schedule = Schedule::new(Duration::from_secs(secs), seed, start);
        for _ in 0..3 {
            schedule.on_start(start + Duration::from_secs(u64::from(early)));
        }
        prop_assert!(schedule.due() > start);
    }
}

//! The rules one by one; `tests/vrrp_simulation/groups.rs` has what becomes of them on a network.

use super::*;

const DOWN: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods, reason = "an origin; only differences matter")]
fn group(parts: &[Part]) -> (Group, Instant) {
    let (mut group, now) = (Group::new(parts.len()), Instant::now());
    for (member, part) in parts.iter().enumerate() {
        group.tell(member, Standing { part: *part, fault: false, down: DOWN }, Priority::DEFAULT, now);
    }
    (group, now)
}

fn words(parts: &[Part], after: Duration) -> Vec<(bool, bool)> {
    let (group, now) = group(parts);
    (0..parts.len()).map(|member| group.word(member, now + after)).map(|word| (word.may_claim, word.yields)).collect()
}

#[test]
fn nobody_claims_before_all_could() {
    use Part::{Absent, Active, Following, Leaving, Listening, Ready};
    let now = Duration::ZERO;
    assert_eq!(words(&[Ready, Ready], now), [(true, false), (true, false)]);
    for other in [Absent, Listening, Leaving] {
        assert_eq!(words(&[Ready, other], now)[0], (false, false), "{other:?}");
    }
    assert_eq!(words(&[Ready, Following], now)[0], (false, true));
    assert_eq!(words(&[Active, Ready], now)[1], (true, false), "it joins");
    assert_eq!(words(&[Active, Ready], DOWN * 2)[1], (false, true), "too late to join");
}

#[test]
fn the_first_decides_who_gives_way_and_patience_ends() {
    use Part::{Active, Following};
    let now = Duration::ZERO;
    assert!(words(&[Following, Active], now)[1].1, "the first is lost, so is the rest");
    assert!(!words(&[Active, Following], now)[0].1, "the first is held, so the rest may follow");
    assert!(words(&[Active, Following], DOWN * 2)[0].1, "but not for ever");
    assert!(!words(&[Active, Active], DOWN * 100)[0].1);
}

#[test]
fn a_fault_is_everybody_elses_and_the_lowest_priority_too() {
    let (mut group, now) = group(&[Part::Active, Part::Active, Part::Active]);
    let low = Priority::new(7).unwrap();
    group.tell(1, Standing { part: Part::Absent, fault: true, down: DOWN }, low, now);
    assert_eq!([0, 1, 2].map(|member| group.word(member, now).fault), [true, false, true]);
    assert_eq!(group.priority(), low);
    assert_eq!(group.deadline(), Some(now + DOWN * 2));
    group.tell(7, Standing::NONE, Priority::MAX, now);
}

//! The tracker: a table of stories, then properties over any row of results.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::tests::one_of_each;
use crate::health::{BadAnswer, Phase};
use crate::peer::Presence;

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn epoch() -> Instant {
    Instant::now()
}

/// `+` ready, `5` not ready, `t` connect timeout, `r` refused, `u` unreachable, `h` handshake timeout, `a` answer
/// timeout, `4` 404, `s` TLS failed, `n` not asked.
fn outcome(letter: char) -> Outcome {
    match letter {
        '+' => Outcome::Ready { status: Some(200) },
        '5' => Outcome::NotReady { status: 500 },
        't' => Outcome::TimedOut { phase: Phase::Connect },
        'r' => Outcome::Refused,
        'u' => Outcome::Unreachable { text: "no route to host".to_owned() },
        'h' => Outcome::TimedOut { phase: Phase::Handshake },
        'a' => Outcome::TimedOut { phase: Phase::Answer },
        '4' => Outcome::BadAnswer(BadAnswer::Status(404)),
        's' => Outcome::TlsFailed { text: "unknown issuer".to_owned() },
        'n' => Outcome::NotAsked { text: "too many open files".to_owned() },
        other => unreachable!("no outcome for {other}"),
    }
}

/// `?` unchecked, `U` up, `D` down, `L` down and lost.
fn letter(state: State) -> char {
    match state {
        State::Unchecked => '?',
        State::Up => 'U',
        State::Down { lost: false } => 'D',
        State::Down { lost: true } => 'L',
    }
}

#[test]
fn checks_out_of_turn_take_down_what_is_up_and_end_no_connection() {
    // rise 2, fall 3: results in turn, results out of turn, and the state after those.
    let cases = [
        ("fall in a row", "+", "rtu", "UUD"),
        ("in a row", "+", "rr+rr+rr", "UUUUUUUU"),
        ("what is above TCP speaks for it", "+", "rrhrr", "UUUUU"),
        ("not asked is no answer", "+", "rrnr", "UUUD"),
        ("an unchecked one stays so", "", "rrr", "???"),
        ("one that is down stays so", "+5", "rrr+", "DDDD"),
        ("one that is lost stays so", "+rrr", "+h", "LL"),
        ("they do not add to those in turn", "+rr", "rr", "UU"),
    ];
    for (name, before, urgent, expected) in cases {
        let mut tracker = Tracker::new(2, 3, epoch());
        for letter in before.chars() {
            tracker.on_outcome(&outcome(letter), epoch());
        }
        let later = epoch() + Duration::from_secs(9);
        let states: String = urgent
            .chars()
            .map(|result| {
                let was = tracker.state();
                let transition = tracker.on_urgent(&outcome(result), later);
                assert_eq!(transition.is_some(), tracker.state() != was, "{name}");
                letter(tracker.state())
            })
            .collect();
        assert_eq!(states, expected, "{name}");
        if expected.ends_with('D') && before == "+" {
            assert_eq!(tracker.since(), later, "{name}");
            assert!(tracker.reason().contains("3 failures in a row"), "{name}: {}", tracker.reason());
            tracker.on_outcome(&outcome('+'), later);
            assert_eq!(letter(tracker.state()), 'D', "{name}: rise counts anew");
        }
    }
}

#[test]
fn stories() {
    // rise 2, fall 3: results, and the state after each.
    let cases = [
        ("first result decides", "+", "U"),
        ("first result decides, badly", "r", "D"),
        ("after a bad start, rise counts", "r++", "DDU"),
        ("not ready at the first answer", "+5", "UD"),
        ("rise after not ready", "+5+++", "UDDUU"),
        ("rise is in a row", "+5+5++", "UDDDDU"),
        ("silence follows fall, and loses connections", "+ttt", "UUUL"),
        ("any mix of TCP failures loses them", "+tru", "UUUL"),
        ("fall is in a row", "+tt+tt+", "UUUUUUU"),
        ("TCP accepted, no handshake: connections stay", "+hhhhh", "UUUDDD"),
        ("one answer above TCP keeps them", "+rrh", "UUUD"),
        ("only the last fall failures matter", "+hhhrrr", "UUUDDDL"),
        ("not ready, then gone", "+5rrr", "UDDDL"),
        ("not ready in between starts the count again", "+5rr5rrr", "UDDDDDDL"),
        ("not ready counts as a failure above TCP", "+rr5", "UUUD"),
        ("from a bad start, fall failures lose", "rrr", "DDL"),
        ("lost, then TCP is back", "+rrrh", "UUULD"),
        ("lost, then ready: not lost at once, up by rise", "+rrr++", "UUULDU"),
        ("lost stays lost", "+rrrrr", "UUULLL"),
        ("credentials and 404 follow fall", "+444", "UUUD"),
        ("TLS failures follow fall", "+sss", "UUUD"),
        ("an answer that never ends follows fall", "+aaa", "UUUD"),
        ("not asked counts for nothing", "nn+nnnrrnrn", "??UUUUUUULL"),
    ];
    for (name, results, states) in cases {
        let now = epoch();
        let mut tracker = Tracker::new(2, 3, now);
        let got: String = results
            .chars()
            .map(|c| {
                tracker.on_outcome(&outcome(c), now);
                letter(tracker.state())
            })
            .collect();
        assert_eq!(got, states, "{name}: {results}");
    }
}

#[test]
fn words_tell_why_and_how_far() {
    let now = epoch();
    let mut tracker = Tracker::new(2, 3, now);
    assert_eq!(tracker.reason(), "not checked yet");
    let first = tracker.on_outcome(&outcome('+'), now);
    assert_eq!(first.map(|t| t.to_string()), Some("unchecked -> up: answered 200 at the first check".to_owned()));
    assert_eq!(tracker.reason(), "answered 200");
    assert_eq!(tracker.on_outcome(&outcome('r'), now), None);
    assert_eq!(tracker.reason(), "connection refused (1 of 3 failures in a row)");
    tracker.on_outcome(&outcome('r'), now);
    let down = tracker.on_outcome(&outcome('r'), now);
    assert_eq!(
        down.map(|t| t.to_string()),
        Some("up -> down, connections lost: connection refused, 3 in a row".to_owned())
    );
    assert_eq!(tracker.reason(), "connection refused (3 failures in a row)");
    tracker.on_outcome(&outcome('+'), now);
    assert_eq!(tracker.reason(), "answered 200 (1 of 2 successes in a row)");
    tracker.on_outcome(&outcome('+'), now);
    let out = tracker.on_outcome(&outcome('5'), now);
    assert_eq!(out.map(|t| t.why()), Some("answered 500: not ready, by its own word".to_owned()));
}

#[test]
fn since_is_when_up_or_down_began() {
    let start = epoch();
    let at = |s: u64| start + Duration::from_secs(s);
    let mut tracker = Tracker::new(1, 2, start);
    assert_eq!(tracker.since(), start);
    tracker.on_outcome(&outcome('+'), at(1));
    tracker.on_outcome(&outcome('+'), at(2));
    assert_eq!(tracker.since(), at(1));
    tracker.on_outcome(&outcome('5'), at(3));
    tracker.on_outcome(&outcome('r'), at(4));
    tracker.on_outcome(&outcome('r'), at(5));
    assert!(tracker.state().is_lost());
    assert_eq!(tracker.since(), at(3), "losing the connections of a backend that is down does not restart its time");
}

#[test]
fn thresholds_of_zero_mean_one() {
    let now = epoch();
    let mut tracker = Tracker::new(0, 0, now);
    tracker.on_outcome(&outcome('+'), now);
    tracker.on_outcome(&outcome('r'), now);
    assert_eq!(tracker.state(), State::Down { lost: true });
    tracker.on_outcome(&outcome('+'), now);
    assert_eq!(tracker.state(), State::Up);
}

/// The state by definition, computed from the whole row of results at every step.
fn by_definition(rise: usize, fall: usize, results: &[Outcome]) -> State {
    let told: Vec<_> = results.iter().filter(|o| !matches!(o, Outcome::NotAsked { .. })).collect();
    let is_ready = |o: &&Outcome| matches!(o, Outcome::Ready { .. });
    let mut up = None;
    for (i, result) in told.iter().enumerate() {
        let row = told.get(..=i).unwrap_or_default();
        let last_n = |n: usize, f: &dyn Fn(&&Outcome) -> bool| row.len() >= n && row.iter().rev().take(n).all(f);
        up = Some(match up {
            None => is_ready(result),
            Some(true) => !result.is_refusal() && !last_n(fall, &|o| !is_ready(o)),
            Some(false) => last_n(rise, &is_ready),
        });
    }
    let left = told.iter().rev().take_while(|o| !is_ready(o)).any(|o| o.is_farewell())
        && told.last().is_some_and(|o| !o.is_farewell());
    let lost = left || told.len() >= fall && told.iter().rev().take(fall).all(|o| o.is_tcp_failure());
    match up {
        None => State::Unchecked,
        Some(true) => State::Up,
        Some(false) => State::Down { lost },
    }
}

proptest! {
    #[test]
    fn agrees_with_the_definition(
        rise in 1u32..5,
        fall in 1u32..5,
        row in prop::collection::vec(prop::sample::select(one_of_each()), 0..60),
    ) {
        let now = epoch();
        let mut tracker = Tracker::new(rise, fall, now);
        for (i, result) in row.iter().enumerate() {
            let before = tracker.state();
            let change = tracker.on_outcome(result, now);
            let expected = by_definition(rise as usize, fall as usize, &row[..=i]);
            prop_assert_eq!(tracker.state(), expected, "after {:?}", &row[..=i]);
            // A transition is reported exactly when there is one.
            match change {
                Some(t) => {
                    prop_assert_eq!((t.from, t.to), (before, expected));
                    prop_assert_ne!(before, expected);
                    prop_assert!(t.in_a_row >= 1);
                }
                None => prop_assert_eq!(before, expected),
            }
        }
    }
}

#[test]
fn a_node_that_stops_delivering_is_out_at_once_and_its_connections_go_with_it() {
    let listener = "192.0.2.100:8443".parse().unwrap();
    let found = |presence| Outcome::NotDelivered { presence, listener };
    let now = epoch();
    let after = |outcomes: &[Outcome]| {
        let mut tracker = Tracker::new(2, 3, now);
        tracker.on_outcome(&Outcome::Ready { status: None }, now);
        for outcome in outcomes {
            tracker.on_outcome(outcome, now);
        }
        tracker.state()
    };
    assert_eq!(after(&[found(Presence::Leaving)]), State::Down { lost: false }, "it still delivers");
    assert_eq!(after(&[found(Presence::Leaving), found(Presence::Silent)]), State::Down { lost: true });
    assert_eq!(after(&[found(Presence::NotServed)]), State::Down { lost: false });
    let silent = found(Presence::Silent);
    assert_eq!(after(&[silent.clone(), silent.clone()]), State::Up);
    assert_eq!(after(&[silent.clone(), silent.clone(), silent]), State::Down { lost: false }, "its datapath goes on");
}

//! The decision: a table, then its promises over any service.

use proptest::prelude::*;

use super::*;

const UNCHECKED: State = State::Unchecked;
const UP: State = State::Up;
const DOWN: State = State::Down { lost: false };
const LOST: State = State::Down { lost: true };

/// `e` eligible, `l` lost, `-` neither, one letter per backend.
fn letters(decision: &Decision) -> String {
    decision
        .standings
        .iter()
        .map(|s| match (s.eligible, s.lost) {
            (true, false) => 'e',
            (false, true) => 'l',
            (false, false) => '-',
            (true, true) => '!',
        })
        .collect()
}

#[test]
fn table() {
    type Row = (&'static str, &'static [(u16, State)], &'static str, bool);
    let rows: [Row; 13] = [
        ("nobody", &[], "", false),
        ("all up", &[(1, UP), (1, UP)], "ee", false),
        ("one not ready", &[(1, UP), (1, DOWN), (1, UP)], "e-e", false),
        ("one lost", &[(1, UP), (1, LOST)], "el", false),
        ("start: no result yet", &[(1, UNCHECKED), (1, UNCHECKED)], "ee", false),
        ("start: first result up", &[(1, UP), (1, UNCHECKED)], "e-", false),
        ("start: first result down", &[(1, DOWN), (1, UNCHECKED)], "-e", false),
        ("all down", &[(1, DOWN), (1, DOWN)], "ee", true),
        ("all lost", &[(1, LOST), (1, LOST)], "ee", true),
        ("weight 0 takes nothing", &[(0, UP), (1, UP)], "-e", false),
        ("weight 0 does not keep from failing open", &[(0, UP), (1, LOST)], "-e", true),
        ("weight 0 is lost like any other", &[(0, LOST), (1, UP)], "le", false),
        ("only weight 0", &[(0, UP), (0, DOWN)], "--", false),
    ];
    for (name, members, expected, fail_open) in rows {
        let members: Vec<_> = members.iter().map(|&(weight, state)| Member { weight, state }).collect();
        let decision = decide(&members);
        assert_eq!((letters(&decision).as_str(), decision.fail_open), (expected, fail_open), "{name}");
    }
}

proptest! {
    #[test]
    fn promises(members in prop::collection::vec(
        (0u16..3, prop::sample::select(vec![UNCHECKED, UP, DOWN, LOST])).prop_map(|(weight, state)| Member { weight, state }),
        0..8,
    )) {
        let decision = decide(&members);
        prop_assert_eq!(decision.standings.len(), members.len());
        let weighted = members.iter().any(|m| m.weight > 0);
        prop_assert_eq!(decision.standings.iter().any(|s| s.eligible), weighted, "health never empties a service");
        for (m, s) in members.iter().zip(&decision.standings) {
            prop_assert!(!(s.eligible && s.lost));
            prop_assert!(m.weight > 0 || !s.eligible);
            prop_assert!(m.state != UP || m.weight == 0 || s.eligible, "an up backend serves");
            prop_assert!(!s.lost || (m.state == LOST && !decision.fail_open));
            if decision.fail_open {
                prop_assert!(m.weight == 0 || matches!(m.state, State::Down { .. }), "somebody did not fail");
            }
        }
    }
}

//! What a set of source ports finds, and how it is mended.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn set(range: core::ops::RangeInclusive<u16>, taken: impl IntoIterator<Item = u16>) -> PortSet {
    let mut set = PortSet::of_range(range);
    taken.into_iter().for_each(|port| set.add(port));
    set.summed()
}

#[test]
fn a_port_that_is_free_is_taken_and_then_the_next() {
    let shared = set(20_000..=20_199, []).shared();
    assert_eq!(shared.take(20_005), Ok(20_005));
    assert_eq!(shared.take(20_005), Ok(20_006));
    assert_eq!(shared.take(20_004), Ok(20_004));
}

#[test]
fn every_port_of_any_range_is_found_once_and_then_none() {
    for range in [0..=65_535, 1024..=65_535, 1024..=32_767, 20_000..=20_099, 4095..=4096, 65_535..=65_535] {
        for from in [0, *range.start(), *range.end(), 30_000, 65_535] {
            let shared = set(range.clone(), []).shared();
            let mut found = BTreeSet::new();
            for _ in range.clone() {
                let port = shared.take(from).expect("one is left");
                assert!(range.contains(&port) && found.insert(port), "{port} of {range:?}");
            }
            assert!(shared.is_full());
            assert_eq!(shared.take(from), Err(NoHint::Full));
        }
    }
}

#[test]
fn the_last_free_port_is_found_from_anywhere() {
    let all = || 1024..=65_535;
    for last in [1024, 1025, 5000, 40_000, 65_472, 65_535] {
        for from in (0..=65_535).step_by(97) {
            let shared = set(all(), all().filter(|port| *port != last)).shared();
            assert_eq!(shared.take(from), Ok(last), "from {from}");
            assert!(shared.is_full());
        }
    }
}

#[test]
fn a_word_that_is_full_unnoticed_is_noticed() {
    let mut stale = PortSet::of_range(0..=65_535);
    (0..128).for_each(|port| stale.add(port));
    let shared = stale.shared();
    let found: Vec<_> = (0..4).filter_map(|_| shared.take(0).ok()).collect();
    assert!(!found.is_empty() && found.iter().all(|port| *port >= 128), "{found:?}");
}

#[test]
fn only_what_the_look_could_know_is_mended() {
    let set = |ports: &[u16]| set(0..=65_535, ports.iter().copied());
    let fixed = set(&[9]);
    // 1: known and found; 2: known and gone; 3: not known; 4: taken during the look; 5: given back during it.
    let (before, after) = (set(&[1, 2, 5, 9]), set(&[1, 2, 4, 9]));
    let mut found = PortSet::empty();
    [1, 3, 5].into_iter().for_each(|port| found.add(port));
    assert_eq!(after.mended(&before, &found, &fixed), set(&[1, 3, 4, 9]));
    let range = PortSet::of_range(1000..=1999);
    let other = PortSet::of_range(1500..=2499);
    assert_eq!(range.mended(&range, &PortSet::empty(), &other), other, "the range may change");
}

proptest! {
    #[test]
    fn never_one_that_is_taken(
        taken in proptest::collection::btree_set(2000_u16..2600, 0..600), from in any::<u16>(),
    ) {
        let shared = set(2000..=2599, taken.iter().copied()).shared();
        for left in (taken.len()..600).rev() {
            let port = shared.take(from).expect("one is left");
            prop_assert!((2000..2600).contains(&port) && !taken.contains(&port));
            prop_assert_eq!(shared.is_full(), left == taken.len());
        }
        prop_assert_eq!(shared.take(from), Err(NoHint::Full));
    }
}

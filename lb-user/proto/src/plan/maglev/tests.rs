//! What holds for every table: shares, the same everywhere, and how few clients move.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

use super::*;

fn candidate(host: u16, weight: u16) -> Candidate {
    let [high, low] = host.to_be_bytes();
    let endpoint = SocketAddrV4::new(Ipv4Addr::new(10, 1, high, low), 6443).into();
    Candidate { endpoint, slot: host.into(), weight, serves: true }
}

fn places_of(table: &[u32], slot: u32) -> usize {
    table.iter().filter(|at| **at == slot).count()
}

/// Places whose backend differs, without those of `slot` in the first table.
fn moved(before: &[u32], after: &[u32], slot: u32) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after && **before != slot).count()
}

#[test]
fn the_table_is_the_one_that_other_versions_have() {
    let table = table(&[31, 32, 33].map(|host| candidate(host, 1)));
    assert_eq!([31, 32, 33].map(|slot| places_of(&table, slot)), [170, 170, 169]);
    let digest = table.iter().fold(0_u64, |sum, slot| sum.wrapping_mul(31).wrapping_add(u64::from(*slot)));
    assert_eq!(digest, 1_153_553_117_939_084_839);
}

#[test]
fn nobody_and_one() {
    assert!(table(&[]).is_empty());
    assert!(table(&[candidate(1, 0)]).is_empty());
    assert!(table(&[Candidate { serves: false, ..candidate(1, 1) }]).is_empty());
    assert_eq!(table(&[candidate(7, 3), Candidate { serves: false, ..candidate(8, 200) }]), vec![7; TABLE_SIZE]);
}

/// Distinct hosts with weights, some of which do not serve.
fn any_candidates(most: usize, weight: impl Strategy<Value = u16>) -> impl Strategy<Value = Vec<Candidate>> {
    let each = (weight, prop_oneof![3 => Just(true), 1 => Just(false)]);
    proptest::collection::btree_map(0u16..500, each, 1..most).prop_map(|hosts| {
        let of = |(host, (weight, serves))| Candidate { serves, ..candidate(host, weight) };
        hosts.into_iter().map(of).collect()
    })
}

proptest! {
    #[test]
    fn shares_are_kept(candidates in any_candidates(40, 1u16..=64)) {
        let candidates: Vec<_> = candidates.into_iter().map(|c| Candidate { serves: true, ..c }).collect();
        let table = table(&candidates);
        let sum: u32 = candidates.iter().map(|candidate| u32::from(candidate.weight)).sum();
        for candidate in &candidates {
            let exact = f64::from(candidate.weight) / f64::from(sum) * TABLE_SIZE as f64;
            let places = places_of(&table, candidate.slot) as f64;
            // Each has one before weights count, at the cost of all others.
            let others = candidates.len() as f64 / TABLE_SIZE as f64 * exact;
            prop_assert!((places - exact).abs() <= 2.0 + others, "{} of {}", places, exact);
            prop_assert!(places >= 1.0);
        }
    }

    /// Neither the order of the configuration, nor the slots that this node happens to use.
    #[test]
    fn every_node_has_the_same_table(candidates in any_candidates(40, 0u16..=3), turn in 0usize..40) {
        let mut others: Vec<_> =
            candidates.iter().map(|candidate| Candidate { slot: 8191 - candidate.slot, ..*candidate }).collect();
        let turn = turn % others.len();
        others.rotate_left(turn);
        others.reverse();
        let there: Vec<_> = table(&others).into_iter().map(|slot| 8191 - slot).collect();
        prop_assert_eq!(table(&candidates), there);
    }

    /// A backend that fails or comes back moves its own clients alone, whoever else is down.
    #[test]
    fn others_keep_their_clients_when_one_fails(candidates in any_candidates(40, 1u16..=16), which in any::<prop::sample::Index>()) {
        let mut candidates = candidates;
        let lost = which.index(candidates.len());
        candidates[lost].serves = true;
        let all = table(&candidates);
        let slot = candidates[lost].slot;
        candidates[lost].serves = false;
        let rest = table(&candidates);
        if rest.is_empty() {
            return Ok(());
        }
        let owned: BTreeSet<_> = {
            // What belongs to those that serve, lent places aside.
            let everyone: Vec<_> = candidates.iter().map(|c| Candidate { serves: true, ..*c }).collect();
            let base = table(&everyone);
            let serving = |slot: &u32| candidates.iter().any(|c| c.slot == *slot && c.serves);
            (0..TABLE_SIZE).filter(|at| serving(&base[*at])).collect()
        };
        for at in &owned {
            prop_assert_eq!(all[*at], rest[*at]);
        }
        prop_assert!(!rest.contains(&slot));
        let down = candidates.iter().filter(|c| !c.serves).count();
        if down == 1 {
            prop_assert_eq!(moved(&all, &rest, slot), 0);
        }
    }
}

/// A backend that is configured or removed moves few clients besides those it gets or had.
#[test]
fn few_others_move_when_one_is_removed() {
    for count in [2_u16, 3, 5, 9, 24] {
        let (mut all_moved, mut most, mut sets) = (0, 0, 0);
        for first in 0..500 {
            let all: Vec<_> = (first..first + count).map(|host| candidate(host, 1)).collect();
            let mut fewer = all.clone();
            let slot = fewer.remove(usize::from(first % count)).slot;
            let moved = moved(&table(&all), &table(&fewer), slot);
            (all_moved, most, sets) = (all_moved + moved, most.max(moved), sets + 1);
        }
        println!("{count} backends: {} of {TABLE_SIZE} places on average, {most} at most", all_moved / sets);
        assert!(all_moved / sets <= TABLE_SIZE / 15, "{} of {TABLE_SIZE} on average with {count}", all_moved / sets);
        assert!(most <= TABLE_SIZE / 3, "{most} of {TABLE_SIZE} with {count} backends");
    }
}

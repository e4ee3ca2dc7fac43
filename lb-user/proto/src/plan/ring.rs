//! Weighted round robin, laid out once: the order in which backends take their turns.

use lb_ebpf::abi::ROUND_SIZE;

/// A round in which each slot comes as often as its share says, spread as evenly as can be; empty without shares.
///
/// Shares whose sum, after division by what they have in common, exceeds [`ROUND_SIZE`] are rounded so that the round
/// fits; every slot with a share keeps at least one place, as long as there are places.
#[must_use]
pub fn ring(shares: &[(u32, u16)]) -> Vec<u32> {
    let mut counts: Vec<(u32, u32)> =
        shares.iter().filter(|(_, share)| *share > 0).map(|(slot, share)| (*slot, u32::from(*share))).collect();
    counts.truncate(ROUND_SIZE as usize);
    let Some(common) = counts.iter().map(|(_, count)| *count).reduce(greatest_common_divisor) else {
        return Vec::new();
    };
    counts.iter_mut().for_each(|(_, count)| *count /= common);
    shrink(&mut counts);
    interleave(&counts)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Makes the sum fit, by the largest remainder.
fn shrink(counts: &mut [(u32, u32)]) {
    let sum: u32 = counts.iter().map(|(_, count)| *count).sum();
    if sum <= ROUND_SIZE {
        return;
    }
    let mut remainders = Vec::with_capacity(counts.len());
    for (at, (_, count)) in counts.iter_mut().enumerate() {
        let exact = *count * ROUND_SIZE;
        *count = exact / sum;
        if *count == 0 {
            *count = 1;
        } else {
            remainders.push((exact % sum, at));
        }
    }
    remainders.sort_unstable_by(|a, b| b.cmp(a));
    let mut total: u32 = counts.iter().map(|(_, count)| *count).sum();
    for (_, at) in remainders {
        if total >= ROUND_SIZE {
            break;
        }
        if let Some((_, count)) = counts.get_mut(at) {
            *count += 1;
            total += 1;
        }
    }
    while total > ROUND_SIZE {
        // Places given to the smallest come from the largest.
        let Some((_, largest)) = counts.iter_mut().max_by_key(|(_, count)| *count) else {
            return;
        };
        *largest -= 1;
        total -= 1;
    }
}

/// Gives each place to the slot that has waited longest for its share.
fn interleave(counts: &[(u32, u32)]) -> Vec<u32> {
    let total: u32 = counts.iter().map(|(_, count)| *count).sum();
    let mut credit: Vec<i64> = vec![0; counts.len()];
    let mut round = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best: Option<(usize, i64)> = None;
        for (at, (credit, (_, count))) in credit.iter_mut().zip(counts).enumerate() {
            *credit += i64::from(*count);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((at, *credit));
            }
        }
        if let Some((at, _)) = best
            && let (Some(credit), Some((slot, _))) = (credit.get_mut(at), counts.get(at))
        {
            *credit -= i64::from(total);
            round.push(*slot);
        }
    }
    round
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds() {
        assert_eq!(ring(&[]), Vec::<u32>::new());
        assert_eq!(ring(&[(7, 0)]), Vec::<u32>::new());
        assert_eq!(ring(&[(7, 5)]), [7]);
        assert_eq!(ring(&[(0, 1), (1, 1), (2, 1)]), [0, 1, 2]);
        assert_eq!(ring(&[(0, 100), (1, 100)]), [0, 1]);
        assert_eq!(ring(&[(0, 5), (1, 1), (2, 1)]), [0, 0, 1, 0, 2, 0, 0]);
    }

    proptest! {
        #[test]
        fn shares_are_kept(shares in proptest::collection::vec(0u16..=256, 1..128)) {
            let shares: Vec<_> = shares.into_iter().enumerate().map(|(slot, share)| (slot as u32, share)).collect();
            let round = ring(&shares);
            prop_assert!(round.len() <= ROUND_SIZE as usize);
            let sum: u32 = shares.iter().map(|(_, share)| u32::from(*share)).sum();
            for (slot, share) in shares {
                let places = round.iter().filter(|at| **at == slot).count();
                prop_assert_eq!(places > 0, share > 0);
                if sum > 0 {
                    let exact = f64::from(share) / f64::from(sum) * round.len() as f64;
                    // Small shares are rounded up to one place, at the cost of the largest.
                    prop_assert!((places as f64 - exact).abs() < 1.0 + 128.0 * exact / 512.0, "{} of {}", places, exact);
                }
            }
        }
    }
}

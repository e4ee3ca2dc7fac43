//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//!
//! Sums are over memory images: one's complement addition gives the same bytes in either byte order. A changed
//! packet gets its old checksum plus the change, never a new checksum over its content: what arrived broken must
//! leave broken, or the receiver could not tell.

/// Folds the carries of a sum back in.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The two halves of a 32-bit word, added.
#[inline(always)]
#[must_use]
pub const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// What to add to the complement of a checksum when a 32-bit word changes.
#[inline(always)]
#[must_use]
pub const fn change32(from: u32, to: u32) -> u32 {
    halves(!from) + halves(to)
}

/// What to add to the complement of a checksum when a 16-bit word changes.
#[inline(always)]
#[must_use]
pub const fn change16(from: u16, to: u16) -> u32 {
    (!from) as u32 + to as u32
}

/// The checksum after a change.
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, change: u16) -> u16 {
    !fold((!checksum) as u32 + change as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain definition, to compare with.
    fn checksum(words: &[u16]) -> u16 {
        let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn every_checksum_survives_every_kind_of_change() {
        let changes = [(0u16, 0u16), (0, 0xffff), (0xffff, 0), (1, 2), (0x1234, 0xfedc), (0xfffe, 1), (8443, 6443)];
        for old in 0..=u16::MAX {
            for (from, to) in changes {
                // A packet of two words, the second chosen so that the checksum is `old`.
                let filler = fold(u32::from(!old) + u32::from(!from));
                let before = checksum(&[from, filler]);
                let after = update(before, fold(change16(from, to)));
                let sum = fold(u32::from(to) + u32::from(filler) + u32::from(after));
                assert!(sum == 0xffff || (to == 0 && filler == 0), "{old:#x} {from:#x}->{to:#x} gave {after:#x}");
            }
        }
    }

    proptest! {
        #[test]
        fn valid_stays_valid_and_broken_stays_broken(
            mut words in proptest::collection::vec(any::<u16>(), 2..40), at in any::<usize>(), to in any::<u32>(), error in any::<u16>(),
        ) {
            words[0] |= 1;
            let good = checksum(&words);
            let at = 1 + at % (words.len() - 1);
            let from = words[at];
            let to = to as u16;
            words[at] = to;
            let change = fold(change16(from, to));
            for start in [good, error] {
                let end = update(start, change);
                // 0 and 0xffff are the same number in one's complement.
                let same = |a: u16, b: u16| a == b || (a == 0 || a == 0xffff) && (b == 0 || b == 0xffff);
                prop_assert_eq!(same(start, good), same(end, checksum(&words)));
            }
        }

        #[test]
        fn words_of_32_bits_are_two_of_16(from: u32, to: u32) {
            let (a, b) = (fold(change32(from, to)), fold(
                change16(from as u16, to as u16) + change16((from >> 16) as u16, (to >> 16) as u16),
            ));
            prop_assert_eq!(a % 0xffff, b % 0xffff);
        }
    }
}

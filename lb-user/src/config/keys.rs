//! A file of keys: read, checked, and never shown.
//!
//! One key a line: 32 to 128 hexadecimal digits, before them, if there is more than one, a number from 0 to 255 by which
//! nodes know it. The first signs, all verify. So a key is changed without a gap: add the new one below on all nodes, then
//! put it first on all, then remove the old one.

use std::fmt;
use std::path::Path;

use super::{SecretError, read_secret};

/// No key file is longer.
const LONGEST: u64 = 4096;
/// Keys of a file at most; two are enough for a change.
const MOST: usize = 8;
/// Hexadecimal digits of a key: 128 to 512 bits.
const DIGITS: std::ops::RangeInclusive<usize> = 32..=128;

/// Keys, the one that signs first. Shows nothing of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<(u8, Vec<u8>)>);

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file, or who may read it.
    #[error(transparent)]
    File(#[from] SecretError),
    /// A line that is no key. Lines count from 1.
    #[error(
        "line {line} {what}: write 64 hexadecimal digits, such as `openssl rand -hex 32` makes, after an optional number from 0 to 255"
    )]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it, without repeating it.
        what: &'static str,
    },
    /// No key at all.
    #[error("there is no key in it: write one with `openssl rand -hex 32`")]
    Empty,
    /// More than anybody needs.
    #[error("it has more than {MOST} keys: remove old ones")]
    TooMany,
}

impl Keys {
    /// Reads the file, which only its owner may be able to.
    ///
    /// # Errors
    /// What is wrong with the file or its permissions; never what it says.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read_secret(path, LONGEST)?)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Which line is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<(u8, Vec<u8>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let fault = |what| KeyError::Line { line: number + 1, what };
            let words: Vec<&str> = line.split_whitespace().collect();
            let (id, digits) = match words.as_slice() {
                [] => continue,
                [comment, ..] if comment.starts_with('#') => continue,
                [digits] => (0, *digits),
                [id, digits] => (id.parse().map_err(|_| fault("begins with something that is no number"))?, *digits),
                _ => return Err(fault("has more than a number and a key")),
            };
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(fault("has something in its key that is no hexadecimal digit"));
            }
            if !DIGITS.contains(&digits.len()) || digits.len() % 2 != 0 {
                return Err(fault("has a key that is too short, too long, or not of whole bytes"));
            }
            if keys.iter().any(|(other, _)| *other == id) {
                return Err(fault("has the number of another key"));
            }
            let (pairs, _) = digits.as_bytes().as_chunks::<2>();
            let byte = |[high, low]: &[u8; 2]| nibble(*high) << 4 | nibble(*low);
            keys.push((id, pairs.iter().map(byte).collect()));
        }
        match keys.len() {
            0 => Err(KeyError::Empty),
            1..=MOST => Ok(Self(keys)),
            _ => Err(KeyError::TooMany),
        }
    }

    /// Number and octets of each, the one that signs first.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(id, key)| (*id, key.as_slice()))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} not shown)", self.0.len())
    }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &str = "00112233445566778899aAbBcCdDeEfF";

    #[test]
    fn keys_are_read_in_order() {
        let keys = Keys::parse(&format!("# ours\n\n7 {KEY}\n{KEY}{KEY}\n")).unwrap();
        let all: Vec<_> = keys.iter().collect();
        assert_eq!(all[0].0, 7);
        assert_eq!(all[0].1[..3], [0x00, 0x11, 0x22]);
        assert_eq!(all[0].1[12..], [0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!((all[1].0, all[1].1.len()), (0, 32));
        assert!(!format!("{keys:?}").contains("22"));
    }

    #[test]
    fn wrong_files_are_refused_without_a_word_of_what_they_say() {
        let long = KEY.repeat(5);
        let many: String = (0..9).map(|id| format!("{id} {KEY}\n")).collect();
        for (text, expected) in [
            ("", "no key in it"),
            ("secret", "line 1 has something in its key"),
            ("\n0011", "line 2 has a key that is too short"),
            (&format!("{KEY}1"), "line 1 has a key that is too short, too long"),
            (&long, "line 1 has a key that is too short, too long"),
            (&format!("256 {KEY}"), "line 1 begins with something that is no number"),
            (&format!("1 {KEY} 2"), "line 1 has more than a number and a key"),
            (&format!("1 {KEY}\n1 {KEY}"), "line 2 has the number of another key"),
            (&many, "more than 8 keys"),
        ] {
            let error = Keys::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret") && !error.contains("0011"), "{error}");
        }
    }

    #[test]
    fn only_the_owner_may_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, KEY).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o610, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Keys::read(&path).is_ok(), good, "{mode:o}");
        }
        assert!(matches!(Keys::read(dir.path()), Err(KeyError::File(SecretError::NotAFile))));
        assert!(matches!(Keys::read(&dir.path().join("none")), Err(KeyError::File(SecretError::Io(_)))));
    }
}

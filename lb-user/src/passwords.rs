//! The file of those who may change things by the status page: a line for each, NAME:HASH, made by `xvip password`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use argon2::password_hash::{self, PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Argon2, Params};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::{SecretError, read_secret};

/// No file of passwords is longer.
const LONGEST: u64 = 64 * 1024;
/// Memory that verifying may take, in KiB, and how often it may go over it.
const MOST_MEMORY: u32 = 256 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 8;
/// Octets of a salt.
const SALT: usize = 16;
/// Fewest characters of a new password.
const SHORTEST: usize = 8;

/// Administrators and the hashes of their passwords. Shows no hash.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Passwords {
    of: Vec<(String, String)>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file, or who may read it.
    #[error(transparent)]
    File(#[from] SecretError),
    /// A line that is none. Lines count from 1.
    #[error("line {line} {what}: write what `xvip password NAME` prints")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it, without repeating it.
        what: &'static str,
    },
    /// Nobody at all.
    #[error("there is nobody in it: add what `xvip password NAME` prints")]
    Empty,
}

/// Why there is no line for a password.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The name.
    #[error("a name has 1 to 64 letters, digits, and the characters . _ @ and -")]
    Name,
    /// The password.
    #[error("a password has {SHORTEST} characters at least")]
    Short,
    /// It cannot be computed.
    #[error("cannot make the hash: {0}")]
    Hash(password_hash::Error),
    /// No random numbers.
    #[error("this system has no random numbers")]
    Random,
}

impl Passwords {
    /// Reads the file, which only its owner may be able to.
    ///
    /// # Errors
    /// What is wrong with the file or its permissions; never what it says.
    pub fn read(path: &Path) -> Result<Self, PasswordError> {
        Self::parse(&read_secret(path, LONGEST)?)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Which line is wrong.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let mut of: Vec<(String, String)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let fault = |what| PasswordError::Line { line: number + 1, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or_else(|| fault("has no colon after a name"))?;
            if !is_name(name) {
                return Err(fault("begins with something that is no name"));
            }
            if of.iter().any(|(other, _)| other == name) {
                return Err(fault("has the name of another line"));
            }
            check(hash).map_err(fault)?;
            of.push((name.to_owned(), hash.to_owned()));
        }
        if of.is_empty() { Err(PasswordError::Empty) } else { Ok(Self { of }) }
    }

    /// The hash of this administrator's password.
    #[must_use]
    pub fn hash_of(&self, name: &str) -> Option<&str> {
        self.of.iter().find(|(known, _)| known == name).map(|(_, hash)| hash.as_str())
    }

    /// The hash that this name and password fit. Takes some hundredths of a second, and as long for names that nobody has.
    #[must_use]
    pub fn verify(&self, name: &str, password: &str) -> Option<&str> {
        let known = self.hash_of(name);
        // Somebody's, for the time that it takes.
        let hash = known.or_else(|| self.of.first().map(|(_, hash)| hash.as_str()))?;
        let parsed = PasswordHash::new(hash).ok()?;
        let fits = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        known.filter(|_| fits)
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.of.iter().map(|(name, _)| name)).finish()
    }
}

/// The line of the file for this administrator.
///
/// # Errors
/// Which of both will not do.
pub fn line(name: &str, password: &str) -> Result<String, HashError> {
    if !is_name(name) {
        return Err(HashError::Name);
    }
    if password.chars().count() < SHORTEST {
        return Err(HashError::Short);
    }
    let mut salt = [0; SALT];
    SystemRandom::new().fill(&mut salt).map_err(|_| HashError::Random)?;
    let salt = SaltString::encode_b64(&salt).map_err(HashError::Hash)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(HashError::Hash)?;
    Ok(format!("{name}:{hash}"))
}

/// Asks for a password and prints the line for it; what to exit with.
#[must_use]
pub fn ask(name: &str) -> u8 {
    let asked = if io::stdin().is_terminal() { from_terminal(name) } else { from_input() };
    let made = asked.map_err(|error| error.to_string()).and_then(|password| {
        let made = line(name, &password).map_err(|error| error.to_string())?;
        writeln!(io::stdout(), "{made}").map_err(|error| error.to_string())
    });
    match made {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

fn from_terminal(name: &str) -> io::Result<String> {
    let password = rpassword::prompt_password(format!("Password of {name}: "))?;
    let again = rpassword::prompt_password("Once more: ")?;
    if password == again { Ok(password) } else { Err(io::Error::other("these are two different passwords")) }
}

fn from_input() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(is_good)
}

fn check(hash: &str) -> Result<(), &'static str> {
    let parsed = PasswordHash::new(hash).map_err(|_| "has something after the name that is no hash")?;
    if parsed.algorithm.as_str() != "argon2id" || parsed.hash.is_none() {
        return Err("has a hash of another kind than Argon2id");
    }
    let params = Params::try_from(&parsed).map_err(|_| "has a hash with settings that make no sense")?;
    let is_bearable = params.m_cost() <= MOST_MEMORY && params.t_cost() <= MOST_PASSES && params.p_cost() <= MOST_LANES;
    is_bearable.then_some(()).ok_or("has a hash that takes more than 256 MiB, 16 passes or 8 lanes to verify")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read() {
        let line = line("alice", "correct horse").unwrap();
        let passwords = Passwords::parse(&format!("# who may\n\n {line}\n")).unwrap();
        let hash = passwords.hash_of("alice").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(passwords.verify("alice", "correct horse"), Some(hash));
        for (name, password) in [("alice", "correct horsf"), ("alice", ""), ("bob", "correct horse"), ("", "")] {
            assert_eq!(passwords.verify(name, password), None, "{name}");
        }
        assert_eq!(format!("{passwords:?}"), "[\"alice\"]");
        assert_eq!(Passwords::default().verify("alice", "x"), None);
    }

    #[test]
    fn what_is_wrong_is_told_without_repeating_it() {
        let good = line("a", "correct horse").unwrap();
        let hash = good.strip_prefix("a:").unwrap();
        for (text, words) in [
            (String::new(), "there is nobody in it"),
            ("alice".to_owned(), "line 1 has no colon"),
            (format!("\nal ice:{hash}"), "line 2 begins with something that is no name"),
            (format!("{good}\n{good}"), "line 2 has the name of another line"),
            ("alice:plain".to_owned(), "no hash"),
            ("alice:$2y$05$abcdefghijklmnopqrstuv".to_owned(), "hash"),
            (format!("alice:{}", hash.replace("argon2id", "argon2i")), "another kind than Argon2id"),
            (format!("alice:{}", hash.replace("m=19456", "m=1000000")), "more than 256 MiB"),
            ("alice:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ".to_owned(), "another kind"),
        ] {
            let fault = Passwords::parse(&text).unwrap_err().to_string();
            assert!(fault.contains(words), "{text}: {fault}");
        }
        assert!(matches!(line("a b", "correct horse"), Err(HashError::Name)));
        assert!(matches!(line("a", "short"), Err(HashError::Short)));
    }
}

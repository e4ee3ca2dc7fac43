//! Who is logged in: sessions in memory, each known by a secret of the browser's, and bounded in number and time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::error::Unspecified;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};

/// A session's longest life: a working day.
pub(super) const LIFE: Duration = Duration::from_secs(8 * 3600);
/// Sessions at a time; the oldest makes room.
const MOST: usize = 64;
/// Octets of what is secret.
const SECRET: usize = 32;

/// All sessions. What browsers have is not kept, only its digest.
pub(super) struct Sessions {
    key: hmac::Key,
    random: SystemRandom,
    open: BTreeMap<[u8; SECRET], Session>,
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Name of the administrator.
    pub(super) name: String,
    /// Where they logged in from.
    pub(super) from: IpAddr,
    /// The hash that their password fitted; another one ends the session.
    proof: String,
    until: Instant,
    /// What came of the last action, until it was shown.
    pub(super) outcome: Option<(bool, String)>,
}

impl Sessions {
    /// None yet.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn new() -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)?;
        Ok(Self { key, random, open: BTreeMap::new() })
    }

    /// Begins one; the secret by which it will be known.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn open(&mut self, name: &str, proof: &str, from: IpAddr, now: Instant) -> Result<String, Unspecified> {
        self.open.retain(|_, session| session.until > now);
        while self.open.len() >= MOST {
            let oldest = self.open.iter().min_by_key(|(_, session)| session.until).map(|(id, _)| *id);
            oldest.and_then(|id| self.open.remove(&id));
        }
        let secret = self.secret()?;
        let (name, proof) = (name.to_owned(), proof.to_owned());
        self.open.insert(id(&secret), Session { name, from, proof, until: now + LIFE, outcome: None });
        Ok(secret)
    }

    /// The session with this secret.
    pub(super) fn find(&mut self, secret: &str, now: Instant) -> Option<&mut Session> {
        self.open.get_mut(&id(secret)).filter(|session| session.until > now)
    }

    /// Ends it.
    pub(super) fn close(&mut self, secret: &str) -> Option<Session> {
        self.open.remove(&id(secret))
    }

    /// Ends those whose administrator is none any more or has another password.
    pub(super) fn keep(&mut self, is_valid: impl Fn(&str, &str) -> bool) {
        self.open.retain(|_, session| is_valid(&session.name, &session.proof));
    }

    /// What the forms of this session bring along: nobody else's page can know it.
    pub(super) fn token(&self, secret: &str) -> String {
        hex(hmac::sign(&self.key, secret.as_bytes()).as_ref())
    }

    /// Whether a form brought it; in constant time.
    pub(super) fn is_token(&self, secret: &str, token: &str) -> bool {
        unhex(token).is_some_and(|tag| hmac::verify(&self.key, secret.as_bytes(), &tag).is_ok())
    }

    /// Something that nobody can guess, for a page's content security policy.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn secret(&self) -> Result<String, Unspecified> {
        let mut bytes = [0; SECRET];
        self.random.fill(&mut bytes)?;
        Ok(hex(&bytes))
    }
}

/// A digest, so that how long a search takes tells nothing of secrets.
fn id(secret: &str) -> [u8; SECRET] {
    let mut id = [0; SECRET];
    id.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    id
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_session_is_its_secret() {
        let (mut sessions, now) = (Sessions::new().unwrap(), clock::now());
        let alice = sessions.open("alice", "hash", FROM, now).unwrap();
        let bob = sessions.open("bob", "other", FROM, now).unwrap();
        assert_eq!(alice.len(), 64);
        assert_ne!(alice, bob);
        assert_eq!(sessions.find(&alice, now).unwrap().name, "alice");
        assert!(sessions.find("", now).is_none() && sessions.find(&alice[..63], now).is_none());
        assert!(sessions.find(&alice, now + LIFE).is_none(), "it ends by itself");
        assert_eq!(sessions.close(&alice).unwrap().name, "alice");
        assert!(sessions.find(&alice, now).is_none() && sessions.find(&bob, now).is_some());
        sessions.keep(|name, proof| name == "bob" && proof == "changed");
        assert!(sessions.find(&bob, now).is_none());
    }

    #[test]
    fn a_token_belongs_to_one_session() {
        let (mut sessions, now) = (Sessions::new().unwrap(), clock::now());
        let alice = sessions.open("alice", "", FROM, now).unwrap();
        let bob = sessions.open("bob", "", FROM, now).unwrap();
        let token = sessions.token(&alice);
        assert!(sessions.is_token(&alice, &token));
        assert!(!sessions.is_token(&bob, &token) && !Sessions::new().unwrap().is_token(&alice, &token));
        for wrong in ["", "0", "00", "zz", "é", &token[2..], &format!("{token}00"), &alice] {
            assert!(!sessions.is_token(&alice, wrong), "{wrong}");
        }
    }

    #[test]
    fn there_are_never_too_many() {
        let (mut sessions, now) = (Sessions::new().unwrap(), clock::now());
        let mut secrets = Vec::new();
        for n in 0..MOST as u32 + 3 {
            secrets.push(sessions.open("a", "", FROM, now + Duration::from_secs(n.into())).unwrap());
        }
        assert_eq!(sessions.open.len(), MOST);
        let now = now + Duration::from_secs(100);
        assert!(sessions.find(&secrets[2], now).is_none() && sessions.find(&secrets[3], now).is_some());
    }
}

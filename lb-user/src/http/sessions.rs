//! Who is logged in, or has come with a certificate: sessions in memory, each known by a secret, and bounded in number and time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::error::Unspecified;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};

use super::client::Client;
use crate::admin::Caller;

/// A session's longest life: a working day.
pub(super) const LIFE: Duration = Duration::from_secs(8 * 3600);
/// Sessions at a time; one of a certificate makes room, which will be there again when it is needed, else the oldest.
const MOST: usize = 64;
/// Octets of what is secret.
const SECRET: usize = 32;

/// All sessions. What browsers have is not kept, only its digest.
pub(super) struct Sessions {
    key: hmac::Key,
    random: SystemRandom,
    open: BTreeMap<[u8; SECRET], Session>,
}

/// Somebody who may change things.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Name of the administrator.
    pub(super) name: String,
    /// Where it began.
    pub(super) from: IpAddr,
    proof: Proof,
    until: Instant,
    /// What came of the last action, until it was shown.
    pub(super) outcome: Option<(bool, String)>,
}

/// What somebody has proved who they are by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// A certificate, shown anew with each connection.
    Certificate,
    /// The hash that their password fitted; another one ends the session.
    Password(String),
}

impl Session {
    /// Whether it is there only while connections come with the certificate.
    pub(super) fn is_certified(&self) -> bool {
        self.proof == Proof::Certificate
    }

    /// Whose orders come from this address.
    pub(super) fn caller(&self, from: IpAddr) -> Caller {
        let name = self.name.clone();
        if self.is_certified() { Caller::Certified { name, from } } else { Caller::Administrator { name, from } }
    }
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
        let secret = self.secret()?;
        self.insert(&secret, name, Proof::Password(proof.to_owned()), from, now);
        Ok(secret)
    }

    /// The secret of the session that whoever has shown this certificate is in; it begins where there is none.
    ///
    /// Certificates are public: the secret is made of it and of a key, and no browser ever gets it.
    pub(super) fn of_client(&mut self, client: &Client, from: IpAddr, now: Instant) -> String {
        let secret = hex(hmac::sign(&self.key, &client.certificate).as_ref());
        if self.find(&secret, now).is_none() {
            self.insert(&secret, &client.name, Proof::Certificate, from, now);
        }
        secret
    }

    fn insert(&mut self, secret: &str, name: &str, proof: Proof, from: IpAddr, now: Instant) {
        self.open.retain(|_, session| session.until > now);
        while self.open.len() >= MOST {
            let first = self.open.iter().min_by_key(|(_, session)| (!session.is_certified(), session.until));
            first.map(|(id, _)| *id).and_then(|id| self.open.remove(&id));
        }
        let name = name.to_owned();
        self.open.insert(id(secret), Session { name, from, proof, until: now + LIFE, outcome: None });
    }

    /// The session with this secret.
    pub(super) fn find(&mut self, secret: &str, now: Instant) -> Option<&mut Session> {
        self.open.get_mut(&id(secret)).filter(|session| session.until > now)
    }

    /// Ends it.
    pub(super) fn close(&mut self, secret: &str) -> Option<Session> {
        self.open.remove(&id(secret))
    }

    /// Ends those whose administrator is none any more or has another password. Certificates are verified anew anyway.
    pub(super) fn keep(&mut self, is_valid: impl Fn(&str, &str) -> bool) {
        self.open.retain(|_, session| match &session.proof {
            Proof::Password(hash) => is_valid(&session.name, hash),
            Proof::Certificate => false,
        });
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
    fn a_certificate_is_a_session_while_it_is_shown() {
        let (mut sessions, now) = (Sessions::new().unwrap(), clock::now());
        let client = |name: &str| Client { name: name.to_owned(), certificate: name.as_bytes().to_vec().into() };
        let ops = sessions.of_client(&client("ops"), FROM, now);
        sessions.find(&ops, now).unwrap().outcome = Some((true, "done".to_owned()));
        assert_eq!(ops, sessions.of_client(&client("ops"), FROM, now));
        assert!(sessions.find(&ops, now).unwrap().outcome.is_some(), "it is the same one");
        assert_ne!(ops, sessions.of_client(&client("oops"), FROM, now));
        let token = sessions.token(&ops);
        assert!(sessions.is_token(&ops, &token));
        assert_ne!(ops, Sessions::new().unwrap().of_client(&client("ops"), FROM, now), "nobody else can know it");
        sessions.keep(|_, _| true);
        assert!(sessions.find(&ops, now).is_none());
        // However many there are, nobody who is logged in has to go for them.
        let alice = sessions.open("alice", "", FROM, now).unwrap();
        for n in 0..2 * MOST {
            sessions.of_client(&client(&n.to_string()), FROM, now + Duration::from_secs(1));
        }
        assert_eq!(sessions.open.len(), MOST);
        assert!(sessions.find(&alice, now).is_some());
        assert_eq!(ops, sessions.of_client(&client("ops"), FROM, now));
        assert!(sessions.is_token(&ops, &token), "a form from before is good still");
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

//! Sealing with keys made of the shared one: HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439), HMAC-SHA256 (RFC 2104).

use std::hash::{BuildHasher as _, RandomState};

use lb_proto::sync::{Cipher, HEADER, Keys, NONCE, Nonce, PROOF};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::hkdf::{self, HKDF_SHA256, KeyType, Prk};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{aead, hmac};

use super::key::SharedKey;

/// Makes keys of the shared one.
pub struct Sealer {
    secret: Prk,
    prover: hmac::Key,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

/// The keys of a session.
pub struct SessionKeys {
    session: u64,
    out: LessSafeKey,
    back: LessSafeKey,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKeys({:016x}, ..)", self.session)
    }
}

impl Sealer {
    /// `None` is not to be: the library refuses only lengths that are not asked for.
    #[must_use]
    pub fn new(key: &SharedKey) -> Option<Self> {
        let secret = hkdf::Salt::new(HKDF_SHA256, b"xvip sync 1").extract(key.bytes());
        let prover = secret.expand(&[b"hello"], hmac::HMAC_SHA256).ok()?.into();
        Some(Self { secret, prover })
    }

    /// Of what `from` says to `to`.
    fn direction(&self, from: &Nonce, to: &Nonce) -> Option<LessSafeKey> {
        let parts: [&[u8]; 3] = [b"direction", from, to];
        let made = self.secret.expand(&parts, &CHACHA20_POLY1305).map(UnboundKey::from);
        made.ok().map(LessSafeKey::new)
    }
}

struct Eight;

impl KeyType for Eight {
    fn len(&self) -> usize {
        8
    }
}

impl Cipher for Sealer {
    type Keys = SessionKeys;

    fn prove(&self, bytes: &[u8]) -> [u8; PROOF] {
        let mut proof = [0; PROOF];
        proof.iter_mut().zip(hmac::sign(&self.prover, bytes).as_ref()).for_each(|(to, from)| *to = *from);
        proof
    }

    fn is_proof(&self, bytes: &[u8], proof: &[u8; PROOF]) -> bool {
        hmac::verify(&self.prover, bytes, proof).is_ok()
    }

    fn keys(&self, own: &Nonce, other: &Nonce) -> Option<SessionKeys> {
        let (low, high) = if own < other { (own, other) } else { (other, own) };
        let parts: [&[u8]; 3] = [b"session", low, high];
        let mut name = [0; 8];
        self.secret.expand(&parts, Eight).and_then(|okm| okm.fill(&mut name)).ok()?;
        let (out, back) = (self.direction(own, other)?, self.direction(other, own)?);
        Some(SessionKeys { session: u64::from_be_bytes(name), out, back })
    }
}

impl Keys for SessionKeys {
    fn session(&self) -> u64 {
        self.session
    }

    fn seal(&self, number: u64, header: &[u8; HEADER], body: &mut Vec<u8>) -> Option<()> {
        self.out.seal_in_place_append_tag(nonce(number), Aad::from(header), body).ok()
    }

    fn open<'b>(&self, number: u64, header: &[u8; HEADER], body: &'b mut [u8]) -> Option<&'b [u8]> {
        self.back.open_in_place(nonce(number), Aad::from(header), body).ok().map(|body| &*body)
    }
}

/// No number is used twice with one key.
fn nonce(number: u64) -> aead::Nonce {
    let mut nonce = [0; aead::NONCE_LEN];
    nonce.iter_mut().skip(4).zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    aead::Nonce::assume_unique_for_key(nonce)
}

/// Numbers that nobody can guess and that never come again.
#[derive(Debug)]
pub(super) struct Random(SystemRandom);

impl Random {
    pub(super) fn new() -> Self {
        Self(SystemRandom::new())
    }

    pub(super) fn nonce(&self) -> Nonce {
        let mut nonce = [0; NONCE];
        if self.0.fill(&mut nonce).is_err() {
            // Never on Linux; the seeds of hash tables come from the system too.
            for (place, chunk) in nonce.chunks_mut(8).enumerate() {
                chunk.copy_from_slice(&RandomState::new().hash_one(place).to_be_bytes());
            }
        }
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&SharedKey::new(&[key; 40]).unwrap()).unwrap()
    }

    #[test]
    fn each_end_opens_what_the_other_has_sealed_and_nobody_else_does() {
        let (a, b) = ([1; NONCE], [2; NONCE]);
        let (here, there) = (sealer(b'k').keys(&a, &b).unwrap(), sealer(b'k').keys(&b, &a).unwrap());
        assert_eq!(here.session(), there.session());
        let header = [7; HEADER];
        let mut sealed = b"flows".to_vec();
        here.seal(3, &header, &mut sealed).unwrap();
        assert_eq!(sealed.len(), 5 + lb_proto::sync::TAG);
        assert_eq!(there.open(3, &header, &mut sealed.clone()), Some(&b"flows"[..]));
        assert_eq!(there.open(4, &header, &mut sealed.clone()), None);
        assert_eq!(there.open(3, &[8; HEADER], &mut sealed.clone()), None);
        assert_eq!(here.open(3, &header, &mut sealed.clone()), None, "not what it has sealed itself");
        assert_eq!(sealer(b'x').keys(&b, &a).unwrap().open(3, &header, &mut sealed.clone()), None);
        assert_eq!(sealer(b'k').keys(&b, &[3; NONCE]).unwrap().open(3, &header, &mut sealed.clone()), None);
        for at in 0..sealed.len() {
            let mut spoilt = sealed.clone();
            spoilt[at] ^= 1;
            assert_eq!(there.open(3, &header, &mut spoilt), None);
        }
    }

    #[test]
    fn a_proof_is_of_these_bytes_and_this_key() {
        let proof = sealer(b'k').prove(b"hello");
        assert!(sealer(b'k').is_proof(b"hello", &proof));
        assert!(!sealer(b'k').is_proof(b"hallo", &proof));
        assert!(!sealer(b'x').is_proof(b"hello", &proof));
        assert_ne!(Random::new().nonce(), Random::new().nonce());
    }
}

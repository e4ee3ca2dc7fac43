//! Authenticated adverts: signs those of this node, believes those of nodes that have a key, each once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lb_proto::vrrp::{Kept, ReplayFault, Sequences};
use lb_proto::wire::vrrp::trailer::{CODE, Trailer};
use ring::hmac;

use crate::clock;
use crate::config::{Auth, KeyError, Keys, Vrrp};

/// Where the numbers of adverts are kept.
const STATE_DIR: &str = "/var/lib/xvip";

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[vrrp]] {name:?}: auth_key_file {}: {source}", .file.display())]
pub struct AuthError {
    name: String,
    file: PathBuf,
    source: KeyError,
}

/// Reads the key files of a configuration.
///
/// # Errors
/// The first that cannot be used.
pub fn arm(configs: &mut [Vrrp], node: &str) -> Result<(), AuthError> {
    for vrrp in configs {
        let name = &vrrp.name;
        let Some(auth) = &mut vrrp.auth else { continue };
        auth.keys = keys(name, &auth.key_file)?;
        auth.journal = Path::new(STATE_DIR).join(format!("{node}.{name}.adverts"));
    }
    Ok(())
}

/// The keys of a virtual router.
///
/// # Errors
/// They cannot be used.
pub fn keys(name: &str, file: &Path) -> Result<Keys, AuthError> {
    Keys::read(file).map_err(|source| AuthError { name: name.to_owned(), file: file.to_owned(), source })
}

/// Why an advert is not believed. Each is also a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It carries no trailer of ours.
    Missing,
    /// It names a key that is not here.
    Key,
    /// It was not made with the key, or was changed.
    Code,
    /// It was believed before, or is older than one that was.
    Replay(ReplayFault),
}

impl Doubt {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "auth_missing",
            Self::Key => "auth_key",
            Self::Code => "auth_failed",
            Self::Replay(ReplayFault::Replayed) => "auth_replayed",
            Self::Replay(ReplayFault::Stale) => "auth_stale",
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Missing => "it is not authenticated, and this virtual router has an auth_key_file",
            Self::Key => "it is authenticated by a key that is not in auth_key_file",
            Self::Code => "its authentication is wrong",
            Self::Replay(ReplayFault::Replayed) => "it is played back, or arrived twice",
            Self::Replay(ReplayFault::Stale) => "its number is an old one, and its sender was not heard before",
        }
    }
}

/// The authentication of one virtual router.
pub(super) struct Authenticator {
    keys: Vec<(u8, hmac::Key)>,
    sequences: Sequences,
    journal: PathBuf,
}

impl Authenticator {
    /// With what was kept of an earlier life. Reads a small file.
    pub(super) fn new(auth: &Auth, now: Instant) -> Self {
        let kept = read_journal(&auth.journal);
        let wall = clock::wall().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut new = Self {
            keys: Vec::new(),
            sequences: Sequences::new(kept, u64::try_from(wall).unwrap_or(u64::MAX), now),
            journal: auth.journal.clone(),
        };
        new.rekey(&auth.keys);
        new
    }

    /// Takes other keys; numbers go on.
    pub(super) fn rekey(&mut self, keys: &Keys) {
        self.keys = keys.iter().map(|(id, key)| (id, hmac::Key::new(hmac::HMAC_SHA256, key))).collect();
    }

    /// The number of an advert, the same for all its destinations.
    pub(super) fn number(&mut self, now: Instant) -> u64 {
        self.sequences.next(now)
    }

    /// Puts the trailer behind a message.
    pub(super) fn sign(&self, message: &mut Vec<u8>, number: u64, src: IpAddr, dst: IpAddr) {
        if let Some((id, key)) = self.keys.first() {
            Trailer::append(message, *id, number, src, dst, |signed| code(key, signed));
        }
    }

    /// Whether a packet is of a node with a key, and of now.
    pub(super) fn verify(&mut self, payload: &[u8], src: IpAddr, dst: IpAddr, now: Instant) -> Result<(), Doubt> {
        let trailer = Trailer::read(payload, src, dst).ok_or(Doubt::Missing)?;
        let (_, key) = self.keys.iter().find(|(id, _)| *id == trailer.key_id).ok_or(Doubt::Key)?;
        if !same(&code(key, &trailer.signed), &trailer.code) {
            return Err(Doubt::Code);
        }
        self.sequences.accept(src, trailer.sequence, now).map_err(Doubt::Replay)
    }

    /// What is to be written to the journal now, if something is.
    pub(super) fn due(&mut self, now: Instant) -> Option<Journal> {
        let kept = self.sequences.to_keep(now)?;
        Some(Journal { path: self.journal.clone(), kept })
    }

    /// What is to be written at the end.
    pub(super) fn last(&mut self, now: Instant) -> Journal {
        Journal { path: self.journal.clone(), kept: self.sequences.keep(now) }
    }
}

fn code(key: &hmac::Key, signed: &[u8]) -> [u8; CODE] {
    let tag = hmac::sign(key, signed);
    let mut code = [0; CODE];
    for (to, from) in code.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    code
}

/// Takes the same time wherever they differ.
fn same(one: &[u8; CODE], other: &[u8; CODE]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (one, other)| std::hint::black_box(all | (one ^ other)));
    differences == 0
}

/// Numbers on their way to the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Journal {
    path: PathBuf,
    kept: Kept,
}

impl Journal {
    /// Writes it whole or not at all. Waits for the disk.
    pub(super) fn write(&self) -> std::io::Result<()> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let beside = self.path.with_extension("adverts.new");
        std::fs::write(&beside, self.text())?;
        std::fs::rename(beside, &self.path)
    }

    fn text(&self) -> String {
        let heard = self.kept.heard.iter().map(|(src, number)| format!("heard {src} {number}\n"));
        std::iter::once(format!("sent {}\n", self.kept.sent)).chain(heard).collect()
    }
}

fn read_journal(path: &Path) -> Kept {
    match std::fs::read_to_string(path) {
        Ok(text) => parse_journal(&text),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!("cannot read {}, going on without: {error}", path.display());
            }
            Kept::default()
        }
    }
}

/// What cannot be read is left out: the wall clock stands in for it.
fn parse_journal(text: &str) -> Kept {
    let mut kept = Kept::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("sent"), Some(number), None) => kept.sent = number.parse().unwrap_or_default(),
            (Some("heard"), Some(src), Some(number)) => {
                if let (Ok(src), Ok(number)) = (src.parse(), number.parse()) {
                    kept.heard.push((src, number));
                }
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests;

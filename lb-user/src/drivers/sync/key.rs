//! The key that the balancers share, and the file it is in.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Fewer bytes are no key.
const FEWEST: usize = 32;
/// More are none either.
const MOST: usize = 4096;
const HOW: &str = "make one with `openssl rand -hex 32`, and copy it to all balancers";

/// What the balancers share. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(Vec<u8>);

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

/// Why a file is no key.
#[derive(Debug, thiserror::Error)]
#[error("sync.key_file {file}: {what}; {remedy}")]
pub struct KeyError {
    file: String,
    what: String,
    remedy: String,
}

impl SharedKey {
    /// Reads the file, whose text is the key but for white space around it.
    ///
    /// # Errors
    /// It cannot be read, others than its owner and group may, or it is too short.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let fault =
            |what: String, remedy: &str| KeyError { file: path.display().to_string(), what, remedy: remedy.to_owned() };
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => fault("there is no such file".to_owned(), HOW),
            _ => fault(format!("it cannot be read: {error}"), "make it a file that root can read"),
        };
        // A FIFO would otherwise wait for its writer.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = opened.map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(fault("it is not a regular file".to_owned(), HOW));
        }
        if metadata.mode() & 0o007 != 0 {
            let what = format!("its mode is {:04o}, so that everybody can read or change it", metadata.mode() & 0o7777);
            let remedy = format!("chmod 600 {}, and change the key if others have seen it", path.display());
            return Err(fault(what, &remedy));
        }
        let mut bytes = Vec::new();
        file.take(MOST as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > MOST {
            return Err(fault(format!("it is longer than {MOST} bytes"), HOW));
        }
        Self::new(&bytes).ok_or_else(|| fault(format!("it has fewer than {FEWEST} characters"), HOW))
    }

    /// `None`: it is too short.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.trim_ascii();
        (bytes.len() >= FEWEST).then(|| Self(bytes.to_vec()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_long_and_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sync.key");
        let refusal = || SharedKey::load(&path).unwrap_err().to_string();
        assert!(refusal().ends_with(
            "sync.key: there is no such file; make one with `openssl rand -hex 32`, and copy it to all balancers"
        ));
        fs::write(&path, "5f".repeat(32) + "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refusal().contains("its mode is 0644, so that everybody can read or change it; chmod 600 "));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let key = SharedKey::load(&path).unwrap();
        assert_eq!(Some(&key), SharedKey::new("5f".repeat(32).as_bytes()).as_ref());
        assert_eq!(format!("{key:?}"), "SharedKey(..)");
        fs::write(&path, "x".repeat(31) + "\n\n").unwrap();
        assert!(refusal().contains("it has fewer than 32 characters"));
        fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(refusal().contains("it is longer than 4096 bytes"));
        let error = SharedKey::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("it is not a regular file"));
    }
}

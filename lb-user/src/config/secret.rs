//! Files that only their owner may read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// Why such a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Others may read it.
    #[error("others than its owner may use it (mode {0:04o}), so it is no secret: chmod 600 it and make a new one")]
    Open(u32),
    /// It is no ordinary file.
    #[error("it is no ordinary file")]
    NotAFile,
}

/// Reads the text of a file, at most so many octets of it, which only its owner may be able to.
///
/// # Errors
/// What is wrong with the file or its permissions; never what it says.
pub fn read_secret(path: &Path, longest: u64) -> Result<String, SecretError> {
    // A FIFO in its place keeps nobody waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // Of what was opened, whatever has the name by now.
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(SecretError::NotAFile);
    }
    if meta.mode() & OTHERS != 0 {
        return Err(SecretError::Open(meta.mode() & 0o7777));
    }
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text)?;
    Ok(text)
}

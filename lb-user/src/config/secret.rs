//! Files that only their owner may read, or only their owner may write.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Why such a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Others may read it.
    #[error("others than its owner may use it (mode {0:04o}), so it is no secret: chmod 600 it and make a new one")]
    Open(u32),
    /// Others may write it.
    #[error("others than its owner may write it (mode {0:04o}), and with it decide whom to believe: chmod go-w it")]
    Writable(u32),
    /// It is no ordinary file.
    #[error("it is no ordinary file")]
    NotAFile,
}

/// Reads the text of a file, at most so many octets of it, which only its owner may be able to.
///
/// # Errors
/// What is wrong with the file or its permissions; never what it says.
pub fn read_secret(path: &Path, longest: u64) -> Result<String, SecretError> {
    read(path, longest, |mode| if mode & OTHERS == 0 { Ok(()) } else { Err(SecretError::Open(mode)) })
}

/// Reads the text of a file that says whom to believe, at most so many octets of it; only its owner may be able to write it.
///
/// # Errors
/// What is wrong with the file or its permissions; never what it says.
pub fn read_trusted(path: &Path, longest: u64) -> Result<String, SecretError> {
    read(path, longest, |mode| if mode & OTHERS_WRITE == 0 { Ok(()) } else { Err(SecretError::Writable(mode)) })
}

fn read(path: &Path, longest: u64, permit: impl FnOnce(u32) -> Result<(), SecretError>) -> Result<String, SecretError> {
    // A FIFO in its place keeps nobody waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // Of what was opened, whatever has the name by now.
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(SecretError::NotAFile);
    }
    permit(meta.mode() & 0o7777)?;
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text)?;
    Ok(text)
}

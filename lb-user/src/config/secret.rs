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
    /// What is behind this many octets would not be read.
    #[error("it has more than the {0} octets that are read: take out what is not needed")]
    Long(u64),
}

/// Reads the text of a file, which only its owner may be able to, and which has at most so many octets.
///
/// # Errors
/// What is wrong with the file or its permissions; never what it says.
pub fn read_secret(path: &Path, longest: u64) -> Result<String, SecretError> {
    text(path, longest, |mode| if mode & OTHERS == 0 { Ok(()) } else { Err(SecretError::Open(mode)) })
}

/// Reads the text of a file that says whom to believe, and has at most so many octets; only its owner may be able to write it.
///
/// # Errors
/// What is wrong with the file or its permissions; never what it says.
pub fn read_trusted(path: &Path, longest: u64) -> Result<String, SecretError> {
    text(path, longest, |mode| if mode & OTHERS_WRITE == 0 { Ok(()) } else { Err(SecretError::Writable(mode)) })
}

/// Reads a file that anybody may know, and that has at most so many octets.
///
/// # Errors
/// What is wrong with the file; never what it says.
pub fn read_public(path: &Path, longest: u64) -> Result<Vec<u8>, SecretError> {
    read(path, longest, |_| Ok(()))
}

fn text(path: &Path, longest: u64, permit: impl FnOnce(u32) -> Result<(), SecretError>) -> Result<String, SecretError> {
    let no_text = |_| SecretError::Io(io::Error::new(io::ErrorKind::InvalidData, "it is no text"));
    String::from_utf8(read(path, longest, permit)?).map_err(no_text)
}

fn read(
    path: &Path, longest: u64, permit: impl FnOnce(u32) -> Result<(), SecretError>,
) -> Result<Vec<u8>, SecretError> {
    // A FIFO in its place keeps nobody waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // Of what was opened, whatever has the name by now.
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(SecretError::NotAFile);
    }
    permit(meta.mode() & 0o7777)?;
    let mut bytes = Vec::new();
    // One more, by which it is known that there is more.
    let read = file.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > longest) {
        return Err(SecretError::Long(longest));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "1234é").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret(&file, 6).unwrap(), "1234é");
        assert_eq!(read_trusted(&file, 6).unwrap(), "1234é");
        assert_eq!(read_public(&file, 6).unwrap(), "1234é".as_bytes());
        // Cut off within a letter, and between two.
        for longest in [5, 4, 0] {
            let faults = [
                read_secret(&file, longest).unwrap_err(),
                read_trusted(&file, longest).unwrap_err(),
                read_public(&file, longest).unwrap_err(),
            ];
            for fault in faults {
                assert!(fault.to_string().contains(&format!("more than the {longest} octets")), "{fault}");
            }
        }
        fs::write(&file, b"\xff").unwrap();
        assert_eq!(read_secret(&file, 6).unwrap_err().to_string(), "it is no text");
        assert_eq!(read_public(&file, 6).unwrap(), b"\xff");
    }

    #[test]
    fn what_is_no_file_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = &dir.path().join("fifo");
        nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        for path in [fifo.as_path(), dir.path()] {
            assert!(matches!(read_secret(path, 6), Err(SecretError::NotAFile)));
            assert!(matches!(read_trusted(path, 6), Err(SecretError::NotAFile)));
            assert!(matches!(read_public(path, 6), Err(SecretError::NotAFile)));
        }
    }
}

//! One agent for each node of a host.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("another xvip is running for node {0:?}: stop it, or give this one another node.name")]
    Taken(String),
    /// The file cannot be made or locked.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The lock of a node; given back, with its file, when dropped. The file of an agent that died stays until one serves.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    is_left: bool,
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of `node`, in `directory`.
    pub(super) fn take(directory: &Path, node: &str) -> Result<Self, LockError> {
        let path = directory.join(format!("{node}.lock"));
        let io = |source: io::Error| LockError::Io { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(io)?;
        loop {
            let (file, is_left) = match OpenOptions::new().create_new(true).write(true).open(&path) {
                Ok(file) => (file, false),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    match OpenOptions::new().write(true).open(&path) {
                        Ok(file) => (file, true),
                        // Its owner has ended, and removed it.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(io(error)),
                    }
                }
                Err(error) => return Err(io(error)),
            };
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LockError::Taken(node.to_owned())),
                Err((_, errno)) => return Err(io(errno.into())),
            };
            // Its last owner may have removed the file between our opening and our locking it.
            let ours = file.metadata().map_err(io)?;
            if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, is_left, _file: file });
            }
        }
    }

    /// Whether the agent that had it last, since the host was started, died.
    pub(super) fn is_left(&self) -> bool {
        self.is_left
    }

    /// From here on this agent is the one that had it last.
    pub(super) fn serves(&mut self) {
        self.is_left = false;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.is_left {
            // A file that stays does no harm: the lock is what counts.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path(), "lb1").unwrap();
        assert!(matches!(Lock::take(directory.path(), "lb1"), Err(LockError::Taken(_))));
        Lock::take(directory.path(), "lb2").unwrap();
        drop(first);
        Lock::take(directory.path(), "lb1").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing stays behind");
    }
    #[test]
    fn who_dies_leaves_its_file_until_another_serves() {
        let directory = tempfile::tempdir().unwrap();
        let take = || Lock::take(directory.path(), "lb1").unwrap();
        assert!(!take().is_left(), "the first one");
        fs::write(directory.path().join("lb1.lock"), "").unwrap();
        assert!(take().is_left(), "its file is there and nobody has the lock");
        let mut third = take();
        assert!(third.is_left(), "the second one has not served");
        third.serves();
        drop(third);
        assert!(!take().is_left());
    }
}

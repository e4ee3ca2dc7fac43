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

/// The lock of a node; given back, with its file, when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of `node`, in `directory`.
    pub(super) fn take(directory: &Path, node: &str) -> Result<Self, LockError> {
        let path = directory.join(format!("{node}.lock"));
        let io = |source: io::Error| LockError::Io { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(io)?;
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LockError::Taken(node.to_owned())),
                Err((_, errno)) => return Err(io(errno.into())),
            };
            // Its last owner may have removed the file between our opening and our locking it.
            let ours = file.metadata().map_err(io)?;
            if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays does no harm: the lock is what counts.
        let _ = fs::remove_file(&self.path);
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
}

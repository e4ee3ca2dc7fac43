//! Locks between processes: files that their owner alone can open, for whoever has a file open in any way can keep its lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

const MODE: u32 = 0o600;
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;

/// Why a lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockFault {
    /// Somebody has it.
    #[error("another process holds {}: `fuser {}` names it", .0.display(), .0.display())]
    Held(PathBuf),
    /// The file is somebody else's, who may keep its lock.
    #[error("{} belongs to user {owner}: remove it", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// The file cannot be made or locked.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A lock that is held; given back, with its file, when dropped. The file of a process that died stays until one serves.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    is_left: bool,
    _file: Flock<File>,
}

impl LockFile {
    /// Takes the lock of the file at `path`, which is made where there is none, if nobody has it.
    pub(crate) fn take(path: &Path) -> Result<Self, LockFault> {
        let io = |source: io::Error| LockFault::Io { path: path.to_owned(), source };
        let open = |is_new: bool| {
            let mut options = OpenOptions::new();
            // A FIFO in its place keeps nobody waiting.
            options.create_new(is_new).write(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            options.open(path)
        };
        let mut replaced = false;
        loop {
            let (file, is_left) = match open(true) {
                Ok(file) => (file, replaced),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match open(false) {
                    Ok(file) => (file, true),
                    // Its owner has ended, and removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(io(error)),
                },
                Err(error) => return Err(io(error)),
            };
            let ours = file.metadata().map_err(io)?;
            if !ours.is_file() {
                return Err(io(io::Error::other("it is no ordinary file: remove it")));
            }
            if ours.uid() != geteuid().as_raw() {
                return Err(LockFault::Foreign { path: path.to_owned(), owner: ours.uid() });
            }
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LockFault::Held(path.to_owned())),
                Err((_, errno)) => return Err(io(errno.into())),
            };
            // Its last owner may have removed the file between our opening and our locking it.
            if !fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                continue;
            }
            if ours.mode() & OTHERS != 0 {
                // An agent before this one left it open to others, who may have it open still: a new mode would not take
                // that from them, a new file does.
                fs::remove_file(path).map_err(io)?;
                replaced = true;
                continue;
            }
            return Ok(Self { path: path.to_owned(), is_left, _file: file });
        }
    }

    /// Whether the process that had it last, since the host was started, died.
    pub(crate) fn is_left(&self) -> bool {
        self.is_left
    }

    /// From here on this process is the one that had it last.
    pub(crate) fn serves(&mut self) {
        self.is_left = false;
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if !self.is_left {
            // A file that stays does no harm: the lock is what counts.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("lb1.lock"), directory.path().join("lb2.lock"));
        let held = LockFile::take(&first).unwrap();
        let refused = LockFile::take(&first).unwrap_err().to_string();
        assert_eq!(refused, format!("another process holds {0}: `fuser {0}` names it", first.display()));
        LockFile::take(&second).unwrap();
        drop(held);
        LockFile::take(&first).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing stays behind");
    }

    #[test]
    fn who_may_only_read_the_directory_keeps_nobody_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb1.lock");
        // What anybody can do there.
        let other = Flock::lock(File::open(directory.path()).unwrap(), FlockArg::LockExclusive).unwrap();
        let lock = LockFile::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        drop((lock, other));

        // A file that an earlier agent has left, open to all, and that somebody has open and would lock later.
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let theirs = File::open(&path).unwrap();
        let mut lock = LockFile::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        assert!(lock.is_left(), "who had that one died");
        lock.serves();
        let theirs = Flock::lock(theirs, FlockArg::LockExclusiveNonblock).unwrap();
        drop(lock);
        LockFile::take(&path).unwrap();
        drop(theirs);

        // One that such an agent holds is held.
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let theirs = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusive).unwrap();
        assert!(matches!(LockFile::take(&path), Err(LockFault::Held(_))));
        drop(theirs);
        LockFile::take(&path).unwrap();
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(LockFile::take(&path), Err(LockFault::Io { .. })));
        fs::remove_file(&path).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(LockFile::take(&path), Err(LockFault::Io { .. })));
        assert!(!elsewhere.exists());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
            let refused = LockFile::take(&path).unwrap_err().to_string();
            assert_eq!(refused, format!("{} belongs to user 4711: remove it", path.display()));
        }
    }
}

//! The files of the admin sockets: claimed by one living agent at a time, never wider than their mode, removed by whoever made them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::lock::{LockFault, LockFile};

const DIRECTORY_MODE: u32 = 0o755;
const BACKLOG: i32 = 16;

/// How long another agent may take to accept, and how long one may hold the lock while it starts.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);

/// Why the socket could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// An agent answers there, or is starting there.
    #[error("admin.socket: another xvip is running here: it answers on {}", .0.display())]
    InUse(PathBuf),
    /// Something else is there, which is not ours to remove.
    #[error("admin.socket: {} exists and is not a socket: remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The lock beside it cannot be had.
    #[error("admin.socket: {0}")]
    Lock(LockFault),
    /// A step failed.
    #[error("admin.socket: cannot {step} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A socket file we made; removed on drop while it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Nothing can be done about a failure here, and the next start replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of the file at `path`.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Makes the socket at `path` with this mode, in place of a dead one but not of a living one.
pub(super) async fn claim(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), ClaimError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_directory(directory)?;
    // Of two agents that start together and find the same dead socket, the second must see what the first made of it. Agents of
    // older builds lock the directory instead, as anybody can who may read it, so that says nothing: what keeps one of them
    // apart from this one is the lock of their node, which both take, and the last look before a dead socket is removed.
    let mut lock = lock(directory, path).await?;
    // Who died in here has left nothing that matters.
    lock.serves();
    remove_dead(path).await?;
    bind(path, mode)
}

fn make_directory(directory: &Path) -> Result<(), ClaimError> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE)))
        .map_err(failed("make the directory", directory))
}

async fn lock(directory: &Path, path: &Path) -> Result<LockFile, ClaimError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    let file = directory.join(name);
    let mut held = None;
    let attempt = timeout(PATIENCE, async {
        loop {
            match LockFile::take(&file) {
                Err(fault @ LockFault::Held(_)) => held = Some(fault),
                outcome => return outcome,
            }
            sleep(RETRY).await;
        }
    });
    match (attempt.await, held) {
        (Ok(outcome), _) => outcome.map_err(ClaimError::Lock),
        (Err(_), Some(fault)) => Err(ClaimError::Lock(fault)),
        (Err(_), None) => Err(ClaimError::InUse(path.to_owned())),
    }
}

async fn remove_dead(path: &Path) -> Result<(), ClaimError> {
    let dead = match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ClaimError::NotASocket(path.to_owned()));
        }
        Ok(meta) => (meta.dev(), meta.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
    };
    match timeout(PATIENCE, UnixStream::connect(path)).await {
        // Only a refusal proves that nobody listens; a full queue or a slow answer is somebody.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
            return Err(failed("connect to", path)(error));
        }
        Ok(_) | Err(_) => return Err(ClaimError::InUse(path.to_owned())),
    }
    if identity(path).is_ok_and(|now| now != dead) {
        return Err(ClaimError::InUse(path.to_owned()));
    }
    fs::remove_file(path).map_err(failed("replace", path))
}

fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), ClaimError> {
    let failed = |error| failed("listen on", path)(error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // The file is created with the mode of the descriptor, less the umask: at no moment is it open to more than these.
    fchmod(socket.as_fd(), Mode::from_bits_truncate(mode)).map_err(|e| failed(e.into()))?;
    let address = SockAddr::unix(path).map_err(failed)?;
    socket.bind(&address).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path).map_err(failed)? };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(StdListener::from(socket)).map_err(failed)?;
    Ok((listener, file))
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
    move |source| ClaimError::Io { step, path: path.to_owned(), source }
}

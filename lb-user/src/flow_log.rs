//! The log of flows: a line of JSON for each connection that opens and each that ends.
//!
//! A thread of its own reads what the datapath and the sweep tell and writes it. Where the file is slow, the datapath's ring
//! fills and the kernel counts what it has no room for; where there are more lines than are wanted, they are counted here.
//! Nobody else waits for any of it.

mod journal;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;
use tracing::warn;

use crate::bpf::{Happened, LoggedFlows};
use crate::clock;
use crate::config::{FlowLog as Settings, LogTo};
use crate::naming::Naming;
pub use journal::{Entry, Journal, Left};

/// How long the thread waits for something to happen.
const WAIT_MS: u16 = 200;
/// What happens within this time is written together; by its end a flow's last packet has been counted as well.
const TOGETHER: Duration = Duration::from_millis(10);
/// Who may read the log besides its owner.
const MODE: u32 = 0o640;
/// How long the end waits for the last lines.
const LAST: Duration = Duration::from_millis(500);

/// The log cannot be written where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("flow_log.path: cannot open {path}: {source}; make its directory, or choose another path")]
pub struct FlowLogError {
    path: String,
    #[source]
    source: io::Error,
}

/// Where lines go, opened.
#[derive(Debug)]
pub struct Output {
    to: To,
    max_lines_per_second: u32,
}

#[derive(Debug)]
enum To {
    File(File, PathBuf),
    Stdout,
}

impl Output {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub fn open(settings: &Settings) -> Result<Self, FlowLogError> {
        let to = match &settings.to {
            LogTo::Stdout => To::Stdout,
            LogTo::File(path) => To::File(open(path)?, path.clone()),
        };
        Ok(Self { to, max_lines_per_second: settings.max_lines_per_second })
    }

    /// Opens the file anew where it was moved away or removed, as programs that rotate logs do it. Where it cannot be opened, the
    /// one that is open goes on being used.
    fn follow(&mut self) -> Result<(), FlowLogError> {
        let To::File(file, path) = &mut self.to else { return Ok(()) };
        let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let (named, ours) = (fs::metadata(&*path).map(id), file.metadata().map(id));
        if !matches!((named, ours), (Ok(named), Ok(ours)) if named == ours) {
            *file = open(path)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &str) -> io::Result<()> {
        match &mut self.to {
            To::File(file, _) => file.write_all(lines.as_bytes()),
            To::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines.as_bytes())?;
                out.flush()
            }
        }
    }
}

fn open(path: &Path) -> Result<File, FlowLogError> {
    let mut options = OpenOptions::new();
    // Nobody reads a FIFO for ever, and a device is no log.
    options.append(true).create(true).mode(MODE).custom_flags(libc::O_NONBLOCK);
    let opened = options.open(path).and_then(|file| match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file")),
    });
    opened.map_err(|source| FlowLogError { path: path.display().to_string(), source })
}

/// The thread that writes. Dropping this ends it after what has happened by then, as far as that can be written soon.
#[derive(Debug)]
pub struct Writer {
    outputs: Option<Sender<Output>>,
    ended: Receiver<()>,
}

impl Writer {
    /// Writes what these tell to `output`, with the names of the moment.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        flows: LoggedFlows, removed: Receiver<Happened>, naming: watch::Receiver<Arc<Naming>>, output: Output,
    ) -> io::Result<Self> {
        let (outputs, changes) = channel();
        let (end, ended) = channel();
        let mut log =
            Log { flows, removed, naming, journal: Journal::new(output.max_lines_per_second), output, fault: None };
        thread::Builder::new().name("flow-log".to_owned()).spawn(move || {
            log.run(&changes);
            // Whoever waits for the end may have given up.
            let _ = end.send(());
        })?;
        Ok(Self { outputs: Some(outputs), ended })
    }

    /// Writes to another file from now on, or to the same one opened anew.
    pub fn reopen(&self, output: Output) {
        if let Some(outputs) = &self.outputs {
            // A thread that has died has said so.
            let _ = outputs.send(output);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outputs = None;
        let _ = self.ended.recv_timeout(LAST);
    }
}

struct Log {
    flows: LoggedFlows,
    removed: Receiver<Happened>,
    naming: watch::Receiver<Arc<Naming>>,
    journal: Journal,
    output: Output,
    fault: Option<String>,
}

impl Log {
    fn run(&mut self, changes: &Receiver<Output>) {
        loop {
            let is_over = match changes.try_recv() {
                Ok(output) => {
                    self.journal.limit(output.max_lines_per_second);
                    self.output = output;
                    false
                }
                Err(TryRecvError::Empty) => false,
                Err(TryRecvError::Disconnected) => true,
            };
            if !is_over {
                self.wait();
            }
            self.take_in();
            if is_over {
                return;
            }
        }
    }

    fn wait(&self) {
        // SAFETY: the ring buffer lives as long as this, and shows the same descriptor all the time.
        let fd = unsafe { BorrowedFd::borrow_raw(self.flows.as_raw_fd()) };
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(WAIT_MS)).is_ok_and(|ready| ready > 0) {
            thread::sleep(TOGETHER);
        }
    }

    /// Writes what has happened by now, some thousand lines at a time; in a flood, the rest after a look at what is wanted.
    fn take_in(&mut self) {
        const LINES: usize = 4096;
        const ROUNDS: usize = 16;
        let naming = Arc::clone(&self.naming.borrow());
        let at = clock::unix(clock::wall());
        let epoch = clock::monotonic_epoch();
        let mut failed = None;
        match self.flows.missed() {
            Ok(missed) => self.journal.leave_out(missed),
            Err(error) => failed = Some(error.to_string()),
        }
        for _ in 0..ROUNDS {
            let mut lines = String::new();
            for _ in 0..LINES {
                let next = match self.flows.take_one() {
                    Ok(next) => next,
                    Err(error) => {
                        failed = Some(error.to_string());
                        self.journal.leave_out(1);
                        continue;
                    }
                };
                let Some(happened) = next.or_else(|| self.removed.try_recv().ok()) else {
                    break;
                };
                let when = Duration::from_nanos(happened.at.saturating_add(epoch)).as_secs_f64();
                self.journal.note(&happened, &naming, (when, at), &mut lines);
            }
            let is_last = lines.is_empty();
            self.journal.settle(at, &mut lines);
            if !lines.is_empty() {
                if let Err(error) = self.output.follow() {
                    failed = Some(error.to_string());
                }
                if let Err(error) = self.output.write(&lines) {
                    failed = Some(error.to_string());
                    self.journal.leave_out(lines.lines().count() as u64);
                }
            }
            if is_last {
                break;
            }
        }
        if failed != self.fault {
            if let Some(why) = &failed {
                warn!("some connections are missing in the flow log: {why}");
            }
            self.fault = failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_an_ordinary_file_that_others_may_not_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let settings = |name: &str| Settings { to: LogTo::File(dir.path().join(name)), max_lines_per_second: 1 };
        let mut output = Output::open(&settings("flows.log")).unwrap();
        output.write("a\n").unwrap();
        let mut again = Output::open(&settings("flows.log")).unwrap();
        again.write("b\n").unwrap();
        output.write("c\n").unwrap();
        let path = dir.path().join("flows.log");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !0o640, 0);
        let missing = Output::open(&settings("none/flows.log")).unwrap_err().to_string();
        assert!(missing.contains("none/flows.log") && missing.contains("make its directory"), "{missing}");
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(Output::open(&settings("dir")).is_err());
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("flows.log"), dir.path().join("flows.log.1"));
        let mut output = Output::open(&Settings { to: LogTo::File(path.clone()), max_lines_per_second: 1 }).unwrap();
        let mut write = |line: &str| {
            let followed = output.follow();
            output.write(line).unwrap();
            followed
        };
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        write("a\n").unwrap();
        write("b\n").unwrap();
        assert_eq!(read(&path), "a\nb\n");
        fs::rename(&path, &moved).unwrap();
        write("c\n").unwrap();
        assert_eq!((read(&moved), read(&path)), ("a\nb\n".to_owned(), "c\n".to_owned()));
        // Another file of that name, as logrotate makes it with `create`.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x\n").unwrap();
        write("d\n").unwrap();
        assert_eq!(read(&path), "x\nd\n");
        // Where there can be none, what is open takes the lines.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(write("e\n").is_err());
        fs::remove_dir(&path).unwrap();
        write("f\n").unwrap();
        assert_eq!(read(&path), "f\n");
    }
}

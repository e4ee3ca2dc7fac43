//! Where packets go: a file, or lines. Written on a thread of its own, because whoever reads may pause, and the command ends
//! all the same when it is told to.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::CaptureError;
use super::file::CaptureFile;
use super::pair::Seen;
use crate::clock;
use crate::status::words::instant;

/// Who may read what packets carry: who has asked for them.
const MODE: u32 = 0o600;
/// What was taken at once and waits to be written; there is no room for more of it than this.
const WAITING: usize = 2;

/// What is to be written.
#[derive(Debug)]
enum Piece {
    /// The head of a file, with the name of the interface.
    Head(String),
    Packets(Vec<Seen>),
}

/// The thread, which ends after what it was given before this is dropped.
#[derive(Debug)]
pub(super) struct Output {
    pieces: Option<mpsc::Sender<Piece>>,
    opened: Option<oneshot::Receiver<()>>,
    ended: oneshot::Receiver<Result<(), CaptureError>>,
}

impl Output {
    /// Begins to open it: a file of this name, `-` for a file at standard output, or lines there; with so many bytes of each
    /// packet.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(to: Option<PathBuf>, bytes: u32) -> io::Result<Self> {
        let (pieces, given) = mpsc::channel(WAITING);
        let (tell_opened, opened) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let outcome = Target::open(to, bytes).and_then(|target| {
                // Nobody waits for it where the command ends just now.
                let _ = tell_opened.send(());
                target.write(given)
            });
            let _ = end.send(outcome);
        })?;
        Ok(Self { pieces: Some(pieces), opened: Some(opened), ended })
    }

    /// Waits until it is open.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) async fn opened(&mut self) -> Result<(), CaptureError> {
        if let Some(opened) = &mut self.opened {
            let is_open = opened.await.is_ok();
            self.opened = None;
            if !is_open {
                return self.ended().await;
            }
        }
        Ok(())
    }

    /// Whether there is room for another piece.
    pub(super) fn has_room(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.capacity() > 0)
    }

    /// Writes the head, which comes before any packet.
    pub(super) fn begin(&self, interface: &str) {
        self.put(Piece::Head(interface.to_owned()));
    }

    /// Writes packets, where there is room.
    pub(super) fn write(&self, packets: Vec<Seen>) {
        if !packets.is_empty() {
            self.put(Piece::Packets(packets));
        }
    }

    fn put(&self, piece: Piece) {
        if let Some(pieces) = &self.pieces {
            // A thread that has ended has said why.
            let _ = pieces.try_send(piece);
        }
    }

    /// Waits until nothing can be written any more: nobody wants it, or something is wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) async fn ended(&mut self) -> Result<(), CaptureError> {
        // Once it has been told, there is nothing more to wait for.
        if self.ended.is_terminated() { Ok(()) } else { (&mut self.ended).await.unwrap_or(Ok(())) }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// When something is wrong.
    pub(super) async fn finish(&mut self) -> Result<(), CaptureError> {
        self.pieces = None;
        self.ended().await
    }
}

enum Target {
    File { path: PathBuf, out: BufWriter<Box<dyn Write>>, ordinary: Option<File>, bytes: u32 },
    Lines(BufWriter<io::Stdout>),
}

impl Target {
    fn open(to: Option<PathBuf>, bytes: u32) -> Result<Self, CaptureError> {
        let Some(path) = to else {
            return Ok(Self::Lines(BufWriter::new(io::stdout())));
        };
        if path == Path::new("-") {
            return Ok(Self::File { path, out: BufWriter::new(Box::new(io::stdout())), ordinary: None, bytes });
        }
        // What an earlier one wrote stays until there are packets.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&path);
        let opened = opened.and_then(|file| {
            let ordinary = if file.metadata()?.is_file() { Some(file.try_clone()?) } else { None };
            Ok((file, ordinary))
        });
        match opened {
            Ok((file, ordinary)) => Ok(Self::File { path, out: BufWriter::new(Box::new(file)), ordinary, bytes }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    fn write(self, mut given: mpsc::Receiver<Piece>) -> Result<(), CaptureError> {
        let epoch = clock::monotonic_epoch();
        let (path, written) = match self {
            Self::File { path, out, ordinary, bytes } => {
                let written = write_file(out, ordinary.as_ref(), bytes, epoch, &mut given);
                (path, written)
            }
            Self::Lines(out) => (PathBuf::from("standard output"), write_lines(out, epoch, &mut given)),
        };
        match written {
            // Whoever closed the output has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|source| failed(&path, source)),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> CaptureError {
    CaptureError::File { path: path.display().to_string(), source }
}

fn write_file(
    out: impl Write, ordinary: Option<&File>, bytes: u32, epoch: u64, given: &mut mpsc::Receiver<Piece>,
) -> io::Result<()> {
    let Some(Piece::Head(interface)) = given.blocking_recv() else {
        return Ok(());
    };
    if let Some(file) = ordinary {
        file.set_len(0)?;
    }
    let mut file = CaptureFile::begin(out, &interface, bytes, epoch)?;
    file.flush()?;
    while let Some(piece) = given.blocking_recv() {
        let Piece::Packets(packets) = piece else { continue };
        packets.iter().try_for_each(|seen| file.write(seen))?;
        file.flush()?;
    }
    Ok(())
}

fn write_lines(mut out: impl Write, epoch: u64, given: &mut mpsc::Receiver<Piece>) -> io::Result<()> {
    while let Some(piece) = given.blocking_recv() {
        let Piece::Packets(packets) = piece else { continue };
        for seen in packets {
            let at = Duration::from_nanos(seen.at().wrapping_add(epoch)).as_secs_f64();
            writeln!(out, "{}  {}", instant(at), seen.line())?;
        }
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_file_is_its_owners_and_an_earlier_one_stays_until_there_are_packets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let mut output = Output::start(Some(path.clone()), 64).unwrap();
        output.opened().await.unwrap();
        output.begin("eth0");
        output.finish().await.unwrap();
        let written = std::fs::read(&path).unwrap();
        assert!(written.starts_with(&0x0a0d_0d0a_u32.to_ne_bytes()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777 & !MODE, 0);

        let longer = [written.clone(), vec![0; 1000]].concat();
        std::fs::write(&path, &longer).unwrap();
        let mut output = Output::start(Some(path.clone()), 64).unwrap();
        output.opened().await.unwrap();
        output.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), longer);
        let mut output = Output::start(Some(path.clone()), 64).unwrap();
        output.opened().await.unwrap();
        output.begin("eth0");
        output.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), written);
    }

    #[tokio::test]
    async fn a_path_that_is_wrong_shows_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::start(Some(dir.path().join("none/a.pcapng")), 64).unwrap();
        let error = output.opened().await.unwrap_err().to_string();
        assert!(error.contains("none/a.pcapng: "), "{error}");
    }

    #[tokio::test]
    async fn who_does_not_read_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut output = Output::start(Some(path.clone()), 64).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), output.opened()).await;
        assert!(early.is_err(), "opened without anybody at the other end");
        let reader = File::open(&path).unwrap();
        output.opened().await.unwrap();
        drop(reader);
        output.begin("eth0");
        // The other end is gone again, which is no fault.
        output.finish().await.unwrap();
    }
}

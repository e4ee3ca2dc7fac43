//! Streams of bytes, as many as go through.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use xvip_tests::netns::Netns;

/// Bytes that are read or written at a time.
pub(crate) const CHUNK: usize = 256 * 1024;
/// How long a stream may take to begin, and to move a byte.
const LIMIT: Duration = Duration::from_secs(5);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The client.
    Up,
    /// The server.
    Down,
}

impl Direction {
    /// First byte of a stream, by which it is asked for.
    pub(crate) const fn word(self) -> u8 {
        match self {
            Direction::Up => b'u',
            Direction::Down => b'd',
        }
    }
}

/// Running streams; they end with [`Streams::stop`].
pub(crate) struct Streams {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Result<()>>>>,
}

impl Streams {
    /// Begins `count` of them, to the targets in turn, from `first` on.
    pub(crate) fn start(
        client: &Netns, targets: &[SocketAddrV4], first: usize, count: usize, direction: Direction,
    ) -> Result<Streams> {
        let mut streams = Streams { stop: Arc::default(), received: Arc::default(), threads: Vec::new() };
        for target in targets.iter().cycle().skip(first % targets.len().max(1)).take(count) {
            let (stop, received, target) = (streams.stop.clone(), streams.received.clone(), *target);
            let thread = client.spawn("stream", move || carry(target, direction, &stop, &received))?;
            streams.threads.push(thread);
        }
        Ok(streams)
    }

    /// Bytes that the client has received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends them; an error when one has ended by itself.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        ends.into_iter().try_for_each(|end| end.map_err(|_| anyhow!("a stream panicked"))??)
    }
}

fn carry(target: SocketAddrV4, direction: Direction, stop: &AtomicBool, received: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target.into(), LIMIT).context("beginning a stream")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&[direction.word()])?;
    let mut chunk = vec![0xa5; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match direction {
            Direction::Up => stream.write_all(&chunk).context("sending")?,
            Direction::Down => match stream.read(&mut chunk) {
                Ok(0) => bail!("the server has closed the stream"),
                Ok(count) => _ = received.fetch_add(count as u64, Ordering::Relaxed),
                Err(error) => return Err(error).context("receiving"),
            },
        }
    }
    Ok(())
}

//! The load: small exchanges over new or kept connections, in a closed loop or by a timetable, and streams of bytes.
//!
//! A closed loop begins the next exchange where the last one ended: it shows how much a balancer takes. By a timetable every
//! exchange counts from when it was due, however late it began: what waits behind a slow one is not left out.

mod connections;
mod requests;
mod streams;
mod tally;
mod timetable;

use std::net::SocketAddrV4;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
use rustls::ClientConfig;
use xvip_tests::netns::Netns;

pub(crate) use streams::{CHUNK, Direction, Streams};
pub(crate) use tally::Tally;
use timetable::Timetable;

/// Bytes of a request.
pub(crate) const REQUEST: usize = 64;
/// Bytes of an answer. The first is the server's number, the last is [`LAST`].
pub(crate) const RESPONSE: usize = 256;
/// Last byte of an answer.
pub(crate) const LAST: u8 = b'.';
/// What a request consists of; none of these bytes means anything else to a server.
pub(crate) const ASK: u8 = b'r';

/// Connections at a time in a closed loop, and kept connections.
const CONNECTIONS: usize = 32;
/// How long what was due in time may take at the end.
const DRAIN: Duration = Duration::from_secs(3);
/// The longest sleep of a thread.
const LOOK: u8 = 10;

/// When a measurement begins to count, and when it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Everything before is warming up.
    pub(crate) from: Instant,
    /// The end.
    pub(crate) to: Instant,
}

impl Span {
    /// Begins after `warm`, and lasts for `length`.
    pub(crate) fn after(warm: Duration, length: Duration) -> Span {
        let from = Instant::now() + warm;
        Span { from, to: from + length }
    }

    fn has(self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }
}

/// Small exchanges.
#[derive(Clone)]
pub(crate) struct Exchanges {
    /// Where to, in turn.
    pub(crate) targets: Vec<SocketAddrV4>,
    /// Each over a connection of its own, or over connections that are kept.
    pub(crate) is_kept: bool,
    /// Exchanges a second; in a closed loop without.
    pub(crate) rate: Option<f64>,
    /// With a handshake before each, in full.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// When.
    pub(crate) span: Span,
}

impl Exchanges {
    /// Does them from `client`, with a thread for each processor.
    pub(crate) fn run(&self, client: &Netns) -> Result<Tally> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
        let one = |thread: usize| -> Result<Tally> {
            let share = Share { thread, threads };
            let ended = if self.is_kept { requests::run(self, share) } else { connections::run(self, share) };
            ended.with_context(|| format!("exchanging with {:?}", self.targets))
        };
        client.enter(|| {
            thread::scope(|scope| {
                let all: Vec<_> = (0..threads).map(|number| scope.spawn(move || one(number))).collect();
                let mut sum = Tally::default();
                for one in all {
                    sum.absorb(one.join().map_err(|_| anyhow!("a thread of the load panicked"))??);
                }
                Ok(sum)
            })
        })?
    }

    fn target(&self, number: usize) -> Result<SocketAddrV4> {
        let at = number % self.targets.len().max(1);
        self.targets.get(at).copied().context("no target")
    }
}

/// Which thread of how many.
#[derive(Clone, Copy)]
struct Share {
    thread: usize,
    threads: usize,
}

impl Share {
    /// Its part of the connections.
    fn connections(self) -> usize {
        (self.thread..CONNECTIONS).step_by(self.threads).count()
    }
}

/// Waits for what happens to sockets, each known by a number.
struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poll {
    fn new() -> Result<Poll> {
        Ok(Poll { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, events: vec![EpollEvent::empty(); 64] })
    }

    /// What has happened; nothing after at most 10 ms.
    fn wait(&mut self) -> Result<&[EpollEvent]> {
        let count = match self.epoll.wait(&mut self.events, EpollTimeout::from(LOOK)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("waiting for sockets"),
        };
        Ok(self.events.get(..count).unwrap_or_default())
    }
}

/// Begins a connection; whether it came about shows when something is written.
fn dial(target: SocketAddrV4) -> Result<std::net::TcpStream, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    match connect(socket.as_fd().as_raw_fd(), &SockaddrIn::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error),
    }
}

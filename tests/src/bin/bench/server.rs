//! The servers behind the balancers: one thread each, which answers whatever a client begins with.
//!
//! The first byte says what: a request, a TLS record, or a stream of bytes in one direction. One port serves all, so that
//! a balancer has one service.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, accept4, bind, listen, setsockopt, socket, sockopt,
};
use rustls::{ServerConfig, ServerConnection};
use xvip_tests::netns::Netns;

use crate::load::{ASK, CHUNK, Direction, LAST, REQUEST, RESPONSE};

/// Content type of a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// The listening socket's number among sockets.
const LISTENER: u64 = u64::MAX;
/// How often a server looks whether it shall stop, in milliseconds.
const LOOK: u8 = 100;
/// How long a stream may stand still.
const LIMIT: Duration = Duration::from_secs(10);

/// A server; it stops when it is dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Server {
    /// Listens when this returns. `received` counts the bytes of clients' streams.
    pub(crate) fn start(
        netns: &Netns, number: u8, at: SocketAddr, tls: Arc<ServerConfig>, received: Arc<AtomicU64>,
    ) -> Result<Server> {
        let stop: Arc<AtomicBool> = Arc::default();
        let (ready, listens) = mpsc::channel();
        let thread = {
            let stop = stop.clone();
            netns.spawn("server", move || {
                let listener = open(at).with_context(|| format!("listening on {at}"))?;
                let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
                epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
                let mut answer = [number; RESPONSE];
                answer[RESPONSE - 1] = LAST;
                let _ = ready.send(());
                Serving { listener, epoll, answer, tls, received, peers: Vec::new() }.run(&stop)
            })?
        };
        let mut server = Server { stop, thread: Some(thread) };
        match listens.recv() {
            Ok(()) => Ok(server),
            Err(_) => Err(server.join().err().unwrap_or_else(|| anyhow!("a server ended at once"))),
        }
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take() {
            None => Ok(()),
            Some(thread) => thread.join().map_err(|_| anyhow!("a server panicked"))??,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.join() {
            eprintln!("a server: {error:#}");
        }
    }
}

fn open(at: SocketAddr) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    bind(listener.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&listener, Backlog::new(4096)?)?;
    Ok(listener)
}

struct Serving {
    listener: OwnedFd,
    epoll: Epoll,
    answer: [u8; RESPONSE],
    tls: Arc<ServerConfig>,
    received: Arc<AtomicU64>,
    /// By descriptor.
    peers: Vec<Option<Peer>>,
}

struct Peer {
    stream: TcpStream,
    talk: Talk,
}

enum Talk {
    /// Nothing was said yet.
    Unknown,
    /// Bytes of a request that is not complete.
    Plain(usize),
    /// The same, encrypted.
    Secret(Box<ServerConnection>, usize),
}

/// What becomes of a connection.
enum Next {
    /// More may come.
    Keep,
    /// It is over.
    Close,
    /// It has asked for a stream of bytes.
    Stream(Direction),
}

impl Serving {
    fn run(mut self, stop: &AtomicBool) -> Result<()> {
        let mut events = vec![EpollEvent::empty(); 64];
        while !stop.load(Ordering::Relaxed) {
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(LOOK)) {
                Err(Errno::EINTR) => 0,
                count => count?,
            };
            for event in events.iter().take(count) {
                if event.data() == LISTENER {
                    self.accept()?;
                } else {
                    self.hear(event.data() as usize);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let descriptor = match accept4(self.listener.as_raw_fd(), flags) {
                Ok(descriptor) => descriptor,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(error) => return Err(error).context("accepting"),
            };
            // SAFETY: accept4 has just made it for us.
            let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
            // What is answered a second time shall not wait for the first to be acknowledged.
            let _ = stream.set_nodelay(true);
            let place = descriptor as usize;
            self.epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
            if self.peers.len() <= place {
                self.peers.resize_with(place + 1, || None);
            }
            if let Some(peer) = self.peers.get_mut(place) {
                *peer = Some(Peer { stream, talk: Talk::Unknown });
            }
        }
    }

    fn hear(&mut self, place: usize) {
        let Self { epoll, answer, tls, received, peers, .. } = self;
        let Some(Some(peer)) = peers.get_mut(place) else { return };
        let next = peer.hear(answer, tls).unwrap_or(Next::Close);
        if matches!(next, Next::Keep) {
            return;
        }
        let Some(peer) = peers.get_mut(place).and_then(Option::take) else { return };
        if let Next::Stream(direction) = next {
            let _ = epoll.delete(peer.stream.as_fd());
            let received = received.clone();
            thread::spawn(move || stream(peer.stream, direction, &received));
        }
    }
}

impl Peer {
    fn hear(&mut self, answer: &[u8], tls: &Arc<ServerConfig>) -> std::io::Result<Next> {
        let mut heard = [0; 4096];
        // A stream's bytes are left to its thread.
        let room = if matches!(self.talk, Talk::Unknown) { REQUEST } else { heard.len() };
        let heard = match self.stream.read(heard.get_mut(..room).unwrap_or_default()) {
            Ok(count) => heard.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Keep),
            Err(error) => return Err(error),
        };
        let Some(first) = heard.first() else {
            return Ok(Next::Close);
        };
        if matches!(self.talk, Talk::Unknown) {
            self.talk = match *first {
                ASK => Talk::Plain(0),
                TLS_HANDSHAKE => {
                    let connection = ServerConnection::new(tls.clone()).map_err(std::io::Error::other)?;
                    Talk::Secret(Box::new(connection), 0)
                }
                word if word == Direction::Up.word() => return Ok(Next::Stream(Direction::Up)),
                word if word == Direction::Down.word() => return Ok(Next::Stream(Direction::Down)),
                _ => return Ok(Next::Close),
            };
        }
        match &mut self.talk {
            Talk::Unknown => Ok(Next::Close),
            Talk::Plain(got) => {
                *got += heard.len();
                while *got >= REQUEST {
                    *got -= REQUEST;
                    self.stream.write_all(answer)?;
                }
                Ok(Next::Keep)
            }
            Talk::Secret(connection, got) => secretly(&mut self.stream, connection, got, heard, answer),
        }
    }
}

fn secretly(
    stream: &mut TcpStream, connection: &mut ServerConnection, got: &mut usize, mut heard: &[u8], answer: &[u8],
) -> std::io::Result<Next> {
    while !heard.is_empty() {
        connection.read_tls(&mut heard)?;
        let state = connection.process_new_packets().map_err(std::io::Error::other)?;
        let mut plain = [0; 4 * REQUEST];
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let count = connection.reader().read(&mut plain)?;
            left -= count;
            *got += count;
        }
        while *got >= REQUEST {
            *got -= REQUEST;
            connection.writer().write_all(answer)?;
        }
        while connection.wants_write() {
            connection.write_tls(stream)?;
        }
        if state.peer_has_closed() {
            return Ok(Next::Close);
        }
    }
    Ok(Next::Keep)
}

/// Sends until nobody takes it, or counts what comes until no more does.
fn stream(mut stream: TcpStream, direction: Direction, received: &AtomicU64) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut chunk = vec![0x5a; CHUNK];
    match direction {
        Direction::Down => loop {
            stream.write_all(&chunk)?;
        },
        Direction::Up => loop {
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                count => _ = received.fetch_add(count as u64, Ordering::Relaxed),
            }
        },
    }
}

//! The client: a new connection every few milliseconds, some watches, and a log of what became of them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::netns::Netns;
use crate::stats::{Attempt, Failure, Summary, WatchChange, WatchEvent, WatchSummary, summary, watch_summary};

/// What the client asks, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it connects.
    pub target: SocketAddr,
    /// Over TLS, verified against this authority, and answered by /whoami; without: the connection alone is the answer.
    pub ca_file: Option<PathBuf>,
    /// From the start of one attempt to the start of the next.
    pub every: Duration,
    /// For a whole attempt: connect, handshake, answer.
    pub timeout: Duration,
    /// Streams held open at /api/v1/watch; they need TLS.
    pub watches: usize,
    /// From one event of a stream to the next.
    pub watch_interval: Duration,
}

impl Options {
    /// HTTPS, a connection every 5 ms, a second for each, eight watches with ten events a second.
    pub fn https(target: SocketAddr, ca_file: PathBuf) -> Options {
        let watch_interval = Duration::from_millis(100);
        Options { ca_file: Some(ca_file), watches: 8, watch_interval, ..Options::tcp(target) }
    }

    /// Plain TCP, a connection every 5 ms, a second for each, no watches.
    pub fn tcp(target: SocketAddr) -> Options {
        let (every, timeout) = (Duration::from_millis(5), Duration::from_secs(1));
        Options { target, ca_file: None, every, timeout, watches: 0, watch_interval: timeout }
    }
}

/// Attempts kept; the oldest go first.
const KEPT: usize = 500_000;
/// A watch without an event for this long is given up; the keepalive below notices a dead path earlier.
const WATCH_SILENCE: Duration = Duration::from_secs(5);
const WATCH_KEEPALIVE_S: u32 = 1;
const WATCH_RETRY: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Log {
    attempts: VecDeque<Attempt>,
    watch_events: Vec<WatchEvent>,
    alive: Vec<Option<u16>>,
    heard: Vec<Duration>,
    servers: Vec<String>,
}

/// A running client; it stops when the value is dropped.
#[derive(Debug)]
pub struct Client {
    options: Options,
    origin: Instant,
    log: Arc<Mutex<Log>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Client {
    /// Starts the load inside `netns`.
    pub fn start(netns: &Netns, options: Options) -> Result<Client> {
        let tls = options.ca_file.as_ref().map(connector).transpose()?;
        let origin = Instant::now();
        let log = Arc::new(Mutex::new(Log {
            alive: vec![None; options.watches],
            heard: vec![Duration::ZERO; options.watches],
            ..Log::default()
        }));
        let (stop, stopped) = watch::channel(false);
        let load = Load { options: options.clone(), tls, origin, log: log.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = netns.spawn("client", move || runtime.block_on(Arc::new(load).run(stopped)))?;
        Ok(Client { options, origin, log, stop, thread: Some(thread) })
    }

    /// Time since the client's start: the time all its moments are counted in.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Whether its thread is still at work.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// All attempts that ended, or had to end, after `from`, in the order of their end.
    pub fn attempts_since(&self, from: Duration) -> Vec<Attempt> {
        let log = self.lock();
        let new = log.attempts.iter().rev().take_while(|attempt| attempt.ended() >= from).count();
        log.attempts.range(log.attempts.len() - new..).copied().collect()
    }

    /// What was noticed from `from` until before `to`; complete once [`Client::settled`] says so of `to`.
    pub fn summary(&self, from: Duration, to: Duration) -> Summary {
        summary(&self.attempts_since(from), from, to)
    }

    /// Whether every attempt begun before `to` has ended.
    pub fn settled(&self, to: Duration) -> bool {
        self.now() > to + self.options.timeout + Duration::from_millis(50)
    }

    /// The breaks of watches from `from` until before `to`.
    pub fn watch_summary(&self, from: Duration, to: Duration) -> WatchSummary {
        watch_summary(&self.lock().watch_events, from, to)
    }

    /// Opens and breaks of watches after the first `skip` of them.
    pub fn watch_events(&self, skip: usize) -> Vec<WatchEvent> {
        self.lock().watch_events.iter().skip(skip).cloned().collect()
    }

    /// For each watch the server it hears, or none.
    pub fn watches(&self) -> Vec<Option<u16>> {
        self.lock().alive.clone()
    }

    /// For each watch when it last got an event.
    pub fn heard(&self) -> Vec<Duration> {
        self.lock().heard.clone()
    }

    /// Names behind the servers' indices, in the order in which they first answered.
    pub fn servers(&self) -> Vec<String> {
        self.lock().servers.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes `count` attempts inside `netns` as fast as they go, `at_once` of them under way at any time; what became of each, and the
/// names behind the servers' indices.
pub fn burst(netns: &Netns, options: Options, count: usize, at_once: usize) -> Result<(Vec<Attempt>, Vec<String>)> {
    let tls = options.ca_file.as_ref().map(connector).transpose()?;
    let log = Arc::new(Mutex::new(Log::default()));
    let load = Arc::new(Load { options, tls, origin: Instant::now(), log: log.clone() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    netns.enter(|| runtime.block_on(load.burst(count, at_once)))?;
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((std::mem::take(&mut log.attempts).into(), std::mem::take(&mut log.servers)))
}

/// HTTP/1.1 over TLS, verified against the authority in `ca_file`; every connection is as new as the first.
pub fn connector(ca_file: &PathBuf) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let authorities =
        CertificateDer::pem_file_iter(ca_file).with_context(|| format!("reading {}", ca_file.display()))?;
    for authority in authorities {
        roots.add(authority?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

struct Load {
    options: Options,
    tls: Option<TlsConnector>,
    origin: Instant,
    log: Arc<Mutex<Log>>,
}

impl Load {
    async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        for stream in 0..self.options.watches {
            tokio::spawn(self.clone().watch(stream));
        }
        let mut tick = interval(self.options.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => { tokio::spawn(self.clone().attempt()); }
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn burst(self: Arc<Self>, count: usize, at_once: usize) {
        let left = Arc::new(AtomicUsize::new(count));
        let mut workers = JoinSet::new();
        for _ in 0..at_once.max(1) {
            let (load, left) = (self.clone(), left.clone());
            workers.spawn(async move {
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    load.clone().attempt().await;
                }
            });
        }
        while workers.join_next().await.is_some() {}
    }

    async fn attempt(self: Arc<Self>) {
        let began = self.origin.elapsed();
        let outcome = timeout(self.options.timeout, self.ask()).await.unwrap_or(Err(Failure::Timeout));
        let took = self.origin.elapsed() - began;
        let mut log = self.lock();
        let outcome = outcome.map(|server| log.server(&server));
        if log.attempts.len() >= KEPT {
            log.attempts.pop_front();
        }
        log.attempts.push_back(Attempt { began, took, outcome });
    }

    /// The name of the server that answered; without TLS that of the target.
    async fn ask(&self) -> Result<String, Failure> {
        let stream = TcpStream::connect(self.options.target).await.map_err(|err| failure(&err))?;
        let Some(tls) = &self.tls else {
            return Ok(self.options.target.to_string());
        };
        let mut stream = handshake(tls, stream, self.options.target).await?;
        let answer = self.request(&mut stream, "/whoami", |answer| server_in(answer).is_some()).await?;
        // The client closes first, as clients of an API server do.
        let _ = stream.shutdown().await;
        server_in(&answer).ok_or(Failure::Closed)
    }

    /// Asks for `path` and reads until the answer is `enough`.
    async fn request(
        &self, stream: &mut TlsStream<TcpStream>, path: &str, enough: impl Fn(&str) -> bool,
    ) -> Result<String, Failure> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.options.target);
        stream.write_all(request.as_bytes()).await.map_err(|err| failure(&err))?;
        let mut answer = String::new();
        let mut buffer = [0; 2048];
        while !enough(&answer) {
            let len = stream.read(&mut buffer).await.map_err(|err| failure(&err))?;
            if len == 0 || answer.len() > 64 * 1024 {
                return Err(Failure::Closed);
            }
            answer.push_str(&String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()));
            match status_in(&answer) {
                None | Some(200) => {}
                Some(status) => return Err(Failure::Status(status)),
            }
        }
        Ok(answer)
    }

    /// Holds one watch open for ever.
    async fn watch(self: Arc<Self>, stream: usize) {
        let mut silent_since = self.origin.elapsed();
        let mut was_open = false;
        loop {
            let why = match timeout(self.options.timeout, self.open_watch()).await.unwrap_or(Err(Failure::Timeout)) {
                Ok((mut connection, server)) => {
                    {
                        let mut log = self.lock();
                        let server = log.server(&server);
                        log.watch(
                            stream,
                            Some(server),
                            WatchEvent { at: self.origin.elapsed(), stream, change: WatchChange::Opened(server) },
                        );
                    }
                    was_open = true;
                    silent_since = self.origin.elapsed();
                    let mut buffer = [0; 4096];
                    loop {
                        match timeout(WATCH_SILENCE, connection.read(&mut buffer)).await {
                            Ok(Ok(0)) => break Failure::Closed,
                            Ok(Ok(_)) => {
                                silent_since = self.origin.elapsed();
                                self.lock().heard(stream, silent_since);
                            }
                            Ok(Err(err)) => break failure(&err),
                            Err(_) => break Failure::Timeout,
                        }
                    }
                }
                Err(why) => why,
            };
            if was_open {
                was_open = false;
                let change = WatchChange::Broke { silent_since, why };
                self.lock().watch(stream, None, WatchEvent { at: self.origin.elapsed(), stream, change });
            }
            sleep(WATCH_RETRY).await;
        }
    }

    /// Opens a watch and waits for its first event.
    async fn open_watch(&self) -> Result<(TlsStream<TcpStream>, String), Failure> {
        let stream = TcpStream::connect(self.options.target).await.map_err(|err| failure(&err))?;
        keepalive(&stream).map_err(|_| Failure::Other)?;
        let tls = self.tls.as_ref().ok_or(Failure::Tls)?;
        let mut stream = handshake(tls, stream, self.options.target).await?;
        let path = format!("/api/v1/watch?interval_ms={}", self.options.watch_interval.as_millis());
        let first = self.request(&mut stream, &path, |answer| server_in(answer).is_some()).await?;
        let server = server_in(&first).ok_or(Failure::Closed)?;
        Ok((stream, server))
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn server(&mut self, name: &str) -> u16 {
        let known = self.servers.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.servers.push(name.to_owned());
            self.servers.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    fn heard(&mut self, stream: usize, at: Duration) {
        if let Some(heard) = self.heard.get_mut(stream) {
            *heard = at;
        }
    }

    fn watch(&mut self, stream: usize, server: Option<u16>, event: WatchEvent) {
        if let Some(alive) = self.alive.get_mut(stream) {
            *alive = server;
        }
        self.watch_events.push(event);
    }
}

async fn handshake(tls: &TlsConnector, stream: TcpStream, target: SocketAddr) -> Result<TlsStream<TcpStream>, Failure> {
    tls.connect(ServerName::from(target.ip()), stream).await.map_err(|err| failure(&err))
}

/// A stream that only listens learns of a dead path by keepalive probes.
fn keepalive(stream: &TcpStream) -> Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &WATCH_KEEPALIVE_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &WATCH_KEEPALIVE_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3).map_err(|err| anyhow!(err))
}

fn failure(err: &io::Error) -> Failure {
    match err.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Failure::Reset,
        io::ErrorKind::TimedOut => Failure::Timeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            Failure::Unreachable
        }
        io::ErrorKind::UnexpectedEof => Failure::Closed,
        io::ErrorKind::InvalidData => Failure::Tls,
        _ => Failure::Other,
    }
}

/// Status of an HTTP/1.1 answer whose first line is complete.
fn status_in(answer: &str) -> Option<u16> {
    let (line, _) = answer.split_once("\r\n")?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Value of the first complete `"server":"…"` in an answer.
fn server_in(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once(r#""server":""#)?;
    rest.split_once('"').map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_arrive() {
        assert_eq!(status_in("HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status_in("HTTP/1.1 503"), None);
        assert_eq!(server_in(r#"{"peer":"192.0.2.10:1","server":"master2"}"#), Some("master2".to_owned()));
        assert_eq!(server_in(r#"{"server":"mas"#), None);
    }

    #[test]
    fn servers_keep_their_index() {
        let mut log = Log::default();
        assert_eq!((log.server("a"), log.server("b"), log.server("a")), (0, 1, 0));
    }
}

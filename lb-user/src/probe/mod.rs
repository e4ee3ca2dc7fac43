//! Asks one backend once whether it is ready, and says what came of it.
//!
//! No thresholds and no repetition here: a [`Prober`] knows how to ask and keeps its connection between checks. Each
//! step of a check runs against the one deadline of the whole check, and what a peer may send is bounded in time and
//! in size, whatever it sends.

mod http;
mod tcp;
mod tls;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use lb_proto::health::{BadAnswer, Outcome, Phase};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock;
use crate::config::{CheckKind, HttpCheck};

/// A check made ready: files read, names and paths parsed. One serves all backends of a service.
///
/// Two plans are equal when they ask and verify the same, down to the content of the files they were made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Tcp,
    Tls(tls::Plan),
    Http(http::Plan),
    Https(http::Plan, tls::Plan),
}

impl Plan {
    /// Reads and parses everything the check needs. Blocks on reading the files of a TLS check, each at most 1 MiB.
    pub fn new(check: &CheckKind) -> Result<Self, PlanError> {
        Ok(Self(match check {
            CheckKind::Tcp => Kind::Tcp,
            CheckKind::Tls(tls) => Kind::Tls(tls::Plan::new(tls, tls::Alpn::None)?),
            CheckKind::Http(http) => Kind::Http(http::Plan::new(http)?),
            CheckKind::Https(http, tls) => Kind::Https(http::Plan::new(http)?, tls::Plan::new(tls, tls::Alpn::Http11)?),
        }))
    }
}

/// Why a check cannot be made ready. Each names what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file cannot be read.
    #[error("{file} {}: {source}; make it readable for the agent or correct the path", path.display())]
    Unreadable {
        /// What the file is for.
        file: PemFile,
        /// Where it was looked for.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is too large to be what it should be.
    #[error("{file} {}: larger than 1 MiB; name a PEM file with only what the check needs", path.display())]
    TooLarge {
        /// What the file is for.
        file: PemFile,
        /// The file.
        path: PathBuf,
    },
    /// A file is not PEM or lacks the block it should have.
    #[error("{file} {}: {text}; the file must hold a PEM block {}", path.display(), file.block())]
    NotPem {
        /// What the file is for.
        file: PemFile,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        text: &'static str,
    },
    /// The PEM blocks decode, and cannot be used.
    #[error("{file} {}: {text}; replace it", path.display())]
    Unusable {
        /// What the file is for.
        file: PemFile,
        /// The file.
        path: PathBuf,
        /// What the TLS library says.
        text: String,
    },
    /// `server_name` is neither a DNS name nor an IP address.
    #[error(
        "server_name {0:?} is neither a DNS name nor an IP address; correct it, or leave it out to verify the backend's address"
    )]
    ServerName(String),
    /// `path` cannot be the target of a request.
    #[error("path {0:?} cannot be asked for; it must begin with / and hold no spaces, such as \"/readyz\"")]
    Path(String),
    /// `host` cannot be the value of a header.
    #[error("host {0:?} cannot be the value of a Host header; write a name or an address, with a port if it needs one")]
    Host(String),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}; this is a defect of the agent, please report it")]
    Library(String),
}

/// What a file of a TLS check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemFile {
    /// Accepted authorities.
    Authorities,
    /// The certificate chain presented to the backend.
    ClientCertificate,
    /// The key of that certificate.
    ClientKey,
}

impl PemFile {
    fn block(self) -> &'static str {
        match self {
            Self::Authorities | Self::ClientCertificate => "BEGIN CERTIFICATE",
            Self::ClientKey => "BEGIN PRIVATE KEY (or RSA PRIVATE KEY, EC PRIVATE KEY), not encrypted",
        }
    }
}

impl std::fmt::Display for PemFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Authorities => "CA file",
            Self::ClientCertificate => "client certificate",
            Self::ClientKey => "client key",
        })
    }
}

/// Asks one backend, again and again, one check at a time.
#[derive(Debug)]
pub struct Prober {
    endpoint: tcp::Endpoint,
    asking: Asking,
}

#[derive(Debug)]
enum Asking {
    Tcp,
    Tls(tls::Client),
    Http(Box<http::Client>),
}

impl Prober {
    /// A prober of the backend at `address`, connecting from `source`, or from the address the kernel chooses.
    #[must_use]
    pub fn new(plan: &Plan, address: SocketAddr, source: Option<IpAddr>) -> Self {
        let asking = match &plan.0 {
            Kind::Tcp => Asking::Tcp,
            Kind::Tls(tls) => Asking::Tls(tls::Client::new(tls, address)),
            Kind::Http(http) => Asking::Http(Box::new(http::Client::new(http, None, address))),
            Kind::Https(http, tls) => {
                let tls = tls::Client::new(tls, address);
                Asking::Http(Box::new(http::Client::new(http, Some(tls), address)))
            }
        };
        Self { endpoint: tcp::Endpoint { address, source }, asking }
    }

    /// One check, over by `deadline`. Returns what came of it and how long the answer took.
    ///
    /// Needs a tokio runtime with time and network. Dropping the future abandons the check and its connection.
    pub async fn probe(&mut self, deadline: Instant) -> (Outcome, Duration) {
        let start = clock::now();
        let (outcome, end) = match &mut self.asking {
            Asking::Tcp => (tcp::probe(&self.endpoint, deadline).await, clock::now()),
            Asking::Tls(client) => tls::probe(client, &self.endpoint, deadline).await,
            Asking::Http(client) => (client.probe(&self.endpoint, deadline).await, clock::now()),
        };
        (outcome, end.saturating_duration_since(start))
    }
}

/// One HTTP check over a connection that is there already: what comes back on it decides.
///
/// # Errors
/// When the check cannot be made ready.
pub async fn judge<S>(check: &HttpCheck, stream: S, deadline: Instant) -> Result<Outcome, PlanError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut client = http::Client::new(&http::Plan::new(check)?, None, nowhere);
    Ok(client.probe_over(TokioIo::new(stream), deadline).await)
}

/// One step of a check.
async fn within<T>(deadline: Instant, phase: Phase, step: impl Future<Output = T>) -> Result<T, Outcome> {
    tokio::time::timeout_at(deadline.into(), step).await.map_err(|_| Outcome::TimedOut { phase })
}

/// What an error on an open connection means.
fn broken(error: &io::Error, phase: Phase) -> Outcome {
    if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return tls::failure(tls);
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Outcome::BadAnswer(BadAnswer::Closed),
        io::ErrorKind::TimedOut => Outcome::TimedOut { phase },
        _ if error.raw_os_error().is_some() => Outcome::Unreachable { text: printable(&error.to_string()) },
        _ => Outcome::BadAnswer(BadAnswer::Malformed(printable(&error.to_string()))),
    }
}

/// The `io::Error` at or below an error.
fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = e.source();
    }
    None
}

/// Error texts may quote what a peer sent: they reach logs and terminals short and without control characters.
fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

const MAX_TEXT: usize = 240;
/// How long a decided check still listens to what the peer has to say, where that is worth knowing.
const GRACE: Duration = Duration::from_millis(100);

#[cfg(test)]
pub(crate) mod servers;
#[cfg(test)]
mod tests;

//! The HTTP check: GET over HTTP/1.1, on a connection kept from check to check.
//!
//! A connection is kept when its answer was read to the end. If nothing whole comes back on a kept one, the same is
//! asked once more on a fresh one within the same deadline: a server may close an idle connection at any time, and
//! that is no failure.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::rt::{Read, Write};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use lb_proto::health::{BadAnswer, Outcome, Phase};
use socket2::SockRef;
use tokio::task::JoinHandle;

use super::tcp::Endpoint;
use super::{GRACE, PlanError, broken, io_cause, printable, tls, within};
use crate::clock;
use crate::config::HttpCheck;

/// What to ask, for every backend of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    path: Uri,
    /// `None`: the backend's address.
    host: Option<HeaderValue>,
    expect_status: Vec<u16>,
}

impl Plan {
    pub(super) fn new(check: &HttpCheck) -> Result<Self, PlanError> {
        let bad_path = || PlanError::Path(check.path.clone());
        if !check.path.starts_with('/') {
            return Err(bad_path());
        }
        let path = check.path.parse::<PathAndQuery>().map_err(|_| bad_path())?;
        let host = match &check.host {
            Some(host) => Some(HeaderValue::from_str(host).map_err(|_| PlanError::Host(host.clone()))?),
            None => None,
        };
        Ok(Self { path: Uri::from(path), host, expect_status: check.expect_status.clone() })
    }
}

/// The HTTP side of one backend's checks.
#[derive(Debug)]
pub(super) struct Client {
    path: Uri,
    host: HeaderValue,
    expect_status: Vec<u16>,
    tls: Option<tls::Client>,
    kept: Option<Connection>,
}

impl Client {
    pub(super) fn new(plan: &Plan, tls: Option<tls::Client>, address: SocketAddr) -> Self {
        // An address, in brackets where it is IPv6, and a port are always a valid header value (RFC 9110 section 7.2).
        let of_address = || HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static(""));
        Self {
            path: plan.path.clone(),
            host: plan.host.clone().unwrap_or_else(of_address),
            expect_status: plan.expect_status.clone(),
            tls,
            kept: None,
        }
    }

    pub(super) async fn probe(&mut self, endpoint: &Endpoint, deadline: Instant) -> Outcome {
        if let Some(kept) = self.kept.take() {
            match self.ask(kept, deadline).await {
                Ok(outcome) => return outcome,
                Err(outcome) if clock::now() >= deadline => return outcome,
                Err(_) => {}
            }
        }
        let asked = match self.open(endpoint, deadline).await {
            Ok(fresh) => self.ask(fresh, deadline).await,
            Err(outcome) => Err(outcome),
        };
        asked.unwrap_or_else(|outcome| outcome)
    }

    /// One check over a connection that is there already.
    pub(super) async fn probe_over<S>(&mut self, stream: S, deadline: Instant) -> Outcome
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let asked = match Connection::start(stream).await {
            Ok(connection) => self.ask(connection, deadline).await,
            Err(outcome) => Err(outcome),
        };
        asked.unwrap_or_else(|outcome| outcome)
    }

    async fn open(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, Outcome> {
        let tcp = endpoint.connect(deadline).await?;
        // A kept connection to a host that is gone would use up the whole check and look like a server that does not
        // answer. This makes the kernel give it up when data stays unacknowledged for half of that time, and a fresh
        // connection then shows what is wrong. A server that is merely slow acknowledges.
        let patience = deadline.saturating_duration_since(clock::now()) / 2;
        let _ = SockRef::from(&tcp).set_tcp_user_timeout(Some(patience.max(Duration::from_millis(1))));
        match &self.tls {
            Some(tls) => Connection::start(TokioIo::new(tls.handshake(tcp, deadline).await?)).await,
            None => Connection::start(TokioIo::new(tcp)).await,
        }
    }

    /// `Ok`: the answer that counts. `Err`: there was no whole answer.
    async fn ask(&mut self, mut connection: Connection, deadline: Instant) -> Result<Outcome, Outcome> {
        connection.idle = false;
        let ready = within(deadline, Phase::Answer, connection.sender.ready()).await?;
        if let Err(e) = ready {
            return Err(connection.verdict(&e).await);
        }
        let response = within(deadline, Phase::Answer, connection.sender.send_request(self.request())).await?;
        let response = match response {
            Ok(response) => response,
            Err(e) => return Err(connection.verdict(&e).await),
        };
        let outcome = Outcome::of_status(response.status().as_u16(), &self.expect_status);
        // Whatever is not "ready" is decided by its status alone, without waiting for the rest.
        let is_ready = matches!(outcome, Outcome::Ready { .. });
        let until = if is_ready { deadline } else { deadline.min(clock::now() + GRACE) };
        match within(until, Phase::Answer, read_to_end(response.into_body())).await {
            Ok(Ok(Rest::Whole)) => {
                connection.idle = true;
                self.kept = Some(connection);
            }
            Ok(Ok(Rest::TooLong)) => {}
            Ok(Err(e)) if is_ready => return Err(connection.verdict(&e).await),
            Err(timed_out) if is_ready => return Err(timed_out),
            Ok(Err(_)) | Err(_) => {}
        }
        Ok(outcome)
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        request
    }
}

/// An open connection and the task that reads and writes it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<hyper::Result<()>>,
    /// Nothing asked, nothing owed: it can be closed in order or used again.
    idle: bool,
}

impl Connection {
    async fn start<S>(stream: S) -> Result<Self, Outcome>
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .handshake(stream)
            .await
            .map_err(|e| meaning(&e))?;
        Ok(Self { sender, task: tokio::spawn(connection), idle: false })
    }

    /// What an error means that this connection has reported. When it only says that the connection is gone, the
    /// task that read from it may know why.
    async fn verdict(mut self, error: &hyper::Error) -> Outcome {
        if (error.is_canceled() || error.is_closed())
            && let Ok(Ok(Err(cause))) = tokio::time::timeout(GRACE, &mut self.task).await
        {
            return meaning(&cause);
        }
        meaning(error)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // An idle one ends by itself in order once its sender is dropped. Any other is in a state that nobody wants
        // to wait for.
        if !self.idle {
            self.task.abort();
        }
    }
}

/// What came after the head of an answer.
enum Rest {
    Whole,
    TooLong,
}

async fn read_to_end(body: Incoming) -> Result<Rest, hyper::Error> {
    let mut body = pin!(body);
    let mut left = MAX_BODY;
    while let Some(frame) = body.frame().await {
        let length = frame?.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return Ok(Rest::TooLong),
        }
    }
    Ok(Rest::Whole)
}

/// What an error of the HTTP library means.
fn meaning(error: &hyper::Error) -> Outcome {
    if let Some(io) = io_cause(error) {
        return broken(io, Phase::Answer);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Outcome::BadAnswer(BadAnswer::Closed);
    }
    Outcome::BadAnswer(BadAnswer::Malformed(printable(&error.to_string())))
}

const AGENT: &str = concat!("xvip/", env!("CARGO_PKG_VERSION"));
/// Bytes of status line and headers.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes of an answer's body that are read.
const MAX_BODY: usize = 64 * 1024;

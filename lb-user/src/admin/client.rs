//! The commands' side of the admin socket.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    Change, Done, Handover, Page, ReloadAnswer, ReloadResult, VERSION, backend, connections, events, explain, protocol,
    steering,
};
use crate::config::read_socket;
use crate::connections::{Connections, Filter};
use crate::explain::Explanation;
use crate::status::Status;

/// An answer longer than this is not from an agent.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

const STATUS: &str = "/v1/status";
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
const RELOAD_PATIENCE: Duration = Duration::from_secs(6);
/// A full table takes a while.
const TABLES_PATIENCE: Duration = Duration::from_secs(6);

/// Why a command got nothing from the agent.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody is there, or nobody answers.
    #[error("no agent answers on {}: {why}; is `xvip run` running?", .socket.display())]
    NoAgent {
        /// Where it was expected.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// The socket is there but not for us.
    #[error("no permission to use {}: run as root or as a member of its group", .socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The agent speaks another version of the protocol.
    #[error("the agent on {} speaks version {theirs} of the protocol, this xvip speaks {VERSION}: use the xvip that the agent runs", .socket.display())]
    Version {
        /// The socket.
        socket: PathBuf,
        /// What it said.
        theirs: String,
    },
    /// The agent does not do this.
    #[error("the agent on {} refuses: {fault}", .socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// Its own words.
        fault: String,
    },
    /// Somebody answered, but not as an agent of this version would.
    #[error("the answer on {} cannot be used: {what}", .socket.display())]
    Answer {
        /// Where it came from.
        socket: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl AdminError {
    /// What a command exits with: 3 when no agent answers, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoAgent { .. } => 3,
            Self::Denied { .. } | Self::Version { .. } | Self::Refused { .. } | Self::Answer { .. } => 1,
        }
    }
}

/// The status of the agent that listens on `socket`, within two seconds.
pub async fn fetch_status(socket: &Path) -> Result<Status, AdminError> {
    let (code, body) = look(socket, STATUS).await?;
    status(socket, code, &body)
}

/// What has happened after the event of this number, within two seconds.
pub async fn fetch_events(socket: &Path, after: u64) -> Result<Page, AdminError> {
    match look(socket, &events::path(after)).await? {
        (StatusCode::OK, body) => decode(socket, &body),
        (code, body) => Err(unexpected(socket, code, &body)),
    }
}

/// Connections of the agent that listens on `socket`.
pub async fn fetch_connections(socket: &Path, filter: &Filter) -> Result<Connections, AdminError> {
    match look_for(socket, &connections::path(filter), TABLES_PATIENCE).await? {
        (StatusCode::OK, body) => decode(socket, &body),
        (code, body) => Err(unexpected(socket, code, &body)),
    }
}

/// What the agent that listens on `socket` says of a client's connection.
pub async fn fetch_explanation(
    socket: &Path, client: SocketAddr, listener: Option<SocketAddr>,
) -> Result<Explanation, AdminError> {
    match look_for(socket, &explain::path(client, listener), TABLES_PATIENCE).await? {
        (StatusCode::OK, body) => decode(socket, &body),
        (code, body) => Err(unexpected(socket, code, &body)),
    }
}

/// Asks for what changes nothing: who may not use the socket may look by the one beside it.
async fn look(socket: &Path, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
    look_for(socket, path, STATUS_PATIENCE).await
}

/// The same for what may take longer.
async fn look_for(socket: &Path, path: &str, patience: Duration) -> Result<(StatusCode, Bytes), AdminError> {
    match exchange(socket, Method::GET, path, patience).await {
        Err(AdminError::Denied { socket: denied }) => {
            let beside = read_socket(socket);
            let looked = exchange(&beside, Method::GET, path, patience).await;
            looked.map_err(|error| of_both(denied, error, beside.symlink_metadata().is_ok()))
        }
        other => other,
    }
}

/// What to say to who may not use the one socket and got this from the one beside it, where it is there: permissions are looked
/// at before it is known whether somebody listens, so it alone tells of an agent that has died.
pub(super) fn of_both(denied: PathBuf, looked: AdminError, is_there: bool) -> AdminError {
    match looked {
        AdminError::Denied { .. } => AdminError::Denied { socket: denied },
        // `admin.read` may be "nobody".
        AdminError::NoAgent { .. } if !is_there => AdminError::Denied { socket: denied },
        other => other,
    }
}

/// The same over a connection that is there already; `socket` is what errors call it.
pub async fn read_status<Io>(stream: Io, socket: &Path) -> Result<Status, AdminError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (code, body) = talk(stream, socket, Method::GET, STATUS).await?;
    status(socket, code, &body)
}

fn status(socket: &Path, code: StatusCode, body: &[u8]) -> Result<Status, AdminError> {
    match code {
        StatusCode::OK => decode(socket, body),
        code => Err(unexpected(socket, code, body)),
    }
}

/// Asks the agent that listens on `socket` to read its configuration again; the faults are its own words.
pub async fn request_reload(socket: &Path) -> Result<ReloadResult, AdminError> {
    let (code, body) = exchange(socket, Method::POST, "/v1/reload", RELOAD_PATIENCE).await?;
    let outcome: ReloadAnswer = decode(socket, &body).map_err(|_| unexpected(socket, code, &body))?;
    match code {
        StatusCode::OK => Ok(Ok(())),
        StatusCode::UNPROCESSABLE_ENTITY => Ok(Err(outcome.faults)),
        _ => Err(answer(socket, outcome.faults.join("; "))),
    }
}

/// Asks the agent that listens on `socket` to hand over the VIPs of a virtual router, or of all, and to take them from no
/// living node for `hold`. `Err` within: why nothing was done, in its own words.
pub async fn request_step_down(
    socket: &Path, name: Option<&str>, hold: Duration,
) -> Result<Result<Vec<Handover>, String>, AdminError> {
    let path = steering::path(name, hold);
    let (code, body) = exchange(socket, Method::POST, &path, RELOAD_PATIENCE).await?;
    let said: steering::Answer = decode(socket, &body).map_err(|_| unexpected(socket, code, &body))?;
    Ok(said.fault.map_or(Ok(said.handovers), Err))
}

/// Asks the agent that listens on `socket` to change a backend; what it did, or why it did nothing, in its own words.
pub async fn request_backend(
    socket: &Path, service: Option<&str>, name: &str, change: &Change, save: bool,
) -> Result<Result<Done, Vec<String>>, AdminError> {
    let path = backend::path(service, name, change, save);
    let (code, body) = exchange(socket, Method::POST, &path, RELOAD_PATIENCE).await?;
    let said: backend::Answer = decode(socket, &body).map_err(|_| unexpected(socket, code, &body))?;
    let backend::Answer { outcome, faults, warning } = said;
    Ok(if faults.is_empty() { Ok(Done { outcome, warning }) } else { Err(faults) })
}

/// Asks for what may be asked for twice, as often as the agent is not finished with it in time, but for so many `times`.
pub(super) async fn post_again<T: DeserializeOwned>(socket: &Path, path: &str, times: u32) -> Result<T, AdminError> {
    let mut asked = 1;
    loop {
        match exchange(socket, Method::POST, path, RELOAD_PATIENCE).await? {
            (StatusCode::OK, body) => return decode(socket, &body),
            (StatusCode::GATEWAY_TIMEOUT, _) if asked < times => asked += 1,
            (code, body) => return Err(unexpected(socket, code, &body)),
        }
    }
}

async fn exchange(
    socket: &Path, method: Method, path: &str, patience: Duration,
) -> Result<(StatusCode, Bytes), AdminError> {
    let connected = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| unreachable_agent(socket, &error))?;
        talk(stream, socket, method, path).await
    };
    timeout(patience, connected).await.unwrap_or_else(|_| {
        Err(AdminError::NoAgent {
            socket: socket.to_owned(),
            why: format!("nothing came within {} s", patience.as_secs()),
        })
    })
}

async fn talk<Io>(stream: Io, socket: &Path, method: Method, path: &str) -> Result<(StatusCode, Bytes), AdminError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let bad = |error: hyper::Error| answer(socket, error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(bad)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(protocol::HEADER, VERSION)
        .body(Empty::<Bytes>::new())
        .map_err(|error| answer(socket, error.to_string()))?;

    let reply = async {
        let response = sender.send_request(request).await.map_err(bad)?;
        let code = response.status();
        let theirs = response.headers().get(protocol::HEADER).cloned();
        if let Some(theirs) = theirs.filter(|theirs| theirs.as_bytes() != VERSION.to_string().as_bytes()) {
            let theirs = theirs.to_str().unwrap_or("?").chars().take(16).collect();
            return Err(AdminError::Version { socket: socket.to_owned(), theirs });
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| answer(socket, error.to_string()))?;
        Ok((code, body.to_bytes()))
    };
    let mut reply = std::pin::pin!(reply);
    tokio::select! {
        done = &mut reply => return done,
        // The connection ends when the answer has been read or has failed; the reply then knows which.
        _ = connection => {}
    }
    reply.await
}

pub(super) fn unreachable_agent(socket: &Path, error: &io::Error) -> AdminError {
    let socket = socket.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => AdminError::Denied { socket },
        io::ErrorKind::NotFound => AdminError::NoAgent { socket, why: "there is no such socket".to_owned() },
        io::ErrorKind::ConnectionRefused => {
            AdminError::NoAgent { socket, why: "the socket is left from an agent that ended".to_owned() }
        }
        _ => AdminError::NoAgent { socket, why: error.to_string() },
    }
}

fn decode<T: DeserializeOwned>(socket: &Path, body: &[u8]) -> Result<T, AdminError> {
    serde_json::from_slice(body).map_err(|error| answer(socket, error.to_string()))
}

/// What an agent says in place of what was asked for.
fn unexpected(socket: &Path, code: StatusCode, body: &[u8]) -> AdminError {
    match serde_json::from_slice::<protocol::Fault>(body) {
        Ok(protocol::Fault { fault }) => AdminError::Refused { socket: socket.to_owned(), fault },
        Err(_) => answer(socket, format!("HTTP status {code}")),
    }
}

fn answer(socket: &Path, what: String) -> AdminError {
    AdminError::Answer { socket: socket.to_owned(), what }
}

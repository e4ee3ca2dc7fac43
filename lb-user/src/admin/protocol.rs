//! What holds for every request: the version, who asks, and with which right.

use std::fmt;
use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::HeaderMap};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

/// The version of the protocol: the first part of each path, and the header `xvip-protocol` of each answer. It grows when
/// something that was there changes its meaning or goes; what is new leaves it as it is.
pub const VERSION: u32 = 1;

pub(super) const HEADER: HeaderName = HeaderName::from_static("xvip-protocol");

/// What a socket lets its clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// See everything, change nothing.
    Look,
    /// Everything.
    Change,
}

/// Who wants something, for the log and the events, not for what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Caller {
    /// Not known.
    #[default]
    Somebody,
    /// Of this host, as the kernel says (SO_PEERCRED).
    Local {
        /// User.
        uid: u32,
        /// Process.
        pid: Option<i32>,
    },
    /// Somebody who is logged in at the status page.
    Administrator {
        /// Name in the file of passwords.
        name: String,
        /// Where they are.
        from: IpAddr,
    },
    /// Somebody who has shown a certificate at the status page.
    Certified {
        /// Name in the certificate.
        name: String,
        /// Where they are.
        from: IpAddr,
    },
}

impl Caller {
    pub(super) fn of(stream: &UnixStream) -> Self {
        stream.peer_cred().map_or(Self::Somebody, |peer| Self::Local { uid: peer.uid(), pid: peer.pid() })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, pid: Some(pid) } => write!(f, "uid {uid} (process {pid})"),
            Self::Local { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Administrator { name, from } => write!(f, "administrator {name} (status page, {from})"),
            Self::Certified { name, from } => {
                write!(f, "administrator {name} (status page, by certificate, {from})")
            }
            Self::Somebody => f.write_str("somebody"),
        }
    }
}

/// The body of an answer that says why there is no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) fault: String,
}

pub(super) fn fault(code: StatusCode, fault: impl Into<String>) -> Response {
    (code, Json(Fault { fault: fault.into() })).into_response()
}

/// The router with a clear answer to what it has no route for, and with the version in each answer.
pub(super) fn versioned(router: Router, right: Right) -> Router {
    router
        .fallback(move |request: Request| async move { unknown(right, &request) })
        .method_not_allowed_fallback(|| async {
            fault(StatusCode::METHOD_NOT_ALLOWED, "GET asks for what there is, POST for a change")
        })
        .layer(middleware::from_fn(check))
}

async fn check(request: Request, next: Next) -> Response {
    let mut answer = match mismatch(request.headers()) {
        Some(answer) => answer,
        None => next.run(request).await,
    };
    answer.headers_mut().insert(HEADER, HeaderValue::from(VERSION));
    answer
}

/// An answer to who says to speak another version.
fn mismatch(headers: &HeaderMap) -> Option<Response> {
    let theirs = headers.get(HEADER)?;
    (theirs.as_bytes() != VERSION.to_string().as_bytes()).then(|| fault(StatusCode::BAD_REQUEST, spoken()))
}

fn unknown(right: Right, request: &Request) -> Response {
    let path = request.uri().path();
    match path.strip_prefix("/v1/") {
        Some(_) if right == Right::Look && request.method() == Method::POST => {
            fault(StatusCode::FORBIDDEN, "this socket is for looking only: changes are asked for at admin.socket")
        }
        Some(_) => fault(
            StatusCode::NOT_FOUND,
            format!("xvip {} does not know this request: use the xvip that the agent runs", env!("CARGO_PKG_VERSION")),
        ),
        None => fault(StatusCode::NOT_FOUND, spoken()),
    }
}

fn spoken() -> String {
    format!(
        "the agent is xvip {} and speaks version {VERSION} of the protocol: use the xvip that it runs",
        env!("CARGO_PKG_VERSION")
    )
}

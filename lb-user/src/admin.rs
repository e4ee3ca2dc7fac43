//! The admin sockets: how the commands reach the agent on this machine. HTTP/1.1 over Unix sockets, docs/admin-protocol.md; the
//! files' modes decide who may.

mod ask;
mod backend;
mod capture;
mod client;
mod connections;
mod events;
mod explain;
mod protocol;
mod socket;
mod steering;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use ask::{Unanswered, ask};
pub(crate) use backend::change;
pub use backend::{BackendOrder, Change, Done};
pub use capture::{CaptureOrder, Capturing, request_capture};
pub use client::{
    AdminError, fetch_connections, fetch_events, fetch_explanation, fetch_status, read_status, request_backend,
    request_reload, request_step_down,
};
pub use connections::Flows;
pub use events::Page;
pub use protocol::{Caller, Right, VERSION};
pub use socket::ClaimError;
pub use steering::Handover;
pub(crate) use steering::{LONGEST_HOLD, USUAL_HOLD, hand_over};

use crate::config::{Admin, Readers};
use crate::drivers::vrrp::StepDown;
use crate::events::Reporter;
use crate::serve::{Limits, Serving, serve};
use crate::status::Status;
use socket::SocketFile;

/// Of each socket: who only may look cannot keep out who may change things.
const LIMITS: Limits =
    Limits { connections: 16, head: Duration::from_secs(2), whole: Duration::from_secs(5), head_bytes: 64 * 1024 };

/// How long a request waits for a reload; leaves time to say that it is not finished.
const RELOAD_PATIENCE: Duration = Duration::from_secs(4);

const CHANGE_MODE: u32 = 0o660;

/// What the sockets give access to.
#[derive(Debug, Clone)]
pub struct Access {
    /// The agent's state.
    pub status: watch::Receiver<Arc<Status>>,
    /// Where commands go.
    pub orders: mpsc::Sender<Order>,
    /// What has happened.
    pub events: Reporter,
    /// The tables of flows.
    pub flows: Flows,
}

/// What a command wants of the agent.
#[derive(Debug)]
pub enum Order {
    /// The configuration read again.
    Reload(ReloadRequest),
    /// VIPs handed over to other nodes.
    StepDown(StepDown, Caller),
    /// A backend changed.
    Backend(BackendOrder),
    /// Packets shown.
    Capture(CaptureOrder),
}

/// Somebody wants the configuration read again.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who wants it.
    pub caller: Caller,
    /// Where the outcome goes; whoever asked may be gone by then.
    pub reply: oneshot::Sender<ReloadResult>,
}

/// The outcome of a reload: applied, or the faults that kept the old configuration, one line each.
pub type ReloadResult = Result<(), Vec<String>>;

/// The body of an answer to a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReloadAnswer {
    applied: bool,
    faults: Vec<String>,
}

/// The running sockets. Dropping them ends them at once; the files go with them, unless another agent has put its own there.
#[derive(Debug)]
pub struct AdminServer {
    change: (SocketFile, Serving),
    look: Option<(SocketFile, Serving)>,
}

impl AdminServer {
    /// Removes the socket files, then finishes the answers under way; slow clients can make this last ten seconds.
    pub async fn stop(self) {
        let (file, change) = self.change;
        drop(file);
        if let Some((file, look)) = self.look {
            drop(file);
            look.stop().await;
        }
        change.stop().await;
    }
}

/// Claims the sockets and starts to answer on them.
///
/// The directory is made when it is missing, the sockets of an agent that crashed are replaced, those of one that lives are not.
pub async fn listen(admin: &Admin, access: Access) -> Result<AdminServer, ClaimError> {
    let mode = match admin.read {
        Readers::Everyone => Some(0o666),
        Readers::Group => Some(0o660),
        Readers::Nobody => None,
    };
    let change = claim(&admin.socket, CHANGE_MODE, Right::Change, access.clone()).await?;
    let look = match mode {
        Some(mode) => Some(claim(&admin.read_socket(), mode, Right::Look, access).await?),
        None => None,
    };
    Ok(AdminServer { change, look })
}

async fn claim(
    path: &std::path::Path, mode: u32, right: Right, access: Access,
) -> Result<(SocketFile, Serving), ClaimError> {
    let (listener, file) = socket::claim(path, mode).await?;
    let router = router(right, access);
    let for_caller = move |stream: &UnixStream| router.clone().layer(Extension(Caller::of(stream)));
    Ok((file, serve("admin", listener, for_caller, LIMITS)))
}

/// Answers on one connection, however it was made. Needs a tokio runtime with time.
pub async fn answer<Io>(io: Io, right: Right, access: Access)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    crate::serve::answer("admin", io, router(right, access).layer(Extension(Caller::default())), LIMITS).await;
}

/// What can be asked. Nothing that changes anything is reachable by who only may look.
fn router(right: Right, access: Access) -> Router {
    let Access { status, orders, events, flows } = access;
    let looking = Router::new()
        .route("/v1/status", get(show).with_state(status.clone()))
        .route("/v1/connections", get(connections::list).with_state((status.clone(), flows.clone())))
        .route("/v1/explain", get(explain::explain).with_state((status.clone(), flows)))
        .route("/v1/events", get(events::tell).with_state((status, events)));
    let all = match right {
        Right::Look => looking,
        Right::Change => looking
            .route("/v1/capture", post(capture::ask).with_state(orders.clone()))
            .route("/v1/reload", post(ask_reload).with_state(orders.clone()))
            .route("/v1/vrrp/step-down", post(steering::ask).with_state(orders.clone()))
            .route("/v1/backend/{change}", post(backend::ask).with_state(orders)),
    };
    protocol::versioned(all, right)
}

async fn show(State(status): State<watch::Receiver<Arc<Status>>>) -> Response {
    let status = Arc::clone(&status.borrow());
    Json(&*status).into_response()
}

async fn ask_reload(State(orders): State<mpsc::Sender<Order>>, Extension(caller): Extension<Caller>) -> Response {
    let order = |reply| Order::Reload(ReloadRequest { caller, reply });
    let (code, faults) = match ask(&orders, RELOAD_PATIENCE, order).await {
        Ok(Ok(())) => (StatusCode::OK, vec![]),
        Ok(Err(faults)) => (StatusCode::UNPROCESSABLE_ENTITY, faults),
        Err(Unanswered::Slow) => (
            StatusCode::GATEWAY_TIMEOUT,
            vec!["the reload is not finished yet; its outcome will be in the log".to_owned()],
        ),
        Err(why) => (why.code(), vec![why.to_string()]),
    };
    let applied = code == StatusCode::OK;
    (code, Json(ReloadAnswer { applied, faults })).into_response()
}

#[cfg(test)]
mod tests;

//! The admin socket: how the commands reach the agent on this machine. HTTP/1.1 over a Unix socket; the file's mode decides who may.

mod client;
mod socket;
mod steering;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub use client::{AdminError, fetch_status, read_status, request_reload, request_step_down};
pub use socket::ClaimError;
pub use steering::Handover;

use crate::drivers::vrrp::StepDown;
use crate::serve::{Limits, Serving, serve};
use crate::status::Status;
use socket::SocketFile;

const LIMITS: Limits =
    Limits { connections: 16, head: Duration::from_secs(2), whole: Duration::from_secs(5), head_bytes: 64 * 1024 };

/// How long a request waits for a reload; leaves time to say that it is not finished.
const RELOAD_PATIENCE: Duration = Duration::from_secs(4);

/// What a command wants of the agent.
#[derive(Debug)]
pub enum Order {
    /// The configuration read again.
    Reload(ReloadRequest),
    /// VIPs handed over to other nodes.
    StepDown(StepDown),
}

/// Somebody wants the configuration read again.
#[derive(Debug)]
pub struct ReloadRequest {
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

/// The running socket. Dropping it ends it at once; the file goes with it, unless another agent has put its own there.
#[derive(Debug)]
pub struct AdminServer {
    serving: Serving,
    file: SocketFile,
}

impl AdminServer {
    /// Removes the socket file, then finishes the answers under way; slow clients can make this last five seconds.
    pub async fn stop(self) {
        drop(self.file);
        self.serving.stop().await;
    }
}

/// Claims the socket at `path` and starts to answer on it.
///
/// The directory is made when it is missing, the socket of an agent that crashed is replaced, the socket of one that lives is not.
pub async fn listen(
    path: &Path, status: watch::Receiver<Arc<Status>>, orders: mpsc::Sender<Order>,
) -> Result<AdminServer, ClaimError> {
    let (listener, file) = socket::claim(path).await?;
    Ok(AdminServer { serving: serve("admin", listener, router(status, orders), LIMITS), file })
}

/// Answers on one connection, however it was made. Needs a tokio runtime with time.
pub async fn answer<Io>(io: Io, status: watch::Receiver<Arc<Status>>, orders: mpsc::Sender<Order>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    crate::serve::answer("admin", io, router(status, orders), LIMITS).await;
}

fn router(status: watch::Receiver<Arc<Status>>, orders: mpsc::Sender<Order>) -> Router {
    Router::new()
        .route("/v1/status", get(show))
        .with_state(status)
        .route("/v1/reload", post(ask_reload).with_state(orders.clone()))
        .route("/v1/vrrp/step-down", post(steering::ask).with_state(orders))
}

async fn show(State(status): State<watch::Receiver<Arc<Status>>>) -> Response {
    let status = Arc::clone(&status.borrow());
    Json(&*status).into_response()
}

async fn ask_reload(State(orders): State<mpsc::Sender<Order>>) -> Response {
    let answer = timeout(RELOAD_PATIENCE, async {
        let (reply, outcome) = oneshot::channel();
        orders.send(Order::Reload(ReloadRequest { reply })).await.ok()?;
        outcome.await.ok()
    });
    let (code, faults) = match answer.await {
        Ok(Some(Ok(()))) => (StatusCode::OK, vec![]),
        Ok(Some(Err(faults))) => (StatusCode::UNPROCESSABLE_ENTITY, faults),
        Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, vec!["the agent is stopping".to_owned()]),
        Err(_) => (
            StatusCode::GATEWAY_TIMEOUT,
            vec!["the reload is not finished yet; its outcome will be in the log".to_owned()],
        ),
    };
    let applied = code == StatusCode::OK;
    (code, Json(ReloadAnswer { applied, faults })).into_response()
}

#[cfg(test)]
mod tests;

//! The metrics listener: /metrics for Prometheus, /healthz and /readyz for probes, a page for people at /.

mod page;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::heartbeat::Heartbeat;
use crate::metrics::{CONTENT_TYPE, Exposition};
use crate::serve::{Limits, Serving, serve};
use crate::status::Status;

/// A control loop that has not come round for this long is taken for dead.
pub const STALE: Duration = Duration::from_secs(10);

const LIMITS: Limits =
    Limits { connections: 64, head: Duration::from_secs(5), whole: Duration::from_secs(10), head_bytes: 16 * 1024 };

/// What the listener shows.
#[derive(Debug, Clone)]
pub struct Sources {
    /// For /metrics.
    pub exposition: Arc<Exposition>,
    /// For / and /readyz.
    pub status: watch::Receiver<Arc<Status>>,
    /// For /healthz and /readyz.
    pub heartbeat: Heartbeat,
}

/// Why the listener could not be started.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen: cannot listen on {listen}: {source}{}", remedy(source))]
pub struct ListenError {
    /// The address asked for.
    pub listen: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has this port: stop it or choose another port",
        io::ErrorKind::AddrNotAvailable => "; this host does not have the address: use one it has, or 0.0.0.0",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE: choose another port",
        _ => "",
    }
}

/// The running listener. Dropping it ends it at once.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    serving: Serving,
}

impl HttpServer {
    /// Where it listens; the port is the real one where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Frees the address, then finishes the answers under way; slow clients can make this last ten seconds.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}

/// Starts the listener. To move it to another address, start the new one first and stop the old one then.
pub async fn listen(listen: SocketAddr, sources: Sources) -> Result<HttpServer, ListenError> {
    let fault = |source| ListenError { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let router = router(sources);
    let serving = serve("metrics", listener, move |_| router.clone(), LIMITS);
    Ok(HttpServer { address, serving })
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(sources)
}

const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");
const NO_SNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

async fn metrics(State(sources): State<Sources>) -> Response {
    match sources.exposition.render() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE), NO_STORE, NO_SNIFF], text).into_response(),
        Err(_) => words(StatusCode::INTERNAL_SERVER_ERROR, &["the metrics could not be written".to_owned()]),
    }
}

async fn healthz(State(sources): State<Sources>) -> Response {
    match dead(&sources.heartbeat) {
        None => words(StatusCode::OK, &["ok".to_owned()]),
        Some(fault) => words(StatusCode::SERVICE_UNAVAILABLE, &[fault]),
    }
}

async fn readyz(State(sources): State<Sources>) -> Response {
    let status = Arc::clone(&sources.status.borrow());
    let mut faults = unready(&status);
    faults.extend(dead(&sources.heartbeat));
    if faults.is_empty() {
        words(StatusCode::OK, &["ready".to_owned()])
    } else {
        words(StatusCode::SERVICE_UNAVAILABLE, &faults)
    }
}

async fn index(State(sources): State<Sources>) -> Response {
    let status = Arc::clone(&sources.status.borrow());
    let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut faults = unready(&status);
    faults.extend(dead(&sources.heartbeat));
    (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
            ),
            (header::REFERRER_POLICY, "no-referrer"),
            NO_STORE,
            NO_SNIFF,
        ],
        page::page(&status, &faults, now.as_secs_f64()),
    )
        .into_response()
}

/// Why the agent should not be sent work; nothing when it is ready.
pub(crate) fn unready(status: &Status) -> Vec<String> {
    let mut faults = Vec::new();
    if status.starting {
        faults.push("health checks: not ready yet: their files are being read".to_owned());
    }
    if !status.attached() {
        faults.push(format!("datapath: not attached: {}", status.datapath.reason));
    }
    for instance in &status.vrrp {
        if !matches!(instance.state.as_str(), "active" | "backup") {
            faults.push(format!("vrrp {}: {}: {}", instance.name, instance.state, instance.reason));
        }
    }
    faults
}

/// What is wrong with the control loop; nothing while it is alive.
pub(crate) fn dead(heartbeat: &Heartbeat) -> Option<String> {
    let age = heartbeat.age(clock::now());
    (age > STALE).then(|| format!("control loop or VRRP thread: no sign of life for {} s", age.as_secs()))
}

fn words(code: StatusCode, lines: &[String]) -> Response {
    let mut text = lines.join("\n");
    text.push('\n');
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), NO_STORE, NO_SNIFF], text).into_response()
}

#[cfg(test)]
mod tests;

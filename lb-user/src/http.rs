//! The metrics listener: /metrics for Prometheus, /healthz and /readyz for probes, a page for people at /, and what
//! administrators change by it.

mod act;
mod attempts;
mod authorities;
mod client;
mod desk;
mod door;
mod history;
mod host;
mod page;
mod sessions;
mod tls;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use authorities::{Authorities, RevocationList};
pub use desk::{Desk, DeskError, Settings};
use door::{Connection, Door, Peer};
use page::{Rights, View};

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
    /// For / and its actions.
    pub desk: Desk,
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
    watching: Watching,
}

/// Follows the status for rates; ends with its value.
#[derive(Debug)]
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HttpServer {
    /// Where it listens; the port is the real one where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Frees the address, then finishes the answers under way; slow clients can make this last ten seconds.
    pub async fn stop(self) {
        drop(self.watching);
        self.serving.stop().await;
    }
}

/// Starts the listener. To move it to another address, start the new one first and stop the old one then.
pub async fn listen(listen: SocketAddr, sources: Sources) -> Result<HttpServer, ListenError> {
    let fault = |source| ListenError { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let watching = Watching(tokio::spawn(watch_status(sources.status.clone(), sources.desk.clone())));
    let door = Door { listener, desk: sources.desk.clone() };
    let router = router(sources);
    let for_peer = move |connection: &Connection| router.clone().layer(Extension(connection.peer.clone()));
    let serving = serve("metrics", door, for_peer, LIMITS);
    Ok(HttpServer { address, serving, watching })
}

/// Answers on one connection, however it was made, as if from this node itself. Needs a tokio runtime with time.
pub async fn answer<Io>(io: Io, sources: Sources)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let here = Peer::new(Ipv4Addr::LOCALHOST.into(), false);
    crate::serve::answer("metrics", io, router(sources).layer(Extension(here)), LIMITS).await;
}

async fn watch_status(mut status: watch::Receiver<Arc<Status>>, desk: Desk) {
    loop {
        let seen = Arc::clone(&status.borrow_and_update());
        desk.saw(&seen);
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn router(sources: Sources) -> Router {
    let pages = Router::new().route("/", get(index)).route("/live", get(live)).merge(act::routes());
    // Probes and Prometheus call the node whatever they like: what they get is nobody's secret.
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(pages.route_layer(middleware::from_fn_with_state(sources.clone(), host::check)))
        .layer(middleware::map_response(guarded))
        .with_state(sources)
}

async fn metrics(State(sources): State<Sources>) -> Response {
    match sources.exposition.render() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
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

async fn index(State(sources): State<Sources>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    shown(&sources, &peer, &headers, true, |view, desk| document(desk, StatusCode::OK, |nonce| page::page(view, nonce)))
}

/// What of the page changes, for the page itself.
async fn live(State(sources): State<Sources>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    shown(&sources, &peer, &headers, false, |view, _| Html(page::live(view)).into_response())
}

/// Shows what whoever asks may see and do. What came of their last action is shown once, if `tells`.
fn shown(
    sources: &Sources, peer: &Peer, headers: &HeaderMap, tells: bool, show: impl FnOnce(&View<'_>, &Desk) -> Response,
) -> Response {
    let status = Arc::clone(&sources.status.borrow());
    let mut faults = unready(&status);
    faults.extend(dead(&sources.heartbeat));
    let desk = &sources.desk;
    let session = {
        let mut sessions = desk.sessions();
        act::session(&mut sessions, peer, headers, &status.node).and_then(|secret| {
            let session = sessions.find(&secret, clock::now())?;
            let outcome = if tells { session.outcome.take() } else { None };
            let (name, can_log_out) = (session.name.clone(), !session.is_certified());
            Some((name, can_log_out, sessions.token(&secret), outcome))
        })
    };
    let view = View {
        status: &status,
        faults: &faults,
        pace: &desk.pace(),
        now: clock::unix(clock::wall()),
        can_log_in: desk.has_administrators(),
        rights: session.as_ref().map(|(name, can_log_out, token, outcome)| Rights {
            name,
            can_log_out: *can_log_out,
            token,
            outcome: outcome.as_ref().map(|(is_good, text)| (*is_good, text.as_str())),
        }),
    };
    show(&view, desk)
}

/// A document for people, with a policy under which it alone runs what it has.
fn document(desk: &Desk, code: StatusCode, write: impl FnOnce(&str) -> String) -> Response {
    let Ok(nonce) = desk.sessions().secret() else {
        return words(StatusCode::INTERNAL_SERVER_ERROR, &["this system has no random numbers".to_owned()]);
    };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    (code, [(header::CONTENT_SECURITY_POLICY, policy)], Html(write(&nonce))).into_response()
}

/// What holds for every answer.
async fn guarded(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in GUARDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    answer
}

// With "no-referrer" browsers would hide from us that our own forms are ours.
const GUARDS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

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
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

#[cfg(test)]
mod tests;

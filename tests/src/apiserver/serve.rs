//! What the API server does in its own process: HTTPS (or HTTP) with HTTP/1.1 and HTTP/2, probes, a watch, and bulk both ways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Command line of the server.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address and port to listen on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Name given in the answers.
    #[arg(long)]
    pub name: String,
    /// PEM file of the certificate; without it the server speaks plain HTTP.
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file of the key.
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
    /// How long /readyz answers 500 after SIGTERM before the listener closes, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    pub grace_ms: u64,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What all connections share.
struct Shared {
    name: String,
    ready: watch::Sender<bool>,
    closing: watch::Sender<bool>,
}

/// Serves until SIGTERM. SIGUSR1 makes /readyz answer 500, SIGUSR2 makes it answer 200 again.
pub async fn serve(options: Options) -> Result<()> {
    let tls = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => Some(TlsAcceptor::from(Arc::new(server_config(cert, key)?))),
        _ => None,
    };
    let mut unready = signal(SignalKind::user_defined1())?;
    let mut ready = signal(SignalKind::user_defined2())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener =
        TcpListener::bind(options.listen).await.with_context(|| format!("listening on {}", options.listen))?;
    let shared =
        Arc::new(Shared { name: options.name, ready: watch::Sender::new(true), closing: watch::Sender::new(false) });
    let grace = Duration::from_millis(options.grace_ms);
    let mut connections = JoinSet::new();
    let mut deadline = pin!(None);
    loop {
        let grace_over = async {
            match deadline.as_mut().as_pin_mut() {
                Some(over) => over.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(accept(stream, peer, tls.clone(), shared.clone()));
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            _ = unready.recv() => { shared.ready.send_replace(false); }
            _ = ready.recv() => { shared.ready.send_replace(true); }
            _ = terminate.recv() => {
                shared.ready.send_replace(false);
                if deadline.is_none() {
                    deadline.set(Some(sleep(grace)));
                }
            }
            () = grace_over => break,
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    shared.closing.send_replace(true);
    let _ = timeout(Duration::from_secs(5), async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// HTTP/2 and HTTP/1.1 over TLS with this certificate and key.
pub fn server_config(cert: &PathBuf, key: &PathBuf) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("reading {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn accept(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => connection(stream, peer, shared).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(Duration::from_secs(10), tls.accept(stream)).await {
                connection(stream, peer, shared).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr, shared: Arc<Shared>,
) {
    let mut closing = shared.closing.subscribe();
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, peer, &shared).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

async fn answer(request: Request<Incoming>, peer: SocketAddr, shared: &Arc<Shared>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/livez" | "/healthz") => text(StatusCode::OK, "ok"),
        (&Method::GET, "/readyz") if *shared.ready.borrow() => text(StatusCode::OK, "ok"),
        (&Method::GET, "/readyz") => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "[-]shutdown failed: reason withheld\nreadyz check failed\n")
        }
        (&Method::GET, "/version") => json(&serde_json::json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.0+xvip-sandbox", "platform": "linux/amd64", "compiler": "rustc",
        })),
        (&Method::GET, "/whoami") => json(&serde_json::json!({
            "server": shared.name, "peer": peer.to_string(), "protocol": format!("{:?}", request.version()),
        })),
        (&Method::GET, "/watch" | "/api/v1/watch") => {
            watch_events(number(&request, "interval_ms").unwrap_or(100), shared)
        }
        (&Method::GET, "/bytes") => bulk(number(&request, "n").unwrap_or(1 << 20)),
        (&Method::GET, "/digest") => text(StatusCode::OK, &pattern_digest(number(&request, "n").unwrap_or(1 << 20))),
        (&Method::POST, "/digest") => digest(request.into_body()).await,
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, &format!("{value}\n"));
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn number(request: &Request<Incoming>, key: &str) -> Option<u64> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok())
}

/// One JSON event a line, the first at once, until the client or the server closes.
fn watch_events(interval_ms: u64, shared: &Arc<Shared>) -> Response<Body> {
    let every = Duration::from_millis(interval_ms.max(1));
    let closing = shared.closing.subscribe();
    let name = shared.name.clone();
    let events = stream::unfold((0_u64, closing), move |(count, mut closing)| {
        let name = name.clone();
        async move {
            if count > 0 {
                let _ = timeout(every, closing.wait_for(|closing| *closing)).await;
            }
            if *closing.borrow() {
                return None;
            }
            let object = serde_json::json!({"kind": "Lease", "metadata": {"name": "tick", "resourceVersion": count.to_string()}});
            let line = serde_json::json!({"type": "MODIFIED", "server": name, "object": object});
            Some((Ok(Frame::data(Bytes::from(format!("{line}\n")))), (count + 1, closing)))
        }
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(events)))
}

const CHUNK: usize = 64 * 1024;

/// `n` bytes of [`pattern`].
fn bulk(n: u64) -> Response<Body> {
    let chunks = stream::unfold(0_u64, move |offset| async move {
        let len = usize::try_from(n.saturating_sub(offset)).unwrap_or(CHUNK).min(CHUNK);
        if len == 0 {
            return None;
        }
        let mut chunk = vec![0; len];
        pattern(offset, &mut chunk);
        Some((Ok(Frame::data(Bytes::from(chunk))), offset + len as u64))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks)))
}

async fn digest(mut body: Incoming) -> Response<Body> {
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    hash.update(data);
                }
            }
            Err(err) => return text(StatusCode::BAD_REQUEST, &err.to_string()),
        }
    }
    text(StatusCode::OK, &hex(&hash.finalize()))
}

/// Fills `buffer` with what /bytes serves from `offset` (a multiple of 8) on: reproducible, and unlike itself at any other place.
pub fn pattern(offset: u64, buffer: &mut [u8]) {
    for (word, bytes) in (offset / 8..).zip(buffer.chunks_mut(8)) {
        // SplitMix64's output function.
        let mut x = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (x ^ (x >> 31)).to_le_bytes();
        bytes.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
}

/// SHA-256 in hexadecimal of the first `n` bytes of [`pattern`].
pub fn pattern_digest(n: u64) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < n {
        let len = usize::try_from(n - offset).unwrap_or(CHUNK).min(CHUNK);
        let Some(part) = buffer.get_mut(..len) else {
            break;
        };
        pattern(offset, part);
        hash.update(&*part);
        offset += len as u64;
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_is_the_same_from_any_aligned_start() {
        let mut whole = [0; 64];
        pattern(0, &mut whole);
        let mut part = [0; 21];
        pattern(16, &mut part);
        assert_eq!(part, whole[16..37]);
        assert_ne!(whole[..8], whole[8..16]);
    }

    #[test]
    fn digests_are_sha256() {
        assert_eq!(pattern_digest(0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_ne!(pattern_digest(CHUNK as u64), pattern_digest(CHUNK as u64 + 1));
    }
}

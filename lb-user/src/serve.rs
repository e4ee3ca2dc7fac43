//! An HTTP/1.1 server whose cost is bounded whatever its clients do: so many connections, so much buffer, so much time, one
//! request each. Both listeners of the agent use it.
//!
//! At the limit the oldest connection makes room for the newest, so clients that only hold connections keep nobody out.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// What a server spends on its clients at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Time for the request line and headers to arrive.
    pub(crate) head: Duration,
    /// Time for a whole connection, until the last byte of the answer has left.
    pub(crate) whole: Duration,
    /// Bytes of request line and headers, at least 8192.
    pub(crate) head_bytes: usize,
}

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// A running server. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Serving {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Closes the listener, then waits for answers under way, as long as `Limits::whole` allows.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        // An error means that the task is gone, which is what was asked for.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves on `listener` what `router` has for each connection, within `limits`. Needs a tokio runtime.
pub(crate) fn serve<L: Listener>(
    name: &'static str, listener: L, router: impl Fn(&L::Io) -> Router + Send + 'static, limits: Limits,
) -> Serving {
    let (stop, stopped) = oneshot::channel();
    Serving { stop: Some(stop), task: tokio::spawn(accept(name, listener, router, limits, stopped)) }
}

/// Pause after a failed accept; out of descriptors, the next one would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

async fn accept<L: Listener>(
    name: &'static str, listener: L, router: impl Fn(&L::Io) -> Router, limits: Limits,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    let mut failing = false;
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            next = listener.next() => match next {
                Ok(io) => {
                    failing = false;
                    oldest_first.retain(|connection| !connection.is_finished());
                    while oldest_first.len() >= limits.connections {
                        let Some(oldest) = oldest_first.pop_front() else { break };
                        oldest.abort();
                    }
                    let router = router(&io);
                    oldest_first.push_back(connections.spawn(answer(name, io, router, limits)));
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(listener = name, %error, "cannot accept connections");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection.
pub(crate) async fn answer<Io>(name: &'static str, io: Io, router: Router, limits: Limits)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    match timeout(limits.whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(listener = name, %error, "connection failed"),
        Err(_) => tracing::debug!(listener = name, "connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LONG: Duration = Duration::from_secs(60);

    /// Gives up where the server should have acted and has not.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn start(limits: Limits) -> (Serving, SocketAddr) {
        let router = Router::new()
            .route("/now", get(|| async { "now" }))
            .route("/never", get(std::future::pending::<&'static str>))
            .route("/much", get(|| async { vec![b'x'; 64 << 20] }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (serve("test", listener, move |_| router.clone(), limits), address)
    }

    async fn send(address: SocketAddr, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server should have closed");
        String::from_utf8(bytes).unwrap()
    }

    fn limits(connections: usize, head: Duration, whole: Duration) -> Limits {
        Limits { connections, head, whole, head_bytes: 16 * 1024 }
    }

    #[tokio::test]
    async fn the_oldest_makes_room_for_the_newest() {
        let (_serving, address) = start(limits(2, LONG, LONG)).await;
        let mut oldest = send(address, "GET /n").await;
        let mut second = send(address, "GET /n").await;
        let mut third = send(address, "GET /n").await;
        assert_eq!(rest(&mut oldest).await, "");
        for stream in [&mut second, &mut third] {
            let more = b"ow HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(more).await.unwrap();
            let answer = rest(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_cut_off() {
        let (_serving, address) = start(limits(2, Duration::from_millis(100), LONG)).await;
        let mut stream = send(address, "GET /now HTTP/1.1\r\nhost:").await;
        assert!(!rest(&mut stream).await.contains(" 200 "));
    }

    #[tokio::test]
    async fn a_head_too_long_is_refused() {
        let (_serving, address) = start(limits(2, LONG, LONG)).await;
        let head = format!("GET /now HTTP/1.1\r\nx: {}", "x".repeat(20_000));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(head.as_bytes()).await;
        assert!(!rest(&mut stream).await.contains(" 200 "));
    }

    #[tokio::test]
    async fn an_answer_that_never_ends_is_cut_off() {
        let (_serving, address) = start(limits(2, LONG, Duration::from_millis(200))).await;
        let mut stream = send(address, "GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(rest(&mut stream).await, "");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (serving, address) = start(limits(2, LONG, Duration::from_millis(200))).await;
        let stream = send(address, "GET /much HTTP/1.1\r\nhost: x\r\n\r\n").await;
        // Returns only once the connection is done with.
        timeout(PATIENCE, serving.stop()).await.unwrap();
        drop(stream);
    }
}

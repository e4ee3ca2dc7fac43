//! Much data in each direction through one connection: whether it arrives unchanged, and how fast.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use xvip_tests::apiserver::{pattern, pattern_digest};
use xvip_tests::client::connector;
use xvip_tests::stop::{self, say};
use xvip_tests::topology::SERVERS;

use crate::table::{Row, print};
use crate::world::Ground;

const BYTES: u64 = 200 * 1000 * 1000;
const CHUNK: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Seconds to a backend and from it.
struct Took {
    up: f64,
    down: f64,
}

/// Sends and fetches `runs` times through the VIP, and for comparison straight from a server; an error when a digest differs.
pub(crate) fn measure(ground: &Ground, runs: usize) -> Result<bool> {
    let (_, address) = SERVERS[0];
    let straight: SocketAddr = format!("{address}:6443").parse()?;
    let digest = pattern_digest(BYTES);
    let mut rows = Vec::new();
    for (way, target) in [("through the VIP", ground.vip()), ("straight to a server", straight)] {
        let mut took = Vec::new();
        for _ in 0..runs {
            if stop::asked() {
                bail!("stopped");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            took.push(ground.client().enter(|| runtime.block_on(one(ground, target, &digest)))??);
        }
        let rate = |seconds: f64| BYTES as f64 / 1e6 / seconds;
        rows.push(Row::new(format!("to the backend, {way}, s"), 2, took.iter().map(|took| took.up).collect()));
        rows.push(Row::new(format!("to the backend, {way}, MB/s"), 0, took.iter().map(|took| rate(took.up)).collect()));
        rows.push(Row::new(format!("to the client, {way}, s"), 2, took.iter().map(|took| took.down).collect()));
        rows.push(Row::new(
            format!("to the client, {way}, MB/s"),
            0,
            took.iter().map(|took| rate(took.down)).collect(),
        ));
    }
    say(format!("{BYTES} bytes in each direction over one connection (TLS 1.3, HTTP/1.1); every sha256 was {digest}"));
    print(&rows);
    say("");
    Ok(true)
}

async fn one(ground: &Ground, target: SocketAddr, digest: &str) -> Result<Took> {
    let stream = TcpStream::connect(target).await?;
    let stream = connector(&ground.ca_file())?.connect(ServerName::from(target.ip()), stream).await?;
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let host = target.to_string();

    let began = Instant::now();
    let request = Request::builder().method(Method::POST).uri("/digest").header("host", &host).body(filled())?;
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let answer = body.collect().await?.to_bytes();
    let up = began.elapsed().as_secs_f64();
    if head.status != StatusCode::OK || answer != digest.as_bytes() {
        bail!("the backend received something else: {} {}", head.status, String::from_utf8_lossy(&answer));
    }

    let began = Instant::now();
    let request =
        Request::builder().uri(format!("/bytes?n={BYTES}")).header("host", &host).body(Empty::new().boxed_unsync())?;
    let mut body = sender.send_request(request).await?.into_body();
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            hash.update(data);
        }
    }
    let down = began.elapsed().as_secs_f64();
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != digest {
        return Err(anyhow!("the client received something else: {found}, wanted is {digest}"));
    }
    drop(sender);
    connection.await??;
    Ok(Took { up, down })
}

/// The pattern, made as it is sent.
fn filled() -> Body {
    let chunks = stream::unfold(0_u64, |offset| async move {
        let len = usize::try_from(BYTES.saturating_sub(offset)).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; len];
        pattern(offset, &mut chunk);
        (len > 0).then(|| (Ok(Frame::data(Bytes::from(chunk))), offset + len as u64))
    });
    StreamBody::new(chunks).boxed_unsync()
}

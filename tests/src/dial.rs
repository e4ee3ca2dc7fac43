//! A client as a process of its own: many connections to one place, and what became of them. A process can be in a cgroup, a
//! thread of ours cannot.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cgroup::Cgroup;
use crate::client::connector;
use crate::netns::Netns;
use crate::process::output_within;

/// Longest time for a connection, its handshake and its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where to connect.
    #[arg(long)]
    pub target: SocketAddr,
    /// PEM file of the authority that signed the servers' certificates.
    #[arg(long)]
    pub ca_file: PathBuf,
    /// How many connections.
    #[arg(long)]
    pub count: usize,
    /// How many of them at any time.
    #[arg(long, default_value_t = 8)]
    pub at_once: usize,
    /// What to ask for.
    #[arg(long, default_value = "/whoami")]
    pub path: String,
}

/// What became of the connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialled {
    /// Answers by server.
    pub served: BTreeMap<String, usize>,
    /// Failures by their words.
    pub failed: BTreeMap<String, usize>,
    /// What getpeername(2) said.
    pub peers: BTreeMap<String, usize>,
    /// Bytes of all answers.
    pub bytes: usize,
}

impl Dialled {
    /// All answers.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.served.values().sum()
    }

    /// Who answered.
    #[must_use]
    pub fn servers(&self) -> Vec<&str> {
        self.served.keys().map(String::as_str).collect()
    }
}

/// Does it within this process.
pub async fn dial(options: Options) -> Result<Dialled> {
    let tls = connector(&options.ca_file)?;
    let (sum, left) = (Arc::new(Mutex::new(Dialled::default())), Arc::new(AtomicUsize::new(options.count)));
    let mut workers = JoinSet::new();
    for _ in 0..options.at_once.max(1) {
        let (sum, left, tls, options) = (sum.clone(), left.clone(), tls.clone(), options.clone());
        workers.spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let outcome =
                    timeout(PATIENCE, ask(&tls, &options)).await.unwrap_or_else(|_| bail!("no answer in time"));
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                match outcome {
                    Ok((server, peer, bytes)) => {
                        *sum.served.entry(server).or_default() += 1;
                        *sum.peers.entry(peer.to_string()).or_default() += 1;
                        sum.bytes += bytes;
                    }
                    Err(error) => *sum.failed.entry(format!("{error:#}")).or_default() += 1,
                }
            }
        });
    }
    while workers.join_next().await.is_some() {}
    let sum = sum.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(sum)
}

/// The server's name, the peer's address, and the length of the answer.
async fn ask(tls: &TlsConnector, options: &Options) -> Result<(String, SocketAddr, usize)> {
    let stream = TcpStream::connect(options.target).await?;
    let peer = stream.peer_addr()?;
    // Certificates know addresses by their plain form.
    let name = ServerName::from(options.target.ip().to_canonical());
    let mut stream = tls.connect(name, stream).await?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", options.path, options.target);
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            break;
        }
        bytes += len;
        if head.len() < buffer.len() {
            head.extend_from_slice(buffer.get(..len).unwrap_or_default());
        }
    }
    let head = String::from_utf8_lossy(&head);
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{}", head.lines().next().unwrap_or("closed without an answer"));
    }
    let server = head.split("\"server\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("?");
    Ok((server.to_owned(), peer, bytes))
}

/// Does it in a process of `program` (the sandbox's binary) inside a namespace and, if any, a cgroup.
pub fn run(
    program: &Path, netns: &Netns, cgroup: Option<&Cgroup>, options: &Options, limit: Duration,
) -> Result<Dialled> {
    let mut command = netns.command(program);
    command.arg("dial").args(["--target", &options.target.to_string(), "--path", &options.path]);
    command.args(["--count", &options.count.to_string(), "--at-once", &options.at_once.to_string()]);
    command.arg("--ca-file").arg(&options.ca_file);
    if let Some(cgroup) = cgroup {
        cgroup.enter_at_exec(&mut command)?;
    }
    let (status, text) = output_within(command, limit)?;
    if !status.success() {
        bail!("the client ended with {status}");
    }
    serde_json::from_str(&text).with_context(|| format!("reading {text:?}"))
}

//! The TCP connection of a check, and the check that asks for no more than that.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use lb_proto::health::{Outcome, Phase};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::{printable, within};

/// Where a backend is, and where it is asked from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Of the same family; `None`: the kernel's choice.
    pub(super) source: Option<IpAddr>,
}

impl Endpoint {
    /// A connection to the backend, or why there is none.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<TcpStream, Outcome> {
        let socket = self.socket().map_err(|e| Outcome::NotAsked { text: e.to_string() })?;
        let connected = within(deadline, Phase::Connect, socket.connect(self.address)).await?;
        let stream = connected.map_err(|e| refusal(&e))?;
        // On the host itself a connection to a free port of the ephemeral range can meet itself (RFC 9293, 3.5,
        // simultaneous open): that is nobody listening.
        match (stream.local_addr(), stream.peer_addr()) {
            (Ok(local), Ok(peer)) if local == peer => Err(Outcome::Refused),
            _ => Ok(stream),
        }
    }

    fn socket(&self) -> io::Result<TcpSocket> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(true)?;
        if let Some(source) = self.source {
            // The port is chosen at connect: then it needs to be unique towards this backend only.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        Ok(socket)
    }
}

/// Opens a connection and closes it in order.
pub(super) async fn probe(endpoint: &Endpoint, deadline: Instant) -> Outcome {
    match endpoint.connect(deadline).await {
        Ok(mut stream) => {
            // The check is decided; a peer that has gone since makes no difference to it.
            let _ = stream.shutdown().await;
            Outcome::Ready { status: None }
        }
        Err(outcome) => outcome,
    }
}

/// What a failed connection attempt means.
fn refusal(error: &io::Error) -> Outcome {
    let text = || printable(&error.to_string());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Outcome::Refused,
        Some(Errno::ETIMEDOUT) => Outcome::TimedOut { phase: Phase::Connect },
        Some(
            Errno::EADDRNOTAVAIL
            | Errno::EADDRINUSE
            | Errno::EAGAIN
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM,
        ) => Outcome::NotAsked { text: text() },
        _ => Outcome::Unreachable { text: text() },
    }
}

//! Connections as they come in, with TLS where it is configured: the handshake is made when the first byte is read, within the
//! same bounds as everything else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::client::Client;
use super::desk::Desk;
use crate::serve::Listener;

/// Where connections come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) desk: Desk,
}

impl Listener for Door {
    type Io = Connection;

    async fn next(&self) -> io::Result<Connection> {
        let (stream, from) = self.listener.accept().await?;
        Ok(Connection::new(stream, from, self.desk.tls()))
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    pub(super) has_tls: bool,
    /// Known once the handshake has ended, which is before any request.
    client: Arc<OnceLock<Client>>,
}

impl Peer {
    pub(super) fn new(address: IpAddr, has_tls: bool) -> Self {
        Self { address: address.to_canonical(), has_tls, client: Arc::default() }
    }

    /// Who has shown a certificate of a client.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.get()
    }

    /// Whether nobody on the way can read a password.
    pub(super) fn is_private(&self) -> bool {
        self.has_tls || self.address.is_loopback()
    }
}

/// A connection, encrypted or not.
pub(super) struct Connection {
    pub(super) peer: Peer,
    stream: Stream,
}

enum Stream {
    Plain(TcpStream),
    Shaking(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake failed.
    Broken,
}

impl Connection {
    fn new(stream: TcpStream, from: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let peer = Peer::new(from.ip(), tls.is_some());
        let stream = match tls {
            Some(tls) => Stream::Shaking(Box::new(TlsAcceptor::from(tls).accept(stream))),
            None => Stream::Plain(stream),
        };
        Self { peer, stream }
    }

    /// The stream that bytes of HTTP go through.
    fn open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Stream>> {
        if let Stream::Shaking(accept) = &mut self.stream {
            match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => {
                    if let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() {
                        self.peer.client.get_or_init(|| Client::new(certificate));
                    }
                    self.stream = Stream::Tls(Box::new(stream));
                }
                Err(error) => {
                    self.stream = Stream::Broken;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(&mut self.stream))
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the TLS handshake has failed")
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(self.get_mut().open(cx))? {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Stream::Shaking(_) | Stream::Broken => Poll::Ready(Err(broken())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.get_mut().open(cx))? {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Stream::Shaking(_) | Stream::Broken => Poll::Ready(Err(broken())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Stream::Shaking(_) | Stream::Broken => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Stream::Shaking(_) | Stream::Broken => Poll::Ready(Ok(())),
        }
    }
}

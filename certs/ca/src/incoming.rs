//! TLS connections for tonic servers: handshakes side by side, the peer's identity on each.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use weft_spiffe::PeerIdentity;
use weft_tls::{ServerStream, ServerTls};

/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at a time; further connections wait in the listener's backlog.
const HANDSHAKES: usize = 256;
/// Connections between handshake and server.
const QUEUE: usize = 64;
/// Pause after `accept` failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A stream of accepted TLS connections, for `serve_with_incoming`.
///
/// A slow or failing handshake holds up no other. Each connection is accepted with the
/// configuration that `tls` holds at that moment, so certificates rotate without a restart.
/// Dropping it stops accepting.
#[derive(Debug)]
pub struct TlsIncoming {
    connections: mpsc::Receiver<TlsConnection>,
    /// Owns the accepting task and, through it, the handshakes.
    _acceptor: JoinSet<()>,
}

impl TlsIncoming {
    /// Starts accepting on the listener; needs a tokio runtime.
    pub fn new(listener: TcpListener, tls: watch::Receiver<Arc<ServerTls>>) -> Self {
        let (sender, connections) = mpsc::channel(QUEUE);
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept_all(listener, tls, sender));
        Self { connections, _acceptor: acceptor }
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

async fn accept_all(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerTls>>,
    sender: mpsc::Sender<TlsConnection>,
) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while handshakes.try_join_next().is_some() {}
        let tls = Arc::clone(&tls.borrow());
        let sender = sender.clone();
        handshakes.spawn(async move {
            match shake_hands(&tls, stream).await {
                // The server is gone when nobody receives; then the connection may go too.
                Ok(connection) => drop(sender.send(connection).await),
                Err(reason) => tracing::info!(%address, %reason, "TLS handshake failed"),
            }
            drop(permit);
        });
    }
}

async fn shake_hands(tls: &ServerTls, stream: TcpStream) -> Result<TlsConnection, String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = stream.handshake().peer.clone();
            // A certificate that nobody vouched for proves nothing.
            let verified = certificate.filter(|_| tls.verifies_clients());
            let peer = verified.map(|certificate| certificate.identity()).unwrap_or_default();
            Ok(TlsConnection { stream, peer })
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not finished after {HANDSHAKE_TIMEOUT:?}")),
    }
}

/// An accepted connection. tonic puts its [`PeerIdentity`] into the extensions of each request.
#[derive(Debug)]
pub struct TlsConnection {
    stream: ServerStream<TcpStream>,
    peer: PeerIdentity,
}

impl Connected for TlsConnection {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

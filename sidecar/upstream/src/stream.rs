//! One upstream connection as a stream of bytes, in the clear or over TLS.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use weft_codec::Transport;
use weft_model::{ClusterHandle, HostCounters};
use weft_tls::ClientStream;

/// A connection to an endpoint; counted among the cluster's connections while it lives.
#[derive(Debug)]
pub struct UpstreamStream {
    transport: Channel,
    counted: CountedConnection,
}

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Channel {
    Raw(Socket),
    Tls(Box<ClientStream<Socket>>),
}

/// The socket below.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl UpstreamStream {
    pub(crate) fn new(transport: Channel, counted: CountedConnection) -> Self {
        Self { transport, counted }
    }

    /// The TCP socket, where nothing stands between it and the bytes: it can be spliced.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.transport {
            Channel::Raw(Socket::Tcp(stream)) => Some(stream),
            Channel::Raw(Socket::Unix(_)) | Channel::Tls(_) => None,
        }
    }

    /// Counts bytes that were received over [`Self::tcp`], past this stream.
    pub fn count_received(&self, bytes: usize) {
        self.counted.received(bytes);
    }

    /// Counts bytes that were sent over [`Self::tcp`], past this stream.
    pub fn count_sent(&self, bytes: usize) {
        self.counted.sent(bytes);
    }

    /// Our address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(stream) => stream.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// The upstream's address.
    #[must_use]
    pub fn remote_address(&self) -> Option<SocketAddr> {
        match self.socket() {
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Channel::Tls(_))
    }

    /// The application protocol that TLS agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.transport {
            Channel::Raw(_) => None,
            Channel::Tls(stream) => stream.handshake().alpn.as_deref(),
        }
    }

    fn socket(&self) -> &Socket {
        match &self.transport {
            Channel::Raw(socket) => socket,
            Channel::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Socket {
    /// Our address and the upstream's; none on a Unix domain socket.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(stream) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            Self::Unix(_) => None,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        this.counted.received(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.transport).poll_write(cx, buf))?;
        this.counted.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.transport).poll_write_vectored(cx, bufs))?;
        this.counted.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Channel::Raw(socket) => socket.is_write_vectored(),
            Channel::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

impl Transport for UpstreamStream {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was received already is announced by nobody.
        if let Channel::Tls(stream) = &self.transport
            && stream.holds_input()
        {
            return Poll::Ready(Ok(()));
        }
        match self.socket() {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
        }
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Raw(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Raw(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection, or the attempt at one, in the statistics and against the limit.
#[derive(Debug)]
pub(crate) struct CountedConnection {
    cluster: Arc<ClusterHandle>,
    connections: Arc<AtomicU32>,
    host: Arc<HostCounters>,
}

impl CountedConnection {
    pub(crate) fn new(
        cluster: &Arc<ClusterHandle>,
        connections: &Arc<AtomicU32>,
        host: &Arc<HostCounters>,
    ) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        cluster.stats().cx_total.inc();
        cluster.stats().cx_active.inc();
        host.cx_total.inc_shared();
        host.cx_active.inc_shared();
        let cluster = Arc::clone(cluster);
        Self { cluster, connections: Arc::clone(connections), host: Arc::clone(host) }
    }

    /// The counters of the endpoint.
    pub(crate) fn host(&self) -> &HostCounters {
        &self.host
    }

    fn received(&self, bytes: usize) {
        self.cluster.stats().cx_rx_bytes.add(bytes as u64);
    }

    fn sent(&self, bytes: usize) {
        self.cluster.stats().cx_tx_bytes.add(bytes as u64);
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.host.cx_active.dec_shared();
        self.cluster.stats().cx_active.dec();
    }
}

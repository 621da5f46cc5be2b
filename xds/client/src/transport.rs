//! How the control plane is reached.

use std::net::SocketAddr;

use futures_util::{FutureExt, future::BoxFuture};
use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::metadata::MetadataMap;

/// A connection to the control plane: TCP, a Unix socket, TLS over either, …
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Any connection to the control plane.
pub type BoxedIo = Box<dyn Io>;

/// Why the control plane could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The connection could not be opened.
    #[error("{target}: {source}")]
    Connect {
        /// What was to be reached.
        target: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The TLS handshake failed, or its material is not there.
    #[error("{target}: TLS: {reason}")]
    Tls {
        /// What was to be reached.
        target: String,
        /// Why not.
        reason: String,
    },
    /// What is to be sent along, like a token, could not be had.
    #[error("credentials: {0}")]
    Credentials(String),
}

/// Opens connections to the control plane. Asked anew for each attempt, so that certificates and
/// tokens that were renewed meanwhile are used.
pub trait Transport: Send + Sync + 'static {
    /// Opens a connection on which HTTP/2 can begin.
    ///
    /// # Errors
    /// [`TransportError`]; the attempt is repeated after a while.
    fn connect(&self) -> BoxFuture<'_, Result<BoxedIo, TransportError>>;

    /// Scheme and authority of the requests, like `https://istiod.istio-system.svc:15012`.
    fn authority(&self) -> Uri;

    /// What is sent along with the call, like `authorization: Bearer …`.
    ///
    /// # Errors
    /// [`TransportError::Credentials`]; the attempt is repeated after a while.
    fn metadata(&self) -> Result<MetadataMap, TransportError> {
        Ok(MetadataMap::new())
    }
}

/// Plaintext HTTP/2 over TCP, for a control plane on loopback.
#[derive(Clone, Copy, Debug)]
pub struct TcpTransport {
    address: SocketAddr,
}

impl TcpTransport {
    /// Connects to `address`.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address }
    }
}

impl Transport for TcpTransport {
    fn connect(&self) -> BoxFuture<'_, Result<BoxedIo, TransportError>> {
        let connect = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedIo)
        };
        let failed = |source| TransportError::Connect { target: self.address.to_string(), source };
        connect.map(move |result: std::io::Result<BoxedIo>| result.map_err(failed)).boxed()
    }

    fn authority(&self) -> Uri {
        Uri::builder()
            .scheme("http")
            .authority(self.address.to_string())
            .path_and_query("/")
            .build()
            .expect("invariant: a socket address is a valid authority")
    }
}

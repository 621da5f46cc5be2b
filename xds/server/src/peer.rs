//! Who is at the other end of a stream.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::{metadata::MetadataMap, transport::server::Connected};

/// What the acceptor of a connection knows of its peer. It travels as a request extension, which
/// [`PeerIo`], or another connection whose `ConnectInfo` it is, puts there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The verified SPIFFE ID of the client certificate.
    pub spiffe_id: Option<String>,
    /// Where the connection comes from.
    pub address: Option<SocketAddr>,
}

/// The other end of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from; nothing for sockets without addresses.
    pub address: Option<SocketAddr>,
    /// The verified SPIFFE ID of the client certificate; nothing on plaintext connections and
    /// without a client certificate.
    pub spiffe_id: Option<String>,
    /// The token of `authorization: Bearer …`; not verified here.
    pub bearer_token: Option<String>,
    /// Whether it speaks the incremental variant.
    pub incremental: bool,
}

impl Peer {
    /// Puts together what the connection and the metadata of a call tell.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        let identity = request.extensions().get::<PeerIdentity>().cloned().unwrap_or_default();
        Self {
            address: identity.address.or_else(|| request.remote_addr()),
            spiffe_id: identity.spiffe_id,
            bearer_token: bearer_token(request.metadata()),
            incremental: false,
        }
    }
}

fn bearer_token(metadata: &MetadataMap) -> Option<String> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

pin_project! {
    /// A connection with what its acceptor knows of the peer, for
    /// [`tonic::transport::Server::serve_with_incoming`].
    #[derive(Debug)]
    pub struct PeerIo<S> {
        #[pin]
        inner: S,
        identity: PeerIdentity,
    }
}

impl<S> PeerIo<S> {
    /// Joins a connection, usually a finished TLS handshake, with its peer.
    pub const fn new(inner: S, identity: PeerIdentity) -> Self {
        Self { inner, identity }
    }
}

impl<S> Connected for PeerIo<S> {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.identity.clone()
    }
}

impl<S: AsyncRead> AsyncRead for PeerIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().inner.poll_read(context, buffer)
    }
}

impl<S: AsyncWrite> AsyncWrite for PeerIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(authorization: &str) -> tonic::Request<()> {
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        request
    }

    #[test]
    fn the_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(Peer::of(&call("Bearer abc")).bearer_token.as_deref(), Some("abc"));
        assert_eq!(Peer::of(&call("bearer abc")).bearer_token.as_deref(), Some("abc"));
        assert_eq!(Peer::of(&call("Basic abc")).bearer_token, None);
    }

    #[test]
    fn the_identity_of_the_connection_is_the_peers() {
        let mut request = tonic::Request::new(());
        let spiffe_id = Some("spiffe://cluster.local/ns/a/sa/b".to_owned());
        let address = Some("127.0.0.1:9".parse().unwrap());
        request.extensions_mut().insert(PeerIdentity { spiffe_id: spiffe_id.clone(), address });
        assert_eq!(Peer::of(&request), Peer { address, spiffe_id, ..Peer::default() });
    }
}

//! The servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use weft_ca::{SigningService, TlsIncoming};
use weft_spiffe::PeerIdentity;
use weft_tls::ServerTls;
use weft_xds_server::{AdsService, NodeDirectory};

/// HTTP/2 pings keep dead connections from being taken for live ones.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens, or says what is in the way.
pub(crate) async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{what} can't listen on {address}; choose another in the configuration")
    })
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .tcp_nodelay(true)
}

/// xDS without TLS.
pub(crate) async fn plaintext(
    listener: TcpListener,
    directory: Arc<dyn NodeDirectory>,
    stop: CancellationToken,
) -> Result<()> {
    let ads = AdsService::new(directory, stop.clone()).into_server();
    server()
        .add_service(ads)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned())
        .await
        .context("the plaintext xDS server failed")
}

/// xDS and the signing of certificates over TLS.
pub(crate) async fn tls(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerTls>>,
    directory: Arc<dyn NodeDirectory>,
    signing: SigningService,
    stop: CancellationToken,
) -> Result<()> {
    let ads = AdsService::new(directory, stop.clone()).into_server();
    server()
        .layer(tower::util::MapRequestLayer::new(with_identity))
        .add_service(ads)
        .add_service(signing.into_server())
        .serve_with_incoming_shutdown(TlsIncoming::new(listener, tls), stop.cancelled_owned())
        .await
        .context("the TLS server for xDS and certificates failed")
}

/// Tells the xDS service what the handshake proved.
fn with_identity<B>(mut request: http::Request<B>) -> http::Request<B> {
    let spiffe_id =
        request.extensions().get::<PeerIdentity>().and_then(|peer| peer.spiffe_id.clone());
    let identity = weft_xds_server::PeerIdentity { spiffe_id, address: None };
    request.extensions_mut().insert(identity);
    request
}

/// The Admin API.
pub(crate) async fn admin(
    listener: TcpListener,
    router: axum::Router,
    stop: CancellationToken,
) -> Result<()> {
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the Admin API failed")
}

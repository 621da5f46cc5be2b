//! Single streams, with a bare gRPC client.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Server};
use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use weft_xds_server::{
    AdsService, BoxFuture, Node, NodeDirectory, NodeResources, NodeSession, Peer, PeerIdentity,
    PeerIo, ResourceType, SessionObserver,
};

const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

struct Directory {
    resources: watch::Receiver<Arc<NodeResources>>,
    peers: watch::Sender<Vec<Peer>>,
}

struct Silent;

impl SessionObserver for Silent {}

impl NodeDirectory for Directory {
    fn connect<'a>(
        &'a self,
        _node: &'a Node,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<NodeSession, Status>> {
        self.peers.send_modify(|peers| peers.push(peer.clone()));
        let resources = self.resources.clone();
        Box::pin(async { Ok(NodeSession { resources, observer: Arc::new(Silent) }) })
    }
}

struct Running {
    url: String,
    resources: watch::Sender<Arc<NodeResources>>,
    peers: watch::Receiver<Vec<Peer>>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve() -> Running {
    let (resources, watched) = watch::channel(Arc::default());
    let (told, peers) = watch::channel(Vec::new());
    let stop = CancellationToken::new();
    let directory = Arc::new(Directory { resources: watched, peers: told });
    let service = AdsService::new(directory, stop.clone()).into_server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpListenerStream::new(listener).map(|stream| {
        let address = Some(stream.as_ref().unwrap().peer_addr().unwrap());
        stream.map(|io| PeerIo::new(io, PeerIdentity { spiffe_id: Some(ID.into()), address }))
    });
    let stopped = stop.clone().cancelled_owned();
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, stopped));
    Running { url, resources, peers, stop }
}

fn first(id: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: id.into(), ..Default::default() }),
        type_url: ResourceType::Cluster.type_url().into(),
        ..Default::default()
    }
}

/// Sends one request and leaves the stream open.
async fn talk(
    server: &Running,
    request: DeltaDiscoveryRequest,
) -> impl Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Unpin + use<> {
    let mut client = AggregatedDiscoveryServiceClient::connect(server.url.clone()).await.unwrap();
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    client.delta_aggregated_resources(requests).await.unwrap().into_inner()
}

async fn next<S>(responses: &mut S) -> Result<DeltaDiscoveryResponse, Status>
where
    S: Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Unpin,
{
    timeout(Duration::from_secs(20), responses.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_directory_sees_the_verified_identity() {
    let server = serve().await;
    let mut responses = talk(&server, first("n")).await;
    assert_eq!(next(&mut responses).await.unwrap().nonce, "1");
    let peer = server.peers.borrow()[0].clone();
    assert_eq!(peer.spiffe_id.as_deref(), Some(ID));
    assert!(peer.address.unwrap().ip().is_loopback());
}

#[tokio::test]
async fn a_stream_without_a_node_is_refused() {
    let server = serve().await;
    let anonymous = DeltaDiscoveryRequest { node: None, ..first("") };
    for request in [anonymous, first("")] {
        let mut responses = talk(&server, request).await;
        let status = next(&mut responses).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "missing node information")
        );
    }
}

#[tokio::test]
async fn a_node_that_is_no_longer_served_is_sent_away() {
    let mut server = serve().await;
    let mut responses = talk(&server, first("n")).await;
    next(&mut responses).await.unwrap();
    server.resources = watch::channel(Arc::default()).0;
    assert_eq!(next(&mut responses).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let server = serve().await;
    let mut responses = talk(&server, first("n")).await;
    next(&mut responses).await.unwrap();
    server.stop.cancel();
    let status = next(&mut responses).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is stopping"));
}

//! The gRPC service.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_xds_ads::server::{DeltaServer, SotwServer};
use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    },
};

use crate::{NodeDirectory, Peer, stream::responses};

/// The largest request that is read. A node that reconnects states the version of everything it
/// holds: some hundred thousand names.
const MAX_REQUEST_BYTES: usize = 32 << 20;

type Responses<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// The aggregated discovery service, both variants, over a directory of nodes.
#[derive(Clone)]
pub struct AdsService {
    directory: Arc<dyn NodeDirectory>,
    stop: CancellationToken,
}

impl AdsService {
    /// Serves what `directory` has. Streams live until the node leaves or `stop` is cancelled;
    /// then they end with `UNAVAILABLE`, so that a graceful shutdown comes to its end.
    pub fn new(directory: Arc<dyn NodeDirectory>, stop: CancellationToken) -> Self {
        Self { directory, stop }
    }

    /// The service for [`tonic::transport::Server::add_service`].
    #[must_use]
    pub fn into_server(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (directory, stop, peer) =
            (self.directory.clone(), self.stop.clone(), Peer::of(&request));
        let stream = responses::<SotwServer>(directory, stop, peer, request.into_inner());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = Peer { incremental: true, ..Peer::of(&request) };
        let (directory, stop) = (self.directory.clone(), self.stop.clone());
        let stream = responses::<DeltaServer>(directory, stop, peer, request.into_inner());
        Ok(Response::new(Box::pin(stream)))
    }
}

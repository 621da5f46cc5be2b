//! A control plane of many clusters: says what it is asked for, as fast as it can, over delta xDS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use weft_xds_proto::{Any, ResourceType};

use crate::process::pin_load;

/// Responses that may wait.
const QUEUE: usize = 64;

/// Resources by name.
pub(crate) type Resources = BTreeMap<String, Any>;

/// What is served, and what became of it.
#[derive(Default)]
struct Shared {
    types: BTreeMap<ResourceType, Resources>,
    connected: OnceLock<Instant>,
    pushes: OnceLock<mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>>,
}

/// A control plane for one proxy; runs until the process ends.
pub(crate) struct ControlPlane {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl ControlPlane {
    /// Starts one on a thread of its own, on the core of the load.
    pub(crate) fn start(types: BTreeMap<ResourceType, Resources>) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { types, ..Shared::default() });
        let service = Service(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("control plane".into()).spawn(move || -> Result<()> {
            pin_load()?;
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let service = AggregatedDiscoveryServiceServer::new(service);
                tonic::transport::Server::builder()
                    .add_service(service.max_decoding_message_size(usize::MAX))
                    .serve_with_incoming(incoming)
                    .await?;
                Ok(())
            })
        })?;
        Ok(Self { address, shared })
    }

    /// When the proxy opened its stream.
    pub(crate) fn connected(&self) -> Option<Instant> {
        self.shared.connected.get().copied()
    }

    /// Sends one changed resource.
    pub(crate) async fn push(
        &self,
        kind: ResourceType,
        name: &str,
        version: u64,
        body: Any,
    ) -> Result<()> {
        let pushes = self.shared.pushes.get().context("the proxy has not connected")?;
        let resource = Resource {
            name: name.to_owned(),
            version: version.to_string(),
            resource: Some(body),
            ..Resource::default()
        };
        pushes.send(Ok(response(kind, vec![resource], version))).await.context("the proxy left")
    }
}

struct Service(Arc<Shared>);

fn response(kind: ResourceType, resources: Vec<Resource>, version: u64) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: version.to_string(),
        resources,
        type_url: kind.type_url().to_owned(),
        nonce: version.to_string(),
        ..DeltaDiscoveryResponse::default()
    }
}

impl Shared {
    /// The answer to a request that subscribes to something: clusters and listeners as a whole,
    /// other types by name.
    fn answer(&self, request: &DeltaDiscoveryRequest) -> Option<DeltaDiscoveryResponse> {
        let kind = ResourceType::from_type_url(&request.type_url)?;
        let known = self.types.get(&kind)?;
        let whole = matches!(kind, ResourceType::Cluster | ResourceType::Listener);
        let first = request.response_nonce.is_empty();
        let resource = |(name, body): (&String, &Any)| Resource {
            name: name.clone(),
            version: "0".to_owned(),
            resource: Some(body.clone()),
            ..Resource::default()
        };
        let resources: Vec<_> = if whole {
            known.iter().filter(|_| first).map(resource).collect()
        } else {
            let names = request.resource_names_subscribe.iter();
            names.filter_map(|name| known.get_key_value(name)).map(resource).collect()
        };
        (!resources.is_empty()).then(|| response(kind, resources, 0))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta xDS is spoken"))
    }

    async fn delta_aggregated_resources(
        &self,
        requests: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let shared = Arc::clone(&self.0);
        shared.connected.get_or_init(Instant::now);
        let mut requests = requests.into_inner();
        let (responses, stream) = mpsc::channel(QUEUE);
        // The first stream gets the pushes; a proxy that connects anew ends the measurement.
        let _ = shared.pushes.set(responses.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(response) = shared.answer(&request)
                    && responses.send(Ok(response)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

//! A control plane that serves what a test says, and an agent's server of secrets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures_util::{Stream, stream};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use weft_netns::Host;
use weft_xds_proto::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use weft_xds_proto::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use weft_xds_proto::{Any, ResourceType};
use weft_xds_server::{
    AdsService, BoxFuture, Node, NodeDirectory, NodeResources, NodeSession, Peer, Refusal,
    SessionObserver, TypeResources, VersionedResource,
};

/// The port of istiod for plaintext.
pub(crate) const PORT: u16 = 15010;

/// Serves ADS; ended when dropped.
pub(crate) struct Istiod {
    nodes: Nodes,
    server: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Nodes {
    resources: Arc<Mutex<BTreeMap<String, watch::Sender<Arc<NodeResources>>>>>,
    refused: Arc<Mutex<Vec<Refusal>>>,
}

impl Istiod {
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let listener = host.listen((host.ipv4(), PORT).into())?;
        listener.set_nonblocking(true)?;
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?);
        let nodes = Nodes::default();
        let service = AdsService::new(Arc::new(nodes.clone()), CancellationToken::new());
        let serving = Server::builder().add_service(service.into_server());
        let server = tokio::spawn(async move {
            // The proxies are told of a broken server by its breaking.
            let _ = serving.serve_with_incoming(incoming).await;
        });
        Ok(Self { nodes, server })
    }

    /// Has a node served these resources, and nothing else.
    pub(crate) fn serve(
        &self,
        node: &str,
        version: u32,
        resources: &[(ResourceType, Any)],
    ) -> Result<()> {
        let mut all = NodeResources::default();
        for kind in ResourceType::ALL {
            let mut of_kind = BTreeMap::new();
            for (_, body) in resources.iter().filter(|(one, _)| *one == kind) {
                let version = digest(body);
                let resource = VersionedResource { version, body: body.clone() };
                of_kind.insert(kind.name_of(body)?, Arc::new(resource));
            }
            let version = version.to_string();
            let of_kind = TypeResources { version, resources: of_kind, on_demand: None };
            all.set(kind, Arc::new(of_kind));
        }
        self.nodes.of(node).send_replace(Arc::new(all));
        Ok(())
    }

    /// What was refused so far.
    pub(crate) fn refused(&self) -> Vec<Refusal> {
        self.nodes.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A version that changes with the body.
fn digest(body: &Any) -> String {
    let mix = |sum: u64, byte: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
    body.value.iter().fold(0, mix).to_string()
}

impl Drop for Istiod {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Nodes {
    fn of(&self, node: &str) -> watch::Sender<Arc<NodeResources>> {
        let mut all = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(node.to_owned()).or_insert_with(|| watch::Sender::new(Arc::default())).clone()
    }
}

impl NodeDirectory for Nodes {
    fn connect<'a>(
        &'a self,
        node: &'a Node,
        _peer: &'a Peer,
    ) -> BoxFuture<'a, Result<NodeSession, Status>> {
        let resources = self.of(&node.id).subscribe();
        let observer = Arc::new(Observer(Arc::clone(&self.refused)));
        Box::pin(async { Ok(NodeSession { resources, observer }) })
    }
}

struct Observer(Arc<Mutex<Vec<Refusal>>>);

impl SessionObserver for Observer {
    fn rejected(&self, refusal: &Refusal) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(refusal.clone());
    }
}

/// The server of secrets that istio's agent is for its proxy; ended when dropped.
pub(crate) struct Agent(JoinHandle<()>);

impl Agent {
    /// Serves `secrets`, by name, at the socket `path`.
    pub(crate) fn start(path: &Path, secrets: BTreeMap<String, Any>) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
        // The proxy is another user.
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        let service = SecretDiscoveryServiceServer::new(Secrets(Arc::new(secrets)));
        let serving = Server::builder().add_service(service);
        Ok(Self(tokio::spawn(async move {
            let _ = serving.serve_with_incoming(UnixListenerStream::new(listener)).await;
        })))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Secrets(Arc<BTreeMap<String, Any>>);

type Responses<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Responses<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("the agent speaks the state of the world"))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let state = (request.into_inner(), Arc::clone(&self.0), Vec::new());
        // Whenever other names are asked for, all of them are answered.
        let responses = stream::try_unfold(state, |(mut requests, secrets, mut told)| async move {
            while let Some(request) = requests.message().await? {
                if request.resource_names == told {
                    continue;
                }
                told.clone_from(&request.resource_names);
                let found = told.iter().filter_map(|name| secrets.get(name));
                let response = DiscoveryResponse {
                    version_info: "1".to_owned(),
                    type_url: request.type_url,
                    nonce: told.len().to_string(),
                    resources: found.cloned().collect(),
                    ..Default::default()
                };
                return Ok(Some((response, (requests, secrets, told))));
            }
            Ok(None)
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn fetch_secrets(
        &self,
        _request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("the agent has streams"))
    }
}

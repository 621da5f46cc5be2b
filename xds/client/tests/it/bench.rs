//! A server, a client and a handler that tell what they saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use weft_xds_client::{
    Backoff, BoxFuture, BoxedIo, ClientConfig, ClientHandle, Node, Rejection, ResourceHandler,
    ResourceType, ResourceUpdate, Subscription, TcpTransport, Transport, TransportError, Variant,
    spawn,
};
use weft_xds_proto::{
    Any, pack,
    pb::envoy::config::{
        cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
        route::v3::RouteConfiguration,
    },
    unpack,
};
use weft_xds_server::{
    AdsService, NodeDirectory, NodeResources, NodeSession, Peer, Refusal, SessionObserver,
    TypeResources, VersionedResource,
};

pub(crate) const CDS: ResourceType = ResourceType::Cluster;
pub(crate) const EDS: ResourceType = ResourceType::Endpoint;
pub(crate) const LDS: ResourceType = ResourceType::Listener;
pub(crate) const RDS: ResourceType = ResourceType::Route;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `accept` holds for the watched value.
pub(crate) async fn until<T: Clone + std::fmt::Debug>(
    watched: &mut watch::Receiver<T>,
    what: &str,
    accept: impl FnMut(&T) -> bool,
) -> T {
    let waited = timeout(PATIENCE, watched.wait_for(accept)).await;
    match waited.map(|result| result.map(|value| value.clone())) {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => panic!("{what}: the watched side is gone"),
        Err(_) => panic!("{what}: not seen; the last was {:?}", *watched.borrow()),
    }
}

/// A resource of `kind`; its content is told apart by `content`, and `bad` is refused.
pub(crate) fn resource(kind: ResourceType, name: &str, content: &str) -> Any {
    let (name, content) = (name.to_owned(), content.to_owned());
    match kind {
        CDS => pack(&Cluster { name, alt_stat_name: content, ..Default::default() }),
        EDS => pack(&ClusterLoadAssignment {
            cluster_name: name,
            named_endpoints: [(content, Default::default())].into(),
            ..Default::default()
        }),
        LDS => pack(&Listener { name, stat_prefix: content, ..Default::default() }),
        _ => pack(&RouteConfiguration {
            name,
            internal_only_headers: vec![content],
            ..Default::default()
        }),
    }
}

fn content(kind: ResourceType, body: &Any) -> String {
    match kind {
        CDS => unpack::<Cluster>(body).unwrap().alt_stat_name,
        EDS => {
            let assignment = unpack::<ClusterLoadAssignment>(body).unwrap();
            assignment.named_endpoints.into_keys().next().unwrap_or_default()
        }
        LDS => unpack::<Listener>(body).unwrap().stat_prefix,
        _ => unpack::<RouteConfiguration>(body).unwrap().internal_only_headers.join(","),
    }
}

/// What is served; shared by servers that come and go.
pub(crate) struct World {
    sender: watch::Sender<Arc<NodeResources>>,
    generation: Mutex<u64>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let world = Self { sender: watch::channel(Arc::default()).0, generation: Mutex::new(0) };
        world.set(CDS, &[("a", "1"), ("b", "1")]);
        world.set(EDS, &[("a", "1"), ("b", "1")]);
        world.set(LDS, &[("l", "1")]);
        world.set(RDS, &[("r", "1"), ("unasked", "1")]);
        Arc::new(world)
    }

    pub(crate) fn set(&self, kind: ResourceType, resources: &[(&str, &str)]) {
        let mut generation = self.generation.lock();
        *generation += 1;
        let versioned = |(name, content): &(&str, &str)| {
            let body = resource(kind, name, content);
            let resource = VersionedResource { version: (*content).to_owned(), body };
            ((*name).to_owned(), Arc::new(resource))
        };
        let set = TypeResources {
            on_demand: None,
            version: generation.to_string(),
            resources: resources.iter().map(versioned).collect(),
        };
        self.sender.send_modify(|now| {
            *now = Arc::new(NodeResources::clone(now).with(kind, Arc::new(set)));
        });
    }
}

/// What the server heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) peers: Vec<Peer>,
    pub(crate) nodes: Vec<String>,
    pub(crate) subscribed: BTreeMap<ResourceType, Subscription>,
    pub(crate) acked: BTreeMap<ResourceType, Vec<String>>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) closed: usize,
}

struct Directory {
    world: Arc<World>,
    heard: Arc<watch::Sender<Heard>>,
    refuse: Option<tonic::Status>,
}

impl NodeDirectory for Directory {
    fn connect<'a>(
        &'a self,
        node: &'a Node,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<NodeSession, tonic::Status>> {
        Box::pin(async {
            if let Some(status) = &self.refuse {
                return Err(status.clone());
            }
            self.heard.send_modify(|heard| {
                heard.nodes.push(node.id.clone());
                heard.peers.push(peer.clone());
            });
            let observer = Arc::new(Observer { heard: self.heard.clone() });
            Ok(NodeSession { resources: self.world.sender.subscribe(), observer })
        })
    }
}

struct Observer {
    heard: Arc<watch::Sender<Heard>>,
}

impl SessionObserver for Observer {
    fn subscribed(&self, kind: ResourceType, subscription: &Subscription) {
        self.heard.send_modify(|heard| {
            heard.subscribed.insert(kind, subscription.clone());
        });
    }

    fn acked(&self, kind: ResourceType, version: &str) {
        self.heard.send_modify(|heard| {
            heard.acked.entry(kind).or_default().push(version.to_owned());
        });
    }

    fn rejected(&self, refusal: &Refusal) {
        self.heard.send_modify(|heard| heard.refusals.push(refusal.clone()));
    }

    fn closed(&self) {
        self.heard.send_modify(|heard| heard.closed += 1);
    }
}

/// A running server; ended by [`Server::stop`], or with the test's runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) heard: watch::Receiver<Heard>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(world: &Arc<World>) -> Self {
        Self::launch(world, None).await
    }

    pub(crate) async fn refusing(world: &Arc<World>, status: tonic::Status) -> Self {
        Self::launch(world, Some(status)).await
    }

    async fn launch(world: &Arc<World>, refuse: Option<tonic::Status>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = watch::channel(Heard::default());
        let directory = Directory { world: world.clone(), heard: Arc::new(sender), refuse };
        let stop = CancellationToken::new();
        let service = AdsService::new(Arc::new(directory), stop.clone()).into_server();
        let stopped = stop.clone().cancelled_owned();
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped);
        let task = tokio::spawn(async move { serve.await.unwrap() });
        Self { address, heard, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("the server stops").unwrap();
    }
}

/// Leads to whichever server is there at the moment.
#[derive(Default)]
pub(crate) struct Way {
    target: Mutex<Option<SocketAddr>>,
}

impl Way {
    pub(crate) fn to(server: &Server) -> Arc<Self> {
        let way = Self::default();
        way.lead(server);
        Arc::new(way)
    }

    pub(crate) fn lead(&self, server: &Server) {
        *self.target.lock() = Some(server.address);
    }
}

impl Transport for Way {
    fn connect(&self) -> BoxFuture<'_, Result<BoxedIo, TransportError>> {
        let target = *self.target.lock();
        Box::pin(async move {
            match target {
                Some(address) => TcpTransport::new(address).connect().await,
                None => Err(TransportError::Credentials("there is no server yet".into())),
            }
        })
    }

    fn authority(&self) -> http::Uri {
        http::Uri::from_static("https://control-plane.test")
    }

    fn metadata(&self) -> Result<tonic::metadata::MetadataMap, TransportError> {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert("authorization", "Bearer token".parse().unwrap());
        Ok(metadata)
    }
}

/// What the handler holds, as `name: content`, and what it was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) resources: BTreeMap<ResourceType, BTreeMap<String, String>>,
    pub(crate) updates: Vec<ResourceType>,
    pub(crate) connected: Vec<bool>,
}

impl Seen {
    pub(crate) fn has(&self, kind: ResourceType, expected: &[(&str, &str)]) -> bool {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(name, content)| ((*name).into(), (*content).into())).collect();
        self.resources.get(&kind).cloned().unwrap_or_default() == expected
    }
}

struct Handler {
    seen: watch::Sender<Seen>,
    routes: Arc<Mutex<BTreeSet<String>>>,
}

impl ResourceHandler for Handler {
    fn subscriptions(&self) -> Vec<(ResourceType, Subscription)> {
        let seen = self.seen.borrow();
        let clusters = seen.resources.get(&CDS).into_iter().flat_map(BTreeMap::keys);
        vec![
            (CDS, Subscription::Wildcard),
            (EDS, Subscription::names(clusters)),
            (LDS, Subscription::Wildcard),
            (RDS, Subscription::Names(self.routes.lock().clone())),
        ]
    }

    fn apply(&mut self, update: ResourceUpdate) -> Vec<Rejection> {
        let kind = update.resource_type;
        let mut rejected = Vec::new();
        self.seen.send_modify(|seen| {
            seen.updates.push(kind);
            let held = seen.resources.entry(kind).or_default();
            update.removed.iter().for_each(|name| drop(held.remove(name)));
            for one in update.added {
                let content = content(kind, &one.body);
                if content == "bad" {
                    rejected.push(Rejection {
                        resource_type: kind,
                        name: one.name,
                        field: "alt_stat_name".into(),
                        reason: "is bad".into(),
                    });
                } else {
                    held.insert(one.name, content);
                }
            }
        });
        rejected
    }

    fn connection_changed(&mut self, connected: bool) {
        self.seen.send_modify(|seen| seen.connected.push(connected));
    }
}

/// A running client.
pub(crate) struct Client {
    pub(crate) handle: ClientHandle,
    pub(crate) seen: watch::Receiver<Seen>,
    pub(crate) routes: Arc<Mutex<BTreeSet<String>>>,
}

pub(crate) fn config(variant: Variant) -> ClientConfig {
    let node = Node { id: "node".into(), ..Default::default() };
    let (initial, max) = (Duration::from_millis(5), Duration::from_millis(50));
    let backoff = Backoff { initial, max };
    ClientConfig { backoff, cache_delay: Duration::ZERO, ..ClientConfig::new(node, variant) }
}

impl Client {
    pub(crate) fn start(config: ClientConfig, way: &Arc<Way>) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let routes = Arc::new(Mutex::new(BTreeSet::from(["r".to_owned()])));
        let handler = Handler { seen: sender, routes: routes.clone() };
        let handle = spawn(config, way.clone(), Box::new(handler));
        Self { handle, seen, routes }
    }

    pub(crate) async fn holds(&mut self, kind: ResourceType, expected: &[(&str, &str)]) {
        let what = format!("{kind} {expected:?}");
        until(&mut self.seen, &what, |seen| seen.has(kind, expected)).await;
    }

    /// Waits for everything that a new [`World`] serves.
    pub(crate) async fn holds_the_first_world(&mut self) {
        self.holds(CDS, &[("a", "1"), ("b", "1")]).await;
        self.holds(EDS, &[("a", "1"), ("b", "1")]).await;
        self.holds(LDS, &[("l", "1")]).await;
        self.holds(RDS, &[("r", "1")]).await;
    }
}

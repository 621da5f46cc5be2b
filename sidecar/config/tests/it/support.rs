//! An engine to try things on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_config::{BootstrapConfig, BootstrapError, Engine};
use weft_model::{Snapshot, SnapshotPublisher, SnapshotWatch};
use weft_telemetry::Registry;
use weft_xds_client::{Rejection, Resource, ResourceType, ResourceUpdate, Subscription};
use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use weft_xds_proto::pb::envoy::config::listener::v3::Listener;
use weft_xds_proto::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use weft_xds_proto::{Any, Message, Name, from_yaml, pack};

/// A bootstrap that takes everything from a control plane.
pub(crate) const DYNAMIC: &str = "
node: { id: test, cluster: test }
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    grpc_services: [{ envoy_grpc: { cluster_name: xds-grpc } }]
  cds_config: { ads: {} }
  lds_config: { ads: {} }
static_resources:
  clusters:
  - name: xds-grpc
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: /run/xds } } } }] }]
";

/// An engine, its snapshots and a clock that stands still unless moved.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) watch: SnapshotWatch,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn try_new(yaml: &str) -> Result<Self, BootstrapError> {
        let bootstrap = BootstrapConfig::parse(Path::new("test.yaml"), yaml)?;
        let publisher = SnapshotPublisher::new();
        let watch = publisher.watch();
        let now = Instant::now();
        let engine = Engine::new(bootstrap, Registry::new(), publisher, now)?;
        Ok(Self { engine, watch, now })
    }

    pub(crate) fn new(yaml: &str) -> Self {
        Self::try_new(yaml).unwrap_or_else(|error| panic!("{error}"))
    }

    /// An engine that has its clusters from a control plane, so that listeners need not wait.
    pub(crate) fn dynamic() -> Self {
        let mut bench = Self::new(DYNAMIC);
        assert!(bench.send(ResourceType::Cluster, &[]).is_empty());
        bench
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.watch.borrow())
    }

    /// Sends resources given as YAML.
    pub(crate) fn send(&mut self, kind: ResourceType, yaml: &[&str]) -> Vec<Rejection> {
        let bodies = yaml.iter().map(|yaml| body(kind, yaml)).collect();
        self.send_bodies(kind, bodies, &[])
    }

    /// Sends one resource under a name that it does not say itself.
    pub(crate) fn send_named(
        &mut self,
        kind: ResourceType,
        name: &str,
        yaml: &str,
    ) -> Vec<Rejection> {
        let (_, body) = body(kind, yaml);
        self.send_bodies(kind, vec![(name.to_owned(), body)], &[])
    }

    /// Sends resources that have to be accepted.
    pub(crate) fn accept(&mut self, kind: ResourceType, yaml: &[&str]) {
        let rejections = self.send(kind, yaml);
        assert!(rejections.is_empty(), "{rejections:#?}");
    }

    pub(crate) fn remove(&mut self, kind: ResourceType, names: &[&str]) {
        assert!(self.send_bodies(kind, Vec::new(), names).is_empty());
    }

    pub(crate) fn send_bodies(
        &mut self,
        kind: ResourceType,
        bodies: Vec<(String, Any)>,
        removed: &[&str],
    ) -> Vec<Rejection> {
        let update = ResourceUpdate {
            resource_type: kind,
            version: "1".to_owned(),
            added: bodies
                .into_iter()
                .map(|(name, body)| Resource { name, version: String::new(), body: Arc::new(body) })
                .collect(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
            full: false,
        };
        self.engine.apply(update, self.now)
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.engine.tick(self.now);
    }

    /// The names that are wanted of a type.
    pub(crate) fn wanted(&self, kind: ResourceType) -> Vec<String> {
        let wanted = self.engine.subscriptions().into_iter().find(|(one, _)| *one == kind);
        match wanted {
            Some((_, Subscription::Names(names))) => names.into_iter().collect(),
            Some((_, Subscription::Wildcard)) => vec!["*".to_owned()],
            Some((_, Subscription::WildcardAnd(names))) => {
                std::iter::once("*".to_owned()).chain(names).collect()
            }
            None => Vec::new(),
        }
    }
}

fn named<M: Message + Name + Default>(yaml: &str, name: fn(&M) -> &String) -> (String, Any) {
    let message: M = from_yaml(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    (name(&message).clone(), pack(&message))
}

/// A resource's name and message.
pub(crate) fn body(kind: ResourceType, yaml: &str) -> (String, Any) {
    match kind {
        ResourceType::Cluster => named::<Cluster>(yaml, |m| &m.name),
        ResourceType::Endpoint => named::<ClusterLoadAssignment>(yaml, |m| &m.cluster_name),
        ResourceType::Listener => named::<Listener>(yaml, |m| &m.name),
        ResourceType::Route => named::<RouteConfiguration>(yaml, |m| &m.name),
        ResourceType::VirtualHost => named::<VirtualHost>(yaml, |m| &m.name),
        ResourceType::Secret => named::<Secret>(yaml, |m| &m.name),
        ResourceType::ExtensionConfig => named::<TypedExtensionConfig>(yaml, |m| &m.name),
        other => panic!("no {other}"),
    }
}

//! All resources, static and discovered, and what they come to.
//!
//! A resource that can't be compiled is refused by name and changes nothing: what served before
//! goes on serving. One that compiles but has to wait for others (routes, endpoints, secrets) is
//! kept warming beside the version that serves.

mod certificates;
mod clusters;
mod demand;
mod dump;
mod endpoints;
mod entry;
mod extensions;
mod files;
mod hosts;
mod listeners;
mod names;
mod routes;
mod secrets;
mod shared;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use weft_filters::config::FieldError;
use weft_model::{ClusterHandles, HandOff, Snapshot, SnapshotPublisher};
use weft_telemetry::Registry;
use weft_xds_client::{Rejection, Resource, ResourceType, ResourceUpdate, Subscription};

use crate::bootstrap::{BootstrapConfig, BootstrapError};
use crate::compile::{Cx, Names, Needs, SecretSources};

use clusters::{Checking, LoadedCluster};
use demand::Demands;
use endpoints::Assignment;
use entry::{Entry, Origin};
use extensions::ActiveExtension;
use files::Files;
use listeners::LoadedListener;
use names::Names as DnsNames;
use routes::Table;
use secrets::Secrets;

pub use certificates::ShownCertificates;
pub use secrets::{AgentCertificates, SecretServer};
pub use shared::{SecretReceiver, SharedEngine};

/// How long the listeners of a control plane wait for its clusters at the start.
const SETTLE: Duration = Duration::from_secs(15);

/// Holds, compiles and publishes resources.
pub struct Engine {
    bootstrap: BootstrapConfig,
    registry: Registry,
    publisher: SnapshotPublisher,
    names: Names,
    sources: SecretSources,
    clusters: HashMap<Arc<str>, Entry<LoadedCluster>>,
    /// Those that serve; shared with the snapshot.
    handles: ClusterHandles,
    listeners: HashMap<Arc<str>, Entry<LoadedListener>>,
    tables: HashMap<Arc<str>, Table>,
    extensions: HashMap<Arc<str>, ActiveExtension>,
    assignments: HashMap<Arc<str>, Assignment>,
    /// Clusters by the name of their assignment.
    eds_users: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    secrets: Secrets,
    files: Files,
    demands: Demands,
    dns_names: DnsNames,
    warming_clusters: BTreeSet<Arc<str>>,
    /// New clusters whose hosts are checked for the first time.
    checking: HashMap<Arc<str>, Checking>,
    warming_listeners: BTreeSet<Arc<str>>,
    accepted: Accepted,
    versions: HashMap<ResourceType, String>,
    received: u64,
    started: Instant,
    /// Whether what is served differs from what was published.
    changed: bool,
    /// Whether something else may be wanted than what was asked for.
    wants_changed: bool,
}

/// What the control plane has told so far.
#[derive(Clone, Copy, Debug, Default)]
struct Accepted {
    clusters: bool,
    listeners: bool,
    /// The first clusters have become warm, or were waited for long enough.
    settled: bool,
    connected: bool,
}

/// Whether the proxy can serve, and what it still waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Everything that was asked for at the start is there.
    pub ready: bool,
    /// What is missing, in words.
    pub waiting_for: Vec<String>,
}

impl Engine {
    /// An engine with the bootstrap's static resources; what is warm among them is published.
    ///
    /// # Errors
    /// A static resource can't be compiled.
    pub fn new(
        bootstrap: BootstrapConfig,
        registry: Registry,
        publisher: SnapshotPublisher,
        now: Instant,
    ) -> Result<Self, BootstrapError> {
        let sources = SecretSources {
            agent: bootstrap.agent.is_some(),
            ads_cluster: bootstrap.ads.as_ref().map(|ads| ads.cluster.clone()),
            static_clusters: bootstrap.static_clusters().map(str::to_owned).collect(),
            fixed: HashMap::new(),
        };
        let mut engine = Self {
            registry,
            publisher,
            names: Names::default(),
            sources,
            clusters: HashMap::new(),
            handles: ClusterHandles::default(),
            listeners: HashMap::new(),
            tables: HashMap::new(),
            extensions: HashMap::new(),
            assignments: HashMap::new(),
            eds_users: HashMap::new(),
            secrets: Secrets::default(),
            files: Files::new(&bootstrap),
            demands: Demands::new(bootstrap.on_demand_idle, now),
            dns_names: DnsNames::of(&bootstrap.node),
            warming_clusters: BTreeSet::new(),
            checking: HashMap::new(),
            warming_listeners: BTreeSet::new(),
            accepted: Accepted { settled: !bootstrap.discover_clusters, ..Accepted::default() },
            versions: HashMap::new(),
            received: 0,
            started: now,
            changed: true,
            wants_changed: true,
            bootstrap,
        };
        engine.load_static(now)?;
        engine.load_files(now)?;
        engine.publish();
        Ok(engine)
    }

    fn load_static(&mut self, now: Instant) -> Result<(), BootstrapError> {
        for resource in self.bootstrap.resources.clone() {
            let body = Resource {
                name: resource.name.clone(),
                version: String::new(),
                body: resource.body,
            };
            let loaded = match resource.resource_type {
                ResourceType::Secret => self.fixed_secret(&body),
                ResourceType::Cluster => self.add_cluster(&body, "", Origin::Static, now),
                _ => self.add_listener(&body, "", Origin::Static, now),
            };
            let file = self.bootstrap.file.clone();
            loaded.map_err(|e| BootstrapError::new(&file, e.within(&resource.path)))?;
        }
        if let Some(loads) = &self.bootstrap.load_stats
            && !self.clusters.contains_key(loads.cluster.as_str())
        {
            let reason = format!("{:?} is not one of static_resources.clusters", loads.cluster);
            let field =
                "cluster_manager.load_stats_config.grpc_services[0].envoy_grpc.cluster_name";
            return Err(BootstrapError::new(&self.bootstrap.file, FieldError::at(field, reason)));
        }
        match &self.bootstrap.ads {
            Some(ads) if !self.clusters.contains_key(ads.cluster.as_str()) => {
                let reason = format!("{:?} is not one of static_resources.clusters", ads.cluster);
                let field = "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name";
                Err(BootstrapError::new(&self.bootstrap.file, FieldError::at(field, reason)))
            }
            _ => Ok(()),
        }
    }

    /// The bootstrap that the engine was made with.
    #[must_use]
    pub fn bootstrap(&self) -> &BootstrapConfig {
        &self.bootstrap
    }

    /// What is wanted from the control plane, by type.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(ResourceType, Subscription)> {
        let mut wanted = Vec::new();
        let clusters = self.demands.cluster_names();
        match (self.bootstrap.discover_clusters, clusters.is_empty()) {
            (true, true) => wanted.push((ResourceType::Cluster, Subscription::Wildcard)),
            (true, false) => {
                wanted.push((ResourceType::Cluster, Subscription::WildcardAnd(clusters)));
            }
            (false, _) => wanted.push((ResourceType::Cluster, Subscription::Names(clusters))),
        }
        let endpoints = self.eds_users.keys().map(|name| name.to_string());
        wanted.push((ResourceType::Endpoint, Subscription::Names(endpoints.collect())));
        if self.bootstrap.discover_listeners {
            wanted.push((ResourceType::Listener, Subscription::Wildcard));
        }
        let tables = self.tables.keys().map(|name| name.to_string());
        wanted.push((ResourceType::Route, Subscription::Names(tables.collect())));
        let hosts = Subscription::Names(self.demands.host_names());
        wanted.push((ResourceType::VirtualHost, hosts));
        wanted.push((ResourceType::Secret, Subscription::Names(self.secrets.names())));
        if self.dns_names.wanted {
            wanted.push((ResourceType::NameTable, Subscription::Wildcard));
        }
        let filters = Subscription::Names(self.extension_names());
        wanted.push((ResourceType::ExtensionConfig, filters));
        wanted
    }

    /// Applies what the control plane sent; returns what can't be accepted.
    pub fn apply(&mut self, update: ResourceUpdate, now: Instant) -> Vec<Rejection> {
        let kind = update.resource_type;
        self.received += update.added.len() as u64;
        let mut rejections = Vec::new();
        for resource in &update.added {
            let version = if resource.version.is_empty() {
                update.version.as_str()
            } else {
                resource.version.as_str()
            };
            let outcome = match kind {
                ResourceType::Cluster => self.add_cluster(resource, version, Origin::Dynamic, now),
                ResourceType::Endpoint => self.add_assignment(resource, version, now),
                ResourceType::Listener => {
                    self.add_listener(resource, version, Origin::Dynamic, now)
                }
                ResourceType::Route => self.add_table(resource, version),
                ResourceType::VirtualHost => self.add_host(resource, version),
                ResourceType::Secret => self.add_secret(resource, version),
                ResourceType::NameTable => self.add_names(resource),
                ResourceType::ExtensionConfig => self.add_extension(resource, version),
                _ => Err(FieldError::new("resources of this type are not supported")),
            };
            if let Err(error) = outcome {
                self.demand_refused(kind, &resource.name);
                rejections.push(rejection(kind, &resource.name, error));
            }
        }
        for name in &update.removed {
            match kind {
                ResourceType::Cluster => {
                    self.remove_cluster(name);
                    self.demands.no_cluster(name);
                }
                ResourceType::VirtualHost => self.no_host(name),
                ResourceType::Listener => self.remove_listener(name),
                ResourceType::NameTable => self.remove_names(name),
                ResourceType::ExtensionConfig => self.no_extension(name),
                // As Envoy: routes, endpoints and secrets stay as long as somebody uses them.
                _ => {}
            }
        }
        // An update of which nothing could be accepted is no answer.
        let some = update.added.is_empty() || rejections.len() < update.added.len();
        match kind {
            ResourceType::Cluster => self.accepted.clusters |= some,
            ResourceType::Listener => self.accepted.listeners |= some,
            ResourceType::NameTable => self.publish_names(),
            _ => {}
        }
        let of_demand = matches!(kind, ResourceType::VirtualHost | ResourceType::Route);
        self.wants_changed |= of_demand || !update.removed.is_empty() || !rejections.is_empty();
        self.versions.insert(kind, update.version);
        // Endpoints have put those that waited for them into service already.
        if kind != ResourceType::Endpoint {
            self.warm_clusters(now);
        }
        self.settle(now);
        self.answer_demands();
        rejections
    }

    /// Tells the engine what time it is: what has waited for too long goes on without.
    pub fn tick(&mut self, now: Instant) {
        self.advance(now);
        self.sweep_demands(now);
        self.answer_demands();
    }

    /// When [`Self::tick`] has something to do at the earliest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let clusters = self.warming_clusters.iter().filter_map(|name| self.clusters.get(name));
        let listeners = self.warming_listeners.iter().filter_map(|name| self.listeners.get(name));
        let deadlines = clusters
            .filter_map(|entry| self.cluster_deadline(entry))
            .chain(listeners.filter_map(|entry| self.listener_deadline(entry)));
        let settle = (!self.accepted.settled).then(|| self.started + SETTLE);
        deadlines.chain(settle).chain(self.demands.next_sweep()).min()
    }

    /// Whether everything asked for at the start is there.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut waiting_for = Vec::new();
        if self.bootstrap.discover_clusters && !self.accepted.clusters {
            waiting_for.push("the clusters of the control plane (CDS)".to_owned());
        }
        if self.bootstrap.discover_listeners && !self.accepted.listeners {
            waiting_for.push("the listeners of the control plane (LDS)".to_owned());
        }
        let never_served = |name: &&Arc<str>| {
            self.listeners.get(*name).is_some_and(|entry| entry.active.is_none())
        };
        let listeners = self.warming_listeners.iter().filter(never_served);
        waiting_for.extend(listeners.map(|name| format!("the listener {name:?} to become warm")));
        Readiness { ready: waiting_for.is_empty(), waiting_for }
    }

    /// Whether something else may be wanted than at the last [`Self::subscriptions`]; tells it
    /// once.
    pub fn take_wants_changed(&mut self) -> bool {
        std::mem::take(&mut self.wants_changed)
    }

    /// Resources that the control plane has sent so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the stream to the control plane is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.accepted.connected
    }

    /// Notes that the stream was opened or lost.
    pub fn set_connected(&mut self, connected: bool) {
        self.accepted.connected = connected;
    }

    /// Moves on what is warm, and publishes if anything changed.
    fn advance(&mut self, now: Instant) {
        self.warm_clusters(now);
        self.settle(now);
    }

    /// Lets listeners follow what has become of the clusters, and publishes if anything changed.
    fn settle(&mut self, now: Instant) {
        if !self.accepted.settled {
            let there = self.accepted.clusters && self.warming_clusters.is_empty();
            self.accepted.settled = there || now >= self.started + SETTLE;
        }
        self.warm_listeners(now);
        self.publish();
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let active = self.listeners.iter().filter_map(|(name, entry)| {
            let version = entry.active.as_ref()?;
            Some((Arc::clone(name), Arc::clone(&version.value.listener)))
        });
        let listeners: HashMap<_, _> = active.collect();
        self.publisher.publish(Snapshot {
            version: 0,
            hand_off: HandOff::new(listeners.values()),
            listeners,
            clusters: self.handles.clone(),
            warming: self.checking.values().map(|checking| Arc::clone(&checking.handle)).collect(),
        });
    }
}

/// What a compilation borrows from the engine.
macro_rules! compiler {
    ($engine:expr) => {
        Cx {
            names: &mut $engine.names,
            registry: &$engine.registry,
            node: &$engine.bootstrap.node,
            local_cluster: $engine.bootstrap.local_cluster.as_deref(),
            secrets: &$engine.sources,
            demand: $engine.demands.shared(),
            direction: weft_model::TrafficDirection::default(),
            needs: Needs::default(),
        }
    };
}
use compiler;

fn rejection(resource_type: ResourceType, name: &str, error: FieldError) -> Rejection {
    Rejection { resource_type, name: name.to_owned(), field: error.field, reason: error.reason }
}

/// The time for people.
fn stamp() -> SystemTime {
    SystemTime::now()
}

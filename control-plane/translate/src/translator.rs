//! The translation as a whole, and what is kept of it from one change to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use weft_control_model::{
    Collection, DiscoverError, Endpoints, MeshConfig, PeerAuthentication, Resources,
    Targets as NodesOrRegistry, Upstream,
};
use weft_xds_ads::{NodeResources, TypeResources, VersionedResource};
use weft_xds_proto::ResourceType;
use weft_xds_proto::pb::envoy::config::cluster::v3::{Cluster, cluster::DiscoveryType};

use crate::authorization::Guards;
use crate::chain;
use crate::cluster::{self, as_downstream, original_destination, set_http_options};
use crate::edge;
use crate::inbound;
use crate::layer::{LayerBuilder, ResourceMap, joined, replace, versioned};
use crate::lean::{Lean, Source};
use crate::names::Names;
use crate::node::{Families, Inbound, InboundKinds, NodeProfile};
use crate::outbound::Outbound;
use crate::problem::{Problem, Unsupported};
use crate::route_tables::{self, BLACK_HOLE, PASSTHROUGH};
use crate::served::{TcpService, tcp_services};
use crate::settings::{Inputs, Settings, VirtualAddresses};
use crate::targets::{Target, Targets};
use crate::virtual_hosts::VirtualHosts;

/// Turns resources into what nodes are sent.
///
/// The result depends on the inputs alone; what is remembered only saves work, and keeps the
/// pointers of what did not change, so that a server sees at a glance what is to be pushed.
pub struct Translator {
    settings: Settings,
    seen: Option<Seen>,
    configured: Configured,
    built: BTreeMap<String, Built>,
    mesh: Upstreams,
    edge: Upstreams,
    mesh_routes: Arc<TypeResources>,
    /// The generation of `mesh_routes`, which are made when somebody is sent them.
    mesh_routes_of: u64,
    edge_routes: Arc<TypeResources>,
    secrets: Arc<TypeResources>,
    edge_listeners: HashMap<EdgeKind, Arc<TypeResources>>,
    /// By inbound side, and whether services are fetched on demand.
    sidecars: HashMap<(Inbound, bool), SidecarSet>,
    /// The shared clusters with those of a workload's own ports, beside the shared ones alone.
    sidecar_clusters: HashMap<InboundKinds, (Arc<TypeResources>, Arc<TypeResources>)>,
    lean: Lean,
    names: Names,
    problems: Vec<Problem>,
}

/// The upstreams that the routes of a place lead to.
#[derive(Default)]
struct Upstreams {
    names: BTreeSet<String>,
    clusters: Arc<TypeResources>,
    endpoints: Arc<TypeResources>,
}

/// The inputs at the last update.
struct Seen {
    revision: u64,
    resources: Resources,
    addresses: VirtualAddresses,
}

/// The families of an edge's addresses, and whether it is sent private keys.
type EdgeKind = (Families, bool);

/// What follows from the configuration alone.
#[derive(Default)]
struct Configured {
    targets: Targets,
    tcp_services: Vec<TcpService>,
    http_ports: Vec<u16>,
    hosts: Arc<VirtualHosts>,
    clusters_of: BTreeMap<String, BTreeSet<String>>,
    problems: Vec<Problem>,
    /// Counts the changes of what stands above.
    generation: u64,
}

/// The ids and revisions of the policies.
type Policies = Arc<[(String, u64)]>;

/// A translated upstream with what it was made of.
struct Built {
    upstream: Arc<Upstream>,
    endpoints: Endpoints,
    mesh: Arc<MeshConfig>,
    policies: Policies,
    cluster: Arc<VersionedResource>,
    assignment: Option<Arc<VersionedResource>>,
    problems: Vec<Problem>,
}

/// The listeners of sidecars of the same inbound side.
struct SidecarSet {
    generation: u64,
    listeners: Arc<TypeResources>,
}

impl Translator {
    /// A translator that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            seen: None,
            configured: Configured::default(),
            built: BTreeMap::new(),
            mesh: Upstreams::default(),
            edge: Upstreams::default(),
            mesh_routes: Arc::default(),
            mesh_routes_of: 0,
            edge_routes: Arc::default(),
            secrets: Arc::default(),
            edge_listeners: HashMap::new(),
            sidecars: HashMap::new(),
            sidecar_clusters: HashMap::new(),
            lean: Lean::default(),
            names: Names::default(),
            problems: Vec::new(),
        }
    }

    /// Brings the translation up to the inputs. Work is done for what changed.
    pub fn update(&mut self, inputs: Inputs<'_>) {
        let unchanged = self.seen.as_ref().is_some_and(|seen| {
            seen.revision == inputs.resources.revision && seen.addresses == *inputs.addresses
        });
        if !unchanged {
            self.configure(inputs);
            self.seen = Some(Seen {
                revision: inputs.resources.revision,
                resources: inputs.resources.clone(),
                addresses: inputs.addresses.clone(),
            });
        }
        self.build_clusters(inputs);
        let of_clusters = self.built.values().flat_map(|built| &built.problems);
        self.problems = self.configured.problems.iter().chain(of_clusters).cloned().collect();
        self.problems.sort();
        self.problems.dedup();
    }

    /// What of the configuration isn't served, or not as written.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many endpoints stand behind a host of the mesh.
    pub fn endpoints_behind(&self, host: &str) -> usize {
        let clusters = self.configured.clusters_of.get(host).into_iter().flatten();
        let built = clusters.filter_map(|name| self.built.get(name));
        built.map(|built| built.endpoints.len()).sum()
    }

    /// What a node is sent.
    pub fn node(&mut self, profile: &NodeProfile) -> NodeResources {
        let sent = self.for_traffic(profile);
        let Some(seen) = self.seen.as_ref().filter(|_| profile.answers_dns()) else { return sent };
        let (generation, ports) = (self.configured.generation, &self.settings.service_ports);
        let table = self.names.table(generation, &seen.resources, &seen.addresses, ports);
        sent.with(ResourceType::NameTable, table)
    }

    fn for_traffic(&mut self, profile: &NodeProfile) -> NodeResources {
        let empty = NodeResources::default();
        let Some(seen) = &self.seen else { return empty };
        if profile.is_edge() {
            let listeners = self.edge_listeners((profile.families(), profile.is_trusted()));
            let secrets =
                if profile.is_trusted() { Arc::clone(&self.secrets) } else { Arc::default() };
            return empty
                .with(ResourceType::Endpoint, Arc::clone(&self.edge.endpoints))
                .with(ResourceType::Cluster, Arc::clone(&self.edge.clusters))
                .with(ResourceType::Listener, listeners)
                .with(ResourceType::Route, Arc::clone(&self.edge_routes))
                .with(ResourceType::Secret, secrets);
        }
        let inbound = profile.inbound(&seen.resources);
        let sent = empty.with(ResourceType::Endpoint, Arc::clone(&self.mesh.endpoints));
        let Some(hosts) = profile.on_demand() else {
            return sent
                .with(ResourceType::Cluster, self.clusters_with(&inbound))
                .with(ResourceType::Listener, self.sidecar(inbound, false))
                .with(ResourceType::Route, self.whole_tables());
        };
        let revision = seen.resources.revision;
        let Configured { hosts: mesh, clusters_of, generation, .. } = &self.configured;
        let source = Source {
            mesh,
            clusters_of,
            upstreams: &self.mesh.clusters,
            revision,
            generation: *generation,
        };
        sent.with(ResourceType::Cluster, self.lean.clusters(&inbound, hosts, &source))
            .with(ResourceType::Route, self.lean.tables(hosts, &source))
            .with(ResourceType::VirtualHost, self.lean.hosts(&source))
            .with(ResourceType::Listener, self.sidecar(inbound, true))
    }

    /// The mesh's tables with all hosts.
    fn whole_tables(&mut self) -> Arc<TypeResources> {
        if self.mesh_routes_of != self.configured.generation {
            self.mesh_routes_of = self.configured.generation;
            add_tables(&mut self.mesh_routes, &self.configured.hosts.whole_tables());
        }
        Arc::clone(&self.mesh_routes)
    }

    /// Routes, secrets, and which clusters there are to be.
    fn configure(&mut self, inputs: Inputs<'_>) {
        let mut problems = Vec::new();
        let settings = &self.settings;
        let mesh = route_tables::mesh_routes(inputs, settings, &mut problems);
        let mut clusters_of = mesh.clusters;
        let mut targets = mesh.targets;
        let policy = inputs.resources.mesh.outbound_traffic_policy;
        let hosts = VirtualHosts::new(mesh.by_port, inputs.addresses.clone(), policy);
        let http_ports = hosts.ports().collect();
        let hosts = Arc::new(hosts);
        let (mut edge_tables, mut edge_names) = (Vec::new(), BTreeSet::new());
        let mut mesh_names: BTreeSet<_> = targets.keys().cloned().collect();
        for over_tls in [false, true] {
            let edge = route_tables::edge(inputs, settings, over_tls, &mut problems);
            edge_names.extend(edge.targets.keys().cloned());
            targets.extend(edge.targets);
            edge_tables.extend(edge.tables);
        }
        add_tables(&mut self.edge_routes, &edge_tables);
        let tcp_services = tcp_services(inputs.resources, &mut problems);
        for service in &tcp_services {
            let Target { cluster, .. } = &service.target;
            clusters_of.entry(service.host.clone()).or_default().insert(cluster.clone());
            mesh_names.insert(cluster.clone());
            targets.insert(cluster.clone(), service.target.clone());
        }
        (self.mesh.names, self.edge.names) = (mesh_names, edge_names);
        let mut secrets = LayerBuilder::over(&self.secrets);
        for secret in edge::secrets(inputs.resources, &targets) {
            secrets.add(&secret.name, &secret);
        }
        let secrets = secrets.finish();
        replace(&mut self.secrets, secrets);
        problems.extend(chain::problems(inputs.resources));
        // Only the problems of certificates are wanted of it here.
        let families = Families { v4: true, v6: false };
        edge::https_listener(families, settings, inputs.resources, &mut problems);
        let generation = self.configured.generation + 1;
        self.configured = Configured {
            targets,
            tcp_services,
            http_ports,
            hosts,
            clusters_of,
            problems,
            generation,
        };
        let known: Vec<_> = self.edge_listeners.keys().copied().collect();
        for kind in known {
            self.build_edge_listeners(kind, inputs.resources);
        }
    }

    fn build_clusters(&mut self, inputs: Inputs<'_>) {
        let policies = fingerprint(&inputs.resources.peer_authentications);
        let mut built = BTreeMap::new();
        for (name, target) in &self.configured.targets {
            let known = self.built.remove(name);
            let one = build(target, inputs, &policies, known);
            built.insert(name.clone(), one);
        }
        self.mesh.choose(&built);
        self.edge.choose(&built);
        self.built = built;
    }

    fn edge_listeners(&mut self, kind: EdgeKind) -> Arc<TypeResources> {
        if let Some(known) = self.edge_listeners.get(&kind) {
            return Arc::clone(known);
        }
        let resources = self.seen.as_ref().map(|seen| seen.resources.clone()).unwrap_or_default();
        self.build_edge_listeners(kind, &resources)
    }

    fn build_edge_listeners(
        &mut self,
        (families, trusted): EdgeKind,
        resources: &Resources,
    ) -> Arc<TypeResources> {
        let layer = self.edge_listeners.entry((families, trusted)).or_default();
        let mut builder = LayerBuilder::over(layer);
        // Without keys it could never serve, and an edge that waits for it would serve nothing.
        let https = trusted
            .then(|| edge::https_listener(families, &self.settings, resources, &mut Vec::new()))
            .flatten();
        let listeners = https.into_iter().chain([edge::http_listener(families, &self.settings)]);
        for listener in listeners {
            builder.add(&listener.name, &listener);
        }
        let resources = builder.finish();
        replace(layer, resources);
        Arc::clone(layer)
    }

    /// The listeners of a sidecar.
    fn sidecar(&mut self, inbound: Inbound, on_demand: bool) -> Arc<TypeResources> {
        let generation = self.configured.generation;
        let key = (inbound, on_demand);
        let known = self.sidecars.get(&key);
        if let Some(set) = known.filter(|set| set.generation == generation) {
            return Arc::clone(&set.listeners);
        }
        let mut listeners = known.map(|set| Arc::clone(&set.listeners)).unwrap_or_default();
        let mut builder = LayerBuilder::over(&listeners);
        for listener in self.sidecar_listeners(&key.0, on_demand) {
            builder.add(&listener.name, &listener);
        }
        let resources = builder.finish();
        replace(&mut listeners, resources);
        let set = SidecarSet { generation, listeners: Arc::clone(&listeners) };
        self.sidecars.insert(key, set);
        // Sets of an older generation belong to nodes that are gone or will ask again.
        if self.sidecars.len() > MOST_SIDECAR_SETS {
            self.sidecars.retain(|_, set| set.generation == generation);
        }
        listeners
    }

    /// The clusters of a sidecar.
    fn clusters_with(&mut self, inbound: &Inbound) -> Arc<TypeResources> {
        let kinds = inbound.kinds();
        let known = self.sidecar_clusters.get(&kinds);
        if let Some((shared, all)) = known
            && Arc::ptr_eq(shared, &self.mesh.clusters)
        {
            return Arc::clone(all);
        }
        let empty = TypeResources::default();
        let mut own = LayerBuilder::over(known.map_or(&empty, |(_, all)| all));
        for cluster in inbound::clusters(inbound) {
            own.add(&cluster.name, &cluster);
        }
        let all = joined(&self.mesh.clusters, own.finish());
        if self.sidecar_clusters.len() > MOST_SIDECAR_SETS {
            let current = &self.mesh.clusters;
            self.sidecar_clusters.retain(|_, (shared, _)| Arc::ptr_eq(shared, current));
        }
        self.sidecar_clusters.insert(kinds, (Arc::clone(&self.mesh.clusters), Arc::clone(&all)));
        all
    }

    fn sidecar_listeners(
        &self,
        inbound: &Inbound,
        on_demand: bool,
    ) -> Vec<weft_xds_proto::pb::envoy::config::listener::v3::Listener> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let mesh = &seen.resources.mesh;
        let access_log = self.settings.access_log.as_deref();
        let outbound = Outbound {
            families: inbound.families,
            on_demand,
            policy: mesh.outbound_traffic_policy,
            http_ports: &self.configured.http_ports,
            tcp_services: &self.configured.tcp_services,
            addresses: &seen.addresses,
            access_log,
        };
        let mut listeners = outbound.listeners();
        let policies = &seen.resources.authorization_policies;
        let guards = Guards::of(inbound.authorization.iter().filter_map(|id| policies.get(id)));
        listeners.push(inbound::listener(inbound, &mesh.trust_domain, access_log, &guards));
        listeners
    }
}

impl Upstreams {
    /// Takes those of this place out of all, with the clusters that every node has.
    fn choose(&mut self, built: &BTreeMap<String, Built>) {
        let (mut clusters, mut endpoints) = (ResourceMap::new(), ResourceMap::new());
        for name in &self.names {
            let Some(one) = built.get(name) else { continue };
            clusters.insert(name.clone(), Arc::clone(&one.cluster));
            endpoints.extend(one.assignment.iter().map(|body| (name.clone(), Arc::clone(body))));
        }
        for cluster in standing_clusters() {
            let known = self.clusters.resources.get(&cluster.name);
            clusters.insert(cluster.name.clone(), versioned(&cluster, known));
        }
        replace(&mut self.clusters, clusters);
        replace(&mut self.endpoints, endpoints);
    }
}

/// Above this number of different inbound sides, those of older generations are forgotten.
pub(crate) const MOST_SIDECAR_SETS: usize = 1024;

fn add_tables(
    layer: &mut Arc<TypeResources>,
    tables: &[weft_xds_proto::pb::envoy::config::route::v3::RouteConfiguration],
) {
    let mut builder = LayerBuilder::over(layer);
    for table in tables {
        builder.add(&table.name, table);
    }
    let resources = builder.finish();
    replace(layer, resources);
}

/// Clusters that every node has.
pub(crate) fn standing_clusters() -> [Cluster; 2] {
    let mut passthrough = original_destination(PASSTHROUGH);
    set_http_options(&mut passthrough, &as_downstream());
    let mut black_hole = original_destination(BLACK_HOLE);
    black_hole.cluster_discovery_type = Some(cluster::discovery(DiscoveryType::Static));
    black_hole.lb_policy = 0;
    [passthrough, black_hole]
}

/// Changes when any policy does.
fn fingerprint(policies: &Collection<PeerAuthentication>) -> Policies {
    policies.iter().map(|item| (item.id.to_string(), item.modified)).collect()
}

fn build(target: &Target, inputs: Inputs<'_>, policies: &Policies, known: Option<Built>) -> Built {
    let mut problems = Vec::new();
    let endpoints = endpoints(target, inputs).unwrap_or_else(|error| {
        let field = error.to_string();
        let (field, reason) = field.split_once(": ").unwrap_or(("upstream", field.as_str()));
        problems.push(Unsupported::new(field, reason).of(&target.owner));
        no_endpoints()
    });
    let mesh = &inputs.resources.mesh;
    let reusable = known.as_ref().is_some_and(|known| {
        (Arc::ptr_eq(&known.upstream, &target.upstream) || known.upstream == target.upstream)
            && Arc::ptr_eq(&known.endpoints, &endpoints)
            && Arc::ptr_eq(&known.mesh, mesh)
            && known.policies == *policies
    });
    let known = match known {
        Some(known) if reusable => return known,
        known => known,
    };
    let translated = cluster::translate(target, &endpoints, inputs.resources);
    let ignored = translated.ignored.into_iter();
    problems.extend(ignored.map(|error| Problem { served: true, ..error.of(&target.owner) }));
    let (known_cluster, known_assignment) = match &known {
        Some(known) => (Some(&known.cluster), known.assignment.as_ref()),
        None => (None, None),
    };
    Built {
        upstream: Arc::clone(&target.upstream),
        endpoints,
        mesh: Arc::clone(mesh),
        policies: Arc::clone(policies),
        cluster: versioned(&translated.cluster, known_cluster),
        assignment: translated.assignment.map(|body| versioned(&body, known_assignment)),
        problems,
    }
}

/// What a registry knows of an upstream; nothing for one whose nodes are written down.
fn endpoints(target: &Target, inputs: Inputs<'_>) -> Result<Endpoints, DiscoverError> {
    match &target.upstream.targets {
        NodesOrRegistry::Nodes(_) => Ok(no_endpoints()),
        NodesOrRegistry::Discovery(service) if service.registry == "dns" => Ok(no_endpoints()),
        NodesOrRegistry::Discovery(service) => {
            inputs.registry.endpoints(service, target.upstream.scheme)
        }
    }
}

/// One pointer for all clusters without endpoints of a registry.
fn no_endpoints() -> Endpoints {
    static NONE: LazyLock<Endpoints> = LazyLock::new(|| Endpoints::from([]));
    Arc::clone(&NONE)
}

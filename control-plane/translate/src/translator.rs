//! The translation as a whole, and what is kept of it from one change to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_control_model::Resources;
use weft_xds_ads::{NodeResources, TypeResources};
use weft_xds_proto::ResourceType;
use weft_xds_proto::pb::envoy::config::cluster::v3::{Cluster, cluster::DiscoveryType};

use crate::authorization::Guards;
use crate::chain;
use crate::cluster::{self, as_downstream, original_destination, set_http_options};
use crate::connections::{Tcp, find};
use crate::contributions::{Changes, Contributions};
use crate::edge;
use crate::hosts::HostPattern;
use crate::inbound;
use crate::layer::{LayerBuilder, joined, replace};
use crate::lean::{Lean, Source};
use crate::moved::Moved;
use crate::names::Names;
use crate::node::{Families, Inbound, InboundKinds, NodeProfile};
use crate::outbound::Outbound;
use crate::problem::Problem;
use crate::route_tables::{BLACK_HOLE, PASSTHROUGH, edge as edge_table};
use crate::served::MeshHost;
use crate::settings::{Inputs, Settings, VirtualAddresses};
use crate::streams;
use crate::upstreams::Upstreams;
use crate::virtual_hosts::VirtualHosts;

/// Turns resources into what nodes are sent.
///
/// The result depends on the inputs alone; what is remembered only saves work, and keeps the
/// pointers of what did not change, so that a server sees at a glance what is to be pushed.
pub struct Translator {
    settings: Settings,
    seen: Option<Seen>,
    contributions: Contributions,
    /// What was taken up and is not translated yet.
    changes: Changes,
    tcp: Tcp,
    hosts: Arc<VirtualHosts>,
    counts: Generations,
    upstreams: Upstreams,
    mesh_routes: Arc<TypeResources>,
    /// The generation of `mesh_routes`, which are made when somebody is sent them.
    mesh_routes_of: u64,
    edge_routes: Arc<TypeResources>,
    edge_routes_of: u64,
    secrets: Arc<TypeResources>,
    edge_listeners: HashMap<EdgeKind, Arc<TypeResources>>,
    /// By inbound side, and whether services are fetched on demand.
    sidecars: HashMap<(Inbound, bool), SidecarSet>,
    /// The shared clusters with those of a workload's own ports, beside the shared ones alone.
    sidecar_clusters: HashMap<InboundKinds, (Arc<TypeResources>, Arc<TypeResources>)>,
    lean: Lean,
    names: Names,
    /// Of what is neither route nor upstream.
    standing_problems: Vec<Problem>,
    problems: Vec<Problem>,
    moved: Moved,
}

/// The inputs at the last update.
struct Seen {
    resources: Resources,
    addresses: Arc<VirtualAddresses>,
}

/// The families of an edge's addresses, and whether it is sent private keys.
type EdgeKind = (Families, bool);

/// How often something changed.
#[derive(Default)]
struct Generations {
    /// The mesh's routes.
    mesh: u64,
    /// The edges' routes.
    edge: u64,
    /// What the sidecars' listeners are made of.
    listeners: u64,
    /// The names of the mesh's hosts, with their ports and addresses.
    names: u64,
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
            contributions: Contributions::new(settings.clone()),
            settings,
            seen: None,
            changes: Changes::default(),
            tcp: Tcp::default(),
            hosts: Arc::default(),
            counts: Generations::default(),
            upstreams: Upstreams::default(),
            mesh_routes: Arc::default(),
            mesh_routes_of: 0,
            edge_routes: Arc::default(),
            edge_routes_of: 0,
            secrets: Arc::default(),
            edge_listeners: HashMap::new(),
            sidecars: HashMap::new(),
            sidecar_clusters: HashMap::new(),
            lean: Lean::default(),
            names: Names::default(),
            standing_problems: Vec::new(),
            problems: Vec::new(),
            moved: Moved::Nothing,
        }
    }

    /// Takes up the configuration; the hosts of the mesh that may be new, which are to have a
    /// virtual address before the update.
    pub fn read(&mut self, resources: &Resources) -> BTreeSet<String> {
        let changes = self.contributions.update(resources);
        if changes.services {
            let before = std::mem::replace(&mut self.tcp, Tcp::of(resources, &self.settings));
            let streams = before.streams.len() + self.tcp.streams.len();
            self.changes.edge_listeners |= streams > 0;
            let clusters = before.by_cluster.into_keys();
            self.changes.targets.extend(clusters.chain(self.tcp.by_cluster.keys().cloned()));
        }
        let of_tcp = changes.services.then_some(&self.tcp.services).into_iter().flatten();
        let of_tcp = of_tcp.map(|service| service.host.clone());
        let named = changes.new_hosts.iter().filter(|host| !host.contains('*')).cloned();
        let hosts = named.chain(of_tcp).collect();
        self.changes.extend(changes);
        hosts
    }

    /// The hosts by which the mesh's services are called, exact names only: those that want a
    /// virtual address.
    pub fn hosts(&self) -> BTreeMap<String, MeshHost> {
        let called = self.contributions.hosts();
        let mut hosts: BTreeMap<_, _> = called.map(|(host, one)| (host.clone(), one)).collect();
        for service in &self.tcp.services {
            let host = hosts.entry(service.host.clone()).or_default();
            host.ports.extend(&service.ports);
            host.tcp.extend(&service.ports);
        }
        hosts
    }

    /// Brings the translation up to the inputs. Work is done for what changed.
    pub fn update(&mut self, inputs: Inputs<'_>) {
        self.read(inputs.resources);
        let changes = std::mem::take(&mut self.changes);
        let addresses = self.changed_addresses(inputs.addresses);
        let policies = self.seen.as_ref().is_none_or(|seen| {
            let (before, after) = (&seen.resources, inputs.resources);
            !(before.peer_authentications.is_same(&after.peer_authentications)
                && before.authorization_policies.is_same(&after.authorization_policies))
        });
        self.note(&changes, &addresses, policies);
        self.seen = Some(Seen {
            resources: inputs.resources.clone(),
            addresses: Arc::clone(inputs.addresses),
        });
        self.configure(inputs, &changes, &addresses);
        let (contributions, tcp) = (&self.contributions, &self.tcp);
        let find = |name: &str| find(contributions, tcp, name);
        if self.upstreams.update(inputs, &changes, find) {
            self.moved = Moved::Everything;
        }
        let configured = self.contributions.problems().chain(&self.tcp.problems);
        let configured = configured.chain(&self.standing_problems);
        self.problems = configured.chain(self.upstreams.problems()).cloned().collect();
        self.problems.sort();
        self.problems.dedup();
    }

    /// For whom something changed since this was last asked.
    pub fn moved(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }

    /// What of the configuration isn't served, or not as written.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many endpoints stand behind a host of the mesh.
    pub fn endpoints_behind(&self, host: &str) -> usize {
        self.clusters_of(host).iter().map(|name| self.upstreams.endpoints_behind(name)).sum()
    }

    fn clusters_of(&self, host: &str) -> BTreeSet<String> {
        let tcp = self.tcp.services.iter().filter(|service| service.host == host);
        let tcp = tcp.map(|service| service.target.cluster.clone());
        self.contributions.clusters_of(host).into_iter().chain(tcp).collect()
    }

    /// What a node is sent.
    pub fn node(&mut self, profile: &NodeProfile) -> NodeResources {
        let sent = self.for_traffic(profile);
        let Some(seen) = self.seen.as_ref().filter(|_| profile.answers_dns()) else { return sent };
        let addresses = Arc::clone(&seen.addresses);
        let mut names = std::mem::take(&mut self.names);
        let table = names.table(self.counts.names, || self.hosts(), &addresses);
        self.names = names;
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
                .with(ResourceType::Endpoint, Arc::clone(&self.upstreams.edge.endpoints))
                .with(ResourceType::Cluster, Arc::clone(&self.upstreams.edge.clusters))
                .with(ResourceType::Listener, listeners)
                .with(ResourceType::Route, self.edge_tables())
                .with(ResourceType::Secret, secrets);
        }
        let inbound = profile.inbound(&seen.resources);
        let sent = empty.with(ResourceType::Endpoint, Arc::clone(&self.upstreams.mesh.endpoints));
        let Some(hosts) = profile.on_demand() else {
            return sent
                .with(ResourceType::Cluster, self.clusters_with(&inbound))
                .with(ResourceType::Listener, self.sidecar(inbound, false))
                .with(ResourceType::Route, self.whole_tables());
        };
        let clusters = self.with_source(|lean, source| lean.clusters(&inbound, hosts, source));
        let tables = self.with_source(|lean, source| lean.tables(hosts, source));
        sent.with(ResourceType::Cluster, clusters)
            .with(ResourceType::Route, tables)
            .with(ResourceType::VirtualHost, self.hosts_by_name())
            .with(ResourceType::Listener, self.sidecar(inbound, true))
    }

    /// Every virtual host of the mesh, by name alone.
    pub fn hosts_by_name(&mut self) -> Arc<TypeResources> {
        self.with_source(Lean::hosts)
    }

    fn with_source<R>(&mut self, of: impl FnOnce(&mut Lean, &Source<'_>) -> R) -> R {
        let mut lean = std::mem::take(&mut self.lean);
        let source = Source {
            mesh: &self.hosts,
            clusters_of: &|host: &str| self.clusters_of(host),
            upstreams: &self.upstreams.mesh.clusters,
            revision: self.seen.as_ref().map_or(0, |seen| seen.resources.revision),
            generation: self.counts.mesh,
        };
        let made = of(&mut lean, &source);
        self.lean = lean;
        made
    }

    /// The edges' tables.
    fn edge_tables(&mut self) -> Arc<TypeResources> {
        if self.edge_routes_of != self.counts.edge {
            self.edge_routes_of = self.counts.edge;
            let groups = self.contributions.edge.iter().zip([false, true]);
            let tables =
                groups.map(|(groups, over_tls)| edge_table(groups, &self.settings, over_tls));
            let tables: Vec<_> = tables.collect();
            add_tables(&mut self.edge_routes, &tables);
        }
        Arc::clone(&self.edge_routes)
    }

    /// The mesh's tables with all hosts.
    fn whole_tables(&mut self) -> Arc<TypeResources> {
        if self.mesh_routes_of != self.counts.mesh {
            self.mesh_routes_of = self.counts.mesh;
            add_tables(&mut self.mesh_routes, &self.hosts.whole_tables());
        }
        Arc::clone(&self.mesh_routes)
    }

    /// The hosts whose virtual addresses changed, with these; nothing if none did.
    fn changed_addresses(&self, addresses: &Arc<VirtualAddresses>) -> BTreeSet<String> {
        let Some(seen) = &self.seen else { return BTreeSet::new() };
        if Arc::ptr_eq(&seen.addresses, addresses) {
            return BTreeSet::new();
        }
        let differing = |one: &VirtualAddresses, other: &VirtualAddresses| -> Vec<String> {
            let differing = one.iter().filter(|(host, address)| other.get(*host) != Some(address));
            differing.flat_map(|(host, address)| [host.clone(), address.to_string()]).collect()
        };
        let (gone, new) =
            (differing(&seen.addresses, addresses), differing(addresses, &seen.addresses));
        gone.into_iter().chain(new).collect()
    }

    /// Counts, and keeps in mind for whom it is.
    fn note(&mut self, changes: &Changes, addresses: &BTreeSet<String>, policies: bool) {
        let first = self.seen.is_none();
        let widely = first || policies || changes.everything || changes.edge_listeners;
        let exact = changes.hosts.iter().all(|host| matches!(host, HostPattern::Exact(_)));
        let counts = &mut self.counts;
        let mesh = widely || !changes.hosts.is_empty() || !addresses.is_empty();
        counts.mesh += u64::from(mesh);
        counts.edge += u64::from(widely || changes.at_edges);
        let ports = self.hosts.ports().eq(self.contributions.mesh.keys().copied());
        let listeners = widely || changes.services || !addresses.is_empty() || !ports;
        counts.listeners += u64::from(listeners);
        let names = listeners || changes.names;
        counts.names += u64::from(names);
        if names || !exact {
            self.moved = Moved::Everything;
        } else if mesh || changes.at_edges {
            let known = self.seen.as_ref().map(|seen| &seen.addresses);
            let names = changes.hosts.iter().flat_map(|host| {
                let name = host.domain();
                let address = known.and_then(|known| known.get(&name)).map(ToString::to_string);
                std::iter::once(name).chain(address)
            });
            match &mut self.moved {
                Moved::Everything => {}
                Moved::Hosts(moved) => moved.extend(names),
                moved @ Moved::Nothing => *moved = Moved::Hosts(names.collect()),
            }
        }
    }

    /// Virtual hosts, secrets and edges' listeners.
    fn configure(&mut self, inputs: Inputs<'_>, changes: &Changes, addresses: &BTreeSet<String>) {
        let exact = changes.hosts.iter().all(|host| matches!(host, HostPattern::Exact(_)));
        let by_port = || self.contributions.mesh.clone();
        if changes.everything || !exact || !addresses.is_empty() {
            let policy = inputs.resources.mesh.outbound_traffic_policy;
            let hosts = VirtualHosts::new(by_port(), Arc::clone(inputs.addresses), policy);
            self.hosts = Arc::new(hosts);
        } else if !changes.hosts.is_empty() {
            let hosts = changes.hosts.iter().map(HostPattern::domain);
            self.hosts = Arc::new(self.hosts.with(by_port(), hosts));
        }
        if changes.everything || changes.edge_listeners || !changes.targets.is_empty() {
            let targets = self.contributions.targets.values().map(|one| &one.target);
            let targets = targets.chain(self.tcp.targets());
            let mut secrets = LayerBuilder::over(&self.secrets);
            for secret in edge::secrets(inputs.resources, targets) {
                secrets.add(&secret.name, &secret);
            }
            let secrets = secrets.finish();
            if replace(&mut self.secrets, secrets) {
                self.moved = Moved::Everything;
            }
        }
        if changes.everything || changes.edge_listeners {
            self.standing_problems = chain::problems(inputs.resources);
            // Only the problems of certificates are wanted of it here.
            let families = Families { v4: true, v6: false };
            let problems = &mut self.standing_problems;
            edge::https_listener(families, &self.settings, inputs.resources, problems);
            let known: Vec<_> = self.edge_listeners.keys().copied().collect();
            for kind in known {
                self.build_edge_listeners(kind, inputs.resources);
            }
        }
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
        let streams = &self.tcp.streams;
        let listeners = https
            .into_iter()
            .chain([edge::http_listener(families, &self.settings)])
            .chain(streams::listeners(families, &self.settings, resources, streams, trusted));
        for listener in listeners {
            builder.add(&listener.name, &listener);
        }
        let resources = builder.finish();
        replace(layer, resources);
        Arc::clone(layer)
    }

    /// The listeners of a sidecar.
    fn sidecar(&mut self, inbound: Inbound, on_demand: bool) -> Arc<TypeResources> {
        let generation = self.counts.listeners;
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
            && Arc::ptr_eq(shared, &self.upstreams.mesh.clusters)
        {
            return Arc::clone(all);
        }
        let empty = TypeResources::default();
        let mut own = LayerBuilder::over(known.map_or(&empty, |(_, all)| all));
        for cluster in inbound::clusters(inbound) {
            own.add(&cluster.name, &cluster);
        }
        let all = joined(&self.upstreams.mesh.clusters, own.finish());
        if self.sidecar_clusters.len() > MOST_SIDECAR_SETS {
            let current = &self.upstreams.mesh.clusters;
            self.sidecar_clusters.retain(|_, (shared, _)| Arc::ptr_eq(shared, current));
        }
        self.sidecar_clusters
            .insert(kinds, (Arc::clone(&self.upstreams.mesh.clusters), Arc::clone(&all)));
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
        let http_ports: Vec<_> = self.hosts.ports().collect();
        let outbound = Outbound {
            families: inbound.families,
            on_demand,
            policy: mesh.outbound_traffic_policy,
            http_ports: &http_ports,
            tcp_services: &self.tcp.services,
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

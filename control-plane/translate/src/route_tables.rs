//! The route configurations of edges and sidecars.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weft_control_model::{OutboundTrafficPolicy, Resources};
use weft_xds_proto::pb::envoy::config::core::v3::{
    HeaderValueOption, header_value_option::HeaderAppendAction,
};
use weft_xds_proto::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, Vhds, VirtualHost,
    route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use weft_xds_proto::pb::google::protobuf::Any;

use crate::chain::{self, RouteChain};
use crate::envoy::{self, flag};
use crate::hosts::{ByHost, HostPattern, groups_for, is_covered, virtual_hosts};
use crate::routes::{self, RouteGroup, TranslatedRoute};
use crate::settings::{Settings, VirtualAddresses};

/// The cluster of connections that go where they wanted to.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// The cluster of connections that go nowhere.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

/// The name of an edge's route configuration.
pub(crate) fn edge_name(over_tls: bool) -> &'static str {
    if over_tls { "edge.https" } else { "edge.http" }
}

/// Routes by host pattern. A clone costs nothing.
#[derive(Clone)]
pub(crate) struct Groups {
    by_host: ByHost<RouteGroup>,
    shared: Arc<Shared>,
}

impl Default for Groups {
    fn default() -> Self {
        Self::new(&Arc::default())
    }
}

/// What the virtual hosts of one configuration share.
#[derive(Default)]
pub(crate) struct Shared {
    /// What requests run that no route matches.
    without_route: Option<RouteChain>,
    /// Those who may ask; made when the first virtual host wants to know.
    consumers: OnceLock<Any>,
    resources: Resources,
}

impl Shared {
    /// Follows from what is neither route nor service nor upstream.
    pub(crate) fn new(resources: &Resources) -> Arc<Self> {
        Arc::new(Self {
            without_route: chain::without_route(resources),
            consumers: OnceLock::new(),
            resources: resources.clone(),
        })
    }

    fn consumers(&self) -> &Any {
        self.consumers.get_or_init(|| chain::consumers(&self.resources))
    }
}

impl Groups {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { by_host: ByHost::new_sync(), shared: Arc::clone(shared) }
    }

    /// Adds a route to those of a pattern.
    pub(crate) fn add(&mut self, pattern: &HostPattern, route: &TranslatedRoute) {
        let mut group = self.by_host.get(pattern).cloned().unwrap_or_default();
        group.add(route);
        self.by_host.insert_mut(pattern.clone(), group);
    }

    /// Takes out what was added.
    pub(crate) fn remove(&mut self, pattern: &HostPattern, route: &TranslatedRoute) {
        let Some(mut group) = self.by_host.get(pattern).cloned() else { return };
        group.remove(route);
        if group.is_empty() {
            self.by_host.remove_mut(pattern);
        } else {
            self.by_host.insert_mut(pattern.clone(), group);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }
}

/// The patterns of a route's hosts; without any it is for all.
pub(crate) fn patterns(hosts: &[String]) -> Vec<HostPattern> {
    if hosts.is_empty() {
        return vec![HostPattern::Any];
    }
    hosts.iter().map(|host| HostPattern::parse(host)).collect()
}

/// The one table of an edge's listener.
pub(crate) fn edge(groups: &Groups, settings: &Settings, over_tls: bool) -> RouteConfiguration {
    // Requests to unknown hosts get an answer, too.
    let patterns = groups.by_host.keys().chain([&HostPattern::Any]);
    let hosts = virtual_hosts(patterns).into_iter();
    let hosts = hosts.map(|host| virtual_host(&host, groups, vec![host.domain()]));
    let mut table = table(edge_name(over_tls).to_owned(), hosts.collect());
    let port = if over_tls { settings.edge_https_port } else { settings.edge_http_port };
    table.request_headers_to_add = client_headers(port);
    table
}

/// What APISIX tells upstreams of the client, whatever the client says itself.
fn client_headers(port: u16) -> Vec<HeaderValueOption> {
    let set = |name, value: String| {
        envoy::header(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
    };
    vec![
        set("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%".to_owned()),
        set("x-forwarded-port", port.to_string()),
    ]
}

/// The table of a port with all hosts of the mesh.
pub(crate) fn whole_table(
    port: u16,
    groups: &Groups,
    addresses: &VirtualAddresses,
    policy: OutboundTrafficPolicy,
) -> RouteConfiguration {
    // Routes without a host follow those of the mesh's hosts, as everywhere in APISIX, but they
    // don't take what goes to hosts outside of the mesh.
    let named = groups.by_host.keys().filter(|pattern| **pattern != HostPattern::Any);
    let mut hosts: Vec<_> = virtual_hosts(named)
        .into_iter()
        .map(|host| virtual_host(&host, groups, mesh_domains(&host, addresses)))
        .collect();
    hosts.push(outside(policy));
    table(port.to_string(), hosts)
}

/// The table of a port whose hosts are fetched on demand, `known` ones aside.
pub(crate) fn table_on_demand(port: u16, known: Vec<VirtualHost>) -> RouteConfiguration {
    let vhds = Vhds { config_source: Some(envoy::from_ads()) };
    RouteConfiguration { vhds: Some(vhds), ..table(port.to_string(), known) }
}

/// The one virtual host for a host that somebody calls. It has no other domain than the one that
/// was asked for: what else a pattern or a service covers may have a more specific host.
pub(crate) fn asked_host(
    asked: &str,
    known_as: &str,
    groups: &Groups,
    policy: OutboundTrafficPolicy,
) -> VirtualHost {
    let host = HostPattern::Exact(known_as.to_owned());
    let found = if is_covered(&host, &groups.by_host) {
        virtual_host(&host, groups, Vec::new())
    } else {
        outside(policy)
    };
    VirtualHost { name: asked.to_owned(), domains: vec![asked.to_owned()], ..found }
}

/// A host of the mesh with all its names.
pub(crate) fn known_host(
    host: &str,
    groups: &Groups,
    addresses: &VirtualAddresses,
) -> Option<VirtualHost> {
    let host = HostPattern::parse(host);
    let covered = is_covered(&host, &groups.by_host);
    covered.then(|| virtual_host(&host, groups, mesh_domains(&host, addresses)))
}

fn virtual_host(host: &HostPattern, groups: &Groups, domains: Vec<String>) -> VirtualHost {
    let of_host = groups_for(host, &groups.by_host);
    let rest = groups.shared.without_route.as_ref();
    let authenticates = of_host.iter().any(|group| group.authenticates())
        || rest.is_some_and(|chain| chain.authenticates);
    let known =
        authenticates.then(|| (chain::CONSUMERS.to_owned(), groups.shared.consumers().clone()));
    let own = of_host.into_iter().flat_map(RouteGroup::iter).cloned();
    VirtualHost {
        name: host.domain(),
        domains,
        routes: own.chain([routes::not_found(rest)]).collect(),
        typed_per_filter_config: known.into_iter().collect(),
        ..Default::default()
    }
}

/// A host of the mesh is also called by its absolute name and its virtual address.
fn mesh_domains(host: &HostPattern, addresses: &VirtualAddresses) -> Vec<String> {
    let name = host.domain();
    let mut domains = vec![name.clone()];
    if let HostPattern::Exact(_) = host {
        domains.push(format!("{name}."));
        domains.extend(addresses.get(&name).map(|address| match address {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("[{address}]"),
        }));
    }
    domains
}

/// What happens to requests for hosts outside of the mesh.
fn outside(policy: OutboundTrafficPolicy) -> VirtualHost {
    let (name, action) = match policy {
        OutboundTrafficPolicy::AllowAny => {
            let action = RouteAction {
                timeout: Some(envoy::unlimited()),
                cluster_specifier: Some(ClusterSpecifier::Cluster(PASSTHROUGH.to_owned())),
                ..Default::default()
            };
            ("allow_any", Action::Route(action))
        }
        OutboundTrafficPolicy::RegistryOnly => {
            let answer = DirectResponseAction { status: 502, ..Default::default() };
            ("block_all", Action::DirectResponse(answer))
        }
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![everything(name, action)],
        ..Default::default()
    }
}

/// A route for all paths.
pub(crate) fn everything(name: &str, action: Action) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(action),
        ..Default::default()
    }
}

/// Requests for the local application: without limits, since the caller's proxy has them.
pub(crate) fn inbound(cluster: &str, port: Option<u16>) -> RouteConfiguration {
    let action = RouteAction {
        timeout: Some(envoy::duration(Duration::ZERO)),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    let port = port.map_or_else(|| "passthrough".to_owned(), |port| port.to_string());
    let host = VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        routes: vec![everything("default", Action::Route(action))],
        ..Default::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![host],
        validate_clusters: Some(flag(false)),
        ..Default::default()
    }
}

fn table(name: String, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name,
        virtual_hosts,
        validate_clusters: Some(flag(false)),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

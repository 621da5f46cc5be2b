//! What a control plane serves, as JSON in the form in which `/config_dump` shows it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

/// Resources by type and name.
pub(crate) type Held = BTreeMap<(String, String), Value>;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// A loopback address.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// Clusters with endpoints, and listeners with routes to them.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Weights of the endpoint of each cluster: a change of one changes its endpoints alone.
    pub(crate) clusters: BTreeMap<String, u32>,
    /// The port of each listener and the clusters that its routes lead to.
    pub(crate) listeners: BTreeMap<String, (u16, Vec<String>)>,
    upstream: SocketAddr,
}

impl World {
    /// Some clusters and one listener for each port.
    pub(crate) fn new(upstream: SocketAddr, ports: &[u16]) -> Self {
        let clusters = (0..6).map(|n| (format!("cluster-{n}"), 1));
        let clusters: BTreeMap<_, _> = clusters.collect();
        let targets: Vec<_> = clusters.keys().cloned().collect();
        let listeners = ports.iter().enumerate();
        let listeners =
            listeners.map(|(n, port)| (format!("listener-{n}"), (*port, targets.clone())));
        Self { listeners: listeners.collect(), clusters, upstream }
    }

    /// Another cluster, to which all routes lead too.
    pub(crate) fn add_cluster(&mut self, name: &str) {
        self.clusters.insert(name.to_owned(), 1);
        for (_, targets) in self.listeners.values_mut() {
            targets.push(name.to_owned());
        }
    }

    /// The next state of a churn that is the same in every run: clusters come, change and go, a
    /// listener goes and comes, and the routes follow.
    pub(crate) fn step(&mut self, round: usize, ports: &[u16]) {
        self.clusters.insert(format!("cluster-{}", 6 + round), 1);
        if round.is_multiple_of(2) {
            self.clusters.pop_first();
        }
        if let Some(weight) = self.clusters.values_mut().nth(round % 4) {
            *weight += 1;
        }
        let targets: Vec<_> = self.clusters.keys().cloned().collect();
        let moving = round % ports.len();
        for (n, port) in ports.iter().enumerate() {
            let name = format!("listener-{n}");
            if n == moving && round % 3 != 2 {
                self.listeners.remove(&name);
            } else {
                self.listeners.insert(name, (*port, targets.clone()));
            }
        }
    }

    /// All resources.
    pub(crate) fn resources(&self) -> Vec<Value> {
        let clusters = self.clusters.iter();
        let mut all: Vec<_> = clusters
            .flat_map(|(name, weight)| [cluster(name), endpoints(name, self.upstream, *weight)])
            .collect();
        for (name, (port, targets)) in &self.listeners {
            all.extend([listener(name, *port), routes(name, targets)]);
        }
        all
    }
}

/// Resources by type and name.
pub(crate) fn held(resources: &[Value]) -> Held {
    let named = resources.iter().map(|one| {
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let field = if one["@type"] == ENDPOINTS { "cluster_name" } else { "name" };
        ((text("@type"), text(field)), one.clone())
    });
    named.collect()
}

fn ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3" })
}

/// A cluster whose endpoints are discovered.
pub(crate) fn cluster(name: &str) -> Value {
    json!({
        "@type": CLUSTER,
        "name": name,
        "type": "EDS",
        "connect_timeout": "2s",
        "eds_cluster_config": { "eds_config": ads() },
    })
}

/// A cluster whose rings can't be.
pub(crate) fn bad_cluster(name: &str) -> Value {
    let mut bad = cluster(name);
    bad["lb_policy"] = "RING_HASH".into();
    bad["ring_hash_lb_config"] = json!({ "minimum_ring_size": "4096", "maximum_ring_size": "8" });
    bad
}

fn endpoints(name: &str, at: SocketAddr, weight: u32) -> Value {
    json!({
        "@type": ENDPOINTS,
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": { "socket_address": {
                "address": at.ip().to_string(),
                "port_value": at.port(),
            } } },
            "load_balancing_weight": weight,
        }] }],
    })
}

/// An HTTP listener whose routes are discovered under its name.
pub(crate) fn listener(name: &str, port: u16) -> Value {
    json!({
        "@type": LISTENER,
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "rds": { "config_source": ads(), "route_config_name": name },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    },
                }],
            },
        }] }],
    })
}

/// A listener without a name for its statistics, which has to have one.
pub(crate) fn bad_listener(name: &str, port: u16) -> Value {
    let mut bad = listener(name, port);
    let config = bad.pointer_mut("/filter_chains/0/filters/0/typed_config/stat_prefix");
    if let Some(prefix) = config {
        *prefix = "".into();
    }
    bad
}

/// Routes to clusters, each by its name.
pub(crate) fn routes(name: &str, clusters: &[String]) -> Value {
    let routes: Vec<_> = clusters
        .iter()
        .map(
            |one| json!({ "match": { "prefix": format!("/{one}/") }, "route": { "cluster": one } }),
        )
        .collect();
    json!({
        "@type": ROUTES,
        "name": name,
        "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
    })
}

/// Routes with a pattern that is none.
pub(crate) fn bad_routes(name: &str) -> Value {
    let mut bad = routes(name, &["cluster-0".to_owned()]);
    if let Some(matcher) = bad.pointer_mut("/virtual_hosts/0/routes/0/match") {
        *matcher = json!({ "safe_regex": { "regex": "(" } });
    }
    bad
}

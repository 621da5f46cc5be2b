//! Which route, which chain, which endpoint.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Method};
use weft_model::{ChainKey, TransportProtocol};
use weft_route::{
    Conditions, HostRule, Outcome, PathMatch, RequestView, RouteRule, RouteTable, TableOptions,
};
use weft_upstream::{PickContext, Upstreams};

use super::support::{Configured, worker_runtime};
use super::{Work, each};

const ROUTES: usize = 10_000;
const CHAINS: usize = 200;
const ENDPOINTS: usize = 100;

pub(super) fn route_first() -> Result<Work> {
    route(one_host()?, "www.example.com", "/route-0/x".to_owned(), 0)
}

pub(super) fn route_last() -> Result<Work> {
    route(one_host()?, "www.example.com", format!("/route-{}/x", ROUTES - 1), ROUTES - 1)
}

pub(super) fn route_wildcard() -> Result<Work> {
    let hosts = (0..ROUTES).map(|index| HostRule {
        domains: vec![format!("*.service-{index}.example.com")],
        value: (),
        routes: vec![rule("/".to_owned(), index)],
    });
    let table = RouteTable::compile(hosts.collect(), TableOptions::default())?;
    route(table, "www.service-77.example.com", "/x".to_owned(), 77)
}

/// All routes in one virtual host.
fn one_host() -> Result<RouteTable<(), usize>> {
    let routes = (0..ROUTES).map(|index| rule(format!("/route-{index}/"), index)).collect();
    let host = HostRule { domains: vec!["*".to_owned()], value: (), routes };
    Ok(RouteTable::compile(vec![host], TableOptions::default())?)
}

fn rule(prefix: String, value: usize) -> RouteRule<usize> {
    let path = PathMatch::Prefix { text: prefix, ignore_case: false };
    RouteRule { path, conditions: Conditions::default(), value }
}

fn route(
    table: RouteTable<(), usize>,
    authority: &'static str,
    path: String,
    expected: usize,
) -> Result<Work> {
    let headers = HeaderMap::new();
    each(move || {
        let request = RequestView {
            method: &Method::GET,
            scheme: "http",
            authority,
            path: black_box(&path),
            query: None,
            headers: &headers,
            random: 0,
            around: None,
        };
        let found = table.find(&request);
        assert!(matches!(found, Outcome::Route((), value) if *value == expected));
    })
}

pub(super) fn chain() -> Result<Work> {
    let mut yaml = "
static_resources:
  clusters: [{name: somewhere, load_assignment: {cluster_name: somewhere}}]
  listeners:
  - name: many
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    listener_filters:
    - name: tls
      typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
    filter_chains:
"
    .to_owned();
    for index in 0..CHAINS {
        write!(
            yaml,
            "    - name: chain-{index}
      filter_chain_match: {{server_names: [service-{index}.example.com]}}
      filters:
      - name: tcp
        typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: somewhere}}
"
        )?;
    }
    let snapshot = Configured::from_yaml(&yaml)?.snapshot();
    let listener = Arc::clone(snapshot.listeners.get("many").context("no listener")?);
    each(move || {
        let key = ChainKey {
            port: 443,
            ip: [10, 0, 0, 1].into(),
            server_name: black_box(Some("service-177.example.com")),
            transport: TransportProtocol::Tls,
            application_protocols: &[],
            source: ([192, 0, 2, 1], 40_000).into(),
            direct_source: [192, 0, 2, 1].into(),
        };
        assert!(listener.chains.find(&key).is_some());
    })
}

pub(super) fn round_robin() -> Result<Work> {
    pick("ROUND_ROBIN")
}

pub(super) fn least_request() -> Result<Work> {
    pick("LEAST_REQUEST")
}

fn pick(policy: &str) -> Result<Work> {
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|index| {
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: 10.0.0.{index}, port_value: 80}}}}}}}}"
            )
        })
        .collect();
    let configured = Configured::from_yaml(&format!(
        "static_resources:
  clusters:
  - name: many
    lb_policy: {policy}
    load_assignment: {{cluster_name: many, endpoints: [{{lb_endpoints: [{}]}}]}}
",
        endpoints.join(", ")
    ))?;
    let snapshot = configured.snapshot();
    let handle = Arc::clone(snapshot.clusters.get("many").context("no cluster")?);
    let runtime = worker_runtime()?;
    let watch = configured.watch.clone();
    let cluster = runtime.block_on(async move { Upstreams::new(watch, 1).cluster(&handle) });
    ensure!(cluster.pick(&PickContext::default()).is_ok(), "nothing is picked");
    each(move || {
        // The runtime is where the cluster's tasks live.
        let _alive = (&runtime, &configured);
        let picked = cluster.pick(black_box(&PickContext::default()));
        assert!(picked.is_ok());
    })
}

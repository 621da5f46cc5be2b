use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use weft_config::{BootstrapConfig, Engine};
use weft_control_model::Role;
use weft_model::SnapshotPublisher;
use weft_telemetry::Registry;
use weft_xds_ads::{
    NodeResources, Resource, ResourceType, ResourceUpdate, Subscription, TypeResources,
};
use weft_xds_proto::{Sensitive, any_to_json};

use super::support::{World, workload};

/// Compares with the golden file, and has the data plane compile it.
fn check(name: &str, sent: &NodeResources) {
    let mut types = Map::new();
    for (kind, set) in sent.iter() {
        let resources = set.resources.iter();
        let resources: Map<_, _> = resources
            .map(|(name, one)| (name.clone(), any_to_json(&one.body, Sensitive::Keep)))
            .collect();
        types.insert(kind.short_name().to_owned(), Value::Object(resources));
    }
    let text = serde_json::to_string_pretty(&Value::Object(types)).expect("JSON") + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the golden file is written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{} differs; UPDATE_GOLDEN=1 rewrites it:\n{text}", path.display());
    compile(name, sent);
}

const BOOTSTRAP: &str = "
node: {id: n, cluster: c}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: xds-grpc
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 15010}}}
bootstrap_extensions:
- name: weft.certificate_agent
  typed_config:
    '@type': type.googleapis.com/xds.type.v3.TypedStruct
    type_url: type.googleapis.com/weft.bootstrap.v1.CertificateAgent
    value:
      ca_address: 127.0.0.1:15012
      server_name: weft-control-plane
      root_cert_file: /r
      token_file: /t
      trust_domain: cluster.local
      namespace: demo
      service_account: greeter
      state_dir: /s
";

/// The data plane's compiler takes every resource.
fn compile(name: &str, sent: &NodeResources) {
    let bootstrap = BootstrapConfig::parse(&PathBuf::from("b.yaml"), BOOTSTRAP).expect("valid");
    let now = Instant::now();
    let mut engine =
        Engine::new(bootstrap, Registry::default(), SnapshotPublisher::new(), now).expect("valid");
    let asked = sent.of(ResourceType::VirtualHost).resources.keys().cloned();
    let asked = (ResourceType::VirtualHost, Subscription::names(asked));
    engine.resume(&[asked], now);
    for (kind, set) in sent.iter() {
        let added = set.resources.iter().map(|(name, one)| Resource {
            name: name.clone(),
            version: one.version.clone(),
            body: one.body.clone().into(),
        });
        let update = ResourceUpdate {
            resource_type: kind,
            version: set.version.clone(),
            added: added.collect(),
            removed: Vec::new(),
            full: false,
        };
        let rejections = engine.apply(update, now);
        assert!(rejections.is_empty(), "{name}: {rejections:#?}");
    }
}

/// Two versions of a service, one getting a tenth of the requests.
pub(super) fn canary() -> World {
    let mut world = World::new();
    for version in ["v1", "v2"] {
        world.put(
            &format!("upstreams/greeter-{version}"),
            json!({
                "discovery_type": "mesh",
                "service_name": "demo/greeter:8080",
                "discovery_args": {"labels": {"version": version}},
            }),
        );
    }
    world.put("routes/greeter", route(10));
    world.runs("demo/greeter:8080", "v1", &[11, 12], 8080);
    world.runs("demo/greeter:8080", "v2", &[21], 8080);
    world
}

/// The canary's route with a share for the second version.
pub(super) fn route(percent: u32) -> Value {
    json!({
        "uri": "/*",
        "hosts": ["greeter", "greeter.example"],
        "upstream_id": "greeter-v1",
        "plugins": {"traffic-split": {"rules": [{"weighted_upstreams": [
            {"weight": 100 - percent},
            {"upstream_id": "greeter-v2", "weight": percent},
        ]}]}},
    })
}

#[test]
fn a_sidecar_of_a_canary_is_golden() {
    let mut world = canary();
    check("sidecar-canary", &world.sidecar(&[(8080, "http"), (9000, ""), (5432, "tcp")]));
}

#[test]
fn an_edge_of_a_canary_is_golden() {
    check("edge-canary", &canary().edge());
}

#[test]
fn modes_of_mtls_are_golden() {
    let mut world = World::new();
    let ports = [(8080, "http"), (8081, "grpc"), (5432, "tcp"), (9000, "")];
    world.put(
        "/weft/peer_authentications/strict",
        json!({
            "namespace": "demo",
            "selector": {"matchLabels": {"app": "greeter"}},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"8081": {"mode": "DISABLE"}},
        }),
    );
    check("sidecar-strict", &world.sidecar(&ports));
    world.delete("/weft/peer_authentications/strict");
    world.put(
        "/weft/peer_authentications/off",
        json!({"namespace": "demo", "mtls": {"mode": "DISABLE"}}),
    );
    check("sidecar-disable", &world.sidecar(&ports));
}

#[test]
fn a_closed_mesh_with_tcp_and_both_families_is_golden() {
    let mut world = World::new();
    world
        .put("/weft/mesh/default", json!({"outbound_traffic_policy": "REGISTRY_ONLY"}))
        .put(
            "services/db",
            json!({
                "hosts": ["db"],
                "labels": {"weft.dev/ports": "5432"},
                "upstream": {"scheme": "tcp", "discovery_type": "mesh", "service_name": "demo/db:5432"},
            }),
        )
        .put(
            "services/api",
            json!({
                "hosts": ["api", "*.api"],
                "labels": {"weft.dev/ports": "80,8080"},
                "upstream": {"scheme": "grpc", "discovery_type": "mesh", "service_name": "demo/api"},
            }),
        );
    world.runs("demo/db:5432", "", &[31], 5432);
    let both = workload(Role::Sidecar, &["10.0.0.2", "fd00::2"], &[(8080, "http")]);
    check("sidecar-closed", &world.node(&both));
}

/// What a node is sent with what it asks for.
fn asking(sent: NodeResources, kind: ResourceType, names: &[&str]) -> NodeResources {
    let set = sent.of(kind);
    let mut resources = set.resources.clone();
    for name in names {
        resources.extend(set.named(name).map(|resource| ((*name).to_owned(), resource)));
    }
    let set = TypeResources { resources, ..TypeResources::clone(set) };
    sent.with(kind, Arc::new(set))
}

#[test]
fn a_sidecar_that_asks_is_golden() {
    let mut world = canary();
    world.put(
        "services/db",
        json!({
            "hosts": ["db"],
            "labels": {"weft.dev/ports": "5432"},
            "upstream": {"scheme": "tcp", "discovery_type": "mesh", "service_name": "demo/db:5432"},
        }),
    );
    let sent = world.lean(&[(8080, "http")], &[]);
    check("sidecar-on-demand", &sent);
    let hosts = [
        "80/greeter",
        "80/GREETER.:80",
        "80/240.240.0.2",
        "80/elsewhere.test",
        "80/",
        "80/*",
        "81/greeter",
        "greeter",
    ];
    let sent = asking(sent, ResourceType::VirtualHost, &hosts);
    let sent = asking(sent, ResourceType::Cluster, &["upstream/greeter-v1", "upstream/none"]);
    check("sidecar-on-demand-asking", &sent);
}

#[test]
fn a_sidecar_with_hosts_from_the_start_is_golden() {
    check("sidecar-upfront", &canary().lean(&[(8080, "http")], &["greeter", "nobody"]));
}

#[test]
fn an_edge_with_everything_is_golden() {
    let mut world = World::new();
    world
        .put(
            "upstreams/nodes",
            json!({
                "nodes": [
                    {"host": "10.1.0.1", "port": 8080, "weight": 2},
                    {"host": "10.1.0.2", "port": 8080, "weight": 1, "priority": -1},
                    {"host": "10.1.0.3", "port": 8080, "weight": 0},
                ],
                "type": "chash", "hash_on": "header", "key": "X-User",
                "retries": 1,
                "timeout": {"connect": 1.5, "send": 5, "read": 7},
                "pass_host": "node",
                "keepalive_pool": {"size": 10, "idle_timeout": 30, "requests": 100},
                "checks": {
                    "active": {
                        "http_path": "/healthz", "host": "shop.example", "timeout": 0.5,
                        "req_headers": ["X-Probe: 1"],
                        "healthy": {"interval": 2, "successes": 1},
                        "unhealthy": {"interval": 3, "http_failures": 4, "http_statuses": [500, 503]},
                    },
                    "passive": {"unhealthy": {"http_failures": 3, "tcp_failures": 0}},
                },
            }),
        )
        .put(
            "upstreams/far",
            json!({
                "nodes": {"far.example:443": 1}, "scheme": "https",
                "pass_host": "rewrite", "upstream_host": "far.example",
                "type": "chash", "hash_on": "vars", "key": "uri",
                "checks": {"active": {"type": "tcp", "port": 444}},
            }),
        )
        .put("services/shop", json!({"hosts": ["shop.example"], "upstream_id": "nodes"}))
        .put(
            "routes/exact",
            json!({"uri": "/cart", "methods": ["GET", "POST"], "service_id": "shop"}),
        )
        .put(
            "routes/vars",
            json!({
                "uri": "/cart/*", "service_id": "shop", "priority": 3,
                "vars": [["http_x_beta", "==", "1"], ["arg_debug", "in", ["a", "b"]]],
                "plugins": {"proxy-rewrite": {
                    "regex_uri": ["^/cart/(.*)", "/v2/$1"],
                    "headers": {"set": {"X-Client": "$remote_addr"}, "remove": ["X-Secret"]},
                }},
                "timeout": {"connect": 1, "send": 2, "read": 3},
                "enable_websocket": true,
            }),
        )
        .put(
            "routes/secure",
            json!({
                "uri": "/secure", "host": "*.shop.example", "upstream_id": "far",
                "plugins": {"redirect": {"http_to_https": true}},
            }),
        )
        .put(
            "routes/old",
            json!({
                "uri": "/old", "host": "shop.example",
                "plugins": {"redirect": {"uri": "/new", "ret_code": 301}},
            }),
        )
        .put(
            "routes/any",
            json!({
                "uri": "/any*", "upstream": {"nodes": {"10.1.0.9:80": 1}},
                "plugins": {
                    "proxy-mirror": {"host": "http://10.1.0.10:8080", "sample_ratio": 0.25},
                    "traffic-split": {"rules": [{
                        "match": [{"vars": [["http_x_canary", "==", "yes"]]}],
                        "weighted_upstreams": [
                            {"upstream": {"nodes": {"10.1.0.11:80": 1}}, "weight": 3},
                            {"weight": 1},
                        ],
                    }]},
                },
            }),
        )
        .put(
            "ssls/shop",
            json!({"snis": ["shop.example", "*.shop.example"], "cert": CERT, "key": KEY}),
        )
        .put(
            "routes/inside",
            json!({
                "uri": "/inside", "host": "inside", "upstream_id": "nodes",
                "labels": {"weft.dev/scope": "mesh"},
            }),
        );
    check("edge-everything", &world.edge());
}

const CERT: &str = include_str!("../golden/shop.crt");
const KEY: &str = include_str!("../golden/shop.key");

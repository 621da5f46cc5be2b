//! What Weft's own control plane sends.

use std::net::IpAddr;

use serde_json::json;
use weft_control_model::{
    Change, Discover, DiscoverError, Discovery, Endpoint, EndpointIdentity, Endpoints, ResourceKey,
    Resources, Role, Scheme, Workload, WorkloadAddress, WorkloadPort,
};
use weft_translate::{Inputs, NodeProfile, Settings, Translator, VirtualAddresses};
use weft_xds_client::ResourceType;

use crate::secrets::{agent_bootstrap, certificates, pems};
use crate::support::Bench;

/// Two workloads, one of them in the mesh.
struct Two;

impl Discover for Two {
    fn endpoints(&self, _: &Discovery, _: Scheme) -> Result<Endpoints, DiscoverError> {
        let identity = EndpointIdentity {
            namespace: "demo".to_owned(),
            service_account: "greeter".to_owned(),
            labels: Default::default(),
        };
        let endpoint = |last, identity| Endpoint {
            address: IpAddr::from([10, 0, 0, last]),
            port: 8080,
            weight: 1,
            identity,
            locality: None,
        };
        Ok([endpoint(1, Some(identity)), endpoint(2, None)].into())
    }
}

fn resources() -> Resources {
    let (chain, key, _) = pems("edge");
    let mesh =
        |name: &str| json!({"discovery_type": "mesh", "service_name": name, "type": "roundrobin"});
    let all = [
        ("/apisix/upstreams/v1", mesh("greeter.demo:80")),
        ("/apisix/upstreams/v2", mesh("greeter.demo:80")),
        (
            "/apisix/upstreams/grpc",
            json!({"scheme": "grpc", "type": "chash", "key": "remote_addr",
            "nodes": [{"host": "example.test", "port": 50051, "weight": 1}]}),
        ),
        ("/apisix/services/s", json!({"hosts": ["greeter"], "upstream_id": "v1"})),
        (
            "/apisix/services/tcp",
            json!({"hosts": ["db"], "labels": {"weft.dev/ports": "5432"},
            "upstream": {"scheme": "tcp", "discovery_type": "mesh", "service_name": "db.demo:5432", "type": "least_conn"}}),
        ),
        (
            "/apisix/routes/1",
            json!({"uri": "/*", "host": "greeter", "upstream_id": "v1", "plugins": {
            "traffic-split": {"rules": [{"weighted_upstreams": [{"upstream_id": "v2", "weight": 10}, {"weight": 90}]}]},
            "proxy-mirror": {"host": "http://127.0.0.1:9", "sample_ratio": 0.5},
            "proxy-rewrite": {"regex_uri": ["^/a/(.*)", "/b/$1"], "headers": {"set": {"X-A": "1"}, "remove": ["X-B"]}}}}),
        ),
        (
            "/apisix/routes/2",
            json!({"uri": "/old", "methods": ["GET"], "vars": [["http_x", "==", "y"]],
            "plugins": {"redirect": {"http_to_https": true}}}),
        ),
        (
            "/apisix/routes/3",
            json!({"uri": "/g/*", "upstream_id": "grpc", "timeout": {"connect": 1, "send": 2, "read": 3}}),
        ),
        (
            "/apisix/ssls/1",
            json!({"cert": chain, "key": key, "snis": ["example.test", "*.example.test"]}),
        ),
    ];
    let mut resources = Resources::default();
    for (path, value) in all {
        let key = ResourceKey::parse(path).expect("it is a key");
        let change = Change { key, value: Some(value), created: 1, modified: 1 };
        resources.apply(&change).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    resources
}

fn workload(role: Role, kind: &str) -> Workload {
    Workload {
        id: format!("{kind}~10.0.0.9~w.demo~demo.svc.cluster.local"),
        namespace: "demo".into(),
        service_account: "w".into(),
        labels: [("app".to_owned(), "w".to_owned())].into(),
        addresses: vec![WorkloadAddress([10, 0, 0, 9].into())],
        ports: vec![
            WorkloadPort { port: 80, target_port: 8080, protocol: "http".into() },
            WorkloadPort { port: 90, target_port: 9090, protocol: "tcp".into() },
            WorkloadPort { port: 99, target_port: 9999, protocol: String::new() },
        ],
        role,
        connected_since: 0,
        version: String::new(),
    }
}

/// Sends all that a node is sent, in the order of the protocol; nothing may be refused.
fn serve(role: Role, kind: &str) -> Bench {
    let resources = resources();
    let mut translator = Translator::new(Settings::default());
    let addresses: VirtualAddresses = [("db".to_owned(), IpAddr::from([240, 0, 0, 1]))].into();
    translator.update(Inputs {
        resources: &resources,
        registry: &Two,
        addresses: &addresses.into(),
    });
    assert!(translator.problems().is_empty(), "{:?}", translator.problems());
    let sent = translator.node(&NodeProfile::new(&workload(role, kind), true));
    let mut bench = Bench::new(&agent_bootstrap());
    let given = bench.engine.set_agent_certificates(certificates("w"), bench.now);
    given.expect("the certificates are right");
    for kind in [
        ResourceType::Cluster,
        ResourceType::Endpoint,
        ResourceType::Listener,
        ResourceType::Route,
        ResourceType::Secret,
    ] {
        let all = sent.of(kind).resources.iter();
        let bodies = all.map(|(name, one)| (name.to_string(), one.body.clone())).collect();
        let rejections = bench.send_bodies(kind, bodies, &[]);
        assert!(rejections.is_empty(), "{rejections:#?}");
    }
    bench
}

#[test]
fn a_sidecar_serves_all_that_it_is_sent() {
    let bench = serve(Role::Sidecar, "sidecar");
    let readiness = bench.engine.readiness();
    assert!(readiness.ready, "{readiness:?}");
    let snapshot = bench.snapshot();
    for listener in ["virtualInbound", "virtualOutbound", "0.0.0.0_80"] {
        assert!(snapshot.listeners.contains_key(listener), "{listener}");
    }
    assert_eq!(bench.engine.next_deadline(), None, "nothing waits");
}

#[test]
fn an_edge_serves_all_that_it_is_sent() {
    let bench = serve(Role::Edge, "router");
    let readiness = bench.engine.readiness();
    assert!(readiness.ready, "{readiness:?}");
    assert_eq!(bench.snapshot().listeners.len(), 2);
    assert_eq!(bench.engine.next_deadline(), None, "nothing waits");
}

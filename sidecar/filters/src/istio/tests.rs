use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Request};
use serde_json::json;
use weft_filter_api::Protocol;
use weft_telemetry::{ClusterFacts, MeshService, Metric, StatsQuery, prometheus_text};
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::{Message, TypedStruct};

use super::*;
use crate::testing::{Fixture, connection, stream};

const NODE: &str = "{ id: me, metadata: { NAMESPACE: shop, WORKLOAD_NAME: cart-v1, CLUSTER_ID: c1,
    LABELS: { app: cart, version: v1, service.istio.io/canonical-name: cart,
    service.istio.io/canonical-revision: v1 } } }";

fn fixture(direction: weft_model::TrafficDirection) -> Fixture {
    let node: Node = weft_xds_proto::from_yaml(NODE).expect("it is a node");
    Fixture { node, direction, ..Fixture::default() }
}

fn stats(fixture: &Fixture, fields: &serde_json::Value) -> Stats {
    let fields = fields.as_object().expect("it is an object");
    let any = TypedStruct::pack("type.googleapis.com/stats.PluginConfig", fields);
    config::compile(&any, &fixture.cx()).expect("it compiles")
}

fn peer_header() -> String {
    let node: Node = weft_xds_proto::from_yaml(&NODE.replace("cart", "front")).expect("a node");
    BASE64_STANDARD.encode(node.metadata.unwrap_or_default().encode_to_vec())
}

#[derive(Debug)]
struct Clusters;

impl ClusterFacts for Clusters {
    fn service(&self, cluster: &str) -> Option<Arc<MeshService>> {
        let text = str::to_owned;
        (cluster == "outbound|80||cart.shop.svc").then(|| {
            let (host, name) = (text("cart.shop.svc"), text("cart"));
            Arc::new(MeshService { host, name, namespace: text("shop") })
        })
    }

    fn workload(&self, _: &str, address: SocketAddr) -> Option<Arc<str>> {
        (address.port() == 8080).then(|| "cart-v2;shop;cart;v2;c2".into())
    }
}

/// Counts one request and shows what there is.
fn shown(fixture: &Fixture, stats: &Stats, record: LogRecord<'_>, peers: Peers<'_>) -> String {
    stats.count_request(&LogRecord { clusters: Some(&Clusters), ..record }, peers);
    prometheus_text(&fixture.registry.all(), &StatsQuery::default())
}

#[test]
fn a_server_names_its_callers() {
    let fixture = fixture(weft_model::TrafficDirection::Inbound);
    let stats = stats(&fixture, &json!({"disable_host_header_fallback": true}));
    let mut cx = stream(Protocol::Http11);
    cx.cluster = Some("inbound|8080||".into());
    let head = Request::get("http://odd/x").body(()).expect("it is a request").into_parts().0;
    let header = peer_header();
    let sans = ["spiffe://td/ns/web/sa/front".to_owned()];
    let own = ["spiffe://td/ns/shop/sa/cart".to_owned()];
    let record = LogRecord {
        status: 200,
        peer_uri_sans: &sans,
        local_uri_sans: &own,
        bytes_sent: 7,
        ..cx.record(Some(&head))
    };
    let peers = Peers { client: Some(header.as_bytes()), upstream: None };
    let text = shown(&fixture, &stats, record, peers);
    let line = "istio_requests_total{reporter=\"destination\",source_workload=\"front-v1\",\
        source_canonical_service=\"front\",source_canonical_revision=\"v1\",\
        source_workload_namespace=\"web\",source_principal=\"spiffe://td/ns/web/sa/front\",\
        source_app=\"front\",source_version=\"v1\",source_cluster=\"c1\",\
        destination_workload=\"cart-v1\",destination_workload_namespace=\"shop\",\
        destination_principal=\"spiffe://td/ns/shop/sa/cart\",destination_app=\"cart\",\
        destination_version=\"v1\",destination_service=\"cart\",\
        destination_canonical_service=\"cart\",destination_canonical_revision=\"v1\",\
        destination_service_name=\"cart\",destination_service_namespace=\"shop\",\
        destination_cluster=\"c1\",request_protocol=\"http\",response_code=\"200\",\
        grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 1";
    assert!(text.lines().any(|shown| shown == line), "{text}");
    assert!(text.contains("istio_response_bytes_sum{reporter=\"destination\""));
    assert!(text.contains("istio_request_duration_milliseconds_bucket{"));
}

#[test]
fn a_client_falls_back_to_what_the_control_plane_says() {
    let fixture = fixture(weft_model::TrafficDirection::Outbound);
    let stats = stats(&fixture, &json!({}));
    let mut cx = stream(Protocol::Http2);
    cx.cluster = Some("outbound|80||cart.shop.svc".into());
    cx.upstream_host = Some(SocketAddr::from(([10, 0, 0, 1], 8080)));
    let request = Request::post("http://cart/a.B/C").header("content-type", "application/grpc");
    let head = request.body(()).expect("it is a request").into_parts().0;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("5"));
    let record = LogRecord {
        status: 200,
        response_trailers: Some(&trailers),
        messages: Some((1, 4)),
        ..cx.record(Some(&head))
    };
    let text = shown(&fixture, &stats, record, Peers::default());
    for part in [
        "reporter=\"source\",source_workload=\"cart-v1\"",
        "destination_workload=\"cart-v2\",destination_workload_namespace=\"shop\"",
        "destination_service=\"cart.shop.svc\",destination_canonical_service=\"cart\"",
        "destination_service_name=\"cart\",destination_service_namespace=\"shop\",destination_cluster=\"c2\"",
        "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"5\"",
        "connection_security_policy=\"unknown\"",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let messages = text.lines().find(|line| line.starts_with("istio_response_messages_total{"));
    let messages = messages.expect("messages are counted");
    assert!(messages.ends_with("destination_cluster=\"c2\"} 4"), "{messages}");
}

#[test]
fn special_clusters_and_routes_stand_for_themselves() {
    let fixture = fixture(weft_model::TrafficDirection::Outbound);
    let stats = stats(&fixture, &json!({}));
    let head = Request::get("http://x.test/").body(()).expect("it is a request").into_parts().0;
    for (cluster, route, name) in [
        (Some("PassthroughCluster"), None, "PassthroughCluster"),
        (None, Some("block_all"), "BlackHoleCluster"),
        (None, None, "x.test"),
    ] {
        let mut cx = stream(Protocol::Http11);
        cx.cluster = cluster.map(Arc::from);
        cx.route_name = route.map(Arc::from);
        let text = shown(&fixture, &stats, cx.record(Some(&head)), Peers::default());
        let part = format!("destination_service_name=\"{name}\"");
        assert!(text.contains(&part), "{part} is missing in\n{text}");
    }
}

#[test]
fn labels_are_removed_added_and_metrics_dropped() {
    let fixture = fixture(weft_model::TrafficDirection::Inbound);
    let stats = stats(
        &fixture,
        &json!({"metrics": [
            {"tags_to_remove": ["source_principal", "response_flags"]},
            {"name": "requests_total", "dimensions": {
                "request_host": "request.host",
                "destination_app": "request.headers['x-app']",
                "odd": "request.host + 'x'",
            }},
            {"name": "request_bytes", "drop": true},
        ]}),
    );
    let cx = stream(Protocol::Http11);
    let head = Request::get("http://h.test/").header("x-app", "mine");
    let head = head.body(()).expect("it is a request").into_parts().0;
    let text = shown(&fixture, &stats, cx.record(Some(&head)), Peers::default());
    let line = text.lines().find(|line| line.starts_with("istio_requests_total{"));
    let line = line.expect("requests are counted");
    assert!(line.contains("request_host=\"h.test\"}"), "{line}");
    assert!(line.contains("destination_app=\"mine\""), "{line}");
    for part in ["source_principal", "response_flags", "odd="] {
        assert!(!line.contains(part), "{part} stands in {line}");
    }
    assert!(!text.contains("istio_request_bytes"));
}

#[test]
fn a_connection_is_counted_while_it_lasts_and_when_it_ends() {
    let fixture = fixture(weft_model::TrafficDirection::Inbound);
    let stats = stats(&fixture, &json!({}));
    let facts = connection();
    let parts = [
        Carriage { opened: true, received: 3, ..Carriage::default() },
        Carriage { closed: true, received: 4, sent: 9, ..Carriage::default() },
    ];
    for part in parts {
        stats.count_connection(&facts.record(), Peers::default(), &part);
    }
    let all = fixture.registry.all().into_iter();
    let counts: Vec<_> = all
        .map(|(name, metric)| match metric {
            Metric::Counter(counter) => (name.suffix, counter.value()),
            other => panic!("not a counter: {other:?}"),
        })
        .collect();
    let expected = [
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_received_bytes_total", 7),
        ("istio_tcp_sent_bytes_total", 9),
    ];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn series_out_of_use_are_forgotten() {
    let fixture = fixture(weft_model::TrafficDirection::Inbound);
    let stats = stats(&fixture, &json!({"rotation_interval": "60s"}));
    let cx = stream(Protocol::Http11);
    let record = LogRecord { status: 404, ..cx.record(None) };
    stats.count_request(&record, Peers::default());
    let mut known = stats.http[shard()].lock();
    assert!(!fixture.registry.all().is_empty());
    known.sweep(&stats, stats.now() + 59);
    assert!(!fixture.registry.all().is_empty());
    known.sweep(&stats, stats.now() + 61);
    assert!(fixture.registry.all().is_empty());
}

#[test]
fn the_message_is_read_as_istiod_sends_it() {
    let message = weft_xds_proto::istio::PluginConfig {
        disable_host_header_fallback: true,
        reporter: 1,
        ..Default::default()
    };
    let type_url = "type.googleapis.com/stats.PluginConfig".to_owned();
    let any = weft_xds_proto::Any { type_url, value: message.encode_to_vec() };
    let stats = config::compile(&any, &Fixture::default().cx()).expect("it compiles");
    assert_eq!((stats.reporter, stats.no_host_fallback), (Reporter::Gateway, true));
}

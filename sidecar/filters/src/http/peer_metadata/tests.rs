use http::{Request, Response};
use serde_json::json;
use weft_filter_api::Protocol;
use weft_xds_proto::TypedStruct;
use weft_xds_proto::pb::envoy::config::core::v3::Node;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

fn filter(fields: &serde_json::Value) -> std::sync::Arc<dyn HttpFilter> {
    let fields = fields.as_object().expect("it is an object");
    let any = TypedStruct::pack("type.googleapis.com/io.istio.http.peer_metadata.Config", fields);
    let node: Node = weft_xds_proto::from_yaml(
        "{ id: me, metadata: { NAME: pod-1, LABELS: { app: a, other: b } } }",
    )
    .expect("it is a node");
    let fixture = Fixture { node, ..Fixture::default() };
    match config::compile(&any, &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => filter,
        other => panic!("not a filter: {other:?}"),
    }
}

#[test]
fn inbound_strips_the_callers_headers_and_answers_in_kind() {
    let inbound = filter(&json!({
        "downstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        "downstream_propagation": [{"istio_headers": {}}],
    }));
    let request = Request::builder()
        .header("x-envoy-peer-metadata", "abc")
        .header("x-envoy-peer-metadata-id", "them");
    let mut head = request.body(()).expect("it is a request").into_parts().0;
    let mut cx = stream(Protocol::Http11);
    assert!(matches!(inbound.request(&mut cx, &mut head, None), Flow::Continue));
    assert!(head.headers.is_empty());
    let mut response = Response::new(()).into_parts().0;
    inbound.response(&mut cx, &mut response, None);
    assert_eq!(response.headers["x-envoy-peer-metadata-id"], "me");

    let mut response = Response::new(()).into_parts().0;
    inbound.response(&mut stream(Protocol::Http11), &mut response, None);
    assert!(response.headers.is_empty(), "a caller that told nothing is told nothing");
}

#[test]
fn outbound_tells_the_mesh_and_nobody_else() {
    let outbound = filter(&json!({
        "upstream_discovery": [{"istio_headers": {}}],
        "upstream_propagation": [{"istio_headers": {"skip_external_clusters": true}}],
    }));
    for (cluster, told) in [("outbound|80||a", true), ("PassthroughCluster", false)] {
        let mut cx = stream(Protocol::Http11);
        cx.cluster = Some(cluster.into());
        let mut head = Request::new(()).into_parts().0;
        assert!(matches!(outbound.request(&mut cx, &mut head, None), Flow::Continue));
        assert_eq!(head.headers.contains_key("x-envoy-peer-metadata"), told, "{cluster}");
    }
    let response = Response::builder().header("x-envoy-peer-metadata", "abc").body(());
    let mut response = response.expect("it is a response").into_parts().0;
    outbound.response(&mut stream(Protocol::Http11), &mut response, None);
    assert!(response.headers.is_empty());
}

use http::{HeaderMap, HeaderValue, Request};
use weft_filter_api::Protocol;
use weft_xds_proto::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

fn filter(yaml: &str, fixture: &Fixture) -> Arc<dyn HttpFilter> {
    let config: FilterConfig = weft_xds_proto::from_yaml(yaml).expect("it is a configuration");
    match config::compile(&weft_xds_proto::pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => filter,
        other => panic!("not a filter: {other:?}"),
    }
}

/// Counts one call of `/a.B/C` with this status and gives all counters.
fn counted(yaml: &str, status: &'static str) -> Vec<(String, u64)> {
    let fixture = Fixture::default();
    let filter = filter(yaml, &fixture);
    let mut cx = stream(Protocol::Http2);
    cx.cluster = Some("up".into());
    let request = Request::post("http://up/a.B/C").header("content-type", "application/grpc");
    let head = request.body(()).expect("it is a request").into_parts().0;
    let trailers: HeaderMap =
        [(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]
            .into_iter()
            .collect();
    let record = LogRecord {
        response_trailers: Some(&trailers),
        messages: Some((2, 3)),
        ..cx.record(Some(&head))
    };
    filter.finished(&cx, &record, None);
    fixture.counters()
}

#[test]
fn calls_are_counted_together_unless_methods_are_asked_for() {
    let expected = ["0", "request_message_count", "response_message_count", "success", "total"];
    let expected = expected.map(|name| format!("cluster.up.grpc.{name}"));
    let all = counted("{emit_filter_state: true}", "0");
    assert_eq!(all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(all.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 1, 1]);
}

#[test]
fn methods_are_counted_by_themselves_where_they_are_asked_for() {
    let listed =
        "{individual_method_stats_allowlist: {services: [{name: a.B, method_names: [C]}]}}";
    for (yaml, service) in [
        ("{stats_for_all_methods: true}", "a.B"),
        (listed, "a.B"),
        ("{stats_for_all_methods: true, replace_dots_in_grpc_service_name: true}", "a_B"),
    ] {
        let all = counted(yaml, "13");
        let wanted = (format!("cluster.up.grpc.{service}.C.failure"), 1);
        assert!(all.contains(&wanted), "{yaml}: {all:?}");
    }
    let other = "{individual_method_stats_allowlist: {services: [{name: a.B, method_names: [D]}]}}";
    assert!(counted(other, "0").contains(&("cluster.up.grpc.success".to_owned(), 1)));
}

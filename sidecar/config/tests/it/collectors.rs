//! Access logs and traces for collectors: what a batch holds, and what is refused.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use weft_model::{HttpConnectionManager, Terminal};
use weft_telemetry::{Annotations, Batch, LogRecord, ResponseFlag, ResponseFlags, pending_batches};
use weft_xds_client::ResourceType::Listener;
use weft_xds_proto::Message;
use weft_xds_proto::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use weft_xds_proto::pb::envoy::service::accesslog::v3::{
    StreamAccessLogsMessage, stream_access_logs_message::LogEntries,
};

use crate::support::Bench;

/// A listener whose connection manager has these fields besides the usual ones.
fn listener(fields: &str) -> String {
    format!(
        "
name: edge
address: {{ socket_address: {{ address: 127.0.0.1, port_value: 80 }} }}
filter_chains:
- filters:
  - name: hcm
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: edge
      route_config: {{ virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, direct_response: {{ status: 200 }} }}] }}] }}
      http_filters: [{{ name: router, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}]
{fields}"
    )
}

fn with_manager<T>(fields: &str, look: impl FnOnce(&HttpConnectionManager) -> T) -> T {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&listener(fields)]);
    let snapshot = bench.snapshot();
    let chains = &snapshot.listeners["edge"].chains;
    let Terminal::Http(manager) = &chains.iter().next().expect("there is a chain").terminal else {
        panic!("it speaks HTTP")
    };
    look(manager)
}

/// The batch for a cluster. A test's thread shares its records with few others.
fn batch_for(cluster: &str) -> Batch {
    let found = pending_batches(None).into_iter().find(|batch| batch.cluster == cluster);
    found.expect("there is a batch")
}

fn refusal(fields: &str) -> String {
    let rejections = Bench::dynamic().send(Listener, &[&listener(fields)]);
    rejections.first().map(|one| format!("{}: {}", one.field, one.reason)).unwrap_or_default()
}

fn record<'a>(headers: &'a HeaderMap, annotations: &'a Annotations) -> LogRecord<'a> {
    let address = |text: &str| text.parse().expect("an address");
    let mut flags = ResponseFlags::NONE;
    flags.set(ResponseFlag::UpstreamConnectionFailure);
    LogRecord {
        duration: Some(Duration::from_millis(1500)),
        protocol: Some("HTTP/2"),
        method: Some("POST"),
        authority: Some("shop"),
        path: Some("/new"),
        original_path: Some("/old"),
        request_headers: Some(headers),
        status: 503,
        flags,
        details: "because",
        bytes_received: 300,
        upstream_host: Some(address("10.0.0.2:8080")),
        upstream_cluster: Some("shop-v1"),
        tls_version: Some("TLSv1.3"),
        trace: Some((7, 8)),
        annotations: [Some(annotations), None],
        ..LogRecord::new(
            UNIX_EPOCH + Duration::from_secs(9),
            address("[::1]:5"),
            address("1.2.3.4:80"),
        )
    }
}

#[test]
fn an_entry_of_http_says_what_envoys_says() {
    let logs = "
      access_log:
      - name: als
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
          common_config:
            log_name: mine
            transport_api_version: V3
            grpc_service: { envoy_grpc: { cluster_name: als-collector }, timeout: 3s }
            filter_state_objects_to_log: [peer]
            custom_tags: [{ tag: who, request_header: { name: x-a } }]
          additional_request_headers_to_log: [X-A]
";
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("1"));
    headers.insert("user-agent", HeaderValue::from_static("curl"));
    let mut annotations = Annotations::default();
    annotations.set("jwt", "claims", serde_json::json!({"n": 1.5, "all": [true, null, "x"]}));
    annotations.set_state("peer", serde_json::json!({"name": "front"}));
    let batch = with_manager(logs, |manager| {
        manager.access_logs[0].log(&record(&headers, &annotations));
        manager.access_logs[0].log(&record(&headers, &annotations));
        batch_for("als-collector")
    });
    assert_eq!(
        batch.request.uri(),
        "http://als-collector/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
    );
    assert_eq!((batch.timeout, batch.grpc), (Duration::from_secs(3), true));
    let message = StreamAccessLogsMessage::decode(&batch.request.body()[5..]).expect("a message");
    let identifier = message.identifier.expect("it says whose it is");
    assert_eq!(identifier.log_name, "mine");
    assert_eq!(identifier.node.expect("a node").id, "test");
    let Some(LogEntries::HttpLogs(logs)) = message.log_entries else { panic!("not of HTTP") };
    assert_eq!(logs.log_entry.len(), 2);
    check_entry(&logs.log_entry[1]);
    batch.done(true);
}

fn check_entry(entry: &HttpAccessLogEntry) {
    let common = entry.common_properties.as_ref().expect("common properties");
    assert_eq!(common.start_time.map(|time| time.seconds), Some(9));
    assert_eq!(common.duration.map(|time| (time.seconds, time.nanos)), Some((1, 500_000_000)));
    assert_eq!(
        (common.upstream_cluster.as_str(), common.custom_tags["who"].as_str()),
        ("shop-v1", "1")
    );
    assert!(common.response_flags.expect("flags").upstream_connection_failure);
    assert_eq!(common.tls_properties.as_ref().expect("TLS").tls_version, 4);
    let peer = &common.filter_state_objects["peer"];
    assert_eq!(peer.type_url, "type.googleapis.com/google.protobuf.Struct");
    let metadata = &common.metadata.as_ref().expect("metadata").filter_metadata["jwt"];
    let metadata = serde_json::Value::Object(weft_xds_proto::struct_to_json(metadata));
    assert_eq!(metadata, serde_json::json!({"claims": {"n": 1.5, "all": [true, null, "x"]}}));
    let request = entry.request.as_ref().expect("a request");
    assert_eq!((request.request_method, request.path.as_str()), (3, "/new"));
    assert_eq!((request.original_path.as_str(), request.user_agent.as_str()), ("/old", "curl"));
    assert_eq!((request.request_body_bytes, &*request.request_headers["x-a"]), (300, "1"));
    let response = entry.response.as_ref().expect("a response");
    assert_eq!(response.response_code.map(|code| code.value), Some(503));
    assert_eq!((entry.protocol_version, &*response.response_code_details), (3, "because"));
}

#[test]
fn a_record_of_open_telemetry_carries_formats_and_the_span() {
    let logs = "
      access_log:
      - name: otel
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig
          log_name: mine
          http_service: { http_uri: { uri: 'http://logs/v1/logs', cluster: otel-logs, timeout: 1s } }
          body: { string_value: '%REQ(:METHOD)% %TRACE_ID%' }
          attributes: { values: [{ key: code, value: { string_value: '%RESPONSE_CODE%' } }] }
";
    let (headers, annotations) = (HeaderMap::new(), Annotations::default());
    let batch = with_manager(logs, |manager| {
        manager.access_logs[0].log(&record(&headers, &annotations));
        batch_for("otel-logs")
    });
    assert_eq!((batch.request.uri().path(), batch.grpc), ("/v1/logs", false));
    assert_eq!(batch.request.headers()["content-type"], "application/x-protobuf");
    let body = String::from_utf8_lossy(batch.request.body()).into_owned();
    for part in ["log_name", "mine", "POST 00000000000000000000000000000007", "code", "503"] {
        assert!(body.contains(part), "{part} is missing in {body:?}");
    }
    batch.done(true);
}

#[test]
fn tracing_is_compiled_with_its_sampling_and_tags() {
    let tracing = "
      tracing:
        random_sampling: { value: 12.5 }
        max_path_tag_length: 7
        custom_tags: [{ tag: a, literal: { value: b } }]
        provider:
          name: envoy.tracers.zipkin
          typed_config:
            '@type': type.googleapis.com/envoy.config.trace.v3.ZipkinConfig
            collector_cluster: zipkin
            collector_endpoint: /api/v2/spans
            collector_endpoint_version: HTTP_JSON
";
    with_manager(tracing, |manager| {
        let tracing = manager.tracing.as_ref().expect("it traces");
        assert!(tracing.tracer.is_some());
        let random = tracing.sampling.random;
        assert_eq!((random.part, random.of, tracing.max_path), (1250, 10_000, 7));
        assert_eq!(tracing.tags[0].tag, "a");
    });
}

#[test]
fn what_can_not_be_sent_is_refused_by_its_field() {
    let provider = |config: &str| {
        format!(
            "
      tracing: {{ provider: {{ name: t, typed_config: {{ '@type': type.googleapis.com/envoy.config.trace.v3.{config} }} }} }}
"
        )
    };
    for (fields, expected) in [
        (provider("ZipkinConfig, collector_cluster: a, collector_endpoint: /"), "collector_endpoint_version: only HTTP_JSON"),
        (provider("OpenTelemetryConfig, http_service: { http_uri: { uri: /x } }"), "http_service.http_uri.uri"),
        (
            "
      tracing: { custom_tags: [{ tag: a, metadata: { kind: { route: {} } } }] }
".to_owned(),
            "tracing.custom_tags[0].metadata.kind",
        ),
        (
            "
      access_log: [{ name: a, typed_config: { '@type': type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig, common_config: { log_name: a } } }]
".to_owned(),
            "common_config.grpc_service: is required",
        ),
    ] {
        let refusal = refusal(&fields);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

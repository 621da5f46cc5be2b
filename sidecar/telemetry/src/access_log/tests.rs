use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::{Annotations, ResponseFlag, ResponseFlags};

fn record<'a>(request: &'a HeaderMap, response: &'a HeaderMap) -> LogRecord<'a> {
    let address = |text: &str| text.parse().expect("an address");
    let mut flags = ResponseFlags::NONE;
    flags.set(ResponseFlag::UpstreamConnectionFailure);
    LogRecord {
        started_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        duration: Some(Duration::from_millis(7)),
        until_response: None,
        protocol: Some("HTTP/1.1"),
        method: Some("GET"),
        scheme: Some("http"),
        authority: Some("greeter"),
        path: Some("/new?x=1"),
        original_path: Some("/old?x=1"),
        request_headers: Some(request),
        response_headers: Some(response),
        response_trailers: None,
        status: 503,
        flags,
        details: "upstream reset: x",
        termination_details: None,
        transport_failure: None,
        bytes_received: 3,
        bytes_sent: 91,
        upstream_host: Some(address("10.0.0.2:80")),
        upstream_cluster: Some("greeter"),
        upstream_local: None,
        downstream_local: address("10.0.0.1:80"),
        downstream_remote: address("[::1]:5"),
        downstream_direct_remote: address("[::1]:5"),
        server_name: None,
        route_name: None,
        peer_uri_sans: &[],
        peer_subject: None,
        local_uri_sans: &[],
        attempts: 2,
        connection_id: 4,
        ..LogRecord::new(UNIX_EPOCH, address("[::1]:5"), address("10.0.0.1:80"))
    }
}

fn request() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("curl/8"));
    headers
}

fn text(format: &str) -> String {
    let (request, response) = (request(), HeaderMap::new());
    let mut line = Vec::new();
    TextFormat::parse(format).expect("a format").write(&record(&request, &response), &mut line);
    String::from_utf8(line).expect("UTF-8")
}

#[test]
fn the_default_format_is_envoys() {
    assert_eq!(
        text(DEFAULT_FORMAT),
        "[2023-11-14T22:13:20.123Z] \"GET /old?x=1 HTTP/1.1\" 503 UF 3 91 7 - \"-\" \"curl/8\" \"-\" \
         \"greeter\" \"10.0.0.2:80\"\n"
    );
}

#[test]
fn operators_take_alternatives_lengths_and_time_formats() {
    assert_eq!(text("%REQ(X-A?USER-AGENT):4%|%REQ(X-A?X-B)%"), "curl|-");
    assert_eq!(
        text("%START_TIME(%Y/%m/%dT%H:%M:%S.%6f %s)%"),
        "2023/11/14T22:13:20.123000 1700000000"
    );
    assert_eq!(
        text("100%% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_REMOTE_PORT%"),
        "100% upstream_reset:_x 5"
    );
}

#[test]
fn wrong_formats_name_the_place() {
    let error = |format| TextFormat::parse(format).expect_err("an error").to_string();
    assert_eq!(error("a %NOPE% b"), "at byte 2: unknown operator %NOPE%");
    assert_eq!(
        error("50% of"),
        "at byte 2: `%` without a closing `%`; write `%%` for a percent sign"
    );
    assert_eq!(error("%REQ%"), "at byte 0: %REQ%: a header name in parentheses is missing");
}

#[test]
fn json_keeps_numbers_and_nulls() {
    let template = serde_json::json!({
        "code": "%RESPONSE_CODE%", "line": "%REQ(:METHOD)% %PROTOCOL%", "route": "%ROUTE_NAME%",
        "deep": {"from": "%DOWNSTREAM_REMOTE_ADDRESS%"}
    });
    let template = template.as_object().expect("a map");
    let (request, response) = (request(), HeaderMap::new());
    let write = |omit_empty| {
        let mut line = Vec::new();
        let format = JsonFormat::compile(template, omit_empty).expect("a template");
        format.write(&record(&request, &response), &mut line);
        serde_json::from_slice::<serde_json::Value>(&line).expect("JSON")
    };
    let all = serde_json::json!({
        "code": 503, "line": "GET HTTP/1.1", "route": null, "deep": {"from": "[::1]:5"}
    });
    assert_eq!(write(false), all);
    assert_eq!(write(true).get("route"), None);
}

#[test]
fn lines_reach_the_file_and_filters_hold_them_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let sink = LogSink::file(&path).expect("a file");
    let log = |filter| {
        AccessLog::text("%RESPONSE_CODE%\n", Arc::clone(&sink), Some(filter)).expect("a log")
    };
    let (request, response) = (request(), HeaderMap::new());
    let record = record(&request, &response);
    log(LogFilter::Status(Comparison::AtLeast, 500)).log(&record);
    log(LogFilter::Status(Comparison::AtMost, 499)).log(&record);
    log(LogFilter::Flags(vec![ResponseFlag::NoRouteFound])).log(&record);
    log(LogFilter::Any(vec![LogFilter::Duration(Comparison::Equal, 7), LogFilter::NotHealthCheck]))
        .log(&record);
    flush_logs();
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "503\n503\n");
    std::fs::rename(&path, folder.path().join("old.log")).expect("moved");
    reopen_logs().expect("opened anew");
    log(LogFilter::NotHealthCheck).log(&record);
    flush_logs();
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "503\n");
}

#[test]
fn annotations_are_printed_by_path() {
    let (request, response) = (request(), HeaderMap::new());
    let mut annotations = Annotations::default();
    annotations.set("jwt", "payload", serde_json::json!({ "sub": "ann", "n": 5 }));
    annotations.set_state("peer", serde_json::json!({ "name": "shop" }));
    annotations.set_state("key", "text");
    let record =
        LogRecord { annotations: [Some(&annotations), None], ..record(&request, &response) };
    let print = |format: &str| {
        let mut line = Vec::new();
        TextFormat::parse(format).expect("a format").write(&record, &mut line);
        String::from_utf8(line).expect("UTF-8")
    };
    assert_eq!(
        print("%DYNAMIC_METADATA(jwt:payload:sub):2% %DYNAMIC_METADATA(jwt:payload:n)%"),
        "an 5"
    );
    assert_eq!(print("%DYNAMIC_METADATA(jwt)%"), r#"{"payload":{"n":5,"sub":"ann"}}"#);
    assert_eq!(print("%DYNAMIC_METADATA(jwt:no)% %FILTER_STATE(no)%"), "- -");
    assert_eq!(print("%FILTER_STATE(key)% %FILTER_STATE(key:PLAIN)%"), "\"text\" text");
    assert_eq!(print("%FILTER_STATE(peer:FIELD:name)%"), "shop");
}

#[test]
fn a_grpc_status_is_printed_in_three_forms() {
    let mut request = HeaderMap::new();
    request.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("1"));
    let none = HeaderMap::new();
    let print = |record: &LogRecord<'_>| {
        let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%";
        let mut line = Vec::new();
        TextFormat::parse(format).expect("a format").write(record, &mut line);
        String::from_utf8(line).expect("UTF-8")
    };
    let of_call = record(&request, &none);
    let told = LogRecord { response_trailers: Some(&trailers), ..of_call };
    assert_eq!(print(&told), "Canceled CANCELLED 1");
    assert_eq!(print(&of_call), "Unavailable UNAVAILABLE 14");
    assert_eq!(print(&record(&none, &none)), "- - -");
}

#[test]
fn a_path_is_printed_with_or_without_what_was_asked_for() {
    assert_eq!(
        text("%PATH% %PATH(NQ)% %PATH(WQ:PATH)% %PATH(NQ:ORIG)% %PATH(:ORIG):2%"),
        "/old?x=1 /old /new?x=1 /old /o"
    );
    assert_eq!(text("%ACCESS_LOG_TYPE% %TRACE_ID% %STREAM_ID%"), "DownstreamEnd - -");
    let error = TextFormat::parse("%METADATA(ROUTE:a)%").expect_err("an error").to_string();
    assert!(error.contains("only the type DYNAMIC"), "{error}");
}

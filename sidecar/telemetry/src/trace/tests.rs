use http::HeaderName;

use super::*;
use crate::export::{ExportStats, ExportTarget};
use crate::{Envelope, LogRecord, Registry};

fn tracer(format: Format) -> Tracer {
    let stats = ExportStats::new(&Registry::new(), "tracing", ["sent", "dropped"]);
    let target = ExportTarget {
        cluster: "collector".to_owned(),
        head: http::Request::new(()),
        envelope: Envelope::JsonList,
        timeout: Duration::from_secs(1),
        batch: 1 << 16,
        flush: Duration::from_secs(5),
    };
    Tracer::new(format, Exporter::new(target, stats), ["node".to_owned(), String::new()])
}

fn zipkin(shared: bool, w3c: bool) -> Tracer {
    let service = "shop".to_owned();
    tracer(Format::Zipkin { service, long_ids: true, shared, w3c })
}

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let header = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    all.iter().map(header).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[test]
fn a_w3c_context_goes_on_with_a_span_of_its_own() {
    let tracer = tracer(Format::OpenTelemetry);
    let mut headers = headers(&[
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1,b=2"),
    ]);
    let context = tracer.begin(&headers, false, SpanKind::Server).unwrap();
    assert!(context.sampled, "the caller has decided");
    assert_eq!(context.parent, Some(0xb7ad_6b71_6920_3331));
    tracer.inject(&context, &mut headers);
    let value = headers["traceparent"].to_str().unwrap();
    assert_eq!(value, format!("00-{TRACE}-{:016x}-01", context.span));
    assert_ne!(context.span, 0xb7ad_6b71_6920_3331);
    assert_eq!(headers["tracestate"], "a=1,b=2");
}

#[test]
fn a_malformed_traceparent_has_no_span() {
    let tracer = tracer(Format::OpenTelemetry);
    for value in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "nonsense",
    ] {
        let context = tracer.begin(&headers(&[("traceparent", value)]), true, SpanKind::Server);
        assert_eq!(context, None, "{value}");
    }
}

#[test]
fn b3_is_read_and_written_in_the_form_in_which_it_came() {
    let single = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-00000000000000aa";
    let multi = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")];
    let tracer = zipkin(false, false);
    let mut in_several = headers(&multi);
    let context = tracer.begin(&in_several, false, SpanKind::Server).unwrap();
    tracer.inject(&context, &mut in_several);
    assert_eq!(in_several["x-b3-traceid"], TRACE);
    assert_eq!(in_several["x-b3-parentspanid"], SPAN);
    assert_eq!(in_several["x-b3-sampled"], "1");
    let mut in_one = headers(&[("b3", single)]);
    let context = tracer.begin(&in_one, false, SpanKind::Server).unwrap();
    tracer.inject(&context, &mut in_one);
    assert_eq!(in_one["b3"], format!("{TRACE}-{:016x}-1-{SPAN}", context.span));
    assert!(!in_one.contains_key("x-b3-traceid"));
}

#[test]
fn the_caller_may_decide_without_a_context() {
    for (all, decision, sampled) in [
        (headers(&[("x-b3-sampled", "0")]), true, false),
        (headers(&[("b3", "0")]), true, false),
        (headers(&[("x-b3-flags", "1")]), false, true),
        (headers(&[]), true, true),
        (headers(&[]), false, false),
    ] {
        let context = zipkin(false, false).begin(&all, decision, SpanKind::Server).unwrap();
        assert_eq!((context.sampled, context.parent), (sampled, None), "{all:?}");
        assert_eq!(context.trace as u64, context.span, "the first span is called as the trace");
    }
}

#[test]
fn a_shared_span_keeps_its_number_on_the_server() {
    let all = headers(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)]);
    let server = zipkin(true, false).begin(&all, false, SpanKind::Server).unwrap();
    assert_eq!((format!("{:016x}", server.span), server.shared), (SPAN.to_owned(), true));
    assert!(!server.sampled, "a caller that does not say leaves it to us");
    let client = zipkin(true, false).begin(&all, false, SpanKind::Client).unwrap();
    assert_eq!((client.parent, client.shared), (Some(server.span), false));
}

#[test]
fn zipkin_may_fall_back_to_w3c() {
    let mut all =
        headers(&[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]);
    let tracer = zipkin(false, true);
    let context = tracer.begin(&all, true, SpanKind::Server).unwrap();
    assert!(!context.sampled);
    tracer.inject(&context, &mut all);
    assert_eq!(all["x-b3-traceid"], TRACE);
    assert!(all["traceparent"].to_str().unwrap().starts_with(&format!("00-{TRACE}-")));
}

#[test]
fn the_request_id_carries_the_decision() {
    let mut all = headers(&[("x-request-id", "0000ffff-0000-4000-8000-000000000000")]);
    assert_eq!((request_id_number(&all), request_id_reason(&all)), (Some(0xffff), None));
    mark_request_id(&mut all, Some(TraceReason::Service));
    assert_eq!(all["x-request-id"], "0000ffff-0000-a000-8000-000000000000");
    assert_eq!(request_id_reason(&all), Some(TraceReason::Service));
    let odd = headers(&[("x-request-id", "mine")]);
    assert_eq!((request_id_number(&odd), request_id_reason(&odd)), (None, None));
}

#[test]
fn samplings_take_their_part() {
    let half = Sampling { part: 50, of: 100 };
    assert_eq!((half.admits(49), half.admits(50), half.admits(149)), (true, false, true));
    assert!(Sampling::ALL.admits(u64::MAX));
}

#[test]
fn a_zipkin_span_says_what_envoys_says() {
    let tracer = zipkin(false, false);
    let request = headers(&[("user-agent", "curl"), ("x-request-id", "id")]);
    let record = LogRecord {
        method: Some("GET"),
        authority: Some("shop"),
        path: Some("/long/path"),
        status: 503,
        request_headers: Some(&request),
        upstream_cluster: Some("up"),
        ..LogRecord::new(
            SystemTime::UNIX_EPOCH,
            "10.0.0.9:1".parse().unwrap(),
            "10.0.0.1:80".parse().unwrap(),
        )
    };
    let tag = CustomTag {
        tag: "agent".to_owned(),
        source: TagSource::Header(HeaderName::from_static("user-agent"), String::new()),
    };
    let tags = downstream_tags(&tracer, &record, 5, [&tag].into_iter());
    let context = tracer.begin(&HeaderMap::new(), true, SpanKind::Server).unwrap();
    tracer.report(&Span {
        context: &context,
        kind: SpanKind::Server,
        name: "ingress",
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(3),
        duration: Duration::from_millis(2),
        tags: &tags,
        moments: &[],
        local: record.downstream_local,
    });
    let batch = tracer.exporter.take(crate::shard(), None).expect("there is a span");
    let spans: Vec<serde_json::Value> = serde_json::from_slice(batch.request.body()).unwrap();
    let span = &spans[0];
    assert_eq!(span["id"], format!("{:016x}", context.span));
    assert_eq!((&span["timestamp"], &span["duration"]), (&3_000_000.into(), &2000.into()));
    assert_eq!(span["localEndpoint"]["serviceName"], "shop");
    for (tag, value) in [
        ("http.url", "http://shop/long"),
        ("http.status_code", "503"),
        ("error", "true"),
        ("component", "proxy"),
        ("upstream_cluster", "up"),
        ("peer.address", "10.0.0.9"),
        ("guid:x-request-id", "id"),
        ("agent", "curl"),
    ] {
        assert_eq!(span["tags"][tag], value, "{tag}");
    }
}

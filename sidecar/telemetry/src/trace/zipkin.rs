//! Spans in Zipkin's JSON, version 2 (zipkin.io/zipkin-api).

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Span, SpanKind, b3};

/// Appends a span.
pub(super) fn write(span: &Span<'_>, service: &str, out: &mut Vec<u8>) {
    let context = span.context;
    let mut endpoint = json!({"serviceName": service, "port": 0});
    match span.local.ip() {
        IpAddr::V4(ip) => endpoint["ipv4"] = ip.to_string().into(),
        IpAddr::V6(ip) => endpoint["ipv6"] = ip.to_string().into(),
    }
    let mut tags: Map<String, Value> = Map::new();
    for (key, value) in span.tags.iter().filter(|(_, value)| !value.is_empty()) {
        tags.insert(key.clone().into_owned(), value.as_str().into());
    }
    let began = span.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut json = json!({
        "traceId": b3::trace_text(context.trace),
        "id": format!("{:016x}", context.span),
        "kind": if span.kind == SpanKind::Server { "SERVER" } else { "CLIENT" },
        "name": span.name,
        "timestamp": micros(began),
        "duration": micros(span.duration).max(1),
        "localEndpoint": endpoint,
        "tags": tags,
    });
    if let Some(parent) = context.parent {
        json["parentId"] = format!("{parent:016x}").into();
    }
    if context.shared {
        json["shared"] = true.into();
    }
    if !span.moments.is_empty() {
        let moment = |(name, since): &(&str, Duration)| json!({"timestamp": micros(began + *since), "value": name});
        json["annotations"] = span.moments.iter().map(moment).collect();
    }
    // Writing to a vector can't fail.
    drop(write!(out, "{json}"));
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

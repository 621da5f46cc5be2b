//! What a span says of its request: Envoy's tags, and those of the configuration.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::Tracer;
use crate::{LogRecord, TextFormat};

type Tags = Vec<(Cow<'static, str>, String)>;

/// A tag of the configuration (`type.tracing.v3.CustomTag`).
#[derive(Debug)]
pub struct CustomTag {
    /// `tag`
    pub tag: String,
    /// Where its value comes from.
    pub source: TagSource,
}

/// Where the value of a tag comes from.
#[derive(Debug)]
pub enum TagSource {
    /// `literal`, or `environment`, which is read when it is compiled.
    Literal(String),
    /// `request_header`, and its default.
    Header(HeaderName, String),
    /// `metadata` of the request: namespace, path, default.
    Metadata(String, Vec<String>, String),
    /// `value`: a format.
    Format(TextFormat),
}

impl CustomTag {
    /// The value; a tag without one is left out.
    pub(crate) fn value(&self, record: &LogRecord<'_>) -> Option<String> {
        let given = |default: &String| Some(default.clone()).filter(|default| !default.is_empty());
        match &self.source {
            TagSource::Literal(text) => Some(text.clone()),
            TagSource::Header(name, default) => {
                header(record.request_headers, name).map(str::to_owned).or_else(|| given(default))
            }
            TagSource::Metadata(namespace, path, default) => {
                let mut all = record.annotations.into_iter().flatten();
                let value = all.find_map(|all| match path.as_slice() {
                    [] => all.namespace(namespace).cloned().map(serde_json::Value::Object),
                    path => all.find(namespace, path).cloned(),
                });
                let text = value.map(|value| match value {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                });
                text.or_else(|| given(default))
            }
            TagSource::Format(format) => {
                let mut out = Vec::new();
                format.write_value(record, &mut out);
                Some(String::from_utf8_lossy(&out).into_owned()).filter(|text| !text.is_empty())
            }
        }
    }
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &HeaderName) -> Option<&'a str> {
    headers?.get(name)?.to_str().ok()
}

/// The tags of a request's span; of the path, so many bytes are kept.
#[must_use]
pub fn downstream_tags<'t>(
    tracer: &Tracer,
    record: &LogRecord<'_>,
    max_path: usize,
    custom: impl Iterator<Item = &'t CustomTag>,
) -> Tags {
    let of = |name| header(record.request_headers, &HeaderName::from_static(name));
    let mut tags = Tags::new();
    let mut add = |tag: &'static str, value: String| tags.push((Cow::Borrowed(tag), value));
    let [node, zone] = tracer.node();
    add("node_id", node.clone());
    add("zone", zone.clone());
    if record.request_headers.is_some() {
        if let Some(id) = of("x-request-id") {
            add("guid:x-request-id", id.to_owned());
        }
        add("http.url", url(record, max_path));
        add("http.method", record.method.unwrap_or("-").to_owned());
        let cluster = of("x-envoy-downstream-service-cluster");
        add("downstream_cluster", cluster.unwrap_or("-").to_owned());
        add("user_agent", of("user-agent").unwrap_or("-").to_owned());
        add("http.protocol", record.protocol.unwrap_or("-").to_owned());
        add("peer.address", record.downstream_direct_remote.ip().to_string());
        if let Some(id) = of("x-client-trace-id") {
            add("guid:x-client-trace-id", id.to_owned());
        }
        if of("content-type").is_some_and(|kind| kind.starts_with("application/grpc")) {
            grpc_request(record, &mut add);
        }
    }
    add("request_size", record.bytes_received.to_string());
    add("response_size", record.bytes_sent.to_string());
    common(record, &mut add);
    let own = custom.filter_map(|tag| Some((Cow::Owned(tag.tag.clone()), tag.value(record)?)));
    tags.extend(own);
    tags
}

/// The tags of the span of one try (`spawn_upstream_span`).
#[must_use]
pub fn upstream_tags<'t>(
    record: &LogRecord<'_>,
    custom: impl Iterator<Item = &'t CustomTag>,
) -> Tags {
    let mut tags = Tags::new();
    let mut add = |tag: &'static str, value: String| tags.push((Cow::Borrowed(tag), value));
    add("http.protocol", record.protocol.unwrap_or("-").to_owned());
    if let Some(host) = record.upstream_host {
        add("upstream_address", host.to_string());
        add("peer.address", host.to_string());
    }
    common(record, &mut add);
    let own = custom.filter_map(|tag| Some((Cow::Owned(tag.tag.clone()), tag.value(record)?)));
    tags.extend(own);
    tags
}

fn common(record: &LogRecord<'_>, add: &mut impl FnMut(&'static str, String)) {
    add("component", "proxy".to_owned());
    if let Some(cluster) = record.upstream_cluster {
        add("upstream_cluster", cluster.to_owned());
        add("upstream_cluster.name", cluster.to_owned());
    }
    add("http.status_code", record.status.to_string());
    add("response_flags", record.flags.to_string());
    let of = |name: &'static str| {
        let name = HeaderName::from_static(name);
        let trailers = header(record.response_trailers, &name);
        trailers.or_else(|| header(record.response_headers, &name))
    };
    let grpc = of("grpc-status");
    if let Some(status) = grpc {
        add("grpc.status_code", status.to_owned());
        if let Some(message) = of("grpc-message") {
            add("grpc.message", message.to_owned());
        }
    }
    // Codes of gRPC that say that the server failed (Envoy's `isInternalError`s).
    let failed = grpc.is_some_and(|status| ["2", "4", "12", "13", "14", "15"].contains(&status));
    if record.status == 0 || record.status >= 500 || failed {
        add("error", "true".to_owned());
    }
}

fn grpc_request(record: &LogRecord<'_>, add: &mut impl FnMut(&'static str, String)) {
    let of = |name| header(record.request_headers, &HeaderName::from_static(name));
    for (tag, value) in [
        ("grpc.path", record.path),
        ("grpc.authority", record.authority),
        ("grpc.content_type", of("content-type")),
        ("grpc.timeout", of("grpc-timeout")),
    ] {
        if let Some(value) = value {
            add(tag, value.to_owned());
        }
    }
}

fn url(record: &LogRecord<'_>, max_path: usize) -> String {
    let path = record.original_path.or(record.path).unwrap_or_default();
    let mut end = path.len().min(max_path);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    let (scheme, host) = (record.scheme.unwrap_or("http"), record.authority.unwrap_or_default());
    format!("{scheme}://{host}{}", &path[..end])
}

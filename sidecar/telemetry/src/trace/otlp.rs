//! Spans as OpenTelemetry's protocol has them (`opentelemetry.proto.trace.v1`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Span, SpanKind};
use crate::Envelope;
use crate::export::wire;

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`
const PARENT_IS_KNOWN: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`
const PARENT_IS_REMOTE: u32 = 0x200;
/// `Status.STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// What stands around records of `scope_spans` or `scope_logs`: who sends them.
#[must_use]
pub fn otlp_envelope(grpc: bool, resource: &[(String, String)], scope: bool) -> Envelope {
    let mut about = Vec::new();
    wire::message(&mut about, 1, |out| {
        for (key, value) in resource {
            attribute(out, 1, key, value);
        }
    });
    let mut named = Vec::new();
    if scope {
        wire::message(&mut named, 1, |out| {
            wire::text(out, 1, "weft");
            wire::text(out, 2, env!("CARGO_PKG_VERSION"));
        });
    }
    Envelope::Protobuf { grpc, first: Vec::new(), levels: vec![(1, about), (2, named)] }
}

/// Appends a span as the field `spans` of `ScopeSpans`.
pub(super) fn write(span: &Span<'_>, out: &mut Vec<u8>) {
    wire::message(out, 2, |out| {
        let context = span.context;
        wire::bytes(out, 1, &context.trace.to_be_bytes());
        wire::bytes(out, 2, &context.span.to_be_bytes());
        if let Some(state) = &context.state {
            wire::text(out, 3, &String::from_utf8_lossy(state.as_bytes()));
        }
        if let Some(parent) = context.parent {
            wire::bytes(out, 4, &parent.to_be_bytes());
        }
        wire::text(out, 5, span.name);
        wire::number(out, 6, if span.kind == SpanKind::Server { 2 } else { 3 });
        wire::fixed64(out, 7, nanos(span.started));
        wire::fixed64(out, 8, nanos(span.started + span.duration));
        for (key, value) in span.tags {
            attribute(out, 9, key, value);
        }
        for (name, since) in span.moments {
            wire::message(out, 11, |out| {
                wire::fixed64(out, 1, nanos(span.started + *since));
                wire::text(out, 2, name);
            });
        }
        if failed(span) {
            wire::message(out, 15, |out| wire::number(out, 3, ERROR));
        }
        let remote = if context.remote { PARENT_IS_REMOTE } else { 0 };
        wire::fixed32(out, 16, PARENT_IS_KNOWN | remote | u32::from(context.sampled));
    });
}

/// What the specification calls an error: of a server from 500 on, of a client from 400 on.
fn failed(span: &Span<'_>) -> bool {
    let status = span.tags.iter().find(|(key, _)| key == "http.status_code");
    let status = status.and_then(|(_, status)| status.parse::<u16>().ok()).unwrap_or(0);
    match span.kind {
        SpanKind::Server => status >= 500,
        SpanKind::Client => status >= 400,
    }
}

/// A `KeyValue` with a string.
fn attribute(out: &mut Vec<u8>, number: u8, key: &str, value: &str) {
    wire::message(out, number, |out| {
        wire::text(out, 1, key);
        wire::message(out, 2, |out| wire::bytes(out, 1, value.as_bytes()));
    });
}

pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

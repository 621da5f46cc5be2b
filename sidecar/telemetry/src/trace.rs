//! Traces: whether a request is traced, what context it carries on, and spans for a collector.
//!
//! A request that is not sampled costs what its headers cost. Spans are encoded when they end and
//! leave in batches ([`crate::Exporter`]).

mod b3;
mod ids;
mod otlp;
mod tags;
mod w3c;
mod zipkin;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use crate::Exporter;

pub use ids::{TraceReason, mark_request_id, request_id_number, request_id_reason};
pub(crate) use otlp::nanos;
pub use otlp::otlp_envelope;
pub use tags::{CustomTag, TagSource, downstream_tags, upstream_tags};

/// A part of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// So many.
    pub part: u32,
    /// Of so many.
    pub of: u32,
}

impl Sampling {
    /// All.
    pub const ALL: Self = Self { part: 1, of: 1 };

    /// Whether a request with this random number is among them.
    #[must_use]
    pub fn admits(self, number: u64) -> bool {
        number % u64::from(self.of.max(1)) < u64::from(self.part)
    }
}

/// Whose side of a request a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// It was received.
    Server,
    /// It was sent.
    Client,
}

/// A span among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: u128,
    /// The span.
    pub span: u64,
    /// The span that caused it.
    pub parent: Option<u64>,
    /// Whether it is collected.
    pub sampled: bool,
    /// The same span is known to the client by the same number (Zipkin).
    pub shared: bool,
    /// The span that caused it is another process's.
    pub remote: bool,
    /// `tracestate`, passed on.
    pub state: Option<HeaderValue>,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// What it is among others.
    pub context: &'a SpanContext,
    /// Whose side it is.
    pub kind: SpanKind,
    /// What was done.
    pub name: &'a str,
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// What is known of it.
    pub tags: &'a [(Cow<'static, str>, String)],
    /// Moments in it, from its beginning (`verbose`).
    pub moments: &'a [(&'static str, Duration)],
    /// The proxy's own address.
    pub local: SocketAddr,
}

/// A way of tracing.
#[derive(Debug)]
pub struct Tracer {
    format: Format,
    exporter: Arc<Exporter>,
    /// Who this proxy is: node and zone.
    node: [String; 2],
}

/// What spans and their contexts look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenTelemetry: `traceparent` and OTLP.
    OpenTelemetry,
    /// Zipkin: B3 and its JSON, version 2.
    Zipkin {
        /// `service_name` of the local endpoint.
        service: String,
        /// `trace_id_128bit`
        long_ids: bool,
        /// `shared_span_context`
        shared: bool,
        /// `USE_B3_WITH_W3C_PROPAGATION`
        w3c: bool,
    },
}

impl Tracer {
    /// A tracer of this node (`node_id`, `zone`).
    #[must_use]
    pub fn new(format: Format, exporter: Arc<Exporter>, node: [String; 2]) -> Self {
        Self { format, exporter, node }
    }

    /// The node and its zone.
    #[must_use]
    pub fn node(&self) -> &[String; 2] {
        &self.node
    }

    /// The context of a request that begins: what its headers say, else what was decided here.
    /// `None`: the headers are malformed; they pass as they are, and there is no span, as in Envoy.
    #[must_use]
    pub fn begin(
        &self,
        headers: &HeaderMap,
        decision: bool,
        kind: SpanKind,
    ) -> Option<SpanContext> {
        Some(match &self.format {
            Format::OpenTelemetry if w3c::is_there(headers) => child(&w3c::extract(headers)?),
            Format::OpenTelemetry => root(fastrand::u128(1..), fastrand::u64(1..), decision),
            Format::Zipkin { long_ids, shared, w3c, .. } => {
                let told = b3::extract(headers);
                let from_b3 = told.context.map(|context| SpanContext {
                    sampled: told.sampled.unwrap_or(decision),
                    ..context
                });
                let from_w3c = || w3c.then(|| w3c::extract(headers)).flatten();
                match from_b3.or_else(from_w3c) {
                    Some(parent) => {
                        let joins = *shared && kind == SpanKind::Server;
                        if joins { SpanContext { shared: true, ..parent } } else { child(&parent) }
                    }
                    None => {
                        // The first span of a trace is called as the trace is.
                        let span = fastrand::u64(1..);
                        let high = if *long_ids { fastrand::u64(..) } else { 0 };
                        let trace = u128::from(high) << 64 | u128::from(span);
                        root(trace, span, told.sampled.unwrap_or(decision))
                    }
                }
            }
        })
    }

    /// The context of a span that another causes.
    #[must_use]
    pub fn child(&self, parent: &SpanContext) -> SpanContext {
        SpanContext { remote: false, ..child(parent) }
    }

    /// What the span of a request is called unless the configuration says otherwise.
    #[must_use]
    pub fn name(&self, outbound: bool, host: &str) -> String {
        match (&self.format, outbound) {
            (Format::Zipkin { .. }, _) => host.to_owned(),
            (Format::OpenTelemetry, true) => format!("egress {host}"),
            (Format::OpenTelemetry, false) => "ingress".to_owned(),
        }
    }

    /// Tells the upstream.
    pub fn inject(&self, context: &SpanContext, headers: &mut HeaderMap) {
        match &self.format {
            Format::OpenTelemetry => w3c::inject(context, headers),
            Format::Zipkin { w3c, .. } => {
                b3::inject(context, headers);
                if *w3c {
                    w3c::inject(context, headers);
                }
            }
        }
    }

    /// Hands a span over to the collector.
    pub fn report(&self, span: &Span<'_>) {
        match &self.format {
            Format::OpenTelemetry => self.exporter.add(|out| otlp::write(span, out)),
            Format::Zipkin { service, .. } => {
                self.exporter.add(|out| zipkin::write(span, service, out));
            }
        }
    }
}

fn root(trace: u128, span: u64, sampled: bool) -> SpanContext {
    let (shared, remote) = (false, false);
    SpanContext { trace, span, parent: None, sampled, shared, remote, state: None }
}

fn child(parent: &SpanContext) -> SpanContext {
    SpanContext {
        span: fastrand::u64(1..),
        parent: Some(parent.span),
        shared: false,
        ..parent.clone()
    }
}

#[cfg(test)]
mod tests;

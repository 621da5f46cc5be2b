//! The span of a request, from the choice of its route to its end.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use weft_model::{Route, RouteTracing, Tracing};
use weft_telemetry::{
    CustomTag, LogRecord, Span, SpanContext, SpanKind, TextFormat, TraceReason, Tracer, clock,
    downstream_tags, mark_request_id, request_id_number, request_id_reason, upstream_tags,
};

use crate::inbound;
use crate::names::{CLIENT_TRACE_ID, DECORATOR_OPERATION, FORCE_TRACE};
use crate::stream::Stream;

/// A span that is under way.
#[derive(Debug)]
pub(crate) struct ActiveSpan {
    tracing: Arc<Tracing>,
    tracer: Arc<Tracer>,
    route: Option<Arc<Route>>,
    context: SpanContext,
    kind: SpanKind,
    name: String,
    /// The operation of the route's decorator, unless the client said another.
    decorated: Option<Arc<str>>,
    /// The tries, where each has a span of its own.
    tries: Vec<Try>,
}

#[derive(Debug)]
struct Try {
    context: SpanContext,
    began: Instant,
    /// `None`: with the request.
    ended: Option<Instant>,
}

/// Begins the span of a request, where requests are traced.
pub(crate) fn begin(stream: &mut Stream, route: Option<&Arc<Route>>) {
    let Some(tracing) = &stream.connection.manager.tracing else { return };
    let tracing = Arc::clone(tracing);
    let of_route = route.and_then(|route| route.tracing.as_deref());
    let reason = decide(&tracing, of_route, &mut stream.head.headers);
    match reason {
        None => tracing.stats.not.inc(),
        Some(TraceReason::Sampled) => tracing.stats.random.inc(),
        Some(TraceReason::Client) => tracing.stats.client.inc(),
        Some(TraceReason::Service) => tracing.stats.service.inc(),
    }
    let Some(tracer) = tracing.tracer.clone() else { return };
    let client = tracing.outbound && !tracing.spawn_upstream;
    let kind = if client { SpanKind::Client } else { SpanKind::Server };
    let context = tracer.begin(&stream.head.headers, reason.is_some(), kind);
    let Some(context) = context else { return };
    let mut span = ActiveSpan {
        name: tracer.name(tracing.outbound, inbound::authority(&stream.head)),
        tracing,
        tracer,
        route: route.cloned(),
        context,
        kind,
        decorated: None,
        tries: Vec::new(),
    };
    span.decorate(of_route, &mut stream.head.headers);
    stream.trace(span);
}

/// Whether a request is traced, which its id tells the proxies behind this one.
fn decide(
    tracing: &Tracing,
    route: Option<&RouteTracing>,
    headers: &mut HeaderMap,
) -> Option<TraceReason> {
    let number = request_id_number(headers)? % 10_000;
    let sampling = route.and_then(|route| route.sampling).unwrap_or(tracing.sampling);
    let known = request_id_reason(headers);
    let reason = known.or_else(|| {
        if headers.contains_key(CLIENT_TRACE_ID) && sampling.client.admits(fastrand::u64(..)) {
            return Some(TraceReason::Client);
        }
        if headers.contains_key(FORCE_TRACE) {
            return Some(TraceReason::Service);
        }
        sampling.random.admits(number).then_some(TraceReason::Sampled)
    });
    let reason = reason.filter(|_| sampling.overall.admits(number));
    if reason != known {
        mark_request_id(headers, reason);
    }
    reason
}

impl ActiveSpan {
    /// Whether anybody will see it.
    pub(crate) fn is_sampled(&self) -> bool {
        self.context.sampled
    }

    /// The numbers of trace and span.
    pub(crate) fn ids(&self) -> (u128, u64) {
        (self.context.trace, self.context.span)
    }

    fn decorate(&mut self, route: Option<&RouteTracing>, headers: &mut HeaderMap) {
        if let Some(operation) = route.and_then(|route| route.operation.as_ref()) {
            self.name = operation.to_string();
            self.decorated = Some(Arc::clone(operation));
        }
        if self.tracing.outbound {
            if let Some(value) = self.told(route) {
                headers.insert(DECORATOR_OPERATION, value);
            }
        } else if let Some(told) = headers.remove(DECORATOR_OPERATION)
            && !told.is_empty()
        {
            self.name = String::from_utf8_lossy(told.as_bytes()).into_owned();
            self.decorated = None;
        }
    }

    /// The operation that the other side is told.
    fn told(&self, route: Option<&RouteTracing>) -> Option<HeaderValue> {
        let propagate = route.is_some_and(|route| route.propagate);
        let operation = self.decorated.as_ref().filter(|_| propagate)?;
        HeaderValue::from_str(operation).ok()
    }

    /// Tells the upstream of a try who causes it.
    pub(crate) fn begin_try(&mut self, headers: &mut HeaderMap) {
        let mut context = &self.context;
        if self.tracing.spawn_upstream {
            let now = clock::now();
            if let Some(last) = self.tries.last_mut() {
                last.ended = Some(now);
            }
            let child = self.tracer.child(&self.context);
            self.tries.push(Try { context: child, began: now, ended: None });
            if let Some(last) = self.tries.last() {
                context = &last.context;
            }
        }
        self.tracer.inject(context, headers);
    }

    /// The response is about to go to the client.
    pub(crate) fn response(&mut self, headers: &mut HeaderMap) {
        if !self.tracing.outbound {
            let route = self.route.clone();
            let of_route = route.as_ref().and_then(|route| route.tracing.as_deref());
            if let Some(value) = self.told(of_route) {
                headers.insert(DECORATOR_OPERATION, value);
            }
        } else if let Some(told) = headers.remove(DECORATOR_OPERATION)
            && !told.is_empty()
        {
            self.name = String::from_utf8_lossy(told.as_bytes()).into_owned();
        }
    }

    /// The request has ended.
    pub(crate) fn finish(&self, record: &LogRecord<'_>, started: Instant) {
        let duration = record.duration.unwrap_or_default();
        let route = self.route.as_ref().and_then(|route| route.tracing.as_deref());
        let [own, upstream] = route.map_or([None, None], |route| {
            route.names.each_ref().map(|name| name.as_ref().map(|name| named(name, record)))
        });
        let own = own.or_else(|| Some(named(self.tracing.operation.as_ref()?, record)));
        let span = Span {
            context: &self.context,
            kind: self.kind,
            name: own.as_ref().unwrap_or(&self.name),
            started: record.started_at,
            duration,
            tags: &downstream_tags(&self.tracer, record, self.tracing.max_path, self.tags()),
            moments: &self.moments(record),
            local: record.downstream_local,
        };
        self.tracer.report(&span);
        let cluster = record.upstream_cluster.unwrap_or_default();
        let name = upstream.unwrap_or_else(|| format!("router {cluster} egress"));
        for (index, one) in self.tries.iter().enumerate() {
            let last = index + 1 == self.tries.len();
            let status = if last { record.status } else { 0 };
            let record = LogRecord { status, ..*record };
            let until = one.ended.unwrap_or(started + duration);
            self.tracer.report(&Span {
                context: &one.context,
                kind: SpanKind::Client,
                name: &name,
                started: record.started_at + one.began.saturating_duration_since(started),
                duration: until.saturating_duration_since(one.began),
                tags: &upstream_tags(&record, self.tags()),
                moments: &[],
                ..span
            });
        }
    }

    /// The moments that `verbose` asks for, by Envoy's names.
    fn moments(&self, record: &LogRecord<'_>) -> Vec<(&'static str, Duration)> {
        if !self.tracing.verbose {
            return Vec::new();
        }
        let all = [
            ("last_downstream_rx_byte_received", record.until_request_end),
            ("first_upstream_rx_byte_received", record.until_response),
            ("last_downstream_tx_byte_sent", record.duration),
        ];
        all.into_iter().filter_map(|(name, at)| Some((name, at?))).collect()
    }

    fn tags(&self) -> impl Iterator<Item = &CustomTag> {
        let route = self.route.as_ref().and_then(|route| route.tracing.as_deref());
        let of_route = route.map_or(&[][..], |route| &route.tags);
        // The route's tags win over those of the connection manager.
        let hidden = move |tag: &&CustomTag| of_route.iter().all(|one| one.tag != tag.tag);
        self.tracing.tags.iter().filter(hidden).chain(of_route)
    }
}

/// The name that a format gives.
fn named(format: &TextFormat, record: &LogRecord<'_>) -> String {
    let mut name = Vec::new();
    format.write_value(record, &mut name);
    String::from_utf8_lossy(&name).into_owned()
}

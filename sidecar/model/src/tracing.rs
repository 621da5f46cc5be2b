//! How requests are traced.

use std::sync::Arc;

use weft_telemetry::{Counter, CustomTag, Sampling, TextFormat, Tracer};

/// `HttpConnectionManager.tracing`, compiled.
#[derive(Debug)]
pub struct Tracing {
    /// `provider`; `None`: request ids say whether a request is traced, and that is all.
    pub tracer: Option<Arc<Tracer>>,
    /// `client_sampling`, `random_sampling`, `overall_sampling`
    pub sampling: TraceSampling,
    /// `custom_tags`
    pub tags: Vec<CustomTag>,
    /// `max_path_tag_length` (default 256), bytes
    pub max_path: usize,
    /// `verbose`
    pub verbose: bool,
    /// `spawn_upstream_span`
    pub spawn_upstream: bool,
    /// `operation`: the span's name.
    pub operation: Option<TextFormat>,
    /// The listener's direction is `OUTBOUND`: spans are those of a client.
    pub outbound: bool,
    /// What became of requests.
    pub stats: TracingStats,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSampling {
    /// Of those whose client wants it.
    pub client: Sampling,
    /// Of all.
    pub random: Sampling,
    /// Of those that would be.
    pub overall: Sampling,
}

impl Default for TraceSampling {
    fn default() -> Self {
        Self { client: Sampling::ALL, random: Sampling::ALL, overall: Sampling::ALL }
    }
}

/// `http.<stat_prefix>.tracing.*`
#[derive(Clone, Debug)]
pub struct TracingStats {
    /// `random_sampling`
    pub random: Counter,
    /// `service_forced`
    pub service: Counter,
    /// `client_enabled`
    pub client: Counter,
    /// `not_traceable`
    pub not: Counter,
}

/// `Route.tracing` and `Route.decorator`
#[derive(Debug, Default)]
pub struct RouteTracing {
    /// Instead of that of the connection manager.
    pub sampling: Option<TraceSampling>,
    /// `custom_tags`, besides those of the connection manager.
    pub tags: Vec<CustomTag>,
    /// `operation`, which wins over everything else, and `upstream_operation`.
    pub names: [Option<TextFormat>; 2],
    /// `decorator.operation`
    pub operation: Option<Arc<str>>,
    /// `decorator.propagate` (default true)
    pub propagate: bool,
}

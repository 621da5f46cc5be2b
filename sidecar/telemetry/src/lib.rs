//! Statistics, access logs, and the clock of the path of traffic.
//!
//! The request path writes to cells that belong to its worker; whoever scrapes
//! adds the cells up. Names are resolved to handles when configuration is
//! compiled, never while a request is served.

mod access_log;
mod annotations;
pub mod clock;
mod codes;
mod export;
mod expose;
mod flags;
mod groups;
mod mesh;
mod series;
mod shards;
mod stats;
mod trace;

pub use access_log::{
    AccessLog, Comparison, DEFAULT_FORMAT, EntryFields, FormatError, JsonFormat, LogFilter,
    LogRecord, LogSink, LogValue, TextFormat, flush_logs, reopen_logs, rfc3339, set_flush_interval,
};
pub use annotations::Annotations;
pub use codes::ResponseCodes;
pub use export::{
    Batch, Envelope, ExportStats, ExportTarget, Exporter, batch_is_full, pending_batches,
};
pub use expose::{StatsQuery, prometheus_text, stats_json, stats_text};
pub use flags::{ResponseFlag, ResponseFlags};
pub use groups::{ClusterStats, HttpStats, ListenerStats, TcpStats};
pub use mesh::{ClusterFacts, MeshService};
pub use series::Labels;
pub use shards::{SHARDS, shard};
pub use stats::{BUCKETS, Counter, Gauge, Histogram, Metric, MetricName, Registry, Scope};
pub use trace::{
    CustomTag, Format as TraceFormat, Sampling, Span, SpanContext, SpanKind, TagSource,
    TraceReason, Tracer, downstream_tags, mark_request_id, otlp_envelope, request_id_number,
    request_id_reason, upstream_tags,
};

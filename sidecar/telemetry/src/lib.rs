//! Statistics, access logs, and the clock of the path of traffic.
//!
//! The request path writes to cells that belong to its worker; whoever scrapes
//! adds the cells up. Names are resolved to handles when configuration is
//! compiled, never while a request is served.

mod access_log;
mod annotations;
pub mod clock;
mod codes;
mod expose;
mod flags;
mod groups;
mod mesh;
mod series;
mod shards;
mod stats;

pub use access_log::{
    AccessLog, Comparison, DEFAULT_FORMAT, FormatError, LogFilter, LogRecord, LogSink, TextFormat,
    flush_logs, reopen_logs, rfc3339, set_flush_interval,
};
pub use annotations::Annotations;
pub use codes::ResponseCodes;
pub use expose::{StatsQuery, prometheus_text, stats_json, stats_text};
pub use flags::{ResponseFlag, ResponseFlags};
pub use groups::{ClusterStats, HttpStats, ListenerStats, TcpStats};
pub use mesh::{ClusterFacts, MeshService};
pub use series::Labels;
pub use shards::{SHARDS, shard};
pub use stats::{BUCKETS, Counter, Gauge, Histogram, Metric, MetricName, Registry, Scope};

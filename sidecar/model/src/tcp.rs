//! The TCP proxy.

use std::sync::Arc;
use std::time::Duration;

use weft_telemetry::{AccessLog, TcpStats};

use crate::{ClusterChoice, HashPolicy, Labels, OnDemandClusters};

/// `tcp_proxy.v3.TcpProxy`, compiled.
#[derive(Debug)]
pub struct TcpProxy {
    /// `cluster` or `weighted_clusters`
    pub clusters: ClusterChoice,
    /// `on_demand`
    pub on_demand: Option<OnDemandClusters>,
    /// `idle_timeout` (default 1 h); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts` (default 1)
    pub max_connect_attempts: u32,
    /// `max_downstream_connection_duration`
    pub max_duration: Option<Duration>,
    /// `hash_policy`
    pub hash: Vec<HashPolicy>,
    /// `metadata_match`, for clusters with subsets.
    pub labels: Option<Arc<Labels>>,
    /// `access_log`
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `tcp.<stat_prefix>.*`
    pub stats: TcpStats,
}

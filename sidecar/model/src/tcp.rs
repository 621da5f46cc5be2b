//! The TCP proxy.

use std::sync::Arc;
use std::time::Duration;

use weft_telemetry::{AccessLog, TcpStats};

use crate::{ClusterChoice, HashPolicy, HeaderMutations, HeaderTemplate, Labels, OnDemandClusters};

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
    /// `tunneling_config`: bytes are carried within an HTTP request.
    pub tunnel: Option<Box<Tunneling>>,
    /// `access_log`
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `tcp.<stat_prefix>.*`
    pub stats: TcpStats,
}

/// `TcpProxy.TunnelingConfig`
#[derive(Debug)]
pub struct Tunneling {
    /// `hostname`: the authority of the request.
    pub hostname: HeaderTemplate,
    /// `use_post` and `post_path`: the request is a POST of this path instead of CONNECT.
    pub post: Option<String>,
    /// `headers_to_add`
    pub headers: HeaderMutations,
}

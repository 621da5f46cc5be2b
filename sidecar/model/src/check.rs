//! How hosts are checked, whatever requests say of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use weft_route::StringMatcher;

use crate::TransportChoice;

/// `core.v3.HealthCheck`, defaults filled in.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// `timeout` of one check.
    pub timeout: Duration,
    /// When the next check follows.
    pub pace: CheckPace,
    /// Failures in a row until a host is not used.
    pub unhealthy_threshold: u32,
    /// Successes in a row until it is used again.
    pub healthy_threshold: u32,
    /// `alt_port`
    pub alt_port: Option<u16>,
    /// `reuse_connection` (default true)
    pub reuse_connection: bool,
    /// `always_log_health_check_failures`
    pub log_failures: bool,
    /// `tls_options.alpn_protocols`, instead of those of the transport socket.
    pub alpn: Option<Arc<[Vec<u8>]>>,
    /// `transport_socket_match_criteria`: how hosts are reached, instead of by their labels.
    pub socket_labels: Option<BTreeMap<String, String>>,
    /// What is asked.
    pub kind: CheckKind,
    /// The message as it came: equal ones are equal checks.
    pub raw: Bytes,
}

impl PartialEq for HealthCheck {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

/// The times between checks.
#[derive(Clone, Debug)]
pub struct CheckPace {
    /// `interval`
    pub interval: Duration,
    /// `initial_jitter`: the first check waits a random part of it.
    pub initial_jitter: Duration,
    /// `interval_jitter`
    pub jitter: Duration,
    /// `interval_jitter_percent`
    pub jitter_percent: u32,
    /// `no_traffic_interval` (default 60 s)
    pub no_traffic: Duration,
    /// `no_traffic_healthy_interval` (default `no_traffic_interval`)
    pub no_traffic_healthy: Duration,
    /// `unhealthy_interval` (default `interval`)
    pub unhealthy: Duration,
    /// `unhealthy_edge_interval` (default `unhealthy_interval`)
    pub unhealthy_edge: Duration,
    /// `healthy_edge_interval` (default `interval`)
    pub healthy_edge: Duration,
}

/// What is asked of a host.
#[derive(Clone, Debug)]
pub enum CheckKind {
    /// `http_health_check`
    Http(HttpCheck),
    /// `tcp_health_check`
    Tcp(TcpCheck),
    /// `grpc_health_check`
    Grpc(GrpcCheck),
}

/// `HttpHealthCheck`
#[derive(Clone, Debug)]
pub struct HttpCheck {
    /// `method` (default GET)
    pub method: Method,
    /// `host`; the cluster's name if there is none.
    pub host: Option<HeaderValue>,
    /// `path`
    pub path: http::uri::PathAndQuery,
    /// `request_headers_to_add`, and whether each is added to others of its name.
    pub add: Vec<(HeaderName, HeaderValue, bool)>,
    /// `request_headers_to_remove`
    pub remove: Vec<HeaderName>,
    /// `expected_statuses` (default 200)
    pub expected: Vec<StatusRange>,
    /// `retriable_statuses`: failures that count as those of the network do.
    pub retriable: Vec<StatusRange>,
    /// `receive`: parts of the body, in this order.
    pub receive: Vec<Bytes>,
    /// `response_buffer_size` (default 1024); 0: no limit, bytes.
    pub buffer: usize,
    /// `codec_client_type: HTTP2`
    pub http2: bool,
    /// `service_name_matcher`: what `x-envoy-upstream-healthchecked-cluster` has to be.
    pub service: Option<StringMatcher>,
}

/// A range of statuses (`Int64Range`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first status of the range.
    pub start: u16,
    /// The first status after it.
    pub end: u16,
}

impl StatusRange {
    /// Whether a status is in the range.
    #[must_use]
    pub fn contains(self, status: u16) -> bool {
        (self.start..self.end).contains(&status)
    }
}

/// `TcpHealthCheck`
#[derive(Clone, Debug)]
pub struct TcpCheck {
    /// `send`
    pub send: Bytes,
    /// `receive`: parts of what comes back, in this order; none: connecting is enough.
    pub receive: Vec<Bytes>,
}

/// `GrpcHealthCheck`
#[derive(Clone, Debug)]
pub struct GrpcCheck {
    /// `service_name`
    pub service: String,
    /// `authority`; the cluster's name if there is none.
    pub authority: Option<HeaderValue>,
    /// `initial_metadata`, and whether each is added to others of its name.
    pub metadata: Vec<(HeaderName, HeaderValue, bool)>,
}

/// `Endpoint.health_check_config`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointCheck {
    /// Where it is checked, if not at its own address.
    pub address: Option<std::net::SocketAddr>,
    /// The host that checks name.
    pub hostname: Option<Arc<str>>,
    /// `disable_active_health_check`
    pub disabled: bool,
}

impl HealthCheck {
    /// How a host is reached that requests reach by `usual`.
    #[must_use]
    pub fn transport(&self, cluster: &crate::Cluster, usual: TransportChoice) -> TransportChoice {
        self.socket_labels.as_ref().map_or(usual, |labels| cluster.choose_socket(labels))
    }
}

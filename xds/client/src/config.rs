//! How a client behaves.

use std::{path::PathBuf, time::Duration};

use weft_xds_proto::pb::envoy::config::core::v3::Node;

/// The two forms of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// Incremental: only what changes is sent (Envoy's `DELTA_GRPC`).
    #[default]
    Delta,
    /// State of the world: each change of clusters or listeners sends all of them (`GRPC`).
    Sotw,
}

/// The service that is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// All types over one stream (`AggregatedDiscoveryService`).
    #[default]
    Aggregated,
    /// Secrets alone (`SecretDiscoveryService`).
    Secrets,
}

/// Waiting times between attempts: each is drawn evenly from zero to a bound that begins at
/// `initial`, doubles with each failure up to `max`, and begins anew after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Bound of the first waiting time.
    pub initial: Duration,
    /// Bound of every waiting time.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who this node is.
    pub node: Node,
    /// The form of the protocol.
    pub variant: Variant,
    /// The service that is called.
    pub service: Service,
    /// Waiting times between attempts.
    pub backoff: Backoff,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// Interval of HTTP/2 pings; a connection that does not answer one within
    /// `keepalive_timeout` is given up.
    pub keepalive_interval: Duration,
    /// How long an HTTP/2 ping may take.
    pub keepalive_timeout: Duration,
    /// File of the last good snapshot; none is kept without it.
    pub cache: Option<PathBuf>,
    /// How long changes are collected before the file is written.
    pub cache_delay: Duration,
}

impl ClientConfig {
    /// The usual behaviour: backoff from 0.5 s to 30 s, pings each 30 s with 10 s to answer, no
    /// cache.
    #[must_use]
    pub fn new(node: Node, variant: Variant) -> Self {
        Self {
            node,
            variant,
            service: Service::default(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            cache: None,
            cache_delay: Duration::from_millis(500),
        }
    }
}

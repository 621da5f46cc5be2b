//! What the tests of filters share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use weft_filter_api::{ConnectionFacts, Protocol, StreamCx};
use weft_telemetry::{Metric, Registry};
use weft_xds_proto::pb::envoy::config::core::v3::Node;

use crate::FilterCx;

/// What the compilation of filters reads: a nameless node, and statistics below `http.in`.
#[derive(Default)]
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) node: Node,
}

impl Fixture {
    pub(crate) fn cx(&self) -> FilterCx<'_> {
        FilterCx { node: &self.node, registry: &self.registry, stat_prefix: "in" }
    }

    /// Every counter with its value, sorted by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let all = self.registry.all().into_iter();
        let mut counters: Vec<_> = all
            .filter_map(|(name, metric)| match metric {
                Metric::Counter(counter) => Some((name.dotted(), counter.value())),
                Metric::Gauge(_) | Metric::Histogram(_) => None,
            })
            .collect();
        counters.sort();
        counters
    }
}

/// A connection from 192.0.2.1.
pub(crate) fn connection() -> ConnectionFacts {
    ConnectionFacts {
        id: 1,
        remote: SocketAddr::from(([192, 0, 2, 1], 40_000)),
        local: SocketAddr::from(([192, 0, 2, 2], 80)),
        restored: false,
        accepted: SystemTime::UNIX_EPOCH,
        application_protocols: Vec::new(),
        server_name: None,
        tls: None,
        annotations: None,
    }
}

/// The context of a stream that begins now, on a connection from 192.0.2.1.
pub(crate) fn stream(protocol: Protocol) -> StreamCx {
    StreamCx::new(Arc::new(connection()), protocol)
}

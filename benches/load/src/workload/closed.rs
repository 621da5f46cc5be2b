//! Closed loops: so many clients at a time, each asks again as soon as it has its answer.

use anyhow::Result;

use super::steady::{Stage, Unit};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::load::Traffic;
use crate::metric::Sample;
use crate::peers::{Protocol, Proxy, ProxyKind};

use ProxyKind::{Envoy, Haproxy, Nginx, Weft};

/// Connections at a time where each carries as much as it can.
const BULK_CONNECTIONS: usize = 4;

/// A closed loop through one proxy or a pair.
pub(super) struct Closed {
    name: &'static str,
    title: &'static str,
    unit: Unit,
    protocol: Protocol,
    /// Two proxies with mTLS between them.
    pair: bool,
    service: Service,
    traffic: Traffic,
    proxies: &'static [ProxyKind],
}

/// nginx 1.22 speaks no HTTP/2 to upstreams, and its TCP module comes separately.
pub(super) const ALL: &[Closed] = &[
    Closed {
        name: "http1",
        title: "HTTP/1.1, small reply",
        unit: Unit::Request,
        protocol: Protocol::Http1,
        pair: false,
        service: Service::Http1,
        traffic: Traffic::Http1,
        proxies: &[Weft, Envoy, Haproxy, Nginx],
    },
    Closed {
        name: "http2",
        title: "HTTP/2 to HTTP/2, small reply, 8 streams a connection",
        unit: Unit::Request,
        protocol: Protocol::Http2,
        pair: false,
        service: Service::Http2,
        traffic: Traffic::Http2,
        proxies: &[Weft, Envoy, Haproxy],
    },
    Closed {
        name: "grpc",
        title: "gRPC unary calls with a small message, 8 at a time on each connection",
        unit: Unit::Request,
        protocol: Protocol::Http2,
        pair: false,
        service: Service::Grpc,
        traffic: Traffic::GrpcUnary,
        proxies: &[Weft, Envoy, Haproxy],
    },
    Closed {
        name: "grpc-stream",
        title: "gRPC bidirectional streams, 8 a connection, messages to and fro",
        unit: Unit::Message,
        protocol: Protocol::Http2,
        pair: false,
        service: Service::Grpc,
        traffic: Traffic::GrpcStream,
        proxies: &[Weft, Envoy, Haproxy],
    },
    Closed {
        name: "tcp",
        title: "TCP relay, 4 connections",
        unit: Unit::Gibibyte,
        protocol: Protocol::Tcp,
        pair: false,
        service: Service::Echo,
        traffic: Traffic::Tcp,
        proxies: &[Weft, Envoy, Haproxy],
    },
    Closed {
        name: "tcp-mtls",
        title: "TCP over mTLS: plain → mTLS → plain, 4 connections, both proxies on one core",
        unit: Unit::Gibibyte,
        protocol: Protocol::Tcp,
        pair: true,
        service: Service::Echo,
        traffic: Traffic::Tcp,
        proxies: &[Weft, Envoy, Haproxy],
    },
    Closed {
        name: "mtls",
        title: "mTLS pair: plain → mTLS → plain, HTTP/1.1, both proxies on one core",
        unit: Unit::Request,
        protocol: Protocol::Http1,
        pair: true,
        service: Service::Http1,
        traffic: Traffic::Http1,
        proxies: &[Weft, Envoy, Haproxy, Nginx],
    },
    Closed {
        name: "bodies",
        title: "HTTP/1.1, PUT and GET of 64 MiB in turn, 4 connections",
        unit: Unit::Gibibyte,
        protocol: Protocol::Http1,
        pair: false,
        service: Service::Bodies,
        traffic: Traffic::Bodies,
        proxies: &[Weft, Envoy, Haproxy, Nginx],
    },
];

impl Workload for &Closed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        self.proxies.contains(&proxy)
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let backend = backend::start(self.service)?;
        let make = if self.pair { Stage::pair } else { Stage::single };
        let stage = make(proxy, self.protocol, backend, conditions)?;
        let clients = match self.unit {
            Unit::Gibibyte => BULK_CONNECTIONS,
            Unit::Request | Unit::Message | Unit::Connection => conditions.connections,
        };
        let traffic = self.traffic;
        let measured =
            stage.measure(conditions.warm_up, conditions.measured, move |address, window| {
                traffic.run(address, clients, window)
            })?;
        Ok(measured.sample(self.unit))
    }
}

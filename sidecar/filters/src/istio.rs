//! Istio's standard metrics: who called whom, by what both sides say of themselves.
//!
//! What a request is counted under is known when it has ended. Label sets are few and requests are
//! many: each thread remembers the counters of those that it has seen, so that a request costs a
//! hash over what its labels are made of and a few stores.

pub(crate) mod config;
mod expression;
mod labels;
mod overrides;
pub(crate) mod peer;
mod series;

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use weft_telemetry::{LogRecord, Registry, ResponseFlags, SHARDS, clock, shard};

use overrides::Overrides;
use peer::Peer;
use series::{HttpSeries, Known, TcpSeries};

/// `reporter`: which side of a request this proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reporter {
    /// `source`
    Client,
    /// `destination`
    Server,
    /// `waypoint`
    Gateway,
}

/// The compiled filter; of HTTP and of TCP.
#[derive(Debug)]
pub(crate) struct Stats {
    registry: Registry,
    reporter: Reporter,
    /// This workload.
    own: Peer,
    /// `disable_host_header_fallback`
    no_host_fallback: bool,
    /// `tcp_reporting_duration`
    pub(crate) report_every: Duration,
    /// `rotation_interval`: series that were not counted for so long are forgotten.
    expiry: Option<Duration>,
    overrides: Overrides,
    http: [Mutex<Known<HttpSeries>>; SHARDS],
    tcp: [Mutex<Known<TcpSeries>>; SHARDS],
}

/// What the labels of a request or connection are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// What the other side said of itself, as it came: Base64 of an encoded `Struct`.
    peer: &'a [u8],
    /// The host that was asked for, where it may name the service.
    host: &'a str,
    route: &'a str,
    cluster: &'a str,
    /// The endpoint, where it may say who the peer is.
    endpoint: Option<SocketAddr>,
    /// The identity in the peer's certificate, and in ours.
    principals: [&'a str; 2],
    flags: ResponseFlags,
    /// `response_code` and whether it is gRPC; not of TCP.
    status: u16,
    grpc: Option<GrpcStatus>,
}

/// `grpc_response_status` of a gRPC call; `None`: it had none.
type GrpcStatus = Option<u16>;

/// The namespaces of filter state in which the peers' descriptions are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peers<'a> {
    pub(crate) client: Option<&'a [u8]>,
    pub(crate) upstream: Option<&'a [u8]>,
}

impl Stats {
    /// Counts a request that has ended.
    pub(crate) fn count_request(&self, record: &LogRecord<'_>, peers: Peers<'_>) {
        let mut facts = self.facts(record, peers);
        facts.status = record.status;
        facts.grpc = is_grpc(record.request_headers).then(|| grpc_status(record));
        let extra = self.overrides.evaluate(record);
        let millis = record.duration.unwrap_or_default().as_millis();
        let mut known = self.http[shard()].lock();
        let series = known.find(self, &facts, extra, record, HttpSeries::new);
        series.count(
            u64::try_from(millis).unwrap_or(u64::MAX),
            [record.bytes_received, record.bytes_sent],
            record.messages,
        );
    }

    /// Counts a connection or what it carried since it was counted last.
    pub(crate) fn count_connection(
        &self,
        record: &LogRecord<'_>,
        peers: Peers<'_>,
        carried: &Carriage,
    ) {
        let facts = self.facts(record, peers);
        let extra = self.overrides.evaluate(record);
        let mut known = self.tcp[shard()].lock();
        known.find(self, &facts, extra, record, TcpSeries::new).count(carried);
    }

    fn facts<'a>(&self, record: &LogRecord<'a>, peers: Peers<'a>) -> Facts<'a> {
        let first = |names: &'a [String]| names.first().map_or("", String::as_str);
        let (peer, principals) = match self.reporter {
            Reporter::Client => (
                peers.upstream,
                [first(record.upstream_peer_uri_sans), first(record.upstream_local_uri_sans)],
            ),
            Reporter::Server | Reporter::Gateway => {
                (peers.client, [first(record.peer_uri_sans), first(record.local_uri_sans)])
            }
        };
        let by_endpoint = self.reporter == Reporter::Client && peer.is_none();
        Facts {
            peer: peer.unwrap_or_default(),
            host: record.authority.filter(|_| !self.no_host_fallback).unwrap_or_default(),
            route: record.route_name.unwrap_or_default(),
            cluster: record.upstream_cluster.unwrap_or_default(),
            endpoint: record.upstream_host.filter(|_| by_endpoint),
            principals,
            flags: record.flags,
            status: 0,
            grpc: None,
        }
    }

    /// The moment of the coarse clock by which series expire, seconds.
    fn now(&self) -> u64 {
        if self.expiry.is_none() {
            return 0;
        }
        let now = clock::wall(clock::now());
        now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

/// What a connection carried since it was counted last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carriage {
    /// It was not counted before.
    pub(crate) opened: bool,
    /// It has ended.
    pub(crate) closed: bool,
    /// Bytes from the client.
    pub(crate) received: u64,
    /// Bytes to the client.
    pub(crate) sent: u64,
}

pub(crate) fn is_grpc(headers: Option<&HeaderMap>) -> bool {
    let kind = headers.and_then(|headers| headers.get(http::header::CONTENT_TYPE));
    kind.is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/grpc") && matches!(kind.get(16), None | Some(b'+' | b';'))
    })
}

/// The gRPC status of trailers, else of the head.
pub(crate) fn grpc_status(record: &LogRecord<'_>) -> GrpcStatus {
    let of = |headers: Option<&HeaderMap>| {
        headers?.get("grpc-status")?.to_str().ok()?.parse::<u16>().ok()
    };
    of(record.response_trailers).or_else(|| of(record.response_headers))
}

#[cfg(test)]
mod tests;

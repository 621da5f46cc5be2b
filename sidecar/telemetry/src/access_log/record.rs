//! What an access log can print about a stream or a connection.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::{Annotations, ClusterFacts, ResponseFlags};

/// What is known about an HTTP stream or a TCP connection when it is over.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// `%START_TIME%`
    pub started_at: SystemTime,
    /// `%DURATION%`; `None`: it is not over.
    pub duration: Option<Duration>,
    /// Until the request had been received whole.
    pub until_request_end: Option<Duration>,
    /// Until the first byte of the upstream's response.
    pub until_response: Option<Duration>,
    /// `%PROTOCOL%`, for HTTP.
    pub protocol: Option<&'static str>,
    /// `%REQ(:METHOD)%`
    pub method: Option<&'a str>,
    /// `%REQ(:SCHEME)%`
    pub scheme: Option<&'a str>,
    /// `%REQ(:AUTHORITY)%`
    pub authority: Option<&'a str>,
    /// `%REQ(:PATH)%` as sent upstream, query included.
    pub path: Option<&'a str>,
    /// `%REQ(X-ENVOY-ORIGINAL-PATH)%`: as received, where a rewrite changed it.
    pub original_path: Option<&'a str>,
    /// The request's headers.
    pub request_headers: Option<&'a HeaderMap>,
    /// The response's headers.
    pub response_headers: Option<&'a HeaderMap>,
    /// The response's trailers.
    pub response_trailers: Option<&'a HeaderMap>,
    /// `%RESPONSE_CODE%`; zero: none was sent.
    pub status: u16,
    /// `%RESPONSE_FLAGS%`
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`
    pub details: &'a str,
    /// `%LOCAL_REPLY_BODY%`
    pub local_reply: Option<&'a [u8]>,
    /// `%CONNECTION_TERMINATION_DETAILS%`
    pub termination_details: Option<&'a str>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    pub transport_failure: Option<&'a str>,
    /// `%BYTES_RECEIVED%`
    pub bytes_received: u64,
    /// `%BYTES_SENT%`
    pub bytes_sent: u64,
    /// `%UPSTREAM_HOST%`
    pub upstream_host: Option<SocketAddr>,
    /// `%UPSTREAM_CLUSTER%`
    pub upstream_cluster: Option<&'a str>,
    /// `%UPSTREAM_LOCAL_ADDRESS%`
    pub upstream_local: Option<SocketAddr>,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`
    pub downstream_local: SocketAddr,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`
    pub downstream_remote: SocketAddr,
    /// `%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%`
    pub downstream_direct_remote: SocketAddr,
    /// `%REQUESTED_SERVER_NAME%`
    pub server_name: Option<&'a str>,
    /// `%ROUTE_NAME%`
    pub route_name: Option<&'a str>,
    /// `%DOWNSTREAM_PEER_URI_SAN%`
    pub peer_uri_sans: &'a [String],
    /// `%DOWNSTREAM_PEER_DNS_SAN%`
    pub peer_dns_sans: &'a [String],
    /// `%DOWNSTREAM_PEER_FINGERPRINT_256%`
    pub peer_digest: Option<&'a str>,
    /// `%DOWNSTREAM_TLS_VERSION%`
    pub tls_version: Option<&'a str>,
    /// `%DOWNSTREAM_TLS_CIPHER%`
    pub tls_cipher: Option<&'a str>,
    /// `%DOWNSTREAM_PEER_SUBJECT%`
    pub peer_subject: Option<&'a str>,
    /// `%DOWNSTREAM_LOCAL_URI_SAN%`
    pub local_uri_sans: &'a [String],
    /// `%UPSTREAM_PEER_URI_SAN%`
    pub upstream_peer_uri_sans: &'a [String],
    /// `%UPSTREAM_LOCAL_URI_SAN%`
    pub upstream_local_uri_sans: &'a [String],
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`
    pub attempts: u32,
    /// `%CONNECTION_ID%`
    pub connection_id: u64,
    /// `%TRACE_ID%`, and the number of the span.
    pub trace: Option<(u128, u64)>,
    /// Messages of a gRPC call, to the upstream and from it, where they were counted.
    pub messages: Option<(u64, u64)>,
    /// What filters said about the stream, and about its connection.
    pub annotations: [Option<&'a Annotations>; 2],
    /// What is known of the clusters.
    pub clusters: Option<&'a dyn ClusterFacts>,
}

impl LogRecord<'_> {
    /// A record of something that began at `started_at` on a connection from `remote` to `local`;
    /// nothing else is known of it.
    #[must_use]
    pub fn new(started_at: SystemTime, remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            started_at,
            duration: None,
            until_request_end: None,
            until_response: None,
            protocol: None,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            original_path: None,
            request_headers: None,
            response_headers: None,
            response_trailers: None,
            status: 0,
            flags: ResponseFlags::NONE,
            details: "",
            local_reply: None,
            termination_details: None,
            transport_failure: None,
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local: None,
            downstream_local: local,
            downstream_remote: remote,
            downstream_direct_remote: remote,
            server_name: None,
            route_name: None,
            peer_uri_sans: &[],
            peer_dns_sans: &[],
            peer_digest: None,
            tls_version: None,
            tls_cipher: None,
            peer_subject: None,
            local_uri_sans: &[],
            upstream_peer_uri_sans: &[],
            upstream_local_uri_sans: &[],
            attempts: 0,
            connection_id: 0,
            trace: None,
            messages: None,
            annotations: [None, None],
            clusters: None,
        }
    }
}

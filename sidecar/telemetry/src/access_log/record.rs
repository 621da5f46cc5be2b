//! What an access log can print about a stream or a connection.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::ResponseFlags;

/// What is known about an HTTP stream or a TCP connection when it is over.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// `%START_TIME%`
    pub started_at: SystemTime,
    /// `%DURATION%`
    pub duration: Duration,
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
    /// `%DOWNSTREAM_PEER_SUBJECT%`
    pub peer_subject: Option<&'a str>,
    /// `%DOWNSTREAM_LOCAL_URI_SAN%`
    pub local_uri_sans: &'a [String],
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`
    pub attempts: u32,
    /// `%CONNECTION_ID%`
    pub connection_id: u64,
}

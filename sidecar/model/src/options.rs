//! Protocol and socket options that listeners and clusters share.

use std::time::Duration;

/// HTTP/1 (`core.v3.Http1ProtocolOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http1Options {
    /// `accept_http_10`
    pub accept_http_10: bool,
    /// `default_host_for_http_10`
    pub default_host: Option<String>,
    /// `header_key_format`: keeps (`preserve_case`) the case of header names.
    pub preserve_case: bool,
    /// `header_key_format.proper_case_words`
    pub title_case: bool,
}

/// HTTP/2 (`core.v3.Http2ProtocolOptions`), Envoy's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// `max_concurrent_streams`
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`, bytes
    pub initial_stream_window: u32,
    /// `initial_connection_window_size`, bytes
    pub initial_connection_window: u32,
    /// `connection_keepalive`
    pub keepalive: Option<KeepalivePings>,
    /// `allow_connect`
    pub allow_connect: bool,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            initial_stream_window: 16 << 20,
            initial_connection_window: 24 << 20,
            keepalive: None,
            allow_connect: false,
        }
    }
}

/// HTTP/2 pings (`core.v3.KeepaliveSettings`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepalivePings {
    /// Time between pings.
    pub interval: Duration,
    /// Time to wait for the answer.
    pub timeout: Duration,
}

/// TCP keepalive (`core.v3.TcpKeepalive`); `None`: the system's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `keepalive_probes`
    pub probes: Option<u32>,
    /// `keepalive_time`
    pub time: Option<Duration>,
    /// `keepalive_interval`
    pub interval: Option<Duration>,
}

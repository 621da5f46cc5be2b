//! The HTTP connection manager.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use weft_filter_api::HttpFilter;
use weft_telemetry::{AccessLog, HttpStats};

use crate::{
    Http1Options, Http2Options, LocalReplies, NamedSlot, OnDemandFilter, Route, Routes, Tracing,
};

/// `http_connection_manager.v3.HttpConnectionManager`, compiled.
#[derive(Debug)]
pub struct HttpConnectionManager {
    /// `codec_type`
    pub codec: Codec,
    /// `route_config` or `rds`
    pub routes: RouteSource,
    /// `http_filters` without the router, in order.
    pub filters: HttpFilters,
    /// `envoy.filters.http.on_demand`: asked only for requests that have no host or cluster.
    pub on_demand: Option<OnDemandFilter>,
    /// `use_remote_address`, `xff_num_trusted_hops`, …
    pub xff: XffSettings,
    /// `forward_client_cert_details`
    pub client_cert: ForwardClientCert,
    /// `server_name` (default `envoy`)
    pub server_name: HeaderValue,
    /// `server_header_transformation`
    pub server_header: ServerHeader,
    /// `via`
    pub via: Option<HeaderValue>,
    /// `generate_request_id` (default true)
    pub generate_request_id: bool,
    /// `preserve_external_request_id`
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`
    pub request_id_in_response: bool,
    /// `normalize_path`
    pub normalize_path: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`
    pub escaped_slashes: EscapedSlashes,
    /// `common_http_protocol_options.headers_with_underscores_action`
    pub underscores: Underscores,
    /// `strip_any_host_port` or `strip_matching_host_port`
    pub strip_port: StripPort,
    /// `strip_trailing_host_dot`
    pub strip_dot: bool,
    /// `local_reply_config`
    pub local_replies: Option<Box<LocalReplies>>,
    /// `upgrade_configs`: the enabled types, lower case.
    pub upgrades: Vec<String>,
    /// `proxy_100_continue`
    pub proxy_100_continue: bool,
    /// `stream_idle_timeout` (default 5 min); `None`: never.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_timeout`: the whole request has to arrive in this time.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`
    pub request_headers_timeout: Option<Duration>,
    /// `common_http_protocol_options.idle_timeout` (default 1 h); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`
    pub max_stream_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`
    pub max_requests_per_connection: Option<u32>,
    /// `common_http_protocol_options.max_headers_count` (default 100)
    pub max_headers: u32,
    /// `max_request_headers_kb` (default 60), bytes
    pub max_header_bytes: u32,
    /// `drain_timeout` (default 5 s)
    pub drain_timeout: Duration,
    /// `http_protocol_options`
    pub http1: Http1Options,
    /// `http2_protocol_options`
    pub http2: Http2Options,
    /// `append_x_forwarded_port`
    pub append_x_forwarded_port: bool,
    /// `tracing`
    pub tracing: Option<Arc<Tracing>>,
    /// `access_log`
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `http.<stat_prefix>.*`
    pub stats: HttpStats,
}

/// `codec_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// ALPN decides, else the first bytes.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where the routes come from.
#[derive(Clone, Debug)]
pub enum RouteSource {
    /// `route_config`
    Inline(Arc<Routes>),
    /// `rds`; loaded for each request, so that a change reaches connections that are open.
    Discovered(NamedSlot<Routes>),
}

/// The HTTP filters of a connection manager, in order.
#[derive(Clone, Debug, Default)]
pub struct HttpFilters {
    entries: Arc<[HttpFilterEntry]>,
    see_ends: bool,
    count_messages: bool,
    /// Whether all of them run only where a route configures them.
    dormant: bool,
}

impl HttpFilters {
    /// Whether any of them sees how streams end.
    #[must_use]
    pub fn see_ends(&self) -> bool {
        self.see_ends
    }

    /// Whether any of them wants the messages of gRPC calls counted.
    #[must_use]
    pub fn count_messages(&self) -> bool {
        self.count_messages
    }

    /// Those that may run on a route: none, where all wait for a route that configures them.
    #[must_use]
    pub fn on(&self, route: Option<&Route>) -> &[HttpFilterEntry] {
        let wakes = route.is_some_and(|route| !route.filters.is_empty());
        if self.dormant && !wakes { &[] } else { &self.entries }
    }
}

impl From<Vec<HttpFilterEntry>> for HttpFilters {
    fn from(entries: Vec<HttpFilterEntry>) -> Self {
        let see_ends = entries.iter().any(|entry| entry.filter.sees_ends());
        let count_messages = entries.iter().any(|entry| entry.filter.counts_messages());
        let dormant = entries.iter().all(|entry| entry.disabled);
        Self { entries: entries.into(), see_ends, count_messages, dormant }
    }
}

impl Deref for HttpFilters {
    type Target = [HttpFilterEntry];

    fn deref(&self) -> &[HttpFilterEntry] {
        &self.entries
    }
}

/// One HTTP filter of the chain.
#[derive(Clone, Debug)]
pub struct HttpFilterEntry {
    /// `name`, which `typed_per_filter_config` refers to.
    pub name: Arc<str>,
    /// The filter.
    pub filter: Arc<dyn HttpFilter>,
    /// `disabled`: runs only where a route enables it.
    pub disabled: bool,
    /// Whether it sees requests; of [`HttpFilter::sees_requests`].
    pub sees_requests: bool,
    /// Whether it sees responses; of [`HttpFilter::sees_responses`].
    pub sees_responses: bool,
    /// Whether it uses bodies or callouts; of [`HttpFilter::uses_io`].
    pub uses_io: bool,
    /// Whether it looks at where the route leads; of [`HttpFilter::reads_route`].
    pub reads_route: bool,
}

impl HttpFilterEntry {
    /// A filter, asked for what it looks at.
    #[must_use]
    pub fn new(name: &str, filter: Arc<dyn HttpFilter>, disabled: bool) -> Self {
        Self {
            name: name.into(),
            disabled,
            sees_requests: filter.sees_requests(),
            sees_responses: filter.sees_responses(),
            uses_io: filter.uses_io(),
            reads_route: filter.reads_route(),
            filter,
        }
    }
}

/// How `X-Forwarded-For` is read and written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XffSettings {
    /// `use_remote_address`
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`
    pub trusted_hops: u32,
    /// `skip_xff_append`
    pub skip_append: bool,
    /// `internal_address_config.cidr_ranges`: whose requests are internal, so that their `x-envoy-*`
    /// headers are believed.
    pub internal: Vec<IpNet>,
}

/// `forward_client_cert_details` and `set_current_client_cert_details`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardClientCert {
    /// What happens with `x-forwarded-client-cert`.
    pub mode: ForwardClientCertMode,
    /// `subject`
    pub subject: bool,
    /// `cert`
    pub cert: bool,
    /// `chain`
    pub chain: bool,
    /// `dns`
    pub dns: bool,
    /// `uri`
    pub uri: bool,
}

/// `ForwardClientCertDetails`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCertMode {
    /// Removes the header; the default.
    #[default]
    Sanitize,
    /// Forwards it over mTLS.
    ForwardOnly,
    /// Appends the client's certificate over mTLS.
    AppendForward,
    /// Replaces it by the client's certificate over mTLS.
    SanitizeSet,
    /// Forwards it always.
    AlwaysForwardOnly,
}

/// `server_header_transformation`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Always the server name.
    #[default]
    Overwrite,
    /// The server name unless the upstream gave one.
    AppendIfAbsent,
    /// What the upstream gave.
    PassThrough,
}

/// `path_with_escaped_slashes_action`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Leaves `%2F` and `%5C` alone.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// Redirects to the unescaped path.
    UnescapeAndRedirect,
    /// Goes on with the unescaped path.
    UnescapeAndForward,
}

/// Whether a port is taken off a request's host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    /// It stays.
    #[default]
    Never,
    /// `strip_matching_host_port`: if it is the listener's.
    Matching,
    /// `strip_any_host_port`
    Any,
}

/// `headers_with_underscores_action`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// Lets them pass.
    #[default]
    Allow,
    /// 400.
    Reject,
    /// Drops the header.
    Drop,
}

//! What a route leads to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use regex::Regex;
use smallvec::SmallVec;
use weft_filter_api::RouteFilterConfig;
use weft_route::{Fraction, HeaderField, HeaderMatcher, RouteTable};

use crate::{ClusterSlot, HeaderMutations, Labels, RouteTracing, UseMark};

/// A compiled `RouteConfiguration`.
#[derive(Debug)]
pub struct Routes {
    /// `name`
    pub name: Arc<str>,
    /// The virtual hosts and their routes.
    pub table: RouteTable<VirtualHost, Arc<Route>>,
    /// Applied to requests last (`most_specific_header_mutations_wins: false`) and to responses.
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `…_to_remove`
    pub response_headers: HeaderMutations,
    /// Whether the route's own headers win over those of host and table.
    pub most_specific_wins: bool,
    /// `vhds`: hosts that the table does not have are fetched on demand.
    pub vhds: Option<Vhds>,
}

/// How a table's missing virtual hosts are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Vhds {
    /// Whether the port is no part of the name (`ignore_port_in_host_matching`).
    pub ignore_port: bool,
}

/// A compiled `VirtualHost`.
#[derive(Debug)]
pub struct VirtualHost {
    /// `name`
    pub name: Arc<str>,
    /// `require_tls`: `Some(false)` external requests only, `Some(true)` all; redirected to https.
    pub require_tls: Option<bool>,
    /// `request_headers_to_add`, `…_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `…_to_remove`
    pub response_headers: HeaderMutations,
    /// `include_request_attempt_count`: `x-envoy-attempt-count` upstream.
    pub attempt_count_upstream: bool,
    /// `include_attempt_count_in_response`
    pub attempt_count_downstream: bool,
    /// Notes requests, where the host is fetched on demand and given up when it is not used.
    pub used: Option<UseMark>,
}

/// A compiled `Route`.
#[derive(Debug)]
pub struct Route {
    /// `name`
    pub name: Option<Arc<str>>,
    /// What is done.
    pub action: RouteAction,
    /// `request_headers_to_add`, `…_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `…_to_remove`
    pub response_headers: HeaderMutations,
    /// `typed_per_filter_config` of route and virtual host, the route's winning; by filter name.
    pub filters: Vec<(Arc<str>, RouteFilterConfig)>,
    /// Filters that `route.v3.FilterConfig.disabled` switches off here, by name. One that the
    /// connection manager lists as disabled runs where [`Self::filters`] has an entry for it.
    pub disabled_filters: Vec<Arc<str>>,
    /// `tracing` and `decorator`
    pub tracing: Option<Box<RouteTracing>>,
}

impl Route {
    /// Whether the filter `name` is switched off on this route.
    #[must_use]
    pub fn disables(&self, name: &str) -> bool {
        self.disabled_filters.iter().any(|filter| &**filter == name)
    }

    /// The configuration of the filter `name` on this route.
    #[must_use]
    pub fn filter(&self, name: &str) -> Option<&RouteFilterConfig> {
        self.filters.iter().find(|(filter, _)| &**filter == name).map(|(_, config)| config)
    }
}

/// What is done with a request.
#[derive(Debug)]
pub enum RouteAction {
    /// `route`
    Forward(Box<Forward>),
    /// `redirect`
    Redirect(Box<Redirect>),
    /// `direct_response`
    Direct(DirectResponse),
}

/// `RouteAction`, compiled.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub clusters: ClusterChoice,
    /// `cluster_not_found_response_code` (default 503)
    pub cluster_not_found: StatusCode,
    /// `prefix_rewrite` or `regex_rewrite`
    pub path: PathRewrite,
    /// `host_rewrite_literal`, `auto_host_rewrite`, …
    pub host: HostRewrite,
    /// `append_x_forwarded_host`
    pub append_x_forwarded_host: bool,
    /// `timeout` (default 15 s); `None`: no limit.
    pub timeout: Option<Duration>,
    /// `idle_timeout`; `None`: the connection manager's.
    pub idle_timeout: Option<Option<Duration>>,
    /// `max_stream_duration.max_stream_duration`
    pub max_stream_duration: Option<Duration>,
    /// `max_stream_duration.grpc_timeout_header_max`: `grpc-timeout` limits the whole stream, up to
    /// this (zero: without limit).
    pub grpc_duration_max: Option<Duration>,
    /// `max_grpc_timeout`: `grpc-timeout` is the timeout, up to this (zero: without limit).
    pub grpc_timeout_max: Option<Duration>,
    /// `retry_policy`
    pub retry: Option<Arc<RetryPolicy>>,
    /// `request_mirror_policies`
    pub mirrors: Vec<Mirror>,
    /// `hash_policy`
    pub hash: Vec<HashPolicy>,
    /// `upgrade_configs`: on or off by upper-case type, over the connection manager's.
    pub upgrades: Vec<(String, bool)>,
    /// `upgrade_configs.connect_config`: what CONNECT carries goes to the cluster as it is, over a
    /// connection of its own.
    pub terminates: bool,
    /// `internal_redirect_policy`
    pub internal_redirect: Option<Box<InternalRedirect>>,
    /// `priority`: `HIGH`.
    pub high_priority: bool,
    /// `metadata_match`, for clusters with subsets.
    pub labels: Option<Arc<Labels>>,
}

/// One cluster or several.
#[derive(Debug)]
pub enum ClusterChoice {
    /// `cluster`
    One(ClusterSlot),
    /// `weighted_clusters`
    Weighted(WeightedClusters),
    /// `cluster_header`: the name stands in this header; resolved through the snapshot.
    Header(HeaderName),
}

/// `WeightedCluster`
#[derive(Debug)]
pub struct WeightedClusters {
    /// The clusters; weights of zero are left out.
    pub clusters: Vec<WeightedCluster>,
    /// The sum of the weights.
    pub total: u32,
}

impl WeightedClusters {
    /// The cluster for a random number.
    #[must_use]
    pub fn choose(&self, random: u64) -> Option<&WeightedCluster> {
        let mut at = random % u64::from(self.total.max(1));
        self.clusters.iter().find(|cluster| {
            let weight = u64::from(cluster.weight);
            let found = at < weight;
            at = at.saturating_sub(weight);
            found
        })
    }
}

/// `WeightedCluster.ClusterWeight`
#[derive(Debug)]
pub struct WeightedCluster {
    /// The cluster.
    pub cluster: ClusterSlot,
    /// `weight`
    pub weight: u32,
    /// `request_headers_to_add`, `…_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `…_to_remove`
    pub response_headers: HeaderMutations,
    /// `host_rewrite_literal`
    pub host_rewrite: Option<String>,
    /// `metadata_match`, the route's included.
    pub labels: Option<Arc<Labels>>,
}

/// How the path is changed.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// Not at all.
    Keep,
    /// `prefix_rewrite`: this many bytes at the beginning are replaced (for an exact or regex match: the whole path).
    Prefix {
        /// Length of the matched part; `None`: the whole path.
        matched: Option<usize>,
        /// The replacement.
        with: String,
    },
    /// `regex_rewrite`: every match is replaced; `\1` has become `${1}`.
    Regex {
        /// The expression.
        pattern: Regex,
        /// The replacement.
        substitution: String,
    },
}

/// How the host is changed.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// Not at all.
    Keep,
    /// `host_rewrite_literal`
    Literal(String),
    /// `auto_host_rewrite`: the endpoint's host name.
    Auto,
    /// `host_rewrite_header`: the value of this header, if it is there.
    Header(HeaderName),
    /// `host_rewrite_path_regex`: from the path.
    PathRegex {
        /// The expression.
        pattern: Regex,
        /// The replacement.
        substitution: String,
    },
}

/// `RedirectAction`
#[derive(Debug)]
pub struct Redirect {
    /// `scheme_redirect` or `https_redirect`
    pub scheme: Option<String>,
    /// `host_redirect`
    pub host: Option<String>,
    /// `port_redirect`
    pub port: Option<u16>,
    /// `path_redirect` (a query in it replaces the request's), `prefix_rewrite` or `regex_rewrite`
    pub path: PathRewrite,
    /// `response_code` (default 301)
    pub status: StatusCode,
    /// `strip_query`
    pub strip_query: bool,
}

/// `InternalRedirectPolicy`: redirects that are followed instead of being passed on.
#[derive(Debug)]
pub struct InternalRedirect {
    /// `max_internal_redirects` (default 1)
    pub max: u32,
    /// `redirect_response_codes` (default 302)
    pub codes: SmallVec<[u16; 5]>,
    /// `allow_cross_scheme_redirect`
    pub cross_scheme: bool,
    /// `predicates`: all have to accept the new route.
    pub predicates: Vec<RedirectPredicate>,
    /// `response_headers_to_copy`: headers of the response that the new request gets.
    pub copied: Vec<HeaderName>,
}

/// Which routes an internal redirect may lead to.
#[derive(Debug)]
pub enum RedirectPredicate {
    /// `previous_routes`: none that this route has led the request to before.
    PreviousRoutes,
    /// `allow_listed_routes`: these, by name.
    AllowListed(Vec<String>),
    /// `safe_cross_scheme`: from https to http is fine, the other way is not.
    SafeCrossScheme,
}

/// `DirectResponseAction`
#[derive(Debug)]
pub struct DirectResponse {
    /// `status`
    pub status: StatusCode,
    /// `body`
    pub body: Bytes,
}

/// `RequestMirrorPolicy`
#[derive(Debug)]
pub struct Mirror {
    /// The cluster.
    pub cluster: ClusterSlot,
    /// `runtime_fraction`; `None`: all.
    pub fraction: Option<Fraction>,
    /// Unless set, `-shadow` is appended to the host (`disable_shadow_host_suffix_append`).
    pub keep_host: bool,
}

/// One `HashPolicy`; the hashes of all that apply are combined.
#[derive(Debug)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// `terminal`: later ones are left out if this gave a hash.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Debug)]
pub enum HashSource {
    /// `header`
    Header {
        /// The header, or a part of the request's line.
        field: HeaderField,
        /// `regex_rewrite`: every match is replaced before the value is hashed.
        rewrite: Option<Box<(Regex, String)>>,
    },
    /// `cookie`
    Cookie {
        /// `name`
        name: String,
        /// `ttl`: a missing cookie is made with this life time (zero: a session cookie).
        ttl: Option<Duration>,
        /// `path`
        path: Option<String>,
    },
    /// `connection_properties.source_ip`
    SourceIp,
    /// `query_parameter`
    Query(String),
}

/// The words of `retry_on` as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(pub u32);

impl RetryOn {
    /// `5xx`
    pub const SERVER_ERROR: u32 = 1;
    /// `gateway-error`
    pub const GATEWAY_ERROR: u32 = 1 << 1;
    /// `reset`
    pub const RESET: u32 = 1 << 2;
    /// `connect-failure`
    pub const CONNECT_FAILURE: u32 = 1 << 3;
    /// `refused-stream`
    pub const REFUSED_STREAM: u32 = 1 << 4;
    /// `retriable-4xx`
    pub const RETRIABLE_4XX: u32 = 1 << 5;
    /// `retriable-status-codes`
    pub const STATUS_CODES: u32 = 1 << 6;
    /// `retriable-headers`
    pub const HEADERS: u32 = 1 << 7;
    /// `reset-before-request`
    pub const RESET_BEFORE_REQUEST: u32 = 1 << 8;
    /// `envoy-ratelimited`
    pub const RATE_LIMITED: u32 = 1 << 9;
    /// gRPC `cancelled`
    pub const GRPC_CANCELLED: u32 = 1 << 10;
    /// gRPC `deadline-exceeded`
    pub const GRPC_DEADLINE: u32 = 1 << 11;
    /// gRPC `internal`
    pub const GRPC_INTERNAL: u32 = 1 << 12;
    /// gRPC `resource-exhausted`
    pub const GRPC_EXHAUSTED: u32 = 1 << 13;
    /// gRPC `unavailable`
    pub const GRPC_UNAVAILABLE: u32 = 1 << 14;
    /// `http3-post-connect-failure`; accepted, without effect.
    pub const HTTP3: u32 = 1 << 15;

    /// All conditions that are words of gRPC's.
    pub const GRPC: u32 = Self::GRPC_CANCELLED
        | Self::GRPC_DEADLINE
        | Self::GRPC_INTERNAL
        | Self::GRPC_EXHAUSTED
        | Self::GRPC_UNAVAILABLE;

    /// What a list of words stands for, unknown ones left out as Envoy does.
    #[must_use]
    pub fn of_words(list: &str) -> Self {
        let bit = |word: &str| RETRY_WORDS.iter().find(|(known, _)| *known == word);
        let bits = list.split(',').filter_map(|word| bit(word.trim()));
        Self(bits.fold(0, |all, (_, bit)| all | bit))
    }

    /// Whether any of these bits is set.
    #[must_use]
    pub fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// The words of `retry_on`.
const RETRY_WORDS: &[(&str, u32)] = &[
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("retriable-status-codes", RetryOn::STATUS_CODES),
    ("retriable-headers", RetryOn::HEADERS),
    ("envoy-ratelimited", RetryOn::RATE_LIMITED),
    ("http3-post-connect-failure", RetryOn::HTTP3),
    ("cancelled", RetryOn::GRPC_CANCELLED),
    ("deadline-exceeded", RetryOn::GRPC_DEADLINE),
    ("internal", RetryOn::GRPC_INTERNAL),
    ("resource-exhausted", RetryOn::GRPC_EXHAUSTED),
    ("unavailable", RetryOn::GRPC_UNAVAILABLE),
];

/// `RetryPolicy`
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// `retry_on`
    pub on: RetryOn,
    /// `num_retries` (default 1)
    pub retries: u32,
    /// `per_try_timeout`
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`
    pub status_codes: SmallVec<[u16; 4]>,
    /// `retriable_headers`
    pub headers: Vec<HeaderMatcher>,
    /// `retry_back_off.base_interval` (default 25 ms)
    pub base_interval: Duration,
    /// `retry_back_off.max_interval` (default ten times the base)
    pub max_interval: Duration,
    /// `rate_limited_retry_back_off`
    pub rate_limited: Option<Arc<RateLimitedBackOff>>,
    /// `retry_host_predicate: previous_hosts`: a try avoids the hosts of earlier ones.
    pub avoid_previous_hosts: bool,
    /// `retry_host_predicate: omit_canary_hosts`: a retry avoids canaries.
    pub avoid_canaries: bool,
    /// `retry_host_predicate: omit_host_metadata`: a retry avoids endpoints with these labels.
    pub avoid_labels: Option<Labels>,
    /// `host_selection_retry_max_attempts`
    pub host_attempts: u32,
}

/// `RetryPolicy.RateLimitedRetryBackOff`: the response says when to try again.
#[derive(Debug)]
pub struct RateLimitedBackOff {
    /// `reset_headers`: the first that says a time within the limit counts.
    pub headers: Vec<(HeaderName, ResetFormat)>,
    /// `max_interval` (default 5 min)
    pub max: Duration,
}

/// `RetryPolicy.ResetHeaderFormat`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    /// Seconds from now on.
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

impl RetryPolicy {
    /// `retry_back_off` when it is not set: the base and the longest.
    pub const USUAL_BACK_OFF: (Duration, Duration) =
        (Duration::from_millis(25), Duration::from_millis(250));

    /// One retry, for nothing yet: what a request adds to where its route has no policy.
    #[must_use]
    pub fn of_nothing() -> Self {
        let (base_interval, max_interval) = Self::USUAL_BACK_OFF;
        Self {
            on: RetryOn::default(),
            retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            status_codes: SmallVec::new(),
            headers: Vec::new(),
            base_interval,
            max_interval,
            rate_limited: None,
            avoid_previous_hosts: false,
            avoid_canaries: false,
            avoid_labels: None,
            host_attempts: 1,
        }
    }
}

//! Clusters: their compiled configuration, and the handle that outlives it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use weft_filter_api::PeerExchange;
use weft_telemetry::{ClusterStats, MeshService, Registry};

use crate::{
    BalancingOptions, EndpointAddress, EndpointSet, ForwardedNames, Health, HealthCheck,
    HealthFlags, HostState, Hosts, Http1Options, Http2Options, LoadBalancing, NameSettings,
    NamedSlot, OutlierDetection, SocketMatch, TcpKeepalive, TransportChoice, UpstreamSocket,
};

/// A place for the cluster of a name: a route may name a cluster that is not there yet.
pub type ClusterSlot = NamedSlot<ClusterHandle>;

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// A cluster for as long as one of its name exists: configuration and
/// endpoints are swapped inside, statistics and identity stay.
#[derive(Debug)]
pub struct ClusterHandle {
    id: u32,
    name: Arc<str>,
    config: ArcSwap<Cluster>,
    endpoints: ArcSwap<EndpointSet>,
    registry: Registry,
    stats: OnceLock<Box<ClusterStats>>,
    hosts: OnceLock<Box<Hosts>>,
    names: OnceLock<Box<ForwardedNames>>,
    health: AtomicU32,
}

impl ClusterHandle {
    /// A handle with this configuration and endpoints; its statistics are made at first use.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, endpoints: Arc<EndpointSet>, registry: Registry) -> Self {
        let handle = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: Arc::clone(&cluster.name),
            config: ArcSwap::new(cluster),
            endpoints: ArcSwap::new(endpoints),
            registry,
            stats: OnceLock::new(),
            hosts: OnceLock::new(),
            names: OnceLock::new(),
            health: AtomicU32::new(0),
        };
        handle.note_unchecked();
        handle
    }

    /// Notes the hosts that are to be checked and are new.
    fn note_unchecked(&self) {
        if self.config().health_check.is_some() {
            let _ = self.host_states(&self.endpoints());
        }
    }

    /// A small number that no other handle of this process has; workers index their own state by it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The configuration at the moment.
    #[must_use]
    pub fn config(&self) -> Guard<Arc<Cluster>> {
        self.config.load()
    }

    /// Replaces the configuration.
    pub fn set_config(&self, cluster: Arc<Cluster>) {
        if cluster.health_check.is_some() && self.config().health_check.is_none() {
            // Hosts that serve already go on serving until a check says otherwise.
            let _ = self.host_states(&self.endpoints());
        }
        self.config.store(cluster);
    }

    /// The endpoints at the moment.
    #[must_use]
    pub fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Replaces the endpoints; of those that are gone the ones stay whose health check succeeds,
    /// unless [`Cluster::forget_removed`].
    pub fn set_endpoints(&self, mut endpoints: Arc<EndpointSet>) {
        let Some(hosts) = self.hosts.get() else { return self.replace_endpoints(endpoints) };
        let _updating = hosts.updating.lock();
        let config = self.config();
        let by_name = !matches!(config.discovery, Discovery::Static);
        if config.health_check.is_some() && !config.forget_removed && by_name {
            let set = Arc::make_mut(&mut endpoints);
            hosts.keep_healthy(&self.endpoints.load(), set);
        }
        hosts.keep(&endpoints);
        self.replace_endpoints(endpoints);
        hosts.replaced.notify_one();
    }

    /// Takes away a host that was only kept as long as its health check succeeded.
    pub fn remove_failed(&self, address: &EndpointAddress) {
        let hosts = self.hosts();
        let _updating = hosts.updating.lock();
        let mut endpoints = Arc::clone(&self.endpoints());
        let set = Arc::make_mut(&mut endpoints);
        for priority in &mut set.priorities {
            priority.endpoints.retain(|endpoint| endpoint.address != *address);
        }
        hosts.keep(&endpoints);
        self.replace_endpoints(endpoints);
        hosts.replaced.notify_one();
    }

    fn replace_endpoints(&self, endpoints: Arc<EndpointSet>) {
        self.endpoints.store(endpoints);
        self.note_unchecked();
        if let Some(stats) = self.stats.get() {
            stats.membership_change.inc();
            self.count_members(stats);
        }
    }

    /// The names that its requests bring ([`Discovery::Named`]).
    #[must_use]
    pub fn names(&self) -> &ForwardedNames {
        self.names.get_or_init(Box::default)
    }

    /// What is remembered of the hosts.
    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        self.hosts.get_or_init(Box::default)
    }

    /// The memory of each endpoint of a set, in the set's order; made where there is none.
    #[must_use]
    pub fn host_states(&self, endpoints: &EndpointSet) -> Vec<Arc<HostState>> {
        let checked = self.config().health_check.is_some();
        self.hosts().of(endpoints.iter(), |endpoint| {
            let disabled = endpoint.check.as_ref().is_some_and(|check| check.disabled);
            if checked && !disabled { HealthFlags::UNCHECKED } else { HealthFlags::default() }
        })
    }

    /// The flags of a host; none are set where nothing is remembered of it.
    #[must_use]
    pub fn host_flags(&self, address: &EndpointAddress) -> HealthFlags {
        let state = self.hosts.get().and_then(|hosts| hosts.find(address));
        state.map_or_else(HealthFlags::default, |state| state.flags())
    }

    /// Counts changes of the hosts' health.
    #[must_use]
    pub fn health_revision(&self) -> u32 {
        self.health.load(Ordering::Acquire)
    }

    /// Whether the health check of every host has ended once.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        let states = self.host_states(&self.endpoints());
        states.iter().all(|state| !state.flags().any(HealthFlags::PENDING_ACTIVE))
    }

    /// Tells the workers that flags of a host have changed.
    pub fn health_changed(&self) {
        self.health.fetch_add(1, Ordering::AcqRel);
        self.count_members(self.stats());
    }

    fn count_members(&self, stats: &ClusterStats) {
        let endpoints = self.endpoints.load();
        let of = |wanted: Health| {
            let health = |endpoint: &&Arc<crate::Endpoint>| {
                self.host_flags(&endpoint.address).apply(endpoint.health) == wanted
            };
            endpoints.iter().filter(health).count() as u64
        };
        stats.membership_total.set(endpoints.iter().count() as u64);
        stats.membership_healthy.set(of(Health::Healthy));
        stats.membership_degraded.set(of(Health::Degraded));
    }

    /// Requests and connections so far, and whether any is open; counts nothing by itself.
    #[must_use]
    pub fn activity(&self) -> (u64, bool) {
        let Some(stats) = self.stats.get() else { return (0, false) };
        let busy = stats.rq_active.value() > 0 || stats.cx_active.value() > 0;
        (stats.cx_total.value() + stats.rq_total.value(), busy)
    }

    /// The statistics.
    pub fn stats(&self) -> &ClusterStats {
        self.stats.get_or_init(|| {
            let stats = ClusterStats::new(&self.registry, &self.config().stat_name);
            if self.endpoints.load().iter().next().is_some() {
                stats.membership_change.inc();
            }
            self.count_members(&stats);
            Box::new(stats)
        })
    }

    /// The scope of the statistics that only some clusters have.
    #[must_use]
    pub fn stats_scope(&self) -> weft_telemetry::Scope {
        ClusterStats::scope(&self.registry, &self.config().stat_name)
    }
}

/// A cluster's configuration (`cluster.v3.Cluster`), defaults filled in.
#[derive(Debug)]
pub struct Cluster {
    /// `name`
    pub name: Arc<str>,
    /// `alt_stat_name`, or the name.
    pub stat_name: Arc<str>,
    /// How its endpoints become known.
    pub discovery: Discovery,
    /// `connect_timeout` (default 5 s)
    pub connect_timeout: Duration,
    /// `lb_policy` and its options.
    pub load_balancing: LoadBalancing,
    /// Whatever else says how load is spread.
    pub balancing: BalancingOptions,
    /// `common_lb_config.healthy_panic_threshold`, per cent (default 50).
    pub panic_threshold: f64,
    /// Which protocol is spoken upstream.
    pub protocol: ProtocolChoice,
    /// HTTP/1 options.
    pub http1: Http1Options,
    /// HTTP/2 options.
    pub http2: Http2Options,
    /// `common_http_protocol_options.idle_timeout` (default 1 h); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`
    pub max_requests_per_connection: Option<u32>,
    /// `common_http_protocol_options.max_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `transport_socket_matches`, first match first.
    pub sockets: Vec<SocketMatch>,
    /// `transport_socket`, for endpoints that match none.
    pub default_socket: UpstreamSocket,
    /// `circuit_breakers`
    pub breakers: CircuitBreakers,
    /// `outlier_detection`
    pub outlier: Option<Arc<OutlierDetection>>,
    /// `health_checks`, one at most.
    pub health_check: Option<Arc<HealthCheck>>,
    /// `ignore_health_on_host_removal`: a host that the control plane removes goes at once, also
    /// while its health check succeeds.
    pub forget_removed: bool,
    /// `close_connections_on_host_health_failure`
    pub close_on_failure: bool,
    /// `common_lb_config.ignore_new_hosts_until_first_hc`: those that no check has ended for do
    /// not count for panic and priorities.
    pub ignore_unchecked: bool,
    /// `upstream_bind_config.source_address`, one for each address family at most.
    pub bind: Vec<IpAddr>,
    /// `upstream_connection_options.tcp_keepalive`
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `per_connection_buffer_limit_bytes` (default 1 MiB)
    pub buffer_limit: u32,
    /// `auto_sni`: the SNI is the request's host.
    pub auto_sni: bool,
    /// HTTP connections over TLS offer, in the place of what the TLS context lists, Istio's names
    /// for the protocol that is spoken: `istio-http/1.1`, `istio`, `http/1.1` or `istio-h2`,
    /// `istio`, `h2`. TCP connections offer what the TLS context lists. (Envoy: `istio.alpn`.)
    pub istio_alpn: bool,
    /// `metadata`: the service that Istio's statistics name.
    pub service: Option<Arc<MeshService>>,
    /// `filters`: what TCP connections begin with where the endpoint agrees on it by ALPN.
    pub exchange: Option<ClusterExchange>,
}

/// Istio's metadata exchange on the connections of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterExchange {
    /// What is exchanged.
    pub exchange: Arc<PeerExchange>,
    /// The protocols of the TLS context, which connections of the TCP proxy offer whole. Those of
    /// HTTP leave the exchange out.
    pub offered: Arc<[Vec<u8>]>,
}

impl Cluster {
    /// A static cluster of this name with the defaults of every field.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            stat_name: name.into(),
            discovery: Discovery::Static,
            connect_timeout: Duration::from_secs(5),
            load_balancing: LoadBalancing::RoundRobin,
            balancing: BalancingOptions::default(),
            panic_threshold: 50.0,
            protocol: ProtocolChoice::Http1,
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            idle_timeout: Some(Duration::from_secs(3600)),
            max_requests_per_connection: None,
            max_connection_duration: None,
            sockets: Vec::new(),
            default_socket: UpstreamSocket::Raw,
            breakers: CircuitBreakers::default(),
            outlier: None,
            health_check: None,
            forget_removed: false,
            close_on_failure: false,
            ignore_unchecked: false,
            bind: Vec::new(),
            tcp_keepalive: None,
            buffer_limit: 1 << 20,
            auto_sni: false,
            istio_alpn: false,
            service: None,
            exchange: None,
        }
    }

    /// Whether any of its connections begins with a PROXY header.
    #[must_use]
    pub fn tells_clients(&self) -> bool {
        let matched = self.sockets.iter().map(|socket| &socket.socket);
        matched.chain([&self.default_socket]).any(|socket| socket.header().is_some())
    }

    /// The transport socket that `choice` stands for.
    #[must_use]
    pub fn socket(&self, choice: TransportChoice) -> &UpstreamSocket {
        let matched = choice.0.and_then(|index| self.sockets.get(usize::from(index)));
        matched.map_or(&self.default_socket, |socket| &socket.socket)
    }

    /// The first transport socket whose labels `labels` contains.
    #[must_use]
    pub fn choose_socket(&self, labels: &BTreeMap<String, String>) -> TransportChoice {
        let fits = |socket: &SocketMatch| {
            socket.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let index = self.sockets.iter().position(fits);
        TransportChoice(index.and_then(|index| u16::try_from(index).ok()))
    }
}

/// How a cluster's endpoints become known (`Cluster.type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// `STATIC`
    Static,
    /// `EDS`, by this name.
    Eds(Arc<str>),
    /// `STRICT_DNS`: every address of every name is an endpoint.
    StrictDns(DnsSettings),
    /// `LOGICAL_DNS`: one of the addresses, changed for new connections.
    LogicalDns(DnsSettings),
    /// `envoy.clusters.aggregate`: the endpoints of these clusters, the first that can serve first.
    Aggregate(Vec<Arc<str>>),
    /// `envoy.clusters.dynamic_forward_proxy`: the host that each request names.
    Named(NameSettings),
    /// `ORIGINAL_DST`: where the client wanted to go.
    OriginalDst {
        /// `original_dst_lb_config.upstream_port_override`
        port: Option<u16>,
        /// `original_dst_lb_config.http_header_name`, when `use_http_header` is set.
        header: Option<http::HeaderName>,
    },
}

/// The names that a DNS cluster resolves, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The names.
    pub hosts: Vec<DnsHost>,
    /// `dns_refresh_rate` (default 5 s)
    pub refresh: Duration,
    /// `respect_dns_ttl`
    pub respect_ttl: bool,
    /// `dns_lookup_family`
    pub family: DnsFamily,
}

/// One name to resolve; its addresses get these properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsHost {
    /// The name, or an address.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The endpoint's other properties; its address is a placeholder.
    pub like: Arc<crate::Endpoint>,
    /// The priority.
    pub priority: u32,
}

/// `Cluster.dns_lookup_family`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6 if there is any, else IPv4.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

/// Which protocol is spoken upstream (`HttpProtocolOptions.upstream_protocol_options`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// HTTP/1.1; the default.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What ALPN chose, else HTTP/1.1 (`auto_config`).
    Auto,
    /// What the client speaks (`use_downstream_protocol_config`).
    Downstream,
}

/// `Cluster.circuit_breakers`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// For `RoutingPriority.DEFAULT`.
    pub default: Thresholds,
    /// For `RoutingPriority.HIGH`.
    pub high: Thresholds,
}

/// `CircuitBreakers.Thresholds`; counted in each worker, each having its share of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `max_connections` (default 1024)
    pub connections: u32,
    /// `max_pending_requests` (default 1024)
    pub pending: u32,
    /// `max_requests` (default 1024)
    pub requests: u32,
    /// `max_retries` (default 3)
    pub retries: u32,
    /// `retry_budget`, in the place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// `RetryBudget`: retries may be a part of the requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// `budget_percent` (default 20), in hundredths of a per cent.
    pub part: u32,
    /// `min_retry_concurrency` (default 3): so many are always allowed.
    pub least: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { connections: 1024, pending: 1024, requests: 1024, retries: 3, retry_budget: None }
    }
}

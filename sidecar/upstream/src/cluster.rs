//! One cluster on one worker: choosing an endpoint, sending a request, opening a stream.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use http::HeaderMap;
use weft_filter_api::{ConnectionFacts, Protocol};
use weft_model::{
    Cluster, ClusterHandle, Discovery, Endpoint, EndpointAddress, EndpointSet, HealthFlags, Labels,
    ProtocolChoice,
};
use weft_telemetry::{ClusterStats, Counter};

use crate::UpstreamError;
use crate::balance::{Balancer, Census};
use crate::check;
use crate::client::Client;
use crate::destinations::Destinations;
use crate::dial::dial;
use crate::error::Limit;
use crate::host::{Host, HostKey, Member};
use crate::limits::{Limits, add, sub};
use crate::outlier::{Report, Thresholds};
use crate::pool::{Kind, PoolKey};
use crate::stream::{CountedConnection, UpstreamStream};
use crate::worker::{TICK, WorkerCx};

/// What the connections of a cluster need of it.
#[derive(Debug)]
pub(crate) struct ClusterCx {
    pub(crate) handle: Arc<ClusterHandle>,
    pub(crate) worker: Rc<WorkerCx>,
    pub(crate) limits: Limits,
    settings: Cell<Settings>,
    outlier: Cell<Option<Thresholds>>,
    /// Whether hosts are checked.
    checked: Cell<bool>,
}

/// Limits of connections, times in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) idle: Option<u32>,
    pub(crate) lifetime: Option<u32>,
    pub(crate) requests: Option<u32>,
    /// Streams at once on one HTTP/2 connection.
    pub(crate) streams: u32,
}

impl ClusterCx {
    pub(crate) fn stats(&self) -> &ClusterStats {
        self.handle.stats()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.get()
    }

    /// `upstream_rq_drop_overload`, which few clusters have.
    fn stats_of_drops(&self) -> Counter {
        self.handle.stats_scope().counter("upstream_rq_drop_overload")
    }

    /// Tells outlier detection, where there is any.
    pub(crate) fn report(&self, host: &Host, tell: impl FnOnce(&Report<'_>)) {
        let Some(thresholds) = self.outlier.get() else { return };
        let (state, counters) = (&*host.state, &*host.counters);
        tell(&Report { cluster: &self.handle, state, counters, thresholds });
    }

    /// Takes note of a response.
    pub(crate) fn answered(&self, host: &Host, status: u16, headers: &HeaderMap) {
        if status < 500 {
            host.counters.rq_success.inc();
        } else {
            host.counters.rq_error.inc();
        }
        self.report(host, |report| report.answered(status, headers));
        if self.checked.get() {
            check::heed(&self.handle, &host.state, headers);
        }
    }

    fn apply(&self, config: &Cluster) {
        let ticks = |time: std::time::Duration| {
            u32::try_from(time.as_secs().div_ceil(TICK.as_secs())).unwrap_or(u32::MAX)
        };
        self.limits.apply(&config.breakers, self.worker.workers);
        self.settings.set(Settings {
            idle: config.idle_timeout.map(ticks),
            lifetime: config.max_connection_duration.map(ticks),
            requests: config.max_requests_per_connection.filter(|requests| *requests > 0),
            streams: config.http2.max_concurrent_streams.max(1),
        });
        self.checked.set(config.health_check.is_some());
        self.outlier.set(config.outlier.as_deref().map(Thresholds::new));
    }
}

/// What the choice of an endpoint depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext<'a> {
    /// For ring hash and Maglev; without one they choose at random.
    pub hash: Option<u64>,
    /// Where the client wanted to go, for `ORIGINAL_DST`.
    pub original_destination: Option<SocketAddr>,
    /// The address in the header that `original_dst_lb_config` names, for `ORIGINAL_DST`; that of
    /// the request's host, for dynamic forward proxies.
    pub host_header: Option<SocketAddr>,
    /// Endpoints that earlier tries have used.
    pub avoid: &'a [SocketAddr],
    /// `omit_canary_hosts`
    pub avoid_canaries: bool,
    /// `omit_host_metadata`: endpoints with these labels.
    pub avoid_labels: Option<&'a Labels>,
    /// The endpoints that the request asks for (`metadata_match`).
    pub labels: Option<&'a Labels>,
    /// How often to choose again when an avoided endpoint was chosen.
    pub host_attempts: u32,
    /// The client's protocol, for clusters that speak what the client speaks.
    pub downstream_protocol: Option<Protocol>,
    /// `RoutingPriority.HIGH`
    pub high_priority: bool,
    /// The server name for TLS, for clusters with `auto_sni`.
    pub sni: Option<&'a str>,
    /// Application protocols for TLS, instead of the configured ones.
    pub alpn: Option<&'a Arc<[Vec<u8>]>>,
    /// The client's connection, for upstreams that are told of it or see it as the source.
    pub connection: Option<&'a ConnectionFacts>,
}

/// A chosen endpoint, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Picked {
    pub(crate) member: Rc<Member>,
    pub(crate) kind: Kind,
    pub(crate) high: bool,
    sni: Option<Box<str>>,
    alpn: Option<Arc<[Vec<u8>]>>,
    client: Option<Arc<Client>>,
    /// The cluster that the endpoint is of, where another one was asked.
    pub(crate) owner: Option<Rc<WorkerCluster>>,
}

impl Picked {
    /// The endpoint's address, unless it is a Unix domain socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.member.host.address {
            EndpointAddress::Socket(address) => Some(*address),
            EndpointAddress::Pipe(_) => None,
        }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.member.endpoint
    }

    /// The endpoint's host name.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.member.endpoint.hostname.as_deref()
    }

    pub(crate) fn key(&self) -> PoolKey<'_> {
        PoolKey {
            kind: self.kind,
            high: self.high,
            sni: self.sni.as_deref(),
            alpn: self.alpn.as_ref(),
            more: self.member.endpoint.more.as_ref(),
            client: self.client.as_ref(),
        }
    }
}

/// A cluster's configuration and endpoints, as this worker last saw them.
#[derive(Debug)]
struct View {
    config: Arc<Cluster>,
    endpoints: Arc<EndpointSet>,
    /// The revision of the hosts' health that the balancer knows.
    health: u32,
    balancer: Balancer,
    /// Whether connections tell of their clients.
    tells: bool,
    /// The endpoints of the local cluster, where routing is aware of zones.
    local: Option<Arc<EndpointSet>>,
}

/// A cluster on one worker: its pools, limits and load balancing.
#[derive(Debug)]
pub struct WorkerCluster {
    pub(crate) cx: Rc<ClusterCx>,
    view: RefCell<View>,
    hosts: RefCell<HashMap<HostKey, Rc<Host>, RandomState>>,
    destinations: Destinations,
    /// Whether an aggregate is looking at its clusters: one that names itself is not there.
    pub(crate) entered: Cell<bool>,
}

impl WorkerCluster {
    pub(crate) fn new(handle: Arc<ClusterHandle>, worker: Rc<WorkerCx>) -> Self {
        let view = View {
            config: Arc::clone(&handle.config()),
            endpoints: Arc::new(EndpointSet::default()),
            health: 0,
            balancer: Balancer::default(),
            tells: false,
            local: None,
        };
        let cx = ClusterCx {
            handle,
            worker,
            limits: Limits::default(),
            settings: Cell::new(Settings::default()),
            outlier: Cell::new(None),
            checked: Cell::new(false),
        };
        cx.apply(&view.config);
        Self {
            cx: Rc::new(cx),
            view: RefCell::new(view),
            hosts: RefCell::default(),
            destinations: Destinations::default(),
            entered: Cell::new(false),
        }
    }

    /// The cluster.
    #[must_use]
    pub fn handle(&self) -> &Arc<ClusterHandle> {
        &self.cx.handle
    }

    /// Chooses an endpoint.
    ///
    /// # Errors
    /// [`UpstreamError::NoHealthyUpstream`], [`UpstreamError::DropOverload`]
    pub fn pick(&self, cx: &PickContext<'_>) -> Result<Picked, UpstreamError> {
        self.catch_up();
        let view = self.view.borrow();
        let member = match &view.config.discovery {
            Discovery::OriginalDst { port, header } => {
                let header = header.as_ref().and(cx.host_header);
                let address = header.or_else(|| {
                    let address = cx.original_destination?;
                    Some(SocketAddr::new(address.ip(), port.unwrap_or(address.port())))
                });
                let transport = || view.config.choose_socket(&BTreeMap::new());
                let now = self.cx.worker.now();
                address.map(|address| self.destinations.member(address, now, transport))
            }
            Discovery::Named(_) => {
                let transport = || view.config.choose_socket(&BTreeMap::new());
                let now = self.cx.worker.now();
                cx.host_header.map(|address| self.destinations.member(address, now, transport))
            }
            Discovery::Aggregate(clusters) => {
                let (clusters, threshold) = (clusters.clone(), view.config.panic_threshold);
                drop(view);
                return self.pick_among(&clusters, threshold, cx).unwrap_or_else(|| {
                    self.cx.stats().cx_none_healthy.inc();
                    Err(UpstreamError::NoHealthyUpstream)
                });
            }
            _ => {
                if let Some(drop) = view.endpoints.drop
                    && drop.contains(fastrand::u64(..))
                {
                    self.cx.stats_of_drops().inc();
                    return Err(UpstreamError::DropOverload);
                }
                view.balancer.pick(cx, u64::from(self.cx.limits.requests()))
            }
        };
        let Some(member) = member else {
            self.cx.stats().cx_none_healthy.inc();
            return Err(UpstreamError::NoHealthyUpstream);
        };
        Ok(Picked {
            kind: kind(&view.config, &member, cx.downstream_protocol),
            member,
            high: cx.high_priority,
            sni: cx.sni.filter(|_| view.config.auto_sni).map(Into::into),
            alpn: cx.alpn.cloned(),
            client: cx.connection.and_then(|connection| Client::shown(connection, view.tells)),
            owner: None,
        })
    }

    /// The cluster whose endpoint was chosen.
    pub(crate) fn owner<'a>(&'a self, picked: &'a Picked) -> &'a Self {
        picked.owner.as_deref().unwrap_or(self)
    }

    /// The endpoints of each priority, counted; of an aggregate, those of all its clusters.
    pub(crate) fn census(&self) -> Vec<Census> {
        self.catch_up();
        let view = self.view.borrow();
        match &view.config.discovery {
            Discovery::Aggregate(clusters) => {
                let clusters = clusters.clone();
                drop(view);
                self.parts(&clusters).into_iter().flat_map(|(_, census)| census).collect()
            }
            _ => view.balancer.census().to_vec(),
        }
    }

    /// Opens a connection of its own, not pooled: for the TCP proxy, tunnels and upgrades.
    ///
    /// # Errors
    /// The connection limit is reached, or connecting failed.
    pub async fn connect_tcp(&self, picked: &Picked) -> Result<UpstreamStream, UpstreamError> {
        let cx = &self.owner(picked).cx;
        let level = cx.limits.level(picked.high);
        if !level.connection_allowed() {
            cx.stats().cx_overflow.inc();
            return Err(UpstreamError::Overflow(Limit::Connections));
        }
        let host = &picked.member.host;
        let counted = CountedConnection::new(&cx.handle, &level.connections, &host.counters);
        let target = host.target(&picked.key());
        let dialled = Box::pin(dial(&cx.handle, &target, counted)).await;
        cx.report(host, |report| match &dialled {
            Ok(_) => report.connected(),
            Err(error) => report.failed(error),
        });
        dialled
    }

    /// Counts a request that was not answered in time.
    pub fn timed_out(&self, picked: &Picked) {
        let host = &picked.member.host;
        host.counters.rq_timeout.inc();
        host.counters.rq_error.inc();
        self.owner(picked).cx.report(host, |report| report.timed_out());
    }

    /// Asks for leave to retry a request (`max_retries`, `retry_budget`); the retry counts while the permit lives.
    #[must_use]
    pub fn start_retry(&self, high_priority: bool) -> Option<RetryPermit> {
        let level = self.cx.limits.level(high_priority);
        if level.retries.get() >= level.most_retries() {
            self.cx.stats().rq_retry_overflow.inc();
            return None;
        }
        add(&level.retries);
        self.cx.stats().rq_retry.inc();
        Some(RetryPermit { cluster: Rc::clone(&self.cx), high: high_priority })
    }

    /// Takes over what has changed since the last look.
    fn catch_up(&self) {
        let config = self.cx.handle.config();
        let endpoints = self.cx.handle.endpoints();
        let health = self.cx.handle.health_revision();
        let view = self.view.borrow();
        let same_config = Arc::ptr_eq(&config, &view.config);
        let same_endpoints = Arc::ptr_eq(&endpoints, &view.endpoints);
        let local = self.local_endpoints(&config);
        let same_local = local.as_ref().map(Arc::as_ptr) == view.local.as_ref().map(Arc::as_ptr);
        if same_config && same_endpoints && same_local && health == view.health {
            return;
        }
        let keep = same_config || same_connections(&config, &view.config);
        drop(view);
        self.cx.apply(&config);
        if !keep {
            self.retire_all();
        }
        let members = self.members(&config, &endpoints);
        let balancer = Balancer::new(&config, &endpoints, &members, local.as_deref());
        self.view.replace(View {
            config: Arc::clone(&config),
            endpoints: Arc::clone(&endpoints),
            health,
            balancer,
            tells: config.tells_clients(),
            local,
        });
    }

    /// The endpoints of the proxy's own cluster, where they matter.
    fn local_endpoints(&self, config: &Cluster) -> Option<Arc<EndpointSet>> {
        let zone = config.balancing.zone.as_ref()?;
        let local = self.cx.worker.cluster(&zone.local_cluster)?;
        Some(Arc::clone(&local.handle().endpoints()))
    }

    /// Hosts for a set of endpoints: those that were there before are kept, others are retired.
    fn members(&self, config: &Cluster, endpoints: &EndpointSet) -> Vec<Vec<Rc<Member>>> {
        let mut known = self.hosts.take();
        let mut hosts = self.hosts.borrow_mut();
        let mut states = self.cx.handle.host_states(endpoints).into_iter();
        let worker = self.cx.worker.id;
        let mut member = |endpoint: &Arc<Endpoint>| {
            let state = states.next()?;
            let flags = state.flags();
            let health = flags.apply(endpoint.health);
            let excluded = flags.any(HealthFlags::EXCLUDED)
                || (config.ignore_unchecked && flags.any(HealthFlags::PENDING_ACTIVE));
            let failed = HealthFlags::FAILED_ACTIVE | HealthFlags::FAILED_OUTLIER;
            let key = (endpoint.address.clone(), endpoint.transport);
            let host = hosts.entry(key).or_insert_with_key(|key| {
                known.remove(key).unwrap_or_else(|| Rc::new(Host::new(key.1, state, worker)))
            });
            if config.close_on_failure && flags.any(failed) {
                host.close_connections();
            }
            let (endpoint, host) = (Arc::clone(endpoint), Rc::clone(host));
            Some(Rc::new(Member { endpoint, host, health, excluded }))
        };
        let priorities = endpoints.priorities.iter();
        let members =
            priorities.map(|priority| priority.endpoints.iter().filter_map(&mut member).collect());
        let members = members.collect();
        for host in known.values() {
            host.retire();
        }
        members
    }

    fn retire_all(&self) {
        for host in self.hosts.take().values() {
            host.retire();
        }
        self.destinations.retire_all();
    }

    pub(crate) fn sweep(&self, now: u32) {
        for host in self.hosts.borrow().values() {
            host.sweep(now);
        }
        self.destinations.sweep(now);
    }
}

impl Drop for WorkerCluster {
    fn drop(&mut self) {
        self.retire_all();
    }
}

/// Leave to retry; counts against `max_retries` while it lives.
#[derive(Debug)]
pub struct RetryPermit {
    cluster: Rc<ClusterCx>,
    high: bool,
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        sub(&self.cluster.limits.level(self.high).retries);
    }
}

fn kind(config: &Cluster, member: &Member, downstream: Option<Protocol>) -> Kind {
    match config.protocol {
        ProtocolChoice::Http1 => Kind::Http1,
        ProtocolChoice::Http2 => Kind::Http2,
        ProtocolChoice::Downstream => match downstream {
            Some(Protocol::Http2) => Kind::Http2,
            Some(Protocol::Http10 | Protocol::Http11) | None => Kind::Http1,
        },
        ProtocolChoice::Auto => match config.socket(member.endpoint.transport).tls() {
            None => Kind::Http1,
            Some(_) => Kind::Auto,
        },
    }
}

/// Whether connections made under one configuration may be used under the other.
fn same_connections(a: &Cluster, b: &Cluster) -> bool {
    a.default_socket.is_as(&b.default_socket)
        && a.sockets.len() == b.sockets.len()
        && a.sockets
            .iter()
            .zip(&b.sockets)
            .all(|(a, b)| a.labels == b.labels && a.socket.is_as(&b.socket))
        && a.protocol == b.protocol
        && a.http1 == b.http1
        && a.http2 == b.http2
        && a.bind == b.bind
        && a.tcp_keepalive == b.tcp_keepalive
}

//! One worker with one listener, and the resources that it serves.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use weft_filter_api::NetworkFilter;
use weft_http::WorkerCx;
use weft_model::{
    Cluster, ClusterChoice, ClusterHandle, ClusterSlot, Codec, Endpoint, EndpointAddress,
    EndpointSet, EscapedSlashes, FilterChain, FilterChainTable, Forward, ForwardClientCert,
    HandOff, HeaderMutations, HostRewrite, Http1Options, Http2Options, HttpConnectionManager,
    HttpFilters, ListenAddress, Listener, PathRewrite, Priority, Route, RouteAction, RouteSource,
    Routes, ServerHeader, Snapshot, SnapshotPublisher, StripPort, TcpProxy, Terminal,
    TrafficDirection, TransportSocket, Underscores, VirtualHost, XffSettings,
};
use weft_net::{Drain, DrainPlan, ListenerEvent, ListenerOptions, ListenerSet};
use weft_route::{Conditions, HostRule, PathMatch, RouteRule, RouteTable, TableOptions};
use weft_telemetry::{AccessLog, HttpStats, ListenerStats, LogSink, Registry, TcpStats};

/// Runs a test as a worker does, and no longer than a test may take.
pub(crate) fn local<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
    })
}

/// What a world is made of.
pub(crate) struct Setup {
    pub(crate) registry: Registry,
    pub(crate) clusters: HashMap<String, (Cluster, Vec<SocketAddr>)>,
    slots: HashMap<String, ClusterSlot>,
    pub(crate) rules: Vec<RouteRule<Arc<Route>>>,
    pub(crate) host: VirtualHost,
    pub(crate) routes: Routes,
    pub(crate) manager: HttpConnectionManager,
    pub(crate) tcp: Option<TcpProxy>,
    /// In the place of HTTP or the TCP proxy.
    pub(crate) terminal: Option<Terminal>,
    pub(crate) network_filters: Vec<Arc<dyn NetworkFilter>>,
    pub(crate) transport: TransportSocket,
    /// Where the routes come from, if not from `rules`.
    pub(crate) source: Option<RouteSource>,
}

impl Setup {
    /// Nothing is routed yet.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let table = RouteTable::compile(Vec::new(), TableOptions::default()).unwrap();
        let routes = Routes {
            name: "routes".into(),
            table,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            most_specific_wins: false,
            vhds: None,
        };
        let stats = HttpStats::new(&registry, "test");
        Self {
            clusters: HashMap::new(),
            slots: HashMap::new(),
            rules: Vec::new(),
            host: virtual_host(),
            routes,
            manager: manager(stats),
            tcp: None,
            terminal: None,
            network_filters: Vec::new(),
            transport: TransportSocket::Raw,
            source: None,
            registry,
        }
    }

    /// A table that has no virtual hosts.
    pub(crate) fn empty_routes(&self) -> Routes {
        Routes {
            name: Arc::clone(&self.routes.name),
            table: RouteTable::compile(Vec::new(), TableOptions::default()).unwrap(),
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            most_specific_wins: false,
            vhds: None,
        }
    }

    /// What belongs to a virtual host, unless a test says more.
    pub(crate) fn virtual_host(&self) -> VirtualHost {
        virtual_host()
    }

    /// Everything goes to one upstream, named `upstream`.
    pub(crate) fn to(address: SocketAddr) -> Self {
        let mut setup = Self::new();
        setup.cluster("upstream", &[address]);
        let action = setup.forward("upstream");
        setup.rule("/", action);
        setup
    }

    /// Adds a cluster.
    pub(crate) fn cluster(&mut self, name: &str, addresses: &[SocketAddr]) -> &mut Cluster {
        let entry = (cluster(name), addresses.to_vec());
        &mut self.clusters.entry(name.to_owned()).or_insert(entry).0
    }

    pub(crate) fn slot(&mut self, name: &str) -> ClusterSlot {
        self.slots.entry(name.to_owned()).or_insert_with(|| ClusterSlot::new(name)).clone()
    }

    /// An action that forwards to a cluster, with Envoy's defaults.
    pub(crate) fn forward(&mut self, name: &str) -> Forward {
        forward(ClusterChoice::One(self.slot(name)))
    }

    /// Adds a route for a prefix.
    pub(crate) fn rule(&mut self, prefix: &str, action: Forward) {
        self.route(prefix, RouteAction::Forward(Box::new(action)));
    }

    /// Adds a route for a prefix.
    pub(crate) fn route(&mut self, prefix: &str, action: RouteAction) {
        let path = PathMatch::Prefix { text: prefix.into(), ignore_case: false };
        let conditions = Conditions::default();
        self.rules.push(RouteRule { path, conditions, value: Arc::new(route(action)) });
    }

    /// The forward action of the first route.
    pub(crate) fn action(&mut self) -> &mut Forward {
        match &mut self.first_route().action {
            RouteAction::Forward(action) => action,
            _ => panic!("the first route forwards nothing"),
        }
    }

    /// The first route.
    pub(crate) fn first_route(&mut self) -> &mut Route {
        Arc::get_mut(&mut self.rules[0].value).unwrap()
    }

    /// Writes an access log to a file that the test reads.
    pub(crate) fn log_to(&mut self, path: &std::path::Path, format: &str) {
        let log = AccessLog::text(format, LogSink::file(path).unwrap(), None).unwrap();
        self.manager.access_logs.push(Arc::new(log));
    }

    pub(crate) async fn start(self) -> World {
        World::start(self).await
    }
}

/// A worker that serves.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) stats: HttpStats,
    pub(crate) listener: ListenerStats,
    pub(crate) clusters: HashMap<String, Arc<ClusterHandle>>,
    /// As long as it is there, the listeners are.
    _publisher: SnapshotPublisher,
}

impl World {
    async fn start(setup: Setup) -> Self {
        let Setup { registry, clusters, slots, rules, host, mut routes, mut manager, .. } = setup;
        let stats = manager.stats.clone();
        let rule = HostRule { domains: vec!["*".into()], value: host, routes: rules };
        routes.table = RouteTable::compile(vec![rule], TableOptions::default()).unwrap();
        let inline = RouteSource::Inline(Arc::new(routes));
        manager.routes = setup.source.unwrap_or(inline);
        let mut handles = HashMap::new();
        for (name, (config, addresses)) in clusters {
            let endpoints = Arc::new(endpoints(&addresses));
            let handle = ClusterHandle::new(Arc::new(config), endpoints, registry.clone());
            let handle = Arc::new(handle);
            if let Some(slot) = slots.get(&name) {
                slot.set(Arc::clone(&handle));
            }
            handles.insert(name, handle);
        }
        let terminal = match (setup.terminal, setup.tcp) {
            (Some(terminal), _) => terminal,
            (None, Some(proxy)) => Terminal::Tcp(Arc::new(proxy)),
            (None, None) => Terminal::Http(Arc::new(manager)),
        };
        let chain = FilterChain {
            name: "chain".into(),
            transport: setup.transport,
            handshake_timeout: None,
            network_filters: setup.network_filters,
            terminal,
        };
        let listener = Arc::new(listener(chain, &registry));
        let listener_stats = listener.stats.clone();
        let publisher = SnapshotPublisher::new();
        let listeners = HashMap::from([(Arc::clone(&listener.name), listener)]);
        let named = handles.values().map(|handle| (handle.name().clone(), Arc::clone(handle)));
        publisher.publish(Snapshot {
            hand_off: HandOff::new(listeners.values()),
            listeners,
            clusters: named.collect(),
            ..Snapshot::default()
        });
        let drain = Drain::new();
        let worker = WorkerCx::new(publisher.watch(), 1);
        let address = run(&publisher, &drain, &worker).await;
        Self {
            address,
            drain,
            stats,
            listener: listener_stats,
            clusters: handles,
            _publisher: publisher,
        }
    }
}

async fn run(publisher: &SnapshotPublisher, drain: &Drain, worker: &Rc<WorkerCx>) -> SocketAddr {
    let (sender, mut bound) = mpsc::channel(8);
    let options = ListenerOptions {
        snapshot: publisher.watch(),
        worker: 0,
        drain: drain.clone(),
        drain_plan: DrainPlan { announce: Duration::ZERO, close: Duration::from_secs(60) },
        events: Rc::new(move |event| {
            if let ListenerEvent::Bound { bound, .. } = event {
                sender.try_send(bound.unwrap()).unwrap();
            }
        }),
    };
    let worker = Rc::clone(worker);
    let serve = move |established| weft_http::serve(established, Rc::clone(&worker));
    spawn_local(ListenerSet::new(options, serve).run(|_| {}));
    bound.recv().await.unwrap()
}

pub(crate) fn endpoints(addresses: &[SocketAddr]) -> EndpointSet {
    let endpoint = |address: &SocketAddr| Arc::new(Endpoint::at(EndpointAddress::Socket(*address)));
    let endpoints = addresses.iter().map(endpoint).collect();
    EndpointSet {
        priorities: vec![Priority { endpoints, ..Priority::default() }],
        overprovisioning_factor: 140,
        ..EndpointSet::default()
    }
}

pub(crate) fn cluster(name: &str) -> Cluster {
    Cluster::named(name)
}

pub(crate) fn forward(clusters: ClusterChoice) -> Forward {
    Forward {
        clusters,
        cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
        path: PathRewrite::Keep,
        host: HostRewrite::Keep,
        append_x_forwarded_host: false,
        timeout: Some(Duration::from_secs(15)),
        idle_timeout: None,
        max_stream_duration: None,
        grpc_duration_max: None,
        grpc_timeout_max: None,
        retry: None,
        mirrors: Vec::new(),
        hash: Vec::new(),
        upgrades: Vec::new(),
        terminates: false,
        internal_redirect: None,
        high_priority: false,
        labels: None,
    }
}

pub(crate) fn route(action: RouteAction) -> Route {
    Route {
        name: Some("the-route".into()),
        action,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        filters: Vec::new(),
        disabled_filters: Vec::new(),
        tracing: None,
    }
}

fn virtual_host() -> VirtualHost {
    VirtualHost {
        name: "host".into(),
        require_tls: None,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        attempt_count_upstream: false,
        attempt_count_downstream: false,
        used: None,
    }
}

fn manager(stats: HttpStats) -> HttpConnectionManager {
    let table = RouteTable::compile(Vec::new(), TableOptions::default()).unwrap();
    let empty = Routes {
        name: "none".into(),
        table,
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        most_specific_wins: false,
        vhds: None,
    };
    HttpConnectionManager {
        codec: Codec::Auto,
        routes: RouteSource::Inline(Arc::new(empty)),
        filters: HttpFilters::default(),
        on_demand: None,
        xff: XffSettings::default(),
        client_cert: ForwardClientCert::default(),
        server_name: HeaderValue::from_static("weft"),
        server_header: ServerHeader::Overwrite,
        via: None,
        generate_request_id: true,
        preserve_external_request_id: false,
        request_id_in_response: false,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        underscores: Underscores::Allow,
        strip_port: StripPort::Never,
        strip_dot: false,
        local_replies: None,
        upgrades: vec!["websocket".into()],
        proxy_100_continue: false,
        stream_idle_timeout: Some(Duration::from_secs(300)),
        request_timeout: None,
        request_headers_timeout: None,
        idle_timeout: Some(Duration::from_secs(3600)),
        max_connection_duration: None,
        max_stream_duration: None,
        max_requests_per_connection: None,
        max_headers: 100,
        max_header_bytes: 60 << 10,
        drain_timeout: Duration::from_secs(5),
        http1: Http1Options::default(),
        http2: Http2Options::default(),
        append_x_forwarded_port: false,
        tracing: None,
        access_logs: Vec::new(),
        stats,
    }
}

fn listener(chain: FilterChain, registry: &Registry) -> Listener {
    Listener {
        name: "listener".into(),
        addresses: vec![ListenAddress::Socket("127.0.0.1:0".parse().unwrap())],
        bind: true,
        use_original_dst: false,
        transparent: false,
        freebind: false,
        socket_options: Vec::new(),
        backlog: 1024,
        exact_balance: false,
        direction: TrafficDirection::Unspecified,
        filters: Vec::new(),
        filters_timeout: None,
        continue_on_timeout: false,
        chains: FilterChainTable::compile(&[], Some(Arc::new(chain))).unwrap(),
        buffer_limit: 1 << 20,
        access_logs: Vec::new(),
        stats: ListenerStats::new(registry, "listener"),
        fingerprint: 1,
    }
}

pub(crate) fn tcp_proxy(setup: &mut Setup, cluster: &str) -> TcpProxy {
    TcpProxy {
        clusters: ClusterChoice::One(setup.slot(cluster)),
        on_demand: None,
        idle_timeout: Some(Duration::from_secs(3600)),
        max_connect_attempts: 1,
        max_duration: None,
        hash: Vec::new(),
        labels: None,
        tunnel: None,
        access_logs: Vec::new(),
        stats: TcpStats::new(&setup.registry, "test"),
    }
}

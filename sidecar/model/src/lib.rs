//! The immutable runtime snapshot that the request path reads: listeners,
//! filter chains, routes, clusters.
//!
//! Everything here is compiled and validated before it arrives; nothing names
//! a protobuf type and nothing does I/O. What changes on its own (a route
//! table, a certificate, a cluster's endpoints) sits behind a [`Slot`], so that
//! a change of one swaps one pointer and not the world.

mod action;
mod balancing;
mod chain;
mod check;
mod cluster;
mod demand;
mod endpoint;
mod extension;
mod forwarded;
mod headers;
mod host;
mod listener;
mod local_reply;
mod manager;
mod names;
mod options;
mod outlier;
mod slot;
mod snapshot;
mod socket;
mod tcp;
mod tracing;

pub use action::{
    ClusterChoice, DirectResponse, Forward, HashPolicy, HashSource, HostRewrite, InternalRedirect,
    Mirror, PathRewrite, RateLimitedBackOff, Redirect, RedirectPredicate, ResetFormat, RetryOn,
    RetryPolicy, Route, RouteAction, Routes, Vhds, VirtualHost, WeightedCluster, WeightedClusters,
};
pub use balancing::{
    BalancingOptions, Labels, LoadBalancing, SlowStart, SubsetFallback, SubsetSelector, Subsets,
    ZoneAware,
};
pub use chain::{
    ChainConflict, ChainKey, ChainMatch, FilterChain, FilterChainTable, SourceType, Terminal,
    TransportProtocol, TransportSocket,
};
pub use check::{
    CheckKind, CheckPace, EndpointCheck, GrpcCheck, HealthCheck, HttpCheck, StatusRange, TcpCheck,
};
pub use cluster::{
    CircuitBreakers, Cluster, ClusterExchange, ClusterHandle, ClusterSlot, Discovery, DnsFamily,
    DnsHost, DnsSettings, ProtocolChoice, RetryBudget, Thresholds,
};
pub use demand::{
    Demand, DemandAnswer, OnDemandClusters, OnDemandFilter, UseMark, Waiting, Wanted,
};
pub use endpoint::{
    Endpoint, EndpointAddress, EndpointSet, Health, Locality, Priority, TransportChoice,
};
pub use extension::{
    DiscoveredHttpFilter, DiscoveredNetworkFilter, Extension, HttpExtension, NetworkExtension,
};
pub use forwarded::{ForwardedNames, NameAnswer, NameFailure, NameSettings};
pub use headers::{AppendAction, HeaderMutations, HeaderSet, HeaderTemplate};
pub use host::{
    Count, Ejection, FailureRuns, HealthFlags, HostCounters, HostState, HostTotals, Hosts,
};
pub use listener::{
    ListenAddress, Listener, ListenerFilter, ListenerFilterKind, PortPredicate, SocketMoment,
    SocketOption, TrafficDirection,
};
pub use local_reply::{LocalReplies, ReplyFormat, ReplyMapper, ReplyTemplate};
pub use manager::{
    Codec, EscapedSlashes, ForwardClientCert, ForwardClientCertMode, HttpConnectionManager,
    HttpFilterEntry, HttpFilters, RouteSource, ServerHeader, StripPort, Underscores, XffSettings,
};
pub use names::{NameTable, NamedHost};
pub use options::{Http1Options, Http2Options, KeepalivePings, TcpKeepalive};
pub use outlier::{EjectionCause, Enforcing, OutlierDetection};
pub use slot::{NamedSlot, Slot};
pub use snapshot::{ClusterHandles, HandOff, Snapshot, SnapshotPublisher, SnapshotWatch};
pub use socket::{PassTlvs, ProxiedSocket, ProxyHeader, ProxyVersion, SocketMatch, UpstreamSocket};
pub use tcp::{TcpProxy, Tunneling};
pub use tracing::{RouteTracing, TraceSampling, Tracing, TracingStats};

//! Listeners.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weft_filter_api::KeepSource;
use weft_telemetry::{AccessLog, ListenerStats};

use crate::FilterChainTable;

/// `listener.v3.Listener`, compiled.
#[derive(Debug)]
pub struct Listener {
    /// `name`
    pub name: Arc<str>,
    /// `address` and `additional_addresses`
    pub addresses: Vec<ListenAddress>,
    /// `bind_to_port: false` is a listener without a socket, reached by hand-off only.
    pub bind: bool,
    /// `use_original_dst`: hands connections to the listener of their destination.
    pub use_original_dst: bool,
    /// `transparent`
    pub transparent: bool,
    /// `freebind`
    pub freebind: bool,
    /// `tcp_backlog_size`
    pub backlog: u32,
    /// `socket_options`
    pub socket_options: Vec<SocketOption>,
    /// `connection_balance_config.exact_balance`: a new connection always goes to the worker that
    /// has the fewest. Without it, one that has nearly as few keeps what it accepts.
    pub exact_balance: bool,
    /// `traffic_direction`
    pub direction: TrafficDirection,
    /// `listener_filters`, in order.
    pub filters: Vec<ListenerFilter>,
    /// `listener_filters_timeout` (default 15 s); `None`: no limit.
    pub filters_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`
    pub continue_on_timeout: bool,
    /// `filter_chains` and `default_filter_chain`
    pub chains: FilterChainTable,
    /// `per_connection_buffer_limit_bytes` (default 1 MiB)
    pub buffer_limit: u32,
    /// `access_log`: connections that found no filter chain.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// `listener.<address>.*`
    pub stats: ListenerStats,
    /// Changes with the resource: the same fingerprint means the same listener.
    pub fingerprint: u64,
}

/// `core.v3.SocketOption`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    /// `description`
    pub description: String,
    /// `level`
    pub level: i32,
    /// `name`
    pub name: i32,
    /// `int_value` or `buf_value`, as the kernel takes it.
    pub value: Vec<u8>,
    /// `state`
    pub moment: SocketMoment,
    /// `ip_version`; `None`: both.
    pub ipv4: Option<bool>,
}

/// `SocketOption.state`: when an option is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketMoment {
    /// Before the socket has an address.
    Prebind,
    /// When it has its address.
    Bound,
    /// When it listens.
    Listening,
}

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// TCP.
    Socket(SocketAddr),
    /// A Unix domain socket.
    Pipe(PathBuf),
}

/// `traffic_direction`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    /// `UNSPECIFIED`
    #[default]
    Unspecified,
    /// `INBOUND`
    Inbound,
    /// `OUTBOUND`
    Outbound,
}

/// One listener filter.
#[derive(Clone, Debug)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: ListenerFilterKind,
    /// `filter_disabled`: skipped when this holds for the destination's port.
    pub disabled: Option<PortPredicate>,
}

/// The listener filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerFilterKind {
    /// `envoy.filters.listener.original_dst`
    OriginalDst,
    /// `envoy.filters.listener.original_src`
    OriginalSrc(KeepSource),
    /// `envoy.filters.listener.tls_inspector`
    TlsInspector,
    /// `envoy.filters.listener.http_inspector`
    HttpInspector,
    /// `envoy.filters.listener.proxy_protocol`
    ProxyProtocol {
        /// `allow_requests_without_proxy_protocol`
        optional: bool,
    },
}

/// `ListenerFilterChainMatchPredicate` on destination ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPredicate {
    /// `any_match`
    Any,
    /// `destination_port_range`, half open.
    Ports(Range<u32>),
    /// `not_match`
    Not(Box<Self>),
    /// `or_match`
    AnyOf(Vec<Self>),
    /// `and_match`
    AllOf(Vec<Self>),
}

impl PortPredicate {
    /// Whether the predicate holds for a destination port.
    #[must_use]
    pub fn holds(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Ports(range) => range.contains(&u32::from(port)),
            Self::Not(inner) => !inner.holds(port),
            Self::AnyOf(all) => all.iter().any(|one| one.holds(port)),
            Self::AllOf(all) => all.iter().all(|one| one.holds(port)),
        }
    }
}

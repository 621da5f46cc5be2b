//! Clusters.

mod balancing;
mod check;
mod discovery;
mod outlier;
mod protocol;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_filters::compile_upstream;
use weft_filters::config::{FieldError, Within, opt_duration};
use weft_model::{
    CircuitBreakers, Cluster, ClusterExchange, Discovery, EndpointSet, RetryBudget, SocketMatch,
    Thresholds, UpstreamSocket,
};
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    CircuitBreakers as PbBreakers, Cluster as PbCluster,
    circuit_breakers::Thresholds as PbThresholds,
};
use weft_xds_proto::pb::envoy::config::core::v3::{BindConfig, RoutingPriority, SocketAddress};

use super::address::ip;
use super::options::{number, tcp_keepalive};
use super::{Cx, endpoint, mesh, tls};

/// `connect_timeout` when it is not set.
const CONNECT: Duration = Duration::from_secs(5);
/// `per_connection_buffer_limit_bytes` when it is not set.
const BUFFER: u32 = 1 << 20;
/// `healthy_panic_threshold` when it is not set, per cent.
const PANIC: f64 = 50.0;

/// A compiled cluster and the endpoints that stand in its configuration.
#[derive(Debug)]
pub(crate) struct CompiledCluster {
    /// The configuration.
    pub(crate) cluster: Cluster,
    /// `load_assignment`, for clusters whose endpoints do not come by EDS or DNS.
    pub(crate) endpoints: EndpointSet,
}

/// Compiles a cluster.
pub(crate) fn cluster(cx: &mut Cx<'_>, config: &PbCluster) -> Result<CompiledCluster, FieldError> {
    if config.name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    refuse(config)?;
    let stat_name = match config.alt_stat_name.trim_end_matches(';') {
        "" => &config.name,
        alternative => alternative,
    };
    let (load_balancing, balancing) = balancing::balancing(cx, config)?;
    let protocol = protocol::protocol(config)?;
    let sockets = sockets(cx, config, protocol.match_sni)?;
    let exchange = exchange(cx, config, sockets.protocols)?;
    let timeout = opt_duration(config.connect_timeout.as_ref(), "connect_timeout")?;
    let limit = config.per_connection_buffer_limit_bytes.as_ref();
    let options = config.upstream_connection_options.as_ref();
    let mut cluster = Cluster {
        name: config.name.as_str().into(),
        stat_name: stat_name.into(),
        discovery: Discovery::Static,
        connect_timeout: timeout.filter(|time| !time.is_zero()).unwrap_or(CONNECT),
        load_balancing,
        balancing,
        panic_threshold: panic_threshold(config)?,
        protocol: protocol.choice,
        http1: protocol.http1,
        http2: protocol.http2,
        idle_timeout: protocol.idle_timeout,
        max_requests_per_connection: protocol.max_requests,
        max_connection_duration: protocol.max_duration,
        sockets: sockets.matches,
        default_socket: sockets.default,
        breakers: config
            .circuit_breakers
            .as_ref()
            .map_or_else(|| Ok(CircuitBreakers::default()), breakers)
            .within("circuit_breakers")?,
        outlier: config
            .outlier_detection
            .as_ref()
            .map(outlier::outlier)
            .transpose()
            .within("outlier_detection")?
            .map(Arc::new),
        health_check: check::health_check(&config.health_checks)?.map(Arc::new),
        forget_removed: config.ignore_health_on_host_removal,
        close_on_failure: config.close_connections_on_host_health_failure,
        ignore_unchecked: config
            .common_lb_config
            .as_ref()
            .is_some_and(|common| common.ignore_new_hosts_until_first_hc),
        bind: match &config.upstream_bind_config {
            None => Vec::new(),
            Some(bind) => bind_addresses(bind).within("upstream_bind_config")?,
        },
        tcp_keepalive: options.and_then(|o| o.tcp_keepalive.as_ref()).map(tcp_keepalive),
        buffer_limit: limit.map_or(BUFFER, |limit| limit.value),
        auto_sni: protocol.auto_sni || sockets.auto_sni,
        istio_alpn: sockets.istio_alpn,
        service: config.metadata.as_ref().and_then(mesh::service),
        exchange,
    };
    cluster.discovery = discovery::discovery(cx, config, &cluster)?;
    let endpoints = match (&cluster.discovery, &config.load_assignment) {
        (Discovery::Static, Some(assignment)) => {
            let set = endpoint::assignment(assignment).within("load_assignment")?;
            endpoint::place(&set, &cluster, &EndpointSet::default())
        }
        _ => EndpointSet { overprovisioning_factor: 140, ..EndpointSet::default() },
    };
    Ok(CompiledCluster { cluster, endpoints })
}

fn refuse(config: &PbCluster) -> Result<(), FieldError> {
    let per_host = config.circuit_breakers.as_ref();
    let per_host = per_host.is_some_and(|breakers| !breakers.per_host_thresholds.is_empty());
    let refused = [
        (config.transport_socket_matcher.is_some(), "transport_socket_matcher"),
        (config.upstream_config.is_some(), "upstream_config"),
        (
            config.connection_pool_per_downstream_connection,
            "connection_pool_per_downstream_connection",
        ),
        (per_host, "circuit_breakers.per_host_thresholds"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    Ok(())
}

/// `filters`
fn exchange(
    cx: &Cx<'_>,
    config: &PbCluster,
    protocols: Vec<Vec<u8>>,
) -> Result<Option<ClusterExchange>, FieldError> {
    let mut exchange = None;
    for (index, filter) in config.filters.iter().enumerate() {
        let any = filter.typed_config.as_ref().ok_or_else(|| FieldError::missing("typed_config"));
        let compiled = any.and_then(|any| compile_upstream(&filter.name, any, &cx.for_filters("")));
        exchange = Some(compiled.within_item("filters", index)?);
    }
    let offered: Arc<[Vec<u8>]> = protocols.into();
    let agreed = exchange.filter(|exchange| offered.contains(&exchange.protocol));
    Ok(agreed.map(|exchange| ClusterExchange { exchange, offered }))
}

fn panic_threshold(config: &PbCluster) -> Result<f64, FieldError> {
    let common = config.common_lb_config.as_ref();
    let threshold = common.and_then(|common| common.healthy_panic_threshold.as_ref());
    let percent = threshold.map_or(PANIC, |percent| percent.value);
    if (0.0..=100.0).contains(&percent) {
        return Ok(percent);
    }
    let reason = format!("{percent} is not between 0 and 100");
    Err(FieldError::at("common_lb_config.healthy_panic_threshold", reason))
}

struct Sockets {
    matches: Vec<SocketMatch>,
    default: UpstreamSocket,
    auto_sni: bool,
    istio_alpn: bool,
    protocols: Vec<Vec<u8>>,
}

fn sockets(cx: &mut Cx<'_>, config: &PbCluster, match_sni: bool) -> Result<Sockets, FieldError> {
    let mut seen = tls::Seen { match_sni, ..tls::Seen::default() };
    let default = match &config.transport_socket {
        None => UpstreamSocket::Raw,
        Some(socket) => tls::upstream(cx, socket, &mut seen).within("transport_socket")?,
    };
    let mut matches = Vec::with_capacity(config.transport_socket_matches.len());
    for (index, one) in config.transport_socket_matches.iter().enumerate() {
        let socket = match &one.transport_socket {
            None => Ok(UpstreamSocket::Raw),
            Some(socket) => tls::upstream(cx, socket, &mut seen).within("transport_socket"),
        };
        matches.push(SocketMatch {
            name: one.name.clone(),
            labels: one.r#match.as_ref().map(endpoint::labels).unwrap_or_default(),
            socket: socket.within_item("transport_socket_matches", index)?,
        });
    }
    let istio_alpn = seen.istio_alpn && alpn_override(config);
    let tls::Seen { auto_sni, protocols, .. } = seen;
    Ok(Sockets { matches, default, auto_sni, istio_alpn, protocols })
}

/// `filter_metadata.istio.alpn_override`: "false" keeps the ALPN names of the TLS context.
fn alpn_override(config: &PbCluster) -> bool {
    let istio = config.metadata.as_ref().and_then(|all| all.filter_metadata.get("istio"));
    istio.is_none_or(|istio| {
        endpoint::labels(istio).get("alpn_override").is_none_or(|value| value != "false")
    })
}

fn breakers(config: &PbBreakers) -> Result<CircuitBreakers, FieldError> {
    let mut breakers = CircuitBreakers::default();
    for (index, thresholds) in config.thresholds.iter().enumerate() {
        let place = match RoutingPriority::try_from(thresholds.priority) {
            Ok(RoutingPriority::Default) => &mut breakers.default,
            Ok(RoutingPriority::High) => &mut breakers.high,
            Err(_) => {
                let reason = format!("{} is not one of DEFAULT, HIGH", thresholds.priority);
                return Err(FieldError::at("priority", reason)).within_item("thresholds", index);
            }
        };
        *place = limits(thresholds);
    }
    Ok(breakers)
}

fn limits(config: &PbThresholds) -> Thresholds {
    let default = Thresholds::default();
    Thresholds {
        connections: number(config.max_connections.as_ref()).unwrap_or(default.connections),
        pending: number(config.max_pending_requests.as_ref()).unwrap_or(default.pending),
        requests: number(config.max_requests.as_ref()).unwrap_or(default.requests),
        retries: number(config.max_retries.as_ref()).unwrap_or(default.retries),
        retry_budget: config.retry_budget.as_ref().map(|budget| RetryBudget {
            part: budget
                .budget_percent
                .as_ref()
                .map_or(2_000, |percent| (percent.value.clamp(0.0, 100.0) * 100.0).round() as u32),
            least: number(budget.min_retry_concurrency.as_ref()).unwrap_or(3),
        }),
    }
}

/// The addresses that connections come from: one of each family at most.
#[expect(deprecated, reason = "control planes still send additional_source_addresses")]
fn bind_addresses(config: &BindConfig) -> Result<Vec<IpAddr>, FieldError> {
    let extra = config.extra_source_addresses.iter().filter_map(|extra| extra.address.as_ref());
    let all = config.source_address.iter().chain(extra).chain(&config.additional_source_addresses);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in all {
        let address = source_address(address).within("source_address")?;
        if let Some(address) = address {
            if addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
                let reason = "only one source address for each address family is supported";
                return Err(FieldError::at("extra_source_addresses", reason));
            }
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The address, unless it stands for any.
fn source_address(address: &SocketAddress) -> Result<Option<IpAddr>, FieldError> {
    use weft_xds_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
    if !matches!(address.port_specifier, None | Some(PortSpecifier::PortValue(0))) {
        return Err(FieldError::at("port_value", "has to be 0: any port"));
    }
    Ok(Some(ip(&address.address).within("address")?).filter(|ip| !ip.is_unspecified()))
}

/// An empty assignment, for clusters that have none yet.
pub(crate) fn no_endpoints() -> Arc<EndpointSet> {
    Arc::new(EndpointSet { overprovisioning_factor: 140, ..EndpointSet::default() })
}

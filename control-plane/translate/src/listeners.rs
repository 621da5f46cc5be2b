//! The pieces of which listeners are made.

use std::time::Duration;

use weft_xds_proto::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use weft_xds_proto::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, ListenerFilter, filter, listener_filter,
};
use weft_xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use weft_xds_proto::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use weft_xds_proto::pb::envoy::extensions::filters::http::{
    on_demand::v3::{OnDemand, OnDemandCds},
    router::v3::Router,
};
use weft_xds_proto::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
    tls_inspector::v3::TlsInspector,
};
use weft_xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
    http_connection_manager::{
        CodecType, ForwardClientCertDetails, RouteSpecifier, ServerHeaderTransformation,
        SetCurrentClientCertDetails, UpgradeConfig,
    },
    http_filter,
};
use weft_xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use weft_xds_proto::{Message, Name, pack};

use crate::chain as plugin_chain;
use crate::envoy::{self, duration, flag, number, unlimited};

/// What plaintext HTTP looks like to the HTTP inspector.
pub(crate) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];
/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How this software calls itself in `server`.
const SERVER_NAME: &str = "weft";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Where a connection manager stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Between the application and the mesh.
    Outbound,
    /// Between the mesh and the application.
    Inbound,
    /// Between the world and the mesh.
    Edge,
}

/// Where the routes come from.
pub(crate) enum Routes {
    Named(String),
    /// A table whose hosts, and their clusters, are fetched on demand.
    OnDemand(String),
    Inline(Box<RouteConfiguration>),
}

/// The connection manager.
pub(crate) fn http(side: Side, stat: &str, routes: Routes, access_log: Option<&str>) -> Filter {
    guarded_http(side, stat, routes, access_log, &[])
}

/// The same with filters in front of all others.
pub(crate) fn guarded_http(
    side: Side,
    stat: &str,
    routes: Routes,
    access_log: Option<&str>,
    guards: &[HttpFilter],
) -> Filter {
    let on_demand = matches!(routes, Routes::OnDemand(_)).then(on_demand);
    let mut manager = HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: stat.to_owned(),
        route_specifier: Some(match routes {
            Routes::Named(route_config_name) | Routes::OnDemand(route_config_name) => {
                RouteSpecifier::Rds(Rds {
                    config_source: Some(envoy::from_ads()),
                    route_config_name,
                })
            }
            Routes::Inline(table) => RouteSpecifier::RouteConfig(*table),
        }),
        http_filters: guards
            .iter()
            .cloned()
            .chain(on_demand)
            .chain(plugins(side))
            .chain([router()])
            .collect(),
        normalize_path: Some(flag(true)),
        stream_idle_timeout: Some(unlimited()),
        proxy_100_continue: true,
        use_remote_address: Some(flag(side == Side::Edge)),
        access_log: access_log.map(file_log).into_iter().collect(),
        // At the edge, a route that wants WebSocket says so.
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            enabled: (side == Side::Edge).then(|| flag(false)),
            ..Default::default()
        }],
        ..Default::default()
    };
    match side {
        Side::Outbound => {
            manager.server_header_transformation = ServerHeaderTransformation::PassThrough.into();
        }
        Side::Inbound => {
            manager.server_name = SERVER_NAME.to_owned();
            manager.forward_client_cert_details = ForwardClientCertDetails::AppendForward.into();
            manager.set_current_client_cert_details = Some(caller());
        }
        Side::Edge => {
            manager.server_name = SERVER_NAME.to_owned();
            manager.merge_slashes = true;
            manager.forward_client_cert_details = ForwardClientCertDetails::SanitizeSet.into();
            manager.set_current_client_cert_details = Some(caller());
        }
    }
    network_filter("envoy.filters.network.http_connection_manager", &manager)
}

/// What is told of the caller's certificate.
fn caller() -> SetCurrentClientCertDetails {
    SetCurrentClientCertDetails {
        subject: Some(flag(true)),
        uri: true,
        dns: true,
        ..Default::default()
    }
}

fn router() -> HttpFilter {
    http_filter("envoy.filters.http.router", &Router::default())
}

/// The filters that run what routes ask for; another data plane leaves them out, and refuses the
/// routes that ask.
fn plugins(side: Side) -> Vec<HttpFilter> {
    if side == Side::Inbound {
        return Vec::new();
    }
    let filter = |(name, config): (&str, _)| HttpFilter {
        name: name.to_owned(),
        is_optional: true,
        disabled: true,
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
    };
    plugin_chain::filters().into_iter().map(filter).collect()
}

fn on_demand() -> HttpFilter {
    let odcds = OnDemandCds { source: Some(envoy::from_ads()), ..Default::default() };
    let config = OnDemand { odcds: Some(odcds) };
    http_filter("envoy.filters.http.on_demand", &config)
}

pub(crate) fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(config))),
        ..Default::default()
    }
}

fn file_log(path: &str) -> AccessLog {
    let config = FileAccessLog { path: path.to_owned(), ..Default::default() };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack(&config))),
        ..Default::default()
    }
}

/// A proxy of connections.
pub(crate) fn tcp(stat: &str, cluster: &str, access_log: Option<&str>) -> Filter {
    network_filter(TCP_PROXY, &to_cluster(stat, cluster, access_log))
}

/// A proxy of connections to a cluster that is fetched when the first one comes.
pub(crate) fn tcp_on_demand(stat: &str, cluster: &str, access_log: Option<&str>) -> Filter {
    let on_demand =
        tcp_proxy::OnDemand { odcds_config: Some(envoy::from_ads()), ..Default::default() };
    let proxy = to_cluster(stat, cluster, access_log);
    network_filter(TCP_PROXY, &TcpProxy { on_demand: Some(on_demand), ..proxy })
}

fn to_cluster(stat: &str, cluster: &str, access_log: Option<&str>) -> TcpProxy {
    TcpProxy {
        stat_prefix: stat.to_owned(),
        access_log: access_log.map(file_log).into_iter().collect(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    }
}

pub(crate) fn network_filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(config))),
    }
}

/// A filter chain of one filter.
pub(crate) fn chain(name: &str, matches: FilterChainMatch, filter: Filter) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: (matches != FilterChainMatch::default()).then_some(matches),
        filters: vec![filter],
        transport_socket_connect_timeout: Some(duration(HANDSHAKE)),
        ..Default::default()
    }
}

/// A match of port, transport protocol and application protocols, each if given.
pub(crate) fn chain_match(
    port: Option<u16>,
    transport: &str,
    protocols: &[&str],
) -> FilterChainMatch {
    FilterChainMatch {
        destination_port: port.map(|port| number(port.into())),
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}

pub(crate) fn original_dst() -> ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &OriginalDst {})
}

pub(crate) fn tls_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
}

pub(crate) fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector {})
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack(config))),
        ..Default::default()
    }
}

//! Which filter a configuration belongs to: one line for each type of message.

use std::fmt;
use std::sync::Arc;

use weft_filter_api::{
    HttpFilter, NetworkFilter, OnDemandSettings, PeerExchange, RouteFilterConfig,
};
use weft_model::TrafficDirection;
use weft_telemetry::{Registry, Scope};
use weft_xds_proto::TypedStruct;
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::pb::google::protobuf::Any;

use crate::config::FieldError;
use crate::http::{
    basic_auth, buffer, compressor, cors, csrf, decompressor, ext_authz, fault, grpc_stats,
    header_mutation, header_to_metadata, health_check, istio_stats, jwt_authn, local_ratelimit,
    on_demand, peer_metadata, plugins, ratelimit, rbac, router, set_filter_state, set_metadata,
};
use crate::network;

/// What the compilation of a filter reads besides the filter's own message.
pub struct FilterCx<'a> {
    /// Who this proxy is.
    pub node: &'a Node,
    /// Where statistics are registered.
    pub registry: &'a Registry,
    /// `stat_prefix` of the connection manager; empty for network filters.
    pub stat_prefix: &'a str,
    /// Which way the listener's traffic goes.
    pub direction: TrafficDirection,
}

impl FilterCx<'_> {
    /// The place of an HTTP filter's statistics, `http.<stat_prefix>.*`.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let prefix = self.stat_prefix.trim_end_matches(';');
        self.registry.scope("http", Some(("envoy_http_conn_manager_prefix", prefix)))
    }
}

/// What became of an HTTP filter's configuration.
#[derive(Clone)]
pub enum HttpFilterKind {
    /// The router, which ends the chain.
    Router,
    /// A filter to run.
    Filter(Arc<dyn HttpFilter>),
    /// What is fetched on demand.
    OnDemand(OnDemandSettings),
    /// Accepted; it does nothing to traffic.
    Inert,
}

/// What became of a network filter's configuration.
#[derive(Clone)]
pub enum NetworkFilterKind {
    /// A filter to run.
    Filter(Arc<dyn NetworkFilter>),
    /// Accepted; it does nothing to traffic.
    Inert,
}

impl fmt::Debug for HttpFilterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => f.write_str("Router"),
            Self::Filter(filter) => filter.fmt(f),
            Self::OnDemand(settings) => settings.fmt(f),
            Self::Inert => f.write_str("Inert"),
        }
    }
}

impl fmt::Debug for NetworkFilterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(filter) => filter.fmt(f),
            Self::Inert => f.write_str("Inert"),
        }
    }
}

type CompileHttp = fn(&Any, &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError>;
type CompileNetwork = fn(&Any, &mut FilterCx<'_>) -> Result<NetworkFilterKind, FieldError>;
type CompilePerRoute = fn(&Any, &mut FilterCx<'_>) -> Result<RouteFilterConfig, FieldError>;

/// HTTP filters by the name of their configuration message.
const HTTP: &[(&str, CompileHttp)] = &[
    ("envoy.extensions.filters.http.router.v3.Router", router::config::compile),
    ("envoy.extensions.filters.http.cors.v3.Cors", cors::config::compile),
    ("envoy.extensions.filters.http.fault.v3.HTTPFault", fault::config::compile),
    (
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        header_mutation::config::compile,
    ),
    ("envoy.extensions.filters.http.rbac.v3.RBAC", rbac::config::compile),
    ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", ext_authz::config::compile),
    ("envoy.extensions.filters.http.basic_auth.v3.BasicAuth", basic_auth::config::compile),
    ("envoy.extensions.filters.http.buffer.v3.Buffer", buffer::config::compile),
    ("envoy.extensions.filters.http.ratelimit.v3.RateLimit", ratelimit::config::compile),
    ("envoy.extensions.filters.http.health_check.v3.HealthCheck", health_check::config::compile),
    ("envoy.extensions.filters.http.compressor.v3.Compressor", compressor::config::compile),
    ("envoy.extensions.filters.http.decompressor.v3.Decompressor", decompressor::config::compile),
    ("envoy.extensions.filters.http.csrf.v3.CsrfPolicy", csrf::config::compile),
    ("envoy.extensions.filters.http.set_metadata.v3.Config", set_metadata::config::compile),
    ("envoy.extensions.filters.http.set_filter_state.v3.Config", set_filter_state::config::compile),
    (
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        header_to_metadata::config::compile,
    ),
    (
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        local_ratelimit::config::compile,
    ),
    ("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", jwt_authn::config::compile),
    ("envoy.extensions.filters.http.on_demand.v3.OnDemand", on_demand::config::compile),
    ("io.istio.http.peer_metadata.Config", peer_metadata::config::compile),
    ("weft.plugins.v1.Consumers", plugins::config::consumers),
    ("weft.plugins.v1.Chain", plugins::config::chain),
    ("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", grpc_stats::config::compile),
    ("stats.PluginConfig", istio_stats::config::compile),
    // Its work is done where a request goes to a cluster that takes the hosts of requests.
    ("envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig", inert),
    // Its work is done when a cluster is compiled: its HTTP connections offer Istio's ALPN names.
    ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", inert),
];

/// Per-route configurations by the name of their message.
const PER_ROUTE: &[(&str, CompilePerRoute)] = &[
    ("envoy.extensions.filters.http.cors.v3.CorsPolicy", cors::config::per_route),
    ("envoy.extensions.filters.http.fault.v3.HTTPFault", fault::config::per_route),
    (
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
        header_mutation::config::per_route,
    ),
    ("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", rbac::config::per_route),
    ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", ext_authz::config::per_route),
    (
        "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute",
        basic_auth::config::per_route,
    ),
    ("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", buffer::config::per_route),
    ("envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute", ratelimit::config::per_route),
    (
        "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
        compressor::config::per_route,
    ),
    ("envoy.extensions.filters.http.csrf.v3.CsrfPolicy", csrf::config::per_route),
    (
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        set_filter_state::config::per_route,
    ),
    (
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        header_to_metadata::config::per_route,
    ),
    (
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        local_ratelimit::config::per_route,
    ),
    ("envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig", jwt_authn::config::per_route),
    ("envoy.extensions.filters.http.on_demand.v3.PerRouteConfig", on_demand::config::per_route),
    ("weft.plugins.v1.Consumers", plugins::config::consumers_per_route),
    ("weft.plugins.v1.Chain", plugins::config::chain_per_route),
];

/// Network filters by the name of their configuration message.
const NETWORK: &[(&str, CompileNetwork)] = &[
    ("envoy.extensions.filters.network.rbac.v3.RBAC", network::rbac::config::compile),
    ("envoy.extensions.filters.network.ext_authz.v3.ExtAuthz", network::ext_authz::config::compile),
    (
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        network::connection_limit::config::compile,
    ),
    (
        "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
        network::sni_cluster::config::compile,
    ),
    (
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
        network::local_ratelimit::config::compile,
    ),
    (METADATA_EXCHANGE, network::metadata_exchange::config::compile),
    ("stats.PluginConfig", network::istio_stats::config::compile),
];

/// The network filter that may also stand in a cluster.
const METADATA_EXCHANGE: &str = "envoy.tcp.metadataexchange.config.MetadataExchange";

fn inert(_: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    Ok(HttpFilterKind::Inert)
}

/// The name of the message that stands in an `Any`; for a `TypedStruct`, of the one it stands for.
///
/// # Errors
/// The `TypedStruct` is malformed.
pub fn message_name(any: &Any) -> Result<String, FieldError> {
    if TypedStruct::is(any) {
        return Ok(TypedStruct::open(any)?.type_name().to_owned());
    }
    Ok(type_name(&any.type_url).to_owned())
}

fn unknown(name: &str, message: &str) -> FieldError {
    FieldError::at("typed_config", format!("no filter is known for {message:?} (named {name:?})"))
}

/// Compiles the HTTP filter `name`.
///
/// # Errors
/// No filter is known for the message, or the filter refuses it.
pub fn compile_http(
    name: &str,
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<HttpFilterKind, FieldError> {
    let message = message_name(config).map_err(|error| error.within("typed_config"))?;
    let (_, compile) =
        HTTP.iter().find(|(known, _)| *known == message).ok_or_else(|| unknown(name, &message))?;
    compile(config, cx).map_err(|error| error.within("typed_config"))
}

/// Compiles a filter's configuration for one route or virtual host.
///
/// # Errors
/// No filter is known for the message, or the filter refuses it.
pub fn compile_per_route(
    name: &str,
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let message = message_name(config)?;
    let (_, compile) = PER_ROUTE.iter().find(|(known, _)| *known == message).ok_or_else(|| {
        FieldError::new(format!("no filter takes {message:?} (for {name:?}) on a route"))
    })?;
    compile(config, cx)
}

/// Compiles the network filter `name`, one that comes before the terminal filter.
///
/// # Errors
/// No filter is known for the message, or the filter refuses it.
pub fn compile_network(
    name: &str,
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    let message = message_name(config).map_err(|error| error.within("typed_config"))?;
    let (_, compile) = NETWORK
        .iter()
        .find(|(known, _)| *known == message)
        .ok_or_else(|| unknown(name, &message))?;
    compile(config, cx).map_err(|error| error.within("typed_config"))
}

/// Compiles the network filter `name` of a cluster: what connections to it begin with.
///
/// # Errors
/// No filter of clusters is known for the message, or the filter refuses it.
pub fn compile_upstream(
    name: &str,
    config: &Any,
    cx: &FilterCx<'_>,
) -> Result<Arc<PeerExchange>, FieldError> {
    let message = message_name(config).map_err(|error| error.within("typed_config"))?;
    if message != METADATA_EXCHANGE {
        return Err(unknown(name, &message));
    }
    let exchange = network::metadata_exchange::config::exchange(config, cx);
    exchange.map_err(|error| error.within("typed_config"))
}

/// Whether a network filter has peers tell each other who they are.
#[must_use]
pub fn is_metadata_exchange(config: &Any) -> bool {
    message_name(config).is_ok_and(|name| name == METADATA_EXCHANGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn an_unknown_filter_is_named() {
        let any = Any { type_url: "type.googleapis.com/a.B".to_owned(), value: Vec::new() };
        let error = compile_http("my.filter", &any, &mut Fixture::default().cx())
            .expect_err("it is unknown");
        assert_eq!(
            error.to_string(),
            "typed_config: no filter is known for \"a.B\" (named \"my.filter\")"
        );
        assert!(compile_per_route("my.filter", &any, &mut Fixture::default().cx()).is_err());
        assert!(compile_network("my.filter", &any, &mut Fixture::default().cx()).is_err());
    }

    #[test]
    fn a_typed_struct_is_known_by_what_it_stands_for() {
        let any =
            TypedStruct::pack("type.googleapis.com/stats.PluginConfig", &serde_json::Map::new());
        let fixture = Fixture::default();
        let kind = compile_http("istio.stats", &any, &mut fixture.cx());
        assert!(matches!(kind, Ok(HttpFilterKind::Filter(_))));
        let kind = compile_network("istio.stats", &any, &mut fixture.cx());
        assert!(matches!(kind, Ok(NetworkFilterKind::Filter(_))));
    }
}

//! Stream routes: an edge's listeners for connections that are no HTTP.
//!
//! APISIX tries the routes of the name that a TLS client asks for, then the others, each in the
//! order of their ids, and takes the first whose addresses fit. Envoy takes the most specific
//! chain and never goes back. So each listener gets a chain for each combination of server
//! address, name and client address that its routes tell apart, and in each of them stands the
//! route that APISIX would take.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;
use weft_control_model::{
    Plugins, ResourceKey, ResourceKind, Resources, Scheme, SslType, StreamRoute,
};
use weft_xds_proto::pb::envoy::config::core::v3::{CidrRange, TrafficDirection, TransportSocket};
use weft_xds_proto::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener,
};
use weft_xds_proto::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac as Rules, permission, principal, rbac::Action,
};
use weft_xds_proto::pb::envoy::extensions::filters::network::rbac::v3::Rbac;

use crate::edge::secret_names;
use crate::envoy::number;
use crate::listeners::{chain, network_filter, tcp, tls_inspector};
use crate::node::Families;
use crate::problem::{Problem, Unsupported};
use crate::settings::{Settings, StreamPort};
use crate::targets::{Target, inline, of_service, referenced};
use crate::tls;

/// The stream plugins that are run, as network filters.
const IP_RESTRICTION: &str = "ip-restriction";

/// A stream route that can be served.
pub(crate) struct Stream {
    id: String,
    route: StreamRoute,
    pub(crate) target: Target,
    /// What decides on a connection before it is forwarded.
    guard: Option<Filter>,
}

/// All stream routes, in the order of trial.
pub(crate) fn streams(
    resources: &Resources,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Stream> {
    let mut streams = Vec::new();
    for item in resources.kept.of(ResourceKind::StreamRoute) {
        let key = ResourceKey::new(ResourceKind::StreamRoute, item.id.clone());
        let route = StreamRoute::from_fields(&item.value);
        let route = route.map_err(|error| Unsupported::new(error.path, error.reason));
        match route.and_then(|route| stream(resources, &key, route)) {
            Ok(stream) => {
                if let Some(problem) = unreachable(&stream.route, settings) {
                    problems.push(Problem { served: true, ..problem.of(&key) });
                }
                streams.push(stream);
            }
            Err(error) => problems.push(error.of(&key)),
        }
    }
    streams
}

/// Why no connection can come to a route, whatever the others are.
fn unreachable(route: &StreamRoute, settings: &Settings) -> Option<Unsupported> {
    let fits = |port: &&StreamPort| route.server_port.is_none_or(|wanted| wanted == port.port);
    let mut ports = settings.stream_ports.iter().filter(fits);
    if route.sni.is_some() {
        let reason = "no port of edge.stream_proxy.tcp with tls is one of this route's";
        return (!ports.any(|port| port.tls)).then(|| Unsupported::new("sni", reason));
    }
    let reason = "no port of edge.stream_proxy.tcp is one of this route's";
    ports.next().is_none().then(|| Unsupported::new("server_port", reason))
}

fn stream(
    resources: &Resources,
    key: &ResourceKey,
    route: StreamRoute,
) -> Result<Stream, Unsupported> {
    if route.protocol.is_some() {
        return Err(Unsupported::new("protocol", "nothing inside of connections is understood"));
    }
    if route.sni.as_deref().is_some_and(|sni| sni.len() > 1 && is_odd(sni)) {
        return Err(Unsupported::new("sni", "a wildcard stands for whole labels: *.example.com"));
    }
    let service = match &route.service_id {
        None => None,
        Some(id) => Some(
            resources
                .services
                .get(id)
                .ok_or_else(|| Unsupported::missing("service_id", format_args!("service {id}")))?,
        ),
    };
    let own = match (&route.upstream, &route.upstream_id) {
        (Some(upstream), _) => Some(inline(key.clone(), upstream)),
        (None, Some(id)) => Some(referenced(resources, id)?),
        (None, None) => {
            service.map(|service| of_service(resources, service)).transpose()?.flatten()
        }
    };
    let target = own.ok_or_else(|| Unsupported::new("upstream", "there is none"))?;
    if !matches!(target.upstream.scheme, Scheme::Tcp | Scheme::Tls | Scheme::Http) {
        let reason = "scheme: connections go to tcp and tls; UDP is not forwarded yet";
        return Err(Unsupported::new("upstream", reason));
    }
    let plugins = match service {
        Some(service) => route.plugins.over(&service.value.plugins),
        None => route.plugins.clone(),
    };
    let guard = guard(&plugins, &route.plugins)?;
    let target = as_connections(target);
    Ok(Stream { id: key.id.to_string(), route, target, guard })
}

fn is_odd(sni: &str) -> bool {
    sni.strip_prefix('*').is_some_and(|suffix| !suffix.starts_with('.'))
}

/// APISIX takes the default scheme of upstreams, `http`, for `tcp` here. Routes may use the same
/// upstream for HTTP.
fn as_connections(target: Target) -> Target {
    if target.upstream.scheme != Scheme::Http {
        return target;
    }
    let mut upstream = (*target.upstream).clone();
    upstream.scheme = Scheme::Tcp;
    let cluster = format!("{}/tcp", target.cluster);
    Target { cluster, upstream: Arc::new(upstream), ..target }
}

/// A service's plugins for HTTP mean nothing to connections; a route's own have to be known.
fn guard(plugins: &Plugins, own: &Plugins) -> Result<Option<Filter>, Unsupported> {
    let unknown = |name: &&String| name.as_str() != IP_RESTRICTION && own.enabled(name).is_some();
    if let Some(name) = own.0.keys().find(unknown) {
        let reason = "this stream plugin isn't run yet";
        return Err(Unsupported::new(format!("plugins.{name}"), reason));
    }
    let Some(config) = plugins.enabled(IP_RESTRICTION) else { return Ok(None) };
    let wrong = |reason: String| Unsupported::new(format!("plugins.{IP_RESTRICTION}"), reason);
    if let Some(checked) = weft_plugins::check(IP_RESTRICTION, config) {
        checked.map_err(wrong)?;
    }
    let list = |name: &str| config.get(name).and_then(Value::as_array);
    let (action, listed) = match (list("whitelist"), list("blacklist")) {
        (Some(listed), _) => (Action::Allow, listed),
        (None, Some(listed)) => (Action::Deny, listed),
        (None, None) => return Ok(None),
    };
    let networks = listed.iter().filter_map(Value::as_str).map(network);
    let principals = networks.map(|range| {
        let range = range.map_err(wrong)?;
        Ok(Principal { identifier: Some(principal::Identifier::DirectRemoteIp(range)) })
    });
    let everything = Permission { rule: Some(permission::Rule::Any(true)) };
    let policy = Policy {
        permissions: vec![everything],
        principals: principals.collect::<Result<_, _>>()?,
        ..Default::default()
    };
    let rules = Rules {
        action: action.into(),
        policies: [(IP_RESTRICTION.to_owned(), policy)].into(),
        ..Default::default()
    };
    let config = Rbac {
        rules: Some(rules),
        stat_prefix: "ip_restriction.".to_owned(),
        ..Default::default()
    };
    Ok(Some(network_filter("envoy.filters.network.rbac", &config)))
}

fn network(text: &str) -> Result<CidrRange, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address());
    network.map(range).map_err(|_| format!("invalid ip address: {text}"))
}

fn range(network: IpNet) -> CidrRange {
    CidrRange {
        address_prefix: network.network().to_string(),
        prefix_len: Some(number(network.prefix_len().into())),
    }
}

/// The listeners of the stream routes: one for each port that has any.
pub(crate) fn listeners(
    families: Families,
    settings: &Settings,
    resources: &Resources,
    streams: &[Stream],
    trusted: bool,
) -> Vec<Listener> {
    let ports = settings.stream_ports.iter().filter(|port| trusted || !port.tls);
    let listeners = ports.filter_map(|port| {
        let certificates = if port.tls { certificates(resources) } else { Vec::new() };
        let combined = Combined { port, streams, certificates: &certificates, settings };
        let filter_chains = combined.chains();
        let (address, additional_addresses) = families.wildcard(port.port);
        let listener_filters = if port.tls { vec![tls_inspector()] } else { Vec::new() };
        (!filter_chains.is_empty()).then(|| Listener {
            name: format!("stream_{}", port.port),
            address,
            additional_addresses,
            filter_chains,
            listener_filters,
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Default::default()
        })
    });
    listeners.collect()
}

/// The certificates by the names that they are for, the oldest first.
fn certificates(resources: &Resources) -> Vec<(String, TransportSocket)> {
    let mut ssls: Vec<_> = resources.ssls.iter().collect();
    ssls.retain(|item| item.value.enabled && item.value.kind == SslType::Server);
    ssls.sort_by_key(|item| item.created);
    let named = ssls.into_iter().flat_map(|item| {
        let socket = tls::edge_connections(&item.value, secret_names(item));
        item.value.snis.iter().map(move |name| (name.clone(), socket.clone()))
    });
    named.collect()
}

/// What the chains of one listener are made of.
struct Combined<'a> {
    port: &'a StreamPort,
    streams: &'a [Stream],
    certificates: &'a [(String, TransportSocket)],
    settings: &'a Settings,
}

impl Combined<'_> {
    fn chains(&self) -> Vec<FilterChain> {
        let here: Vec<_> = self.streams.iter().filter(|stream| self.is_here(stream)).collect();
        let server = distinct(&here, |route| route.server_addr);
        let client = distinct(&here, |route| route.remote_addr);
        let mut chains = Vec::new();
        for name in self.names(&here) {
            let socket = self.certificate(name.as_deref());
            if self.port.tls && socket.is_none() {
                continue;
            }
            for &server in &server {
                for &client in &client {
                    let found = first(&here, name.as_deref(), server, client);
                    let Some(stream) = found else { continue };
                    let mut chain = self.chain(stream, name.clone(), (server, client));
                    chain.transport_socket = socket.cloned();
                    chains.push(chain);
                }
            }
        }
        chains
    }

    fn is_here(&self, stream: &Stream) -> bool {
        let route = &stream.route;
        route.server_port.is_none_or(|port| port == self.port.port)
            && (self.port.tls || route.sni.is_none())
    }

    /// The names that routes or certificates tell apart; nothing stands for all others.
    fn names(&self, here: &[&Stream]) -> BTreeSet<Option<String>> {
        let routes = here.iter().filter_map(|stream| stream.route.sni.clone());
        let certificates = self.certificates.iter().map(|(name, _)| name.clone());
        let named = routes.chain(certificates).filter(|name| name != "*");
        named.map(Some).chain([None]).collect()
    }

    /// The certificate that is shown under a name.
    fn certificate(&self, name: Option<&str>) -> Option<&TransportSocket> {
        let fitting = self.certificates.iter().filter(|(pattern, _)| covers(pattern, name));
        // Of equally long ones the oldest, which stands first.
        let best =
            fitting.rev().max_by_key(|(pattern, _)| (!pattern.starts_with('*'), pattern.len()));
        best.map(|(_, socket)| socket)
    }

    fn chain(
        &self,
        stream: &Stream,
        name: Option<String>,
        (server, client): (Option<IpNet>, Option<IpNet>),
    ) -> FilterChain {
        let matches = FilterChainMatch {
            prefix_ranges: server.map(range).into_iter().collect(),
            server_names: name.into_iter().collect(),
            source_prefix_ranges: client.map(range).into_iter().collect(),
            transport_protocol: if self.port.tls { "tls" } else { "" }.to_owned(),
            ..Default::default()
        };
        let stat = format!("stream_{}", self.port.port);
        let cluster = &stream.target.cluster;
        let proxy = tcp(&stat, cluster, self.settings.access_log.as_deref());
        let mut chain = chain(&format!("stream_route/{}", stream.id), matches, proxy);
        chain.filters.splice(0..0, stream.guard.clone());
        chain
    }
}

/// The values that routes have, and none.
fn distinct(
    streams: &[&Stream],
    of: impl Fn(&StreamRoute) -> Option<IpNet>,
) -> BTreeSet<Option<IpNet>> {
    streams.iter().map(|stream| of(&stream.route)).chain([None]).collect()
}

/// The route that APISIX takes: those of a name before the others.
fn first<'a>(
    streams: &[&'a Stream],
    name: Option<&str>,
    server: Option<IpNet>,
    client: Option<IpNet>,
) -> Option<&'a Stream> {
    let fits = |wanted: Option<IpNet>, range: Option<IpNet>| match (wanted, range) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wanted), Some(range)) => wanted.contains(&range),
    };
    let by_address = |stream: &&&Stream| {
        fits(stream.route.server_addr, server) && fits(stream.route.remote_addr, client)
    };
    let candidates = || streams.iter().filter(by_address);
    let mut named = candidates().filter(|stream| {
        let pattern = stream.route.sni.as_deref();
        pattern.is_some_and(|pattern| covers(pattern, name))
    });
    let length = |stream: &&&Stream| {
        let pattern = stream.route.sni.as_deref().unwrap_or_default();
        (!pattern.starts_with('*'), pattern.len())
    };
    let longest = named.clone().map(|stream| length(&stream)).max();
    let named = named.find(|stream| Some(length(stream)) == longest);
    named.or_else(|| candidates().find(|stream| stream.route.sni.is_none())).copied()
}

/// Whether a pattern is for a name, or for all that a pattern is for; no name stands for those
/// that nothing else is for.
fn covers(pattern: &str, name: Option<&str>) -> bool {
    match (pattern.strip_prefix('*'), name) {
        (Some(""), _) => true,
        (_, None) => false,
        (Some(suffix), Some(name)) => name.len() > suffix.len() && name.ends_with(suffix),
        (None, Some(name)) => name == pattern,
    }
}

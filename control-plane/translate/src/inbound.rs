//! A sidecar's listener for what its application is sent.
//!
//! Chains stand for what Istio calls the combinations of mTLS mode and protocol, with Istio's
//! matches, so that its sidecars and Weft's understand each other.

use std::time::Duration;

use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster;
use weft_xds_proto::pb::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, TrafficDirection,
};
use weft_xds_proto::pb::envoy::config::listener::v3::{
    FilterChain, Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
    listener_filter_chain_match_predicate::{MatchSet, Rule},
};
use weft_xds_proto::pb::envoy::r#type::v3::Int32Range;

use crate::authorization::Guards;
use crate::cluster::{as_downstream, explicit, original_destination, set_http_options};
use crate::envoy::{duration, socket_address};
use crate::listeners::{
    PLAIN_HTTP, Routes, Side, chain, chain_match, guarded_http, http_inspector, original_dst, tcp,
    tls_inspector,
};
use crate::node::{Families, Inbound, InboundPort, Mtls, PortKind};
use crate::route_tables::{self, BLACK_HOLE};
use crate::tls::{self, Carried, MESH_ALPN};

/// Where the interception sends what comes for the application.
const CAPTURE_PORT: u16 = 15006;
/// The cluster for ports that the workload doesn't tell.
const PASSTHROUGH: &str = "InboundPassthroughCluster";
/// How long a client of an untold port may be silent before it is taken for one that waits for
/// the server's first word.
const SILENCE: Duration = Duration::from_secs(1);

const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];

/// The clusters of the application's ports.
pub(crate) fn clusters(inbound: &Inbound) -> Vec<Cluster> {
    let mut clusters: Vec<_> = inbound
        .ports
        .iter()
        .map(|port| to_application(&cluster_name(port.port), port.kind, inbound.families))
        .collect();
    clusters.push(to_application(PASSTHROUGH, PortKind::Auto, inbound.families));
    clusters
}

fn cluster_name(port: u16) -> String {
    format!("inbound|{port}||")
}

/// Connections to the application come from an address that the interception lets pass.
fn to_application(name: &str, kind: PortKind, families: Families) -> Cluster {
    let mut cluster = original_destination(name);
    match kind {
        PortKind::Http => set_http_options(&mut cluster, &explicit(false)),
        PortKind::Http2 => set_http_options(&mut cluster, &explicit(true)),
        PortKind::Auto => set_http_options(&mut cluster, &as_downstream()),
        PortKind::Tcp => {}
    }
    let (first, second) = if families.v4 { ("127.0.0.6", "::6") } else { ("::6", "") };
    let both = families.v4 && families.v6;
    cluster.upstream_bind_config = Some(BindConfig {
        source_address: Some(socket_address(first, 0)),
        extra_source_addresses: both
            .then(|| ExtraSourceAddress {
                address: Some(socket_address(second, 0)),
                ..Default::default()
            })
            .into_iter()
            .collect(),
        ..Default::default()
    });
    cluster
}

/// `virtualInbound`.
pub(crate) fn listener(
    inbound: &Inbound,
    trust_domain: &str,
    access_log: Option<&str>,
    guards: &Guards,
) -> Listener {
    let chains = Chains { trust_domain, access_log, guards };
    let (address, additional_addresses) = inbound.families.wildcard(CAPTURE_PORT);
    let mut filter_chains = vec![chain(
        "virtualInbound-blackhole",
        chain_match(Some(CAPTURE_PORT), "", &[]),
        tcp(BLACK_HOLE, BLACK_HOLE, None),
    )];
    filter_chains.extend(chains.of(&Place::untold(), inbound.others));
    for port in &inbound.ports {
        filter_chains.extend(chains.of(&Place::told(port), port.mtls));
    }
    Listener {
        name: "virtualInbound".to_owned(),
        address,
        additional_addresses,
        filter_chains,
        listener_filters: inspectors(inbound),
        listener_filters_timeout: Some(duration(SILENCE)),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Inbound.into(),
        ..Default::default()
    }
}

/// A port is not waited on for bytes that its protocol may never send first.
fn inspectors(inbound: &Inbound) -> Vec<ListenerFilter> {
    let ports = |leave_out: fn(&InboundPort) -> bool| {
        inbound.ports.iter().filter(move |port| leave_out(port)).map(|port| port.port)
    };
    let mut tls = tls_inspector();
    tls.filter_disabled = any_port(ports(|port| port.mtls == Mtls::Disable));
    let mut http = http_inspector();
    http.filter_disabled = any_port(ports(|port| port.kind != PortKind::Auto));
    vec![original_dst(), tls, http]
}

fn any_port(ports: impl Iterator<Item = u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let mut rules: Vec<_> = ports.map(one_port).collect();
    if rules.len() < 2 {
        return rules.pop();
    }
    Some(ListenerFilterChainMatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) })
}

fn one_port(port: u16) -> ListenerFilterChainMatchPredicate {
    let range = Int32Range { start: port.into(), end: i32::from(port) + 1 };
    ListenerFilterChainMatchPredicate { rule: Some(Rule::DestinationPortRange(range)) }
}

/// The ports that a group of chains is for.
struct Place {
    port: Option<u16>,
    kind: PortKind,
    cluster: String,
}

impl Place {
    fn told(port: &InboundPort) -> Self {
        Self { port: Some(port.port), kind: port.kind, cluster: cluster_name(port.port) }
    }

    fn untold() -> Self {
        Self { port: None, kind: PortKind::Auto, cluster: PASSTHROUGH.to_owned() }
    }

    fn name(&self) -> String {
        match self.port {
            Some(port) => format!("0.0.0.0_{port}"),
            None => "virtualInbound".to_owned(),
        }
    }

    fn http_name(&self) -> String {
        match self.port {
            Some(_) => self.name(),
            None => "virtualInbound-catchall-http".to_owned(),
        }
    }
}

struct Chains<'a> {
    trust_domain: &'a str,
    access_log: Option<&'a str>,
    guards: &'a Guards,
}

impl Chains<'_> {
    fn of(&self, place: &Place, mode: Mtls) -> Vec<FilterChain> {
        match (mode, place.kind) {
            (Mtls::Permissive, PortKind::Http | PortKind::Http2) => vec![
                self.http(place, "tls", &MESH_ALPN, true),
                self.http(place, "raw_buffer", &[], false),
            ],
            (Mtls::Permissive, PortKind::Tcp) => vec![
                self.tcp(place, "tls", &MESH_ALPN, true),
                self.tcp(place, "tls", &[], false),
                self.tcp(place, "raw_buffer", &[], false),
            ],
            (Mtls::Permissive, PortKind::Auto) => vec![
                self.http(place, "tls", &MESH_HTTP, true),
                self.http(place, "raw_buffer", &PLAIN_HTTP, false),
                self.tcp(place, "tls", &MESH_TCP, true),
                self.tcp(place, "raw_buffer", &[], false),
                self.tcp(place, "tls", &[], false),
            ],
            (Mtls::Strict, PortKind::Http | PortKind::Http2) => {
                vec![self.http(place, "tls", &[], true)]
            }
            (Mtls::Strict, PortKind::Tcp) => vec![self.tcp(place, "tls", &[], true)],
            (Mtls::Strict, PortKind::Auto) => {
                vec![self.http(place, "tls", &MESH_HTTP, true), self.tcp(place, "tls", &[], true)]
            }
            (Mtls::Disable, PortKind::Http | PortKind::Http2) => {
                vec![self.http(place, "raw_buffer", &[], false)]
            }
            (Mtls::Disable, PortKind::Tcp) => vec![self.tcp(place, "raw_buffer", &[], false)],
            (Mtls::Disable, PortKind::Auto) => vec![
                self.http(place, "raw_buffer", &PLAIN_HTTP, false),
                self.tcp(place, "raw_buffer", &[], false),
            ],
        }
    }

    fn http(&self, place: &Place, transport: &str, alpn: &[&str], mtls: bool) -> FilterChain {
        let table = route_tables::inbound(&place.cluster, place.port);
        let stat = format!("inbound_{}", place.name());
        let (routes, guards) = (Routes::Inline(Box::new(table)), &self.guards.http);
        let manager = guarded_http(Side::Inbound, &stat, routes, self.access_log, guards);
        let matches = chain_match(place.port, transport, alpn);
        let mut chain = chain(&place.http_name(), matches, manager);
        chain.transport_socket = mtls.then(|| tls::from_mesh(self.trust_domain, Carried::Http1));
        chain
    }

    fn tcp(&self, place: &Place, transport: &str, alpn: &[&str], mtls: bool) -> FilterChain {
        let proxy = tcp(&place.cluster, &place.cluster, self.access_log);
        let mut chain = chain(&place.name(), chain_match(place.port, transport, alpn), proxy);
        chain.filters.splice(0..0, self.guards.tcp.iter().cloned());
        chain.transport_socket = mtls.then(|| tls::from_mesh(self.trust_domain, Carried::Tcp));
        chain
    }
}

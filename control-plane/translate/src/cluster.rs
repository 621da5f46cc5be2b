//! Upstreams as clusters.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use weft_control_model::{
    Algorithm, ClientIdentity, Discovery, Endpoint, MeshName, Node, PassHost, Resources, Scheme,
    Targets as NodesOrRegistry, Timeout, Upstream,
};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster,
    circuit_breakers::Thresholds,
    cluster::{
        ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
        TransportSocketMatch,
    },
};
use weft_xds_proto::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
    UpstreamHttpProtocolOptions,
};
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use weft_xds_proto::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use weft_xds_proto::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
        explicit_http_config::ProtocolConfig,
    },
};
use weft_xds_proto::pb::google::protobuf::Struct;

use crate::assignment::{of_endpoints, of_nodes};
use crate::checks;
use crate::envoy::{self, duration, number, transport};
use crate::problem::Unsupported;
use crate::targets::Target;
use crate::tls::{self, Carried, OwnTls};

/// Envoy's key for the options of HTTP toward a cluster.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A cluster, its endpoints if they come on their own, and what is left out.
pub(crate) struct TranslatedCluster {
    pub(crate) cluster: Cluster,
    pub(crate) assignment: Option<ClusterLoadAssignment>,
    /// Fields without effect.
    pub(crate) ignored: Vec<Unsupported>,
}

/// Translates an upstream; `endpoints` are those of its registry.
pub(crate) fn translate(
    target: &Target,
    endpoints: &[Endpoint],
    resources: &Resources,
) -> TranslatedCluster {
    let upstream = &*target.upstream;
    let mut cluster = base(&target.cluster, upstream);
    let mut ignored = ignored(upstream);
    let mut assignment = match &upstream.targets {
        NodesOrRegistry::Nodes(nodes) => {
            let assignment = of_nodes(&target.cluster, nodes, upstream.scheme);
            cluster.transport_socket = own_tls(target, nodes.first());
            place(&mut cluster, assignment, nodes.iter().any(is_domain))
        }
        NodesOrRegistry::Discovery(service) if service.registry == "dns" => {
            let node = dns_node(service);
            let assignment =
                of_nodes(&target.cluster, std::slice::from_ref(&node), upstream.scheme);
            cluster.transport_socket = own_tls(target, Some(&node));
            place(&mut cluster, assignment, true)
        }
        NodesOrRegistry::Discovery(service) => {
            let found = of_endpoints(&target.cluster, endpoints, resources);
            let sockets = mesh_sockets(upstream, service, &found.identities, resources);
            match sockets {
                Ok(sockets) => cluster.transport_socket_matches = sockets,
                Err(error) => ignored.push(error),
            }
            place(&mut cluster, found.assignment, false)
        }
    };
    ignored.extend(checks::apply(&mut cluster, assignment.as_mut(), upstream));
    TranslatedCluster { cluster, assignment, ignored }
}

/// Puts the endpoints where the kind of discovery has them.
#[expect(deprecated, reason = "their successor, a cluster extension, is known to few proxies")]
fn place(
    cluster: &mut Cluster,
    assignment: ClusterLoadAssignment,
    domains: bool,
) -> Option<ClusterLoadAssignment> {
    if domains {
        cluster.cluster_discovery_type = Some(discovery(DiscoveryType::StrictDns));
        cluster.respect_dns_ttl = true;
        cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
        cluster.dns_refresh_rate = Some(duration(Duration::from_secs(60)));
        cluster.load_assignment = Some(assignment);
        return None;
    }
    cluster.cluster_discovery_type = Some(discovery(DiscoveryType::Eds));
    cluster.eds_cluster_config = Some(EdsClusterConfig {
        eds_config: Some(envoy::from_ads()),
        service_name: cluster.name.clone(),
    });
    Some(assignment)
}

pub(crate) fn discovery(kind: DiscoveryType) -> ClusterDiscoveryType {
    ClusterDiscoveryType::Type(kind.into())
}

fn base(name: &str, upstream: &Upstream) -> Cluster {
    let connect = upstream.timeout.unwrap_or_else(|| Timeout {
        // nginx waits 60 seconds; a dead node should not hold requests that long.
        connect: Duration::from_secs(10),
        ..Timeout::default()
    });
    let policy = match &upstream.algorithm {
        Algorithm::RoundRobin | Algorithm::Unknown(_) => LbPolicy::RoundRobin,
        // Envoy's choice by outstanding requests comes closest to both.
        Algorithm::LeastConnections | Algorithm::Ewma => LbPolicy::LeastRequest,
        Algorithm::ConsistentHash(_) => LbPolicy::RingHash,
    };
    let mut cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(duration(connect.connect)),
        lb_policy: policy.into(),
        circuit_breakers: Some(no_limits()),
        ..Default::default()
    };
    if !matches!(upstream.scheme, Scheme::Tcp | Scheme::Tls | Scheme::Udp | Scheme::Kafka) {
        set_http_options(&mut cluster, &http_options(upstream));
    }
    cluster
}

pub(crate) fn set_http_options(cluster: &mut Cluster, options: &HttpProtocolOptions) {
    cluster.typed_extension_protocol_options =
        HashMap::from([(HTTP_OPTIONS.to_owned(), pack(options))]);
}

/// The same protocol as the caller's.
pub(crate) fn as_downstream() -> HttpProtocolOptions {
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(
            UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// HTTP/1.1, or HTTP/2 from the first byte on.
pub(crate) fn explicit(http2: bool) -> HttpProtocolOptions {
    let protocol = if http2 {
        ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
    } else {
        ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
    };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig { protocol_config: Some(protocol) },
        )),
        ..Default::default()
    }
}

fn http_options(upstream: &Upstream) -> HttpProtocolOptions {
    let mut options = explicit(upstream.scheme.is_grpc());
    if let Some(pool) = upstream.keepalive_pool {
        options.common_http_protocol_options = Some(CommonOptions {
            idle_timeout: Some(duration(pool.idle_timeout)),
            max_requests_per_connection: (pool.requests > 0).then(|| number(pool.requests)),
            ..Default::default()
        });
    }
    // With the client's host passed on, its name is the one to ask for.
    if upstream.scheme.is_tls() && upstream.pass_host == PassHost::Pass {
        options.upstream_http_protocol_options = Some(UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: upstream.tls.as_ref().is_some_and(|tls| tls.verify),
            ..Default::default()
        });
    }
    options
}

/// The secret of the certificate that an upstream is shown.
pub(crate) fn client_secret(target: &Target) -> Option<String> {
    match target.upstream.tls.as_ref()?.client.as_ref()? {
        ClientIdentity::Reference(id) => Some(format!("ssl/{id}")),
        ClientIdentity::Inline(_) => Some(format!("{}/client", target.cluster)),
    }
}

fn own_tls(
    target: &Target,
    first: Option<&Node>,
) -> Option<weft_xds_proto::pb::envoy::config::core::v3::TransportSocket> {
    let upstream = &target.upstream;
    if !upstream.scheme.is_tls() {
        return None;
    }
    let domain = |node: &Node| is_domain(node).then(|| node.host.clone());
    let sni = match &upstream.pass_host {
        PassHost::Pass if upstream.scheme != Scheme::Tls => None,
        PassHost::Rewrite(host) => Some(without_port(host).to_owned()),
        PassHost::Pass | PassHost::Node => first.and_then(domain),
    };
    let tls = OwnTls {
        sni,
        client_secret: client_secret(target),
        verify: upstream.tls.as_ref().is_some_and(|tls| tls.verify),
        http2: upstream.scheme.is_grpc(),
    };
    Some(tls.socket())
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// mTLS to endpoints of the mesh, plaintext to others.
fn mesh_sockets(
    upstream: &Upstream,
    service: &Discovery,
    identities: &BTreeSet<String>,
    resources: &Resources,
) -> Result<Vec<TransportSocketMatch>, Unsupported> {
    let name = MeshName::parse(&service.service_name)
        .map_err(|error| Unsupported::new("service_name", error.to_string()))?;
    if upstream.scheme.is_tls() {
        let reason = "the mesh encrypts by itself; use http, grpc or tcp";
        return Err(Unsupported::new("scheme", reason));
    }
    let port = name.port.unwrap_or(80);
    let host = format!("{}.{}.svc.cluster.local", name.name, name.namespace);
    let sni = format!("outbound_.{port}_._.{host}");
    let carried = match upstream.scheme {
        Scheme::Grpc => Carried::Http2,
        Scheme::Tcp => Carried::Tcp,
        _ => Carried::Http1,
    };
    let mtls = tls::to_mesh(&resources.mesh.trust_domain, &sni, identities, carried);
    let plain = transport(envoy::RAW_BUFFER, &RawBuffer {});
    Ok(vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(envoy::one_field("tlsMode", "istio")),
            transport_socket: Some(mtls),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(plain),
        },
    ])
}

fn is_domain(node: &Node) -> bool {
    node.host.parse::<IpAddr>().is_err()
}

/// `name[:port]`
fn dns_node(service: &Discovery) -> Node {
    let (host, port) = match service.service_name.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (service.service_name.as_str(), None),
    };
    Node { host: host.to_owned(), port, weight: 1, priority: 0, metadata: serde_json::Map::new() }
}

fn ignored(upstream: &Upstream) -> Vec<Unsupported> {
    let mut ignored = Vec::new();
    if upstream.retry_timeout.is_some() {
        let reason = "a proxy limits the number of retries, not their time";
        ignored.push(Unsupported::new("retry_timeout", reason));
    }
    if let Algorithm::Unknown(name) = &upstream.algorithm {
        let reason = format!(
            "{name:?} is unknown: roundrobin, chash, least_conn and ewma are known; \
             roundrobin is used"
        );
        ignored.push(Unsupported::new("type", reason));
    }
    ignored
}

/// Envoy allows 1,024 requests at a time unless told otherwise; APISIX knows no such limit.
fn no_limits() -> CircuitBreakers {
    let most = Some(number(u32::MAX));
    let thresholds = Thresholds {
        max_connections: most,
        max_pending_requests: most,
        max_requests: most,
        max_retries: most,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

/// A cluster whose connections go where they wanted to.
pub(crate) fn original_destination(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(duration(Duration::from_secs(10))),
        lb_policy: LbPolicy::ClusterProvided.into(),
        circuit_breakers: Some(no_limits()),
        cluster_discovery_type: Some(discovery(DiscoveryType::OriginalDst)),
        ..Default::default()
    }
}

//! The endpoints of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_control_model::{Endpoint, Locality, MtlsMode, Node, Resources, Scheme, effective_mtls};
use weft_xds_proto::pb::envoy::config::core::v3 as v3_core;
use weft_xds_proto::pb::envoy::config::endpoint::v3::{
    self, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};

use crate::envoy::{self, number};
use crate::tls::spiffe_id;

/// The filter under whose metadata Envoy looks for an endpoint's transport socket.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// The endpoints of a registry's service, and who may answer for them.
pub(crate) struct MeshAssignment {
    pub(crate) assignment: ClusterLoadAssignment,
    /// SPIFFE ids.
    pub(crate) identities: BTreeSet<String>,
}

/// Endpoints that a registry knows.
pub(crate) fn of_endpoints(
    cluster: &str,
    endpoints: &[Endpoint],
    resources: &Resources,
) -> MeshAssignment {
    let mut identities = BTreeSet::new();
    let mut places: BTreeMap<Option<&Locality>, Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        let mut member = member(&endpoint.address.to_string(), endpoint.port, endpoint.weight);
        if let Some(identity) = &endpoint.identity {
            identities.insert(spiffe_id(&resources.mesh.trust_domain, identity));
            if speaks_mtls(endpoint, resources) {
                let fields = envoy::one_field("tlsMode", "istio");
                member.metadata = Some(envoy::metadata(SOCKET_MATCH, fields));
            }
        }
        places.entry(endpoint.locality.as_ref()).or_default().push(member);
    }
    let endpoints = places.into_iter().map(|(place, members)| LocalityLbEndpoints {
        locality: place.map(envoy_locality),
        ..locality(members, 0)
    });
    let endpoints = endpoints.collect();
    let assignment =
        ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() };
    MeshAssignment { assignment, identities }
}

fn envoy_locality(place: &Locality) -> v3_core::Locality {
    v3_core::Locality {
        region: place.region.clone(),
        zone: place.zone.clone(),
        sub_zone: place.subzone.clone(),
    }
}

/// Whether mTLS isn't switched off for this port of the workload.
fn speaks_mtls(endpoint: &Endpoint, resources: &Resources) -> bool {
    let Some(identity) = &endpoint.identity else { return false };
    let mtls = effective_mtls(
        resources.peer_authentications.iter(),
        &resources.mesh.root_namespace,
        &identity.namespace,
        &identity.labels,
    );
    mtls.for_port(endpoint.port) != MtlsMode::Disable
}

/// Nodes that are written down. Those of weight 0 are never picked and left out.
pub(crate) fn of_nodes(cluster: &str, nodes: &[Node], scheme: Scheme) -> ClusterLoadAssignment {
    let mut levels: BTreeMap<std::cmp::Reverse<i32>, Vec<LbEndpoint>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.weight > 0) {
        let port = port(node, scheme);
        let mut member = member(&node.host, port, node.weight);
        if let Some(HostIdentifier::Endpoint(endpoint)) = &mut member.host_identifier {
            endpoint.hostname = host_of(node, port, scheme);
        }
        levels.entry(std::cmp::Reverse(node.priority)).or_default().push(member);
    }
    let levels = levels.into_values().zip(0..);
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: levels.map(|(members, priority)| locality(members, priority)).collect(),
        ..Default::default()
    }
}

/// The host that a node is told with `pass_host: node`.
fn host_of(node: &Node, port: u16, scheme: Scheme) -> String {
    let host = match node.host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => node.host.clone(),
    };
    if scheme.default_port() == Some(port) { host } else { format!("{host}:{port}") }
}

fn port(node: &Node, scheme: Scheme) -> u16 {
    node.port.or_else(|| scheme.default_port()).unwrap_or(80)
}

fn locality(members: Vec<LbEndpoint>, priority: u32) -> LocalityLbEndpoints {
    let weights = members.iter().filter_map(|member| member.load_balancing_weight.as_ref());
    let weight = weights.fold(0_u32, |sum, weight| sum.saturating_add(weight.value));
    LocalityLbEndpoints {
        lb_endpoints: members,
        load_balancing_weight: Some(number(weight)),
        priority,
        ..Default::default()
    }
}

fn member(host: &str, port: u16, weight: u32) -> LbEndpoint {
    let endpoint =
        v3::Endpoint { address: Some(envoy::address_of(host, port)), ..Default::default() };
    LbEndpoint {
        load_balancing_weight: Some(number(weight)),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    }
}

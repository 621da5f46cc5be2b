//! The clusters of a large mesh as xDS resources, and a bootstrap that asks for them.

use std::net::SocketAddr;

use anyhow::Result;
use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster;
use weft_xds_proto::pb::envoy::config::core::v3::{
    Address, SocketAddress, address::Address as Kind, socket_address::PortSpecifier,
};
use weft_xds_proto::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use weft_xds_proto::pb::envoy::config::listener::v3::Listener;
use weft_xds_proto::pb::google::protobuf::UInt32Value;
use weft_xds_proto::{Any, from_yaml, pack};

use super::control_plane::Resources;

/// How many clusters there are, and how many endpoints each has.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) clusters: usize,
    pub(super) endpoints: usize,
}

/// The name of a cluster, as long as such names are.
pub(super) fn name(number: usize) -> String {
    format!("outbound|80||service-{number}.default.svc.cluster.local")
}

/// All clusters, with their endpoints over EDS.
pub(super) fn clusters(size: Size) -> Result<Resources> {
    let template: Cluster = from_yaml(
        "{type: EDS, connect_timeout: 5s, eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}}",
    )?;
    let cluster = |number| pack(&Cluster { name: name(number), ..template.clone() });
    Ok((0..size.clusters).map(|number| (name(number), cluster(number))).collect())
}

/// All endpoints.
pub(super) fn assignments(size: Size, backends: &[SocketAddr]) -> Resources {
    let assignment = |number| (name(number), assignment(size, number, backends, 1));
    (0..size.clusters).map(assignment).collect()
}

/// The last cluster has the backends for endpoints, all others addresses of their own.
pub(super) fn assignment(size: Size, number: usize, backends: &[SocketAddr], weight: u64) -> Any {
    let endpoint = |index: usize| {
        let own = SocketAddr::from(([127, (number >> 8) as u8, number as u8, index as u8], 8080));
        let address = if number + 1 == size.clusters { backends[index] } else { own };
        let socket = SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        };
        let address = Address { address: Some(Kind::SocketAddress(socket)) };
        LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(address),
                ..Endpoint::default()
            })),
            load_balancing_weight: (index == 0)
                .then(|| UInt32Value { value: u32::try_from(weight % 100).unwrap_or(0) + 1 }),
            ..LbEndpoint::default()
        }
    };
    pack(&ClusterLoadAssignment {
        cluster_name: name(number),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: (0..size.endpoints).map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    })
}

/// A listener that leads to the last cluster.
pub(super) fn listener(size: Size, listen: SocketAddr) -> Result<Resources> {
    let last = name(size.clusters - 1);
    let yaml = format!(
        "name: scale
address: {{socket_address: {{address: {}, port_value: {}}}}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: scale
      route_config:
        name: local
        virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: '{last}'}}}}]}}]
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
",
        listen.ip(),
        listen.port(),
    );
    Ok([("scale".to_owned(), pack(&from_yaml::<Listener>(&yaml)?))].into())
}

/// A bootstrap that takes everything from a control plane.
pub(super) fn bootstrap(control_plane: SocketAddr, admin: u16) -> String {
    format!(
        "node: {{id: scale, cluster: bench}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: control-plane}}}}]
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: control-plane
    type: STATIC
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: control-plane
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]
",
        control_plane.ip(),
        control_plane.port(),
    )
}

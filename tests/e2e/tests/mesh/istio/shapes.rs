//! Resources in the shapes in which istiod sends them.

use anyhow::{Result, anyhow};
use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster;
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use weft_xds_proto::pb::envoy::config::listener::v3::Listener;
use weft_xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use weft_xds_proto::{Any, Message, Name, ResourceType, from_yaml, pack};

const INBOUND: &str =
    include_str!("../../../../../sidecar/config/tests/it/fixtures/virtual_inbound.yaml");
const PASSTHROUGH: &str =
    include_str!("../../../../../sidecar/config/tests/it/fixtures/inbound_passthrough.yaml");
const OUTBOUND: &str =
    include_str!("../../../../../sidecar/config/tests/it/fixtures/virtual_outbound.yaml");
const OUTBOUND_80: &str =
    include_str!("../../../../../sidecar/config/tests/it/fixtures/outbound_80.yaml");
const CLUSTER_80: &str =
    include_str!("../../../../../sidecar/config/tests/it/fixtures/outbound_cluster.yaml");

/// The address of the service `web`.
pub(crate) const VIRTUAL: [u8; 4] = [240, 240, 9, 9];

/// The port without a protocol: inbound, HTTP is told from the rest by what is sent, or by the
/// ALPN that the sidecars agree on.
const AUTO_INBOUND: &str = "
- name: 0.0.0.0_9000
  filter_chain_match: { destination_port: 9000, transport_protocol: tls, application_protocols: [istio-http/1.0, istio-http/1.1, istio-h2] }
  transport_socket: { name: envoy.transport_sockets.tls, typed_config: *mtls }
  filters: *http
- name: 0.0.0.0_9000
  filter_chain_match: { destination_port: 9000, transport_protocol: raw_buffer, application_protocols: [http/1.1, h2c] }
  filters: *http
- name: 0.0.0.0_9000
  filter_chain_match: { destination_port: 9000, transport_protocol: tls, application_protocols: [istio-peer-exchange, istio] }
  transport_socket: { name: envoy.transport_sockets.tls, typed_config: *mtls }
  filters: *tcp
- name: 0.0.0.0_9000
  filter_chain_match: { destination_port: 9000, transport_protocol: raw_buffer }
  filters: *tcp
";

/// The chain of port 8080 for plaintext, which a strict policy leaves out.
const PLAIN_8080: &str = "- name: 0.0.0.0_8080
  filter_chain_match: { destination_port: 8080, transport_protocol: raw_buffer }
  filters: *http
";

const BLACK_HOLE: &str = "{ name: BlackHoleCluster, type: STATIC, connect_timeout: 10s }";

const ROUTES_80: &str = r#"
name: "80"
validate_clusters: false
max_direct_response_body_size_bytes: 1048576
ignore_port_in_host_matching: true
virtual_hosts:
- name: web.default.svc.cluster.local:80
  domains: [web.default.svc.cluster.local, web.default.svc.cluster.local., web, 240.240.9.9]
  include_request_attempt_count: true
  routes:
  - name: default
    match: { prefix: / }
    decorator: { operation: "web.default.svc.cluster.local:80/*" }
    route:
      cluster: outbound|80||web.default.svc.cluster.local
      timeout: 0s
      max_grpc_timeout: 0s
      retry_policy:
        retry_on: connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes
        num_retries: 2
        host_selection_retry_max_attempts: 5
        retry_host_predicate:
        - name: envoy.retry_host_predicates.previous_hosts
          typed_config: { "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate }
- name: block_all
  domains: ["*"]
  include_request_attempt_count: true
  routes: [{ name: block_all, match: { prefix: / }, direct_response: { status: 502 } }]
"#;

/// How a workload takes connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Mutual TLS and plaintext.
    Permissive,
    /// Mutual TLS alone.
    Strict,
}

fn pass<M: Message + Name + Default>(
    kind: ResourceType,
    yaml: &str,
) -> Result<(ResourceType, Any)> {
    let message: M = from_yaml(yaml).map_err(|error| anyhow!("{error}:\n{yaml}"))?;
    Ok((kind, pack(&message)))
}

fn cluster(yaml: &str) -> Result<(ResourceType, Any)> {
    pass::<Cluster>(ResourceType::Cluster, yaml)
}

fn listener(yaml: &str) -> Result<(ResourceType, Any)> {
    pass::<Listener>(ResourceType::Listener, yaml)
}

/// What every sidecar has outbound, whatever is in the mesh.
fn everywhere() -> Result<Vec<(ResourceType, Any)>> {
    let passthrough = PASSTHROUGH.replace("InboundPassthroughCluster", "PassthroughCluster");
    let (passthrough, _) =
        passthrough.split_once("upstream_bind_config").unwrap_or((&passthrough, ""));
    Ok(vec![cluster(BLACK_HOLE)?, cluster(passthrough)?, listener(OUTBOUND)?])
}

/// The inbound listener. On 3306, a port of TCP, nothing is inspected: the server speaks first.
fn inbound() -> String {
    let http = "      - destination_port_range: { start: 8080, end: 8081 }\n";
    let both = format!("{http}      - destination_port_range: {{ start: 3306, end: 3307 }}\n");
    INBOUND.replace(http, &both) + AUTO_INBOUND
}

/// What the workload `web` is sent: HTTP on 8080, a port without a protocol on 9000.
pub(crate) fn server(mode: Mode) -> Result<Vec<(ResourceType, Any)>> {
    let inbound = match mode {
        Mode::Permissive => inbound(),
        Mode::Strict => inbound().replace(PLAIN_8080, ""),
    };
    let mut all = everywhere()?;
    all.push(cluster(PASSTHROUGH)?);
    all.push(cluster(&PASSTHROUGH.replace("InboundPassthroughCluster", "inbound|8080||"))?);
    all.push(listener(&inbound)?);
    Ok(all)
}

/// What a workload that calls `web`, whose pod has this address, is sent.
pub(crate) fn client(web: std::net::Ipv4Addr) -> Result<Vec<(ResourceType, Any)>> {
    let of_9000 = |text: &str| text.replace("|80||", "|9000||").replace("_.80_.", "_.9000_.");
    let endpoints = |name: &str, port: u16| {
        pass::<ClusterLoadAssignment>(
            ResourceType::Endpoint,
            &format!(
                "{{ cluster_name: '{name}', endpoints: [{{ locality: {{ region: eu }}, load_balancing_weight: 1, lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {web}, port_value: {port} }} }} }}, health_status: HEALTHY, load_balancing_weight: 1, metadata: {{ filter_metadata: {{ envoy.transport_socket_match: {{ tlsMode: istio }} }} }} }}] }}] }}"
            ),
        )
    };
    // A port without a protocol speaks what the client speaks.
    let auto = of_9000(CLUSTER_80).replace(
        "explicit_http_config: { http_protocol_options: {} }",
        "use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} }",
    );
    let auto_listener = OUTBOUND_80
        .replace("0.0.0.0_80", "240.240.9.9_9000")
        .replace("address: 0.0.0.0, port_value: 80", "address: 240.240.9.9, port_value: 9000")
        .replace(
            "route_config_name: \"80\"",
            "route_config_name: web.default.svc.cluster.local:9000",
        )
        .replace("name: PassthroughFilterChain", "name: outbound")
        .replace(
            "cluster: PassthroughCluster",
            "cluster: outbound|9000||web.default.svc.cluster.local",
        );
    let routes = |yaml: &str| pass::<RouteConfiguration>(ResourceType::Route, yaml);
    let auto_routes =
        of_9000(ROUTES_80).replace("name: \"80\"", "name: web.default.svc.cluster.local:9000");
    let mut all = everywhere()?;
    all.extend([
        cluster(PASSTHROUGH)?,
        listener(&inbound())?,
        cluster(&PASSTHROUGH.replace("InboundPassthroughCluster", "inbound|8080||"))?,
        cluster(CLUSTER_80)?,
        cluster(&auto)?,
        endpoints("outbound|80||web.default.svc.cluster.local", 8080)?,
        endpoints("outbound|9000||web.default.svc.cluster.local", 9000)?,
        listener(OUTBOUND_80)?,
        listener(&auto_listener)?,
        routes(ROUTES_80)?,
        routes(&auto_routes)?,
    ]);
    Ok(all)
}

//! Bootstrap files; Envoy and Weft read the same.

use std::net::SocketAddr;

use super::Side;
use crate::certificates::{Certificates, IDENTITY};

const HTTP2: &str = "
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}";

pub(super) fn bootstrap(
    side: Side<'_>,
    listen: SocketAddr,
    backend: SocketAddr,
    admin: u16,
) -> String {
    let (downstream, upstream) = match side {
        Side::Http1 | Side::Tcp => (String::new(), String::new()),
        Side::Http2 => (String::new(), HTTP2.to_owned()),
        Side::MtlsClient(certificates) => (String::new(), upstream_tls(certificates)),
        Side::MtlsServer(certificates) => (downstream_tls(certificates), String::new()),
    };
    let filter = if matches!(side, Side::Tcp) { TCP_PROXY } else { CONNECTION_MANAGER };
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - name: bench
    address: {{socket_address: {{address: {}, port_value: {}}}}}
    filter_chains:
    - filters:
{filter}{downstream}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    load_assignment:
      cluster_name: backend
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]{upstream}
",
        listen.ip(),
        listen.port(),
        backend.ip(),
        backend.port(),
    )
}

const CONNECTION_MANAGER: &str = "      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            name: local
            virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: backend}}]}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}";

const TCP_PROXY: &str = "      - name: envoy.filters.network.tcp_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: backend";

fn common(certificates: &Certificates) -> String {
    format!(
        "common_tls_context:
            tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}]
            validation_context:
              trusted_ca: {{filename: {}}}
              match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: '{IDENTITY}'}}}}]",
        certificates.chain.display(),
        certificates.key.display(),
        certificates.root.display(),
    )
}

fn upstream_tls(certificates: &Certificates) -> String {
    let tls = common(certificates).replace("\n  ", "\n");
    format!(
        "
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: bench
        {tls}"
    )
}

fn downstream_tls(certificates: &Certificates) -> String {
    format!(
        "
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          {}",
        common(certificates)
    )
}

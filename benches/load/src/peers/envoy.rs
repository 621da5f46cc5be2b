//! Bootstrap files; Envoy and Weft read the same.

use super::{Protocol, Setup, Tls};
use crate::certificates::{Certificates, IDENTITY};

const HTTP2: &str = "
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}";

pub(super) fn bootstrap(setup: &Setup<'_>, admin: u16) -> String {
    let (downstream, upstream_tls) = match setup.tls {
        Tls::None => (String::new(), String::new()),
        Tls::Upstream(certificates) => (String::new(), upstream_tls(certificates)),
        Tls::Downstream(certificates) => (downstream_tls(certificates), String::new()),
    };
    let upstream = if setup.protocol == Protocol::Http2 { HTTP2 } else { "" };
    let filter = if setup.protocol == Protocol::Tcp {
        TCP_PROXY.to_owned()
    } else {
        connection_manager(setup.routes)
    };
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
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]{upstream}{upstream_tls}
",
        setup.listen.ip(),
        setup.listen.port(),
        setup.backend.ip(),
        setup.backend.port(),
    )
}

fn connection_manager(routes: usize) -> String {
    let routes = if routes == 0 {
        "[{match: {prefix: /}, route: {cluster: backend}}]".to_owned()
    } else {
        let route = |index| {
            format!(
                "\n              - {{match: {{prefix: /route-{index}/}}, route: {{cluster: backend}}}}"
            )
        };
        (0..routes).map(route).collect()
    };
    format!(
        "      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ['*']
              routes: {routes}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"
    )
}

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

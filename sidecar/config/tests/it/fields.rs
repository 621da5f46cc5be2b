//! Wrong fields and where they stand.

use weft_xds_client::ResourceType::{self, Cluster, Endpoint, Listener, Route};

use crate::istio::{
    CLUSTER, ENDPOINTS, OUTBOUND_80, PASSTHROUGH, ROUTES_80, VIRTUAL_INBOUND, VIRTUAL_OUTBOUND,
};
use crate::secrets::agent_bootstrap;
use crate::support::Bench;

/// A resource, what is replaced in it by what, and the place and reason of the rejection.
type Row = (ResourceType, &'static str, &'static str, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "name: virtualOutbound",
        "connection_balance_config: { extend_balance: { name: other } }\nname: virtualOutbound",
        "connection_balance_config.extend_balance",
        "not supported",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "destination_port: 15001",
        "suffix_len: 8",
        "filter_chains[0].filter_chain_match.suffix_len",
        "not supported",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "destination_port: 15001",
        "source_prefix_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 33 }]",
        "filter_chains[0].filter_chain_match.source_prefix_ranges[0].prefix_len",
        "too long",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "destination_port: 15001",
        "source_ports: [0]",
        "filter_chains[0].filter_chain_match.source_ports[0]",
        "not a port",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "{ destination_port: 15001 }",
        "{}",
        "filter_chains",
        "have the same match",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "address: 0.0.0.0, port_value",
        "address: host, port_value",
        "address.socket_address.address",
        "not an IP address",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "flags: [NR]",
        "flags: [XX]",
        "access_log[0].filter.response_flag_filter.flags[0]",
        "not a response flag",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "%RESPONSE_FLAGS%",
        "%NOPE%",
        "access_log[0].typed_config.log_format.text_format_source.inline_string",
        "NOPE",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "cluster: BlackHoleCluster",
        "cluster: ''",
        "filter_chains[0].filters[0].typed_config.cluster",
        "is required",
    ),
    (
        Listener,
        VIRTUAL_OUTBOUND,
        "stats.PluginConfig",
        "other.Filter",
        "filter_chains[1].filters[0].typed_config",
        "no filter is known for \"other.Filter\"",
    ),
    (
        Listener,
        VIRTUAL_INBOUND,
        "start: 3306",
        "start: -1",
        "listener_filters[1].filter_disabled.destination_port_range",
        "not a range of ports",
    ),
    (
        Listener,
        VIRTUAL_INBOUND,
        "transport_protocol: raw_buffer }\n  filters: *http",
        "transport_protocol: quic }\n  filters: *http",
        "filter_chains[2].filter_chain_match.transport_protocol",
        "not one of raw_buffer, tls",
    ),
    (
        Listener,
        VIRTUAL_INBOUND,
        "prefix: \"spiffe://cluster.local/\"",
        "prefix: ''",
        "filter_chains[1].transport_socket.typed_config.common_tls_context.combined_validation_context.default_validation_context.match_subject_alt_names[0].prefix",
        "is required",
    ),
    (
        Listener,
        VIRTUAL_INBOUND,
        "envoy.extensions.filters.http.cors.v3.Cors ",
        "envoy.extensions.filters.http.lua.v3.Lua ",
        "filter_chains[1].filters[1].typed_config.http_filters[3].typed_config",
        "no filter is known for \"envoy.extensions.filters.http.lua.v3.Lua\"",
    ),
    (
        Listener,
        VIRTUAL_INBOUND,
        "match: { prefix: / }",
        "match: { safe_regex: { regex: '[' } }",
        "filter_chains[1].filters[1].typed_config.route_config.virtual_hosts[0].routes[0].match.safe_regex",
        "not a regular expression",
    ),
    (
        Listener,
        OUTBOUND_80,
        "ads: {}, initial",
        "path_config_source: { path: /x }, initial",
        "filter_chains[0].filters[0].typed_config.rds.config_source.path_config_source",
        "not supported",
    ),
    (
        Listener,
        OUTBOUND_80,
        "stat_prefix: PassthroughCluster",
        "stat_prefix: ''",
        "default_filter_chain.filters[0].typed_config.stat_prefix",
        "is required",
    ),
    (
        Route,
        ROUTES_80,
        "weight: 90",
        "weight: 4294967295",
        "virtual_hosts[0].routes[0].route.weighted_clusters.clusters",
        "sum up",
    ),
    (
        Route,
        ROUTES_80,
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%NOPE%",
        "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1].request_headers_to_add[0].header.value",
        "%NOPE% is not an operator",
    ),
    (
        Route,
        ROUTES_80,
        "exact: jason",
        "safe_regex: { regex: '(' }",
        "virtual_hosts[0].routes[0].match.headers[0].string_match.safe_regex",
        "not a regular expression",
    ),
    (
        Route,
        ROUTES_80,
        "envoy.retry_host_predicates.previous_hosts",
        "other",
        "virtual_hosts[0].routes[0].route.retry_policy.retry_host_predicate[0].name",
        "previous_hosts, omit_canary_hosts and omit_host_metadata are",
    ),
    (
        Route,
        ROUTES_80,
        "fixed_delay: 2s",
        "fixed_delay: 0s",
        "virtual_hosts[0].routes[1].typed_per_filter_config[envoy.filters.http.fault].delay.fixed_delay",
        "more than zero",
    ),
    (
        Route,
        ROUTES_80,
        "path_separated_prefix: /slow",
        "path_separated_prefix: /slow/",
        "virtual_hosts[0].routes[1].match.path_separated_prefix",
        "without / at its end",
    ),
    (
        Route,
        ROUTES_80,
        "domains: [\"*\"]",
        "domains: [web]",
        "virtual_hosts[1].domains[0]",
        "twice",
    ),
    (
        Route,
        ROUTES_80,
        "domains: [\"*\"]",
        "domains: []",
        "virtual_hosts[1].domains",
        "is required",
    ),
    (
        Route,
        ROUTES_80,
        "cluster: PassthroughCluster, timeout: 0s",
        "cluster: x, timeout: -1s",
        "virtual_hosts[1].routes[0].route.timeout",
        "zero or more",
    ),
    (
        Route,
        ROUTES_80,
        "cluster: PassthroughCluster, timeout: 0s",
        "cluster: x, hedge_policy: {}",
        "virtual_hosts[1].routes[0].route.hedge_policy",
        "not supported",
    ),
    (
        Cluster,
        CLUSTER,
        "ads: {}, initial",
        "path_config_source: { path: /x }, initial",
        "eds_cluster_config.eds_config.path_config_source",
        "not supported",
    ),
    (
        Cluster,
        CLUSTER,
        "lb_policy: LEAST_REQUEST",
        "lb_policy: MAGLEV\nmaglev_lb_config: { table_size: 100 }",
        "maglev_lb_config.table_size",
        "not a prime number",
    ),
    (
        Cluster,
        CLUSTER,
        "lb_policy: LEAST_REQUEST",
        "lb_policy: RING_HASH\nring_hash_lb_config: { minimum_ring_size: 9, maximum_ring_size: 8 }",
        "ring_hash_lb_config.minimum_ring_size",
        "above maximum_ring_size",
    ),
    (
        Cluster,
        CLUSTER,
        "lb_policy: LEAST_REQUEST",
        "lb_subset_config: { list_as_any: true }",
        "lb_subset_config.list_as_any",
        "not supported",
    ),
    (
        Cluster,
        CLUSTER,
        "{ http_protocol_options: {} }",
        "{ http3_protocol_options: {} }",
        "typed_extension_protocol_options[envoy.extensions.upstreams.http.v3.HttpProtocolOptions].explicit_http_config.http3_protocol_options",
        "not supported",
    ),
    (
        Cluster,
        PASSTHROUGH,
        "port_value: 0 }\n  extra",
        "port_value: 1 }\n  extra",
        "upstream_bind_config.source_address.port_value",
        "has to be 0",
    ),
    (
        Cluster,
        PASSTHROUGH,
        "type: ORIGINAL_DST",
        "type: STRICT_DNS\nload_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: /x } } } }] }] }",
        "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address",
        "socket_address is wanted",
    ),
    (
        Endpoint,
        ENDPOINTS,
        "address: 10.0.0.2",
        "address: web",
        "endpoints[0].lb_endpoints[1].endpoint.address.socket_address.address",
        "not an IP address",
    ),
    (
        Endpoint,
        ENDPOINTS,
        "load_balancing_weight: 3",
        "load_balancing_weight: 0",
        "endpoints[0].lb_endpoints[1].load_balancing_weight",
        "1 or more",
    ),
    (Endpoint, ENDPOINTS, "priority: 1", "priority: 200", "endpoints[1].priority", "above 128"),
];

#[test]
fn a_wrong_field_is_refused_by_its_path() {
    for (kind, yaml, right, wrong, field, reason) in ROWS.iter().copied() {
        assert!(yaml.contains(right), "the fixture has no {right:?}");
        let mut bench = Bench::new(&agent_bootstrap());
        bench.accept(Cluster, &[CLUSTER]);
        bench.accept(Listener, &[OUTBOUND_80]);
        let rejections = bench.send(kind, &[&yaml.replacen(right, wrong, 1)]);
        let [rejection] = rejections.as_slice() else {
            panic!("{right:?} → {wrong:?} gave {rejections:?}")
        };
        assert_eq!(rejection.field, field, "{right:?} → {wrong:?}: {}", rejection.reason);
        assert!(rejection.reason.contains(reason), "{}: {}", rejection.field, rejection.reason);
    }
}

#[test]
fn an_unknown_filter_that_is_optional_is_left_out() {
    let optional =
        OUTBOUND_80.replace("- name: istio.alpn", "- name: istio.alpn\n        is_optional: true");
    let unknown = optional
        .replace("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "no.such.Filter");
    Bench::dynamic().accept(Listener, &[&unknown]);
}

//! Kinds of clusters, and what connections to their endpoints begin with.

use weft_model::{Discovery, PassTlvs, ProxyVersion};
use weft_xds_client::ResourceType::Cluster;

use crate::support::{Bench, DYNAMIC};

fn proxied(config: &str) -> String {
    format!(
        "
name: a
transport_socket:
  name: proxy
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
    config: {config}
    transport_socket:
      name: raw
      typed_config: {{ '@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }}
"
    )
}

#[test]
fn connections_begin_with_the_header_that_is_configured() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&proxied("{}")]);
    let of = |bench: &Bench| {
        let config = bench.snapshot().clusters["a"].config().clone();
        assert!(config.tells_clients() && config.default_socket.tls().is_none());
        config.default_socket.header().cloned().expect("it has a header")
    };
    assert_eq!(of(&bench).version, ProxyVersion::V1);
    bench.accept(
        Cluster,
        &[&proxied("{ version: V2, pass_through_tlvs: { match_type: INCLUDE, tlv_type: [1] }, added_tlvs: [{ type: 224, value: YWJj }] }")],
    );
    let header = of(&bench);
    assert_eq!((header.version, header.pass), (ProxyVersion::V2, PassTlvs::Some(vec![1])));
    assert_eq!((header.added[0].kind, &header.added[0].value[..]), (224, &b"abc"[..]));
    let refused = bench.send(Cluster, &[&proxied("{ added_tlvs: [{ type: 1, value: '' }] }")]);
    let field = "transport_socket.typed_config.config.added_tlvs[0].value";
    assert_eq!(refused[0].field, field);
}

#[test]
fn an_aggregate_names_its_clusters() {
    let mut bench = Bench::dynamic();
    let aggregate = |clusters: &str| {
        format!(
            "{{ name: a, lb_policy: CLUSTER_PROVIDED, cluster_type: {{ name: envoy.clusters.aggregate,
                typed_config: {{ '@type': type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [{clusters}] }} }} }}"
        )
    };
    bench.accept(Cluster, &[&aggregate("b, c")]);
    let discovery = bench.snapshot().clusters["a"].config().discovery.clone();
    assert_eq!(discovery, Discovery::Aggregate(vec!["b".into(), "c".into()]));
    let refused = bench.send(Cluster, &[&aggregate("")]);
    assert_eq!(refused[0].field, "cluster_type.typed_config.clusters");
}

#[test]
fn endpoints_may_have_several_addresses() {
    let mut bench = Bench::dynamic();
    bench.accept(
        Cluster,
        &["
name: a
load_assignment:
  cluster_name: a
  endpoints:
  - lb_endpoints:
    - endpoint:
        address: { socket_address: { address: 10.0.0.1, port_value: 80 } }
        additional_addresses: [{ address: { socket_address: { address: '2001:db8::1', port_value: 80 } } }]
"],
    );
    let endpoints = bench.snapshot().clusters["a"].endpoints().clone();
    let more = endpoints.iter().next().expect("an endpoint").more.clone();
    assert_eq!(more.as_deref(), Some(&["[2001:db8::1]:80".parse().expect("an address")][..]));
}

#[test]
fn zones_count_where_the_proxy_knows_its_cluster_and_its_own() {
    let zoned =
        DYNAMIC.replace("cluster: test }", "cluster: test, locality: { zone: here } }").replace(
            "static_resources:",
            "cluster_manager: { local_cluster_name: us }\nstatic_resources:",
        );
    let zone_of = |bootstrap: &str, common: &str| {
        let mut bench = Bench::new(bootstrap);
        bench.accept(Cluster, &[&format!("{{ name: a{common} }}")]);
        let config = bench.snapshot().clusters["a"].config().clone();
        config.balancing.zone.clone()
    };
    assert_eq!(zone_of(DYNAMIC, ""), None);
    let usual = zone_of(&zoned, "").expect("zones count");
    assert_eq!((usual.enabled, usual.min_size, usual.fail_on_panic), (10_000, 6, false));
    assert_eq!((&*usual.local_cluster, usual.locality.zone.as_str()), ("us", "here"));
    let own = ", common_lb_config: { zone_aware_lb_config: { routing_enabled: { value: 12.5 }, min_cluster_size: 2, fail_traffic_on_panic: true } }";
    let own = zone_of(&zoned, own).expect("zones count");
    assert_eq!((own.enabled, own.min_size, own.fail_on_panic), (1250, 2, true));
    assert_eq!(zone_of(&zoned, ", common_lb_config: { locality_weighted_lb_config: {} }"), None);
}

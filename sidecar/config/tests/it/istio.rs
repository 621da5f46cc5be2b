//! Resources as istiod builds them.

use std::time::Duration;

use weft_model::{ChainKey, TransportSocket};
use weft_model::{
    ClusterChoice, Discovery, ForwardClientCertMode, Health, LoadBalancing, PathRewrite,
    ProtocolChoice, RetryOn, RouteAction, Terminal, TransportChoice, TransportProtocol,
    UpstreamSocket,
};
use weft_route::{Outcome, RequestView};
use weft_xds_client::ResourceType;

use crate::secrets::{agent_bootstrap, certificates};
use crate::support::Bench;

pub(crate) const CLUSTER: &str = include_str!("fixtures/outbound_cluster.yaml");
pub(crate) const ENDPOINTS: &str = include_str!("fixtures/outbound_endpoints.yaml");
pub(crate) const VIRTUAL_INBOUND: &str = include_str!("fixtures/virtual_inbound.yaml");
pub(crate) const VIRTUAL_OUTBOUND: &str = include_str!("fixtures/virtual_outbound.yaml");
pub(crate) const OUTBOUND_80: &str = include_str!("fixtures/outbound_80.yaml");
pub(crate) const ROUTES_80: &str = include_str!("fixtures/routes_80.yaml");
pub(crate) const PASSTHROUGH: &str = include_str!("fixtures/inbound_passthrough.yaml");

/// A sidecar with its certificate.
fn sidecar() -> Bench {
    let mut bench = Bench::new(&agent_bootstrap());
    bench.accept(ResourceType::Cluster, &[]);
    let given = bench.engine.set_agent_certificates(certificates("web"), bench.now);
    given.expect("the certificates are right");
    bench
}

#[test]
fn virtual_outbound_hands_off_and_falls_back() {
    let mut bench = sidecar();
    bench.accept(ResourceType::Listener, &[VIRTUAL_OUTBOUND]);
    let snapshot = bench.snapshot();
    let listener = &snapshot.listeners["virtualOutbound"];
    assert!(listener.bind && listener.use_original_dst);
    assert_eq!(listener.access_logs.len(), 1);
    let key = |port| ChainKey {
        port,
        ip: [10, 0, 0, 1].into(),
        server_name: None,
        transport: TransportProtocol::Raw,
        application_protocols: &[],
        source: ([192, 0, 2, 1], 40_000).into(),
        direct_source: [192, 0, 2, 1].into(),
    };
    let name = |port| listener.chains.find(&key(port)).map(|chain| chain.name.to_string());
    assert_eq!(name(15001).as_deref(), Some("virtualOutbound-blackhole"));
    assert_eq!(name(443).as_deref(), Some("virtualOutbound-catchall-tcp"));
}

#[test]
fn virtual_inbound_tells_mutual_tls_from_plaintext() {
    let mut bench = sidecar();
    bench.accept(ResourceType::Listener, &[VIRTUAL_INBOUND]);
    let snapshot = bench.snapshot();
    let listener = &snapshot.listeners["virtualInbound"];
    assert_eq!(listener.filters_timeout, None);
    let disabled = |index: usize, port| {
        listener.filters[index].disabled.as_ref().is_some_and(|predicate| predicate.holds(port))
    };
    assert!(disabled(1, 3306) && !disabled(1, 3307));
    assert!(disabled(2, 8080) && !disabled(2, 9090));

    let find = |port, transport, protocol: &str| {
        let protocols = [protocol.into()];
        let key = ChainKey {
            port,
            ip: [10, 0, 0, 1].into(),
            server_name: None,
            transport,
            application_protocols: if protocol.is_empty() { &[] } else { &protocols },
            source: ([192, 0, 2, 1], 40_000).into(),
            direct_source: [192, 0, 2, 1].into(),
        };
        listener.chains.find(&key).expect("there is a chain").clone()
    };
    let mutual = find(8080, TransportProtocol::Tls, "istio-http/1.1");
    let TransportSocket::Tls(slot) = &mutual.transport else { panic!("it is TLS") };
    assert!(slot.is_filled());
    let Terminal::Http(manager) = &mutual.terminal else { panic!("it speaks HTTP") };
    assert_eq!(manager.client_cert.mode, ForwardClientCertMode::AppendForward);
    assert_eq!(manager.server_name, "istio-envoy");
    assert_eq!(manager.upgrades, ["websocket"]);
    assert_eq!(manager.stream_idle_timeout, None);
    let filters: Vec<_> = manager.filters.iter().map(|filter| filter.name.to_string()).collect();
    assert_eq!(
        filters,
        [
            "istio.metadata_exchange",
            "envoy.filters.http.grpc_stats",
            "envoy.filters.http.fault",
            "envoy.filters.http.cors",
            "istio.stats",
        ]
    );
    let plain = find(8080, TransportProtocol::Raw, "");
    assert!(matches!(plain.transport, TransportSocket::Raw));
    let passed = find(9090, TransportProtocol::Tls, "h2");
    assert!(matches!(passed.transport, TransportSocket::Raw), "foreign TLS passes through");
}

fn view<'a>(headers: &'a http::HeaderMap, path: &'a str) -> RequestView<'a> {
    RequestView {
        method: &http::Method::GET,
        scheme: "http",
        authority: "web.default:80",
        path,
        query: None,
        headers,
        random: 0,
        around: None,
    }
}

#[test]
fn outbound_routes_arrive_by_rds() {
    let mut bench = sidecar();
    bench.accept(ResourceType::Listener, &[OUTBOUND_80]);
    assert!(bench.snapshot().listeners.is_empty(), "it waits for its routes");
    assert_eq!(bench.wanted(ResourceType::Route), ["80"]);
    bench.accept(ResourceType::Route, &[ROUTES_80]);
    let snapshot = bench.snapshot();
    let listener = &snapshot.listeners["0.0.0.0_80"];
    assert!(!listener.bind);
    let handed = snapshot.hand_off.find(([10, 96, 1, 2], 80).into());
    assert_eq!(handed.map(|l| l.name.to_string()).as_deref(), Some("0.0.0.0_80"));
    let chain = listener.chains.iter().next().expect("there is a chain");
    assert_eq!(chain.handshake_timeout, Some(Duration::from_secs(15)));
    let Terminal::Http(manager) = &chain.terminal else { panic!("it speaks HTTP") };
    let weft_model::RouteSource::Discovered(slot) = &manager.routes else { panic!("by RDS") };
    let routes = slot.get().expect("they are there");
    let find = |headers: &http::HeaderMap, path: &str| {
        let Outcome::Route(host, route) = routes.table.find(&view(headers, path)) else {
            panic!("there is a route for {path}")
        };
        assert!(host.attempt_count_upstream);
        std::sync::Arc::clone(route)
    };
    let none = http::HeaderMap::new();
    let jason = [("x-user", "jason")]
        .map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v)))
        .into_iter()
        .collect();
    let canary = find(&jason, "/x");
    let RouteAction::Forward(forward) = &canary.action else { panic!("it forwards") };
    let ClusterChoice::Weighted(weighted) = &forward.clusters else { panic!("to several") };
    assert_eq!((weighted.total, weighted.clusters[1].weight), (100, 10));
    assert_eq!(weighted.clusters[1].request_headers.set.len(), 1);
    assert_eq!((forward.timeout, forward.grpc_timeout_max), (None, Some(Duration::ZERO)));
    let retry = forward.retry.as_ref().expect("it retries");
    assert!(retry.on.any(RetryOn::CONNECT_FAILURE) && retry.on.any(RetryOn::GRPC_UNAVAILABLE));
    assert!(!retry.on.any(RetryOn::SERVER_ERROR) && retry.avoid_previous_hosts);
    assert_eq!((retry.retries, retry.host_attempts), (2, 5));
    assert!(forward.mirrors[0].keep_host);

    let slow = find(&none, "/slow/x");
    assert!(slow.filter("envoy.filters.http.fault").is_some());
    let RouteAction::Forward(forward) = &slow.action else { panic!("it forwards") };
    assert!(matches!(forward.path, PathRewrite::Prefix { matched: Some(5), .. }));
    let RouteAction::Redirect(redirect) = &find(&none, "/old/x").action else { panic!("moved") };
    assert_eq!((redirect.status.as_u16(), redirect.scheme.as_deref()), (308, Some("https")));
    assert_eq!(find(&none, "/other").name.as_deref(), Some("default"));
}

#[test]
fn an_outbound_cluster_speaks_mutual_tls_to_whom_it_may() {
    let mut bench = sidecar();
    bench.accept(ResourceType::Cluster, &[CLUSTER]);
    bench.accept(ResourceType::Endpoint, &[ENDPOINTS]);
    let snapshot = bench.snapshot();
    let handle = &snapshot.clusters["outbound|80||web.default.svc.cluster.local"];
    let cluster = handle.config();
    assert_eq!(&*cluster.stat_name, "outbound|80||web.default.svc.cluster.local");
    assert_eq!(cluster.load_balancing, LoadBalancing::LeastRequest { choices: 2, bias: 1.0 });
    assert_eq!(cluster.breakers.default.connections, u32::MAX);
    assert!(cluster.istio_alpn);
    let exchange = cluster.exchange.as_ref().expect("peers tell each other who they are");
    assert_eq!(exchange.offered[..], [&b"istio-peer-exchange"[..], b"istio"]);
    let endpoints = handle.endpoints();
    let first = &endpoints.priorities[0].endpoints;
    assert_eq!(first[0].transport, TransportChoice(Some(0)));
    assert_eq!(first[1].transport, TransportChoice(Some(1)));
    assert_eq!((first[1].health, first[1].weight), (Health::Unhealthy, 3));
    assert_eq!(endpoints.priorities[1].endpoints.len(), 1);
    assert!(
        matches!(cluster.socket(first[0].transport), UpstreamSocket::Tls(slot) if slot.is_filled())
    );
    assert!(matches!(cluster.socket(first[1].transport), UpstreamSocket::Raw));
}

#[test]
fn the_inbound_passthrough_cluster_keeps_protocol_and_source() {
    let mut bench = sidecar();
    bench.accept(ResourceType::Cluster, &[PASSTHROUGH]);
    let snapshot = bench.snapshot();
    let cluster = snapshot.clusters["InboundPassthroughCluster"].config();
    assert_eq!(cluster.discovery, Discovery::OriginalDst { port: None, header: None });
    assert_eq!(cluster.protocol, ProtocolChoice::Downstream);
    assert_eq!(cluster.idle_timeout, Some(Duration::from_secs(300)));
    let bind: Vec<_> = cluster.bind.iter().map(ToString::to_string).collect();
    assert_eq!(bind, ["127.0.0.6", "::6"]);
    assert_eq!(cluster.breakers.default.pending, 1024);
}

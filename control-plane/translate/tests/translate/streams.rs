//! Stream routes as an edge's listeners.

use serde_json::{Value, json};
use weft_translate::{Settings, StreamPort};
use weft_xds_ads::ResourceType;
use weft_xds_proto::{Sensitive, any_to_json};

use super::support::World;

fn world() -> World {
    let ports = [(9100, false), (9101, true)];
    let stream_ports = ports.map(|(port, tls)| StreamPort { port, tls }).to_vec();
    World::with(Settings { stream_ports, ..Settings::default() })
}

fn route(world: &mut World, id: &str, mut conditions: Value) {
    conditions["upstream"] = json!({"nodes": {"192.0.2.1:1": 1}});
    world.put(&format!("stream_routes/{id}"), conditions);
}

/// The chains of a listener, each as the match and the cluster.
fn chains(world: &mut World, listener: &str) -> Vec<(Value, String)> {
    let sent = world.edge();
    let Some(listener) = sent.of(ResourceType::Listener).resources.get(listener) else {
        return Vec::new();
    };
    let json = any_to_json(&listener.body, Sensitive::Keep);
    let chains = json["filterChains"].as_array().or(json["filter_chains"].as_array());
    let chain = |chain: &Value| {
        let fits = chain.get("filterChainMatch").or(chain.get("filter_chain_match"));
        let filters = chain["filters"].as_array().expect("filters");
        let config = filters.last().expect("a filter");
        let config = config.get("typedConfig").or(config.get("typed_config")).expect("typed");
        (fits.cloned().unwrap_or_default(), config["cluster"].as_str().expect("one").to_owned())
    };
    chains.expect("chains").iter().map(chain).collect()
}

fn clusters(world: &mut World, listener: &str) -> Vec<String> {
    chains(world, listener).into_iter().map(|(_, cluster)| cluster).collect()
}

#[test]
fn a_port_has_the_routes_that_name_it_or_none() {
    let mut world = world();
    assert!(chains(&mut world, "stream_9100").is_empty());
    route(&mut world, "b", json!({}));
    assert_eq!(clusters(&mut world, "stream_9100"), ["stream_route/b/tcp"]);
    // An earlier id is tried first.
    route(&mut world, "a", json!({"server_port": 9100}));
    assert_eq!(clusters(&mut world, "stream_9100"), ["stream_route/a/tcp"]);
    assert!(clusters(&mut world, "stream_9101").is_empty(), "there is no certificate");
}

#[test]
fn each_combination_of_addresses_has_the_route_that_is_tried_first() {
    let mut world = world();
    route(&mut world, "a", json!({"server_addr": "10.0.0.1"}));
    route(&mut world, "b", json!({"server_addr": "10.0.0.0/8"}));
    route(&mut world, "c", json!({}));
    let found = chains(&mut world, "stream_9100");
    let clusters: Vec<_> = found.iter().map(|(_, cluster)| cluster.as_str()).collect();
    assert_eq!(clusters, ["stream_route/c/tcp", "stream_route/b/tcp", "stream_route/a/tcp"]);
    // What is narrower but later is never reached.
    route(&mut world, "0", json!({"server_addr": "10.0.0.0/8"}));
    let found = self::clusters(&mut world, "stream_9100");
    assert_eq!(found, ["stream_route/c/tcp", "stream_route/0/tcp", "stream_route/0/tcp"]);
}

#[test]
fn names_come_before_what_is_for_all() {
    let mut world = world();
    let (cert, key) = (include_str!("../golden/shop.crt"), include_str!("../golden/shop.key"));
    world.put("ssls/1", json!({"snis": ["a.com", "*.b.com"], "cert": cert, "key": key}));
    route(&mut world, "a", json!({}));
    route(&mut world, "b", json!({"sni": "a.com"}));
    route(&mut world, "c", json!({"sni": "x.b.com"}));
    let found = chains(&mut world, "stream_9101");
    let found: Vec<_> = found
        .iter()
        .map(|(fits, cluster)| {
            let names = fits.get("serverNames").or(fits.get("server_names"));
            (names.map(|names| names[0].as_str().unwrap_or_default()), cluster.as_str())
        })
        .collect();
    let (a, b, c) = ("stream_route/a/tcp", "stream_route/b/tcp", "stream_route/c/tcp");
    assert_eq!(found, [(Some("*.b.com"), a), (Some("a.com"), b), (Some("x.b.com"), c)]);
    assert_eq!(clusters(&mut world, "stream_9100"), [a]);
}

#[test]
fn what_cannot_be_served_is_told() {
    for (conditions, problem) in [
        (json!({"protocol": {"name": "redis"}}), "protocol: nothing inside"),
        (json!({"sni": "*foo.com"}), "sni: a wildcard stands for whole labels"),
        (json!({"server_port": 1}), "server_port: no port of edge.stream_proxy.tcp"),
        (json!({"plugins": {"mqtt-proxy": {}}}), "plugins.mqtt-proxy: this stream plugin"),
        (json!({"service_id": "none"}), "service_id: there is no service none"),
    ] {
        let mut world = world();
        route(&mut world, "1", conditions);
        let problems = world.problems();
        assert!(problems.iter().any(|told| told.contains(problem)), "{problem}: {problems:?}");
    }
}

#[test]
fn who_may_connect_is_decided_before_the_connection_is_forwarded() {
    let mut world = world();
    let plugins = json!({"ip-restriction": {"whitelist": ["192.0.2.0/24"]}});
    route(&mut world, "1", json!({"plugins": plugins}));
    let sent = world.edge();
    let listener = &sent.of(ResourceType::Listener).resources["stream_9100"];
    let text = any_to_json(&listener.body, Sensitive::Keep).to_string();
    let rbac = text.find("envoy.filters.network.rbac").expect("it is there");
    assert!(rbac < text.find("envoy.filters.network.tcp_proxy").expect("it is there"), "{text}");
    assert!(text.contains("192.0.2.0"), "{text}");
}

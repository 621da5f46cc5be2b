//! What waits for what, and for how long.

use std::sync::Arc;
use std::time::Duration;

use weft_xds_client::ResourceType::{Cluster, Endpoint, Listener, Route};

use crate::support::{Bench, DYNAMIC};

fn eds(name: &str, timeout: &str, connect: &str) -> String {
    format!(
        "{{ name: {name}, type: EDS, connect_timeout: {connect},
            eds_cluster_config: {{ eds_config: {{ ads: {{}}, initial_fetch_timeout: {timeout} }} }} }}"
    )
}

fn endpoints(cluster: &str, hosts: &[u8]) -> String {
    let hosts: Vec<_> = hosts
        .iter()
        .map(|host| format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 10.0.0.{host}, port_value: 80 }} }} }} }}"))
        .collect();
    format!("{{ cluster_name: {cluster}, endpoints: [{{ lb_endpoints: [{}] }}] }}", hosts.join(","))
}

fn http(name: &str, port: u16, rds: &str, timeout: &str) -> String {
    format!(
        "
name: {name}
address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
filter_chains:
- filters:
  - name: http
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: {name}
      rds: {{ route_config_name: {rds}, config_source: {{ ads: {{}}{timeout} }} }}
      http_filters:
      - name: router
        typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
"
    )
}

fn routes(name: &str, cluster: &str) -> String {
    format!(
        "{{ name: {name}, virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}] }}] }}"
    )
}

#[test]
fn a_cluster_waits_for_its_endpoints_and_an_empty_answer_counts() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&eds("a", "0s", "1s")]);
    assert!(!bench.snapshot().clusters.contains_key("a"));
    assert_eq!(bench.wanted(Endpoint), ["a"]);
    bench.wait(Duration::from_secs(3600));
    assert!(!bench.snapshot().clusters.contains_key("a"), "zero means for ever");
    bench.accept(Endpoint, &["{ cluster_name: a }"]);
    assert_eq!(bench.snapshot().clusters["a"].endpoints().iter().count(), 0);
}

#[test]
fn a_cluster_goes_on_without_endpoints_when_its_time_has_passed() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&eds("a", "5s", "1s")]);
    let deadline = bench.engine.next_deadline().expect("there is one");
    assert_eq!(deadline - bench.now, Duration::from_secs(5));
    bench.wait(Duration::from_millis(4999));
    assert!(!bench.snapshot().clusters.contains_key("a"));
    bench.wait(Duration::from_millis(1));
    assert!(bench.snapshot().clusters.contains_key("a"));
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn changed_endpoints_are_swapped_without_a_publication() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&eds("a", "0s", "1s"), &eds("b", "0s", "1s")]);
    bench.accept(Endpoint, &[&endpoints("a", &[1, 2]), &endpoints("b", &[9])]);
    let snapshot = bench.snapshot();
    let (a, b) = (&snapshot.clusters["a"], &snapshot.clusters["b"]);
    let kept = Arc::clone(&a.endpoints().priorities[0].endpoints[1]);
    let other = Arc::clone(&b.endpoints());
    bench.accept(Endpoint, &[&endpoints("a", &[2, 3])]);
    assert_eq!(bench.snapshot().version, snapshot.version);
    let after = a.endpoints();
    let hosts = &after.priorities[0].endpoints;
    assert_eq!(hosts.len(), 2);
    assert!(Arc::ptr_eq(&kept, &hosts[0]), "what did not change is shared");
    assert!(Arc::ptr_eq(&other, &b.endpoints()), "other clusters are not touched");
}

#[test]
fn a_new_version_keeps_handle_and_endpoints() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&eds("a", "0s", "1s")]);
    bench.accept(Endpoint, &[&endpoints("a", &[1])]);
    let handle = Arc::clone(&bench.snapshot().clusters["a"]);
    bench.accept(Cluster, &[&eds("a", "0s", "2s")]);
    assert!(Arc::ptr_eq(&handle, &bench.snapshot().clusters["a"]));
    assert_eq!(handle.config().connect_timeout, Duration::from_secs(2));
    assert_eq!(handle.endpoints().iter().count(), 1);
    assert_eq!(bench.wanted(Endpoint), ["a"]);
}

#[test]
fn a_cluster_that_changes_its_assignment_asks_for_the_new_one_and_drops_the_old() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&eds("a", "0s", "1s")]);
    bench.accept(Endpoint, &[&endpoints("a", &[1])]);
    let moved = eds("a", "0s", "1s").replace("eds_config:", "service_name: other, eds_config:");
    bench.accept(Cluster, &[&moved]);
    assert_eq!(bench.wanted(Endpoint), ["a", "other"], "the former version serves meanwhile");
    assert_eq!(bench.snapshot().clusters["a"].endpoints().iter().count(), 1);
    bench.engine.take_wants_changed();
    bench.accept(Endpoint, &[&endpoints("other", &[1, 2])]);
    assert!(bench.engine.take_wants_changed(), "the former assignment is not wanted any more");
    assert_eq!(bench.snapshot().clusters["a"].endpoints().iter().count(), 2);
    assert_eq!(bench.wanted(Endpoint), ["other"]);
    bench.remove(Cluster, &["a"]);
    assert!(bench.wanted(Endpoint).is_empty());
}

#[test]
fn a_listener_waits_for_its_routes_while_the_former_version_serves() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&http("l", 1, "one", ", initial_fetch_timeout: 0s")]);
    assert!(!bench.engine.readiness().ready);
    bench.accept(Route, &[&routes("one", "a")]);
    let first = Arc::clone(&bench.snapshot().listeners["l"]);
    assert!(bench.engine.readiness().ready);
    bench.accept(Listener, &[&http("l", 1, "two", ", initial_fetch_timeout: 0s")]);
    assert!(Arc::ptr_eq(&first, &bench.snapshot().listeners["l"]));
    assert_eq!(bench.wanted(Route), ["one", "two"]);
    bench.accept(Route, &[&routes("two", "a")]);
    assert!(!Arc::ptr_eq(&first, &bench.snapshot().listeners["l"]));
}

#[test]
fn a_listener_without_an_answer_serves_after_fifteen_seconds() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&http("l", 1, "one", "")]);
    bench.wait(Duration::from_secs(14));
    assert!(bench.snapshot().listeners.is_empty());
    bench.wait(Duration::from_secs(1));
    assert!(bench.snapshot().listeners.contains_key("l"));
}

#[test]
fn changed_routes_are_swapped_without_a_publication() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&http("l", 1, "one", "")]);
    bench.accept(Route, &[&routes("one", "a")]);
    let version = bench.snapshot().version;
    bench.accept(Route, &[&routes("one", "b")]);
    assert_eq!(bench.snapshot().version, version);
}

#[test]
fn a_refused_version_leaves_the_former_one_in_service() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&http("l", 1, "one", "")]);
    bench.accept(Route, &[&routes("one", "a")]);
    let first = Arc::clone(&bench.snapshot().listeners["l"]);
    let wrong = http("l", 1, "one", "").replace("stat_prefix: l", "codec_type: HTTP3");
    let rejections = bench.send(Listener, &[&wrong, &http("m", 2, "one", "")]);
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].name, "l");
    let snapshot = bench.snapshot();
    assert!(Arc::ptr_eq(&first, &snapshot.listeners["l"]));
    assert!(snapshot.listeners.contains_key("m"), "the good one is taken");
    let dump = bench.engine.dump();
    let listeners = &dump["configs"][2]["dynamic_listeners"];
    assert!(listeners[0]["error_state"]["details"].is_string(), "{listeners}");
    bench.accept(Listener, &[&http("l", 3, "one", "")]);
    assert!(bench.engine.dump()["configs"][2]["dynamic_listeners"][0]["error_state"].is_null());
}

#[test]
fn removal_takes_listener_and_cluster_out() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &["{ name: a }"]);
    bench.accept(Listener, &[&http("l", 1, "one", "")]);
    bench.accept(Route, &[&routes("one", "a")]);
    bench.remove(Listener, &["l"]);
    bench.remove(Cluster, &["a", "xds-grpc"]);
    let snapshot = bench.snapshot();
    assert!(snapshot.listeners.is_empty());
    assert!(!snapshot.clusters.contains_key("a"));
    assert!(snapshot.clusters.contains_key("xds-grpc"), "static ones stay");
    assert!(bench.wanted(Route).is_empty());
}

#[test]
fn a_route_may_come_before_its_cluster() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&http("l", 1, "one", "")]);
    bench.accept(Route, &[&routes("one", "late")]);
    let snapshot = bench.snapshot();
    let chain = snapshot.listeners["l"].chains.iter().next().expect("there is a chain");
    let weft_model::Terminal::Http(manager) = &chain.terminal else { panic!("HTTP") };
    let weft_model::RouteSource::Discovered(slot) = &manager.routes else { panic!("RDS") };
    let routes = slot.get().expect("it is filled");
    let headers = http::HeaderMap::new();
    let view = weft_route::RequestView {
        method: &http::Method::GET,
        scheme: "http",
        authority: "x",
        path: "/",
        query: None,
        headers: &headers,
        random: 0,
        around: None,
    };
    let weft_route::Outcome::Route(_, route) = routes.table.find(&view) else { panic!("a route") };
    let weft_model::RouteAction::Forward(forward) = &route.action else { panic!("forwards") };
    let weft_model::ClusterChoice::One(cluster) = &forward.clusters else { panic!("one") };
    assert!(cluster.get().is_none());
    bench.accept(Cluster, &["{ name: late }"]);
    assert!(cluster.get().is_some());
    bench.remove(Cluster, &["late"]);
    assert!(cluster.get().is_none());
}

#[test]
fn the_first_listeners_wait_for_the_first_clusters() {
    let mut bench = Bench::new(DYNAMIC);
    let listener = http("l", 1, "one", "");
    bench.accept(Listener, &[&listener]);
    bench.accept(Route, &[&routes("one", "a")]);
    assert!(bench.snapshot().listeners.is_empty());
    bench.accept(Cluster, &[&eds("a", "0s", "1s")]);
    assert!(bench.snapshot().listeners.is_empty(), "its cluster is not warm");
    bench.accept(Endpoint, &[&endpoints("a", &[1])]);
    assert!(bench.snapshot().listeners.contains_key("l"));

    let mut bench = Bench::new(DYNAMIC);
    bench.accept(Listener, &[&listener]);
    bench.accept(Route, &[&routes("one", "a")]);
    bench.wait(Duration::from_secs(15));
    assert!(bench.snapshot().listeners.contains_key("l"), "but not for ever");
}

#[test]
fn one_endpoint_among_ten_thousand_clusters_is_work_for_one() {
    let mut bench = Bench::dynamic();
    let names: Vec<_> = (0..10_000).map(|n| format!("c{n}")).collect();
    let bodies = |kind, yaml: &dyn Fn(&str) -> String| {
        names.iter().map(|name| crate::support::body(kind, &yaml(name))).collect::<Vec<_>>()
    };
    let clusters = bodies(Cluster, &|name| eds(name, "0s", "1s"));
    assert!(bench.send_bodies(Cluster, clusters, &[]).is_empty());
    let all = bodies(Endpoint, &|name| endpoints(name, &[1]));
    assert!(bench.send_bodies(Endpoint, all, &[]).is_empty());
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.clusters.size(), 10_001);
    let before: Vec<_> =
        names.iter().map(|n| snapshot.clusters[n.as_str()].endpoints().clone()).collect();
    bench.engine.take_wants_changed();
    bench.accept(Endpoint, &[&endpoints("c5000", &[1, 2])]);
    assert!(!bench.engine.take_wants_changed(), "nothing else is asked for");
    assert_eq!(bench.snapshot().version, snapshot.version);
    let touched = names.iter().zip(&before).filter(|(name, before)| {
        !Arc::ptr_eq(before, &snapshot.clusters[name.as_str()].endpoints())
    });
    assert_eq!(touched.count(), 1);
}

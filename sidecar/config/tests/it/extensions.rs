//! Filters whose configuration is discovered (ECDS).

use std::sync::Arc;
use std::time::Duration;

use weft_model::Terminal;
use weft_xds_client::ResourceType::{ExtensionConfig, Listener};

use crate::support::Bench;

const CORS: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors";
const BUFFER: &str = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer";

/// A listener with one discovered HTTP filter, and one discovered network filter before it.
fn listener(more: &str) -> String {
    format!(
        "
name: l
address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}
filter_chains:
- filters:
  - name: limit
    config_discovery:
      config_source: {{ ads: {{}}, initial_fetch_timeout: 3s }}
      type_urls: [type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit]
  - name: http
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: l
      route_config: {{ name: r }}
      http_filters:
      - name: found
        config_discovery:
          config_source: {{ ads: {{}}, initial_fetch_timeout: 5s }}
          type_urls: [{CORS}, {BUFFER}]
          {more}
      - name: router
        typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
"
    )
}

fn limit() -> &'static str {
    "{ name: limit, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit, stat_prefix: a, max_connections: 1 } }"
}

fn buffer(bytes: u32) -> String {
    format!("{{ name: found, typed_config: {{ '@type': {BUFFER}, max_request_bytes: {bytes} }} }}")
}

/// What stands in the place of the HTTP filter.
fn found(bench: &Bench) -> String {
    let snapshot = bench.snapshot();
    let chain = snapshot.listeners["l"].chains.iter().next().expect("a chain");
    let Terminal::Http(manager) = &chain.terminal else { panic!("it is HTTP") };
    format!("{:?}", manager.filters[0].filter)
}

#[test]
fn a_listener_waits_for_its_filters_and_keeps_serving_when_they_change() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&listener("")]);
    assert_eq!(bench.wanted(ExtensionConfig), ["found", "limit"]);
    bench.accept(ExtensionConfig, &[&buffer(7)]);
    assert!(bench.snapshot().listeners.is_empty(), "the other one is missing");
    bench.accept(ExtensionConfig, &[limit()]);
    let before = Arc::clone(&bench.snapshot().listeners["l"]);
    assert!(found(&bench).contains('7'), "{}", found(&bench));
    bench.accept(ExtensionConfig, &[&buffer(8)]);
    assert!(found(&bench).contains('8'), "{}", found(&bench));
    assert!(Arc::ptr_eq(&before, &bench.snapshot().listeners["l"]), "no connection drains");
    let dump = bench.engine.dump().to_string();
    assert!(dump.contains("EcdsConfigDump") && dump.contains("ecds_filter"), "{dump}");
}

#[test]
fn a_filter_that_is_refused_leaves_the_one_before_in_service() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&listener("")]);
    bench.accept(ExtensionConfig, &[&buffer(7), limit()]);
    let other = "{ name: found, typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy } }";
    let refused = bench.send(ExtensionConfig, &[other]);
    assert_eq!(refused[0].field, "typed_config");
    assert!(refused[0].reason.contains("the listener wants"), "{}", refused[0].reason);
    let refused = bench.send(ExtensionConfig, &[&buffer(0)]);
    assert_eq!(refused[0].field, "typed_config.max_request_bytes");
    assert!(found(&bench).contains('7'), "{}", found(&bench));
}

#[test]
fn the_default_serves_when_nothing_comes_in_time() {
    let mut bench = Bench::dynamic();
    let default = format!("default_config: {{ '@type': {BUFFER}, max_request_bytes: 5 }}");
    bench.accept(Listener, &[&listener(&default)]);
    bench.accept(ExtensionConfig, &[limit()]);
    assert!(bench.snapshot().listeners.is_empty());
    bench.wait(Duration::from_secs(5));
    assert!(found(&bench).contains('5'), "{}", found(&bench));
    bench.accept(ExtensionConfig, &[&buffer(7)]);
    assert!(found(&bench).contains('7'), "{}", found(&bench));
    bench.remove(ExtensionConfig, &["found"]);
    assert!(found(&bench).contains('5'), "the default again: {}", found(&bench));
}

#[test]
fn the_default_serves_at_once_where_that_is_wanted() {
    let mut bench = Bench::dynamic();
    let default = format!(
        "apply_default_config_without_warming: true
          default_config: {{ '@type': {BUFFER}, max_request_bytes: 5 }}"
    );
    bench.accept(Listener, &[&listener(&default)]);
    bench.accept(ExtensionConfig, &[limit()]);
    assert!(found(&bench).contains('5'), "{}", found(&bench));
}

#[test]
fn what_is_known_already_serves_a_new_listener_and_is_given_up_with_the_last() {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[&listener("")]);
    bench.accept(ExtensionConfig, &[&buffer(7), limit()]);
    let moved = listener("").replace("port_value: 1", "port_value: 2");
    bench.accept(Listener, &[&moved]);
    assert!(found(&bench).contains('7'), "it does not wait: {}", found(&bench));
    bench.remove(Listener, &["l"]);
    assert!(bench.wanted(ExtensionConfig).is_empty());
}

//! Bootstrap files.

use weft_model::{ClusterChoice, RouteAction, RouteSource, Terminal};
use weft_route::{Outcome, RequestView};

use crate::support::Bench;

const STATIC: &str = "
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 15000 } } }
static_resources:
  listeners:
  - name: web
    address: { socket_address: { address: 0.0.0.0, port_value: 8080 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ['*']
              routes:
              - match: { prefix: / }
                route: { cluster: backend }
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: backend
    connect_timeout: 0.25s
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9000 } } }
";

#[test]
fn a_static_bootstrap_is_served_at_once() {
    let bench = Bench::new(STATIC);
    let snapshot = bench.snapshot();
    let listener = &snapshot.listeners["web"];
    let chain = listener.chains.iter().next().expect("there is a chain");
    let Terminal::Http(manager) = &chain.terminal else { panic!("it speaks HTTP") };
    let RouteSource::Inline(routes) = &manager.routes else { panic!("its routes are inline") };
    let view = RequestView {
        method: &http::Method::GET,
        scheme: "http",
        authority: "a.test",
        path: "/x",
        query: None,
        headers: &http::HeaderMap::new(),
        random: 0,
        around: None,
    };
    let Outcome::Route(_, route) = routes.table.find(&view) else { panic!("it has a route") };
    let RouteAction::Forward(forward) = &route.action else { panic!("it forwards") };
    assert_eq!(forward.timeout, Some(std::time::Duration::from_secs(15)));
    let ClusterChoice::One(slot) = &forward.clusters else { panic!("to one cluster") };
    let handle = slot.get().expect("the cluster is there");
    assert_eq!(handle.endpoints().iter().count(), 1);
    assert_eq!(handle.config().connect_timeout, std::time::Duration::from_millis(250));
    assert!(bench.engine.readiness().ready);
}

#[test]
fn a_wrong_field_is_named_with_file_and_path() {
    let table = [
        (
            "prefix: /",
            "prefxi: /",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.prefxi: ",
        ),
        (
            "prefix: /",
            "safe_regex: { regex: '(' }",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.safe_regex: \"(\" is not a regular expression",
        ),
        (
            "address: 127.0.0.1, port_value: 9000",
            "address: localhost, port_value: 9000",
            "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \"localhost\" is not an IP address",
        ),
        (
            "port_value: 15000",
            "port_value: 150000",
            "admin.address.socket_address.port_value: 150000 is not a port",
        ),
        (
            "- name: web",
            "- name: web\n    use_original_dst: 3",
            "static_resources.listeners[0].use_original_dst: ",
        ),
    ];
    for (right, wrong, wanted) in table {
        assert!(STATIC.contains(right), "{right}");
        let error = Bench::try_new(&STATIC.replace(right, wrong)).err().expect("it is wrong");
        let text = error.to_string();
        assert!(text.starts_with(&format!("test.yaml: {wanted}")), "{text}");
    }
}

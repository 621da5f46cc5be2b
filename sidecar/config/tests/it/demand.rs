//! Virtual hosts and clusters that are fetched when they are called.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use weft_model::{DemandAnswer, Waiting, Wanted};
use weft_route::{Outcome, RequestView};
use weft_xds_client::ResourceType::{Cluster, Endpoint, Listener, Route, VirtualHost};
use weft_xds_client::Subscription;

use crate::support::{Bench, DYNAMIC};

const LISTENER: &str = "
name: '80'
address: { socket_address: { address: 127.0.0.1, port_value: 80 } }
filter_chains:
- filters:
  - name: http
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: http
      rds: { route_config_name: '80', config_source: { ads: {} } }
      http_filters:
      - name: envoy.filters.http.on_demand
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand
          odcds: { source: { ads: {} } }
      - name: router
        typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
";
const TABLE: &str = "{ name: '80', vhds: { config_source: { ads: {} } } }";

/// An engine with one listener whose hosts come on demand.
fn bench() -> Bench {
    let mut bench = Bench::dynamic();
    bench.accept(Listener, &[LISTENER]);
    bench.accept(Route, &[TABLE]);
    bench.engine.set_connected(true);
    bench
}

fn cluster(name: &str) -> String {
    format!("{{ name: {name}, type: EDS, eds_cluster_config: {{ eds_config: {{ ads: {{}} }} }} }}")
}

fn host_of(domains: &str, cluster: &str) -> String {
    format!(
        "{{ name: h, domains: [{domains}], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}] }}"
    )
}

fn host(name: &str) -> Wanted {
    Wanted::VirtualHost(format!("80/{name}").into())
}

impl Bench {
    fn ask(&mut self, wanted: &Wanted) -> Waiting {
        let waiting = self.engine.demand().ask(wanted);
        self.engine.take_demands(self.now);
        waiting
    }

    /// Asks for a host and has it come with its cluster.
    fn fetch(&mut self, name: &str) {
        drop(self.ask(&host(name)));
        self.accept_named(&format!("80/{name}"), &host_of(name, name));
        self.accept(Cluster, &[&cluster(name)]);
        self.accept(Endpoint, &[&format!("{{ cluster_name: {name} }}")]);
    }

    /// Virtual hosts go by another name than the one that they say.
    fn accept_named(&mut self, name: &str, yaml: &str) {
        let rejections = self.send_named(VirtualHost, name, yaml);
        assert!(rejections.is_empty(), "{rejections:#?}");
    }

    /// Whether a host is in the table; a request for it is noted as Weft's own would be.
    fn knows(&self, authority: &str) -> bool {
        let snapshot = self.snapshot();
        let listener = &snapshot.listeners["80"];
        let chain = listener.chains.iter().next().expect("a chain");
        let weft_model::Terminal::Http(manager) = &chain.terminal else { panic!("it is HTTP") };
        let weft_model::RouteSource::Discovered(slot) = &manager.routes else { panic!("by RDS") };
        let routes = slot.get().expect("a table");
        let view = RequestView {
            method: &http::Method::GET,
            scheme: "http",
            authority,
            path: "/",
            query: None,
            headers: &http::HeaderMap::new(),
            random: 0,
            around: None,
        };
        match routes.table.find(&view) {
            Outcome::Route(host, _) => {
                host.used.iter().for_each(weft_model::UseMark::mark);
                true
            }
            _ => false,
        }
    }
}

/// The answer, if it is there already.
fn answer(waiting: Waiting) -> Option<DemandAnswer> {
    let waiting = std::pin::pin!(waiting.answer());
    match waiting.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn a_host_is_answered_when_its_cluster_is_warm() {
    let mut bench = bench();
    assert!(!bench.knows("a"));
    assert_eq!(bench.wanted(Cluster), ["*"]);
    let ask = |bench: &mut Bench| bench.ask(&host("a"));
    let first = ask(&mut bench);
    assert_eq!(bench.wanted(VirtualHost), ["80/a"]);
    bench.accept_named("80/a", &host_of("a", "c"));
    assert!(bench.knows("a"));
    assert_eq!(bench.wanted(Cluster), ["*", "c"]);
    assert_eq!(answer(first), None);
    bench.accept(Cluster, &[&cluster("c")]);
    assert_eq!(bench.wanted(Endpoint), ["c"]);
    assert_eq!(answer(ask(&mut bench)), None);
    bench.accept(Endpoint, &["{ cluster_name: c }"]);
    assert_eq!(answer(ask(&mut bench)), Some(DemandAnswer::There));
}

#[test]
fn a_host_that_is_nothing_is_answered_at_once_the_next_time() {
    let mut bench = bench();
    let first = bench.ask(&host("a"));
    bench.remove(VirtualHost, &["80/a"]);
    assert_eq!(answer(first), Some(DemandAnswer::Nothing));
    let again = bench.ask(&host("a"));
    assert_eq!(answer(again), Some(DemandAnswer::Nothing));
    // It is still subscribed to: when it appears it is there.
    bench.accept_named("80/a", "{ name: h, domains: [a] }");
    let later = bench.ask(&host("a"));
    assert_eq!(answer(later), Some(DemandAnswer::There));
}

#[test]
fn a_host_of_a_table_without_vhds_is_nothing() {
    let mut bench = bench();
    bench.accept(Route, &["{ name: '80' }"]);
    let waiting = bench.ask(&host("a"));
    assert_eq!(answer(waiting), Some(DemandAnswer::Nothing));
    assert!(bench.wanted(VirtualHost).is_empty());
}

#[test]
fn a_cluster_that_does_not_exist_holds_no_host_up() {
    let mut bench = bench();
    let waiting = bench.ask(&host("a"));
    bench.accept_named("80/a", &host_of("a", "c"));
    bench.remove(Cluster, &["c"]);
    assert_eq!(answer(waiting), Some(DemandAnswer::There));
}

#[test]
fn a_host_whose_domain_is_taken_is_refused_by_name_and_the_others_serve() {
    let mut bench = bench();
    bench.fetch("a");
    let waiting = bench.ask(&host("b"));
    let rejections = bench.send_named(VirtualHost, "80/b", &host_of("a", "a"));
    assert_eq!(rejections[0].name, "80/b");
    assert_eq!(answer(waiting), Some(DemandAnswer::Nothing));
    assert!(bench.knows("a") && !bench.knows("b"));
}

#[test]
fn a_new_version_of_a_host_leaves_the_clusters_that_it_leads_to_no_longer() {
    let mut bench = bench();
    bench.fetch("a");
    assert!(bench.snapshot().clusters.contains_key("a"));
    bench.accept_named("80/a", &host_of("a", "other"));
    assert_eq!(bench.wanted(Cluster), ["*", "other"]);
    bench.wait(Duration::from_millis(1));
    assert!(!bench.snapshot().clusters.contains_key("a"));
}

#[test]
fn a_new_version_of_the_table_keeps_the_hosts_that_were_fetched() {
    let mut bench = bench();
    bench.fetch("a");
    let table =
        "{ name: '80', vhds: { config_source: { ads: {} } }, request_headers_to_remove: [x] }";
    bench.accept(Route, &[table]);
    assert!(bench.knows("a"));
    assert_eq!(bench.wanted(Cluster), ["*", "a"]);
    bench.accept(Route, &["{ name: '80' }"]);
    assert!(!bench.knows("a"));
    assert_eq!(bench.wanted(Cluster), ["*"]);
    assert!(bench.wanted(VirtualHost).is_empty());
}

#[test]
fn an_announced_cluster_is_not_asked_for_by_name_until_it_is_withdrawn() {
    let mut bench = bench();
    bench.accept(Cluster, &[&cluster("c")]);
    drop(bench.ask(&host("a")));
    bench.accept_named("80/a", &host_of("a", "c"));
    assert_eq!(bench.wanted(Cluster), ["*"]);
    bench.remove(Cluster, &["c"]);
    assert_eq!(bench.wanted(Cluster), ["*", "c"]);
}

#[test]
fn what_is_not_used_for_an_hour_is_given_up() {
    let mut bench = bench();
    bench.fetch("a");
    bench.fetch("b");
    for _ in 0..5 {
        bench.wait(Duration::from_secs(15 * 60));
        assert!(bench.knows("a"));
    }
    assert!(!bench.knows("b"));
    assert_eq!(bench.wanted(VirtualHost), ["80/a"]);
    assert_eq!(bench.wanted(Cluster), ["*", "a"]);
    assert!(!bench.snapshot().clusters.contains_key("b"));
}

#[test]
fn nothing_is_given_up_while_the_control_plane_is_away() {
    let mut bench = bench();
    bench.fetch("a");
    bench.engine.set_connected(false);
    bench.wait(Duration::from_secs(7200));
    assert_eq!(bench.wanted(VirtualHost), ["80/a"]);
    bench.engine.set_connected(true);
    bench.wait(Duration::from_secs(60));
    assert!(bench.wanted(VirtualHost).is_empty() && !bench.knows("a"));
}

#[test]
fn made_up_hosts_do_not_pile_up() {
    let mut bench = bench();
    for number in 0..1000 {
        let name = format!("random-{number}");
        drop(bench.ask(&host(&name)));
        bench.remove(VirtualHost, &[&format!("80/{name}")]);
    }
    assert_eq!(bench.wanted(VirtualHost).len(), 256);
    bench.wait(Duration::from_secs(61));
    assert!(bench.wanted(VirtualHost).is_empty());
}

#[test]
fn a_cluster_is_fetched_by_itself_and_given_up_when_it_is_not_used() {
    let mut bench = bench();
    let wanted = Wanted::Cluster("c".into());
    let waiting = bench.ask(&wanted);
    assert_eq!(bench.wanted(Cluster), ["*", "c"]);
    bench.accept(Cluster, &[&cluster("c")]);
    bench.accept(Endpoint, &["{ cluster_name: c }"]);
    assert_eq!(answer(waiting), Some(DemandAnswer::There));
    bench.wait(Duration::from_secs(1800));
    let snapshot = bench.snapshot();
    snapshot.clusters["c"].stats().cx_total.inc();
    bench.wait(Duration::from_secs(1800));
    bench.wait(Duration::from_secs(1800));
    assert_eq!(bench.wanted(Cluster), ["*", "c"]);
    bench.wait(Duration::from_secs(1800));
    assert_eq!(bench.wanted(Cluster), ["*"]);
    assert!(!bench.snapshot().clusters.contains_key("c"));
}

#[test]
fn what_was_fetched_in_an_earlier_life_is_wanted_again() {
    let mut bench = Bench::new(DYNAMIC);
    let names = |name: &str| [name.to_owned()].into();
    let earlier = [
        (Cluster, Subscription::WildcardAnd(names("a"))),
        (VirtualHost, Subscription::Names(names("80/a"))),
    ];
    bench.engine.resume(&earlier, bench.now);
    assert_eq!(bench.wanted(Cluster), ["*", "a"]);
    bench.accept(Cluster, &[&cluster("a")]);
    bench.accept(Endpoint, &["{ cluster_name: a }"]);
    bench.accept(Listener, &[LISTENER]);
    bench.accept(Route, &[TABLE]);
    assert_eq!(bench.wanted(VirtualHost), ["80/a"]);
    bench.accept_named("80/a", &host_of("a", "a"));
    assert!(bench.knows("a"));
    let waiting = bench.ask(&host("a"));
    assert_eq!(answer(waiting), Some(DemandAnswer::There));
}

#[test]
fn a_table_with_vhds_has_to_come_by_rds_and_over_the_aggregated_stream() {
    let mut bench = bench();
    let inline = LISTENER.replace(
        "rds: { route_config_name: '80', config_source: { ads: {} } }",
        "route_config: { name: x, vhds: { config_source: { ads: {} } } }",
    );
    let rejections = bench.send(Listener, &[&inline]);
    assert!(rejections[0].field.ends_with("route_config.vhds"), "{rejections:?}");
    let file = "{ name: '80', vhds: { config_source: { path_config_source: { path: /x } } } }";
    let rejections = bench.send(Route, &[file]);
    assert_eq!(rejections[0].field, "vhds.config_source.path_config_source");
}

//! Health checks and outlier detection: what is read of them, and what waits for the first check.

use std::time::Duration;

use weft_model::{CheckKind, ClusterHandle, EjectionCause, HealthFlags, StatusRange};
use weft_xds_client::ResourceType::{Cluster, Endpoint};

use crate::support::Bench;

const CHECK: &str = "timeout: 2s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 3";

fn checked(name: &str, discovery: &str) -> String {
    format!(
        "{{ name: {name}, {discovery},
            health_checks: [{{ {CHECK}, initial_jitter: 1s, no_traffic_interval: 7s,
              http_health_check: {{ path: /healthz, expected_statuses: [{{ start: 200, end: 300 }}] }} }}] }}"
    )
}

const HOST: &str =
    "{ endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } } }";

/// The first check of every host has succeeded.
fn pass_checks(handle: &ClusterHandle) {
    for state in handle.host_states(&handle.endpoints()) {
        state.change_flags(0, HealthFlags::FAILED_ACTIVE | HealthFlags::PENDING_ACTIVE);
    }
}

#[test]
fn a_cluster_serves_after_the_first_check_of_its_hosts() {
    let mut bench = Bench::dynamic();
    let eds = "type: EDS, eds_cluster_config: { eds_config: { ads: {} } }";
    bench.accept(Cluster, &[&checked("a", eds)]);
    assert!(bench.snapshot().warming.is_empty(), "there is nobody to check");
    bench.accept(
        Endpoint,
        &[&format!("{{ cluster_name: a, endpoints: [{{ lb_endpoints: [{HOST}] }}] }}")],
    );
    let snapshot = bench.snapshot();
    assert!(!snapshot.clusters.contains_key("a"));
    let handle = &snapshot.warming[0];
    assert_eq!(handle.endpoints().iter().count(), 1);
    bench.wait(Duration::from_millis(250));
    assert!(!bench.snapshot().clusters.contains_key("a"));
    pass_checks(handle);
    bench.wait(Duration::from_millis(250));
    let snapshot = bench.snapshot();
    assert!(std::sync::Arc::ptr_eq(&snapshot.clusters["a"], handle), "what was learnt stays");
    assert!(snapshot.warming.is_empty());
}

#[test]
fn a_cluster_whose_checks_do_not_end_serves_all_the_same() {
    let mut bench = Bench::dynamic();
    let fixed = format!("load_assignment: {{ endpoints: [{{ lb_endpoints: [{HOST}] }}] }}");
    bench.accept(Cluster, &[&checked("a", &fixed)]);
    // The jitter, the timeout and a second.
    bench.wait(Duration::from_millis(3999));
    assert!(!bench.snapshot().clusters.contains_key("a"));
    bench.wait(Duration::from_millis(1));
    let snapshot = bench.snapshot();
    let handle = &snapshot.clusters["a"];
    assert!(!handle.is_checked());
    let config = handle.config();
    let check = config.health_check.as_ref().unwrap();
    assert_eq!((check.unhealthy_threshold, check.healthy_threshold), (2, 3));
    assert_eq!(check.pace.no_traffic, Duration::from_secs(7));
    assert_eq!(check.pace.unhealthy, Duration::from_secs(5));
    assert!(
        matches!(&check.kind, CheckKind::Http(http) if http.expected == [StatusRange { start: 200, end: 300 }])
    );
}

#[test]
fn a_cluster_that_serves_goes_on_serving_when_it_gets_checks() {
    let mut bench = Bench::dynamic();
    let fixed = format!("load_assignment: {{ endpoints: [{{ lb_endpoints: [{HOST}] }}] }}");
    bench.accept(Cluster, &[&format!("{{ name: a, {fixed} }}")]);
    bench.accept(Cluster, &[&checked("a", &fixed)]);
    let snapshot = bench.snapshot();
    let handle = &snapshot.clusters["a"];
    assert!(handle.config().health_check.is_some());
    assert!(handle.is_checked(), "its host serves until a check fails");
}

#[test]
fn a_removed_cluster_is_not_checked_any_more() {
    let mut bench = Bench::dynamic();
    let fixed = format!("load_assignment: {{ endpoints: [{{ lb_endpoints: [{HOST}] }}] }}");
    bench.accept(Cluster, &[&checked("a", &fixed)]);
    assert_eq!(bench.snapshot().warming.len(), 1);
    bench.remove(Cluster, &["a"]);
    assert!(bench.snapshot().warming.is_empty());
}

#[test]
fn outlier_detection_is_read_with_envoys_defaults() {
    let mut bench = Bench::dynamic();
    bench.accept(
        Cluster,
        &["{ name: a, outlier_detection: { consecutive_5xx: 3, base_ejection_time: 400s,
             success_rate_stdev_factor: 2500, enforcing_failure_percentage: 70 } }"],
    );
    let snapshot = bench.snapshot();
    let config = snapshot.clusters["a"].config();
    let outlier = config.outlier.as_ref().unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway), (3, 5));
    assert_eq!(outlier.max_time, Duration::from_secs(400), "never below the base");
    assert!((outlier.rate_deviations - 2.5).abs() < f64::EPSILON);
    assert_eq!(outlier.enforcing.percent(EjectionCause::FailurePercentage), 70);
    assert_eq!(outlier.enforcing.percent(EjectionCause::Consecutive5xx), 100);
    assert_eq!(outlier.enforcing.percent(EjectionCause::ConsecutiveGateway), 0);
}

#[test]
fn wrong_checks_are_refused_by_field() {
    let mut bench = Bench::dynamic();
    for (check, field) in [
        ("tcp_health_check: {}, timeout: 0s", "health_checks[0].timeout"),
        (CHECK, "health_checks[0].http_health_check"),
        (
            &format!("{CHECK}, http_health_check: {{ path: /, method: CONNECT }}"),
            "health_checks[0].http_health_check.method",
        ),
        (
            &format!("{CHECK}, tcp_health_check: {{ send: {{ text: abc }} }}"),
            "health_checks[0].tcp_health_check.send.text",
        ),
        (
            &format!("{CHECK}, custom_health_check: {{ name: x }}"),
            "health_checks[0].custom_health_check",
        ),
    ] {
        let rejections =
            bench.send(Cluster, &[&format!("{{ name: a, health_checks: [{{ {check} }}] }}")]);
        assert_eq!(rejections[0].field, field, "{check}");
    }
    let outlier = "{ name: a, outlier_detection: { max_ejection_percent: 101 } }";
    assert_eq!(bench.send(Cluster, &[outlier])[0].field, "outlier_detection.max_ejection_percent");
}

#[test]
fn the_bootstraps_listeners_wait_for_its_clusters_checks() {
    let yaml = format!(
        "
node: {{ id: test, cluster: test }}
static_resources:
  clusters:
  - {}
  listeners:
  - name: in
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: a
",
        checked("a", &format!("load_assignment: {{ endpoints: [{{ lb_endpoints: [{HOST}] }}] }}"))
            .replace('\n', " ")
    );
    let mut bench = Bench::new(&yaml);
    assert!(bench.snapshot().listeners.is_empty());
    assert!(!bench.engine.readiness().ready);
    pass_checks(&bench.snapshot().warming[0]);
    bench.wait(Duration::from_millis(250));
    assert!(bench.snapshot().listeners.contains_key("in"));
    assert!(bench.engine.readiness().ready);
}

//! What is reported of the load.

use weft_config::ClusterLoads;
use weft_xds_client::ResourceType::Cluster;
use weft_xds_client::{LoadSource, WantedLoads};

use crate::support::{Bench, DYNAMIC};

const TWO_ZONES: &str = "
name: a
load_assignment:
  cluster_name: a
  endpoints:
  - locality: { zone: one }
    lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } } }]
  - locality: { zone: two }
    priority: 1
    lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.0.0.2, port_value: 80 } } } }]
";

fn wanted(by_endpoint: bool) -> WantedLoads {
    WantedLoads { all: false, clusters: ["a".to_owned()].into(), by_endpoint }
}

#[test]
fn the_load_of_each_locality_is_that_since_the_last_report() {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[TWO_ZONES, "{ name: b }"]);
    let mut loads = ClusterLoads::new(bench.watch.clone());
    let handle = bench.snapshot().clusters["a"].clone();
    let states = handle.host_states(&handle.endpoints());
    let sent = |at: usize, good: u64, bad: u64| {
        let counters = states[at].counters(0);
        for _ in 0..good {
            counters.rq_total.inc();
            counters.rq_success.inc();
        }
        for _ in 0..bad {
            counters.rq_total.inc();
            counters.rq_error.inc();
        }
    };
    sent(0, 5, 0);
    loads.report(&wanted(false));
    sent(0, 2, 1);
    sent(1, 0, 4);
    states[1].counters(0).rq_active.inc();
    handle.stats().rq_pending_overflow.inc();
    let reports = loads.report(&wanted(true));
    let [report] = reports.as_slice() else { panic!("one cluster is wanted: {reports:?}") };
    assert_eq!((report.cluster_name.as_str(), report.total_dropped_requests), ("a", 1));
    let seen: Vec<_> = report
        .upstream_locality_stats
        .iter()
        .map(|stats| {
            let zone = stats.locality.clone().expect("a locality").zone;
            let counts = (
                stats.total_issued_requests,
                stats.total_successful_requests,
                stats.total_error_requests,
                stats.total_requests_in_progress,
            );
            (zone, stats.priority, counts, stats.upstream_endpoint_stats.len())
        })
        .collect();
    assert_eq!(seen, [("one".into(), 0, (3, 2, 1, 0), 1), ("two".into(), 1, (4, 0, 4, 1), 1)]);
    let quiet = loads.report(&wanted(false));
    assert_eq!(quiet[0].total_dropped_requests, 0);
    assert_eq!(quiet[0].upstream_locality_stats.len(), 1, "one request is still in progress");
}

#[test]
fn the_server_of_load_reports_has_to_be_a_static_cluster() {
    let with = |cluster: &str| {
        let settings = format!(
            "cluster_manager:
  load_stats_config:
    api_type: GRPC
    grpc_services: [{{ envoy_grpc: {{ cluster_name: {cluster} }} }}]
static_resources:"
        );
        Bench::try_new(&DYNAMIC.replace("static_resources:", &settings)).err()
    };
    assert!(with("xds-grpc").is_none());
    let error = with("elsewhere").expect("it is refused");
    assert!(error.field.starts_with("cluster_manager.load_stats_config"), "{error}");
}

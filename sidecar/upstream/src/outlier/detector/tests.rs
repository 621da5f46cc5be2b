use std::net::SocketAddr;

use http::HeaderMap;
use weft_model::{Cluster, Endpoint, EndpointSet, HostCounters, Priority};
use weft_telemetry::Registry;

use super::*;
use crate::UpstreamError;
use crate::outlier::{Report, Thresholds};

/// A cluster of so many hosts, its detector, and a clock.
struct Court {
    detector: Detector,
    hosts: Vec<Arc<HostState>>,
    now: Instant,
}

impl Court {
    fn new(hosts: u16, change: impl FnOnce(&mut OutlierDetection)) -> Self {
        let mut config = OutlierDetection { max_percent: 100, ..OutlierDetection::default() };
        change(&mut config);
        let config = Arc::new(config);
        let at = |port: u16| EndpointAddress::Socket(SocketAddr::from(([127, 0, 0, 1], port)));
        let endpoints = (1..=hosts).map(|port| Arc::new(Endpoint::at(at(port)))).collect();
        let set = EndpointSet {
            priorities: vec![Priority { endpoints, ..Priority::default() }],
            overprovisioning_factor: 140,
            ..EndpointSet::default()
        };
        let cluster = Cluster { outlier: Some(Arc::clone(&config)), ..Cluster::named("test") };
        let cluster =
            Arc::new(ClusterHandle::new(Arc::new(cluster), Arc::new(set), Registry::new()));
        let detector = Detector::new(cluster, config);
        Self { hosts: detector.hosts(), detector, now: Instant::now() }
    }

    fn with(&self, host: usize, tell: impl FnOnce(&Report<'_>)) {
        let counters: Arc<HostCounters> = self.hosts[host].counters(0);
        tell(&Report {
            cluster: &self.detector.cluster,
            state: &self.hosts[host],
            counters: &counters,
            thresholds: Thresholds::new(&self.detector.config),
        });
    }

    fn answers(&self, host: usize, statuses: &[u16]) {
        for status in statuses {
            self.with(host, |report| report.answered(*status, &HeaderMap::new()));
        }
    }

    /// Lets time pass and whatever is due happen.
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.detector.interval(self.now);
    }

    fn hear(&mut self) {
        self.detector.hear(self.now);
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| is_ejected(&self.hosts[*at])).collect()
    }

    fn stat(&self, name: &str) -> u64 {
        let scope = self.detector.cluster.stats_scope();
        scope.counter(&format!("outlier_detection.ejections_{name}")).value()
    }
}

#[test]
fn five_server_errors_in_a_row_eject_a_host() {
    let mut court = Court::new(2, |_| {});
    court.answers(0, &[500, 500, 500, 500, 200, 500, 500, 500, 500]);
    court.hear();
    assert_eq!(court.ejected(), [0; 0], "never five in a row");
    let revision = court.detector.cluster.health_revision();
    court.answers(0, &[503]);
    court.hear();
    assert_eq!(court.ejected(), [0]);
    assert_ne!(court.detector.cluster.health_revision(), revision, "the workers are told");
    assert_eq!(court.stat("enforced_consecutive_5xx"), 1);
    assert_eq!((court.stat("total"), court.stat("enforced_total")), (1, 1));
    assert_eq!(court.detector.stats.active.value(), 1);
    assert_eq!(court.detector.cluster.stats().membership_healthy.value(), 1);
}

#[test]
fn a_host_comes_back_after_a_time_that_grows() {
    let mut court = Court::new(2, |_| {});
    court.answers(0, &[500; 5]);
    court.hear();
    court.pass(29);
    assert_eq!(court.ejected(), [0]);
    court.pass(1);
    assert_eq!(court.ejected(), [0; 0]);
    court.answers(0, &[500; 5]);
    court.hear();
    court.pass(59);
    assert_eq!(court.ejected(), [0], "the second time is twice as long");
    court.pass(1);
    assert_eq!(court.ejected(), [0; 0]);
    // Two intervals without trouble, and the next time is short again.
    court.pass(10);
    court.pass(10);
    court.answers(0, &[500; 5]);
    court.hear();
    court.pass(30);
    assert_eq!(court.ejected(), [0; 0]);
}

#[test]
fn no_ejection_is_longer_than_the_longest() {
    let mut court = Court::new(1, |config| config.max_time = Duration::from_secs(45));
    for _ in 0..4 {
        court.answers(0, &[500; 5]);
        court.hear();
        assert_eq!(court.ejected(), [0]);
        court.pass(45);
        assert_eq!(court.ejected(), [0; 0]);
    }
}

#[test]
fn no_more_than_the_percentage_is_ejected_but_one_may_always_be() {
    let mut court = Court::new(4, |config| config.max_percent = 50);
    for host in 0..3 {
        court.answers(host, &[500; 5]);
    }
    court.hear();
    assert_eq!(court.ejected(), [0, 1]);
    assert_eq!(court.stat("overflow"), 1);
    let mut court = Court::new(4, |config| config.max_percent = 10);
    court.answers(0, &[500; 5]);
    court.hear();
    assert_eq!(court.ejected(), [0; 0]);
    let mut court = Court::new(4, |config| {
        config.max_percent = 10;
        config.always_one = true;
    });
    court.answers(0, &[500; 5]);
    court.answers(1, &[500; 5]);
    court.hear();
    assert_eq!(court.ejected(), [0]);
}

#[test]
fn gateway_failures_are_counted_but_enforced_only_where_that_is_configured() {
    let mut court = Court::new(1, |config| config.consecutive_gateway = 2);
    court.answers(0, &[503, 504]);
    court.hear();
    assert_eq!((court.ejected().len(), court.stat("detected_consecutive_gateway_failure")), (0, 1));
    let mut court = Court::new(1, |config| {
        config.consecutive_gateway = 2;
        config.enforcing.0[EjectionCause::ConsecutiveGateway.index()] = 100;
    });
    court.answers(0, &[503, 500, 503]);
    court.hear();
    assert_eq!(court.ejected(), [0; 0], "a 500 is no gateway failure");
    court.answers(0, &[502]);
    court.hear();
    assert_eq!(court.ejected(), [0]);
}

#[test]
fn failures_of_the_way_count_apart_where_they_are_split() {
    let reset = UpstreamError::ConnectionClosed { reused: false };
    let refused = UpstreamError::ConnectFailed {
        address: EndpointAddress::Pipe("/a".into()),
        reason: "refused".into(),
    };
    let mut court = Court::new(1, |_| {});
    (0..5).for_each(|_| court.with(0, |report| report.failed(&reset)));
    court.hear();
    assert_eq!(court.stat("enforced_consecutive_5xx"), 1, "they count as 503");
    let mut court = Court::new(1, |config| config.split = true);
    (0..5).for_each(|_| court.with(0, |report| report.failed(&reset)));
    court.hear();
    assert_eq!(court.ejected(), [0; 0], "the connection was there each time");
    (0..4).for_each(|_| court.with(0, |report| report.failed(&refused)));
    court.hear();
    assert_eq!(court.stat("enforced_consecutive_local_origin_failure"), 1);
    assert_eq!(court.stat("enforced_consecutive_5xx"), 0);
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let mut court = Court::new(10, |config| config.consecutive_5xx = 1000);
    for host in 0..9 {
        court.answers(host, &[200; 100]);
    }
    court.answers(9, &[200; 60]);
    court.answers(9, &[500; 40]);
    court.pass(10);
    assert_eq!(court.ejected(), [9]);
    assert_eq!(court.stat("enforced_success_rate"), 1);
    assert_eq!(court.hosts[0].success_rates(), [100.0, -1.0]);
    court.pass(10);
    assert_eq!(court.hosts[0].success_rates(), [-1.0, -1.0], "nothing in this interval");
}

#[test]
fn a_percentage_of_failures_ejects_where_that_is_enforced() {
    let mut court = Court::new(5, |config| {
        config.consecutive_5xx = 1000;
        config.enforcing.0[EjectionCause::FailurePercentage.index()] = 100;
        config.enforcing.0[EjectionCause::SuccessRate.index()] = 0;
    });
    for host in 0..4 {
        court.answers(host, &[200; 50]);
    }
    court.answers(4, &[200; 5]);
    court.answers(4, &[500; 45]);
    court.pass(10);
    assert_eq!(court.ejected(), [4]);
    assert_eq!(court.stat("enforced_failure_percentage"), 1);
}

#[test]
fn a_successful_health_check_takes_a_host_back() {
    let mut court = Court::new(1, |_| {});
    court.answers(0, &[500; 5]);
    court.hear();
    assert_eq!(court.ejected(), [0]);
    crate::outlier::checked(&court.detector.cluster, &court.hosts[0]);
    court.hear();
    assert_eq!(court.ejected(), [0; 0]);
}

#[test]
fn a_detector_that_ends_leaves_no_host_ejected() {
    let mut court = Court::new(1, |_| {});
    court.answers(0, &[500; 5]);
    court.hear();
    let hosts = court.hosts.clone();
    drop(court);
    assert!(!is_ejected(&hosts[0]));
}

//! Active health checks of one cluster: a task for each host, on the background runtime, once for
//! the process. A host's flags say what came of it; workers see them before they next choose.

mod grpc;
mod http;
mod link;
mod passive;
mod standing;
mod tcp;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use weft_model::{
    CheckKind, CheckPace, ClusterHandle, Endpoint, EndpointAddress, HealthCheck, HealthFlags,
    HostState,
};
use weft_telemetry::{Counter, Gauge, Scope};

use crate::dial::Target;
use crate::outlier;
use crate::task::Task;
use link::Link;
pub(crate) use passive::heed;
use standing::{Finding, Standing, Transition};

/// See the module.
#[derive(Debug)]
pub(crate) struct Checker {
    cluster: Arc<ClusterHandle>,
    check: Arc<HealthCheck>,
    stats: Arc<Stats>,
    hosts: HashMap<EndpointAddress, (Arc<Endpoint>, Task)>,
}

/// `cluster.<name>.health_check.*`
#[derive(Debug)]
struct Stats {
    attempt: Counter,
    success: Counter,
    failure: Counter,
    network_failure: Counter,
    verify_cluster: Counter,
    healthy: Gauge,
    degraded: Gauge,
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        let counter = |name: &str| scope.counter(&format!("health_check.{name}"));
        let gauge = |name: &str| scope.gauge(&format!("health_check.{name}"));
        Self {
            attempt: counter("attempt"),
            success: counter("success"),
            failure: counter("failure"),
            network_failure: counter("network_failure"),
            verify_cluster: counter("verify_cluster"),
            healthy: gauge("healthy"),
            degraded: gauge("degraded"),
        }
    }

    /// Counts hosts by what the checks found.
    fn count(&self, cluster: &ClusterHandle) {
        let states = cluster.host_states(&cluster.endpoints());
        let of = |flags| states.iter().filter(|state| state.flags().any(flags)).count() as u64;
        self.healthy.set(states.len() as u64 - of(HealthFlags::FAILED_ACTIVE));
        self.degraded.set(of(HealthFlags::DEGRADED_ACTIVE));
    }
}

impl Checker {
    pub(crate) fn new(cluster: Arc<ClusterHandle>, check: Arc<HealthCheck>) -> Self {
        let stats = Arc::new(Stats::new(&cluster.stats_scope()));
        Self { cluster, check, stats, hosts: HashMap::new() }
    }

    /// Checks until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            self.follow();
            self.cluster.hosts().replaced.notified().await;
        }
    }

    /// Has a task for each host that is to be checked, and for no other.
    fn follow(&mut self) {
        let endpoints = Arc::clone(&self.cluster.endpoints());
        let mut before = std::mem::take(&mut self.hosts);
        let states = self.cluster.host_states(&endpoints);
        for (endpoint, state) in endpoints.iter().zip(states) {
            if endpoint.check.as_ref().is_some_and(|check| check.disabled) {
                continue;
            }
            let known = before.remove(&endpoint.address);
            let known = known.filter(|(known, _)| same_way(known, endpoint));
            let task = match known {
                Some((_, task)) => task,
                None => Task::spawn(self.host(endpoint, state).run()),
            };
            self.hosts.insert(endpoint.address.clone(), (Arc::clone(endpoint), task));
        }
        self.stats.count(&self.cluster);
    }

    fn host(&self, endpoint: &Endpoint, state: Arc<HostState>) -> HostCheck {
        let config = self.cluster.config();
        let own = endpoint.check.as_deref();
        let address = match (own.and_then(|own| own.address), &endpoint.address) {
            (Some(address), _) => EndpointAddress::Socket(address),
            (None, EndpointAddress::Socket(address)) => {
                let port = self.check.alt_port.unwrap_or(address.port());
                EndpointAddress::Socket(SocketAddr::new(address.ip(), port))
            }
            (None, pipe) => pipe.clone(),
        };
        let target = Target {
            address,
            more: None,
            client: None,
            transport: self.check.transport(&config, endpoint.transport),
            sni: None,
            alpn: self.check.alpn.clone(),
        };
        HostCheck {
            cluster: Arc::clone(&self.cluster),
            check: Arc::clone(&self.check),
            stats: Arc::clone(&self.stats),
            hostname: own.and_then(|own| own.hostname.clone()),
            standing: Standing::new(state.flags().any(HealthFlags::PENDING_ACTIVE)),
            state,
            target,
            link: None,
        }
    }
}

impl Drop for Checker {
    /// What nobody checks counts as healthy.
    fn drop(&mut self) {
        const ALL: u32 = HealthFlags::FAILED_ACTIVE
            | HealthFlags::DEGRADED_ACTIVE
            | HealthFlags::PENDING_ACTIVE
            | HealthFlags::ACTIVE_TIMEOUT
            | HealthFlags::EXCLUDED;
        if self.cluster.config().health_check.as_ref().is_some_and(|next| *next != self.check) {
            // The next one goes on with what this one has found.
            return;
        }
        for state in self.cluster.host_states(&self.cluster.endpoints()) {
            state.change_flags(0, ALL);
        }
        self.cluster.health_changed();
    }
}

/// Whether both are checked in the same way.
fn same_way(a: &Endpoint, b: &Endpoint) -> bool {
    a.check == b.check && a.transport == b.transport
}

/// The checks of one host.
struct HostCheck {
    cluster: Arc<ClusterHandle>,
    check: Arc<HealthCheck>,
    stats: Arc<Stats>,
    state: Arc<HostState>,
    target: Target,
    /// The name of the host in requests, if it is not the check's.
    hostname: Option<Arc<str>>,
    standing: Standing,
    /// The connection of the last check, if it can serve the next one.
    link: Option<Link>,
}

impl HostCheck {
    async fn run(mut self) {
        sleep(self.check.pace.initial_jitter.mul_f64(fastrand::f64())).await;
        loop {
            self.stats.attempt.inc();
            let limit = self.check.timeout;
            let finding = match timeout(limit, Box::pin(self.ask())).await {
                Ok(finding) => finding,
                Err(_) => {
                    self.link = None;
                    Finding::Timeout
                }
            };
            if !self.check.reuse_connection {
                self.link = None;
            }
            let (healthy, transition) = self.note(finding);
            let traffic = self.cluster.stats().cx_total.value() > 0;
            sleep(pause(&self.check.pace, healthy, transition, traffic, fastrand::f64)).await;
        }
    }

    async fn ask(&mut self) -> Finding {
        let check = Arc::clone(&self.check);
        match &check.kind {
            CheckKind::Http(check) => http::ask(self, check).await,
            CheckKind::Tcp(check) => tcp::ask(self, check).await,
            CheckKind::Grpc(check) => grpc::ask(self, check).await,
        }
    }

    /// Takes note of what was found: whether the host is healthy now, and what that changed.
    fn note(&mut self, finding: Finding) -> (bool, Transition) {
        let thresholds = (self.check.unhealthy_threshold, self.check.healthy_threshold);
        let before = self.state.flags();
        let (set, clear, transition) = self.standing.apply(before, finding, thresholds);
        let stats = &self.stats;
        let healthy = matches!(finding, Finding::Good { .. });
        if healthy {
            stats.success.inc();
        } else {
            stats.failure.inc();
            if matches!(finding, Finding::Network | Finding::Timeout) {
                stats.network_failure.inc();
            }
            let (cluster, host) = (self.cluster.name(), self.state.address());
            if transition == Transition::Changed {
                tracing::warn!(%cluster, ?host, ?finding, "a host fails its health check");
            } else if self.check.log_failures {
                tracing::info!(%cluster, ?host, ?finding, "a health check failed");
            }
        }
        let changed = self.state.change_flags(set, clear);
        let flags = self.state.flags();
        if changed {
            self.cluster.health_changed();
            self.stats.count(&self.cluster);
        }
        if healthy && !flags.any(HealthFlags::FAILED_ACTIVE) {
            if before.any(HealthFlags::FAILED_ACTIVE) {
                let (cluster, host) = (self.cluster.name(), self.state.address());
                tracing::info!(%cluster, ?host, "a host passes its health check");
            }
            if flags.any(HealthFlags::FAILED_OUTLIER) {
                outlier::checked(&self.cluster, &self.state);
            }
        } else if flags.any(HealthFlags::PENDING_REMOVAL) {
            self.cluster.remove_failed(self.state.address());
        }
        (healthy, transition)
    }
}

/// How long to wait for the next check.
fn pause(
    pace: &CheckPace,
    healthy: bool,
    transition: Transition,
    traffic: bool,
    random: impl Fn() -> f64,
) -> Duration {
    let pending = transition == Transition::Pending;
    let base = match (traffic, healthy, pending) {
        (false, true, false) => pace.no_traffic_healthy,
        (false, _, _) => pace.no_traffic,
        (true, true, true) => pace.healthy_edge,
        (true, true, false) => pace.interval,
        (true, false, true) => pace.unhealthy_edge,
        (true, false, false) => pace.unhealthy,
    };
    let part = base.mul_f64(f64::from(pace.jitter_percent) / 100.0 * random());
    base + part + pace.jitter.mul_f64(random())
}

/// Whether all parts are there, in this order, with anything between them.
fn contains_in_order(mut text: &[u8], parts: &[bytes::Bytes]) -> bool {
    for part in parts {
        let found = text.windows(part.len().max(1)).position(|window| *window == part[..]);
        match found {
            Some(at) => text = &text[at + part.len()..],
            None => return part.is_empty(),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_pause_depends_on_health_and_traffic() {
        let pace = CheckPace {
            interval: seconds(1),
            initial_jitter: Duration::ZERO,
            jitter: seconds(10),
            jitter_percent: 50,
            no_traffic: seconds(2),
            no_traffic_healthy: seconds(3),
            unhealthy: seconds(4),
            unhealthy_edge: seconds(5),
            healthy_edge: seconds(6),
        };
        let pause = |healthy, transition, traffic| {
            super::pause(&pace, healthy, transition, traffic, || 0.0).as_secs()
        };
        assert_eq!(pause(true, Transition::Unchanged, true), 1);
        assert_eq!(pause(true, Transition::Changed, true), 1);
        assert_eq!(pause(true, Transition::Pending, true), 6);
        assert_eq!(pause(false, Transition::Unchanged, true), 4);
        assert_eq!(pause(false, Transition::Pending, true), 5);
        assert_eq!(pause(true, Transition::Unchanged, false), 3);
        assert_eq!(pause(false, Transition::Unchanged, false), 2);
        let longest = super::pause(&pace, false, Transition::Unchanged, true, || 1.0);
        assert_eq!(longest, seconds(4 + 2 + 10));
    }

    #[test]
    fn parts_are_found_in_order_only() {
        let parts = |parts: &[&'static str]| -> Vec<bytes::Bytes> {
            parts.iter().map(|part| bytes::Bytes::from_static(part.as_bytes())).collect()
        };
        assert!(contains_in_order(b"xxPONGyyOKzz", &parts(&["PONG", "OK"])));
        assert!(!contains_in_order(b"xxOKyyPONG", &parts(&["PONG", "OK"])));
        assert!(!contains_in_order(b"PO", &parts(&["PONG"])));
        assert!(contains_in_order(b"", &[]));
    }
}

//! The judge of one cluster's hosts. Time is given to it, so that it can be tried without waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weft_model::{
    ClusterHandle, EjectionCause, EndpointAddress, HealthFlags, HostState, OutlierDetection,
};
use weft_telemetry::{Counter, Gauge, Scope};

use super::{ALARM_5XX, ALARM_CHECKED, ALARM_GATEWAY, ALARM_LOCAL};

/// See the module.
#[derive(Debug)]
pub(crate) struct Detector {
    cluster: Arc<ClusterHandle>,
    config: Arc<OutlierDetection>,
    stats: Stats,
    /// What each host had counted at the beginning of the interval.
    seen: HashMap<EndpointAddress, [Tally; 2]>,
}

/// Results, and the good ones among them.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: u64,
    good: u64,
}

/// `cluster.<name>.outlier_detection.*`
#[derive(Debug)]
struct Stats {
    active: Gauge,
    overflow: Counter,
    enforced_total: Counter,
    detected: [Counter; 7],
    enforced: [Counter; 7],
    /// Names from before `detected` and `enforced`.
    total: Counter,
    consecutive_5xx: Counter,
    success_rate: Counter,
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        let counter = |name: &str| scope.counter(&format!("outlier_detection.ejections_{name}"));
        let each = |kind: &str| {
            EjectionCause::ALL.map(|cause| counter(&format!("{kind}_{}", cause.name())))
        };
        Self {
            active: scope.gauge("outlier_detection.ejections_active"),
            overflow: counter("overflow"),
            enforced_total: counter("enforced_total"),
            detected: each("detected"),
            enforced: each("enforced"),
            total: counter("total"),
            consecutive_5xx: counter("consecutive_5xx"),
            success_rate: counter("success_rate"),
        }
    }
}

impl Detector {
    pub(crate) fn new(cluster: Arc<ClusterHandle>, config: Arc<OutlierDetection>) -> Self {
        let stats = Stats::new(&cluster.stats_scope());
        let mut detector = Self { cluster, config, stats, seen: HashMap::new() };
        let hosts = detector.hosts();
        for host in &hosts {
            detector.tally(host);
        }
        detector
    }

    /// Judges until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut next = Instant::now() + self.config.interval;
        loop {
            // Alarms first: an interval may also pass a moment later.
            tokio::select! {
                biased;
                () = self.cluster.hosts().alarm.notified() => self.hear(Instant::now()),
                () = sleep_until(next) => {
                    let now = Instant::now();
                    self.interval(now);
                    next = now + self.config.interval;
                }
            }
        }
    }

    fn hosts(&self) -> Vec<Arc<HostState>> {
        self.cluster.host_states(&self.cluster.endpoints())
    }

    /// Looks after the hosts that have raised an alarm.
    fn hear(&mut self, now: Instant) {
        const CAUSES: [(u32, EjectionCause); 3] = [
            (ALARM_GATEWAY, EjectionCause::ConsecutiveGateway),
            (ALARM_5XX, EjectionCause::Consecutive5xx),
            (ALARM_LOCAL, EjectionCause::ConsecutiveLocal),
        ];
        let hosts = self.hosts();
        let mut changed = false;
        for host in &hosts {
            let alarms = host.alarms.swap(0, Ordering::AcqRel);
            if alarms & ALARM_CHECKED != 0 && is_ejected(host) && self.config.uneject_when_checked {
                self.uneject(host);
                changed = true;
            }
            for (alarm, cause) in CAUSES {
                if alarms & alarm != 0 && !is_ejected(host) {
                    changed |= self.detected(host, cause, &hosts, now);
                    forget(host, cause);
                }
            }
        }
        self.tell(&hosts, changed);
    }

    /// Takes hosts back whose time is over, and judges the results of the interval.
    fn interval(&mut self, now: Instant) {
        let hosts = self.hosts();
        let mut changed = false;
        for host in &hosts {
            changed |= self.time_is_over(host, now);
        }
        let results: Vec<[Tally; 2]> = hosts.iter().map(|host| self.tally(host)).collect();
        self.seen.retain(|address, _| hosts.iter().any(|host| host.address() == address));
        for (host, results) in hosts.iter().zip(&results) {
            let rated = results.map(|tally| self.is_enough(tally).then(|| tally.rate()));
            host.set_success_rates(if is_ejected(host) { [None, None] } else { rated });
        }
        let kinds = [
            (EjectionCause::SuccessRate, EjectionCause::FailurePercentage),
            (EjectionCause::LocalSuccessRate, EjectionCause::LocalFailurePercentage),
        ];
        for (at, causes) in kinds.into_iter().enumerate() {
            if at == 0 || self.config.split {
                let results: Vec<Tally> = results.iter().map(|both| both[at]).collect();
                changed |= self.judge(&hosts, &results, causes, now);
            }
        }
        self.tell(&hosts, changed);
    }

    /// What a host has counted since this was asked last.
    fn tally(&mut self, host: &HostState) -> [Tally; 2] {
        let totals = host.totals();
        let now = [
            Tally { all: totals.external, good: totals.external_good },
            Tally { all: totals.local, good: totals.local_good },
        ];
        let before = self.seen.insert(host.address().clone(), now).unwrap_or_default();
        [0, 1].map(|at: usize| Tally {
            all: now[at].all.saturating_sub(before[at].all),
            good: now[at].good.saturating_sub(before[at].good),
        })
    }

    fn is_enough(&self, tally: Tally) -> bool {
        tally.all > 0 && tally.all >= self.config.rate_volume.min(self.config.percentage_volume)
    }

    fn judge(
        &mut self,
        hosts: &[Arc<HostState>],
        results: &[Tally],
        (far_below, too_many): (EjectionCause, EjectionCause),
        now: Instant,
    ) -> bool {
        let config = Arc::clone(&self.config);
        let with = |volume: u64| -> Vec<(&Arc<HostState>, f64)> {
            let all = hosts.iter().zip(results);
            all.filter(|(host, tally)| tally.all > 0 && tally.all >= volume && !is_ejected(host))
                .map(|(host, tally)| (host, tally.rate()))
                .collect()
        };
        let mut changed = false;
        let (rated, counted) = (with(config.rate_volume), with(config.percentage_volume));
        if !rated.is_empty() && rated.len() >= config.rate_hosts {
            let limit = lowest_rate(&rated, config.rate_deviations);
            for (host, _) in rated.iter().filter(|(_, rate)| *rate < limit) {
                changed |= self.detected(host, far_below, hosts, now);
            }
        }
        if !counted.is_empty() && counted.len() >= config.percentage_hosts {
            for (host, _) in counted.iter().filter(|(_, rate)| 100.0 - rate >= config.percentage) {
                changed |= self.detected(host, too_many, hosts, now);
            }
        }
        changed
    }

    /// Counts a detection and ejects the host, if that is enforced and not too many are.
    fn detected(
        &mut self,
        host: &Arc<HostState>,
        cause: EjectionCause,
        hosts: &[Arc<HostState>],
        now: Instant,
    ) -> bool {
        self.stats.detected[cause.index()].inc();
        match cause {
            EjectionCause::Consecutive5xx => self.stats.consecutive_5xx.inc(),
            EjectionCause::SuccessRate => self.stats.success_rate.inc(),
            _ => {}
        }
        let ejected = hosts.iter().filter(|host| is_ejected(host)).count();
        let percent = 100.0 * (ejected + 1) as f64 / hosts.len().max(1) as f64;
        let allowed = percent <= f64::from(self.config.max_percent.min(100))
            || (self.config.always_one && ejected == 0);
        if !allowed {
            self.stats.overflow.inc();
            return false;
        }
        if matches!(cause, EjectionCause::Consecutive5xx | EjectionCause::SuccessRate) {
            self.stats.total.inc();
        }
        if is_ejected(host) || fastrand::u32(..100) >= self.config.enforcing.percent(cause) {
            return false;
        }
        self.stats.enforced[cause.index()].inc();
        self.stats.enforced_total.inc();
        self.eject(host, cause, now);
        true
    }

    fn eject(&self, host: &HostState, cause: EjectionCause, now: Instant) {
        let config = &self.config;
        let mut ejection = host.ejection.lock();
        ejection.since = Some(now);
        ejection.jitter = config.max_jitter.mul_f64(fastrand::f64());
        if config.base_time.saturating_mul(ejection.multiplier) < config.max_time + config.base_time
        {
            ejection.multiplier += 1;
        }
        host.change_flags(HealthFlags::FAILED_OUTLIER, 0);
        tracing::info!(
            cluster = %self.cluster.name(), host = ?host.address(), cause = cause.name(),
            "a host is ejected"
        );
    }

    /// Takes a host back if its time is over; shortens the next time of one that did well.
    fn time_is_over(&self, host: &HostState, now: Instant) -> bool {
        let mut ejection = host.ejection.lock();
        if !is_ejected(host) {
            ejection.multiplier = ejection.multiplier.saturating_sub(1);
            return false;
        }
        let time = self.config.base_time.saturating_mul(ejection.multiplier);
        let time = time.min(self.config.max_time) + ejection.jitter;
        let out =
            ejection.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since));
        drop(ejection);
        if out < time {
            return false;
        }
        self.uneject(host);
        true
    }

    fn uneject(&self, host: &HostState) {
        host.change_flags(0, HealthFlags::FAILED_OUTLIER);
        host.runs.clear();
        tracing::info!(
            cluster = %self.cluster.name(), host = ?host.address(), "a host is taken back"
        );
    }

    fn tell(&self, hosts: &[Arc<HostState>], changed: bool) {
        if changed {
            self.cluster.health_changed();
        }
        self.stats.active.set(hosts.iter().filter(|host| is_ejected(host)).count() as u64);
    }
}

impl Drop for Detector {
    /// Hosts that nobody would take back are taken back.
    fn drop(&mut self) {
        let hosts = self.hosts();
        let changed = hosts
            .iter()
            .map(|host| host.change_flags(0, HealthFlags::FAILED_OUTLIER))
            .fold(false, |any, one| any | one);
        self.tell(&hosts, changed);
    }
}

impl Tally {
    /// Good results, per cent.
    fn rate(self) -> f64 {
        100.0 * self.good as f64 / self.all.max(1) as f64
    }
}

fn is_ejected(host: &HostState) -> bool {
    host.flags().any(HealthFlags::FAILED_OUTLIER)
}

/// So that the same failures are not counted for another ejection.
fn forget(host: &HostState, cause: EjectionCause) {
    let run = match cause {
        EjectionCause::Consecutive5xx => &host.runs.server_errors,
        EjectionCause::ConsecutiveGateway => &host.runs.gateway,
        _ => &host.runs.local,
    };
    run.store(0, Ordering::Relaxed);
}

/// The mean less so many standard deviations.
fn lowest_rate(rated: &[(&Arc<HostState>, f64)], deviations: f64) -> f64 {
    let count = rated.len() as f64;
    let mean = rated.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rated.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - deviations * variance.sqrt()
}

#[cfg(test)]
mod tests;

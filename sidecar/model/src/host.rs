//! What is remembered of a cluster's hosts: by all workers, by those who check hosts, and beyond
//! any change of the configuration.
//!
//! A host's health is a word of flags, read when a worker builds its load balancing anew and
//! written by background tasks only; whoever changes one bumps the cluster's
//! [`ClusterHandle::health_revision`](crate::ClusterHandle::health_revision), which workers
//! compare before they choose a host. Requests are counted in [`HostCounters`], of which every
//! worker has its own: a counter has one writer, so that counting is a load and a store, and a sum
//! is taken by who asks for it. Only failures touch what workers share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Endpoint, EndpointAddress, EndpointSet, Health};

/// Why a host is not used, or not yet, besides what the control plane says of it (Envoy's health
/// flags).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthFlags(pub u32);

impl HealthFlags {
    /// The active health check has failed.
    pub const FAILED_ACTIVE: u32 = 1;
    /// Outlier detection has ejected the host.
    pub const FAILED_OUTLIER: u32 = 1 << 1;
    /// The active health check found it degraded.
    pub const DEGRADED_ACTIVE: u32 = 1 << 2;
    /// No active health check has ended yet.
    pub const PENDING_ACTIVE: u32 = 1 << 3;
    /// The last active health check ran out of time.
    pub const ACTIVE_TIMEOUT: u32 = 1 << 4;
    /// The control plane has removed it, but its health check succeeds.
    pub const PENDING_REMOVAL: u32 = 1 << 5;
    /// It said with `x-envoy-immediate-health-check-fail` that it is going away.
    pub const EXCLUDED: u32 = 1 << 6;

    /// A host before its first check has ended.
    pub const UNCHECKED: Self = Self(Self::FAILED_ACTIVE | Self::PENDING_ACTIVE);

    /// Whether any of these flags is set.
    #[must_use]
    pub fn any(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    /// What the flags make of the health that the control plane reports.
    #[must_use]
    pub fn apply(self, reported: Health) -> Health {
        match reported {
            Health::Unhealthy | Health::Draining => reported,
            _ if self.any(Self::FAILED_ACTIVE | Self::FAILED_OUTLIER) => Health::Unhealthy,
            _ if self.any(Self::DEGRADED_ACTIVE) => Health::Degraded,
            _ => reported,
        }
    }

    /// The flags and the reported health in Envoy's words (`health_flags` of `/clusters`).
    #[must_use]
    pub fn words(self, reported: Health) -> String {
        let reported = match reported {
            Health::Healthy => "",
            Health::Degraded => "/degraded_eds_health",
            Health::Unhealthy => "/failed_eds_health",
            Health::Draining => "/eds_status_draining",
        };
        let mut words = String::new();
        for (flag, word) in [
            (Self::FAILED_ACTIVE, "/failed_active_hc"),
            (Self::FAILED_OUTLIER, "/failed_outlier_check"),
            (Self::DEGRADED_ACTIVE, "/degraded_active_hc"),
            (Self::PENDING_REMOVAL, "/pending_dynamic_removal"),
            (Self::PENDING_ACTIVE, "/pending_active_hc"),
            (Self::EXCLUDED, "/excluded_via_immediate_hc_fail"),
            (Self::ACTIVE_TIMEOUT, "/active_hc_timeout"),
        ] {
            if self.any(flag) {
                words.push_str(word);
            }
        }
        words.push_str(reported);
        if words.is_empty() { "healthy".to_owned() } else { words }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// What one worker has counted of one host. One thread writes.
        #[derive(Debug, Default)]
        pub struct HostCounters {
            $($(#[$doc])* pub $field: Count,)*
        }

        /// The sums over all workers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct HostTotals {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl HostTotals {
            fn add(&mut self, counters: &HostCounters) {
                $(self.$field = self.$field.wrapping_add(counters.$field.value());)*
            }
        }
    };
}

counters! {
    /// Connections begun.
    cx_total,
    /// Connections open.
    cx_active,
    /// Connections that could not be made.
    cx_connect_fail,
    /// Requests sent.
    rq_total,
    /// Requests in flight.
    rq_active,
    /// Responses other than 5xx.
    rq_success,
    /// Responses 5xx, and requests without a response.
    rq_error,
    /// Requests that timed out.
    rq_timeout,
    /// For outlier detection: results that the host is responsible for.
    external,
    /// Those of them that were good.
    external_good,
    /// For outlier detection: results of the way to the host.
    local,
    /// Those of them that were good.
    local_good,
}

/// A number with one writer at a time.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one. Not for two threads at once.
    pub fn inc(&self) {
        self.0.store(self.value().wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes one away. Not for two threads at once.
    pub fn dec(&self) {
        self.0.store(self.value().wrapping_sub(1), Ordering::Relaxed);
    }

    /// Adds one, whoever else does.
    pub fn inc_shared(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away, whoever else does.
    pub fn dec_shared(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Failures in a row, whichever worker saw them; a success takes them back.
#[derive(Debug, Default)]
pub struct FailureRuns {
    /// 5xx, and what counts as such.
    pub server_errors: AtomicU32,
    /// 502, 503 and 504.
    pub gateway: AtomicU32,
    /// Failures on the way to the host.
    pub local: AtomicU32,
}

impl FailureRuns {
    /// Forgets them all.
    pub fn clear(&self) {
        for run in [&self.server_errors, &self.gateway, &self.local] {
            run.store(0, Ordering::Relaxed);
        }
    }
}

/// How often and since when a host is ejected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ejection {
    /// When it was ejected last.
    pub since: Option<Instant>,
    /// By how much the time of ejection is multiplied.
    pub multiplier: u32,
    /// What is added to it at random.
    pub jitter: std::time::Duration,
}

/// A host's memory; see the module.
#[derive(Debug)]
pub struct HostState {
    address: EndpointAddress,
    flags: AtomicU32,
    counters: Mutex<Vec<(u32, Arc<HostCounters>)>>,
    /// Failures in a row.
    pub runs: FailureRuns,
    /// What outlier detection is to look at; bits that it defines.
    pub alarms: AtomicU32,
    /// See [`Ejection`].
    pub ejection: Mutex<Ejection>,
    /// Since when it is there and healthy.
    healthy_since: Mutex<Instant>,
    /// The last success rates, external and local, in per cent; the bits of an `f64`.
    rates: [AtomicU64; 2],
}

impl HostState {
    const FAILURES: u32 = HealthFlags::FAILED_ACTIVE | HealthFlags::FAILED_OUTLIER;

    /// A host that nothing is known of but its flags.
    #[must_use]
    pub fn new(address: EndpointAddress, flags: HealthFlags) -> Self {
        Self {
            address,
            flags: AtomicU32::new(flags.0),
            counters: Mutex::default(),
            runs: FailureRuns::default(),
            alarms: AtomicU32::new(0),
            ejection: Mutex::default(),
            healthy_since: Mutex::new(Instant::now()),
            rates: [UNKNOWN, UNKNOWN].map(|rate: f64| AtomicU64::new(rate.to_bits())),
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &EndpointAddress {
        &self.address
    }

    /// The flags at the moment.
    #[must_use]
    pub fn flags(&self) -> HealthFlags {
        HealthFlags(self.flags.load(Ordering::Acquire))
    }

    /// Sets and clears flags; returns whether that changed anything. The caller tells the workers
    /// ([`ClusterHandle::health_changed`](crate::ClusterHandle::health_changed)).
    pub fn change_flags(&self, set: u32, clear: u32) -> bool {
        let change = |flags| Some((flags & !clear) | set);
        let before = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        let before = before.unwrap_or_else(|flags| flags);
        let after = (before & !clear) | set;
        let failed = Self::FAILURES;
        if before & failed != 0 && after & failed == 0 {
            *self.healthy_since.lock() = Instant::now();
        }
        before != after
    }

    /// Since when the host is there and healthy.
    #[must_use]
    pub fn healthy_since(&self) -> Instant {
        *self.healthy_since.lock()
    }

    /// The counters of the worker of this number.
    #[must_use]
    pub fn counters(&self, worker: u32) -> Arc<HostCounters> {
        let mut all = self.counters.lock();
        if let Some((_, known)) = all.iter().find(|(number, _)| *number == worker) {
            return Arc::clone(known);
        }
        let new = Arc::<HostCounters>::default();
        all.push((worker, Arc::clone(&new)));
        new
    }

    /// The sums over all workers.
    #[must_use]
    pub fn totals(&self) -> HostTotals {
        let mut totals = HostTotals::default();
        self.counters.lock().iter().for_each(|(_, counters)| totals.add(counters));
        totals
    }

    /// The external and the local success rate of the last interval, per cent; -1: too little was
    /// seen.
    #[must_use]
    pub fn success_rates(&self) -> [f64; 2] {
        [0, 1].map(|at: usize| f64::from_bits(self.rates[at].load(Ordering::Relaxed)))
    }

    /// Notes success rates.
    pub fn set_success_rates(&self, rates: [Option<f64>; 2]) {
        for (cell, rate) in self.rates.iter().zip(rates) {
            cell.store(rate.unwrap_or(UNKNOWN).to_bits(), Ordering::Relaxed);
        }
    }
}

/// The success rate of which nothing is known.
const UNKNOWN: f64 = -1.0;

/// The hosts of one cluster; made when the first one is asked for.
#[derive(Debug, Default)]
pub struct Hosts {
    table: Mutex<HashMap<EndpointAddress, Arc<HostState>>>,
    /// Held while the set of endpoints is replaced.
    pub(crate) updating: Mutex<()>,
    /// Told when a host has set one of its alarms.
    pub alarm: Notify,
    /// Told when the set of endpoints is another one; one permit is kept for who does not listen.
    pub replaced: Notify,
}

impl Hosts {
    /// The memory of each of these endpoints, in their order; `fresh` are the flags of new hosts.
    #[must_use]
    pub fn of<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Arc<Endpoint>>,
        fresh: impl Fn(&Endpoint) -> HealthFlags,
    ) -> Vec<Arc<HostState>> {
        let mut table = self.table.lock();
        let mut state = |endpoint: &Arc<Endpoint>| {
            let new = || Arc::new(HostState::new(endpoint.address.clone(), fresh(endpoint)));
            Arc::clone(table.entry(endpoint.address.clone()).or_insert_with(new))
        };
        endpoints.map(&mut state).collect()
    }

    /// The memory of a host, if there is one.
    #[must_use]
    pub fn find(&self, address: &EndpointAddress) -> Option<Arc<HostState>> {
        self.table.lock().get(address).cloned()
    }

    /// Adds to `next` the healthy endpoints of `before` that are missing there.
    pub(crate) fn keep_healthy(&self, before: &EndpointSet, next: &mut EndpointSet) {
        let table = self.table.lock();
        let wanted: HashSet<_> = next.iter().map(|endpoint| endpoint.address.clone()).collect();
        for address in &wanted {
            if let Some(state) = table.get(address) {
                state.change_flags(0, HealthFlags::PENDING_REMOVAL);
            }
        }
        for (level, priority) in before.priorities.iter().enumerate() {
            for endpoint in &priority.endpoints {
                let Some(state) = table.get(&endpoint.address) else { continue };
                let health = state.flags().apply(endpoint.health);
                let checked = endpoint.check.as_ref().is_none_or(|check| !check.disabled);
                if wanted.contains(&endpoint.address) || health == Health::Unhealthy || !checked {
                    continue;
                }
                state.change_flags(HealthFlags::PENDING_REMOVAL, 0);
                if next.priorities.len() <= level {
                    next.priorities.resize_with(level + 1, Default::default);
                }
                next.priorities[level].endpoints.push(Arc::clone(endpoint));
            }
        }
    }

    /// Forgets hosts that are not among these endpoints.
    pub(crate) fn keep(&self, endpoints: &EndpointSet) {
        let mut table = self.table.lock();
        let mut before = std::mem::take(&mut *table);
        for endpoint in endpoints.iter() {
            if let Some(entry) = before.remove_entry(&endpoint.address) {
                table.insert(entry.0, entry.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> HostState {
        HostState::new(EndpointAddress::Pipe("/a".into()), HealthFlags::default())
    }

    #[test]
    fn flags_make_a_host_less_healthy_never_more() {
        let failed = HealthFlags(HealthFlags::FAILED_OUTLIER);
        assert_eq!(failed.apply(Health::Healthy), Health::Unhealthy);
        assert_eq!(failed.apply(Health::Draining), Health::Draining);
        let degraded = HealthFlags(HealthFlags::DEGRADED_ACTIVE);
        assert_eq!(degraded.apply(Health::Healthy), Health::Degraded);
        assert_eq!(degraded.apply(Health::Unhealthy), Health::Unhealthy);
        assert_eq!(HealthFlags::default().words(Health::Healthy), "healthy");
        assert_eq!(failed.words(Health::Unhealthy), "/failed_outlier_check/failed_eds_health");
    }

    #[test]
    fn a_change_of_flags_that_changes_nothing_is_none() {
        let state = state();
        assert!(state.change_flags(HealthFlags::FAILED_ACTIVE, 0));
        assert!(!state.change_flags(HealthFlags::FAILED_ACTIVE, HealthFlags::PENDING_ACTIVE));
        assert!(state.change_flags(0, HealthFlags::FAILED_ACTIVE));
        assert_eq!(state.flags(), HealthFlags::default());
    }

    #[test]
    fn totals_are_sums_over_workers() {
        let state = state();
        state.counters(1).rq_total.inc();
        state.counters(2).rq_total.inc();
        state.counters(1).rq_total.inc();
        assert_eq!(state.totals().rq_total, 3);
    }
}

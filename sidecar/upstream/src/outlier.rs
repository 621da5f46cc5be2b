//! Outlier detection: what requests tell of a host, and taking hosts out of use for it.
//!
//! Workers only count. Results of the last interval are summed up from each worker's own
//! [`HostCounters`](weft_model::HostCounters); failures in a row are atomics of the host, which a
//! success merely reads while there are none, so that no cache line moves between cores as long as
//! all is well. The worker that reaches a limit sets an alarm of the host and wakes the cluster's
//! detector, a task of the background runtime, which decides (as Envoy's main thread does) and
//! changes the host's flags; workers see that before they next choose a host. A cluster without
//! outlier detection pays one branch a request.

mod detector;

use std::sync::atomic::{AtomicU32, Ordering};

use http::HeaderMap;
use weft_model::{ClusterHandle, HostCounters, HostState, OutlierDetection};

use crate::UpstreamError;

pub(crate) use detector::Detector;

/// Too many 5xx in a row.
const ALARM_5XX: u32 = 1;
/// Too many gateway failures in a row.
const ALARM_GATEWAY: u32 = 1 << 1;
/// Too many failures of the way in a row.
const ALARM_LOCAL: u32 = 1 << 2;
/// An active health check has succeeded.
const ALARM_CHECKED: u32 = 1 << 3;

/// What a worker has to know to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    consecutive_5xx: u32,
    gateway: u32,
    local: u32,
    split: bool,
}

impl Thresholds {
    pub(crate) fn new(config: &OutlierDetection) -> Self {
        Self {
            consecutive_5xx: config.consecutive_5xx,
            gateway: config.consecutive_gateway,
            local: config.consecutive_local,
            split: config.split,
        }
    }
}

/// One result of one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    pub(crate) cluster: &'a ClusterHandle,
    pub(crate) state: &'a HostState,
    pub(crate) counters: &'a HostCounters,
    pub(crate) thresholds: Thresholds,
}

impl Report<'_> {
    /// The host has answered.
    pub(crate) fn answered(&self, status: u16, headers: &HeaderMap) {
        if self.thresholds.split {
            self.local(true);
        }
        self.external(grpc_status(headers).unwrap_or(status));
    }

    /// A connection was made that carries no HTTP.
    pub(crate) fn connected(&self) {
        if self.thresholds.split { self.local(true) } else { self.external(200) }
    }

    /// There was no answer.
    pub(crate) fn failed(&self, error: &UpstreamError) {
        match error {
            // Not the host's fault.
            UpstreamError::Overflow(_)
            | UpstreamError::NoHealthyUpstream
            | UpstreamError::DropOverload
            | UpstreamError::RequestBody => {}
            UpstreamError::ConnectTimeout { .. } => self.failed_as(503, true),
            error => self.failed_as(503, error.is_connect_failure()),
        }
    }

    /// There was no answer in time.
    pub(crate) fn timed_out(&self) {
        self.failed_as(504, true);
    }

    fn failed_as(&self, status: u16, on_the_way: bool) {
        match (self.thresholds.split, on_the_way) {
            (true, true) => self.local(false),
            (true, false) => {
                self.local(true);
                self.local(false);
            }
            (false, _) => self.external(status),
        }
    }

    fn external(&self, status: u16) {
        let runs = &self.state.runs;
        self.counters.external.inc();
        if status < 500 {
            self.counters.external_good.inc();
            reset(&runs.server_errors);
            reset(&runs.gateway);
            return;
        }
        if matches!(status, 502..=504) {
            self.count(&runs.gateway, self.thresholds.gateway, ALARM_GATEWAY);
        } else {
            reset(&runs.gateway);
        }
        self.count(&runs.server_errors, self.thresholds.consecutive_5xx, ALARM_5XX);
    }

    fn local(&self, good: bool) {
        self.counters.local.inc();
        if good {
            self.counters.local_good.inc();
            reset(&self.state.runs.local);
        } else {
            self.count(&self.state.runs.local, self.thresholds.local, ALARM_LOCAL);
        }
    }

    fn count(&self, run: &AtomicU32, limit: u32, alarm: u32) {
        if run.fetch_add(1, Ordering::Relaxed) + 1 == limit {
            raise(self.cluster, self.state, alarm);
        }
    }
}

/// The active health check of a host has succeeded: whoever ejected it may take it back.
pub(crate) fn checked(cluster: &ClusterHandle, state: &HostState) {
    raise(cluster, state, ALARM_CHECKED);
}

fn raise(cluster: &ClusterHandle, state: &HostState, alarm: u32) {
    state.alarms.fetch_or(alarm, Ordering::AcqRel);
    cluster.hosts().alarm.notify_one();
}

/// Writes only where there is something to forget.
fn reset(run: &AtomicU32) {
    if run.load(Ordering::Relaxed) != 0 {
        run.store(0, Ordering::Relaxed);
    }
}

/// The status of a gRPC call that failed with its head, as an HTTP status (Envoy's table).
fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let status: u32 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    })
}

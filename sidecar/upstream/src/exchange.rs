//! One request in flight: counted from the moment it is sent until its response has ended.

use std::rc::Rc;

use tokio::time::Instant;
use weft_telemetry::clock;

use crate::UpstreamError;
use crate::cluster::ClusterCx;
use crate::error::Limit;
use crate::host::Host;
use crate::limits::{add, sub};

/// Counts a request among the active ones of cluster and host while it lives.
#[derive(Debug)]
pub(crate) struct Exchange {
    cluster: Rc<ClusterCx>,
    host: Rc<Host>,
    high: bool,
    started: Instant,
}

impl Exchange {
    /// # Errors
    /// `max_requests` is reached.
    pub(crate) fn begin(
        cluster: &Rc<ClusterCx>,
        host: &Rc<Host>,
        high: bool,
    ) -> Result<Self, UpstreamError> {
        let stats = cluster.stats();
        let level = cluster.limits.level(high);
        if level.requests.get() >= level.share().requests {
            stats.rq_pending_overflow.inc();
            return Err(UpstreamError::Overflow(Limit::Requests));
        }
        add(&level.requests);
        host.counters.rq_active.inc();
        host.counters.rq_total.inc();
        stats.rq_total.inc();
        stats.rq_active.inc();
        let started = clock::now();
        Ok(Self { cluster: Rc::clone(cluster), host: Rc::clone(host), high, started })
    }

    /// Where the request goes.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let stats = self.cluster.stats();
        sub(&self.cluster.limits.level(self.high).requests);
        self.host.counters.rq_active.dec();
        stats.rq_active.dec();
        let elapsed = clock::now().saturating_duration_since(self.started).as_millis();
        stats.rq_time.record(u64::try_from(elapsed).unwrap_or(u64::MAX));
    }
}

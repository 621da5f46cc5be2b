//! Circuit breakers: a worker's share of a cluster's limits, and what counts against it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weft_model::{CircuitBreakers, RetryBudget, Thresholds};

/// What one worker uses of one cluster at one priority, and how much it may.
#[derive(Debug, Default)]
pub(crate) struct Level {
    share: Cell<Thresholds>,
    /// Shared with the connections.
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) pending: Cell<u32>,
    pub(crate) requests: Cell<u32>,
    pub(crate) retries: Cell<u32>,
}

impl Level {
    pub(crate) fn share(&self) -> Thresholds {
        self.share.get()
    }

    /// How many retries there may be: as many as `max_retries` says, or a part of the requests in
    /// flight.
    pub(crate) fn most_retries(&self) -> u32 {
        let share = self.share.get();
        let Some(budget) = share.retry_budget else { return share.retries };
        let part = u64::from(self.requests.get()) * u64::from(budget.part) / 10_000;
        u32::try_from(part).unwrap_or(u32::MAX).max(budget.least)
    }

    pub(crate) fn connection_allowed(&self) -> bool {
        self.connections.load(Ordering::Relaxed) < self.share.get().connections
    }
}

/// Both priorities.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    default: Level,
    high: Level,
}

impl Limits {
    pub(crate) fn level(&self, high: bool) -> &Level {
        if high { &self.high } else { &self.default }
    }

    /// Requests in flight.
    pub(crate) fn requests(&self) -> u32 {
        self.default.requests.get() + self.high.requests.get()
    }

    /// Takes over new limits, of which this worker gets one part in `workers`, rounded up.
    pub(crate) fn apply(&self, breakers: &CircuitBreakers, workers: u32) {
        for (level, limits) in [(&self.default, breakers.default), (&self.high, breakers.high)] {
            level.share.set(Thresholds {
                connections: limits.connections.div_ceil(workers),
                pending: limits.pending.div_ceil(workers),
                requests: limits.requests.div_ceil(workers),
                retries: limits.retries.div_ceil(workers),
                retry_budget: limits
                    .retry_budget
                    .map(|budget| RetryBudget { least: budget.least.div_ceil(workers), ..budget }),
            });
        }
    }
}

pub(crate) fn add(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

pub(crate) fn sub(cell: &Cell<u32>) {
    cell.set(cell.get().saturating_sub(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_gets_its_share_rounded_up() {
        let limits = Limits::default();
        let thresholds = Thresholds {
            connections: 5,
            pending: 4,
            requests: u32::MAX,
            retries: 0,
            retry_budget: None,
        };
        limits.apply(&CircuitBreakers { default: thresholds, ..CircuitBreakers::default() }, 2);
        let share = limits.level(false).share();
        assert_eq!((share.connections, share.pending, share.retries), (3, 2, 0));
        assert_eq!(limits.level(true).share().connections, 512);
    }
    #[test]
    fn a_retry_budget_follows_the_requests_in_flight() {
        let level = Level::default();
        assert_eq!(level.most_retries(), Thresholds::default().retries);
        let retry_budget = Some(RetryBudget { part: 2_000, least: 3 });
        level.share.set(Thresholds { retry_budget, ..Thresholds::default() });
        assert_eq!(level.most_retries(), 3);
        level.requests.set(100);
        assert_eq!(level.most_retries(), 20);
    }
}

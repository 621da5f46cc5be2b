//! Circuit breakers: a worker's share of a cluster's limits, and what counts against it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weft_model::{CircuitBreakers, Thresholds};

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
        let thresholds = Thresholds { connections: 5, pending: 4, requests: u32::MAX, retries: 0 };
        limits.apply(&CircuitBreakers { default: thresholds, ..CircuitBreakers::default() }, 2);
        let share = limits.level(false).share();
        assert_eq!((share.connections, share.pending, share.retries), (3, 2, 0));
        assert_eq!(limits.level(true).share().connections, 512);
    }
}

//! Whether the proxy takes traffic.

use std::sync::atomic::{AtomicBool, Ordering};

use weft_admin::Readiness;

/// What readiness depends on besides the configuration.
#[derive(Debug, Default)]
pub(crate) struct Health {
    draining: AtomicBool,
    failed: AtomicBool,
}

impl Health {
    /// From now on the proxy is going away.
    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// `/healthcheck/fail` and `/healthcheck/ok`
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.failed.store(!healthy, Ordering::Release);
    }

    /// The state, given whether the first configuration is there.
    pub(crate) fn readiness(&self, configured: bool) -> Readiness {
        if self.draining.load(Ordering::Acquire) || self.failed.load(Ordering::Acquire) {
            Readiness::Draining
        } else if configured {
            Readiness::Live
        } else {
            Readiness::Initializing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_can_be_taken_back_and_a_drain_can_not() {
        let health = Health::default();
        assert_eq!(health.readiness(false), Readiness::Initializing);
        health.set_healthy(false);
        assert_eq!(health.readiness(true), Readiness::Draining);
        health.set_healthy(true);
        assert_eq!(health.readiness(true), Readiness::Live);
        health.begin_draining();
        health.set_healthy(true);
        assert_eq!(health.readiness(true), Readiness::Draining);
    }
}

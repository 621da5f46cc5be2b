//! From findings to health (Envoy's rules for thresholds and the first check).

use weft_model::HealthFlags;

/// What one check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The host is well.
    Good {
        /// It says that it is degraded (`x-envoy-degraded`).
        degraded: bool,
    },
    /// The host answered, and not as expected.
    Bad {
        /// It counts as a failure of the network does: the threshold holds.
        retriable: bool,
        /// It asks for no more requests (`x-envoy-immediate-health-check-fail`).
        excluded: bool,
    },
    /// The host could not be reached or broke off.
    Network,
    /// There was no answer in time.
    Timeout,
}

/// What a finding means for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// Nothing new.
    Unchanged,
    /// Something that has to happen again before it changes the host's health.
    Pending,
    /// The host's health has changed.
    Changed,
}

/// Findings in a row.
#[derive(Debug)]
pub(super) struct Standing {
    /// Nothing was found yet.
    first: bool,
    good: u32,
    bad: u32,
}

impl Standing {
    /// `first`: nothing is known of the host.
    pub(super) fn new(first: bool) -> Self {
        Self { first, good: 0, bad: 0 }
    }

    /// The flags to set, those to clear, and whether the health has changed.
    pub(super) fn apply(
        &mut self,
        flags: HealthFlags,
        finding: Finding,
        (unhealthy, healthy): (u32, u32),
    ) -> (u32, u32, Transition) {
        let failed = flags.any(HealthFlags::FAILED_ACTIVE);
        let first = std::mem::take(&mut self.first);
        let (mut set, mut clear) = (0, HealthFlags::PENDING_ACTIVE);
        let mut transition = Transition::Unchanged;
        if let Finding::Good { degraded } = finding {
            self.bad = 0;
            if failed {
                self.good += 1;
                transition = Transition::Pending;
                if first || self.good >= healthy {
                    self.good = 0;
                    clear |= HealthFlags::FAILED_ACTIVE
                        | HealthFlags::ACTIVE_TIMEOUT
                        | HealthFlags::EXCLUDED;
                    transition = Transition::Changed;
                }
            }
            if degraded != flags.any(HealthFlags::DEGRADED_ACTIVE) {
                transition = Transition::Changed;
            }
            let place = if degraded { &mut set } else { &mut clear };
            *place |= HealthFlags::DEGRADED_ACTIVE;
            return (set, clear, transition);
        }
        self.good = 0;
        if !failed {
            let at_once = matches!(finding, Finding::Bad { retriable: false, .. });
            self.bad += 1;
            transition = Transition::Pending;
            if at_once || self.bad >= unhealthy {
                set |= HealthFlags::FAILED_ACTIVE;
                transition = Transition::Changed;
            }
        }
        let late = finding == Finding::Timeout;
        let place = if late { &mut set } else { &mut clear };
        *place |= HealthFlags::ACTIVE_TIMEOUT;
        if matches!(finding, Finding::Bad { excluded: true, .. }) {
            set |= HealthFlags::EXCLUDED;
        }
        if flags.any(HealthFlags::PENDING_ACTIVE) {
            transition = Transition::Changed;
        }
        (set, clear, transition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Finding = Finding::Good { degraded: false };
    const BAD: Finding = Finding::Bad { retriable: false, excluded: false };

    /// The flags after these findings, and the transitions.
    fn after(flags: u32, first: bool, findings: &[Finding]) -> (u32, Vec<Transition>) {
        let mut standing = Standing::new(first);
        let mut flags = HealthFlags(flags);
        let mut transitions = Vec::new();
        for finding in findings {
            let (set, clear, transition) = standing.apply(flags, *finding, (2, 3));
            flags = HealthFlags((flags.0 & !clear) | set);
            transitions.push(transition);
        }
        (flags.0, transitions)
    }

    #[test]
    fn the_first_success_is_enough() {
        let fresh = HealthFlags::FAILED_ACTIVE | HealthFlags::PENDING_ACTIVE;
        assert_eq!(after(fresh, true, &[GOOD]), (0, vec![Transition::Changed]));
        let (flags, transitions) = after(fresh, true, &[Finding::Network, GOOD, GOOD, GOOD]);
        assert_eq!(flags, 0);
        use Transition::{Changed, Pending};
        assert_eq!(transitions, [Changed, Pending, Pending, Changed], "after a failure all three");
    }

    #[test]
    fn failures_of_the_network_have_to_repeat_and_wrong_answers_do_not() {
        let failed = HealthFlags::FAILED_ACTIVE;
        assert_eq!(after(0, false, &[Finding::Network]), (0, vec![Transition::Pending]));
        assert_eq!(after(0, false, &[Finding::Network, Finding::Network]).0, failed);
        assert_eq!(after(0, false, &[Finding::Network, GOOD, Finding::Network]).0, 0);
        assert_eq!(after(0, false, &[BAD]), (failed, vec![Transition::Changed]));
        let retriable = Finding::Bad { retriable: true, excluded: false };
        assert_eq!(after(0, false, &[retriable]).0, 0);
        let late = [Finding::Timeout, Finding::Timeout];
        assert_eq!(after(0, false, &late).0, failed | HealthFlags::ACTIVE_TIMEOUT);
    }

    #[test]
    fn a_degraded_host_is_healthy_and_degraded() {
        let degraded = Finding::Good { degraded: true };
        let (flags, transitions) = after(0, false, &[degraded, degraded, GOOD]);
        assert_eq!(flags, 0);
        use Transition::{Changed, Unchanged};
        assert_eq!(transitions, [Changed, Unchanged, Changed]);
    }
}

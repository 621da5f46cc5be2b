//! When to renew, and how long to pause after a failure. Pure.

use std::time::{Duration, SystemTime};

use crate::config::RetryPolicy;

/// Spread of the renewal, as a share of the lifetime.
const SPREAD: f64 = 0.01;

/// When a certificate is to be renewed: at half of its lifetime since it was obtained, give or take
/// one percent, so that workloads which started together don't renew together. `random` is in 0..1.
pub(crate) fn renewal_time(
    obtained_at: SystemTime,
    not_after: SystemTime,
    random: f64,
) -> SystemTime {
    let lifetime = not_after.duration_since(obtained_at).unwrap_or_default();
    obtained_at + lifetime.mul_f64(0.5 + SPREAD * (2.0 * random - 1.0))
}

/// The pause after `failures` failures in a row (at least one): doubled each time up to the
/// maximum, and between half and all of that. `random` is in 0..1.
pub(crate) fn pause(policy: RetryPolicy, failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let full = policy.initial.saturating_mul(1 << doublings).min(policy.max);
    full.mul_f64(0.5 + 0.5 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_half_of_the_lifetime_give_or_take_one_percent() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = start + Duration::from_secs(1000);
        let after = |random| renewal_time(start, end, random).duration_since(start).unwrap();
        assert_eq!(after(0.5), Duration::from_secs(500));
        assert_eq!(after(0.0), Duration::from_secs(490));
        assert_eq!(after(1.0), Duration::from_secs(510));
        assert_eq!(renewal_time(end, start, 0.5), end, "an expired one is due at once");
    }

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let policy = RetryPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(10) };
        let seconds = |failures| pause(policy, failures, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 500].map(seconds), [1, 2, 4, 8, 10, 10]);
        assert_eq!(pause(policy, 1, 0.0), Duration::from_millis(500));
    }
}

//! The waiting times between attempts.

use std::time::Duration;

use crate::Backoff;

/// Draws the waiting times of a [`Backoff`].
#[derive(Debug)]
pub(crate) struct Waits {
    backoff: Backoff,
    bound: Duration,
}

impl Waits {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self { backoff, bound: backoff.initial }
    }

    pub(crate) const fn reset(&mut self) {
        self.bound = self.backoff.initial;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.bound.min(self.backoff.max);
        self.bound = bound.saturating_mul(2).min(self.backoff.max);
        bound.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_begin_anew() {
        let mut waits = Waits::new(Backoff::default());
        for _ in 0..20 {
            assert!(waits.next() <= Duration::from_secs(30));
        }
        assert_eq!(waits.bound, Duration::from_secs(30));
        waits.reset();
        assert!(waits.next() <= Duration::from_millis(500));
    }
}

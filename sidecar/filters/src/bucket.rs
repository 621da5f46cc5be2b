//! A token bucket for all workers, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// `type.v3.TokenBucket`: filled continuously at `tokens_per_fill` in each `fill_interval`.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    begun: Instant,
    /// Nanoseconds for one token.
    each: u64,
    max: u32,
    /// When the bucket was empty, in nanoseconds after `begun` and shifted by the time that filling
    /// it takes: what has passed since then are its tokens.
    empty_at: AtomicU64,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(max: u32, per_fill: u32, interval: Duration) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let each = (interval / u64::from(per_fill.max(1))).max(1);
        Self { begun: Instant::now(), each, max, empty_at: AtomicU64::new(0) }
    }

    /// What one token takes to come.
    pub(crate) fn time_for_one(&self) -> Duration {
        Duration::from_nanos(self.each)
    }

    /// How many tokens it holds when full.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        let now = self.now();
        let taken = self.empty_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            let next = at.max(now.saturating_sub(self.full())).saturating_add(self.each);
            (next <= now).then_some(next)
        });
        taken.is_ok()
    }

    /// The tokens that are there.
    pub(crate) fn remaining(&self) -> u64 {
        let since = self.now().saturating_sub(self.empty_at.load(Ordering::Relaxed));
        (since / self.each).min(self.max.into())
    }

    /// How long it takes until there is a token.
    pub(crate) fn until_next(&self) -> Duration {
        let next = self.empty_at.load(Ordering::Relaxed).saturating_add(self.each);
        Duration::from_nanos(next.saturating_sub(self.now()))
    }

    /// What filling it takes, nanoseconds.
    fn full(&self) -> u64 {
        self.each.saturating_mul(self.max.into())
    }

    /// Nanoseconds on a clock on which the bucket was empty at zero and full when made.
    fn now(&self) -> u64 {
        let since = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        since.saturating_add(self.full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_come_back_with_time_and_never_exceed_the_maximum() {
        let bucket = TokenBucket::new(2, 1, Duration::from_secs(10));
        assert!(bucket.take() && bucket.take() && !bucket.take());
        assert_eq!((bucket.remaining(), bucket.until_next()), (0, Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(bucket.remaining(), 1);
        assert!(bucket.take() && !bucket.take());
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(bucket.remaining(), 2);
        assert!(bucket.take() && bucket.take() && !bucket.take());
    }
}

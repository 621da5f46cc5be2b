//! Latencies in buckets of about one per cent.

/// Counts of latencies, microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

/// Buckets for each power of two.
const STEPS: u64 = 64;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 64 * STEPS as usize], total: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, micros: u64) {
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
        self.total += other.total;
    }

    /// The lower bound of the bucket that holds the quantile, microseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let rank = (self.total as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, |bucket| bound(bucket as u64))
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let shift = u64::from(micros.ilog2()) - u64::from(STEPS.ilog2());
    ((shift + 1) * STEPS + (micros >> shift) - STEPS) as usize
}

fn bound(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    (bucket % STEPS + STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_within_two_per_cent() {
        for micros in [0, 1, 63, 64, 65, 1000, 123_456, 9_999_999] {
            let low = bound(bucket(micros) as u64);
            assert!(low <= micros && micros - low <= micros / 50, "{micros} became {low}");
        }
    }

    #[test]
    fn quantiles_come_from_the_counts() {
        let mut histogram = Histogram::default();
        for micros in 1..=100 {
            histogram.record(micros);
        }
        assert_eq!(histogram.quantile(0.5), 50);
        assert_eq!(histogram.quantile(0.99), 99);
    }
}

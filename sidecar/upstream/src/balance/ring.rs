//! The hash ring, laid out as Envoy lays it out, so that both choose alike.

use super::hash::HashFunction;

/// Points on a circle, each belonging to a member.
#[derive(Debug)]
pub(super) struct Ring {
    /// Sorted by hash.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring on which every member has points in proportion to its weight, the lightest a whole
    /// number of them.
    pub(super) fn new(
        keys: &[String],
        weights: &[f64],
        (min_size, max_size): (u64, u64),
        function: HashFunction,
    ) -> Self {
        let sum: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let lightest = weights.iter().copied().fold(sum, f64::min) / sum;
        let scale = ((lightest * min_size as f64).ceil() / lightest).min(max_size as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let mut target = 0.0;
        let mut current = 0.0;
        for (member, (key, weight)) in (0..).zip(keys.iter().zip(weights)) {
            target += scale * weight / sum;
            let mut replica = 0;
            while current < target {
                let name = format!("{key}_{replica}");
                points.push((function(name.as_bytes()), member));
                replica += 1;
                current += 1.0;
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The member of the first point at or after the hash; a later attempt goes on from there.
    pub(super) fn find(&self, hash: u64, attempt: u32) -> usize {
        if self.points.is_empty() {
            return 0;
        }
        let at = self.points.partition_point(|(point, _)| *point < hash) + attempt as usize;
        self.points[at % self.points.len()].1 as usize
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh64::xxh64;

    use super::*;
    use crate::balance::hash;

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("10.0.0.{at}:80")).collect()
    }

    #[test]
    fn removing_a_member_moves_only_its_own_keys() {
        let all = Ring::new(&keys(10), &[1.0; 10], (1024, 1 << 23), hash::function(false));
        let fewer = Ring::new(&keys(9), &[1.0; 9], (1024, 1 << 23), hash::function(false));
        let mut moved = 0;
        for key in 0..10_000_u64 {
            let hash = xxh64(&key.to_le_bytes(), 0);
            let (before, after) = (all.find(hash, 0), fewer.find(hash, 0));
            if before != 9 && before != after {
                moved += 1;
            }
        }
        // The ring's size is rounded up to whole points of each member: some points are new.
        assert!(moved < 1_200, "{moved} keys of other members moved");
    }

    #[test]
    fn points_follow_the_weights() {
        let ring = Ring::new(&keys(3), &[1.0, 2.0, 5.0], (1024, 1 << 23), hash::function(false));
        let mut counts = [0; 3];
        for (_, member) in &ring.points {
            counts[*member as usize] += 1;
        }
        assert_eq!(counts, [128, 256, 640]);
    }

    #[test]
    fn the_ring_is_no_larger_than_its_maximum() {
        let ring = Ring::new(&keys(2), &[1.0, 1000.0], (1024, 1500), hash::function(false));
        assert_eq!(ring.points.len(), 1500);
    }

    #[test]
    fn later_attempts_go_on_to_other_points() {
        let ring = Ring::new(&keys(5), &[1.0; 5], (1024, 1 << 23), hash::function(false));
        let first = ring.find(42, 0);
        assert!((1..20).any(|attempt| ring.find(42, attempt) != first));
    }
}

//! Maglev's lookup table (Eisenbud et al., NSDI 2016), weighted as Envoy weights it.

use xxhash_rust::xxh64::xxh64;

/// A member for every remainder of a hash.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Vec<u32>,
}

struct Builder {
    offset: u64,
    skip: u64,
    weight: f64,
    target: f64,
    next: u64,
}

impl Maglev {
    /// A table of `size` places, a prime number; members take turns, heavy ones more often.
    pub(super) fn new(keys: &[String], weights: &[f64], size: u64) -> Self {
        let size = size.max(2);
        let heaviest = weights.iter().copied().fold(0.0, f64::max);
        let mut builders: Vec<_> = keys
            .iter()
            .zip(weights)
            .map(|(key, weight)| Builder {
                offset: xxh64(key.as_bytes(), 0) % size,
                skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
                weight: *weight,
                target: 0.0,
                next: 0,
            })
            .collect();
        let mut table = vec![u32::MAX; usize::try_from(size).unwrap_or(usize::MAX)];
        let mut free = if builders.is_empty() { 0 } else { table.len() };
        let mut round = 1.0;
        while free > 0 {
            for (member, builder) in (0..).zip(&mut builders) {
                if free == 0 {
                    break;
                }
                if round * builder.weight < builder.target {
                    continue;
                }
                builder.target += heaviest;
                let place = builder.place(&table, size);
                table[place] = member;
                free -= 1;
            }
            round += 1.0;
        }
        Self { table }
    }

    /// The member for a hash; a later attempt looks elsewhere.
    pub(super) fn find(&self, hash: u64, attempt: u32) -> usize {
        let hash = match attempt {
            0 => hash,
            attempt => hash ^ (u64::MAX - u64::from(attempt) + 1),
        };
        let at = hash % self.table.len() as u64;
        self.table.get(at as usize).map_or(0, |member| *member as usize)
    }
}

impl Builder {
    /// The next place of this member's permutation that is free.
    fn place(&mut self, table: &[u32], size: u64) -> usize {
        loop {
            let place = ((self.offset + self.skip * self.next) % size) as usize;
            self.next += 1;
            if table[place] == u32::MAX {
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("10.0.0.{at}:80")).collect()
    }

    fn counts(maglev: &Maglev, members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        for member in &maglev.table {
            counts[*member as usize] += 1;
        }
        counts
    }

    #[test]
    fn places_follow_the_weights() {
        let even = counts(&Maglev::new(&keys(4), &[1.0; 4], 65_537), 4);
        assert!(even.iter().all(|count| count.abs_diff(65_537 / 4) <= 1), "{even:?}");
        let weighted = counts(&Maglev::new(&keys(2), &[1.0, 3.0], 65_537), 2);
        assert!(weighted[1].abs_diff(weighted[0] * 3) < 700, "{weighted:?}");
    }

    #[test]
    fn removing_a_member_moves_few_other_keys() {
        let all = Maglev::new(&keys(10), &[1.0; 10], 65_537);
        let fewer = Maglev::new(&keys(9), &[1.0; 9], 65_537);
        let places = all.table.iter().zip(&fewer.table);
        let moved = places.filter(|(before, after)| **before != 9 && before != after).count();
        assert!(moved < 65_537 / 10, "{moved} places of other members moved");
    }
}

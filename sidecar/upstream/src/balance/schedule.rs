//! Earliest deadline first: members come as often as their weights say, evenly spaced.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A queue of members by deadline; a member of weight w is due every 1/w.
#[derive(Debug)]
pub(super) struct Schedule {
    queue: RefCell<BinaryHeap<Due>>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    deadline: f64,
    index: usize,
}

impl Schedule {
    /// A schedule that starts at a random place, so that workers do not go in step.
    pub(super) fn new(weights: &[f64]) -> Self {
        let due = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| Due { deadline: 1.0 / weight.max(f64::MIN_POSITIVE), index });
        let schedule = Self { queue: RefCell::new(due.collect()) };
        for _ in 0..fastrand::usize(..weights.len().max(1)) {
            schedule.next(|index| weights[index]);
        }
        schedule
    }

    /// The member that is due; `weigh` says what the weight of a member is now.
    pub(super) fn next(&self, weigh: impl FnOnce(usize) -> f64) -> usize {
        let mut queue = self.queue.borrow_mut();
        let Some(mut first) = queue.peek_mut() else { return 0 };
        let index = first.index;
        first.deadline += 1.0 / weigh(index).max(f64::MIN_POSITIVE);
        index
    }
}

/// The earliest deadline is the greatest; of equal ones the lower index.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_as_often_as_their_weights_say() {
        const WEIGHTS: [f64; 3] = [1.0, 2.0, 5.0];
        let schedule = Schedule::new(&WEIGHTS);
        let mut counts = [0; 3];
        for _ in 0..800 {
            counts[schedule.next(|index| WEIGHTS[index])] += 1;
        }
        for (count, expected) in counts.into_iter().zip([100_i32, 200, 500]) {
            assert!((count - expected).abs() <= 1, "{counts:?}");
        }
    }
}

//! How the load is spread over priorities (Envoy's rules for health, overprovisioning and panic).

use weft_model::Health;

/// The endpoints of one priority, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    pub(super) total: usize,
    pub(super) healthy: usize,
    pub(super) degraded: usize,
}

/// A part of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) priority: usize,
    /// Which endpoints of the priority take it …
    pub(super) health: Health,
    /// … unless all of them do, too few being healthy.
    pub(super) panic: bool,
    pub(super) percent: u32,
}

/// Spreads the load. Each priority takes as much as its health, multiplied by the
/// overprovisioning factor, allows; degraded endpoints take what healthy ones leave. The parts
/// add up to 100, or there are none when there are no endpoints.
pub(super) fn spread(census: &[Census], overprovisioning: u32, panic_threshold: f64) -> Vec<Load> {
    let factor = if overprovisioning == 0 { 140 } else { overprovisioning };
    let health: Vec<u32> = census.iter().map(|c| capacity(c.healthy, c.total, factor)).collect();
    let degraded: Vec<u32> = census.iter().map(|c| capacity(c.degraded, c.total, factor)).collect();
    let available = health.iter().chain(&degraded).sum::<u32>().min(100);
    let panics: Vec<bool> =
        census.iter().map(|c| available < 100 && in_panic(c, panic_threshold)).collect();
    if panics.iter().all(|panic| *panic) {
        return all_panic(census);
    }
    if available == 0 {
        // Panic is switched off: nobody takes anything.
        return Vec::new();
    }
    let mut loads = Vec::new();
    let mut left = 100;
    let parts = [(Health::Healthy, &health), (Health::Degraded, &degraded)];
    for (kind, capacities) in parts {
        for (priority, capacity) in capacities.iter().enumerate() {
            let percent = left.min(capacity * 100 / available);
            left -= percent;
            if percent > 0 {
                loads.push(Load { priority, health: kind, panic: panics[priority], percent });
            }
        }
    }
    if let Some(first) = loads.first_mut() {
        // What integer division has left.
        first.percent += left;
    }
    loads
}

/// Which part of the load, per cent, each cluster of an aggregate takes: their priorities stand one
/// after the other.
pub(crate) fn shares(clusters: &[&[Census]], panic_threshold: f64) -> Vec<u32> {
    let owners = clusters.iter().enumerate();
    let owners: Vec<usize> =
        owners.flat_map(|(at, census)| std::iter::repeat_n(at, census.len())).collect();
    let mut shares = vec![0; clusters.len()];
    for load in spread(&clusters.concat(), 0, panic_threshold) {
        shares[owners[load.priority]] += load.percent;
    }
    shares
}

fn capacity(usable: usize, total: usize, factor: u32) -> u32 {
    if total == 0 {
        return 0;
    }
    let percent = usable as u64 * u64::from(factor) / total as u64;
    u32::try_from(percent.min(100)).unwrap_or(100)
}

fn in_panic(census: &Census, threshold: f64) -> bool {
    let usable = census.healthy + census.degraded;
    let percent = match census.total {
        0 => 0,
        total => 100 * usable / total,
    };
    (percent as f64) < threshold
}

/// Every priority is in panic: the load follows the number of endpoints, whatever their health.
fn all_panic(census: &[Census]) -> Vec<Load> {
    let total: usize = census.iter().map(|census| census.total).sum();
    if total == 0 {
        return Vec::new();
    }
    let mut loads = Vec::new();
    let mut left = 100;
    for (priority, census) in census.iter().enumerate() {
        let percent = u32::try_from(100 * census.total / total).unwrap_or(100).min(left);
        left -= percent;
        if percent > 0 {
            loads.push(Load { priority, health: Health::Healthy, panic: true, percent });
        }
    }
    if let Some(first) = loads.first_mut() {
        first.percent += left;
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(total: usize, healthy: usize, degraded: usize) -> Census {
        Census { total, healthy, degraded }
    }

    fn load(priority: usize, percent: u32) -> Load {
        Load { priority, health: Health::Healthy, panic: false, percent }
    }

    #[test]
    fn the_first_priority_takes_all_while_seventy_two_per_cent_are_healthy() {
        let second = census(10, 10, 0);
        assert_eq!(spread(&[census(100, 72, 0), second], 140, 50.0), [load(0, 100)]);
        assert_eq!(spread(&[census(100, 71, 0), second], 140, 50.0), [load(0, 99), load(1, 1)]);
    }

    #[test]
    fn load_spills_over_in_order() {
        let priorities = [census(100, 25, 0), census(100, 25, 0), census(100, 100, 0)];
        assert_eq!(spread(&priorities, 140, 50.0), [load(0, 35), load(1, 35), load(2, 30)]);
    }

    #[test]
    fn too_little_health_is_scaled_up() {
        let priorities = [census(100, 25, 0), census(100, 25, 0)];
        assert_eq!(spread(&priorities, 140, 0.0), [load(0, 50), load(1, 50)]);
    }

    #[test]
    fn few_healthy_endpoints_everywhere_mean_panic_by_number_of_endpoints() {
        let loads = spread(&[census(10, 1, 0), census(30, 1, 0)], 140, 50.0);
        let panic = |priority, percent| Load { panic: true, ..load(priority, percent) };
        assert_eq!(loads, [panic(0, 25), panic(1, 75)]);
        assert_eq!(spread(&[census(4, 0, 0)], 140, 50.0), [panic(0, 100)]);
    }

    #[test]
    fn without_panic_nobody_takes_the_load_of_the_dead() {
        assert_eq!(spread(&[census(4, 0, 0)], 140, 0.0), []);
        assert_eq!(spread(&[], 140, 50.0), []);
    }

    #[test]
    fn degraded_endpoints_take_what_is_left() {
        let loads = spread(&[census(100, 50, 50)], 140, 50.0);
        let degraded = Load { health: Health::Degraded, ..load(0, 30) };
        assert_eq!(loads, [load(0, 70), degraded]);
        let only = spread(&[census(2, 0, 2)], 140, 50.0);
        assert_eq!(only, [Load { health: Health::Degraded, ..load(0, 100) }]);
    }

    #[test]
    fn clusters_of_an_aggregate_follow_each_other() {
        let (well, half) = (census(10, 10, 0), census(10, 5, 0));
        assert_eq!(shares(&[&[well], &[well]], 50.0), [100, 0]);
        assert_eq!(shares(&[&[half], &[well]], 50.0), [70, 30]);
        assert_eq!(shares(&[&[half, half], &[well]], 50.0), [100, 0]);
        assert_eq!(shares(&[&[], &[well]], 50.0), [0, 100]);
        assert_eq!(shares(&[&[census(1, 0, 0)], &[census(3, 0, 0)]], 50.0), [25, 75]);
        assert_eq!(shares(&[], 50.0), [0; 0]);
    }
}

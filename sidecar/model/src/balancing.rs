//! How a cluster's load is spread over its endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::Locality;

/// Metadata of an endpoint or of a route for load balancing (`filter_metadata["envoy.lb"]`): each
/// value as JSON writes it, so that equal values are equal texts.
pub type Labels = BTreeMap<String, String>;

/// `Cluster.lb_policy` and its options.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadBalancing {
    /// `ROUND_ROBIN`, weighted.
    RoundRobin,
    /// `LEAST_REQUEST`
    LeastRequest {
        /// `choice_count` (default 2)
        choices: u32,
        /// `active_request_bias` (default 1.0), where weights differ.
        bias: f64,
    },
    /// `RANDOM`
    Random,
    /// `RING_HASH`
    RingHash {
        /// `minimum_ring_size` (default 1024)
        min_size: u64,
        /// `maximum_ring_size` (default 8 Mi)
        max_size: u64,
    },
    /// `MAGLEV`
    Maglev {
        /// `table_size` (default 65537)
        table_size: u64,
    },
    /// `CLUSTER_PROVIDED`
    ClusterProvided,
}

/// What there is besides the policy itself; the default is nothing of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalancingOptions {
    /// `locality_weighted_lb_config`: first a locality by weight, then an endpoint of it.
    pub locality_weighted: bool,
    /// `slow_start_config`
    pub slow_start: Option<SlowStart>,
    /// `use_hostname_for_hashing`
    pub hash_hostname: bool,
    /// `hash_balance_factor`, per cent: how much busier than the average a host may be.
    pub hash_balance: Option<u32>,
    /// `ring_hash_lb_config.hash_function: MURMUR_HASH_2`
    pub murmur: bool,
    /// `lb_subset_config`
    pub subsets: Option<Subsets>,
    /// `zone_aware_lb_config`, where the proxy knows its own cluster and locality.
    pub zone: Option<ZoneAware>,
}

/// `ZoneAwareLbConfig`: load stays in the proxy's own locality as far as that is fair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// `routing_enabled` (default all), in hundredths of a per cent.
    pub enabled: u32,
    /// `min_cluster_size` (default 6): with fewer healthy endpoints zones say nothing.
    pub min_size: u64,
    /// `fail_traffic_on_panic`: a priority in panic has no endpoints.
    pub fail_on_panic: bool,
    /// `cluster_manager.local_cluster_name`: the proxies that send as this one does.
    pub local_cluster: Arc<str>,
    /// `node.locality`
    pub locality: Locality,
}

/// `SlowStartConfig`: a new host's share grows from a little to all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`
    pub window: Duration,
    /// `aggression` (default 1.0)
    pub aggression: f64,
    /// `min_weight_percent`, as a fraction (default 0.1).
    pub min_weight: f64,
}

impl SlowStart {
    /// The part of its weight that a host has after this time.
    #[must_use]
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let part = age.as_secs_f64().max(1.0) / self.window.as_secs_f64().max(1.0);
        part.min(1.0).powf(1.0 / self.aggression).max(self.min_weight)
    }
}

/// `LbSubsetConfig`
#[derive(Clone, Debug, PartialEq)]
pub struct Subsets {
    /// `subset_selectors`
    pub selectors: Vec<SubsetSelector>,
    /// `fallback_policy`
    pub fallback: SubsetFallback,
    /// `default_subset`
    pub default: Labels,
    /// `locality_weight_aware`
    pub locality_weighted: bool,
}

/// `LbSubsetSelector`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetSelector {
    /// `keys`, in order.
    pub keys: Vec<String>,
    /// `fallback_policy`, where it is defined.
    pub fallback: Option<SubsetFallback>,
    /// `single_host_per_subset`
    pub single_host: bool,
}

/// Where a request goes for which there is no subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubsetFallback {
    /// `NO_FALLBACK`: nowhere.
    None,
    /// `ANY_ENDPOINT`
    Any,
    /// `DEFAULT_SUBSET`
    Default,
    /// `KEYS_SUBSET`: to the subset of these keys of the request.
    Keys(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_to_all_of_it() {
        let slow = SlowStart { window: Duration::from_secs(10), aggression: 1.0, min_weight: 0.2 };
        assert!((slow.factor(Duration::ZERO) - 0.2).abs() < 1e-9, "never below the least");
        assert!((slow.factor(Duration::from_secs(5)) - 0.5).abs() < 1e-9);
        assert!((slow.factor(Duration::from_secs(10)) - 1.0).abs() < 1e-9);
        let eager = SlowStart { aggression: 2.0, ..slow };
        assert!((eager.factor(Duration::from_secs(5)) - 0.5_f64.sqrt()).abs() < 1e-9);
    }
}

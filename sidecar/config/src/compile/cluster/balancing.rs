//! Load balancing policies.

mod subsets;
mod typed;

use weft_filters::config::{FieldError, Within, opt_duration};
use weft_model::{BalancingOptions, LoadBalancing, SlowStart, ZoneAware};
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    Cluster as PbCluster, LoadBalancingPolicy,
    cluster::{
        CommonLbConfig, LbConfig, LbPolicy,
        common_lb_config::{LocalityConfigSpecifier, ZoneAwareLbConfig},
        ring_hash_lb_config::HashFunction,
    },
};
use weft_xds_proto::pb::envoy::config::core::v3::RuntimeDouble;
use weft_xds_proto::pb::envoy::r#type::v3::Percent;
use weft_xds_proto::pb::google::protobuf::{Duration as PbDuration, UInt32Value, UInt64Value};

use crate::compile::{Cx, endpoint};

/// `minimum_ring_size` when it is not set.
const MIN_RING: u64 = 1024;
/// The largest ring, and `maximum_ring_size` when it is not set.
const MAX_RING: u64 = 8 << 20;
/// `table_size` when it is not set.
const TABLE: u64 = 65_537;
/// `min_cluster_size` when it is not set.
const MIN_ZONE_AWARE: u64 = 6;
/// The largest table (Envoy's limit).
const MAX_TABLE: u64 = 5_000_011;

/// A policy and what belongs to it.
pub(super) type Balancing = (LoadBalancing, BalancingOptions);

/// Compiles `load_balancing_policy`, or else `lb_policy` with its options.
pub(super) fn balancing(cx: &Cx<'_>, config: &PbCluster) -> Result<Balancing, FieldError> {
    let (policy, mut options) = match &config.load_balancing_policy {
        Some(policy) => typed(policy).within("load_balancing_policy")?,
        None => older(config)?,
    };
    if config.load_balancing_policy.is_none() && !options.locality_weighted {
        options.zone = zone(cx, config.common_lb_config.as_ref()).within("common_lb_config")?;
    }
    if let Some(subsets) = &config.lb_subset_config {
        options.subsets = subsets::subsets(subsets).within("lb_subset_config")?;
    }
    Ok((policy, options))
}

/// The fields that the cluster itself has for its policy.
fn older(config: &PbCluster) -> Result<Balancing, FieldError> {
    let common = config.common_lb_config.as_ref().map(common).transpose();
    let mut options = common.within("common_lb_config")?.unwrap_or_default();
    let policy = LbPolicy::try_from(config.lb_policy);
    let policy = match (policy, &config.lb_config) {
        (Ok(LbPolicy::RoundRobin), own) => {
            if let Some(LbConfig::RoundRobinLbConfig(own)) = own {
                options.slow_start = own
                    .slow_start_config
                    .as_ref()
                    .map(|slow| {
                        let part = slow.min_weight_percent.as_ref();
                        slow_start(slow.slow_start_window.as_ref(), slow.aggression.as_ref(), part)
                    })
                    .transpose()
                    .within("round_robin_lb_config.slow_start_config")?;
            }
            LoadBalancing::RoundRobin
        }
        (Ok(LbPolicy::Random), _) => LoadBalancing::Random,
        (Ok(LbPolicy::ClusterProvided), _) => LoadBalancing::ClusterProvided,
        (Ok(LbPolicy::LeastRequest), Some(LbConfig::LeastRequestLbConfig(own))) => {
            options.slow_start = own
                .slow_start_config
                .as_ref()
                .map(|slow| {
                    let part = slow.min_weight_percent.as_ref();
                    slow_start(slow.slow_start_window.as_ref(), slow.aggression.as_ref(), part)
                })
                .transpose()
                .within("least_request_lb_config.slow_start_config")?;
            let bias = own.active_request_bias.as_ref().map(|bias| bias.default_value);
            least_request(own.choice_count.as_ref().map(|count| count.value), bias)
                .within("least_request_lb_config")?
        }
        (Ok(LbPolicy::LeastRequest), _) => least_request(None, None)?,
        (Ok(LbPolicy::RingHash), Some(LbConfig::RingHashLbConfig(own))) => {
            options.murmur = own.hash_function == HashFunction::MurmurHash2 as i32;
            ring(own.minimum_ring_size.as_ref(), own.maximum_ring_size.as_ref())
                .within("ring_hash_lb_config")?
        }
        (Ok(LbPolicy::RingHash), _) => ring(None, None)?,
        (Ok(LbPolicy::Maglev), Some(LbConfig::MaglevLbConfig(own))) => {
            maglev(own.table_size.as_ref()).within("maglev_lb_config")?
        }
        (Ok(LbPolicy::Maglev), _) => maglev(None)?,
        (Ok(LbPolicy::LoadBalancingPolicyConfig), _) => {
            return Err(FieldError::missing("load_balancing_policy"));
        }
        (Err(_), _) => {
            let reason = format!("{} is not a load balancing policy", config.lb_policy);
            return Err(FieldError::at("lb_policy", reason));
        }
    };
    Ok((policy, options))
}

fn common(config: &CommonLbConfig) -> Result<BalancingOptions, FieldError> {
    let mut options = BalancingOptions::default();
    if let Some(hashing) = &config.consistent_hashing_lb_config {
        options.hash_hostname = hashing.use_hostname_for_hashing;
        options.hash_balance = hash_balance(hashing.hash_balance_factor.as_ref())
            .within("consistent_hashing_lb_config")?;
    }
    options.locality_weighted = matches!(
        config.locality_config_specifier,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    );
    Ok(options)
}

/// Zones count, as in Envoy, wherever the proxy knows its own cluster and locality.
fn zone(cx: &Cx<'_>, config: Option<&CommonLbConfig>) -> Result<Option<ZoneAware>, FieldError> {
    let (Some(name), Some(locality)) = (cx.local_cluster, &cx.node.locality) else {
        return Ok(None);
    };
    let usual = ZoneAwareLbConfig::default();
    let own = match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(own)) => own,
        _ => &usual,
    };
    let enabled = own.routing_enabled.as_ref().map_or(100.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&enabled) {
        let reason = format!("{enabled} is not between 0 and 100");
        return Err(FieldError::at("zone_aware_lb_config.routing_enabled", reason));
    }
    Ok(Some(ZoneAware {
        enabled: (enabled * 100.0).round() as u32,
        min_size: own.min_cluster_size.as_ref().map_or(MIN_ZONE_AWARE, |size| size.value),
        fail_on_panic: own.fail_traffic_on_panic,
        local_cluster: name.into(),
        locality: endpoint::locality(locality),
    }))
}

fn hash_balance(factor: Option<&UInt32Value>) -> Result<Option<u32>, FieldError> {
    match factor.map(|factor| factor.value) {
        Some(factor) if factor < 100 => {
            Err(FieldError::at("hash_balance_factor", format!("{factor} is below 100")))
        }
        factor => Ok(factor.filter(|factor| *factor > 0)),
    }
}

fn slow_start(
    window: Option<&PbDuration>,
    aggression: Option<&RuntimeDouble>,
    least: Option<&Percent>,
) -> Result<SlowStart, FieldError> {
    let window = opt_duration(window, "slow_start_window")?;
    let aggression = aggression.map_or(1.0, |aggression| aggression.default_value);
    if !aggression.is_finite() || aggression <= 0.0 {
        return Err(FieldError::at("aggression", format!("{aggression} is not above 0")));
    }
    let least = least.map_or(10.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&least) {
        let reason = format!("{least} is not between 0 and 100");
        return Err(FieldError::at("min_weight_percent", reason));
    }
    Ok(SlowStart { window: window.unwrap_or_default(), aggression, min_weight: least / 100.0 })
}

fn least_request(choices: Option<u32>, bias: Option<f64>) -> Result<LoadBalancing, FieldError> {
    let choices = choices.unwrap_or(2);
    if choices < 2 {
        return Err(FieldError::at("choice_count", format!("{choices} is below 2")));
    }
    let bias = bias.unwrap_or(1.0);
    if !bias.is_finite() || bias < 0.0 {
        return Err(FieldError::at("active_request_bias", format!("{bias} is below 0")));
    }
    Ok(LoadBalancing::LeastRequest { choices, bias })
}

fn ring(min: Option<&UInt64Value>, max: Option<&UInt64Value>) -> Result<LoadBalancing, FieldError> {
    let min_size = min.map_or(MIN_RING, |size| size.value);
    let max_size = max.map_or(MAX_RING, |size| size.value);
    for (size, field) in [(min_size, "minimum_ring_size"), (max_size, "maximum_ring_size")] {
        if !(1..=MAX_RING).contains(&size) {
            return Err(FieldError::at(field, format!("{size} is not between 1 and {MAX_RING}")));
        }
    }
    if min_size > max_size {
        let reason = format!("{min_size} is above maximum_ring_size ({max_size})");
        return Err(FieldError::at("minimum_ring_size", reason));
    }
    Ok(LoadBalancing::RingHash { min_size, max_size })
}

fn maglev(size: Option<&UInt64Value>) -> Result<LoadBalancing, FieldError> {
    let table_size = size.map_or(TABLE, |size| size.value);
    if !(2..=MAX_TABLE).contains(&table_size) || !is_prime(table_size) {
        let reason = format!("{table_size} is not a prime number up to {MAX_TABLE}");
        return Err(FieldError::at("table_size", reason));
    }
    Ok(LoadBalancing::Maglev { table_size })
}

fn is_prime(number: u64) -> bool {
    let divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
}

/// The first policy of the list that is known, as Envoy chooses.
fn typed(config: &LoadBalancingPolicy) -> Result<Balancing, FieldError> {
    for (index, policy) in config.policies.iter().enumerate() {
        let typed = policy.typed_extension_config.as_ref();
        let Some(any) = typed.and_then(|typed| typed.typed_config.as_ref()) else {
            let error = FieldError::missing("typed_extension_config.typed_config");
            return Err(error).within_item("policies", index);
        };
        let compiled = typed::policy(any).within("typed_extension_config.typed_config");
        if let Some(policy) = compiled.within_item("policies", index)? {
            return Ok(policy);
        }
    }
    let names = config.policies.iter().filter_map(|policy| policy.typed_extension_config.as_ref());
    let names: Vec<_> = names.map(|typed| typed.name.as_str()).collect();
    Err(FieldError::at("policies", format!("none of {names:?} is known")))
}

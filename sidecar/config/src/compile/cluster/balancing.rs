//! Load balancing policies.

use weft_filters::config::{FieldError, Within, decode};
use weft_model::LoadBalancing;
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    Cluster as PbCluster, LoadBalancingPolicy,
    cluster::{LbConfig, LbPolicy, ring_hash_lb_config::HashFunction},
};
use weft_xds_proto::pb::envoy::extensions::load_balancing_policies::{
    least_request::v3::LeastRequest,
    maglev::v3::Maglev,
    ring_hash::v3::{RingHash, ring_hash::HashFunction as TypedHash},
};
use weft_xds_proto::pb::google::protobuf::{Any, UInt64Value};

/// `minimum_ring_size` when it is not set.
const MIN_RING: u64 = 1024;
/// The largest ring, and `maximum_ring_size` when it is not set.
const MAX_RING: u64 = 8 << 20;
/// `table_size` when it is not set.
const TABLE: u64 = 65_537;
/// The largest table (Envoy's limit).
const MAX_TABLE: u64 = 5_000_011;

/// Compiles `load_balancing_policy`, or else `lb_policy` with its options.
pub(super) fn load_balancing(config: &PbCluster) -> Result<LoadBalancing, FieldError> {
    if let Some(policy) = &config.load_balancing_policy {
        return typed(policy).within("load_balancing_policy");
    }
    let policy = LbPolicy::try_from(config.lb_policy);
    match (policy, &config.lb_config) {
        (Ok(LbPolicy::RoundRobin), _) => Ok(LoadBalancing::RoundRobin),
        (Ok(LbPolicy::Random), _) => Ok(LoadBalancing::Random),
        (Ok(LbPolicy::ClusterProvided), _) => Ok(LoadBalancing::ClusterProvided),
        (Ok(LbPolicy::LeastRequest), Some(LbConfig::LeastRequestLbConfig(options))) => {
            let bias = options.active_request_bias.as_ref().map(|bias| bias.default_value);
            least_request(options.choice_count.as_ref().map(|count| count.value), bias)
                .within("least_request_lb_config")
        }
        (Ok(LbPolicy::LeastRequest), _) => least_request(None, None),
        (Ok(LbPolicy::RingHash), Some(LbConfig::RingHashLbConfig(options))) => {
            if options.hash_function == HashFunction::MurmurHash2 as i32 {
                return Err(FieldError::at(
                    "ring_hash_lb_config.hash_function",
                    "MURMUR_HASH_2 is not supported; leave it out for XX_HASH",
                ));
            }
            ring(options.minimum_ring_size.as_ref(), options.maximum_ring_size.as_ref())
                .within("ring_hash_lb_config")
        }
        (Ok(LbPolicy::RingHash), _) => ring(None, None),
        (Ok(LbPolicy::Maglev), Some(LbConfig::MaglevLbConfig(options))) => {
            maglev(options.table_size.as_ref()).within("maglev_lb_config")
        }
        (Ok(LbPolicy::Maglev), _) => maglev(None),
        (Ok(LbPolicy::LoadBalancingPolicyConfig), _) => {
            Err(FieldError::missing("load_balancing_policy"))
        }
        (Err(_), _) => {
            let reason = format!("{} is not a load balancing policy", config.lb_policy);
            Err(FieldError::at("lb_policy", reason))
        }
    }
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
fn typed(config: &LoadBalancingPolicy) -> Result<LoadBalancing, FieldError> {
    for (index, policy) in config.policies.iter().enumerate() {
        let typed = policy.typed_extension_config.as_ref();
        let Some(any) = typed.and_then(|typed| typed.typed_config.as_ref()) else {
            let error = FieldError::missing("typed_extension_config.typed_config");
            return Err(error).within_item("policies", index);
        };
        let compiled = one_typed(any).within("typed_extension_config.typed_config");
        if let Some(policy) = compiled.within_item("policies", index)? {
            return Ok(policy);
        }
    }
    let names = config.policies.iter().filter_map(|policy| policy.typed_extension_config.as_ref());
    let names: Vec<_> = names.map(|typed| typed.name.as_str()).collect();
    Err(FieldError::at("policies", format!("none of {names:?} is known")))
}

fn one_typed(any: &Any) -> Result<Option<LoadBalancing>, FieldError> {
    const PREFIX: &str = "envoy.extensions.load_balancing_policies.";
    Ok(match type_name(&any.type_url).strip_prefix(PREFIX) {
        Some("round_robin.v3.RoundRobin") => Some(LoadBalancing::RoundRobin),
        Some("random.v3.Random") => Some(LoadBalancing::Random),
        Some("cluster_provided.v3.ClusterProvided") => Some(LoadBalancing::ClusterProvided),
        Some("least_request.v3.LeastRequest") => {
            let options: LeastRequest = decode(any)?;
            let bias = options.active_request_bias.as_ref().map(|bias| bias.default_value);
            Some(least_request(options.choice_count.map(|count| count.value), bias)?)
        }
        Some("ring_hash.v3.RingHash") => {
            let options: RingHash = decode(any)?;
            if options.hash_function == TypedHash::MurmurHash2 as i32 {
                return Err(FieldError::at("hash_function", "MURMUR_HASH_2 is not supported"));
            }
            Some(ring(options.minimum_ring_size.as_ref(), options.maximum_ring_size.as_ref())?)
        }
        Some("maglev.v3.Maglev") => {
            let options: Maglev = decode(any)?;
            Some(maglev(options.table_size.as_ref())?)
        }
        _ => None,
    })
}

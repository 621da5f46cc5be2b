//! The policies that have messages of their own.

use weft_filters::config::{FieldError, Within, decode};
use weft_model::{BalancingOptions, LoadBalancing};
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::extensions::load_balancing_policies::{
    common::v3::{
        ConsistentHashingLbConfig, LocalityLbConfig, SlowStartConfig,
        locality_lb_config::LocalityConfigSpecifier as Specifier,
    },
    least_request::v3::LeastRequest,
    maglev::v3::Maglev,
    random::v3::Random,
    ring_hash::v3::{RingHash, ring_hash::HashFunction},
    round_robin::v3::RoundRobin,
    wrr_locality::v3::WrrLocality,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Balancing, hash_balance, least_request, maglev, ring, slow_start, typed};

const PREFIX: &str = "envoy.extensions.load_balancing_policies.";

/// Compiles a policy; none if it is one that Weft does not know.
pub(super) fn policy(any: &Any) -> Result<Option<Balancing>, FieldError> {
    Ok(Some(match type_name(&any.type_url).strip_prefix(PREFIX) {
        Some("round_robin.v3.RoundRobin") => {
            let config: RoundRobin = decode(any)?;
            let options = options(config.locality_lb_config.as_ref());
            (LoadBalancing::RoundRobin, slowly(options, config.slow_start_config.as_ref())?)
        }
        Some("random.v3.Random") => {
            let config: Random = decode(any)?;
            (LoadBalancing::Random, options(config.locality_lb_config.as_ref()))
        }
        Some("cluster_provided.v3.ClusterProvided") => {
            (LoadBalancing::ClusterProvided, BalancingOptions::default())
        }
        Some("least_request.v3.LeastRequest") => {
            let config: LeastRequest = decode(any)?;
            let options = options(config.locality_lb_config.as_ref());
            let bias = config.active_request_bias.as_ref().map(|bias| bias.default_value);
            let policy = least_request(config.choice_count.map(|count| count.value), bias)?;
            (policy, slowly(options, config.slow_start_config.as_ref())?)
        }
        Some("ring_hash.v3.RingHash") => ring_hash(&decode(any)?)?,
        Some("maglev.v3.Maglev") => {
            let config: Maglev = decode(any)?;
            let mut options = consistent(config.consistent_hashing_lb_config.as_ref())?;
            options.locality_weighted = config.locality_weighted_lb_config.is_some();
            (maglev(config.table_size.as_ref())?, options)
        }
        Some("wrr_locality.v3.WrrLocality") => {
            let config: WrrLocality = decode(any)?;
            let inner = config.endpoint_picking_policy.as_ref();
            let inner = inner.ok_or_else(|| FieldError::missing("endpoint_picking_policy"))?;
            let (policy, options) = typed(inner).within("endpoint_picking_policy")?;
            (policy, BalancingOptions { locality_weighted: true, ..options })
        }
        _ => return Ok(None),
    }))
}

#[expect(deprecated, reason = "control planes still send the older fields of RingHash")]
fn ring_hash(config: &RingHash) -> Result<Balancing, FieldError> {
    let policy = ring(config.minimum_ring_size.as_ref(), config.maximum_ring_size.as_ref())?;
    let mut options = consistent(config.consistent_hashing_lb_config.as_ref())?;
    options.hash_hostname |= config.use_hostname_for_hashing;
    if options.hash_balance.is_none() {
        options.hash_balance = hash_balance(config.hash_balance_factor.as_ref())?;
    }
    options.murmur = config.hash_function == HashFunction::MurmurHash2 as i32;
    options.locality_weighted = config.locality_weighted_lb_config.is_some();
    Ok((policy, options))
}

fn options(locality: Option<&LocalityLbConfig>) -> BalancingOptions {
    let specifier = locality.and_then(|locality| locality.locality_config_specifier.as_ref());
    BalancingOptions {
        locality_weighted: matches!(specifier, Some(Specifier::LocalityWeightedLbConfig(_))),
        ..BalancingOptions::default()
    }
}

fn consistent(config: Option<&ConsistentHashingLbConfig>) -> Result<BalancingOptions, FieldError> {
    let Some(config) = config else { return Ok(BalancingOptions::default()) };
    if !config.hash_policy.is_empty() {
        return Err(FieldError::unsupported("consistent_hashing_lb_config.hash_policy"));
    }
    Ok(BalancingOptions {
        hash_hostname: config.use_hostname_for_hashing,
        hash_balance: hash_balance(config.hash_balance_factor.as_ref())
            .within("consistent_hashing_lb_config")?,
        ..BalancingOptions::default()
    })
}

fn slowly(
    options: BalancingOptions,
    config: Option<&SlowStartConfig>,
) -> Result<BalancingOptions, FieldError> {
    let Some(config) = config else { return Ok(options) };
    let least = config.min_weight_percent.as_ref();
    let slow = slow_start(config.slow_start_window.as_ref(), config.aggression.as_ref(), least);
    Ok(BalancingOptions { slow_start: Some(slow.within("slow_start_config")?), ..options })
}

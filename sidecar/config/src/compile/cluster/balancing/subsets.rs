//! Subsets of endpoints by their metadata.

use weft_filters::config::{FieldError, Within};
use weft_model::{SubsetFallback, SubsetSelector, Subsets};
use weft_xds_proto::pb::envoy::config::cluster::v3::cluster::{
    LbSubsetConfig,
    lb_subset_config::{
        LbSubsetFallbackPolicy as Fallback, LbSubsetMetadataFallbackPolicy, LbSubsetSelector,
        lb_subset_selector::LbSubsetSelectorFallbackPolicy as OwnFallback,
    },
};

use crate::compile::endpoint::balancing_labels;

/// Compiles `lb_subset_config`; without selectors there are no subsets.
pub(super) fn subsets(config: &LbSubsetConfig) -> Result<Option<Subsets>, FieldError> {
    let list = LbSubsetMetadataFallbackPolicy::FallbackList as i32;
    let refused = [
        (config.scale_locality_weight, "scale_locality_weight"),
        (config.panic_mode_any, "panic_mode_any"),
        (config.list_as_any, "list_as_any"),
        (config.metadata_fallback_policy == list, "metadata_fallback_policy"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    if config.subset_selectors.is_empty() {
        return Ok(None);
    }
    let mut selectors = Vec::with_capacity(config.subset_selectors.len());
    for (index, one) in config.subset_selectors.iter().enumerate() {
        selectors.push(selector(one).within_item("subset_selectors", index)?);
    }
    let fallback = match Fallback::try_from(config.fallback_policy) {
        Ok(Fallback::NoFallback) => SubsetFallback::None,
        Ok(Fallback::AnyEndpoint) => SubsetFallback::Any,
        Ok(Fallback::DefaultSubset) => SubsetFallback::Default,
        Err(_) => {
            let reason = format!("{} is not a fallback policy", config.fallback_policy);
            return Err(FieldError::at("fallback_policy", reason));
        }
    };
    Ok(Some(Subsets {
        selectors,
        fallback,
        default: config.default_subset.as_ref().map(balancing_labels).unwrap_or_default(),
        locality_weighted: config.locality_weight_aware,
    }))
}

fn selector(config: &LbSubsetSelector) -> Result<SubsetSelector, FieldError> {
    if config.keys.is_empty() {
        return Err(FieldError::missing("keys"));
    }
    let mut keys = config.keys.clone();
    keys.sort();
    keys.dedup();
    let fallback = match OwnFallback::try_from(config.fallback_policy) {
        Ok(OwnFallback::NotDefined) => None,
        Ok(OwnFallback::NoFallback) => Some(SubsetFallback::None),
        Ok(OwnFallback::AnyEndpoint) => Some(SubsetFallback::Any),
        Ok(OwnFallback::DefaultSubset) => Some(SubsetFallback::Default),
        Ok(OwnFallback::KeysSubset) => {
            let fewer = &config.fallback_keys_subset;
            if fewer.is_empty()
                || fewer.len() >= keys.len()
                || !fewer.iter().all(|k| keys.contains(k))
            {
                let reason = "has to have some of the selector's keys, and not all";
                return Err(FieldError::at("fallback_keys_subset", reason));
            }
            Some(SubsetFallback::Keys(fewer.clone()))
        }
        Err(_) => {
            let reason = format!("{} is not a fallback policy", config.fallback_policy);
            return Err(FieldError::at("fallback_policy", reason));
        }
    };
    Ok(SubsetSelector { keys, fallback, single_host: config.single_host_per_subset })
}

//! `traffic-split`: shares of a route's requests for other upstreams.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::PluginView;
use crate::{ResourceId, Upstream, Vars};

/// The configuration of `traffic-split`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TrafficSplit {
    /// Tried in order; the first whose conditions hold decides.
    #[serde(default)]
    pub rules: Vec<TrafficSplitRule>,
}

impl PluginView for TrafficSplit {
    const NAME: &'static str = "traffic-split";
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TrafficSplitRule {
    /// `match`: one of these must hold; empty means always.
    #[serde(rename = "match", default)]
    pub matches: Vec<TrafficMatch>,
    /// `weighted_upstreams`; without any, the route's own.
    #[serde(default = "own_only")]
    pub weighted_upstreams: Vec<WeightedUpstream>,
}

/// One alternative of a rule's conditions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TrafficMatch {
    /// `vars`; absent means always.
    pub vars: Option<Vars>,
}

/// A share of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedUpstream {
    /// Where they go.
    pub target: WeightedTarget,
    /// The share, relative to the sum of the rule's weights.
    pub weight: u32,
}

/// Where a share of the requests goes.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightedTarget {
    /// The upstream of the route.
    Own,
    /// `upstream_id`
    Reference(ResourceId),
    /// `upstream`
    Inline(Arc<Upstream>),
}

impl<'de> Deserialize<'de> for WeightedUpstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            upstream_id: Option<ResourceId>,
            upstream: Option<Arc<Upstream>>,
            weight: Option<u32>,
        }
        let raw = Raw::deserialize(deserializer)?;
        let target = match (raw.upstream_id, raw.upstream) {
            (None, None) => WeightedTarget::Own,
            (Some(id), None) => WeightedTarget::Reference(id),
            (None, Some(upstream)) => WeightedTarget::Inline(upstream),
            (Some(_), Some(_)) => {
                return Err(de::Error::custom("only one of upstream_id and upstream is allowed"));
            }
        };
        Ok(Self { target, weight: raw.weight.unwrap_or(1) })
    }
}

fn own_only() -> Vec<WeightedUpstream> {
    vec![WeightedUpstream { target: WeightedTarget::Own, weight: 1 }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Plugins;

    use super::*;

    fn view(json: serde_json::Value) -> Result<Option<TrafficSplit>, crate::DecodeError> {
        let plugins: Plugins = serde_json::from_value(json).expect("plugins");
        plugins.view()
    }

    #[test]
    fn shares_name_an_upstream_or_the_route_s_own() {
        let split = view(json!({"traffic-split": {"rules": [{
            "match": [{"vars": [["http_x", "==", "1"]]}, {}],
            "weighted_upstreams": [{"upstream_id": 2, "weight": 10}, {"weight": 90}, {}],
        }]}}));
        let split = split.expect("valid").expect("present");
        let rule = &split.rules[0];
        assert_eq!(rule.matches.len(), 2);
        let weights: Vec<_> = rule.weighted_upstreams.iter().map(|share| share.weight).collect();
        assert_eq!(weights, [10, 90, 1]);
        assert_eq!(rule.weighted_upstreams[1].target, WeightedTarget::Own);
    }

    #[test]
    fn a_disabled_plugin_is_absent() {
        assert_eq!(view(json!({"traffic-split": {"_meta": {"disable": true}}})), Ok(None));
    }

    #[test]
    fn a_wrong_share_is_named() {
        let both = json!({"weighted_upstreams": [{"upstream_id": 1, "upstream": {"nodes": {}}}]});
        let error = view(json!({"traffic-split": {"rules": [both]}})).expect_err("both");
        assert_eq!(error.path, "rules[0].weighted_upstreams[0]");
    }
}

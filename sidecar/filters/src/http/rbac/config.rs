//! `http.rbac.v3.RBAC` and `RBACPerRoute`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_telemetry::Scope;
use weft_xds_proto::pb::envoy::extensions::filters::http::rbac::v3::{
    Rbac as PbRbac, RbacPerRoute,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Both, Rbac};
use crate::config::{FieldError, Within, decode};
use crate::rbac::{Counts, config::rules};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbRbac = decode(config)?;
    let scope = cx.scope();
    let (prefix, shadow_prefix) =
        (config.rules_stat_prefix.clone(), config.shadow_rules_stat_prefix.clone());
    Ok(HttpFilterKind::Filter(Arc::new(Rbac {
        own: both(&config, Some(&scope))?,
        enforced: Counts::new(&scope, false, &prefix),
        shadow: Counts::new(&scope, true, &shadow_prefix),
        prefix,
        shadow_prefix,
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let route: RbacPerRoute = decode(config)?;
    // Without rules the filter does nothing on the route.
    let compiled = route.rbac.as_ref().map(|config| both(config, None)).transpose();
    Ok(Arc::new(compiled.within("rbac")?.unwrap_or_default()))
}

fn both(config: &PbRbac, scope: Option<&Scope>) -> Result<Both, FieldError> {
    let refused = [
        (config.matcher.is_some(), "matcher"),
        (config.shadow_matcher.is_some(), "shadow_matcher"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let mut both = Both {
        rules: config.rules.as_ref().map(rules).transpose().within("rules")?,
        shadow: config.shadow_rules.as_ref().map(rules).transpose().within("shadow_rules")?,
    };
    if let Some(scope) = scope.filter(|_| config.track_per_rule_stats) {
        let sides = [
            (&mut both.rules, false, &config.rules_stat_prefix),
            (&mut both.shadow, true, &config.shadow_rules_stat_prefix),
        ];
        for (rules, shadow, prefix) in sides {
            if let Some(rules) = rules {
                rules.track(scope, shadow, prefix);
            }
        }
    }
    Ok(both)
}

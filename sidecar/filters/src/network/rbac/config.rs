//! `network.rbac.v3.RBAC`.

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::network::rbac::v3::Rbac as PbRbac;
use weft_xds_proto::pb::google::protobuf::Any;

use super::Rbac;
use crate::config::{FieldError, Within, decode};
use crate::rbac::{Counts, config::rules};
use crate::{FilterCx, NetworkFilterKind};

pub(crate) fn compile(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    let config: PbRbac = decode(config)?;
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    let refused = [
        (config.matcher.is_some(), "matcher"),
        (config.shadow_matcher.is_some(), "shadow_matcher"),
        (config.delay_deny.is_some(), "delay_deny"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let scope = cx.registry.scope(config.stat_prefix.trim_end_matches('.'), None);
    Ok(NetworkFilterKind::Filter(Arc::new(Rbac {
        rules: config.rules.as_ref().map(rules).transpose().within("rules")?,
        shadow: config.shadow_rules.as_ref().map(rules).transpose().within("shadow_rules")?,
        enforced: Counts::new(&scope, false, ""),
        shadow_counts: Counts::new(&scope, true, &config.shadow_rules_stat_prefix),
        shadow_prefix: config.shadow_rules_stat_prefix,
    })))
}

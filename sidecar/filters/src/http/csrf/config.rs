//! `csrf.v3.CsrfPolicy`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::extensions::filters::http::csrf::v3::CsrfPolicy;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Csrf, Policy};
use crate::config::{FieldError, Within, decode, runtime_fraction, string_matcher};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let scope = cx.scope();
    Ok(HttpFilterKind::Filter(Arc::new(Csrf {
        own: policy(config)?,
        missing: scope.counter("csrf.missing_source_origin"),
        invalid: scope.counter("csrf.request_invalid"),
        valid: scope.counter("csrf.request_valid"),
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    Ok(Arc::new(policy(config)?))
}

fn policy(config: &Any) -> Result<Policy, FieldError> {
    let config: CsrfPolicy = decode(config)?;
    let enabled = config.filter_enabled.as_ref();
    let enabled = enabled.ok_or_else(|| FieldError::missing("filter_enabled"))?;
    let shadow = config.shadow_enabled.as_ref().map(runtime_fraction).transpose();
    let mut additional = Vec::with_capacity(config.additional_origins.len());
    for (index, matcher) in config.additional_origins.iter().enumerate() {
        additional.push(string_matcher(matcher).within_item("additional_origins", index)?);
    }
    Ok(Policy {
        enabled: runtime_fraction(enabled).within("filter_enabled")?,
        shadow: shadow.within("shadow_enabled")?.flatten(),
        additional,
    })
}

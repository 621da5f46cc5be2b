//! `cors.v3.Cors` and `CorsPolicy`.

use std::sync::Arc;

use http::HeaderValue;
use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::extensions::filters::http::cors::v3::{Cors as PbCors, CorsPolicy};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Cors, Policy};
use crate::config::{FieldError, Within, decode, header_value, runtime_fraction, string_matcher};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let PbCors {} = decode(config)?;
    Ok(HttpFilterKind::Filter(Arc::new(Cors)))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let policy: CorsPolicy = decode(config)?;
    let mut origins = Vec::new();
    for (index, matcher) in policy.allow_origin_string_match.iter().enumerate() {
        origins.push(string_matcher(matcher).within_item("allow_origin_string_match", index)?);
    }
    let enabled = policy.filter_enabled.as_ref().map(runtime_fraction).transpose();
    Ok(Arc::new(Policy {
        origins,
        methods: optional(&policy.allow_methods).within("allow_methods")?,
        headers: optional(&policy.allow_headers).within("allow_headers")?,
        exposed: optional(&policy.expose_headers).within("expose_headers")?,
        max_age: optional(&policy.max_age).within("max_age")?,
        credentials: policy.allow_credentials.is_some_and(|flag| flag.value),
        private_network: policy.allow_private_network_access.is_some_and(|flag| flag.value),
        forward_foreign_preflights: policy
            .forward_not_matching_preflights
            .is_none_or(|flag| flag.value),
        enabled: enabled.within("filter_enabled")?.flatten(),
    }))
}

fn optional(text: &str) -> Result<Option<HeaderValue>, FieldError> {
    if text.is_empty() { Ok(None) } else { header_value(text.as_bytes()).map(Some) }
}

//! `http.local_ratelimit.v3.LocalRateLimit`.

use std::sync::Arc;

use http::StatusCode;
use weft_filter_api::RouteFilterConfig;
use weft_model::HeaderSet;
use weft_route::Fraction;
use weft_telemetry::{Registry, Scope};
use weft_xds_proto::pb::envoy::config::core::v3::{HeaderValueOption, RuntimeFractionalPercent};
use weft_xds_proto::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, VhRateLimitsOptions,
};
use weft_xds_proto::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as PbFilter;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Descriptor, Limits, LocalRateLimit, Stats};
use crate::config::{FieldError, Within, decode, header_set, runtime_fraction, token_bucket};
use crate::rate_limits::HostLimits;
use crate::rate_limits::config::rate_limits;
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    Ok(HttpFilterKind::Filter(Arc::new(limits(
        &decode(config)?,
        cx.node.cluster.as_str(),
        cx.registry,
    )?)))
}

pub(crate) fn per_route(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: PbFilter = decode(config)?;
    if config.token_bucket.is_none() {
        return Err(FieldError::missing("token_bucket"));
    }
    Ok(Arc::new(limits(&config, cx.node.cluster.as_str(), cx.registry)?))
}

fn limits(
    config: &PbFilter,
    cluster: &str,
    registry: &Registry,
) -> Result<LocalRateLimit, FieldError> {
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    let refused = [
        (
            config.local_rate_limit_per_downstream_connection,
            "local_rate_limit_per_downstream_connection",
        ),
        (config.local_cluster_rate_limit.is_some(), "local_cluster_rate_limit"),
        (config.max_dynamic_descriptors.is_some(), "max_dynamic_descriptors"),
        (config.enable_retry_after_header, "enable_retry_after_header"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let status = config.status.as_ref().and_then(|status| u16::try_from(status.code).ok());
    let status = status.filter(|status| *status >= 400).map(StatusCode::from_u16);
    let bucket = config.token_bucket.as_ref().map(token_bucket).transpose();
    let always = config.always_consume_default_token_bucket.as_ref();
    Ok(LocalRateLimit(Arc::new(Limits {
        bucket: bucket.within("token_bucket")?.map(Arc::new),
        descriptors: descriptors(&config.descriptors)?,
        rate_limits: rate_limits(&config.rate_limits, cluster)?,
        host_limits: match VhRateLimitsOptions::try_from(config.vh_rate_limits) {
            Ok(VhRateLimitsOptions::Override) => HostLimits::Override,
            Ok(VhRateLimitsOptions::Include) => HostLimits::Include,
            Ok(VhRateLimitsOptions::Ignore) => HostLimits::Ignore,
            Err(_) => return Err(FieldError::at("vh_rate_limits", "is not an option")),
        },
        stage: config.stage,
        status: status.and_then(Result::ok).unwrap_or(StatusCode::TOO_MANY_REQUESTS),
        enabled: part(config.filter_enabled.as_ref(), "filter_enabled")?,
        enforced: part(config.filter_enforced.as_ref(), "filter_enforced")?,
        always_default: always.is_none_or(|flag| flag.value),
        tells: config.enable_x_ratelimit_headers != 0,
        exhausted: config.rate_limited_as_resource_exhausted,
        request_headers: headers(
            &config.request_headers_to_add_when_not_enforced,
            "request_headers_to_add_when_not_enforced",
        )?,
        response_headers: headers(&config.response_headers_to_add, "response_headers_to_add")?,
        stats: stats(&registry.scope(&config.stat_prefix, None)),
    })))
}

fn stats(scope: &Scope) -> Stats {
    let counter = |name: &str| scope.counter(&format!("http_local_rate_limit.{name}"));
    Stats {
        enabled: counter("enabled"),
        enforced: counter("enforced"),
        rate_limited: counter("rate_limited"),
        shadow: counter("shadow_mode"),
        ok: counter("ok"),
    }
}

fn each<T, U>(
    all: &[T],
    field: &str,
    compile: impl Fn(&T) -> Result<U, FieldError>,
) -> Result<Vec<U>, FieldError> {
    let indexed = all.iter().enumerate();
    indexed.map(|(index, one)| compile(one).within_item(field, index)).collect()
}

fn headers(options: &[HeaderValueOption], field: &str) -> Result<Vec<HeaderSet>, FieldError> {
    each(options, field, header_set)
}

/// An absent fraction is none of the requests, as in Envoy.
fn part(
    config: Option<&RuntimeFractionalPercent>,
    field: &str,
) -> Result<Option<Fraction>, FieldError> {
    Ok(config.map(runtime_fraction).transpose().within(field)?.flatten())
}

fn descriptors(configs: &[LocalRateLimitDescriptor]) -> Result<Vec<Descriptor>, FieldError> {
    let mut descriptors = each(configs, "descriptors", |config| {
        if config.entries.is_empty() {
            return Err(FieldError::missing("entries"));
        }
        let bucket = config.token_bucket.as_ref();
        let bucket = bucket.ok_or_else(|| FieldError::missing("token_bucket"))?;
        if config.entries.iter().any(|entry| entry.value.is_empty()) {
            return Err(FieldError::at("entries", "without a value are not supported yet"));
        }
        let entries = config.entries.iter();
        Ok(Descriptor {
            entries: entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
            bucket: Arc::new(token_bucket(bucket).within("token_bucket")?),
            shadow: config.shadow_mode,
        })
    })?;
    descriptors.sort_by_key(|one| std::cmp::Reverse(one.bucket.time_for_one()));
    Ok(descriptors)
}

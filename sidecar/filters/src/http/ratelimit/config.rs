//! `http.ratelimit.v3.RateLimit` and `RateLimitPerRoute`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::extensions::filters::http::ratelimit::v3::{
    RateLimit as PbFilter, RateLimitPerRoute,
    rate_limit_per_route::{OverrideOptions, VhRateLimitsOptions},
};
use weft_xds_proto::pb::envoy::r#type::v3::HttpStatus;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Asks, Limiter, PerRoute};
use crate::cluster_counters::ClusterCounters;
use crate::config::{
    FieldError, Within, decode, grpc_service, header_set, opt_duration, runtime_fraction,
};
use crate::rate_limits::HostLimits;
use crate::rate_limits::config::rate_limits;
use crate::{FilterCx, HttpFilterKind};

/// `timeout` when it is not set.
const TIMEOUT: Duration = Duration::from_millis(20);

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    if config.domain.is_empty() {
        return Err(FieldError::missing("domain"));
    }
    let refused = [
        (config.failure_mode_deny_percent.is_some(), "failure_mode_deny_percent"),
        (config.enable_retry_after_header, "enable_retry_after_header"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let service = config.rate_limit_service.as_ref().and_then(|one| one.grpc_service.as_ref());
    let service = service.ok_or_else(|| FieldError::missing("rate_limit_service.grpc_service"))?;
    let mut response_headers = Vec::with_capacity(config.response_headers_to_add.len());
    for (index, one) in config.response_headers_to_add.iter().enumerate() {
        response_headers.push(header_set(one).within_item("response_headers_to_add", index)?);
    }
    let part = |one, field| {
        Ok::<_, FieldError>(Option::map(one, runtime_fraction).transpose().within(field)?.flatten())
    };
    let prefix = config.stat_prefix.trim_end_matches('.');
    Ok(HttpFilterKind::Filter(Arc::new(Limiter {
        stage: config.stage,
        asks: match config.request_type.as_str() {
            "" | "both" => Asks::Both,
            "internal" => Asks::Internal,
            "external" => Asks::External,
            other => {
                let reason = format!("{other:?} is not one of internal, external, both");
                return Err(FieldError::at("request_type", reason));
            }
        },
        timeout: opt_duration(config.timeout.as_ref(), "timeout")?.unwrap_or(TIMEOUT),
        fails_closed: config.failure_mode_deny,
        target: grpc_service(service).within("rate_limit_service.grpc_service")?,
        exhausted: config.rate_limited_as_resource_exhausted,
        tells: config.enable_x_ratelimit_headers != 0,
        marks: !config.disable_x_envoy_ratelimited_header,
        status: status(config.rate_limited_status, StatusCode::TOO_MANY_REQUESTS),
        status_on_error: status(config.status_on_error, StatusCode::INTERNAL_SERVER_ERROR),
        response_headers,
        enabled: part(config.filter_enabled.as_ref(), "filter_enabled")?,
        enforced: part(config.filter_enforced.as_ref(), "filter_enforced")?,
        own: rate_limits(&config.rate_limits, &cx.node.cluster)?,
        namespace: match config.metadata_namespace.as_str() {
            "" => "envoy.filters.http.ratelimit".to_owned(),
            name => name.to_owned(),
        },
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}.") },
        counters: ClusterCounters::new(cx.registry),
        domain: config.domain,
    })))
}

/// A status of 400 or more, as in Envoy.
fn status(config: Option<HttpStatus>, usual: StatusCode) -> StatusCode {
    let code = config.and_then(|status| u16::try_from(status.code).ok());
    let code = code.filter(|code| *code >= 400).and_then(|code| StatusCode::from_u16(code).ok());
    code.unwrap_or(usual)
}

pub(crate) fn per_route(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: RateLimitPerRoute = decode(config)?;
    if config.override_option != OverrideOptions::Default as i32 {
        return Err(FieldError::unsupported("override_option"));
    }
    Ok(Arc::new(PerRoute {
        host: match VhRateLimitsOptions::try_from(config.vh_rate_limits) {
            Ok(VhRateLimitsOptions::Override) => HostLimits::Override,
            Ok(VhRateLimitsOptions::Include) => HostLimits::Include,
            Ok(VhRateLimitsOptions::Ignore) => HostLimits::Ignore,
            Err(_) => return Err(FieldError::at("vh_rate_limits", "is not an option")),
        },
        own: rate_limits(&config.rate_limits, &cx.node.cluster)?,
        domain: Some(config.domain).filter(|domain| !domain.is_empty()),
    }))
}

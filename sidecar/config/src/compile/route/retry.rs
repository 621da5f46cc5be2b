//! Retry policies.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use weft_filters::config::{FieldError, Within, decode, header_matcher, header_name, opt_duration};
use weft_model::{Labels, RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};
use weft_xds_proto::pb::envoy::config::route::v3::{
    RetryPolicy as PbRetry,
    retry_policy::{
        RateLimitedRetryBackOff, ResetHeaderFormat, RetryBackOff, RetryHostPredicate,
        retry_host_predicate::ConfigType,
    },
};
use weft_xds_proto::pb::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;

use crate::compile::endpoint;

/// Compiles a retry policy. Unknown words of `retry_on` are left out, as Envoy does: Istio puts
/// status codes among them, which count as `retriable_status_codes`.
pub(super) fn retry(config: &PbRetry) -> Result<RetryPolicy, FieldError> {
    let refused = [
        (!config.retriable_request_headers.is_empty(), "retriable_request_headers"),
        (config.retry_priority.is_some(), "retry_priority"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let rate_limited = config.rate_limited_retry_back_off.as_ref().map(rate_limited).transpose();
    let mut status_codes = SmallVec::new();
    for (index, code) in config.retriable_status_codes.iter().enumerate() {
        let code =
            u16::try_from(*code).map_err(|_| FieldError::new(format!("{code} is not a status")));
        status_codes.push(code.within_item("retriable_status_codes", index)?);
    }
    let mut headers = Vec::new();
    for (index, matcher) in config.retriable_headers.iter().enumerate() {
        headers.push(header_matcher(matcher).within_item("retriable_headers", index)?);
    }
    let (base_interval, max_interval) =
        back_off(config.retry_back_off.as_ref()).within("retry_back_off")?;
    let avoided = avoided(config)?;
    Ok(RetryPolicy {
        on: RetryOn::of_words(&config.retry_on),
        retries: config.num_retries.as_ref().map_or(1, |number| number.value),
        per_try_timeout: nonzero(opt_duration(config.per_try_timeout.as_ref(), "per_try_timeout")?),
        per_try_idle_timeout: nonzero(opt_duration(
            config.per_try_idle_timeout.as_ref(),
            "per_try_idle_timeout",
        )?),
        status_codes,
        headers,
        base_interval,
        max_interval,
        rate_limited: rate_limited.within("rate_limited_retry_back_off")?.map(Arc::new),
        avoid_previous_hosts: avoided.previous,
        avoid_canaries: avoided.canaries,
        avoid_labels: avoided.labels,
        host_attempts: u32::try_from(config.host_selection_retry_max_attempts).unwrap_or(0).max(1),
    })
}

fn nonzero(value: Option<Duration>) -> Option<Duration> {
    value.filter(|value| !value.is_zero())
}

/// Which hosts a retry avoids.
#[derive(Default)]
struct Avoided {
    previous: bool,
    canaries: bool,
    labels: Option<Labels>,
}

fn avoided(config: &PbRetry) -> Result<Avoided, FieldError> {
    let mut avoided = Avoided::default();
    for (index, predicate) in config.retry_host_predicate.iter().enumerate() {
        avoid(predicate, &mut avoided).within_item("retry_host_predicate", index)?;
    }
    Ok(avoided)
}

fn avoid(predicate: &RetryHostPredicate, avoided: &mut Avoided) -> Result<(), FieldError> {
    match predicate.name.as_str() {
        "envoy.retry_host_predicates.previous_hosts" => avoided.previous = true,
        "envoy.retry_host_predicates.omit_canary_hosts" => avoided.canaries = true,
        "envoy.retry_host_predicates.omit_host_metadata" => {
            let Some(ConfigType::TypedConfig(any)) = &predicate.config_type else {
                return Err(FieldError::missing("typed_config"));
            };
            let config: OmitHostMetadataConfig = decode(any).within("typed_config")?;
            avoided.labels = endpoint::required(config.metadata_match.as_ref(), None)
                .map(|labels| (*labels).clone());
        }
        name => {
            let reason = format!(
                "{name:?} is not known; previous_hosts, omit_canary_hosts and \
                 omit_host_metadata are"
            );
            return Err(FieldError::at("name", reason));
        }
    }
    Ok(())
}

/// `rate_limited_retry_back_off.max_interval` when it is not set.
const LONGEST_RESET: Duration = Duration::from_secs(300);

fn rate_limited(config: &RateLimitedRetryBackOff) -> Result<RateLimitedBackOff, FieldError> {
    if config.reset_headers.is_empty() {
        return Err(FieldError::missing("reset_headers"));
    }
    let mut headers = Vec::with_capacity(config.reset_headers.len());
    for (index, header) in config.reset_headers.iter().enumerate() {
        let name = header_name(&header.name).within("name").within_item("reset_headers", index)?;
        let timestamp = header.format == ResetHeaderFormat::UnixTimestamp as i32;
        let format = if timestamp { ResetFormat::UnixTimestamp } else { ResetFormat::Seconds };
        headers.push((name, format));
    }
    let max = opt_duration(config.max_interval.as_ref(), "max_interval")?;
    Ok(RateLimitedBackOff { headers, max: max.unwrap_or(LONGEST_RESET) })
}

fn back_off(config: Option<&RetryBackOff>) -> Result<(Duration, Duration), FieldError> {
    let Some(config) = config else { return Ok(RetryPolicy::USUAL_BACK_OFF) };
    let base = opt_duration(config.base_interval.as_ref(), "base_interval")?;
    let base = nonzero(base).ok_or_else(|| FieldError::missing("base_interval"))?;
    let max = opt_duration(config.max_interval.as_ref(), "max_interval")?;
    let max = max.unwrap_or_else(|| base.saturating_mul(10));
    if max < base {
        return Err(FieldError::at("max_interval", "is below base_interval"));
    }
    Ok((base, max))
}

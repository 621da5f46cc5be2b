//! Outlier detection.

use std::time::Duration;

use weft_filters::config::{FieldError, opt_duration};
use weft_model::{Enforcing, OutlierDetection};
use weft_xds_proto::pb::envoy::config::cluster::v3::OutlierDetection as PbOutlier;
use weft_xds_proto::pb::google::protobuf::{Duration as PbDuration, UInt32Value};

use crate::compile::options::{flag, number};

/// Compiles `outlier_detection`.
pub(super) fn outlier(config: &PbOutlier) -> Result<OutlierDetection, FieldError> {
    let refused = [
        (!config.monitors.is_empty(), "monitors"),
        (flag(config.detect_degraded_hosts.as_ref()), "detect_degraded_hosts"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let default = OutlierDetection::default();
    let count = |value: Option<&UInt32Value>, default| number(value).unwrap_or(default);
    let hosts = |value: Option<&UInt32Value>, default| {
        number(value).map_or(default, |hosts| usize::try_from(hosts).unwrap_or(usize::MAX))
    };
    let volume = |value: Option<&UInt32Value>, default| number(value).map_or(default, u64::from);
    let base_time = time(config.base_ejection_time.as_ref(), "base_ejection_time")?;
    let base_time = base_time.unwrap_or(default.base_time);
    let max_time = time(config.max_ejection_time.as_ref(), "max_ejection_time")?;
    let jitter = opt_duration(config.max_ejection_time_jitter.as_ref(), "max_ejection_time_jitter");
    let deviations = number(config.success_rate_stdev_factor.as_ref());
    let max_percent = config.max_ejection_percent.as_ref();
    let checked = config.successful_active_health_check_uneject_host.as_ref();
    Ok(OutlierDetection {
        interval: time(config.interval.as_ref(), "interval")?.unwrap_or(default.interval),
        base_time,
        max_time: max_time.unwrap_or(default.max_time).max(base_time),
        max_jitter: jitter?.unwrap_or_default(),
        max_percent: percent(max_percent, "max_ejection_percent", default.max_percent)?,
        always_one: flag(config.always_eject_one_host.as_ref()),
        split: config.split_external_local_origin_errors,
        uneject_when_checked: checked.is_none_or(|on| on.value),
        consecutive_5xx: count(config.consecutive_5xx.as_ref(), default.consecutive_5xx),
        consecutive_gateway: count(
            config.consecutive_gateway_failure.as_ref(),
            default.consecutive_gateway,
        ),
        consecutive_local: count(
            config.consecutive_local_origin_failure.as_ref(),
            default.consecutive_local,
        ),
        rate_hosts: hosts(config.success_rate_minimum_hosts.as_ref(), default.rate_hosts),
        rate_volume: volume(config.success_rate_request_volume.as_ref(), default.rate_volume),
        rate_deviations: deviations
            .map_or(default.rate_deviations, |factor| f64::from(factor) / 1000.0),
        percentage: f64::from(percent(
            config.failure_percentage_threshold.as_ref(),
            "failure_percentage_threshold",
            85,
        )?),
        percentage_hosts: hosts(
            config.failure_percentage_minimum_hosts.as_ref(),
            default.percentage_hosts,
        ),
        percentage_volume: volume(
            config.failure_percentage_request_volume.as_ref(),
            default.percentage_volume,
        ),
        enforcing: enforcing(config)?,
    })
}

/// In the order of `EjectionCause::ALL`.
fn enforcing(config: &PbOutlier) -> Result<Enforcing, FieldError> {
    let Enforcing(mut all) = OutlierDetection::default().enforcing;
    let fields = [
        (&config.enforcing_consecutive_5xx, "enforcing_consecutive_5xx"),
        (&config.enforcing_consecutive_gateway_failure, "enforcing_consecutive_gateway_failure"),
        (
            &config.enforcing_consecutive_local_origin_failure,
            "enforcing_consecutive_local_origin_failure",
        ),
        (&config.enforcing_success_rate, "enforcing_success_rate"),
        (&config.enforcing_local_origin_success_rate, "enforcing_local_origin_success_rate"),
        (&config.enforcing_failure_percentage, "enforcing_failure_percentage"),
        (
            &config.enforcing_failure_percentage_local_origin,
            "enforcing_failure_percentage_local_origin",
        ),
    ];
    for (place, (value, field)) in all.iter_mut().zip(fields) {
        *place = percent(value.as_ref(), field, *place)?;
    }
    Ok(Enforcing(all))
}

fn time(value: Option<&PbDuration>, field: &str) -> Result<Option<Duration>, FieldError> {
    match opt_duration(value, field)? {
        Some(Duration::ZERO) => Err(FieldError::at(field, "has to be more than 0")),
        other => Ok(other),
    }
}

fn percent(value: Option<&UInt32Value>, field: &str, default: u32) -> Result<u32, FieldError> {
    let percent = number(value).unwrap_or(default);
    if percent > 100 {
        return Err(FieldError::at(field, format!("{percent} is above 100")));
    }
    Ok(percent)
}

//! `stats.PluginConfig`, which comes as itself or as a `TypedStruct`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;
use weft_model::TrafficDirection;
use weft_xds_proto::TypedStruct;
use weft_xds_proto::istio::{MetricConfig, PluginConfig};
use weft_xds_proto::pb::google::protobuf::{Any, Duration as PbDuration};

use super::expression::Expression;
use super::overrides::Overrides;
use super::peer::Peer;
use super::{Reporter, Stats};
use crate::FilterCx;
use crate::config::{FieldError, Within, duration};

/// `tcp_reporting_duration` when it is not set.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// `Reporter.SERVER_GATEWAY`
const SERVER_GATEWAY: i32 = 1;

pub(crate) fn compile(config: &Any, cx: &FilterCx<'_>) -> Result<Stats, FieldError> {
    let config = read(config)?;
    let mut overrides = Overrides::default();
    for metric in &config.metrics {
        apply(metric, &mut overrides);
    }
    for definition in &config.definitions {
        tracing::warn!(metric = definition.name, "metrics of one's own are not supported");
    }
    let optional =
        |value: Option<&PbDuration>, field: &str| value.map(duration).transpose().within(field);
    let every = optional(config.tcp_reporting_duration.as_ref(), "tcp_reporting_duration")?;
    let expiry = optional(config.rotation_interval.as_ref(), "rotation_interval")?;
    Ok(Stats {
        registry: cx.registry.clone(),
        reporter: match (config.reporter, cx.direction) {
            (SERVER_GATEWAY, _) => Reporter::Gateway,
            (_, TrafficDirection::Inbound) => Reporter::Server,
            (_, TrafficDirection::Outbound | TrafficDirection::Unspecified) => Reporter::Client,
        },
        own: cx.node.metadata.as_ref().map(Peer::of).unwrap_or_default(),
        no_host_fallback: config.disable_host_header_fallback,
        report_every: every.unwrap_or(REPORT_EVERY),
        expiry: expiry.filter(|expiry| !expiry.is_zero()),
        overrides,
        http: Default::default(),
        tcp: Default::default(),
    })
}

fn apply(metric: &MetricConfig, overrides: &mut Overrides) {
    if metric.drop {
        return overrides.drop(&metric.name);
    }
    for label in &metric.tags_to_remove {
        overrides.remove(&metric.name, label);
    }
    let sorted: BTreeMap<_, _> = metric.dimensions.iter().collect();
    for (label, text) in sorted {
        let expression = Expression::parse(text);
        if expression.is_none() {
            tracing::warn!(label, expression = text, "the expression of a label is not known");
        }
        overrides.set(&metric.name, label, expression);
    }
}

fn read(config: &Any) -> Result<PluginConfig, FieldError> {
    if !TypedStruct::is(config) {
        return PluginConfig::read(config).map_err(FieldError::from);
    }
    let fields = TypedStruct::open(config)?.value;
    let text =
        |value: &Json, name: &str| value[name].as_str().map(str::to_owned).unwrap_or_default();
    let metric = |value: &Json| MetricConfig {
        dimensions: value["dimensions"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(label, text)| Some((label.clone(), text.as_str()?.to_owned())))
            .collect(),
        name: text(value, "name"),
        tags_to_remove: value["tags_to_remove"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|label| label.as_str().map(str::to_owned))
            .collect(),
        drop: value["drop"].as_bool().unwrap_or(false),
        ..MetricConfig::default()
    };
    Ok(PluginConfig {
        disable_host_header_fallback: fields["disable_host_header_fallback"]
            .as_bool()
            .unwrap_or(false),
        tcp_reporting_duration: seconds(&fields["tcp_reporting_duration"]),
        metrics: fields["metrics"].as_array().into_iter().flatten().map(metric).collect(),
        reporter: i32::from(fields["reporter"] == "SERVER_GATEWAY"),
        rotation_interval: seconds(&fields["rotation_interval"]),
        ..PluginConfig::default()
    })
}

/// The JSON form of a duration.
fn seconds(value: &Json) -> Option<PbDuration> {
    let seconds: f64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    Some(PbDuration {
        seconds: i64::try_from(duration.as_secs()).ok()?,
        nanos: i32::try_from(duration.subsec_nanos()).ok()?,
    })
}

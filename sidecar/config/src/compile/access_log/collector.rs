//! Access logs that go to collectors: over Envoy's gRPC service, and OpenTelemetry's.

use std::time::Duration;

use http::HeaderName;
use weft_filters::config::{FieldError, Within, decode, header_name, opt_duration, text_format};
use weft_telemetry::{
    AccessLog, EntryFields, Envelope, ExportStats, Exporter, LogFilter, LogValue, otlp_envelope,
};
use weft_xds_proto::Message;
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use weft_xds_proto::pb::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use weft_xds_proto::pb::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use weft_xds_proto::pb::google::protobuf::{Any, Duration as PbDuration, UInt32Value};
use weft_xds_proto::pb::opentelemetry::proto::common::v1::{
    AnyValue, KeyValueList, any_value::Value,
};

use crate::compile::Cx;
use crate::compile::export::{self, Batching};
use crate::compile::tracing::{detected, tags};

/// `buffer_size_bytes` when it is not set.
const BUFFER: u32 = 16_384;
/// `buffer_flush_interval` when it is not set.
const FLUSH: Duration = Duration::from_secs(1);

/// The log of a collector; `None`: the message is that of another logger.
pub(super) fn logger(
    cx: &Cx<'_>,
    any: &Any,
    filter: Option<LogFilter>,
) -> Result<Option<AccessLog>, FieldError> {
    match type_name(&any.type_url) {
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig" => {
            http(cx, &decode(any)?, filter)
        }
        "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig" => {
            tcp(cx, &decode(any)?, filter)
        }
        "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig" => {
            open_telemetry(cx, &decode(any)?, filter)
        }
        _ => return Ok(None),
    }
    .map(Some)
}

/// `envoy.access_loggers.http_grpc`
fn http(
    cx: &Cx<'_>,
    config: &HttpGrpcAccessLogConfig,
    filter: Option<LogFilter>,
) -> Result<AccessLog, FieldError> {
    let names = |names: &[String], field: &str| -> Result<Vec<HeaderName>, FieldError> {
        let each = names.iter().enumerate();
        each.map(|(index, name)| header_name(name).within_item(field, index)).collect()
    };
    let fields = EntryFields {
        http: true,
        request_headers: names(
            &config.additional_request_headers_to_log,
            "additional_request_headers_to_log",
        )?,
        response_headers: names(
            &config.additional_response_headers_to_log,
            "additional_response_headers_to_log",
        )?,
        response_trailers: names(
            &config.additional_response_trailers_to_log,
            "additional_response_trailers_to_log",
        )?,
        ..EntryFields::default()
    };
    grpc(cx, config.common_config.as_ref(), fields, filter)
}

/// `envoy.access_loggers.tcp_grpc`
fn tcp(
    cx: &Cx<'_>,
    config: &TcpGrpcAccessLogConfig,
    filter: Option<LogFilter>,
) -> Result<AccessLog, FieldError> {
    grpc(cx, config.common_config.as_ref(), EntryFields::default(), filter)
}

fn grpc(
    cx: &Cx<'_>,
    config: Option<&CommonGrpcAccessLogConfig>,
    mut fields: EntryFields,
    filter: Option<LogFilter>,
) -> Result<AccessLog, FieldError> {
    let config = config.ok_or_else(|| FieldError::missing("common_config"))?;
    fields.states.clone_from(&config.filter_state_objects_to_log);
    fields.tags = tags(&config.custom_tags).within("common_config")?;
    // Each batch is a call of its own, and says whose it is.
    let identifier = Identifier { node: Some(cx.node.clone()), log_name: config.log_name.clone() };
    let mut first = Vec::new();
    prefixed(1, &identifier.encode_to_vec(), &mut first);
    let levels = vec![(if fields.http { 2 } else { 3 }, Vec::new())];
    let envelope = Envelope::Protobuf { grpc: true, first, levels };
    let size = config.buffer_size_bytes.as_ref();
    let batching = batching(size, config.buffer_flush_interval.as_ref());
    let service = config.grpc_service.as_ref().ok_or_else(|| FieldError::missing("grpc_service"));
    let path = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
    let target = service.and_then(|service| {
        export::grpc(service, path, envelope, batching?).within("grpc_service")
    });
    let exporter = Exporter::new(target.within("common_config")?, stats(cx, "grpc_access_log"));
    Ok(AccessLog::entries(fields, exporter, filter))
}

/// `envoy.access_loggers.open_telemetry`
#[expect(deprecated, reason = "control planes still send common_config")]
fn open_telemetry(
    cx: &Cx<'_>,
    config: &OpenTelemetryAccessLogConfig,
    filter: Option<LogFilter>,
) -> Result<AccessLog, FieldError> {
    let common = config.common_config.as_ref();
    let either = |own: &str, common: Option<&String>| match own {
        "" => common.cloned().unwrap_or_default(),
        own => own.to_owned(),
    };
    let log_name = either(&config.log_name, common.map(|common| &common.log_name));
    let mut resource = Vec::new();
    if !config.disable_builtin_labels {
        let zone = cx.node.locality.as_ref().map(|locality| locality.zone.clone());
        for (key, value) in [
            ("log_name", log_name),
            ("zone_name", zone.unwrap_or_default()),
            ("cluster_name", cx.node.cluster.clone()),
            ("node_name", cx.node.id.clone()),
        ] {
            resource.push((key.to_owned(), value));
        }
    }
    resource.extend(detected(&config.resource_detectors));
    resource.extend(plain(config.resource_attributes.as_ref()));
    let size = config.buffer_size_bytes.or(common.and_then(|common| common.buffer_size_bytes));
    let flush = config.buffer_flush_interval;
    let flush = flush.or(common.and_then(|common| common.buffer_flush_interval));
    let batching = batching(size.as_ref(), flush.as_ref())?;
    let service = config.grpc_service.as_ref();
    let service = service.or_else(|| common.and_then(|common| common.grpc_service.as_ref()));
    let target = match (service, &config.http_service) {
        (_, Some(service)) => {
            let envelope = otlp_envelope(false, &resource, false);
            export::http(service, "application/x-protobuf", envelope, batching)
                .within("http_service")?
        }
        (Some(service), None) => {
            let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
            let envelope = otlp_envelope(true, &resource, false);
            export::grpc(service, path, envelope, batching).within("grpc_service")?
        }
        (None, None) => return Err(FieldError::missing("grpc_service")),
    };
    let body = config.body.as_ref().map(|body| value(body).within("body")).transpose()?;
    let attributes = match &config.attributes {
        None => Vec::new(),
        Some(attributes) => pairs(attributes).within("attributes")?,
    };
    let exporter = Exporter::new(target, stats(cx, "open_telemetry_access_log"));
    Ok(AccessLog::open_telemetry(body.flatten(), attributes, exporter, filter))
}

fn stats(cx: &Cx<'_>, kind: &str) -> ExportStats {
    ExportStats::new(cx.registry, &format!("access_logs.{kind}"), ["logs_written", "logs_dropped"])
}

fn batching(
    size: Option<&UInt32Value>,
    flush: Option<&PbDuration>,
) -> Result<Batching, FieldError> {
    let flush = opt_duration(flush, "buffer_flush_interval")?;
    Ok(Batching {
        size: size.map_or(BUFFER, |size| size.value) as usize,
        flush: flush.unwrap_or(FLUSH),
    })
}

/// Attributes that are text.
fn plain(list: Option<&KeyValueList>) -> Vec<(String, String)> {
    let text = |value: &AnyValue| match &value.value {
        Some(Value::StringValue(text)) => Some(text.clone()),
        Some(Value::BoolValue(flag)) => Some(flag.to_string()),
        Some(Value::IntValue(number)) => Some(number.to_string()),
        Some(Value::DoubleValue(number)) => Some(number.to_string()),
        _ => None,
    };
    let pairs = list.into_iter().flat_map(|list| &list.values);
    pairs.filter_map(|pair| Some((pair.key.clone(), text(pair.value.as_ref()?)?))).collect()
}

fn pairs(list: &KeyValueList) -> Result<Vec<(String, LogValue)>, FieldError> {
    let mut all = Vec::with_capacity(list.values.len());
    for (index, pair) in list.values.iter().enumerate() {
        let compiled = match &pair.value {
            None => None,
            Some(inner) => value(inner).within_item("values", index)?,
        };
        all.extend(compiled.map(|compiled| (pair.key.clone(), compiled)));
    }
    Ok(all)
}

fn value(config: &AnyValue) -> Result<Option<LogValue>, FieldError> {
    let Some(config) = &config.value else { return Ok(None) };
    Ok(Some(match config {
        Value::StringValue(text) => LogValue::Text(text_format(text)?),
        Value::ArrayValue(array) => {
            let each: Result<Vec<_>, _> = array.values.iter().map(value).collect();
            LogValue::List(each?.into_iter().flatten().collect())
        }
        Value::KvlistValue(list) => LogValue::Map(pairs(list)?),
        _ => return Err(FieldError::new("has to be a string, a list or a map")),
    }))
}

/// A field that holds a message.
fn prefixed(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
}

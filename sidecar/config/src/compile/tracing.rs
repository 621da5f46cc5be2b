//! Tracing: of the connection manager, and what routes change.

use std::sync::Arc;
use std::time::Duration;

use weft_filters::config::{FieldError, Within, decode, fraction, header_name, text_format};
use weft_model::{RouteTracing, TraceSampling, Tracing, TracingStats, TrafficDirection};
use weft_telemetry::{
    CustomTag, Envelope, ExportStats, ExportTarget, Exporter, Sampling, TagSource, TraceFormat,
    Tracer, otlp_envelope,
};
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use weft_xds_proto::pb::envoy::config::route::v3::{Decorator, Route, Tracing as PbRouteTracing};
use weft_xds_proto::pb::envoy::config::trace::v3::{
    OpenTelemetryConfig, ZipkinConfig,
    tracing::{Http, http::ConfigType},
    zipkin_config::{CollectorEndpointVersion, TraceContextOption},
};
use weft_xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as PbTracing;
use weft_xds_proto::pb::envoy::r#type::metadata::v3::{
    metadata_key::path_segment::Segment, metadata_kind::Kind,
};
use weft_xds_proto::pb::envoy::r#type::tracing::v3::{CustomTag as PbTag, custom_tag::Type};
use weft_xds_proto::pb::envoy::r#type::v3::{FractionalPercent, Percent};

use super::Cx;
use super::export::{self, Batching};

/// `max_path_tag_length` when it is not set, bytes.
const MAX_PATH: usize = 256;
/// Spans leave in batches of so many bytes, or after so long.
const SPANS: Batching = Batching { size: 32 << 10, flush: Duration::from_secs(5) };
/// The service of a proxy that is not told its name.
const UNNAMED: &str = "unknown_service:envoy";

/// Compiles the tracing of a connection manager.
pub(super) fn tracing(
    cx: &Cx<'_>,
    stat_prefix: &str,
    config: &PbTracing,
) -> Result<Tracing, FieldError> {
    let percent = |percent: Option<&Percent>| {
        percent.map_or(Sampling::ALL, |percent| Sampling {
            part: (percent.value.clamp(0.0, 100.0) * 100.0).round() as u32,
            of: 10_000,
        })
    };
    let tracer = match &config.provider {
        None => None,
        Some(provider) => provider_of(cx, provider).within("provider")?,
    };
    let scope = cx.for_filters(stat_prefix).scope();
    let counter = |name: &str| scope.counter(&format!("tracing.{name}"));
    Ok(Tracing {
        tracer: tracer.map(Arc::new),
        sampling: TraceSampling {
            client: percent(config.client_sampling.as_ref()),
            random: percent(config.random_sampling.as_ref()),
            overall: percent(config.overall_sampling.as_ref()),
        },
        tags: tags(&config.custom_tags)?,
        max_path: config.max_path_tag_length.map_or(MAX_PATH, |length| length.value as usize),
        verbose: config.verbose,
        spawn_upstream: config.spawn_upstream_span.is_some_and(|flag| flag.value),
        operation: operation(&config.operation).within("operation")?,
        outbound: cx.direction == TrafficDirection::Outbound,
        stats: TracingStats {
            random: counter("random_sampling"),
            service: counter("service_forced"),
            client: counter("client_enabled"),
            not: counter("not_traceable"),
        },
    })
}

/// What a route says about tracing.
pub(super) fn of_route(config: &Route) -> Result<Option<Box<RouteTracing>>, FieldError> {
    if config.tracing.is_none() && config.decorator.is_none() {
        return Ok(None);
    }
    let mut compiled = match &config.tracing {
        None => RouteTracing::default(),
        Some(tracing) => route_tracing(tracing).within("tracing")?,
    };
    if let Some(Decorator { operation, propagate }) = &config.decorator {
        if operation.is_empty() {
            return Err(FieldError::missing("decorator.operation"));
        }
        compiled.operation = Some(operation.as_str().into());
        compiled.propagate = propagate.as_ref().is_none_or(|flag| flag.value);
    }
    Ok(Some(Box::new(compiled)))
}

fn route_tracing(config: &PbRouteTracing) -> Result<RouteTracing, FieldError> {
    let part = |part: Option<&FractionalPercent>| -> Result<Sampling, FieldError> {
        let Some(part) = part else { return Ok(Sampling::ALL) };
        let part = fraction(part)?;
        Ok(Sampling { part: part.numerator, of: part.denominator })
    };
    Ok(RouteTracing {
        sampling: Some(TraceSampling {
            client: part(config.client_sampling.as_ref()).within("client_sampling")?,
            random: part(config.random_sampling.as_ref()).within("random_sampling")?,
            overall: part(config.overall_sampling.as_ref()).within("overall_sampling")?,
        }),
        tags: tags(&config.custom_tags)?,
        names: [
            operation(&config.operation).within("operation")?,
            operation(&config.upstream_operation).within("upstream_operation")?,
        ],
        ..RouteTracing::default()
    })
}

fn operation(text: &str) -> Result<Option<weft_telemetry::TextFormat>, FieldError> {
    if text.is_empty() { Ok(None) } else { text_format(text).map(Some) }
}

pub(super) fn tags(configs: &[PbTag]) -> Result<Vec<CustomTag>, FieldError> {
    let each = configs.iter().enumerate();
    let tags: Result<Vec<_>, _> =
        each.map(|(index, config)| tag(config).within_item("custom_tags", index)).collect();
    Ok(tags?.into_iter().flatten().collect())
}

/// `None`: the tag has no value for any request.
fn tag(config: &PbTag) -> Result<Option<CustomTag>, FieldError> {
    if config.tag.is_empty() {
        return Err(FieldError::missing("tag"));
    }
    let source = match &config.r#type {
        None => return Err(FieldError::new("has no value")),
        Some(Type::Literal(literal)) => TagSource::Literal(literal.value.clone()),
        Some(Type::Environment(environment)) => {
            let value = std::env::var(&environment.name);
            let value = value.unwrap_or_else(|_| environment.default_value.clone());
            if value.is_empty() {
                return Ok(None);
            }
            TagSource::Literal(value)
        }
        Some(Type::RequestHeader(header)) => {
            let name = header_name(&header.name).within("request_header.name")?;
            TagSource::Header(name, header.default_value.clone())
        }
        Some(Type::Metadata(metadata)) => {
            let kind = metadata.kind.as_ref().and_then(|kind| kind.kind.as_ref());
            if !matches!(kind, None | Some(Kind::Request(_))) {
                return Err(FieldError::at("metadata.kind", "only `request` is supported"));
            }
            let key = metadata.metadata_key.clone().unwrap_or_default();
            let mut path = Vec::with_capacity(key.path.len());
            for segment in key.path {
                match segment.segment {
                    Some(Segment::Key(key)) => path.push(key),
                    _ => {
                        let reason = "only keys are supported";
                        return Err(FieldError::at("metadata.metadata_key.path", reason));
                    }
                }
            }
            TagSource::Metadata(key.key, path, metadata.default_value.clone())
        }
        Some(Type::Value(format)) => TagSource::Format(text_format(format).within("value")?),
    };
    Ok(Some(CustomTag { tag: config.tag.clone(), source }))
}

fn provider_of(cx: &Cx<'_>, config: &Http) -> Result<Option<Tracer>, FieldError> {
    let Some(ConfigType::TypedConfig(any)) = &config.config_type else {
        return Err(FieldError::missing("typed_config"));
    };
    match type_name(&any.type_url) {
        "envoy.config.trace.v3.OpenTelemetryConfig" => {
            decode(any).and_then(|config| open_telemetry(cx, &config)).within("typed_config")
        }
        "envoy.config.trace.v3.ZipkinConfig" => {
            decode(any).and_then(|config| zipkin(cx, &config)).within("typed_config").map(Some)
        }
        other => {
            tracing::warn!(tracer = config.name, message = other, "this tracer is not supported");
            Ok(None)
        }
    }
}

fn tracer(cx: &Cx<'_>, format: TraceFormat, target: ExportTarget, stats: ExportStats) -> Tracer {
    let zone = cx.node.locality.as_ref().map(|locality| locality.zone.clone());
    let node = [cx.node.id.clone(), zone.unwrap_or_default()];
    Tracer::new(format, Exporter::new(target, stats), node)
}

fn open_telemetry(cx: &Cx<'_>, config: &OpenTelemetryConfig) -> Result<Option<Tracer>, FieldError> {
    if let Some(sampler) = &config.sampler {
        tracing::warn!(sampler = sampler.name, "samplers are not supported; Envoy's own decides");
    }
    let mut resource = vec![(
        "service.name".to_owned(),
        Some(&config.service_name)
            .filter(|name| !name.is_empty())
            .map_or(UNNAMED, String::as_str)
            .to_owned(),
    )];
    if config.set_telemetry_sdk_resource_attributes.is_none_or(|flag| flag.value) {
        let own = [("language", "rust"), ("name", "weft"), ("version", env!("CARGO_PKG_VERSION"))];
        let own = own.map(|(key, value)| (format!("telemetry.sdk.{key}"), value.to_owned()));
        resource.extend(own);
    }
    resource.extend(detected(&config.resource_detectors));
    let scope = config.set_instrumentation_scope.is_none_or(|flag| flag.value);
    let envelope = |grpc| otlp_envelope(grpc, &resource, scope);
    let target = match (&config.grpc_service, &config.http_service) {
        (Some(service), None) => {
            let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            export::grpc(service, path, envelope(true), SPANS).within("grpc_service")?
        }
        (None, Some(service)) => {
            let kind = "application/x-protobuf";
            export::http(service, kind, envelope(false), SPANS).within("http_service")?
        }
        (None, None) => {
            // As Envoy: contexts are passed on, spans go nowhere.
            tracing::warn!("envoy.tracers.opentelemetry has neither grpc_service nor http_service");
            return Ok(None);
        }
        (Some(_), Some(_)) => {
            return Err(FieldError::new("has both grpc_service and http_service; give one"));
        }
    };
    let names = ["spans_sent", "spans_dropped"];
    let stats = ExportStats::new(cx.registry, "tracing.opentelemetry", names);
    Ok(Some(tracer(cx, TraceFormat::OpenTelemetry, target, stats)))
}

/// Attributes that the environment gives the resource.
pub(super) fn detected(detectors: &[TypedExtensionConfig]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for detector in detectors {
        if !detector.name.ends_with(".environment") {
            tracing::warn!(detector = detector.name, "this resource detector is not supported");
            continue;
        }
        let given = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let pairs = given.split(',').filter_map(|pair| pair.split_once('='));
        all.extend(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())));
    }
    all
}

fn zipkin(cx: &Cx<'_>, config: &ZipkinConfig) -> Result<Tracer, FieldError> {
    let json = CollectorEndpointVersion::HttpJson as i32;
    if config.collector_service.is_none() && config.collector_endpoint_version != json {
        return Err(FieldError::at("collector_endpoint_version", "only HTTP_JSON is supported"));
    }
    let envelope = Envelope::JsonList;
    let target = match &config.collector_service {
        Some(service) => export::http(service, "application/json", envelope, SPANS)
            .within("collector_service")?,
        None if config.collector_cluster.is_empty() => {
            return Err(FieldError::missing("collector_cluster"));
        }
        None => {
            let host = match config.collector_hostname.as_str() {
                "" => config.collector_cluster.as_str(),
                host => host,
            };
            let place = (&*config.collector_cluster, host, &*config.collector_endpoint);
            export::path(place, "application/json", envelope, SPANS).within("collector_endpoint")?
        }
    };
    let w3c = TraceContextOption::UseB3WithW3cPropagation as i32;
    let format = TraceFormat::Zipkin {
        service: cx.node.cluster.clone(),
        long_ids: config.trace_id_128bit,
        shared: config.shared_span_context.is_none_or(|flag| flag.value),
        w3c: config.trace_context_option == w3c,
    };
    let names = ["spans_sent", "reports_skipped_no_cluster"];
    Ok(tracer(cx, format, target, ExportStats::new(cx.registry, "tracing.zipkin", names)))
}

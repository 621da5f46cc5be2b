//! `http.compressor.v3.Compressor` and `CompressorPerRoute`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_telemetry::Scope;
use weft_xds_proto::pb::envoy::extensions::filters::http::compressor::v3::{
    Compressor as PbFilter, CompressorPerRoute,
    compressor::{CommonDirectionConfig, ResponseDirectionConfig},
    compressor_per_route::Override,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Compressor, Direction, PerRoute, Responses, Stats, Types};
use crate::coding::Coding;
use crate::coding::config::{compressor, is_on};
use crate::config::{FieldError, Within, decode, string_matcher};
use crate::{FilterCx, HttpFilterKind};

/// `min_content_length` when it is not set, bytes.
const SHORTEST: u64 = 30;
/// `content_type` when it is not set.
const TYPES: [&str; 11] = [
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
];
/// More of them.
const MORE_TYPES: [&str; 10] = [
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web+thrift",
];

#[expect(deprecated, reason = "control planes still send the older fields")]
pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    let coding = compressor(config.compressor_library.as_ref())?;
    let library = config.compressor_library.as_ref().map_or("", |library| library.name.as_str());
    let prefix = stat_prefix(library, coding);
    let requests = config.request_direction_config.as_ref().map(|requests| {
        let common = requests.common_config.clone().unwrap_or_default();
        // Requests are compressed only where that is asked for.
        let enabled = common.enabled.is_some() && is_on(common.enabled.as_ref());
        let stats = stats(&cx.scope(), &format!("{prefix}.request"));
        direction(&common, enabled, stats).within("request_direction_config.common_config")
    });
    let older = CommonDirectionConfig {
        enabled: config.runtime_enabled.clone(),
        min_content_length: config.content_length,
        content_type: config.content_type.clone(),
        content_type_matcher: Vec::new(),
    };
    let (responses, prefix) = match &config.response_direction_config {
        Some(responses) => (responses.clone(), format!("{prefix}.response")),
        None => {
            let responses = ResponseDirectionConfig {
                common_config: Some(older),
                disable_on_etag_header: config.disable_on_etag_header,
                remove_accept_encoding_header: config.remove_accept_encoding_header,
                ..ResponseDirectionConfig::default()
            };
            (responses, prefix)
        }
    };
    if responses.status_header_enabled {
        return Err(FieldError::unsupported("response_direction_config.status_header_enabled"));
    }
    let common = responses.common_config.unwrap_or_default();
    let counts = stats(&cx.scope(), &prefix);
    Ok(HttpFilterKind::Filter(Arc::new(Compressor {
        coding,
        first: config.choose_first,
        requests: requests.transpose()?,
        responses: Responses {
            common: direction(&common, is_on(common.enabled.as_ref()), counts)
                .within("response_direction_config.common_config")?,
            not_with_etag: responses.disable_on_etag_header,
            weaken_etag: responses.weaken_etag_on_compress,
            hides: responses.remove_accept_encoding_header,
            not_these: responses
                .uncompressible_response_codes
                .iter()
                .filter_map(|code| u16::try_from(*code).ok())
                .collect(),
        },
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: CompressorPerRoute = decode(config)?;
    match config.r#override {
        Some(Override::Disabled(true)) => Ok(Arc::new(PerRoute::Disabled)),
        Some(Override::Overrides(one)) => {
            let hides = one.response_direction_config.as_ref();
            let hides = hides.and_then(|own| own.remove_accept_encoding_header);
            Ok(Arc::new(PerRoute::Hides(hides.map(|flag| flag.value))))
        }
        _ => Err(FieldError::new("give disabled: true or overrides")),
    }
}

fn direction(
    config: &CommonDirectionConfig,
    enabled: bool,
    stats: Stats,
) -> Result<Direction, FieldError> {
    let types = if config.content_type_matcher.is_empty() {
        #[expect(deprecated, reason = "control planes still send the older field")]
        let listed = &config.content_type;
        Types::Listed(match listed.is_empty() {
            true => TYPES.iter().chain(&MORE_TYPES).map(|kind| (*kind).to_owned()).collect(),
            false => listed.clone(),
        })
    } else {
        let each = config.content_type_matcher.iter().enumerate();
        let each =
            each.map(|(index, one)| string_matcher(one).within_item("content_type_matcher", index));
        Types::Matching(each.collect::<Result<_, _>>()?)
    };
    let shortest = config.min_content_length.map_or(SHORTEST, |length| length.value.into());
    Ok(Direction { enabled, shortest, types, stats })
}

fn stat_prefix(library: &str, coding: Coding) -> String {
    let coding = match coding {
        Coding::Gzip(_) => "gzip",
        Coding::Brotli(..) => "brotli",
    };
    format!("compressor.{library}.{coding}")
}

fn stats(scope: &Scope, prefix: &str) -> Stats {
    let counter = |name: &str| scope.counter(&format!("{prefix}.{name}"));
    Stats {
        compressed: counter("compressed"),
        not_compressed: counter("not_compressed"),
        bytes: [counter("total_uncompressed_bytes"), counter("total_compressed_bytes")],
    }
}

//! The HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use weft_filters::config::{FieldError, Within, header_value, limit, opt_duration};
use weft_filters::{HttpFilterKind, compile_http};
use weft_model::{
    Codec, EscapedSlashes, ForwardClientCert, ForwardClientCertMode, HttpConnectionManager,
    HttpFilterEntry, HttpFilters, OnDemandFilter, RouteSource, ServerHeader, StripPort,
    Underscores, XffSettings,
};
use weft_telemetry::HttpStats;
use weft_xds_proto::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use weft_xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager as PbManager, HttpFilter as PbFilter, Rds,
    http_connection_manager::{
        CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
        ServerHeaderTransformation, StripPortMode,
    },
    http_filter::ConfigType,
};

use super::access_log::access_logs;
use super::address::cidr;
use super::local_reply::local_replies;
use super::options::{flag, http1, http2};
use super::source::over_ads;
use super::{Cx, NeededRoutes, extension, route};

/// `stream_idle_timeout` when it is not set.
const STREAM_IDLE: Duration = Duration::from_secs(300);
/// `common_http_protocol_options.idle_timeout` when it is not set.
const IDLE: Duration = Duration::from_secs(3600);
/// `drain_timeout` when it is not set.
const DRAIN: Duration = Duration::from_secs(5);
/// `max_headers_count` when it is not set.
const MAX_HEADERS: u32 = 100;
/// `max_request_headers_kb` when it is not set.
const MAX_HEADERS_KIB: u32 = 60;

/// Compiles a connection manager.
pub(super) fn manager(
    cx: &mut Cx<'_>,
    config: &PbManager,
) -> Result<HttpConnectionManager, FieldError> {
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    refuse(config)?;
    let common = common(config).within("common_http_protocol_options")?;
    let (filters, on_demand) = filters(cx, config)?;
    let odcds = on_demand.as_ref().is_some_and(|filter| filter.settings.clusters.is_some());
    let max_kib = config.max_request_headers_kb.as_ref().map_or(MAX_HEADERS_KIB, |kib| kib.value);
    Ok(HttpConnectionManager {
        codec: codec(config.codec_type)?,
        routes: routes(cx, config, odcds)?,
        filters,
        on_demand,
        xff: xff(config)?,
        client_cert: client_cert(config),
        server_name: name_or(&config.server_name, "envoy").within("server_name")?,
        server_header: server_header(config.server_header_transformation),
        via: match config.via.as_str() {
            "" => None,
            via => Some(header_value(via.as_bytes()).within("via")?),
        },
        generate_request_id: config.generate_request_id.as_ref().is_none_or(|flag| flag.value),
        preserve_external_request_id: config.preserve_external_request_id,
        request_id_in_response: config.always_set_request_id_in_response,
        normalize_path: flag(config.normalize_path.as_ref()),
        merge_slashes: config.merge_slashes,
        escaped_slashes: escaped_slashes(config.path_with_escaped_slashes_action),
        underscores: common.underscores,
        strip_port: match config.strip_port_mode {
            Some(StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
            _ if config.strip_matching_host_port => StripPort::Matching,
            _ => StripPort::Never,
        },
        strip_dot: config.strip_trailing_host_dot,
        local_replies: local_replies(config.local_reply_config.as_ref())
            .within("local_reply_config")?,
        upgrades: upgrades(config)?,
        proxy_100_continue: config.proxy_100_continue,
        stream_idle_timeout: limit(
            config.stream_idle_timeout.as_ref(),
            "stream_idle_timeout",
            Some(STREAM_IDLE),
        )?,
        request_timeout: limit(config.request_timeout.as_ref(), "request_timeout", None)?,
        request_headers_timeout: limit(
            config.request_headers_timeout.as_ref(),
            "request_headers_timeout",
            None,
        )?,
        idle_timeout: common.idle_timeout,
        max_connection_duration: common.max_connection_duration,
        max_stream_duration: common.max_stream_duration,
        max_requests_per_connection: common.max_requests,
        max_headers: common.max_headers,
        max_header_bytes: max_kib.saturating_mul(1024),
        drain_timeout: opt_duration(config.drain_timeout.as_ref(), "drain_timeout")?
            .unwrap_or(DRAIN),
        http1: http1(config.http_protocol_options.as_ref()).within("http_protocol_options")?,
        http2: http2(config.http2_protocol_options.as_ref()).within("http2_protocol_options")?,
        append_x_forwarded_port: config.append_x_forwarded_port,
        tracing: config
            .tracing
            .as_ref()
            .map(|tracing| super::tracing::tracing(cx, &config.stat_prefix, tracing))
            .transpose()
            .within("tracing")?
            .map(Arc::new),
        access_logs: access_logs(Some(cx), &config.access_log, "access_log")?,
        // Istio ends its prefixes with a delimiter of its own.
        stats: HttpStats::new(cx.registry, config.stat_prefix.trim_end_matches(';')),
    })
}

fn refuse(config: &PbManager) -> Result<(), FieldError> {
    let refused = [
        (flag(config.add_user_agent.as_ref()), "add_user_agent"),
        (config.scheme_header_transformation.is_some(), "scheme_header_transformation"),
        (!config.original_ip_detection_extensions.is_empty(), "original_ip_detection_extensions"),
        (!config.early_header_mutation_extensions.is_empty(), "early_header_mutation_extensions"),
        (config.path_normalization_options.is_some(), "path_normalization_options"),
        (config.forward_client_cert_matcher.is_some(), "forward_client_cert_matcher"),
        (config.forward_proto_config.is_some(), "forward_proto_config"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

/// `common_http_protocol_options`
struct Common {
    idle_timeout: Option<Duration>,
    max_connection_duration: Option<Duration>,
    max_stream_duration: Option<Duration>,
    max_requests: Option<u32>,
    max_headers: u32,
    underscores: Underscores,
}

fn common(config: &PbManager) -> Result<Common, FieldError> {
    let common = config.common_http_protocol_options.unwrap_or_default();
    let connection = common.max_connection_duration.as_ref();
    let stream = common.max_stream_duration.as_ref();
    let requests = common.max_requests_per_connection.map(|requests| requests.value);
    Ok(Common {
        idle_timeout: limit(common.idle_timeout.as_ref(), "idle_timeout", Some(IDLE))?,
        max_connection_duration: limit(connection, "max_connection_duration", None)?,
        max_stream_duration: limit(stream, "max_stream_duration", None)?,
        max_requests: requests.filter(|requests| *requests > 0),
        max_headers: common.max_headers_count.map_or(MAX_HEADERS, |count| count.value),
        underscores: underscores(common.headers_with_underscores_action),
    })
}

fn codec(value: i32) -> Result<Codec, FieldError> {
    match CodecType::try_from(value) {
        Ok(CodecType::Auto) => Ok(Codec::Auto),
        Ok(CodecType::Http1) => Ok(Codec::Http1),
        Ok(CodecType::Http2) => Ok(Codec::Http2),
        Ok(CodecType::Http3) => Err(FieldError::at("codec_type", "HTTP3 is not supported yet")),
        Err(_) => Err(FieldError::at("codec_type", format!("{value} is not a codec"))),
    }
}

fn routes(cx: &mut Cx<'_>, config: &PbManager, odcds: bool) -> Result<RouteSource, FieldError> {
    match &config.route_specifier {
        None => Err(FieldError::new("has no routes: give route_config or rds")),
        Some(RouteSpecifier::RouteConfig(config)) => {
            Ok(RouteSource::Inline(Arc::new(route::routes(cx, config).within("route_config")?)))
        }
        Some(RouteSpecifier::Rds(rds)) => discovered(cx, rds, odcds).within("rds"),
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(FieldError::unsupported("scoped_routes")),
    }
}

fn discovered(cx: &mut Cx<'_>, rds: &Rds, odcds: bool) -> Result<RouteSource, FieldError> {
    if rds.route_config_name.is_empty() {
        return Err(FieldError::missing("route_config_name"));
    }
    let timeout = over_ads(rds.config_source.as_ref()).within("config_source")?;
    let slot = cx.names.routes(&rds.route_config_name);
    cx.needs.routes.push(NeededRoutes { slot: slot.clone(), timeout, odcds });
    Ok(RouteSource::Discovered(slot))
}

/// The filters to run, and the one that is not run but looked at.
type Filters = (HttpFilters, Option<OnDemandFilter>);

fn filters(cx: &mut Cx<'_>, config: &PbManager) -> Result<Filters, FieldError> {
    let configs = &config.http_filters;
    let prefix = &config.stat_prefix;
    let mut filters = Vec::with_capacity(configs.len());
    let mut on_demand = None;
    let mut router = false;
    for (index, config) in configs.iter().enumerate() {
        if router {
            let error = FieldError::new("stands behind the router and would never run");
            return Err(error).within_item("http_filters", index);
        }
        match filter(cx, config, prefix).within_item("http_filters", index)? {
            None | Some(HttpFilterKind::Inert) => {}
            Some(HttpFilterKind::Router) => router = true,
            Some(HttpFilterKind::OnDemand(settings)) => {
                on_demand = Some(OnDemandFilter {
                    name: config.name.as_str().into(),
                    disabled: config.disabled,
                    settings,
                    demand: Arc::clone(cx.demand),
                });
            }
            Some(HttpFilterKind::Filter(filter)) => {
                filters.push(HttpFilterEntry::new(&config.name, filter, config.disabled));
            }
        }
    }
    if !router {
        let reason = "have to end with envoy.filters.http.router";
        return Err(FieldError::at("http_filters", reason));
    }
    Ok((filters.into(), on_demand))
}

fn filter(
    cx: &mut Cx<'_>,
    config: &PbFilter,
    stat_prefix: &str,
) -> Result<Option<HttpFilterKind>, FieldError> {
    let compiled = match &config.config_type {
        Some(ConfigType::TypedConfig(any)) => {
            compile_http(&config.name, any, &mut cx.for_filters(stat_prefix))
        }
        Some(ConfigType::ConfigDiscovery(source)) => {
            extension::http(cx, &config.name, source, stat_prefix)
                .map(HttpFilterKind::Filter)
                .within("config_discovery")
        }
        None => Err(FieldError::missing("typed_config")),
    };
    match compiled {
        Err(_) if config.is_optional => Ok(None),
        other => other.map(Some),
    }
}

fn xff(config: &PbManager) -> Result<XffSettings, FieldError> {
    let ranges = config.internal_address_config.iter().flat_map(|config| &config.cidr_ranges);
    let mut internal = Vec::new();
    for (index, range) in ranges.enumerate() {
        let range = cidr(range).within_item("cidr_ranges", index);
        internal.push(range.within("internal_address_config")?);
    }
    Ok(XffSettings {
        use_remote_address: flag(config.use_remote_address.as_ref()),
        trusted_hops: config.xff_num_trusted_hops,
        skip_append: config.skip_xff_append,
        internal,
    })
}

fn name_or(name: &str, default: &'static str) -> Result<HeaderValue, FieldError> {
    if name.is_empty() {
        Ok(HeaderValue::from_static(default))
    } else {
        header_value(name.as_bytes())
    }
}

fn client_cert(config: &PbManager) -> ForwardClientCert {
    use ForwardClientCertDetails as Details;
    let set = config.set_current_client_cert_details.unwrap_or_default();
    let mode = match Details::try_from(config.forward_client_cert_details) {
        Ok(Details::ForwardOnly) => ForwardClientCertMode::ForwardOnly,
        Ok(Details::AppendForward) => ForwardClientCertMode::AppendForward,
        Ok(Details::SanitizeSet) => ForwardClientCertMode::SanitizeSet,
        Ok(Details::AlwaysForwardOnly) => ForwardClientCertMode::AlwaysForwardOnly,
        Ok(Details::Sanitize) | Err(_) => ForwardClientCertMode::Sanitize,
    };
    ForwardClientCert {
        mode,
        subject: flag(set.subject.as_ref()),
        cert: set.cert,
        chain: set.chain,
        dns: set.dns,
        uri: set.uri,
    }
}

fn server_header(value: i32) -> ServerHeader {
    match ServerHeaderTransformation::try_from(value) {
        Ok(ServerHeaderTransformation::AppendIfAbsent) => ServerHeader::AppendIfAbsent,
        Ok(ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
        Ok(ServerHeaderTransformation::Overwrite) | Err(_) => ServerHeader::Overwrite,
    }
}

fn escaped_slashes(value: i32) -> EscapedSlashes {
    use PathWithEscapedSlashesAction as Action;
    match Action::try_from(value) {
        Ok(Action::RejectRequest) => EscapedSlashes::Reject,
        Ok(Action::UnescapeAndRedirect) => EscapedSlashes::UnescapeAndRedirect,
        Ok(Action::UnescapeAndForward) => EscapedSlashes::UnescapeAndForward,
        Ok(Action::ImplementationSpecificDefault | Action::KeepUnchanged) | Err(_) => {
            EscapedSlashes::Keep
        }
    }
}

fn underscores(value: i32) -> Underscores {
    use HeadersWithUnderscoresAction as Action;
    match Action::try_from(value) {
        Ok(Action::RejectRequest) => Underscores::Reject,
        Ok(Action::DropHeader) => Underscores::Drop,
        Ok(Action::Allow) | Err(_) => Underscores::Allow,
    }
}

fn upgrades(config: &PbManager) -> Result<Vec<String>, FieldError> {
    let mut types = Vec::new();
    for (index, upgrade) in config.upgrade_configs.iter().enumerate() {
        if !upgrade.filters.is_empty() {
            return Err(FieldError::unsupported("filters")).within_item("upgrade_configs", index);
        }
        if upgrade.enabled.as_ref().is_none_or(|flag| flag.value) {
            if upgrade.upgrade_type.eq_ignore_ascii_case("CONNECT-UDP") {
                let error = FieldError::at("upgrade_type", "CONNECT-UDP is not supported");
                return Err(error).within_item("upgrade_configs", index);
            }
            types.push(upgrade.upgrade_type.to_ascii_lowercase());
        }
    }
    Ok(types)
}
